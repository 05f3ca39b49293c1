"""What following requests to their end needs: clocks, looks, replies, gates of platforms, reviews by two people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_TIMES = {
    "submit_time": "when it first went out",
    "state_time": "when it came into its state",
    "slot_time": "when its turn at the platform comes",
    "claim_time": "when the platform said it is gone, unseen yet",
    "gone_time": "when it first looked gone, unconfirmed yet",
    "look_time": "latest look at the page",
}


def upgrade() -> None:
    """Adds them; requests that stand keep their state and count its clocks from their making."""
    for name, comment in _TIMES.items():
        op.add_column("removal_request", sa.Column(name, _TIME, nullable=True, comment=comment))
    for column in (
        sa.Column(
            "looks",
            sa.SmallInteger(),
            nullable=False,
            server_default="0",
            comment="looks at the page in its state",
        ),
        sa.Column(
            "released",
            sa.ARRAY(sa.String(length=16)),
            nullable=False,
            server_default="{}",
            comment="holds that were lifted for good",
        ),
        sa.Column(
            "marks",
            sa.ARRAY(sa.String(length=32)),
            nullable=False,
            server_default="{}",
            comment="what was reminded of in its state",
        ),
        sa.Column(
            "groundless",
            sa.Boolean(),
            nullable=False,
            server_default="false",
            comment="the platform found no ground for it",
        ),
        sa.Column(
            "previous_id",
            sa.String(length=36),
            nullable=False,
            server_default="",
            comment="request of the episode before; may be empty",
        ),
        sa.Column(
            "baseline_sealed",
            sa.LargeBinary(),
            nullable=False,
            server_default="",
            comment="what the page looked like, sealed with the subscriber's key; may be empty",
        ),
    ):
        op.add_column("removal_request", column)
    op.create_index("ix_removal_request_decided", "removal_request", ["platform", "state_time"], unique=False)
    op.add_column(
        "mandate",
        sa.Column(
            "scope",
            sa.ARRAY(sa.String(length=16)),
            nullable=False,
            server_default="{FILE}",
            comment="what it lets us do: FILE, SUPPLEMENT",
        ),
    )
    op.add_column(
        "attempt",
        sa.Column(
            "attempt_id",
            sa.String(length=36),
            nullable=False,
            server_default="",
            comment="UUIDv5 that replies may quote",
        ),
    )
    op.create_index("ix_attempt_attempt_id", "attempt", ["attempt_id"], unique=False)
    op.create_index(
        "ix_attempt_reference", "attempt", ["reference"], unique=False, postgresql_where=sa.text("reference <> ''")
    )
    op.create_table(
        "platform_gate",
        sa.Column("platform", sa.String(length=32), nullable=False, comment="platform id"),
        sa.Column(
            "held",
            sa.String(length=63),
            nullable=False,
            comment="why nothing goes there until people let it; may be empty",
        ),
        sa.Column("pause_until", _TIME, nullable=True, comment="nothing goes there before"),
        sa.Column("failures", sa.Integer(), nullable=False, comment="failures in a row"),
        sa.Column("minute_time", _TIME, nullable=True, comment="theoretical arrival time, limit a minute"),
        sa.Column("day_time", _TIME, nullable=True, comment="theoretical arrival time, limit a day"),
        sa.PrimaryKeyConstraint("platform", name=op.f("pk_platform_gate")),
    )
    op.create_table(
        "vote",
        sa.Column("subject", sa.String(length=64), nullable=False, comment="request:<id> or platform:<id>"),
        sa.Column("actor_ref", sa.String(length=16), nullable=False, comment="keyed hash of who agrees"),
        sa.Column("vote_time", _TIME, nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("subject", "actor_ref", name=op.f("pk_vote")),
    )
    op.create_table(
        "platform_reply",
        sa.Column("reply_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column(
            "message_ref",
            sa.LargeBinary(),
            nullable=False,
            comment="keyed hash of what makes it the same when it comes twice",
        ),
        sa.Column("request_id", sa.String(length=36), nullable=False, comment="request it is about"),
        sa.Column("platform", sa.String(length=32), nullable=False, comment="platform id"),
        sa.Column("channel", sa.String(length=8), nullable=False, comment="HOOK or MAIL"),
        sa.Column("receive_time", _TIME, nullable=False, comment="when it came"),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="APPLIED, UNCLEAR, NOT_PROVED, SETTLED"),
        sa.Column(
            "text_sealed",
            sa.LargeBinary(),
            nullable=False,
            comment="text for a person to read, sealed with the subscriber's key; empty when nobody has to",
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["removal_request.request_id"],
            name=op.f("fk_platform_reply_request_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("reply_id", name=op.f("pk_platform_reply")),
        sa.UniqueConstraint("message_ref", name=op.f("uq_platform_reply_message_ref")),
    )
    op.create_index(op.f("ix_platform_reply_request_id"), "platform_reply", ["request_id"], unique=False)
    op.create_index(
        "ix_platform_reply_open",
        "platform_reply",
        ["reply_id"],
        unique=False,
        postgresql_where=sa.text("outcome IN ('UNCLEAR', 'NOT_PROVED')"),
    )


def downgrade() -> None:
    """Drops them."""
    for table in ("platform_reply", "vote", "platform_gate"):
        op.drop_table(table)
    op.drop_index("ix_attempt_reference", table_name="attempt")
    op.drop_index("ix_attempt_attempt_id", table_name="attempt")
    op.drop_column("attempt", "attempt_id")
    op.drop_column("mandate", "scope")
    op.drop_index("ix_removal_request_decided", table_name="removal_request")
    for name in (*_TIMES, "looks", "released", "marks", "groundless", "previous_id", "baseline_sealed"):
        op.drop_column("removal_request", name)
