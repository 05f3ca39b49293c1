"""Ways to a person: zones, push, digests, alternative paths, contacts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BEFORE = "delivery IN ('QUEUED', 'HANDED_OVER')"
_AFTER = "delivery IN ('QUEUED', 'HANDED_OVER', 'DELIVERED')"
_STATES_BEFORE = "QUEUED, HANDED_OVER, ACKNOWLEDGED, UNDELIVERABLE, SUPERSEDED"
_STATES_AFTER = "QUEUED, HANDED_OVER, DELIVERED, ACKNOWLEDGED, EXPIRED, UNDELIVERABLE, SUPERSEDED"
_Time = sa.DateTime(timezone=True)
_Id = sa.String(length=64)


def upgrade() -> None:
    """Adds columns with defaults, so that the version before still writes; makes three tables."""
    _subscriber_columns()
    columns: list[sa.Column[Any]] = [
        sa.Column(
            "time_zone",
            _Id,
            server_default=sa.text("'Asia/Seoul'"),
            nullable=False,
            comment="IANA zone of quiet hours",
        ),
        sa.Column(
            "locale",
            sa.String(length=8),
            server_default=sa.text("''"),
            nullable=False,
            comment="ko or en; empty as the subscriber prefers",
        ),
        sa.Column("public_key", sa.LargeBinary(), nullable=True, comment="X25519, 32 bytes; NULL for none"),
        sa.Column("refused_time", _Time, nullable=True, comment="when the provider refused the token"),
    ]
    for column in columns:
        op.add_column("device", column)
    _notification_columns()
    _replace_indexes(_AFTER)
    op.create_index(
        "ix_notification_next_time",
        "notification",
        ["next_time"],
        unique=False,
        postgresql_where=sa.text("next_time IS NOT NULL"),
    )
    # What is on its way is looked at soon; the version before keeps its own due rows.
    op.execute(sa.text(f"UPDATE notification SET next_time = create_time WHERE {_BEFORE}"))
    _new_tables()


def _subscriber_columns() -> None:
    op.add_column(
        "subscriber",
        sa.Column(
            "digest_minutes",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="how long notices are gathered, 0 for floods alone",
        ),
    )
    op.add_column(
        "subscriber",
        sa.Column(
            "paths",
            sa.String(length=64),
            server_default=sa.text("''"),
            nullable=False,
            comment="ways that may be used, in order; empty for all",
        ),
    )


def _notification_columns() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column(
            "path",
            sa.String(length=16),
            server_default=sa.text("''"),
            nullable=False,
            comment="way of the last attempt: STREAM, PUSH",
        ),
        sa.Column(
            "held",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="was held back by quiet hours",
        ),
        sa.Column(
            "fell_back",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="the alternative path was begun",
        ),
        sa.Column("next_time", _Time, nullable=True, comment="when something is to be done; NULL when over"),
    ]
    for column in columns:
        op.add_column("notification", column)
    _comments(_STATES_AFTER, "times that handing over was begun")


def _comments(states: str, attempts: str) -> None:
    op.alter_column("notification", "delivery", comment=states, existing_type=sa.String(length=16))
    op.alter_column("notification", "attempt", comment=attempts, existing_type=sa.Integer())


def _replace_indexes(predicate: str) -> None:
    where = sa.text(predicate)
    for name, columns in (
        ("ix_notification_case", ["case_id"]),
        ("ix_notification_unfinished", ["device_key", "notification_id"]),
    ):
        op.drop_index(name, table_name="notification")
        op.create_index(name, "notification", columns, unique=False, postgresql_where=where)


def _new_tables() -> None:
    op.create_table(
        "gathering",
        sa.Column("subscriber_id", _Id, nullable=False, comment="opaque id"),
        sa.Column("window_start", _Time, nullable=False, comment="business time"),
        sa.Column("told", sa.Integer(), nullable=False, comment="notices told one by one since then"),
        sa.Column("digest_id", _Id, nullable=False, comment="digest that is being gathered; empty for none"),
        sa.Column("gathered", sa.Integer(), nullable=False, comment="notices in it"),
        sa.Column("due_time", _Time, nullable=True, comment="when it is told"),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_gathering")),
    )
    op.create_table(
        "fall_back",
        sa.Column("fall_back_id", _Id, nullable=False, comment="UUIDv7, kept by repeats"),
        sa.Column("subscriber_id", _Id, nullable=False, comment="owner"),
        sa.Column("case_id", _Id, nullable=False, comment="root case when it was made"),
        sa.Column("subject", sa.String(length=32), nullable=False, comment="what it is about"),
        sa.Column("state", sa.String(length=32), nullable=False, comment="state after the change"),
        sa.Column("occurrence", _Id, nullable=False, comment="n-th time of the same change"),
        sa.Column(
            "path", sa.String(length=16), nullable=False, comment="way of the last try: SMS, EMAIL; empty before"
        ),
        sa.Column(
            "delivery",
            sa.String(length=16),
            nullable=False,
            comment="QUEUED, HANDED_OVER, UNDELIVERABLE, SUPERSEDED",
        ),
        sa.Column("tries", sa.Integer(), nullable=False, comment="tries on this way"),
        sa.Column("create_time", _Time, nullable=False, comment="business time"),
        sa.Column("end_time", _Time, nullable=True, comment="when the last try ended it"),
        sa.PrimaryKeyConstraint("fall_back_id", name=op.f("pk_fall_back")),
        sa.UniqueConstraint(
            "case_id",
            "subject",
            "state",
            "occurrence",
            "subscriber_id",
            name=op.f("uq_fall_back_case_id_subject_state_occurrence_subscriber_id"),
        ),
    )
    op.create_index(op.f("ix_fall_back_subscriber_id"), "fall_back", ["subscriber_id"], unique=False)
    op.create_table(
        "contact",
        sa.Column("subscriber_id", _Id, nullable=False, comment="owner"),
        sa.Column("path", sa.String(length=16), nullable=False, comment="SMS or EMAIL"),
        sa.Column(
            "value", sa.LargeBinary(), nullable=True, comment="sealed with the subscriber's key; NULL for none"
        ),
        sa.Column("change_id", _Id, nullable=False, comment="change that waits; empty for none"),
        sa.Column("new_value", sa.LargeBinary(), nullable=True, comment="sealed; NULL where the contact goes"),
        sa.Column("change_time", _Time, nullable=True, comment="when the change takes effect"),
        sa.PrimaryKeyConstraint("subscriber_id", "path", name=op.f("pk_contact")),
    )


def downgrade() -> None:
    """Takes it back; what only the new states say becomes the nearest old one."""
    for table in ("contact", "fall_back", "gathering"):
        op.drop_table(table)
    op.drop_index("ix_notification_next_time", table_name="notification")
    op.execute(sa.text("UPDATE notification SET delivery = 'HANDED_OVER' WHERE delivery = 'DELIVERED'"))
    op.execute(sa.text("UPDATE notification SET delivery = 'UNDELIVERABLE' WHERE delivery = 'EXPIRED'"))
    _replace_indexes(_BEFORE)
    _comments(_STATES_BEFORE, "times handed over")
    for table, names in (
        ("notification", ("next_time", "fell_back", "held", "path")),
        ("device", ("refused_time", "public_key", "locale", "time_zone")),
        ("subscriber", ("paths", "digest_minutes")),
    ):
        for name in names:
            op.drop_column(table, name)
