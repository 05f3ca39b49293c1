"""The first schema of gate."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

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
        "log_head",
        sa.Column("chain_id", sa.String(length=80), nullable=False, comment="case, or day chain"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="entries in the chain"),
        sa.Column("head_hash", sa.LargeBinary(), nullable=False, comment="hash of the last entry"),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, comment="when the gate heard of it"),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "log_record",
        sa.Column("publisher", sa.String(length=16), nullable=False, comment="who published it"),
        sa.Column(
            "partition", sa.SmallInteger(), autoincrement=False, nullable=False, comment="partition of the publisher"
        ),
        sa.Column(
            "position", sa.BigInteger(), autoincrement=False, nullable=False, comment="position in the partition"
        ),
        sa.Column("record_id", sa.String(length=64), nullable=False, comment="UUIDv7 of the record"),
        sa.Column("type", sa.String(length=40), nullable=False, comment="body, such as case_lifecycle_log"),
        sa.Column(
            "facet", sa.String(length=40), nullable=False, comment="band, transition, action or state; may be empty"
        ),
        sa.Column("occur_time", sa.DateTime(timezone=True), nullable=False, comment="when it happened, business time"),
        sa.Column("entity", sa.String(length=40), nullable=False, comment="sort of entity that changed"),
        sa.Column("entity_id", sa.String(length=64), nullable=False, comment="the entity"),
        sa.Column("case_ids", postgresql.ARRAY(sa.Text()), nullable=False, comment="cases it belongs to"),
        sa.Column("decision_id", sa.String(length=64), nullable=False, comment="decision it belongs to; may be empty"),
        sa.Column("payload", sa.LargeBinary(), nullable=False, comment="the record as published"),
        sa.PrimaryKeyConstraint("publisher", "partition", "position", name=op.f("pk_log_record")),
    )
    op.create_index("ix_log_record_type", "log_record", ["type", "facet", "occur_time"], unique=False)
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
        "release_decision",
        sa.Column("decision_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("release", sa.String(length=128), nullable=False, comment="release"),
        sa.Column("stage", sa.String(length=8), nullable=False, comment="1, 2, 3 or ALL"),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="worst outcome of its parts"),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False, comment="one a part"),
        sa.Column(
            "cut_off",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="publisher/partition -> last position read",
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_release_decision")),
    )
    op.create_index("ix_release_decision_release", "release_decision", ["release", "decision_id"], unique=False)
    op.create_table(
        "report",
        sa.Column("report_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("decision_id", sa.String(length=64), nullable=False, comment="decision it was made for"),
        sa.Column("number", sa.Integer(), nullable=False, comment="place in the decision's list"),
        sa.Column("name", sa.String(length=64), nullable=False, comment="such as CaseLatencyReport_v1"),
        sa.Column("release", sa.String(length=128), nullable=False, comment="release it was made for"),
        sa.Column("outcome", sa.String(length=16), nullable=False, comment="PASSED, INCONCLUSIVE, ERROR, FAILED"),
        sa.Column("reasons", postgresql.ARRAY(sa.Text()), nullable=False, comment="UPPER_SNAKE"),
        sa.Column("value_text", sa.String(length=64), nullable=False, comment="value for people; may be empty"),
        sa.Column("sample_size", sa.BigInteger(), nullable=False, comment="sample"),
        sa.Column("required_size", sa.BigInteger(), nullable=False, comment="sample that is needed"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.Column(
            "document",
            postgresql.JSON(astext_type=sa.Text()),
            nullable=False,
            comment="the report by schemas/report_v1.json",
        ),
        sa.PrimaryKeyConstraint("report_id", name=op.f("pk_report")),
    )
    op.create_index(op.f("ix_report_decision_id"), "report", ["decision_id"], unique=False)
    op.create_index("ix_report_name", "report", ["name", "report_id"], unique=False)
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
        "test_run",
        sa.Column("test_run_id", sa.String(length=64), nullable=False, comment="UUIDv7"),
        sa.Column("release", sa.String(length=128), nullable=False, comment="release"),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="SCENARIO, REGRESSION, POLICY, ROLLBACK"),
        sa.Column("commit", sa.String(length=64), nullable=False, comment="commit that was tested"),
        sa.Column("passed", sa.Integer(), nullable=False, comment="tests that passed"),
        sa.Column("failed", sa.Integer(), nullable=False, comment="tests that failed"),
        sa.Column("skipped", sa.Integer(), nullable=False, comment="tests that were skipped"),
        sa.Column("junit_sha256", sa.LargeBinary(), nullable=False, comment="SHA-256 of the document"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="business time"),
        sa.PrimaryKeyConstraint("test_run_id", name=op.f("pk_test_run")),
    )
    op.create_index("ix_test_run_release", "test_run", ["release", "kind", "test_run_id"], unique=False)


def downgrade() -> None:
    """Drops every table."""
    op.drop_index("ix_test_run_release", table_name="test_run")
    op.drop_table("test_run")
    op.drop_index(op.f("ix_request_memory_create_time"), table_name="request_memory")
    op.drop_table("request_memory")
    op.drop_index("ix_report_name", table_name="report")
    op.drop_index(op.f("ix_report_decision_id"), table_name="report")
    op.drop_table("report")
    op.drop_index("ix_release_decision_release", table_name="release_decision")
    op.drop_table("release_decision")
    op.drop_table("outbox_head")
    op.drop_index("ix_outbox_unstamped", table_name="outbox", postgresql_where=sa.text("position IS NULL"))
    op.drop_index("ix_outbox_position", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index("ix_log_record_type", table_name="log_record")
    op.drop_table("log_record")
    op.drop_table("log_head")
    op.drop_index("ix_due_time", table_name="due")
    op.drop_table("due")
    op.drop_index("ix_dead_letter_order", table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_table("bus_cursor")
