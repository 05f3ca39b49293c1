"""Which tables does `case` keep?

Columns named `sealed_*` hold ciphertext under the subscriber's own key; the place (table, column, row id) is
authenticated with it. No other column holds personal data.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    any_,
    literal,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.database import NAMING, chassis_tables, table_of
from services.chassis.idempotency import request_memory_table


class Base(DeclarativeBase):
    """Metadata of this service, the chassis' tables included."""

    metadata = MetaData(naming_convention=NAMING)


chassis_tables(Base.metadata)
request_memory_table(Base.metadata)

_UUID = String(36)
_TIME = DateTime(timezone=True)


class SubscriberRow(Base):
    """Subscribers."""

    __tablename__ = "subscriber"
    __table_args__ = ({"comment": "Subscribers; every change of a case locks its subscriber's row first."},)
    subscriber_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    state: Mapped[int] = mapped_column(SmallInteger, comment="SubscriberState")
    language: Mapped[str] = mapped_column(String(2), comment="language of notices")
    minor: Mapped[bool] = mapped_column(Boolean, comment="may be under 19")
    sealed_profile: Mapped[bytes] = mapped_column(LargeBinary, comment="name, mail, guardian: sealed JSON")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when registered")
    update_time: Mapped[datetime] = mapped_column(_TIME, comment="last change of state")
    version: Mapped[int] = mapped_column(Integer, comment="rises with every change of state")


class ConsentRow(Base):
    """The consent ledger: rows are added and marked as withdrawn, never removed."""

    __tablename__ = "consent"
    __table_args__ = (
        Index(
            "ix_consent_standing",
            "subscriber_id",
            "scope",
            unique=True,
            postgresql_where=text("withdraw_time IS NULL"),
        ),
        Index("ix_consent_page", "subscriber_id", "give_time", "consent_id"),
        {"comment": "Consents, one standing at most per subscriber and scope."},
    )
    consent_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    scope: Mapped[int] = mapped_column(SmallInteger, comment="ConsentScope")
    text_version: Mapped[str] = mapped_column(String(64), comment="version of the text that was shown")
    give_time: Mapped[datetime] = mapped_column(_TIME, comment="when given")
    withdraw_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when withdrawn")


class CaseRow(Base):
    """Cases."""

    __tablename__ = "case"
    __table_args__ = (
        Index("ix_case_root", "root_case_id"),
        Index("ix_case_page", "create_time", "case_id"),
        Index("ix_case_subscriber_page", "subscriber_id", "create_time", "case_id"),
        Index("ix_case_state_page", "state", "create_time", "case_id"),
        Index("ix_case_priority_page", "priority", "create_time", "case_id"),
        Index("ix_case_deadline_page", "deadline_time", "case_id", postgresql_where=text("deadline_time IS NOT NULL")),
        Index("ix_case_where", "kinds", "channel_groups", postgresql_using="gin"),
        {"comment": "Cases; ids never change, a merge only sets root_case_id."},
    )
    case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    root_case_id: Mapped[str] = mapped_column(_UUID, comment="root of the incident, derived from case_alias")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    kinds: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="CaseKind, the first is primary")
    state: Mapped[int] = mapped_column(SmallInteger, comment="CaseState")
    resolution: Mapped[int] = mapped_column(SmallInteger, comment="Resolution")
    channel_groups: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="groups it was seen in")
    sighting_count: Mapped[int] = mapped_column(BigInteger, comment="sightings of the incident while a root")
    discover_time: Mapped[datetime] = mapped_column(_TIME, comment="first discovery")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="commit of the case, by the service's clock")
    update_time: Mapped[datetime] = mapped_column(_TIME, comment="last change")
    latency_ms: Mapped[int] = mapped_column(BigInteger, comment="first discovery to commit")
    version: Mapped[int] = mapped_column(BigInteger, comment="rises with every change")
    verdict: Mapped[int] = mapped_column(SmallInteger, comment="SubscriberVerdict")
    occurrence: Mapped[int] = mapped_column(Integer, comment="how often reopened")
    due_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when the next thing is due")
    merged_from_state: Mapped[int | None] = mapped_column(SmallInteger, comment="state before the merge")
    merged_from_resolution: Mapped[int] = mapped_column(SmallInteger, comment="resolution before the merge")
    state_time: Mapped[datetime] = mapped_column(_TIME, comment="since when in its state")
    close_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when closed; NULL while it is not")
    reasons: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="PriorityReason of its sightings")
    priority: Mapped[int] = mapped_column(SmallInteger, comment="Priority, follows from the reasons by the rules")
    deadline_time: Mapped[datetime | None] = mapped_column(
        _TIME, comment="when it should have left its state, by the rules; NULL for none"
    )
    burst_time: Mapped[datetime | None] = mapped_column(_TIME, comment="commit of the first sighting of a burst")
    burst_count: Mapped[int] = mapped_column(Integer, comment="sightings of the burst")
    recurrence_of: Mapped[str] = mapped_column(_UUID, comment="case closed long before with the content, or empty")


class CaseAliasRow(Base):
    """Merges in force."""

    __tablename__ = "case_alias"
    __table_args__ = (
        Index("ix_case_alias_into", "into_case_id"),
        {"comment": "Merges: the truth behind root_case_id. An un-merge deletes the row."},
    )
    merged_case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="case that became an alias")
    into_case_id: Mapped[str] = mapped_column(_UUID, comment="root that it was merged into")
    rule: Mapped[str] = mapped_column(String(32), comment="SAME_CLUSTER … OPERATOR")
    rule_version: Mapped[str] = mapped_column(String(64), comment="version of the incident rules")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when merged")
    before_state: Mapped[int | None] = mapped_column(SmallInteger, comment="state of the root before the merge")
    before_resolution: Mapped[int | None] = mapped_column(SmallInteger, comment="its resolution")
    before_state_time: Mapped[datetime | None] = mapped_column(_TIME, comment="since when it was in that state")
    before_close_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it had been closed")


class CaseSeparationRow(Base):
    """Un-merges in force: no fact merges the two sides again, a person may."""

    __tablename__ = "case_separation"
    __table_args__ = (
        Index("ix_case_separation_subscriber", "subscriber_id"),
        {"comment": "Pairs of cases that a person parted."},
    )
    case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="case that was parted")
    from_case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="case it was parted from")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber of both")


class IncidentKeyRow(Base):
    """The keys by which facts find their case."""

    __tablename__ = "incident_key"
    __table_args__ = (
        Index("ix_incident_key_lookup", "subscriber_id", "key_value", "key_kind"),
        Index("ix_incident_key_case", "case_id"),
        {"comment": "Spans of time in which a key was seen; the window is a rule."},
    )
    span_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="row id")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    key_kind: Mapped[str] = mapped_column(String(16), comment="CLUSTER, IDENTIFIER, POST")
    key_value: Mapped[str] = mapped_column(String(64), comment="opaque id or keyed hash in hex")
    case_id: Mapped[str] = mapped_column(_UUID, comment="case it was first attached to; never another")
    first_time: Mapped[datetime] = mapped_column(_TIME, comment="first discovery with this key")
    last_time: Mapped[datetime] = mapped_column(_TIME, comment="last discovery with this key")


class SightingRow(Base):
    """Sightings; also the link from a decision to its case."""

    __tablename__ = "sighting"
    __table_args__ = (
        Index("ix_sighting_decision", "decision_id", unique=True),
        Index("ix_sighting_case", "case_id", "create_time", "sighting_id"),
        Index("ix_sighting_unpacked", "case_id", postgresql_where=text("pack_version IS NULL")),
        {"comment": "One row per decision that opened or joined a case."},
    )
    sighting_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    decision_id: Mapped[str] = mapped_column(_UUID, comment="decision behind it")
    case_id: Mapped[str] = mapped_column(_UUID, comment="case whose key was hit")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    kind: Mapped[int] = mapped_column(SmallInteger, comment="MatchKind")
    channel: Mapped[str] = mapped_column(String(64), comment="channel id")
    channel_group: Mapped[str] = mapped_column(String(64), comment="channel group")
    platform: Mapped[str] = mapped_column(String(64), comment="platform for removal; may be empty")
    discover_time: Mapped[datetime] = mapped_column(_TIME, comment="when found")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when committed")
    rule: Mapped[str] = mapped_column(String(32), comment="OPENED, SAME_CLUSTER, SAME_IDENTIFIER, SAME_POST")
    pack_version: Mapped[int | None] = mapped_column(Integer, comment="first pack with it; NULL before")
    reasons: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="PriorityReason: what in it is urgent")


class SearchTextRow(Base):
    """Tags of the words of masked texts."""

    __tablename__ = "search_text"
    __table_args__ = (
        Index("ix_search_text_tags", "tags", postgresql_using="gin"),
        Index("ix_search_text_case", "case_id"),
        Index("ix_search_text_subscriber", "subscriber_id"),
        {
            "comment": "Keyed tags of words; made anew from the captures after a crash of the database.",
            # Never in pg_wal nor in a base backup: what is deleted here leaves no trace there.
            "prefixes": ["UNLOGGED"],
        },
    )
    decision_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="decision whose capture has the text")
    case_id: Mapped[str] = mapped_column(_UUID, comment="case of its sighting")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    tags: Mapped[list[int]] = mapped_column(ARRAY(Integer), comment="four bytes of a keyed hash of each word")


class CaptureRow(Base):
    """What the detector kept of a decision, handed over."""

    __tablename__ = "capture"
    __table_args__ = ({"comment": "Captures fetched from the detector, sealed."},)
    decision_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="decision")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber, owner of the key")
    sealed_capture: Mapped[bytes] = mapped_column(LargeBinary, comment="Capture message; empty if none")
    sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="of the message as it was taken over")
    fetch_time: Mapped[datetime] = mapped_column(_TIME, comment="when fetched")
    purpose: Mapped[int] = mapped_column(SmallInteger, comment="Purpose it was fetched for")
    released: Mapped[bool] = mapped_column(Boolean, comment="the detector's copy is gone")


class EvidencePackRow(Base):
    """Evidence packs."""

    __tablename__ = "evidence_pack"
    __table_args__ = (
        Index("ix_evidence_pack_version", "case_id", "version", unique=True),
        {"comment": "Evidence packs by root case and version, sealed."},
    )
    pack_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    case_id: Mapped[str] = mapped_column(_UUID, comment="root case when built")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber, owner of the key")
    version: Mapped[int] = mapped_column(Integer, comment="from 1")
    manifest_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="of the canonical manifest")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="size of the archive")
    items: Mapped[int] = mapped_column(Integer, comment="sightings that it names")
    sealed_archive: Mapped[bytes] = mapped_column(LargeBinary, comment="ZIP, sealed")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when built")
    verdict: Mapped[int] = mapped_column(
        SmallInteger, server_default="0", comment="SubscriberVerdict when it was built"
    )


class CaseRemovalRow(Base):
    """Removal requests as their events tell them."""

    __tablename__ = "case_removal"
    __table_args__ = (
        Index("ix_case_removal_request", "removal_request_id"),
        {"comment": "Which removal requests a case has and where they stand."},
    )
    case_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="case named by the event")
    removal_request_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="request")
    state: Mapped[int] = mapped_column(SmallInteger, comment="RemovalState")
    update_time: Mapped[datetime] = mapped_column(_TIME, comment="of the last event")


class ReviewItemRow(Base):
    """Review items."""

    __tablename__ = "review_item"
    __table_args__ = (
        Index("ix_review_item_decision", "decision_id", "sample_id", unique=True),
        Index("ix_review_item_open", "due_time", "review_item_id", postgresql_where=text("NOT done")),
        Index(
            "ix_review_item_disputed",
            "create_time",
            "review_item_id",
            postgresql_where=text("disputed AND outcome = 0"),
        ),
        Index("ix_review_item_subscriber", "subscriber_id"),
        Index("ix_review_item_case", "case_id", postgresql_where=text("outcome = 0 AND sample_id = ''")),
        {"comment": "What people decide, in the review band or for a frozen sample."},
    )
    review_item_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    decision_id: Mapped[str] = mapped_column(_UUID, comment="decision")
    subscriber_id: Mapped[str] = mapped_column(_UUID, comment="subscriber")
    facts: Mapped[bytes] = mapped_column(LargeBinary, comment="MatchFacts: ids and keyed hashes")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when it came in")
    lease_ref: Mapped[str] = mapped_column(String(16), comment="keyed hash of who leased it, or empty")
    lease_time: Mapped[datetime | None] = mapped_column(_TIME, comment="start of the lease")
    lease_expire_time: Mapped[datetime | None] = mapped_column(_TIME, comment="end of the lease")
    done: Mapped[bool] = mapped_column(Boolean, comment="enough people have labelled it")
    case_id: Mapped[str | None] = mapped_column(_UUID, comment="case that a MATCH opened or joined, or that exists")
    sample_id: Mapped[str] = mapped_column(
        _UUID, server_default="", comment="frozen sample, or empty in the review band"
    )
    due_time: Mapped[datetime | None] = mapped_column(_TIME, comment="by when it should be settled")
    escalations: Mapped[int] = mapped_column(Integer, server_default="0", comment="how often escalated")
    disputed: Mapped[bool] = mapped_column(Boolean, server_default=text("false"), comment="the labels do not agree")
    outcome: Mapped[int] = mapped_column(
        SmallInteger, server_default="0", comment="Label that it came to; 0 while open"
    )


class ReviewLabelRow(Base):
    """Labels, one per person and item."""

    __tablename__ = "review_label"
    __table_args__ = ({"comment": "What each reviewer said, blind to the others."},)
    review_item_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="item")
    reviewer_ref: Mapped[str] = mapped_column(String(16), primary_key=True, comment="keyed hash of who said it")
    label: Mapped[int] = mapped_column(SmallInteger, comment="Label")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when said")


class LogChainRow(Base):
    """Heads of the chains."""

    __tablename__ = "log_chain"
    __table_args__ = ({"comment": "Chains of the case log; appended to under a lock on the row."},)
    chain_id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="case id or day:<who>:<date>")
    key_owner: Mapped[str] = mapped_column(String(64), comment="whose key seals the entries")
    sequence: Mapped[int] = mapped_column(BigInteger, comment="entries in it")
    head_hash: Mapped[bytes] = mapped_column(LargeBinary, comment="hash of the last entry")


class LogEntryRow(Base):
    """Entries of the chains."""

    __tablename__ = "log_entry"
    __table_args__ = (
        Index("ix_log_entry_record", "record_id"),
        Index("ix_log_entry_first", "chain_id", postgresql_where=text("sequence = 1")),
        Index(
            "ix_log_entry_waiting",
            "decision_id",
            postgresql_where=text("decision_id IS NOT NULL"),
        ),
        {"comment": "Entries of the case log; never changed."},
    )
    chain_id: Mapped[str] = mapped_column(String(64), primary_key=True, comment="chain")
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False, comment="from 1")
    record_id: Mapped[str] = mapped_column(_UUID, comment="UUIDv7 of the record")
    decision_id: Mapped[str | None] = mapped_column(
        _UUID, comment="decision that had no case yet; NULL in chains of cases"
    )
    ciphertext: Mapped[bytes] = mapped_column(LargeBinary, comment="LogRecord, sealed")
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary, comment="hash of the entry before")
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256, see domain/chain.py")


class ErasureRow(Base):
    """Erasures of subscribers."""

    __tablename__ = "erasure"
    __table_args__ = (
        Index("ix_erasure_subscriber", "subscriber_id", unique=True),
        Index("ix_erasure_page", "request_time", "erasure_id"),
        {"comment": "Who has answered which round; names its subscriber until it is complete."},
    )
    erasure_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str | None] = mapped_column(_UUID, comment="whom; NULL once complete")
    request_time: Mapped[datetime] = mapped_column(_TIME, comment="when asked for")
    due_time: Mapped[datetime] = mapped_column(_TIME, comment="when it must be complete")
    ask_time: Mapped[datetime] = mapped_column(_TIME, comment="when the round that runs was, or is, asked")
    waiting_for: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="services that have not answered it")
    round: Mapped[int] = mapped_column(SmallInteger, comment="from 1")
    complete_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when everybody had answered")


class ProposalRow(Base):
    """Proposals of what two people decide."""

    __tablename__ = "proposal"
    __table_args__ = (
        Index("ix_proposal_page", "create_time", "proposal_id"),
        {"comment": "Decisions of two people. Body and reason are sealed under a key of the service."},
    )
    proposal_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    kind: Mapped[str] = mapped_column(String(32), comment="GATE_OVERRIDE and so on")
    sealed_body: Mapped[bytes] = mapped_column(LargeBinary, comment="what is proposed, sealed")
    sealed_reason: Mapped[bytes] = mapped_column(LargeBinary, comment="why, sealed")
    sealed_rejection: Mapped[bytes | None] = mapped_column(LargeBinary, comment="why it was rejected, sealed")
    state: Mapped[str] = mapped_column(String(16), comment="PROPOSED, APPROVED, REJECTED, EXPIRED")
    proposer_ref: Mapped[str] = mapped_column(String(16), comment="keyed hash of who proposed")
    approver_refs: Mapped[list[str]] = mapped_column(ARRAY(String(16)), comment="keyed hashes of who approved")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when proposed")
    expire_time: Mapped[datetime] = mapped_column(_TIME, comment="end of the time to decide")
    decide_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when decided or expired")
    version: Mapped[int] = mapped_column(Integer, comment="rises with every change")


class AccessEntryRow(Base):
    """The access log."""

    __tablename__ = "access_entry"
    __table_args__ = (
        Index("ix_access_entry_subscriber", "subscriber_id", "occur_time", "entry_id"),
        Index("ix_access_entry_time", "occur_time", "entry_id"),
        {"comment": "Who read whose personal data, from all services; two years."},
    )
    entry_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    reading_id: Mapped[str] = mapped_column(_UUID, comment="one answer; may have read of several people")
    subscriber_id: Mapped[str | None] = mapped_column(_UUID, comment="whose data; NULL for nobody's")
    method: Mapped[str] = mapped_column(String(128), comment="full name of the method")
    classes: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="DataClass numbers")
    role: Mapped[int] = mapped_column(SmallInteger, comment="Role of the reader")
    actor_ref: Mapped[str] = mapped_column(String(16), comment="keyed hash of the reader")
    sealed_actor: Mapped[bytes] = mapped_column(LargeBinary, comment="staff id of the reader, sealed")
    purpose: Mapped[int] = mapped_column(SmallInteger, comment="Purpose stated")
    origin: Mapped[str] = mapped_column(String(16), comment="class of the peer")
    field: Mapped[str] = mapped_column(String(64), comment="name of what was read")
    thing_id: Mapped[str] = mapped_column(String(64), comment="its opaque id; empty for the subscriber")
    reason: Mapped[str] = mapped_column(String(64), comment="UPPER_SNAKE, STATED, or empty")
    occur_time: Mapped[datetime] = mapped_column(_TIME, comment="when")


class RightsRequestRow(Base):
    """Requests about one's own data."""

    __tablename__ = "rights_request"
    __table_args__ = (
        Index("ix_rights_request_page", "due_time", "rights_request_id"),
        Index("ix_rights_request_open", "due_time", "rights_request_id", postgresql_where=text("state = 'RECEIVED'")),
        Index("ix_rights_request_subscriber", "subscriber_id", "due_time", "rights_request_id"),
        Index("ix_rights_request_erasure", "erasure_id", postgresql_where=text("erasure_id <> ''")),
        {"comment": "Requests about one's own data; outlive their subscriber without naming anybody."},
    )
    rights_request_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str | None] = mapped_column(_UUID, comment="whose data; NULL once erased")
    type: Mapped[str] = mapped_column(String(16), comment="ACCESS and so on")
    requester: Mapped[str] = mapped_column(String(24), comment="SELF, LEGAL_REPRESENTATIVE, AGENT")
    identity_basis: Mapped[str] = mapped_column(String(64), comment="how it was checked who asks")
    document_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="of the mandate; empty for SELF")
    sealed_words: Mapped[bytes | None] = mapped_column(LargeBinary, comment="what was said, sealed; NULL once erased")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when it came in")
    due_time: Mapped[datetime] = mapped_column(_TIME, comment="deadline, put off or not")
    rule_version: Mapped[str] = mapped_column(String(64), comment="rules that set the deadline")
    state: Mapped[str] = mapped_column(String(16), comment="RECEIVED, FULFILLED, REJECTED")
    extensions: Mapped[int] = mapped_column(SmallInteger, comment="how often it was put off")
    extension_reason: Mapped[str] = mapped_column(String(64), comment="why, the last time; or empty")
    answer_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when answered")
    reason: Mapped[str] = mapped_column(String(64), comment="why it was rejected, or empty")
    erasure_id: Mapped[str] = mapped_column(_UUID, comment="erasure that fulfils it, or empty")
    answer_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="of the answer; empty for none")
    sealed_answer: Mapped[bytes | None] = mapped_column(LargeBinary, comment="the answer, sealed; NULL once purged")
    version: Mapped[int] = mapped_column(Integer, comment="rises with every change")


class PurgeItemRow(Base):
    """The list of what is purged."""

    __tablename__ = "purge_item"
    __table_args__ = (
        Index("ix_purge_item_thing", "service", "item_kind", "item_id", unique=True),
        Index("ix_purge_item_due", "due_time", "entry_id", postgresql_where=text("purge_time IS NULL")),
        Index("ix_purge_item_purged", "purge_time", "entry_id", postgresql_where=text("purge_time IS NOT NULL")),
        {"comment": "What is due for purge in any service and what was purged, as the records tell it."},
    )
    entry_id: Mapped[str] = mapped_column(_UUID, primary_key=True, comment="UUIDv7")
    service: Mapped[str] = mapped_column(String(32), comment="who purges it")
    item_kind: Mapped[str] = mapped_column(String(64), comment="SPOOL_KEY and so on")
    item_id: Mapped[str] = mapped_column(String(128), comment="its opaque id")
    due_time: Mapped[datetime] = mapped_column(_TIME, comment="when it is due")
    rule: Mapped[str] = mapped_column(String(64), comment="rule that made it due")
    purge_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it was purged")
    record_id: Mapped[str] = mapped_column(_UUID, comment="record of the purge, or empty")


def among(column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
    """`column = ANY(values)`: one statement for any number of values, so it is compiled and planned once."""
    return column == any_(literal(list(values), ARRAY(Text)))


SUBSCRIBER = table_of(SubscriberRow)
CONSENT = table_of(ConsentRow)
CASE = table_of(CaseRow)
CASE_ALIAS = table_of(CaseAliasRow)
CASE_SEPARATION = table_of(CaseSeparationRow)
INCIDENT_KEY = table_of(IncidentKeyRow)
SIGHTING = table_of(SightingRow)
SEARCH_TEXT = table_of(SearchTextRow)
CAPTURE = table_of(CaptureRow)
EVIDENCE_PACK = table_of(EvidencePackRow)
CASE_REMOVAL = table_of(CaseRemovalRow)
REVIEW_ITEM = table_of(ReviewItemRow)
REVIEW_LABEL = table_of(ReviewLabelRow)
LOG_CHAIN = table_of(LogChainRow)
LOG_ENTRY = table_of(LogEntryRow)
ERASURE = table_of(ErasureRow)
PROPOSAL = table_of(ProposalRow)
ACCESS_ENTRY = table_of(AccessEntryRow)
RIGHTS_REQUEST = table_of(RightsRequestRow)
PURGE_ITEM = table_of(PurgeItemRow)
