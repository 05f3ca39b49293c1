"""Review items have deadlines, disputes and outcomes, and belong to samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OPEN = sa.text("NOT done")


def upgrade() -> None:
    """Adds columns with defaults. Items that are open get a deadline, so that none of them is forgotten."""
    add = op.add_column
    add("review_item", sa.Column("lease_time", sa.DateTime(timezone=True), comment="start of the lease"))
    add(
        "review_item",
        sa.Column(
            "sample_id",
            sa.String(length=36),
            server_default="",
            nullable=False,
            comment="frozen sample, or empty in the review band",
        ),
    )
    add("review_item", sa.Column("due_time", sa.DateTime(timezone=True), comment="by when it should be settled"))
    add(
        "review_item",
        sa.Column("escalations", sa.Integer(), server_default="0", nullable=False, comment="how often escalated"),
    )
    add(
        "review_item",
        sa.Column(
            "disputed",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the labels do not agree",
        ),
    )
    add(
        "review_item",
        sa.Column(
            "outcome",
            sa.SmallInteger(),
            server_default="0",
            nullable=False,
            comment="Label that it came to; 0 while open",
        ),
    )
    op.alter_column(
        "review_item", "case_id", comment="case that a MATCH opened or joined, or that exists", existing_nullable=True
    )
    op.create_table_comment("review_item", "What people decide, in the review band or for a frozen sample.")
    op.execute("UPDATE review_item SET due_time = create_time + interval '1 day' WHERE NOT done")
    op.execute(
        "INSERT INTO due (kind, entity_id, due_time, generation, attempts, traceparent) "
        "SELECT 'REVIEW_DUE', review_item_id, due_time, 1, 0, '' FROM review_item WHERE NOT done "
        "ON CONFLICT DO NOTHING"
    )
    op.drop_index("ix_review_item_decision", table_name="review_item")
    op.create_index("ix_review_item_decision", "review_item", ["decision_id", "sample_id"], unique=True)
    op.drop_index("ix_review_item_open", table_name="review_item")
    op.create_index("ix_review_item_open", "review_item", ["due_time", "review_item_id"], postgresql_where=_OPEN)
    op.create_index(
        "ix_review_item_disputed",
        "review_item",
        ["create_time", "review_item_id"],
        postgresql_where=sa.text("disputed AND outcome = 0"),
    )
    op.create_index("ix_review_item_subscriber", "review_item", ["subscriber_id"])
    op.create_index(
        "ix_review_item_case",
        "review_item",
        ["case_id"],
        postgresql_where=sa.text("outcome = 0 AND sample_id = ''"),
    )


def downgrade() -> None:
    """Drops what labels for samples need, those items included."""
    op.execute("DELETE FROM review_label USING review_item i WHERE i.review_item_id = review_label.review_item_id "
               "AND i.sample_id <> ''")
    op.execute("DELETE FROM review_item WHERE sample_id <> ''")
    op.drop_index("ix_review_item_case", table_name="review_item")
    op.drop_index("ix_review_item_subscriber", table_name="review_item")
    op.drop_index("ix_review_item_disputed", table_name="review_item")
    op.drop_index("ix_review_item_open", table_name="review_item")
    op.create_index("ix_review_item_open", "review_item", ["create_time", "review_item_id"], postgresql_where=_OPEN)
    op.drop_index("ix_review_item_decision", table_name="review_item")
    op.create_index("ix_review_item_decision", "review_item", ["decision_id"], unique=True)
    op.create_table_comment("review_item", "What a person decides.")
    op.alter_column("review_item", "case_id", comment="case that a MATCH opened or joined", existing_nullable=True)
    for column in ("outcome", "disputed", "escalations", "due_time", "sample_id", "lease_time"):
        op.drop_column("review_item", column)
    op.execute("DELETE FROM due WHERE kind = 'REVIEW_DUE'")
