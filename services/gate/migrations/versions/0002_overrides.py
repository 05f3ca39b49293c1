"""Overrides of inconclusive decisions, and the grants that were used for them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two tables; a replica of the release before knows nothing of them."""
    op.create_table(
        "release_override",
        sa.Column("decision_id", sa.String(length=64), nullable=False, comment="decision that is overridden"),
        sa.Column("release", sa.String(length=128), nullable=False, comment="release"),
        sa.Column("stage", sa.String(length=8), nullable=False, comment="1, 2, 3 or ALL"),
        sa.Column("reason", sa.String(length=63), nullable=False, comment="UPPER_SNAKE"),
        sa.Column("proposal_id", sa.String(length=64), nullable=False, comment="proposal that the grant came of"),
        sa.Column("proposer_ref", sa.String(length=16), nullable=False, comment="keyed hash of who proposed"),
        sa.Column(
            "approver_refs", postgresql.ARRAY(sa.Text()), nullable=False, comment="keyed hashes of who approved"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_release_override")),
    )
    op.create_index("ix_release_override_release", "release_override", ["release", "create_time"], unique=False)
    op.create_table(
        "used_grant",
        sa.Column("grant_id", sa.String(length=64), nullable=False, comment="proposal that the grant came of"),
        sa.Column(
            "expire_time", sa.DateTime(timezone=True), nullable=False, comment="when it would have ended"
        ),
        sa.PrimaryKeyConstraint("grant_id", name=op.f("pk_used_grant")),
        comment="Grants that were used, so that none is used twice.",
    )


def downgrade() -> None:
    """Drops both tables: overrides in force end with them."""
    op.drop_table("used_grant")
    op.drop_index("ix_release_override_release", table_name="release_override")
    op.drop_table("release_override")
