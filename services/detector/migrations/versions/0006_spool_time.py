"""It is known how long a signal has waited."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A replica of the release before leaves the column empty: how long such a signal waited is not told."""
    comment = "real time of its coming; NULL: put in by a release before"
    op.add_column("spool", sa.Column("receive_time", sa.DateTime(timezone=True), nullable=True, comment=comment))


def downgrade() -> None:
    """Drops the column; what waits goes on waiting."""
    op.drop_column("spool", "receive_time")
