"""Labels meet the scores of their decisions, and thresholds that came of that are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Three tables of their own; a replica of the release before knows nothing of them."""
    op.create_table(
        "decision_label",
        sa.Column(
            "decision_id",
            sa.Text(),
            sa.ForeignKey("decision.decision_id", name="fk_decision_label_decision_id", ondelete="CASCADE"),
            primary_key=True,
            comment="decision that was labelled",
        ),
        sa.Column("labeller_ref", sa.Text(), primary_key=True, comment="opaque reference of who labelled"),
        sa.Column("source", sa.Text(), primary_key=True, comment="REVIEWER or ADJUDICATOR"),
        sa.Column("verdict", sa.Text(), nullable=False, comment="MATCH, NO_MATCH or UNSURE"),
        sa.Column(
            "sample_id", sa.Text(), nullable=False, comment="sample it was labelled for; empty: review item"
        ),
    )
    op.create_index("ix_decision_label_sample_id", "decision_label", ["sample_id"])
    op.create_table(
        "threshold_evaluation",
        sa.Column("evaluation_id", sa.Text(), primary_key=True, comment="UUIDv7"),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="ThresholdEvaluation"),
        sa.Column("create_time", _TIME, nullable=False, comment="business time"),
    )
    op.create_table(
        "threshold_change",
        sa.Column(
            "evaluation_id",
            sa.Text(),
            sa.ForeignKey(
                "threshold_evaluation.evaluation_id", name="fk_threshold_change_evaluation_id"
            ),
            primary_key=True,
            comment="evaluation that proposed it",
        ),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 1, among changes of the same rules"),
        sa.Column("rules", sa.Text(), nullable=False, comment="rules it changes, by id and version"),
        sa.Column(
            "rules_sha256", sa.LargeBinary(), nullable=False, comment="SHA-256 over the values of those rules"
        ),
        sa.Column("to_milli", sa.Integer(), nullable=False, comment="second_match from then on, thousandths"),
        sa.Column("proposal_id", sa.Text(), nullable=False, comment="proposal that two people approved"),
        sa.Column("create_time", _TIME, nullable=False, comment="business time"),
    )
    op.create_index("uq_threshold_change_number", "threshold_change", ["rules_sha256", "number"], unique=True)


def downgrade() -> None:
    """Drops them: thresholds are then those of the file."""
    for table in ("threshold_change", "threshold_evaluation", "decision_label"):
        op.drop_table(table)
