"""Requests about one's own data, and the list of purges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two tables; the list begins with the records that come from now on."""
    op.create_table(
        "rights_request",
        sa.Column("rights_request_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=True, comment="whose data; NULL once erased"),
        sa.Column("type", sa.String(length=16), nullable=False, comment="ACCESS and so on"),
        sa.Column("requester", sa.String(length=24), nullable=False, comment="SELF, LEGAL_REPRESENTATIVE, AGENT"),
        sa.Column("identity_basis", sa.String(length=64), nullable=False, comment="how it was checked who asks"),
        sa.Column("document_sha256", sa.LargeBinary(), nullable=False, comment="of the mandate; empty for SELF"),
        sa.Column("sealed_words", sa.LargeBinary(), nullable=True, comment="what was said, sealed; NULL once erased"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when it came in"),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, comment="deadline, put off or not"),
        sa.Column("rule_version", sa.String(length=64), nullable=False, comment="rules that set the deadline"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="RECEIVED, FULFILLED, REJECTED"),
        sa.Column("extensions", sa.SmallInteger(), nullable=False, comment="how often it was put off"),
        sa.Column("extension_reason", sa.String(length=64), nullable=False, comment="why, the last time; or empty"),
        sa.Column("answer_time", sa.DateTime(timezone=True), nullable=True, comment="when answered"),
        sa.Column("reason", sa.String(length=64), nullable=False, comment="why it was rejected, or empty"),
        sa.Column("erasure_id", sa.String(length=36), nullable=False, comment="erasure that fulfils it, or empty"),
        sa.Column("answer_sha256", sa.LargeBinary(), nullable=False, comment="of the answer; empty for none"),
        sa.Column("sealed_answer", sa.LargeBinary(), nullable=True, comment="the answer, sealed; NULL once purged"),
        sa.Column("version", sa.Integer(), nullable=False, comment="rises with every change"),
        sa.PrimaryKeyConstraint("rights_request_id", name=op.f("pk_rights_request")),
        comment="Requests about one's own data; outlive their subscriber without naming anybody.",
    )
    op.create_index(
        "ix_rights_request_erasure",
        "rights_request",
        ["erasure_id"],
        unique=False,
        postgresql_where=sa.text("erasure_id <> ''"),
    )
    op.create_index(
        "ix_rights_request_open",
        "rights_request",
        ["due_time", "rights_request_id"],
        unique=False,
        postgresql_where=sa.text("state = 'RECEIVED'"),
    )
    op.create_index("ix_rights_request_page", "rights_request", ["due_time", "rights_request_id"], unique=False)
    op.create_index(
        "ix_rights_request_subscriber",
        "rights_request",
        ["subscriber_id", "due_time", "rights_request_id"],
        unique=False,
    )
    op.create_table(
        "purge_item",
        sa.Column("entry_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("service", sa.String(length=32), nullable=False, comment="who purges it"),
        sa.Column("item_kind", sa.String(length=64), nullable=False, comment="SPOOL_KEY and so on"),
        sa.Column("item_id", sa.String(length=128), nullable=False, comment="its opaque id"),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, comment="when it is due"),
        sa.Column("rule", sa.String(length=64), nullable=False, comment="rule that made it due"),
        sa.Column("purge_time", sa.DateTime(timezone=True), nullable=True, comment="when it was purged"),
        sa.Column("record_id", sa.String(length=36), nullable=False, comment="record of the purge, or empty"),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("pk_purge_item")),
        comment="What is due for purge in any service and what was purged, as the records tell it.",
    )
    op.create_index(
        "ix_purge_item_due",
        "purge_item",
        ["due_time", "entry_id"],
        unique=False,
        postgresql_where=sa.text("purge_time IS NULL"),
    )
    op.create_index(
        "ix_purge_item_purged",
        "purge_item",
        ["purge_time", "entry_id"],
        unique=False,
        postgresql_where=sa.text("purge_time IS NOT NULL"),
    )
    op.create_index("ix_purge_item_thing", "purge_item", ["service", "item_kind", "item_id"], unique=True)


def downgrade() -> None:
    """Drops the tables: export open requests before, their deadlines run on."""
    op.drop_index("ix_rights_request_erasure", table_name="rights_request")
    op.drop_index("ix_rights_request_open", table_name="rights_request")
    op.drop_index("ix_rights_request_page", table_name="rights_request")
    op.drop_index("ix_rights_request_subscriber", table_name="rights_request")
    op.drop_table("rights_request")
    op.drop_index("ix_purge_item_due", table_name="purge_item")
    op.drop_index("ix_purge_item_purged", table_name="purge_item")
    op.drop_index("ix_purge_item_thing", table_name="purge_item")
    op.drop_table("purge_item")
