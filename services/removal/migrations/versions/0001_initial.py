"""The first schema of removal."""

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
        "mandate",
        sa.Column("mandate_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("platforms", sa.ARRAY(sa.String(length=32)), nullable=False, comment="platforms; empty covers all"),
        sa.Column("document_sha256", sa.LargeBinary(), nullable=False, comment="SHA-256 of the signed document"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when granted"),
        sa.Column("expire_time", sa.DateTime(timezone=True), nullable=False, comment="when it ends"),
        sa.Column("revoke_time", sa.DateTime(timezone=True), nullable=True, comment="when revoked"),
        sa.PrimaryKeyConstraint("mandate_id", name=op.f("pk_mandate")),
    )
    op.create_index(op.f("ix_mandate_subscriber_id"), "mandate", ["subscriber_id"], unique=False)
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
        "packed_sighting",
        sa.Column("sighting_id", sa.String(length=36), nullable=False, comment="UUIDv7, made by case"),
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="root case when it was packed"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("platform", sa.String(length=32), nullable=False, comment="platform id"),
        sa.Column("pack_version", sa.Integer(), nullable=False, comment="version of the evidence pack that holds it"),
        sa.Column(
            "outcome", sa.String(length=63), nullable=False, comment="PENDING, PREPARED, or why there is no request"
        ),
        sa.Column("request_id", sa.String(length=36), nullable=True, comment="request that came of it"),
        sa.PrimaryKeyConstraint("sighting_id", name=op.f("pk_packed_sighting")),
    )
    op.create_index("ix_packed_sighting_case_id", "packed_sighting", ["case_id"], unique=False)
    op.create_index(
        "ix_packed_sighting_waiting",
        "packed_sighting",
        ["subscriber_id"],
        unique=False,
        postgresql_where=sa.text("outcome <> 'PREPARED'"),
    )
    op.create_table(
        "removal_request",
        sa.Column("request_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("platform", sa.String(length=32), nullable=False, comment="platform id"),
        sa.Column("url_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the normalised address"),
        sa.Column("episode", sa.SmallInteger(), nullable=False, comment="from 1; the next when the content reappears"),
        sa.Column("sighting_id", sa.String(length=36), nullable=False, comment="sighting that it was made from"),
        sa.Column("state", sa.String(length=16), nullable=False, comment="where it stands"),
        sa.Column("reason", sa.String(length=63), nullable=False, comment="why, UPPER_SNAKE; may be empty"),
        sa.Column("policy_version", sa.String(length=80), nullable=False, comment="version of the policy template"),
        sa.Column("path", sa.String(length=16), nullable=False, comment="HTTP_FORM, SMTP, API, PERSON"),
        sa.Column(
            "missing", sa.ARRAY(sa.String(length=32)), nullable=False, comment="required fields that nobody could fill"
        ),
        sa.Column(
            "evidence_sealed",
            sa.LargeBinary(),
            nullable=False,
            comment="address and facts of the capture, sealed with the subscriber's key",
        ),
        sa.Column("version", sa.Integer(), nullable=False, comment="from 1, rising with every change of state"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when made"),
        sa.Column(
            "receive_time", sa.DateTime(timezone=True), nullable=True, comment="when the platform first accepted it"
        ),
        sa.Column("end_time", sa.DateTime(timezone=True), nullable=True, comment="when it ended"),
        sa.Column("block_until", sa.DateTime(timezone=True), nullable=True, comment="end of a temporary block"),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_removal_request")),
    )
    op.create_index("ix_removal_request_newest", "removal_request", ["create_time", "request_id"], unique=False)
    op.create_index(
        "ix_removal_request_own", "removal_request", ["subscriber_id", "create_time", "request_id"], unique=False
    )
    op.create_index("ix_removal_request_state", "removal_request", ["state", "create_time", "request_id"], unique=False)
    op.create_index(
        "ux_removal_request_page", "removal_request", ["subscriber_id", "url_ref", "platform", "episode"], unique=True
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
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("language", sa.String(length=8), nullable=False, comment="language of notices: ko or en"),
        sa.Column(
            "suspended", sa.Boolean(), nullable=False, comment="processing is stopped (PIPA 37): nothing is sent"
        ),
        sa.Column("removal_consent", sa.Boolean(), nullable=False, comment="consent to removal on behalf stands"),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_subscriber")),
    )
    op.create_table(
        "attempt",
        sa.Column("request_id", sa.String(length=36), nullable=False, comment="request"),
        sa.Column("number", sa.SmallInteger(), autoincrement=False, nullable=False, comment="from 1"),
        sa.Column(
            "outcome", sa.String(length=16), nullable=False, comment="INTENDED, SENT, ACCEPTED, REFUSED, UNCERTAIN"
        ),
        sa.Column("in_flight", sa.Boolean(), nullable=False, comment="sending was begun and its result not recorded"),
        sa.Column("tries", sa.SmallInteger(), nullable=False, comment="how often sending was begun"),
        sa.Column("send_time", sa.DateTime(timezone=True), nullable=True, comment="when it was sent"),
        sa.Column("reference", sa.String(length=128), nullable=False, comment="the platform's reference; may be empty"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why, UPPER_SNAKE; may be empty"),
        sa.ForeignKeyConstraint(
            ["request_id"], ["removal_request.request_id"], name=op.f("fk_attempt_request_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("pk_attempt")),
    )
    op.create_table(
        "request_case",
        sa.Column("request_id", sa.String(length=36), nullable=False, comment="request"),
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case"),
        sa.Column(
            "via",
            sa.String(length=36),
            nullable=False,
            comment="case that was merged into case_id; empty where it is its own",
        ),
        sa.Column(
            "closed", sa.Boolean(), nullable=False, comment="the case was closed as a false positive or withdrawn"
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["removal_request.request_id"], name=op.f("fk_request_case_request_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "case_id", "via", name=op.f("pk_request_case")),
    )
    op.create_index(op.f("ix_request_case_case_id"), "request_case", ["case_id"], unique=False)


def downgrade() -> None:
    """Drops every table."""
    op.drop_index(op.f("ix_request_case_case_id"), table_name="request_case")
    op.drop_table("request_case")
    op.drop_table("attempt")
    op.drop_table("subscriber")
    op.drop_index(op.f("ix_request_memory_create_time"), table_name="request_memory")
    op.drop_table("request_memory")
    op.drop_index("ux_removal_request_page", table_name="removal_request")
    op.drop_index("ix_removal_request_state", table_name="removal_request")
    op.drop_index("ix_removal_request_own", table_name="removal_request")
    op.drop_index("ix_removal_request_newest", table_name="removal_request")
    op.drop_table("removal_request")
    op.drop_index(
        "ix_packed_sighting_waiting", table_name="packed_sighting", postgresql_where=sa.text("outcome <> 'PREPARED'")
    )
    op.drop_index("ix_packed_sighting_case_id", table_name="packed_sighting")
    op.drop_table("packed_sighting")
    op.drop_table("outbox_head")
    op.drop_index("ix_outbox_unstamped", table_name="outbox", postgresql_where=sa.text("position IS NULL"))
    op.drop_index("ix_outbox_position", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index(op.f("ix_mandate_subscriber_id"), table_name="mandate")
    op.drop_table("mandate")
    op.drop_index("ix_due_time", table_name="due")
    op.drop_table("due")
    op.drop_index("ix_dead_letter_order", table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_table("bus_cursor")
