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
from services.notify.domain.quiet import DEFAULT_ZONE

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
    digest_minutes: Mapped[int] = mapped_column(
        Integer, default=0, server_default=text("0"), comment="how long notices are gathered, 0 for floods alone"
    )
    paths: Mapped[str] = mapped_column(
        String(64), default="", server_default=text("''"), comment="ways that may be used, in order; empty for all"
    )


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
    time_zone: Mapped[str] = mapped_column(
        String(64), default=DEFAULT_ZONE, server_default=text(f"'{DEFAULT_ZONE}'"), comment="IANA zone of quiet hours"
    )
    locale: Mapped[str] = mapped_column(
        String(8), default="", server_default=text("''"), comment="ko or en; empty as the subscriber prefers"
    )
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary, comment="X25519, 32 bytes; NULL for none")
    refused_time: Mapped[datetime | None] = mapped_column(_Time, comment="when the provider refused the token")


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


_UNFINISHED = text("delivery IN ('QUEUED', 'HANDED_OVER', 'DELIVERED')")


class NotificationRow(Base):
    """A notice on its way to one device. Its text is made when it is sent: nothing personal lies here."""

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint("case_id", "subject", "state", "occurrence", "device_key"),
        Index("ix_notification_unfinished", "device_key", "notification_id", postgresql_where=_UNFINISHED),
        Index("ix_notification_case", "case_id", postgresql_where=_UNFINISHED),
        Index("ix_notification_next_time", "next_time", postgresql_where=text("next_time IS NOT NULL")),
    )

    notification_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7, kept by repeats")
    subscriber_id: Mapped[str] = mapped_column(_Id, index=True, comment="owner")
    case_id: Mapped[str] = mapped_column(_Id, comment="root case when it was made")
    device_key: Mapped[str] = mapped_column(_Id, comment="device")
    subject: Mapped[str] = mapped_column(String(32), comment="what it is about")
    state: Mapped[str] = mapped_column(String(32), comment="state after the change")
    occurrence: Mapped[str] = mapped_column(String(64), comment="n-th time of the same change")
    delivery: Mapped[str] = mapped_column(
        String(16), comment="QUEUED, HANDED_OVER, DELIVERED, ACKNOWLEDGED, EXPIRED, UNDELIVERABLE, SUPERSEDED"
    )
    attempt: Mapped[int] = mapped_column(Integer, default=0, comment="times that handing over was begun")
    resend: Mapped[bool] = mapped_column(Boolean, default=False, comment="to be handed over again")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    first_sent_time: Mapped[datetime | None] = mapped_column(_Time, comment="first handing over")
    last_sent_time: Mapped[datetime | None] = mapped_column(_Time, comment="last handing over")
    end_time: Mapped[datetime | None] = mapped_column(_Time, comment="acknowledged, given up or superseded")
    path: Mapped[str] = mapped_column(
        String(16), default="", server_default=text("''"), comment="way of the last attempt: STREAM, PUSH"
    )
    held: Mapped[bool] = mapped_column(
        Boolean, default=False, server_default=text("false"), comment="was held back by quiet hours"
    )
    fell_back: Mapped[bool] = mapped_column(
        Boolean, default=False, server_default=text("false"), comment="the alternative path was begun"
    )
    next_time: Mapped[datetime | None] = mapped_column(_Time, comment="when something is to be done; NULL when over")


class GatheringRow(Base):
    """What a subscriber was told lately, and what is being gathered."""

    __tablename__ = "gathering"

    subscriber_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="opaque id")
    window_start: Mapped[datetime] = mapped_column(_Time, comment="business time")
    told: Mapped[int] = mapped_column(Integer, comment="notices told one by one since then")
    digest_id: Mapped[str] = mapped_column(_Id, comment="digest that is being gathered; empty for none")
    gathered: Mapped[int] = mapped_column(Integer, comment="notices in it")
    due_time: Mapped[datetime | None] = mapped_column(_Time, comment="when it is told")


class FallBackRow(Base):
    """A notice on the alternative path: one message at most a way, whatever the number of devices."""

    __tablename__ = "fall_back"
    __table_args__ = (UniqueConstraint("case_id", "subject", "state", "occurrence", "subscriber_id"),)

    fall_back_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="UUIDv7, kept by repeats")
    subscriber_id: Mapped[str] = mapped_column(_Id, index=True, comment="owner")
    case_id: Mapped[str] = mapped_column(_Id, comment="root case when it was made")
    subject: Mapped[str] = mapped_column(String(32), comment="what it is about")
    state: Mapped[str] = mapped_column(String(32), comment="state after the change")
    occurrence: Mapped[str] = mapped_column(String(64), comment="n-th time of the same change")
    path: Mapped[str] = mapped_column(String(16), comment="way of the last try: SMS, EMAIL; empty before")
    delivery: Mapped[str] = mapped_column(
        String(16), comment="QUEUED, HANDED_OVER, DELIVERED, UNDELIVERABLE, SUPERSEDED"
    )
    tries: Mapped[int] = mapped_column(Integer, comment="tries on this way")
    create_time: Mapped[datetime] = mapped_column(_Time, comment="business time")
    end_time: Mapped[datetime | None] = mapped_column(_Time, comment="when the last try ended it")


class ContactRow(Base):
    """How a person is reached when no device answers."""

    __tablename__ = "contact"

    subscriber_id: Mapped[str] = mapped_column(_Id, primary_key=True, comment="owner")
    path: Mapped[str] = mapped_column(String(16), primary_key=True, comment="SMS or EMAIL")
    value: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed with the subscriber's key; NULL for none")
    change_id: Mapped[str] = mapped_column(_Id, comment="change that waits; empty for none")
    new_value: Mapped[bytes | None] = mapped_column(LargeBinary, comment="sealed; NULL where the contact goes")
    change_time: Mapped[datetime | None] = mapped_column(_Time, comment="when the change takes effect")


def metadata() -> MetaData:
    """All tables of the service with those of the chassis; for migrations."""
    chassis_tables(Base.metadata)
    return Base.metadata
