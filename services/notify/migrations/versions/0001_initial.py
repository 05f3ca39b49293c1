"""The first schema of notify."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates every table."""
    op.create_table(
        "bus_cursor",
        sa.Column("publisher", sa.Text(), nullable=False, comment="publisher of the events"),
        sa.Column("partition", sa.SmallInteger(), autoincrement=False, nullable=False, comment="partition"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="last position applied"),
        sa.Column(
            "stream_id", sa.Text(), nullable=False, comment="incarnation of the stream that stream_seq belongs to"
        ),
        sa.Column("stream_seq", sa.BigInteger(), nullable=False, comment="where to go on reading; a hint only"),
        sa.PrimaryKeyConstraint("publisher", "partition", name=op.f("pk_bus_cursor")),
    )
    op.create_table(
        "dead_letter",
        sa.Column("dead_letter_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("publisher", sa.Text(), nullable=False, comment="publisher of the event; empty for a job"),
        sa.Column("partition", sa.SmallInteger(), nullable=False, comment="partition of the event; 0 for a job"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="position of the event; 0 for a job"),
        sa.Column("event", sa.Text(), nullable=False, comment="event name, or kind of the job"),
        sa.Column(
            "entity_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the entity; of the job its id"
        ),
        sa.Column("event_id", sa.Text(), nullable=False, comment="UUIDv7 of the event; entity id of a job"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="the event as published: ids, versions, hashes"),
        sa.Column("traceparent", sa.Text(), nullable=False, comment="W3C trace context; may be empty"),
        sa.Column("reason", sa.Text(), nullable=False, comment="UPPER_SNAKE"),
        sa.Column("parked", sa.Boolean(), nullable=False, comment="waits behind a rejected one of the same entity"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="real time"),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letter")),
    )
    op.create_index("ix_dead_letter_order", "dead_letter", ["publisher", "partition", "position"], unique=False)
    op.create_table(
        "device",
        sa.Column("device_key", sa.String(length=64), nullable=False, comment="UUIDv7 of this service"),
        sa.Column("subscriber_id", sa.String(length=64), nullable=False, comment="owner"),
        sa.Column("device_id", sa.String(length=64), nullable=False, comment="the app's id of the installation"),
        sa.Column("os", sa.String(length=16), nullable=False, comment="android, ios, web"),
        sa.Column("push_token", sa.LargeBinary(), nullable=True, comment="sealed with the subscriber's key"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("last_seen_time", sa.DateTime(timezone=True), nullable=True, comment="last handing over or ack"),
        sa.Column("remove_time", sa.DateTime(timezone=True), nullable=True, comment="when removed; NULL while live"),
        sa.PrimaryKeyConstraint("device_key", name=op.f("pk_device")),
        sa.UniqueConstraint("subscriber_id", "device_id", name=op.f("uq_device_subscriber_id_device_id")),
    )
    op.create_table(
        "due",
        sa.Column("kind", sa.Text(), nullable=False, comment="what is to be done"),
        sa.Column("entity_id", sa.Text(), nullable=False, comment="to what"),
        sa.Column("due_time", sa.DateTime(timezone=True), nullable=False, comment="business time from which it is due"),
        sa.Column("generation", sa.BigInteger(), nullable=False, comment="rises with every scheduling"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="failures so far"),
        sa.Column(
            "retry_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="real time before which it is not tried again",
        ),
        sa.Column(
            "lease_until", sa.DateTime(timezone=True), nullable=True, comment="real time until which a worker holds it"
        ),
        sa.Column("traceparent", sa.Text(), nullable=False, comment="W3C trace context of the cause; may be empty"),
        sa.PrimaryKeyConstraint("kind", "entity_id", name=op.f("pk_due")),
    )
    op.create_index("ix_due_time", "due", ["kind", "due_time"], unique=False)
    op.create_table(
        "inbox_item",
        sa.Column("item_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=64), nullable=False, comment="owner"),
        sa.Column("case_id", sa.String(length=64), nullable=False, comment="root case when it was made"),
        sa.Column("subject", sa.String(length=32), nullable=False, comment="what it is about"),
        sa.Column("state", sa.String(length=32), nullable=False, comment="state after the change"),
        sa.Column("occurrence", sa.String(length=64), nullable=False, comment="n-th time of the same change"),
        sa.Column("details", sa.LargeBinary(), nullable=False, comment="facts, sealed with the subscriber's key"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("read_time", sa.DateTime(timezone=True), nullable=True, comment="when read; NULL before"),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_inbox_item")),
        sa.UniqueConstraint(
            "case_id", "subject", "state", "occurrence", name=op.f("uq_inbox_item_case_id_subject_state_occurrence")
        ),
    )
    op.create_index("ix_inbox_item_subscriber", "inbox_item", ["subscriber_id", "item_id"], unique=False)
    op.create_table(
        "known_case",
        sa.Column("case_id", sa.String(length=64), nullable=False, comment="case"),
        sa.Column("subscriber_id", sa.String(length=64), nullable=False, comment="owner"),
        sa.Column("parent_id", sa.String(length=64), nullable=False, comment="case it was merged into, or itself"),
        sa.Column("kind", sa.String(length=32), nullable=False, comment="case kind by name"),
        sa.Column("channel_group", sa.String(length=64), nullable=False, comment="group of the first sighting"),
        sa.Column("reopenings", sa.Integer(), nullable=False, comment="how often it was reopened"),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_known_case")),
    )
    op.create_index(op.f("ix_known_case_subscriber_id"), "known_case", ["subscriber_id"], unique=False)
    op.create_table(
        "notification",
        sa.Column("notification_id", sa.String(length=64), nullable=False, comment="UUIDv7, kept by repeats"),
        sa.Column("subscriber_id", sa.String(length=64), nullable=False, comment="owner"),
        sa.Column("case_id", sa.String(length=64), nullable=False, comment="root case when it was made"),
        sa.Column("device_key", sa.String(length=64), nullable=False, comment="device"),
        sa.Column("subject", sa.String(length=32), nullable=False, comment="what it is about"),
        sa.Column("state", sa.String(length=32), nullable=False, comment="state after the change"),
        sa.Column("occurrence", sa.String(length=64), nullable=False, comment="n-th time of the same change"),
        sa.Column(
            "delivery",
            sa.String(length=16),
            nullable=False,
            comment="QUEUED, HANDED_OVER, ACKNOWLEDGED, UNDELIVERABLE, SUPERSEDED",
        ),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="times handed over"),
        sa.Column("resend", sa.Boolean(), nullable=False, comment="to be handed over again"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("first_sent_time", sa.DateTime(timezone=True), nullable=True, comment="first handing over"),
        sa.Column("last_sent_time", sa.DateTime(timezone=True), nullable=True, comment="last handing over"),
        sa.Column(
            "end_time", sa.DateTime(timezone=True), nullable=True, comment="acknowledged, given up or superseded"
        ),
        sa.PrimaryKeyConstraint("notification_id", name=op.f("pk_notification")),
        sa.UniqueConstraint(
            "case_id",
            "subject",
            "state",
            "occurrence",
            "device_key",
            name=op.f("uq_notification_case_id_subject_state_occurrence_device_key"),
        ),
    )
    op.create_index(
        "ix_notification_case",
        "notification",
        ["case_id"],
        unique=False,
        postgresql_where=sa.text("delivery IN ('QUEUED', 'HANDED_OVER')"),
    )
    op.create_index(op.f("ix_notification_subscriber_id"), "notification", ["subscriber_id"], unique=False)
    op.create_index(
        "ix_notification_unfinished",
        "notification",
        ["device_key", "notification_id"],
        unique=False,
        postgresql_where=sa.text("delivery IN ('QUEUED', 'HANDED_OVER')"),
    )
    op.create_table(
        "outbox",
        sa.Column(
            "seq",
            sa.BigInteger(),
            sa.Identity(always=False),
            nullable=False,
            comment="order of insertion; has gaps, never shown",
        ),
        sa.Column("partition", sa.SmallInteger(), nullable=False, comment="hash of the subscriber mod N; records + N"),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=True,
            comment="gap-free in the partition; NULL until the relay stamps it",
        ),
        sa.Column("event_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("event", sa.Text(), nullable=False, comment="event name in snake case"),
        sa.Column("entity_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the entity, for parking"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="serialised message: ids, versions, hashes"),
        sa.Column("traceparent", sa.Text(), nullable=False, comment="W3C trace context of the cause; may be empty"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="real time of insertion"),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
    )
    op.create_index("ix_outbox_position", "outbox", ["partition", "position"], unique=True)
    op.create_index(
        "ix_outbox_unstamped", "outbox", ["seq"], unique=False, postgresql_where=sa.text("position IS NULL")
    )
    op.create_table(
        "outbox_head",
        sa.Column("partition", sa.SmallInteger(), autoincrement=False, nullable=False, comment="partition"),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="last position given out"),
        sa.Column("published", sa.BigInteger(), nullable=False, comment="last position that the broker has confirmed"),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_outbox_head")),
    )
    op.create_table(
        "request_memory",
        sa.Column(
            "request_key", sa.LargeBinary(), nullable=False, comment="Keyed hash of caller, method and request id."
        ),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="Keyed hash of the request's bytes."),
        sa.Column("resource_id", sa.String(length=64), nullable=False, comment="What the request made or changed."),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="Business time."),
        sa.PrimaryKeyConstraint("request_key", name=op.f("pk_request_memory")),
        comment="Requests already done, so that a repeat does nothing twice.",
    )
    op.create_index(op.f("ix_request_memory_create_time"), "request_memory", ["create_time"], unique=False)
    op.create_table(
        "subscriber",
        sa.Column("subscriber_id", sa.String(length=64), nullable=False, comment="opaque id"),
        sa.Column("language", sa.String(length=8), nullable=False, comment="ko or en"),
        sa.Column("chosen", sa.Boolean(), nullable=False, comment="preferences are the person's own"),
        sa.Column("discreet", sa.Boolean(), nullable=False, comment="lock screen says nothing"),
        sa.Column("quiet_start_minute", sa.Integer(), nullable=False, comment="minute of day, -1 for none"),
        sa.Column("quiet_end_minute", sa.Integer(), nullable=False, comment="minute of day, -1 for none"),
        sa.Column("suspended", sa.Boolean(), nullable=False, comment="hold notifications back"),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_subscriber")),
    )


def downgrade() -> None:
    """Drops every table."""
    op.drop_table("subscriber")
    op.drop_index(op.f("ix_request_memory_create_time"), table_name="request_memory")
    op.drop_table("request_memory")
    op.drop_table("outbox_head")
    op.drop_index("ix_outbox_unstamped", table_name="outbox", postgresql_where=sa.text("position IS NULL"))
    op.drop_index("ix_outbox_position", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index(
        "ix_notification_unfinished",
        table_name="notification",
        postgresql_where=sa.text("delivery IN ('QUEUED', 'HANDED_OVER')"),
    )
    op.drop_index(op.f("ix_notification_subscriber_id"), table_name="notification")
    op.drop_index(
        "ix_notification_case",
        table_name="notification",
        postgresql_where=sa.text("delivery IN ('QUEUED', 'HANDED_OVER')"),
    )
    op.drop_table("notification")
    op.drop_index(op.f("ix_known_case_subscriber_id"), table_name="known_case")
    op.drop_table("known_case")
    op.drop_index("ix_inbox_item_subscriber", table_name="inbox_item")
    op.drop_table("inbox_item")
    op.drop_index("ix_due_time", table_name="due")
    op.drop_table("due")
    op.drop_table("device")
    op.drop_index("ix_dead_letter_order", table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_table("bus_cursor")
