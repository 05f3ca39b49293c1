"""Every head of the case log is kept, not only the last one of each chain."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A row for each head; what was kept so far stays."""
    op.drop_constraint("pk_log_head", "log_head", type_="primary")
    op.create_primary_key("pk_log_head", "log_head", ["chain_id", "sequence", "head_hash"])


def downgrade() -> None:
    """The last head of each chain alone."""
    op.execute(
        "DELETE FROM log_head old USING log_head newer WHERE newer.chain_id = old.chain_id "
        "AND (newer.sequence, newer.head_hash) > (old.sequence, old.head_hash)"
    )
    op.drop_constraint("pk_log_head", "log_head", type_="primary")
    op.create_primary_key("pk_log_head", "log_head", ["chain_id"])
