"""Erasures of subscribers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table; a replica of the release before knows nothing of it."""
    op.create_table(
        "erasure",
        sa.Column("erasure_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=True, comment="whom; NULL once complete"),
        sa.Column("request_time", sa.DateTime(timezone=True), nullable=False, comment="when asked for"),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, comment="when it must be complete"),
        sa.Column(
            "ask_time", sa.DateTime(timezone=True), nullable=False, comment="when the round that runs was, or is, asked"
        ),
        sa.Column(
            "waiting_for", sa.ARRAY(sa.Text()), nullable=False, comment="services that have not answered it"
        ),
        sa.Column("round", sa.SmallInteger(), nullable=False, comment="from 1"),
        sa.Column("complete_time", sa.DateTime(timezone=True), nullable=True, comment="when everybody had answered"),
        sa.PrimaryKeyConstraint("erasure_id", name=op.f("pk_erasure")),
        comment="Who has answered which round; names its subscriber until it is complete.",
    )
    op.create_index("ix_erasure_page", "erasure", ["request_time", "erasure_id"], unique=False)
    op.create_index("ix_erasure_subscriber", "erasure", ["subscriber_id"], unique=True)


def downgrade() -> None:
    """Drops the table: who is being erased at that moment must be asked for again."""
    op.drop_index("ix_erasure_subscriber", table_name="erasure")
    op.drop_index("ix_erasure_page", table_name="erasure")
    op.drop_table("erasure")
