"""The first schema of the detector."""

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
        "channel",
        sa.Column("channel", sa.Text(), nullable=False, comment="channel id"),
        sa.Column("channel_group", sa.Text(), nullable=False, comment="group, one of the Top-10"),
        sa.Column("display_name", sa.Text(), nullable=False, comment="name for people"),
        sa.Column("source_type", sa.SmallInteger(), nullable=False, comment="SourceType"),
        sa.Column("level", sa.SmallInteger(), nullable=False, comment="ChannelLevel"),
        sa.Column("paused", sa.Boolean(), nullable=False, comment="nothing is taken in while true"),
        sa.Column("platform", sa.Text(), nullable=False, comment="platform id for removal; may be empty"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.Column(
            "update_time", sa.DateTime(timezone=True), nullable=False, comment="business time of the last change"
        ),
        sa.PrimaryKeyConstraint("channel", name=op.f("pk_channel")),
    )
    op.create_table(
        "content",
        sa.Column(
            "content_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="order of decision"
        ),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whom it concerned"),
        sa.Column("cluster_id", sa.Text(), nullable=False, comment="cluster, UUIDv7"),
        sa.Column("medium", sa.SmallInteger(), nullable=False, comment="1 picture, 2 text"),
        sa.Column("content_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of subscriber and SHA-256"),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="sealed: fingerprint or text signature"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("content_id", name=op.f("pk_content")),
    )
    op.create_index("ix_content_subscriber", "content", ["subscriber_id", "content_id"], unique=False)
    op.create_index("uq_content_ref", "content", ["content_ref"], unique=True)
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
        "decision",
        sa.Column("decision_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("signal_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the signal id"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whom it concerns"),
        sa.Column("band", sa.SmallInteger(), nullable=False, comment="Band"),
        sa.Column("kind", sa.SmallInteger(), nullable=False, comment="MatchKind"),
        sa.Column("template_id", sa.Text(), nullable=False, comment="template that decided; empty for text"),
        sa.Column("scores", sa.LargeBinary(), nullable=False, comment="sealed: scores"),
        sa.Column("capture", sa.LargeBinary(), nullable=True, comment="sealed: the capture; NULL once released"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_decision")),
    )
    op.create_index(op.f("ix_decision_create_time"), "decision", ["create_time"], unique=False)
    op.create_index(op.f("ix_decision_signal_ref"), "decision", ["signal_ref"], unique=False)
    op.create_index(op.f("ix_decision_subscriber_id"), "decision", ["subscriber_id"], unique=False)
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
        "face_template",
        sa.Column("template_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose face"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="OwnershipState"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=True, comment="end of the proof"),
        sa.Column("pictures", sa.SmallInteger(), nullable=False, comment="pictures it was made of"),
        sa.Column("model_ids", sa.ARRAY(sa.Text()), nullable=False, comment="models it has vectors for"),
        sa.Column("vectors", sa.LargeBinary(), nullable=True, comment="sealed: vectors by model"),
        sa.Column("crop", sa.LargeBinary(), nullable=True, comment="sealed: one 112x112 crop, with consent only"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.Column("index_version", sa.BigInteger(), nullable=False, comment="gallery version of its last change"),
        sa.PrimaryKeyConstraint("template_id", name=op.f("pk_face_template")),
    )
    op.create_index(op.f("ix_face_template_index_version"), "face_template", ["index_version"], unique=False)
    op.create_index("ix_face_template_subscriber", "face_template", ["subscriber_id", "template_id"], unique=False)
    op.create_table(
        "gallery_version",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False, comment="always 1"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="grows with every change"),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_gallery_version")),
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
        "ownership_nonce",
        sa.Column("nonce_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of provider and nonce"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False, comment="when the claim has run out"),
        sa.PrimaryKeyConstraint("nonce_ref", name=op.f("pk_ownership_nonce")),
    )
    op.create_index(op.f("ix_ownership_nonce_expire_time"), "ownership_nonce", ["expire_time"], unique=False)
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
        "signal_memory",
        sa.Column("signal_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the signal id"),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False, comment="keyed hash of the signal's bytes"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="SignalState"),
        sa.Column("none_decision_id", sa.Text(), nullable=True, comment="decision that nobody is concerned"),
        sa.Column("kind", sa.SmallInteger(), nullable=False, comment="MatchKind of that decision; 0 before"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time of acceptance"),
        sa.PrimaryKeyConstraint("signal_ref", name=op.f("pk_signal_memory")),
    )
    op.create_index(op.f("ix_signal_memory_create_time"), "signal_memory", ["create_time"], unique=False)
    op.create_table(
        "spool",
        sa.Column("spool_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="order of arrival"),
        sa.Column("signal_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the signal id"),
        sa.Column("key_id", sa.Text(), nullable=False, comment="spool key that sealed the payload"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="sealed: the signal"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="size of the sealed payload"),
        sa.Column("pictures", sa.Boolean(), nullable=False, comment="has pictures: taken in smaller batches"),
        sa.Column(
            "traceparent", sa.Text(), nullable=False, comment="W3C trace context of the submission; may be empty"
        ),
        sa.Column("lease", sa.Text(), nullable=True, comment="token of the batch that works on it"),
        sa.Column("lease_owner", sa.Text(), nullable=True, comment="instance that works on it"),
        sa.Column(
            "lease_until", sa.DateTime(timezone=True), nullable=True, comment="real time; later it is free again"
        ),
        sa.Column("attempts", sa.SmallInteger(), nullable=False, comment="times it was taken"),
        sa.PrimaryKeyConstraint("spool_id", name=op.f("pk_spool")),
    )
    op.create_index(op.f("ix_spool_key_id"), "spool", ["key_id"], unique=False)
    op.create_index("ix_spool_lane", "spool", ["pictures", "spool_id"], unique=False)
    op.create_table(
        "spool_key",
        sa.Column("key_id", sa.Text(), nullable=False, comment="owner name in the key store"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time of first use"),
        sa.PrimaryKeyConstraint("key_id", name=op.f("pk_spool_key")),
    )
    op.create_table(
        "subscriber",
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="subscriber"),
        sa.Column("minor", sa.Boolean(), nullable=False, comment="under 19: stricter thresholds"),
        sa.Column("suspended", sa.Boolean(), nullable=False, comment="nothing is matched while true"),
        sa.Column("consents", sa.ARRAY(sa.SmallInteger()), nullable=False, comment="ConsentScope numbers in force"),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_subscriber")),
    )
    op.create_table(
        "watched_identifier",
        sa.Column("watch_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.Text(), nullable=False, comment="whose identifier"),
        sa.Column("kind", sa.SmallInteger(), nullable=False, comment="IdentifierKind"),
        sa.Column("value_ref", sa.LargeBinary(), nullable=True, comment="keyed hash of the canonical value"),
        sa.Column("sealed_value", sa.LargeBinary(), nullable=True, comment="sealed: value, for re-keying only"),
        sa.Column("masked_value", sa.LargeBinary(), nullable=True, comment="sealed: masked value"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="OwnershipState"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=True, comment="end of the proof"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="from 1"),
        sa.PrimaryKeyConstraint("watch_id", name=op.f("pk_watched_identifier")),
    )
    op.create_index(
        "ix_watched_identifier_subscriber", "watched_identifier", ["subscriber_id", "watch_id"], unique=False
    )
    op.create_index(
        "ix_watched_identifier_value",
        "watched_identifier",
        ["value_ref"],
        unique=False,
        postgresql_where=sa.text("state = 2"),
    )


def downgrade() -> None:
    """Drops every table."""
    op.drop_table("watched_identifier")
    op.drop_table("subscriber")
    op.drop_table("spool_key")
    op.drop_table("spool")
    op.drop_table("signal_memory")
    op.drop_table("request_memory")
    op.drop_table("ownership_nonce")
    op.drop_table("outbox_head")
    op.drop_table("outbox")
    op.drop_table("gallery_version")
    op.drop_table("face_template")
    op.drop_table("due")
    op.drop_table("decision")
    op.drop_table("dead_letter")
    op.drop_table("content")
    op.drop_table("channel")
    op.drop_table("bus_cursor")
