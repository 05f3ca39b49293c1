"""In which tables the detector keeps what it knows."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.database import NAMING, chassis_tables
from services.chassis.idempotency import request_memory_table

_TIME = DateTime(timezone=True)


class Base(DeclarativeBase):
    """The detector's tables."""

    metadata = MetaData(naming_convention=NAMING)


class ChannelRow(Base):
    """Channels."""

    __tablename__ = "channel"

    channel: Mapped[str] = mapped_column(Text, primary_key=True, comment="channel id")
    channel_group: Mapped[str] = mapped_column(Text, comment="group, one of the Top-10")
    display_name: Mapped[str] = mapped_column(Text, comment="name for people")
    source_type: Mapped[int] = mapped_column(SmallInteger, comment="SourceType")
    level: Mapped[int] = mapped_column(SmallInteger, comment="ChannelLevel")
    paused: Mapped[bool] = mapped_column(comment="nothing is taken in while true")
    platform: Mapped[str] = mapped_column(Text, comment="platform id for removal; may be empty")
    version: Mapped[int] = mapped_column(BigInteger, comment="from 1")
    update_time: Mapped[datetime] = mapped_column(_TIME, comment="business time of the last change")


class SignalMemoryRow(Base):
    """Signals seen, so that a repeat does nothing twice. Kept 90 days."""

    __tablename__ = "signal_memory"

    signal_ref: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="keyed hash of the signal id")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of the signal's bytes")
    state: Mapped[int] = mapped_column(SmallInteger, comment="SignalState")
    none_decision_id: Mapped[str | None] = mapped_column(Text, comment="decision that nobody is concerned")
    kind: Mapped[int] = mapped_column(SmallInteger, comment="MatchKind of that decision; 0 before")
    create_time: Mapped[datetime] = mapped_column(_TIME, index=True, comment="business time of acceptance")


class SpoolRow(Base):
    """Signals waiting for a decision."""

    __tablename__ = "spool"

    spool_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="order of arrival")
    signal_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of the signal id")
    key_id: Mapped[str] = mapped_column(Text, index=True, comment="spool key that sealed the payload")
    payload: Mapped[bytes] = mapped_column(LargeBinary, comment="sealed: the signal")
    size_bytes: Mapped[int] = mapped_column(BigInteger, comment="size of the sealed payload")
    pictures: Mapped[bool] = mapped_column(comment="has pictures: taken in smaller batches")
    traceparent: Mapped[str] = mapped_column(Text, comment="W3C trace context of the submission; may be empty")
    lease: Mapped[str | None] = mapped_column(Text, comment="token of the batch that works on it")
    lease_owner: Mapped[str | None] = mapped_column(Text, comment="instance that works on it")
    lease_until: Mapped[datetime | None] = mapped_column(_TIME, comment="real time; later it is free again")
    attempts: Mapped[int] = mapped_column(SmallInteger, comment="failures of its own")
    parked: Mapped[bool] = mapped_column(
        server_default=false(), comment="kept aside: not taken until its dead letter is replayed"
    )
    receive_time: Mapped[datetime | None] = mapped_column(
        _TIME, comment="real time of its coming; NULL: put in by a release before"
    )

    __table_args__ = (Index("ix_spool_lane", "pictures", "spool_id"),)


class SpoolKeyRow(Base):
    """Spool keys that exist in the key store."""

    __tablename__ = "spool_key"

    key_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="owner name in the key store")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time of first use")


class SubscriberRow(Base):
    """What the detector must know of a subscriber, from the events of `case`."""

    __tablename__ = "subscriber"

    subscriber_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="subscriber")
    minor: Mapped[bool] = mapped_column(comment="under 19: stricter thresholds")
    suspended: Mapped[bool] = mapped_column(comment="nothing is matched while true")
    consents: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="ConsentScope numbers in force")


class FaceTemplateRow(Base):
    """Enrolled faces."""

    __tablename__ = "face_template"

    template_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="whose face")
    state: Mapped[int] = mapped_column(SmallInteger, comment="OwnershipState")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    expire_time: Mapped[datetime | None] = mapped_column(_TIME, comment="end of the proof")
    pictures: Mapped[int] = mapped_column(SmallInteger, comment="pictures it was made of")
    model_ids: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="models it has vectors for")
    vectors: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: vectors by model")
    crop: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: one 112x112 crop, with consent only")
    version: Mapped[int] = mapped_column(BigInteger, comment="from 1")
    index_version: Mapped[int] = mapped_column(BigInteger, index=True, comment="gallery version of its last change")
    source: Mapped[int] = mapped_column(SmallInteger, server_default="1", comment="TemplateSource")
    liveness: Mapped[int] = mapped_column(SmallInteger, server_default="1", comment="Liveness")
    device_ref: Mapped[bytes] = mapped_column(
        LargeBinary, server_default="", comment="keyed hash of the device it was proved on; may be empty"
    )

    __table_args__ = (Index("ix_face_template_subscriber", "subscriber_id", "template_id"),)


class GalleryVersionRow(Base):
    """The version of the gallery: one row, locked by whoever changes a template, so that versions commit in order."""

    __tablename__ = "gallery_version"

    one: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, comment="always 1")
    version: Mapped[int] = mapped_column(BigInteger, comment="grows with every change")


class WatchedIdentifierRow(Base):
    """Watched identifiers."""

    __tablename__ = "watched_identifier"

    watch_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="whose identifier")
    kind: Mapped[int] = mapped_column(SmallInteger, comment="IdentifierKind")
    value_ref: Mapped[bytes | None] = mapped_column(LargeBinary, comment="keyed hash of the canonical value")
    sealed_value: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: value, for re-keying only")
    masked_value: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: masked value")
    state: Mapped[int] = mapped_column(SmallInteger, comment="OwnershipState")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    expire_time: Mapped[datetime | None] = mapped_column(_TIME, comment="end of the proof")
    version: Mapped[int] = mapped_column(BigInteger, comment="from 1")
    device_ref: Mapped[bytes] = mapped_column(
        LargeBinary, server_default="", comment="keyed hash of the device it was proved on; may be empty"
    )

    __table_args__ = (
        Index("ix_watched_identifier_subscriber", "subscriber_id", "watch_id"),
        Index("ix_watched_identifier_value", "value_ref", postgresql_where=text("state = 2")),
        Index("ix_watched_identifier_held", "value_ref", postgresql_where=text("state IN (2, 4)")),
    )


class NonceRow(Base):
    """Nonces of ownership claims, so that none is used twice."""

    __tablename__ = "ownership_nonce"

    nonce_ref: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True, comment="keyed hash of provider and nonce")
    expire_time: Mapped[datetime] = mapped_column(_TIME, index=True, comment="when the claim has run out")


class KnownDeviceRow(Base):
    """Devices on which subscribers were seen."""

    __tablename__ = "known_device"

    subscriber_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="whose device")
    device_ref: Mapped[bytes] = mapped_column(
        LargeBinary, primary_key=True, comment="keyed hash of subscriber and device"
    )
    note_time: Mapped[datetime] = mapped_column(_TIME, comment="business time of the first sight")


class LivenessChallengeRow(Base):
    """Pose challenges, kept for a day."""

    __tablename__ = "liveness_challenge"

    challenge_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="who was asked")
    template_id: Mapped[str] = mapped_column(Text, comment="whose face is to be shown")
    poses: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), comment="Pose numbers in order")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    expire_time: Mapped[datetime] = mapped_column(_TIME, comment="end of the time to answer")
    outcome: Mapped[str] = mapped_column(Text, comment="PASSED or why not; empty until answered")

    __table_args__ = (Index("ix_liveness_challenge_subscriber", "subscriber_id", "create_time"),)


class DuplicateFaceRow(Base):
    """Faces that a second subscriber enrolled, and what reviewers said."""

    __tablename__ = "duplicate_face"

    decision_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="decision of the review item, UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="who enrolled the face second")
    template_id: Mapped[str] = mapped_column(Text, index=True, comment="template that waits")
    holder_id: Mapped[str] = mapped_column(Text, comment="subscriber who has proved the face")
    state: Mapped[int] = mapped_column(SmallInteger, comment="DuplicateState")
    apart_refs: Mapped[list[str]] = mapped_column(
        ARRAY(Text), comment="keyed hashes of reviewers who told them apart"
    )
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")


class ContentRow(Base):
    """Contents that concerned a subscriber, each in its cluster."""

    __tablename__ = "content"

    content_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True, comment="order of decision")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="whom it concerned")
    cluster_id: Mapped[str] = mapped_column(Text, comment="cluster, UUIDv7")
    medium: Mapped[int] = mapped_column(SmallInteger, comment="1 picture, 2 text")
    content_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of subscriber and SHA-256")
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary, comment="sealed: fingerprint or text signature")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    seen_time: Mapped[datetime | None] = mapped_column(_TIME, comment="last seen again, to the day; NULL: never")

    __table_args__ = (
        Index("ix_content_subscriber", "subscriber_id", "content_id"),
        Index("uq_content_ref", "content_ref", unique=True),
    )


class DecisionRow(Base):
    """Decisions that concern a subscriber. Kept for calibration until the retention of scores ends."""

    __tablename__ = "decision"

    decision_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    signal_ref: Mapped[bytes] = mapped_column(LargeBinary, index=True, comment="keyed hash of the signal id")
    subscriber_id: Mapped[str] = mapped_column(Text, index=True, comment="whom it concerns")
    band: Mapped[int] = mapped_column(SmallInteger, comment="Band")
    kind: Mapped[int] = mapped_column(SmallInteger, comment="MatchKind")
    template_id: Mapped[str] = mapped_column(Text, comment="template that decided; empty for text")
    scores: Mapped[bytes] = mapped_column(LargeBinary, comment="sealed: scores")
    capture: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: the capture; NULL once released")
    create_time: Mapped[datetime] = mapped_column(_TIME, index=True, comment="business time")


class DecisionLabelRow(Base):
    """What people said of decisions about faces. They go with their decisions."""

    __tablename__ = "decision_label"

    decision_id: Mapped[str] = mapped_column(
        ForeignKey("decision.decision_id", ondelete="CASCADE"), primary_key=True, comment="decision that was labelled"
    )
    labeller_ref: Mapped[str] = mapped_column(Text, primary_key=True, comment="opaque reference of who labelled")
    source: Mapped[str] = mapped_column(Text, primary_key=True, comment="REVIEWER or ADJUDICATOR")
    verdict: Mapped[str] = mapped_column(Text, comment="MATCH, NO_MATCH or UNSURE")
    sample_id: Mapped[str] = mapped_column(Text, index=True, comment="sample it was labelled for; empty: review item")


class ThresholdEvaluationRow(Base):
    """What labels said of the threshold of faces."""

    __tablename__ = "threshold_evaluation"

    evaluation_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    body: Mapped[bytes] = mapped_column(LargeBinary, comment="ThresholdEvaluation")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")


class ThresholdChangeRow(Base):
    """Thresholds that labels called for and two people allowed; the last of its rules is in force."""

    __tablename__ = "threshold_change"

    evaluation_id: Mapped[str] = mapped_column(
        ForeignKey("threshold_evaluation.evaluation_id"), primary_key=True, comment="evaluation that proposed it"
    )
    number: Mapped[int] = mapped_column(Integer, comment="from 1, among changes of the same rules")
    rules: Mapped[str] = mapped_column(Text, comment="rules it changes, by id and version")
    rules_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 over the values of those rules")
    to_milli: Mapped[int] = mapped_column(Integer, comment="second_match from then on, thousandths")
    proposal_id: Mapped[str] = mapped_column(Text, comment="proposal that two people approved")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")

    __table_args__ = (Index("uq_threshold_change_number", "rules_sha256", "number", unique=True),)


class LinkedAccountRow(Base):
    """Accounts on platforms whose uploads are checked."""

    __tablename__ = "linked_account"

    account_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="whose account")
    platform: Mapped[str] = mapped_column(Text, comment="platform id")
    handle_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of subscriber, platform and name")
    handle: Mapped[bytes] = mapped_column(LargeBinary, comment="sealed: name of the account there")
    warn_about_others: Mapped[bool] = mapped_column(comment="other people's faces are warned about as well")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    version: Mapped[int] = mapped_column(BigInteger, comment="from 1")

    __table_args__ = (
        Index("ix_linked_account_subscriber", "subscriber_id", "account_id"),
        Index("uq_linked_account_handle_ref", "handle_ref", unique=True),
    )


class UploadCheckRow(Base):
    """Checks before uploads: what was found, never what was checked."""

    __tablename__ = "upload_check"

    upload_check_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="whose upload")
    account_id: Mapped[str] = mapped_column(Text, comment="linked account it goes to")
    case_id: Mapped[str] = mapped_column(Text, comment="case of the warning; empty where nothing was found")
    state: Mapped[int] = mapped_column(SmallInteger, comment="CheckState")
    image_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of check and picture; may be empty")
    text_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of check and text; may be empty")
    skipped: Mapped[list[str]] = mapped_column(ARRAY(Text), comment="what was not looked at")
    findings: Mapped[bytes] = mapped_column(LargeBinary, comment="sealed: kinds, places, severity")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    answer_by: Mapped[datetime | None] = mapped_column(_TIME, comment="end of the time to answer")
    resolve_time: Mapped[datetime | None] = mapped_column(_TIME, comment="business time of the answer")
    version: Mapped[int] = mapped_column(BigInteger, comment="from 1")

    __table_args__ = (
        Index("ix_upload_check_subscriber", "subscriber_id", "upload_check_id"),
        Index("ix_upload_check_recent", "subscriber_id", "create_time"),
    )


class RedactionRow(Base):
    """Redacted uploads, each sealed under a key of its own that goes with the row."""

    __tablename__ = "redaction"

    upload_check_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="check it belongs to")
    subscriber_id: Mapped[str] = mapped_column(Text, index=True, comment="whose upload")
    image: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: the redacted picture")
    text: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed: the masked text")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")


chassis_tables(Base.metadata)
request_memory_table(Base.metadata)


class ChannelScanRow(Base):
    """Scans that were asked for."""

    __tablename__ = "channel_scan"
    __table_args__ = (Index("ix_channel_scan_channel", "channel", "request_time"),)

    scan_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    channel: Mapped[str] = mapped_column(Text, comment="channel id")
    channel_group: Mapped[str] = mapped_column(Text, comment="its group")
    level: Mapped[str] = mapped_column(Text, comment="level when it was asked for")
    channel_version: Mapped[int] = mapped_column(BigInteger, comment="version of the channel then")
    max_signals: Mapped[int] = mapped_column(Integer, comment="signals wanted at most")
    request_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    end_time: Mapped[datetime] = mapped_column(_TIME, comment="when it ends by itself, or ended")
    ended: Mapped[bool] = mapped_column(comment="whether it has ended")
    accepted: Mapped[int] = mapped_column(Integer, comment="signals of it that were accepted")
    refused: Mapped[int] = mapped_column(Integer, comment="signals of it that were refused")


class SightingReportRow(Base):
    """Where subscribers saw something."""

    __tablename__ = "sighting_report"
    __table_args__ = (Index("ix_sighting_report_subscriber", "subscriber_id", "create_time"),)

    report_id: Mapped[str] = mapped_column(Text, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(Text, comment="who reported it")
    signal_id: Mapped[str] = mapped_column(Text, comment="signal that it becomes")
    channel: Mapped[str] = mapped_column(Text, comment="channel that the address belongs to")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="business time")
    sealed: Mapped[bytes] = mapped_column(LargeBinary, comment="address and note, sealed; empty once it is a signal")
    state: Mapped[str] = mapped_column(Text, comment="RECEIVED, SUBMITTED, GONE, NOT_LOOKED_AT, REFUSED")
    reason: Mapped[str] = mapped_column(Text, comment="rule behind it, or empty")
    tries: Mapped[int] = mapped_column(SmallInteger, comment="looks so far that were too early")
