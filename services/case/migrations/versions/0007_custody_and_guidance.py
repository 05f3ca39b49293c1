"""Chain of custody of whole packs, public guidance of cases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables; packs of before show no verdict."""
    verdict = sa.Column(
        "verdict", sa.SmallInteger(), server_default="0", nullable=False, comment="SubscriberVerdict when it was built"
    )
    op.add_column("evidence_pack", verdict)
    op.create_table(
        "custody",
        sa.Column("custody_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case of the pack"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber, owner of the key"),
        sa.Column(
            "version", sa.Integer(), nullable=False, comment="version of the pack; 0 for an export of the case"
        ),
        sa.Column("action", sa.String(length=16), nullable=False, comment="SUPPLEMENTED, READ, EXPORTED, VERIFIED"),
        sa.Column(
            "who", sa.String(length=64), nullable=False, comment="service, or role and keyed hash of a person"
        ),
        sa.Column(
            "sealed_why", sa.LargeBinary(), nullable=False, comment="why, in the words of who asked; sealed"
        ),
        sa.Column("sha256_before", sa.LargeBinary(), nullable=False, comment="manifest before; empty if none"),
        sa.Column("sha256_after", sa.LargeBinary(), nullable=False, comment="manifest after"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("custody_id", name=op.f("pk_custody")),
        comment="Who touched a pack as a whole: supplemented, read, exported, verified.",
    )
    op.create_index("ix_custody_case", "custody", ["case_id", "create_time", "custody_id"], unique=False)
    op.create_table(
        "case_guidance",
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case it was attached to"),
        sa.Column("path_id", sa.String(length=64), nullable=False, comment="path, see rules/guidance.yaml"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column(
            "guidance_version", sa.String(length=64), nullable=False, comment="version of the rules that attached it"
        ),
        sa.Column("attach_time", sa.DateTime(timezone=True), nullable=False, comment="when attached"),
        sa.Column("outcome", sa.SmallInteger(), nullable=False, comment="GuidanceOutcome"),
        sa.Column(
            "answer_time", sa.DateTime(timezone=True), nullable=True, comment="when the subscriber said so"
        ),
        sa.Column("pack_version", sa.Integer(), nullable=True, comment="first pack that shows it so; NULL before"),
        sa.PrimaryKeyConstraint("case_id", "path_id", name=op.f("pk_case_guidance")),
        comment="Guidance paths of a case and what the subscriber did with them.",
    )


def downgrade() -> None:
    """Drops the tables."""
    op.drop_column("evidence_pack", "verdict")
    op.drop_table("case_guidance")
    op.drop_index("ix_custody_case", table_name="custody")
    op.drop_table("custody")
