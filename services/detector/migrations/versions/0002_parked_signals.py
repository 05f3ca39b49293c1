"""Signals that are kept aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the mark; what waits is not parked. The default lets a replica of the release before go on writing."""
    op.add_column(
        "spool",
        sa.Column(
            "parked",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
            comment="kept aside: not taken until its dead letter is replayed",
        ),
    )
    op.alter_column("spool", "attempts", comment="failures of its own", existing_comment="times it was taken")


def downgrade() -> None:
    """Drops the mark: what was parked waits again."""
    op.alter_column("spool", "attempts", comment="times it was taken", existing_comment="failures of its own")
    op.drop_column("spool", "parked")
