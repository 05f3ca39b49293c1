"""Frozen samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table; a replica of the release before knows nothing of it."""
    op.create_table(
        "sample",
        sa.Column("sample_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("report_name", sa.String(length=64), nullable=False, comment="report that it is for"),
        sa.Column(
            "create_time", sa.DateTime(timezone=True), nullable=False, comment="when frozen, business time"
        ),
        sa.Column("record", sa.LargeBinary(), nullable=False, comment="SampleLog as it was recorded"),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_sample")),
    )
    op.create_index("ix_sample_report", "sample", ["report_name", "sample_id"], unique=False)


def downgrade() -> None:
    """Drops it."""
    op.drop_index("ix_sample_report", table_name="sample")
    op.drop_table("sample")
