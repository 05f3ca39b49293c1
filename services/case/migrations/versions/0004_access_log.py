"""The access log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds a table; a replica of the release before knows nothing of it."""
    op.create_table(
        "access_entry",
        sa.Column("entry_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column(
            "reading_id", sa.String(length=36), nullable=False, comment="one answer; may have read of several people"
        ),
        sa.Column("subscriber_id", sa.String(length=36), nullable=True, comment="whose data; NULL for nobody's"),
        sa.Column("method", sa.String(length=128), nullable=False, comment="full name of the method"),
        sa.Column("classes", sa.ARRAY(sa.SmallInteger()), nullable=False, comment="DataClass numbers"),
        sa.Column("role", sa.SmallInteger(), nullable=False, comment="Role of the reader"),
        sa.Column("actor_ref", sa.String(length=16), nullable=False, comment="keyed hash of the reader"),
        sa.Column("sealed_actor", sa.LargeBinary(), nullable=False, comment="staff id of the reader, sealed"),
        sa.Column("purpose", sa.SmallInteger(), nullable=False, comment="Purpose stated"),
        sa.Column("origin", sa.String(length=16), nullable=False, comment="class of the peer"),
        sa.Column("field", sa.String(length=64), nullable=False, comment="name of what was read"),
        sa.Column("thing_id", sa.String(length=64), nullable=False, comment="its opaque id; empty for the subscriber"),
        sa.Column("reason", sa.String(length=64), nullable=False, comment="UPPER_SNAKE, STATED, or empty"),
        sa.Column("occur_time", sa.DateTime(timezone=True), nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_access_entry")),
        comment="Who read whose personal data, from all services; two years.",
    )
    op.create_index(
        "ix_access_entry_subscriber", "access_entry", ["subscriber_id", "occur_time", "entry_id"], unique=False
    )
    op.create_index("ix_access_entry_time", "access_entry", ["occur_time", "entry_id"], unique=False)


def downgrade() -> None:
    """Drops the table: the law wants it kept, so export it before."""
    op.drop_index("ix_access_entry_time", table_name="access_entry")
    op.drop_index("ix_access_entry_subscriber", table_name="access_entry")
    op.drop_table("access_entry")
