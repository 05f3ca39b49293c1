"""Stage reports beside those of figures, values for trends, signed decisions, changes of dependencies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns that the release before leaves alone, and a table."""
    op.add_column(
        "report",
        sa.Column(
            "form",
            sa.String(length=32),
            server_default="report_v1",
            nullable=False,
            comment="schema of the document: report_v1, stage_report_v1",
        ),
    )
    op.add_column(
        "report",
        sa.Column(
            "value",
            sa.Double(),
            nullable=True,
            comment="in the unit of the threshold, may be infinite; NULL where nothing was measured",
        ),
    )
    op.execute(
        "UPDATE report SET value = CASE WHEN (document->'value'->>'infinite')::boolean THEN 'Infinity'::float8 "
        "ELSE (document->'value'->>'number')::float8 END"
    )
    op.add_column(
        "release_decision",
        sa.Column(
            "document",
            sa.LargeBinary(),
            nullable=True,
            comment="canonical JSON with its signature; NULL for decisions from before they were signed",
        ),
    )
    op.create_table(
        "dependency_change",
        sa.Column("change_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("dependency_id", sa.String(length=64), nullable=False, comment="id in the register"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="HOLDS, DEGRADED, LOST"),
        sa.Column("reason", sa.String(length=63), nullable=False, comment="UPPER_SNAKE"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("change_id", name=op.f("pk_dependency_change")),
    )
    op.create_index(
        "ix_dependency_change_latest", "dependency_change", ["dependency_id", "change_id"], unique=False
    )


def downgrade() -> None:
    """Drops what was added; stage reports stay as reports that the release before cannot draw, so they go."""
    op.drop_index("ix_dependency_change_latest", table_name="dependency_change")
    op.drop_table("dependency_change")
    op.drop_column("release_decision", "document")
    op.execute("DELETE FROM report WHERE form <> 'report_v1'")
    op.drop_column("report", "value")
    op.drop_column("report", "form")
