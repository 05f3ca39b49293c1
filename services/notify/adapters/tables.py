"""Which tables notify keeps."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Boolean,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.database import NAMING, chassis_tables

_Time = DateTime(timezone=True)
_Id = String(64)


class Base(DeclarativeBase):
    """Base of this service's tables."""

    metadata = MetaData(naming_convention=NAMING)


class SubscriberRow(Base):
    """How a subscriber wants to be told."""

    __tablename__ = "subscriber"

    subscriber_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="opaque id")
    language: Mapped[str] = mapped_column(String(8), comment="ko or en")
    chosen: Mapped[bool] = mapped_column(Boolean, default=False, comment="preferences are the person's own")
    discreet: Mapped[bool] = mapped_column(Boolean, default=False, comment="lock screen says nothing")
    quiet_start_minute: Mapped[int] = mapped_column(Integer, default=-1, comment="minute of day, -1 for none")
    quiet_end_minute: Mapped[int] = mapped_column(Integer, default=-1, comment="minute of day, -1 for none")
    suspended: Mapped[bool] = mapped_column(Boolean, default=False, comment="hold notifications back")


class DeviceRow(Base):
    """An installation of the app."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("subscriber_id", "device_id"),)

    device_key: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7 of this service")
    subscriber_id: Mapped[str] = mapped_column(_Id, comment="owner")
    device_id: Mapped[str] = mapped_column(String(64), comment="the app's id of the installation")
    os: Mapped[str] = mapped_column(String(16), comment="android, ios, web")
    push_token: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed with the subscriber's key")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    last_seen_time: Mapped[datetime | None] = mapped_column(_Time, comment="last handing over or ack")
    remove_time: Mapped[datetime | None] = mapped_column(_Time, comment="when removed; NULL while live")


class KnownCaseRow(Base):
    """What is remembered of a case: its root, and what later notices say of it."""

    __tablename__ = "known_case"

    case_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="case")
    subscriber_id: Mapped[str] = mapped_column(_Id, index=True, comment="owner")
    parent_id: Mapped[str] = mapped_column(_Id, comment="case it was merged into, or itself")
    kind: Mapped[str] = mapped_column(String(32), comment="case kind by name")
    channel_group: Mapped[str] = mapped_column(String(64), comment="group of the first sighting")
    reopenings: Mapped[int] = mapped_column(Integer, default=0, comment="how often it was reopened")


class InboxItemRow(Base):
    """A notice in a subscriber's inbox."""

    __tablename__ = "inbox_item"
    __table_args__ = (
        UniqueConstraint("case_id", "subject", "state", "occurrence"),
        Index("ix_inbox_item_subscriber", "subscriber_id", "item_id"),
    )

    item_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7")
    subscriber_id: Mapped[str] = mapped_column(_Id, comment="owner")
    case_id: Mapped[str] = mapped_column(_Id, comment="root case when it was made")
    subject: Mapped[str] = mapped_column(String(32), comment="what it is about")
    state: Mapped[str] = mapped_column(String(32), comment="state after the change")
    occurrence: Mapped[str] = mapped_column(String(64), comment="n-th time of the same change")
    details: Mapped[bytes] = mapped_column(LargeBinary, comment="facts, sealed with the subscriber's key")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    read_time: Mapped[datetime | None] = mapped_column(_Time, comment="when read; NULL before")


_UNFINISHED = text("delivery IN ('QUEUED', 'HANDED_OVER')")


class NotificationRow(Base):
    """A notice on its way to one device. Its text is made when it is sent: nothing personal lies here."""

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint("case_id", "subject", "state", "occurrence", "device_key"),
        Index("ix_notification_unfinished", "device_key", "notification_id", postgresql_where=_UNFINISHED),
        Index("ix_notification_case", "case_id", postgresql_where=_UNFINISHED),
    )

    notification_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7, kept by repeats")
    subscriber_id: Mapped[str] = mapped_column(_Id, index=True, comment="owner")
    case_id: Mapped[str] = mapped_column(_Id, comment="root case when it was made")
    device_key: Mapped[str] = mapped_column(_Id, comment="device")
    subject: Mapped[str] = mapped_column(String(32), comment="what it is about")
    state: Mapped[str] = mapped_column(String(32), comment="state after the change")
    occurrence: Mapped[str] = mapped_column(String(64), comment="n-th time of the same change")
    delivery: Mapped[str] = mapped_column(
        String(16), comment="QUEUED, HANDED_OVER, ACKNOWLEDGED, UNDELIVERABLE, SUPERSEDED"
    )
    attempt: Mapped[int] = mapped_column(Integer, default=0, comment="times handed over")
    resend: Mapped[bool] = mapped_column(Boolean, default=False, comment="to be handed over again")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    first_sent_time: Mapped[datetime | None] = mapped_column(_Time, comment="first handing over")
    last_sent_time: Mapped[datetime | None] = mapped_column(_Time, comment="last handing over")
    end_time: Mapped[datetime | None] = mapped_column(_Time, comment="acknowledged, given up or superseded")


def metadata() -> MetaData:
    """All tables of the service with those of the chassis; for migrations."""
    chassis_tables(Base.metadata)
    return Base.metadata
