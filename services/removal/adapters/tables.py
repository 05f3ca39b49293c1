"""Which tables does removal keep?"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from services.chassis.database import chassis_tables, new_base

Base = new_base()
_TIME = DateTime(timezone=True)
_ID = String(36)


class SubscriberRow(Base):  # type: ignore[valid-type, misc] # the base is made by a function, for each service its own
    """A subscriber as far as removal must know."""

    __tablename__ = "subscriber"
    subscriber_id: Mapped[str] = mapped_column(_ID, primary_key=True, comment="UUIDv7")
    language: Mapped[str] = mapped_column(String(8), comment="language of notices: ko or en")
    suspended: Mapped[bool] = mapped_column(comment="processing is stopped (PIPA 37): nothing is sent")
    removal_consent: Mapped[bool] = mapped_column(comment="consent to removal on behalf stands")


class SightingRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """A packed sighting with a platform: where a request comes from."""

    __tablename__ = "packed_sighting"
    sighting_id: Mapped[str] = mapped_column(_ID, primary_key=True, comment="UUIDv7, made by case")
    case_id: Mapped[str] = mapped_column(_ID, comment="root case when it was packed")
    subscriber_id: Mapped[str] = mapped_column(_ID, comment="UUIDv7")
    platform: Mapped[str] = mapped_column(String(32), comment="platform id")
    pack_version: Mapped[int] = mapped_column(Integer, comment="version of the evidence pack that holds it")
    outcome: Mapped[str] = mapped_column(String(63), comment="PENDING, PREPARED, or why there is no request")
    request_id: Mapped[str | None] = mapped_column(_ID, comment="request that came of it")
    __table_args__ = (
        Index("ix_packed_sighting_case_id", "case_id"),
        Index("ix_packed_sighting_waiting", "subscriber_id", postgresql_where=text("outcome <> 'PREPARED'")),
    )


class MandateRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """A signed document by which the subscriber lets us file."""

    __tablename__ = "mandate"
    mandate_id: Mapped[str] = mapped_column(_ID, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(_ID, index=True, comment="UUIDv7")
    platforms: Mapped[list[str]] = mapped_column(ARRAY(String(32)), comment="platforms; empty covers all")
    document_sha256: Mapped[bytes] = mapped_column(LargeBinary, comment="SHA-256 of the signed document")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when granted")
    expire_time: Mapped[datetime] = mapped_column(_TIME, comment="when it ends")
    revoke_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when revoked")
    scope: Mapped[list[str]] = mapped_column(ARRAY(String(16)), comment="what it lets us do: FILE, SUPPLEMENT")


class RequestRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """A removal request."""

    __tablename__ = "removal_request"
    request_id: Mapped[str] = mapped_column(_ID, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(_ID, comment="UUIDv7")
    platform: Mapped[str] = mapped_column(String(32), comment="platform id")
    url_ref: Mapped[bytes] = mapped_column(LargeBinary, comment="keyed hash of the normalised address")
    episode: Mapped[int] = mapped_column(SmallInteger, comment="from 1; the next when the content reappears")
    sighting_id: Mapped[str] = mapped_column(_ID, comment="sighting that it was made from")
    state: Mapped[str] = mapped_column(String(16), comment="where it stands")
    reason: Mapped[str] = mapped_column(String(63), comment="why, UPPER_SNAKE; may be empty")
    policy_version: Mapped[str] = mapped_column(String(80), comment="version of the policy template")
    path: Mapped[str] = mapped_column(String(16), comment="HTTP_FORM, SMTP, API, PERSON")
    missing: Mapped[list[str]] = mapped_column(ARRAY(String(32)), comment="required fields that nobody could fill")
    evidence_sealed: Mapped[bytes] = mapped_column(
        LargeBinary, comment="address and facts of the capture, sealed with the subscriber's key"
    )
    version: Mapped[int] = mapped_column(Integer, comment="from 1, rising with every change of state")
    create_time: Mapped[datetime] = mapped_column(_TIME, comment="when made")
    receive_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when the platform first accepted it")
    end_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it ended")
    block_until: Mapped[datetime | None] = mapped_column(_TIME, comment="end of a temporary block")
    submit_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it first went out")
    state_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it came into its state")
    slot_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when its turn at the platform comes")
    claim_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when the platform said it is gone, unseen yet")
    gone_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it first looked gone, unconfirmed yet")
    looks: Mapped[int] = mapped_column(SmallInteger, comment="looks at the page in its state")
    look_time: Mapped[datetime | None] = mapped_column(_TIME, comment="latest look at the page")
    released: Mapped[list[str]] = mapped_column(ARRAY(String(16)), comment="holds that were lifted for good")
    marks: Mapped[list[str]] = mapped_column(ARRAY(String(32)), comment="what was reminded of in its state")
    groundless: Mapped[bool] = mapped_column(comment="the platform found no ground for it")
    previous_id: Mapped[str] = mapped_column(_ID, comment="request of the episode before; may be empty")
    joined_id: Mapped[str] = mapped_column(
        _ID,
        server_default=text("''"),
        comment="another subscriber's request about the same page that it waits for; may be empty",
    )
    baseline_sealed: Mapped[bytes] = mapped_column(
        LargeBinary, comment="what the page looked like, sealed with the subscriber's key; may be empty"
    )
    __table_args__ = (
        Index("ux_removal_request_page", "subscriber_id", "url_ref", "platform", "episode", unique=True),
        Index("ix_removal_request_newest", "create_time", "request_id"),
        Index("ix_removal_request_own", "subscriber_id", "create_time", "request_id"),
        Index("ix_removal_request_state", "state", "create_time", "request_id"),
        Index("ix_removal_request_decided", "platform", "state_time"),
        Index("ix_removal_request_url", "url_ref", "platform"),
        Index("ix_removal_request_joined", "joined_id", postgresql_where=text("joined_id <> ''")),
    )


class RequestCaseRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """Which cases a request belongs to (n : m)."""

    __tablename__ = "request_case"
    request_id: Mapped[str] = mapped_column(
        ForeignKey("removal_request.request_id", ondelete="CASCADE"), primary_key=True, comment="request"
    )
    case_id: Mapped[str] = mapped_column(_ID, primary_key=True, index=True, comment="case")
    via: Mapped[str] = mapped_column(
        String(36), primary_key=True, comment="case that was merged into case_id; empty where it is its own"
    )
    closed: Mapped[bool] = mapped_column(comment="the case was closed as a false positive or withdrawn")


class AttemptRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """An attempt of a request."""

    __tablename__ = "attempt"
    request_id: Mapped[str] = mapped_column(
        ForeignKey("removal_request.request_id", ondelete="CASCADE"), primary_key=True, comment="request"
    )
    number: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, comment="from 1")
    outcome: Mapped[str] = mapped_column(String(16), comment="INTENDED, SENT, ACCEPTED, REFUSED, UNCERTAIN")
    in_flight: Mapped[bool] = mapped_column(comment="sending was begun and its result not recorded")
    tries: Mapped[int] = mapped_column(SmallInteger, comment="how often sending was begun")
    send_time: Mapped[datetime | None] = mapped_column(_TIME, comment="when it was sent")
    reference: Mapped[str] = mapped_column(String(128), comment="the platform's reference; may be empty")
    reason: Mapped[str] = mapped_column(Text, comment="why, UPPER_SNAKE; may be empty")
    attempt_id: Mapped[str] = mapped_column(_ID, comment="UUIDv5 that replies may quote")
    __table_args__ = (
        Index("ix_attempt_attempt_id", "attempt_id"),
        Index("ix_attempt_reference", "reference", postgresql_where=text("reference <> ''")),
    )


class GateRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """What stands between our requests and one platform."""

    __tablename__ = "platform_gate"
    platform: Mapped[str] = mapped_column(String(32), primary_key=True, comment="platform id")
    held: Mapped[str] = mapped_column(String(63), comment="why nothing goes there until people let it; may be empty")
    pause_until: Mapped[datetime | None] = mapped_column(_TIME, comment="nothing goes there before")
    failures: Mapped[int] = mapped_column(Integer, comment="failures in a row")
    minute_time: Mapped[datetime | None] = mapped_column(_TIME, comment="theoretical arrival time, limit a minute")
    day_time: Mapped[datetime | None] = mapped_column(_TIME, comment="theoretical arrival time, limit a day")


class VoteRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """Who agrees that something goes on."""

    __tablename__ = "vote"
    subject: Mapped[str] = mapped_column(String(64), primary_key=True, comment="request:<id> or platform:<id>")
    actor_ref: Mapped[str] = mapped_column(String(16), primary_key=True, comment="keyed hash of who agrees")
    vote_time: Mapped[datetime] = mapped_column(_TIME, comment="when")


class ReplyRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """A reply of a platform."""

    __tablename__ = "platform_reply"
    reply_id: Mapped[str] = mapped_column(_ID, primary_key=True, comment="UUIDv7")
    message_ref: Mapped[bytes] = mapped_column(
        LargeBinary, unique=True, comment="keyed hash of what makes it the same when it comes twice"
    )
    request_id: Mapped[str] = mapped_column(
        ForeignKey("removal_request.request_id", ondelete="CASCADE"), index=True, comment="request it is about"
    )
    platform: Mapped[str] = mapped_column(String(32), comment="platform id")
    channel: Mapped[str] = mapped_column(String(8), comment="HOOK or MAIL")
    receive_time: Mapped[datetime] = mapped_column(_TIME, comment="when it came")
    outcome: Mapped[str] = mapped_column(String(16), comment="APPLIED, UNCLEAR, NOT_PROVED, SETTLED")
    text_sealed: Mapped[bytes] = mapped_column(
        LargeBinary, comment="text for a person to read, sealed with the subscriber's key; empty when nobody has to"
    )
    __table_args__ = (
        Index("ix_platform_reply_open", "reply_id", postgresql_where=text("outcome IN ('UNCLEAR', 'NOT_PROVED')")),
    )


class TransparencyCountRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """How often something happened in a month; about nobody, so it outlives every erasure."""

    __tablename__ = "transparency_count"
    month: Mapped[str] = mapped_column(String(7), primary_key=True, comment="YYYY-MM, UTC")
    platform: Mapped[str] = mapped_column(String(32), primary_key=True, comment="platform id")
    what: Mapped[str] = mapped_column(String(63), primary_key=True, comment="what happened, UPPER_SNAKE")
    reason: Mapped[str] = mapped_column(String(63), primary_key=True, comment="why, UPPER_SNAKE; may be empty")
    number: Mapped[int] = mapped_column(BigInteger, comment="how often")


class TransparencyCursorRow(Base):  # type: ignore[valid-type, misc] # see SubscriberRow
    """How far the log records of this service are counted."""

    __tablename__ = "transparency_cursor"
    partition: Mapped[int] = mapped_column(
        SmallInteger, primary_key=True, autoincrement=False, comment="partition of the outbox"
    )
    position: Mapped[int] = mapped_column(BigInteger, comment="last position that is counted")


chassis_tables(Base.metadata)
