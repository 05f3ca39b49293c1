"""Which tables does removal keep?"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
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
    __table_args__ = (
        Index("ux_removal_request_page", "subscriber_id", "url_ref", "platform", "episode", unique=True),
        Index("ix_removal_request_newest", "create_time", "request_id"),
        Index("ix_removal_request_own", "subscriber_id", "create_time", "request_id"),
        Index("ix_removal_request_state", "state", "create_time", "request_id"),
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


chassis_tables(Base.metadata)
