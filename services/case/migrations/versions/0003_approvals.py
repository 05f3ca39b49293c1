"""Proposals of what two people decide."""

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
        "proposal",
        sa.Column("proposal_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("kind", sa.String(length=32), nullable=False, comment="GATE_OVERRIDE and so on"),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False, comment="what is proposed, sealed"),
        sa.Column("sealed_reason", sa.LargeBinary(), nullable=False, comment="why, sealed"),
        sa.Column("sealed_rejection", sa.LargeBinary(), nullable=True, comment="why it was rejected, sealed"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="PROPOSED, APPROVED, REJECTED, EXPIRED"),
        sa.Column("proposer_ref", sa.String(length=16), nullable=False, comment="keyed hash of who proposed"),
        sa.Column(
            "approver_refs", sa.ARRAY(sa.String(length=16)), nullable=False, comment="keyed hashes of who approved"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when proposed"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False, comment="end of the time to decide"),
        sa.Column("decide_time", sa.DateTime(timezone=True), nullable=True, comment="when decided or expired"),
        sa.Column("version", sa.Integer(), nullable=False, comment="rises with every change"),
        sa.PrimaryKeyConstraint("proposal_id", name=op.f("pk_proposal")),
        comment="Decisions of two people. Body and reason are sealed under a key of the service.",
    )
    op.create_index("ix_proposal_page", "proposal", ["create_time", "proposal_id"], unique=False)


def downgrade() -> None:
    """Drops the table: what is not decided must be proposed again."""
    op.drop_index("ix_proposal_page", table_name="proposal")
    op.drop_table("proposal")
