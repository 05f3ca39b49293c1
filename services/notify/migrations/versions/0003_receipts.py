"""A message to a contact may be known to have arrived."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BEFORE = "QUEUED, HANDED_OVER, UNDELIVERABLE, SUPERSEDED"
AFTER = "QUEUED, HANDED_OVER, DELIVERED, UNDELIVERABLE, SUPERSEDED"


def upgrade() -> None:
    """Says so in the schema."""
    op.alter_column("fall_back", "delivery", comment=AFTER, existing_comment=BEFORE)


def downgrade() -> None:
    """Takes it back; a message that arrived was handed over."""
    op.execute("UPDATE fall_back SET delivery = 'HANDED_OVER' WHERE delivery = 'DELIVERED'")
    op.alter_column("fall_back", "delivery", comment=BEFORE, existing_comment=AFTER)
