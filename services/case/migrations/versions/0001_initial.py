"""The first schema of case."""

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
            "stream_id",
            sa.Text(),
            nullable=False,
            comment="incarnation of the stream that stream_seq belongs to",
        ),
        sa.Column(
            "stream_seq", sa.BigInteger(), nullable=False, comment="where to go on reading; a hint only"
        ),
        sa.PrimaryKeyConstraint("publisher", "partition", name=op.f("pk_bus_cursor")),
    )
    op.create_table(
        "capture",
        sa.Column("decision_id", sa.String(length=36), nullable=False, comment="decision"),
        sa.Column(
            "subscriber_id", sa.String(length=36), nullable=False, comment="subscriber, owner of the key"
        ),
        sa.Column(
            "sealed_capture", sa.LargeBinary(), nullable=False, comment="Capture message; empty if none"
        ),
        sa.Column("sha256", sa.LargeBinary(), nullable=False, comment="of the message as it was taken over"),
        sa.Column("fetch_time", sa.DateTime(timezone=True), nullable=False, comment="when fetched"),
        sa.Column("purpose", sa.SmallInteger(), nullable=False, comment="Purpose it was fetched for"),
        sa.Column("released", sa.Boolean(), nullable=False, comment="the detector's copy is gone"),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_capture")),
        comment="Captures fetched from the detector, sealed.",
    )
    op.create_table(
        "case",
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column(
            "root_case_id",
            sa.String(length=36),
            nullable=False,
            comment="root of the incident, derived from case_alias",
        ),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column(
            "kinds", sa.ARRAY(sa.SmallInteger()), nullable=False, comment="CaseKind, the first is primary"
        ),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="CaseState"),
        sa.Column("resolution", sa.SmallInteger(), nullable=False, comment="Resolution"),
        sa.Column("channel_groups", sa.ARRAY(sa.Text()), nullable=False, comment="groups it was seen in"),
        sa.Column(
            "sighting_count",
            sa.BigInteger(),
            nullable=False,
            comment="sightings of the incident while a root",
        ),
        sa.Column("discover_time", sa.DateTime(timezone=True), nullable=False, comment="first discovery"),
        sa.Column(
            "create_time",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="commit of the case, by the service's clock",
        ),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, comment="last change"),
        sa.Column("latency_ms", sa.BigInteger(), nullable=False, comment="first discovery to commit"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="rises with every change"),
        sa.Column("verdict", sa.SmallInteger(), nullable=False, comment="SubscriberVerdict"),
        sa.Column("occurrence", sa.Integer(), nullable=False, comment="how often reopened"),
        sa.Column(
            "due_time", sa.DateTime(timezone=True), nullable=True, comment="when the next thing is due"
        ),
        sa.Column("merged_from_state", sa.SmallInteger(), nullable=True, comment="state before the merge"),
        sa.Column(
            "merged_from_resolution", sa.SmallInteger(), nullable=False, comment="resolution before the merge"
        ),
        sa.PrimaryKeyConstraint("case_id", name=op.f("pk_case")),
        comment="Cases; ids never change, a merge only sets root_case_id.",
    )
    op.create_index("ix_case_page", "case", ["create_time", "case_id"], unique=False)
    op.create_index("ix_case_root", "case", ["root_case_id"], unique=False)
    op.create_index(
        "ix_case_subscriber_page", "case", ["subscriber_id", "create_time", "case_id"], unique=False
    )
    op.create_table(
        "case_alias",
        sa.Column(
            "merged_case_id", sa.String(length=36), nullable=False, comment="case that became an alias"
        ),
        sa.Column(
            "into_case_id", sa.String(length=36), nullable=False, comment="root that it was merged into"
        ),
        sa.Column("rule", sa.String(length=32), nullable=False, comment="SAME_CLUSTER … OPERATOR"),
        sa.Column(
            "rule_version", sa.String(length=64), nullable=False, comment="version of the incident rules"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when merged"),
        sa.PrimaryKeyConstraint("merged_case_id", name=op.f("pk_case_alias")),
        comment="Merges: the truth behind root_case_id. An un-merge deletes the row.",
    )
    op.create_index("ix_case_alias_into", "case_alias", ["into_case_id"], unique=False)
    op.create_table(
        "case_removal",
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case named by the event"),
        sa.Column("removal_request_id", sa.String(length=36), nullable=False, comment="request"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="RemovalState"),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, comment="of the last event"),
        sa.PrimaryKeyConstraint("case_id", "removal_request_id", name=op.f("pk_case_removal")),
        comment="Which removal requests a case has and where they stand.",
    )
    op.create_index("ix_case_removal_request", "case_removal", ["removal_request_id"], unique=False)
    op.create_table(
        "case_separation",
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case that was parted"),
        sa.Column("from_case_id", sa.String(length=36), nullable=False, comment="case it was parted from"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber of both"),
        sa.PrimaryKeyConstraint("case_id", "from_case_id", name=op.f("pk_case_separation")),
        comment="Pairs of cases that a person parted.",
    )
    op.create_index("ix_case_separation_subscriber", "case_separation", ["subscriber_id"], unique=False)
    op.create_table(
        "consent",
        sa.Column("consent_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column("scope", sa.SmallInteger(), nullable=False, comment="ConsentScope"),
        sa.Column(
            "text_version", sa.String(length=64), nullable=False, comment="version of the text that was shown"
        ),
        sa.Column("give_time", sa.DateTime(timezone=True), nullable=False, comment="when given"),
        sa.Column("withdraw_time", sa.DateTime(timezone=True), nullable=True, comment="when withdrawn"),
        sa.PrimaryKeyConstraint("consent_id", name=op.f("pk_consent")),
        comment="Consents, one standing at most per subscriber and scope.",
    )
    op.create_index("ix_consent_page", "consent", ["subscriber_id", "give_time", "consent_id"], unique=False)
    op.create_index(
        "ix_consent_standing",
        "consent",
        ["subscriber_id", "scope"],
        unique=True,
        postgresql_where=sa.text("withdraw_time IS NULL"),
    )
    op.create_table(
        "dead_letter",
        sa.Column("dead_letter_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("publisher", sa.Text(), nullable=False, comment="publisher of the event; empty for a job"),
        sa.Column(
            "partition", sa.SmallInteger(), nullable=False, comment="partition of the event; 0 for a job"
        ),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="position of the event; 0 for a job"),
        sa.Column("event", sa.Text(), nullable=False, comment="event name, or kind of the job"),
        sa.Column(
            "entity_ref",
            sa.LargeBinary(),
            nullable=False,
            comment="keyed hash of the entity; of the job its id",
        ),
        sa.Column("event_id", sa.Text(), nullable=False, comment="UUIDv7 of the event; entity id of a job"),
        sa.Column(
            "payload",
            sa.LargeBinary(),
            nullable=False,
            comment="the event as published: ids, versions, hashes",
        ),
        sa.Column("traceparent", sa.Text(), nullable=False, comment="W3C trace context; may be empty"),
        sa.Column("reason", sa.Text(), nullable=False, comment="UPPER_SNAKE"),
        sa.Column(
            "parked", sa.Boolean(), nullable=False, comment="waits behind a rejected one of the same entity"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="real time"),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letter")),
    )
    op.create_index(
        "ix_dead_letter_order", "dead_letter", ["publisher", "partition", "position"], unique=False
    )
    op.create_table(
        "due",
        sa.Column("kind", sa.Text(), nullable=False, comment="what is to be done"),
        sa.Column("entity_id", sa.Text(), nullable=False, comment="to what"),
        sa.Column(
            "due_time",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="business time from which it is due",
        ),
        sa.Column("generation", sa.BigInteger(), nullable=False, comment="rises with every scheduling"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="failures so far"),
        sa.Column(
            "retry_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="real time before which it is not tried again",
        ),
        sa.Column(
            "lease_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="real time until which a worker holds it",
        ),
        sa.Column(
            "traceparent", sa.Text(), nullable=False, comment="W3C trace context of the cause; may be empty"
        ),
        sa.PrimaryKeyConstraint("kind", "entity_id", name=op.f("pk_due")),
    )
    op.create_index("ix_due_time", "due", ["kind", "due_time"], unique=False)
    op.create_table(
        "evidence_pack",
        sa.Column("pack_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="root case when built"),
        sa.Column(
            "subscriber_id", sa.String(length=36), nullable=False, comment="subscriber, owner of the key"
        ),
        sa.Column("version", sa.Integer(), nullable=False, comment="from 1"),
        sa.Column("manifest_sha256", sa.LargeBinary(), nullable=False, comment="of the canonical manifest"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False, comment="size of the archive"),
        sa.Column("items", sa.Integer(), nullable=False, comment="sightings that it names"),
        sa.Column("sealed_archive", sa.LargeBinary(), nullable=False, comment="ZIP, sealed"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when built"),
        sa.PrimaryKeyConstraint("pack_id", name=op.f("pk_evidence_pack")),
        comment="Evidence packs by root case and version, sealed.",
    )
    op.create_index("ix_evidence_pack_version", "evidence_pack", ["case_id", "version"], unique=True)
    op.create_table(
        "incident_key",
        sa.Column("span_id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="row id"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column("key_kind", sa.String(length=16), nullable=False, comment="CLUSTER, IDENTIFIER, POST"),
        sa.Column(
            "key_value", sa.String(length=64), nullable=False, comment="opaque id or keyed hash in hex"
        ),
        sa.Column(
            "case_id",
            sa.String(length=36),
            nullable=False,
            comment="case it was first attached to; never another",
        ),
        sa.Column(
            "first_time", sa.DateTime(timezone=True), nullable=False, comment="first discovery with this key"
        ),
        sa.Column(
            "last_time", sa.DateTime(timezone=True), nullable=False, comment="last discovery with this key"
        ),
        sa.PrimaryKeyConstraint("span_id", name=op.f("pk_incident_key")),
        comment="Spans of time in which a key was seen; the window is a rule.",
    )
    op.create_index("ix_incident_key_case", "incident_key", ["case_id"], unique=False)
    op.create_index(
        "ix_incident_key_lookup", "incident_key", ["subscriber_id", "key_value", "key_kind"], unique=False
    )
    op.create_table(
        "log_chain",
        sa.Column("chain_id", sa.String(length=64), nullable=False, comment="case id or day:<who>:<date>"),
        sa.Column("key_owner", sa.String(length=64), nullable=False, comment="whose key seals the entries"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="entries in it"),
        sa.Column("head_hash", sa.LargeBinary(), nullable=False, comment="hash of the last entry"),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_log_chain")),
        comment="Chains of the case log; appended to under a lock on the row.",
    )
    op.create_table(
        "log_entry",
        sa.Column("chain_id", sa.String(length=64), nullable=False, comment="chain"),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False, comment="from 1"),
        sa.Column("record_id", sa.String(length=36), nullable=False, comment="UUIDv7 of the record"),
        sa.Column(
            "decision_id",
            sa.String(length=36),
            nullable=True,
            comment="decision that had no case yet; NULL in chains of cases",
        ),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False, comment="LogRecord, sealed"),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False, comment="hash of the entry before"),
        sa.Column("entry_hash", sa.LargeBinary(), nullable=False, comment="SHA-256, see domain/chain.py"),
        sa.PrimaryKeyConstraint("chain_id", "sequence", name=op.f("pk_log_entry")),
        comment="Entries of the case log; never changed.",
    )
    op.create_index(
        "ix_log_entry_first",
        "log_entry",
        ["chain_id"],
        unique=False,
        postgresql_where=sa.text("sequence = 1"),
    )
    op.create_index("ix_log_entry_record", "log_entry", ["record_id"], unique=False)
    op.create_index(
        "ix_log_entry_waiting",
        "log_entry",
        ["decision_id"],
        unique=False,
        postgresql_where=sa.text("decision_id IS NOT NULL"),
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
        sa.Column(
            "partition",
            sa.SmallInteger(),
            nullable=False,
            comment="hash of the subscriber mod N; records + N",
        ),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=True,
            comment="gap-free in the partition; NULL until the relay stamps it",
        ),
        sa.Column("event_id", sa.Text(), nullable=False, comment="UUIDv7"),
        sa.Column("event", sa.Text(), nullable=False, comment="event name in snake case"),
        sa.Column(
            "entity_ref", sa.LargeBinary(), nullable=False, comment="keyed hash of the entity, for parking"
        ),
        sa.Column(
            "payload", sa.LargeBinary(), nullable=False, comment="serialised message: ids, versions, hashes"
        ),
        sa.Column(
            "traceparent", sa.Text(), nullable=False, comment="W3C trace context of the cause; may be empty"
        ),
        sa.Column(
            "create_time", sa.DateTime(timezone=True), nullable=False, comment="real time of insertion"
        ),
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
        sa.Column(
            "published",
            sa.BigInteger(),
            nullable=False,
            comment="last position that the broker has confirmed",
        ),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_outbox_head")),
    )
    op.create_table(
        "request_memory",
        sa.Column(
            "request_key",
            sa.LargeBinary(),
            nullable=False,
            comment="Keyed hash of caller, method and request id.",
        ),
        sa.Column(
            "fingerprint", sa.LargeBinary(), nullable=False, comment="Keyed hash of the request's bytes."
        ),
        sa.Column(
            "resource_id", sa.String(length=64), nullable=False, comment="What the request made or changed."
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="Business time."),
        sa.PrimaryKeyConstraint("request_key", name=op.f("pk_request_memory")),
        comment="Requests already done, so that a repeat does nothing twice.",
    )
    op.create_index(op.f("ix_request_memory_create_time"), "request_memory", ["create_time"], unique=False)
    op.create_table(
        "review_item",
        sa.Column("review_item_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("decision_id", sa.String(length=36), nullable=False, comment="decision"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column("facts", sa.LargeBinary(), nullable=False, comment="MatchFacts: ids and keyed hashes"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when it came in"),
        sa.Column(
            "lease_ref", sa.String(length=16), nullable=False, comment="keyed hash of who leased it, or empty"
        ),
        sa.Column("lease_expire_time", sa.DateTime(timezone=True), nullable=True, comment="end of the lease"),
        sa.Column("done", sa.Boolean(), nullable=False, comment="enough people have labelled it"),
        sa.Column(
            "case_id", sa.String(length=36), nullable=True, comment="case that a MATCH opened or joined"
        ),
        sa.PrimaryKeyConstraint("review_item_id", name=op.f("pk_review_item")),
        comment="What a person decides.",
    )
    op.create_index("ix_review_item_decision", "review_item", ["decision_id"], unique=True)
    op.create_index(
        "ix_review_item_open",
        "review_item",
        ["create_time", "review_item_id"],
        unique=False,
        postgresql_where=sa.text("NOT done"),
    )
    op.create_table(
        "review_label",
        sa.Column("review_item_id", sa.String(length=36), nullable=False, comment="item"),
        sa.Column("reviewer_ref", sa.String(length=16), nullable=False, comment="keyed hash of who said it"),
        sa.Column("label", sa.SmallInteger(), nullable=False, comment="Label"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when said"),
        sa.PrimaryKeyConstraint("review_item_id", "reviewer_ref", name=op.f("pk_review_label")),
        comment="What each reviewer said, blind to the others.",
    )
    op.create_table(
        "sighting",
        sa.Column("sighting_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("decision_id", sa.String(length=36), nullable=False, comment="decision behind it"),
        sa.Column("case_id", sa.String(length=36), nullable=False, comment="case whose key was hit"),
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="subscriber"),
        sa.Column("kind", sa.SmallInteger(), nullable=False, comment="MatchKind"),
        sa.Column("channel", sa.String(length=64), nullable=False, comment="channel id"),
        sa.Column("channel_group", sa.String(length=64), nullable=False, comment="channel group"),
        sa.Column(
            "platform", sa.String(length=64), nullable=False, comment="platform for removal; may be empty"
        ),
        sa.Column("discover_time", sa.DateTime(timezone=True), nullable=False, comment="when found"),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when committed"),
        sa.Column(
            "rule",
            sa.String(length=32),
            nullable=False,
            comment="OPENED, SAME_CLUSTER, SAME_IDENTIFIER, SAME_POST",
        ),
        sa.Column("pack_version", sa.Integer(), nullable=True, comment="first pack with it; NULL before"),
        sa.PrimaryKeyConstraint("sighting_id", name=op.f("pk_sighting")),
        comment="One row per decision that opened or joined a case.",
    )
    op.create_index("ix_sighting_case", "sighting", ["case_id", "create_time", "sighting_id"], unique=False)
    op.create_index("ix_sighting_decision", "sighting", ["decision_id"], unique=True)
    op.create_index(
        "ix_sighting_unpacked",
        "sighting",
        ["case_id"],
        unique=False,
        postgresql_where=sa.text("pack_version IS NULL"),
    )
    op.create_table(
        "subscriber",
        sa.Column("subscriber_id", sa.String(length=36), nullable=False, comment="UUIDv7"),
        sa.Column("state", sa.SmallInteger(), nullable=False, comment="SubscriberState"),
        sa.Column("language", sa.String(length=2), nullable=False, comment="language of notices"),
        sa.Column("minor", sa.Boolean(), nullable=False, comment="may be under 19"),
        sa.Column(
            "sealed_profile", sa.LargeBinary(), nullable=False, comment="name, mail, guardian: sealed JSON"
        ),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, comment="when registered"),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False, comment="last change of state"),
        sa.Column("version", sa.Integer(), nullable=False, comment="rises with every change of state"),
        sa.PrimaryKeyConstraint("subscriber_id", name=op.f("pk_subscriber")),
        comment="Subscribers; every change of a case locks its subscriber's row first.",
    )


def downgrade() -> None:
    """Drops every table."""
    op.drop_table("subscriber")
    op.drop_index(
        "ix_sighting_unpacked", table_name="sighting", postgresql_where=sa.text("pack_version IS NULL")
    )
    op.drop_index("ix_sighting_decision", table_name="sighting")
    op.drop_index("ix_sighting_case", table_name="sighting")
    op.drop_table("sighting")
    op.drop_table("review_label")
    op.drop_index("ix_review_item_open", table_name="review_item", postgresql_where=sa.text("NOT done"))
    op.drop_index("ix_review_item_decision", table_name="review_item")
    op.drop_table("review_item")
    op.drop_index(op.f("ix_request_memory_create_time"), table_name="request_memory")
    op.drop_table("request_memory")
    op.drop_table("outbox_head")
    op.drop_index("ix_outbox_unstamped", table_name="outbox", postgresql_where=sa.text("position IS NULL"))
    op.drop_index("ix_outbox_position", table_name="outbox")
    op.drop_table("outbox")
    op.drop_index(
        "ix_log_entry_waiting", table_name="log_entry", postgresql_where=sa.text("decision_id IS NOT NULL")
    )
    op.drop_index("ix_log_entry_record", table_name="log_entry")
    op.drop_index(
        "ix_log_entry_first", table_name="log_entry", postgresql_where=sa.text("sequence = 1")
    )
    op.drop_table("log_entry")
    op.drop_table("log_chain")
    op.drop_index("ix_incident_key_lookup", table_name="incident_key")
    op.drop_index("ix_incident_key_case", table_name="incident_key")
    op.drop_table("incident_key")
    op.drop_index("ix_evidence_pack_version", table_name="evidence_pack")
    op.drop_table("evidence_pack")
    op.drop_index("ix_due_time", table_name="due")
    op.drop_table("due")
    op.drop_index("ix_dead_letter_order", table_name="dead_letter")
    op.drop_table("dead_letter")
    op.drop_index(
        "ix_consent_standing", table_name="consent", postgresql_where=sa.text("withdraw_time IS NULL")
    )
    op.drop_index("ix_consent_page", table_name="consent")
    op.drop_table("consent")
    op.drop_index("ix_case_separation_subscriber", table_name="case_separation")
    op.drop_table("case_separation")
    op.drop_index("ix_case_removal_request", table_name="case_removal")
    op.drop_table("case_removal")
    op.drop_index("ix_case_alias_into", table_name="case_alias")
    op.drop_table("case_alias")
    op.drop_index("ix_case_subscriber_page", table_name="case")
    op.drop_index("ix_case_root", table_name="case")
    op.drop_index("ix_case_page", table_name="case")
    op.drop_table("case")
    op.drop_table("capture")
    op.drop_table("bus_cursor")
