"""Contents are forgotten when they were not seen for long."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A replica of the release before leaves the column empty. Contents that are there become due a year after they
    came; by then the rules say how much longer they may stay."""
    comment = "last seen again, to the day; NULL: never"
    op.add_column("content", sa.Column("seen_time", sa.DateTime(timezone=True), nullable=True, comment=comment))
    op.execute(
        """
        INSERT INTO due (kind, entity_id, due_time, generation, attempts, traceparent)
        SELECT 'PURGE_CONTENTS', subscriber_id, min(create_time) + interval '365 days', 1, 0, ''
        FROM content GROUP BY subscriber_id
        ON CONFLICT DO NOTHING
        """
    )


def downgrade() -> None:
    """Drops the column; contents stay as long as their subscriber."""
    op.execute("DELETE FROM due WHERE kind = 'PURGE_CONTENTS'")
    op.drop_column("content", "seen_time")
