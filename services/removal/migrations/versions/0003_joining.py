"""What joining the requests of several subscribers about one page needs, and counting for the public."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds it; no request is joined to another yet."""
    op.add_column(
        "removal_request",
        sa.Column(
            "joined_id",
            sa.String(length=36),
            nullable=False,
            server_default="",
            comment="another subscriber's request about the same page that it waits for; may be empty",
        ),
    )
    op.create_index("ix_removal_request_url", "removal_request", ["url_ref", "platform"])
    op.create_index(
        "ix_removal_request_joined", "removal_request", ["joined_id"], postgresql_where=sa.text("joined_id <> ''")
    )


    op.create_table(
        "transparency_count",
        sa.Column("month", sa.String(length=7), nullable=False, comment="YYYY-MM, UTC"),
        sa.Column("platform", sa.String(length=32), nullable=False, comment="platform id"),
        sa.Column("what", sa.String(length=63), nullable=False, comment="what happened, UPPER_SNAKE"),
        sa.Column("reason", sa.String(length=63), nullable=False, comment="why, UPPER_SNAKE; may be empty"),
        sa.Column("number", sa.BigInteger(), nullable=False, comment="how often"),
        sa.PrimaryKeyConstraint("month", "platform", "what", "reason"),
    )
    op.create_table(
        "transparency_cursor",
        sa.Column(
            "partition", sa.SmallInteger(), autoincrement=False, nullable=False, comment="partition of the outbox"
        ),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="last position that is counted"),
        sa.PrimaryKeyConstraint("partition"),
    )


def downgrade() -> None:
    """Takes it away; what waits for another's request is filed for itself when somebody asks for it."""
    op.drop_table("transparency_cursor")
    op.drop_table("transparency_count")
    op.drop_index(
        "ix_removal_request_joined", table_name="removal_request", postgresql_where=sa.text("joined_id <> ''")
    )
    op.drop_index("ix_removal_request_url", table_name="removal_request")
    op.drop_column("removal_request", "joined_id")
