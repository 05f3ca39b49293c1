"""Linked accounts, checks before uploads, redacted results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds three tables; a replica of the release before knows nothing of them."""
    op.create_table(
        "linked_account",
        sa.Column("account_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose account"),
        sa.Column("platform", sa.Text(), nullable=False, comment="platform id"),
        sa.Column(
            "handle_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of subscriber, platform and name"
        ),
        sa.Column("handle", sa.LargeBinary(), nullable=False, comment="sealed: name of the account there"),
        sa.Column(
            "warn_about_others", sa.Boolean(), nullable=False, comment="other people's faces are warned about as well"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_linked_account")),
    )
    op.create_index("ix_linked_account_subscriber", "linked_account", ["subscriber_id", "account_id"], unique=False)
    op.create_index("uq_linked_account_handle_ref", "linked_account", ["handle_ref"], unique=True)
    op.create_table(
        "upload_check",
        sa.Column("upload_check_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose upload"),
        sa.Column("account_id", sa.Text(), nullable=False, comment="linked account it goes to"),
        sa.Column("case_id", sa.Text(), nullable=False, comment="case of the warning; empty where nothing was found"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="CheckState"),
        sa.Column(
            "image_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of check and picture; may be empty"
        ),
        sa.Column("text_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of check and text; may be empty"),
        sa.Column("skipped", sa.ARRAY(sa.Text()), nullable=False, comment="what was not looked at"),
        sa.Column("findings", sa.LargeBinary(), nullable=False, comment="sealed: kinds, places, severity"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("answer_by", sa.DateTime(timezone=True), nullable=True, comment="end of the time to answer"),
        sa.Column("resolve_time", sa.DateTime(timezone=True), nullable=True, comment="business time of the answer"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.PrimaryKeyConstraint("upload_check_id", name=op.f("pk_upload_check")),
    )
    op.create_index("ix_upload_check_subscriber", "upload_check", ["subscriber_id", "upload_check_id"], unique=False)
    op.create_index("ix_upload_check_recent", "upload_check", ["subscriber_id", "create_time"], unique=False)
    op.create_table(
        "redaction",
        sa.Column("upload_check_id", sa.Text(), nullable=False, comment="check it belongs to"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose upload"),
        sa.Column("image", sa.LargeBinary(), nullable=True, comment="sealed: the redacted picture"),
        sa.Column("text", sa.LargeBinary(), nullable=True, comment="sealed: the masked text"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("upload_check_id", name=op.f("pk_redaction")),
    )
    op.create_index(op.f("ix_redaction_subscriber_id"), "redaction", ["subscriber_id"], unique=False)


def downgrade() -> None:
    """Drops them: accounts are linked anew, warnings stay in the case log."""
    op.drop_table("redaction")
    op.drop_table("upload_check")
    op.drop_table("linked_account")
