"""What happens to an event or a job that cannot be applied?

It is put aside here, later events of the same entity are parked behind it, and the rest goes on. Replay applies
them in order. Payloads are those of events: ids, versions and hashes, never content.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    and_,
    delete,
    false,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.broker import Envelope
from services.chassis.database import TABLES, add_later
from services.chassis.errors import ServiceError
from services.chassis.ids import uuid7

DEAD_LETTER = Table(
    "dead_letter",
    TABLES,
    Column("dead_letter_id", Text, primary_key=True, comment="UUIDv7"),
    Column("publisher", Text, nullable=False, comment="publisher of the event; empty for a job"),
    Column("partition", SmallInteger, nullable=False, comment="partition of the event; 0 for a job"),
    Column("position", BigInteger, nullable=False, comment="position of the event; 0 for a job"),
    Column("event", Text, nullable=False, comment="event name, or kind of the job"),
    Column("entity_ref", LargeBinary, nullable=False, comment="keyed hash of the entity; of the job its id"),
    Column("event_id", Text, nullable=False, comment="UUIDv7 of the event; entity id of a job"),
    Column("payload", LargeBinary, nullable=False, comment="the event as published: ids, versions, hashes"),
    Column("traceparent", Text, nullable=False, comment="W3C trace context; may be empty"),
    Column("reason", Text, nullable=False, comment="UPPER_SNAKE"),
    Column("parked", Boolean, nullable=False, comment="waits behind a rejected one of the same entity"),
    Column("create_time", DateTime(timezone=True), nullable=False, comment="real time"),
    Index("ix_dead_letter_order", "publisher", "partition", "position"),
)


def reason_of(error: BaseException) -> str:
    """A reason that is safe to keep: a ServiceError's own, otherwise the exception's class in upper case."""
    if isinstance(error, ServiceError):
        return error.reason
    return "BUG_" + type(error).__name__.upper()[:56]


def put_event(session: AsyncSession, envelope: Envelope, reason: str, *, parked: bool) -> None:
    """Puts an event aside, in the transaction that moves the cursor past it."""
    add_later(
        session,
        DEAD_LETTER,
        {
            "dead_letter_id": uuid7(),
            "publisher": envelope.publisher,
            "partition": envelope.partition,
            "position": envelope.position,
            "event": envelope.event,
            "entity_ref": envelope.entity_ref,
            "event_id": envelope.event_id,
            "payload": envelope.payload,
            "traceparent": envelope.traceparent,
            "reason": reason,
            "parked": parked,
            "create_time": datetime.now(UTC),
        },
    )


def put_job(session: AsyncSession, kind: str, entity_id: str, reason: str, traceparent: str) -> None:
    """Puts a due job aside that failed too often."""
    add_later(
        session,
        DEAD_LETTER,
        {
            "dead_letter_id": uuid7(),
            "publisher": "",
            "partition": 0,
            "position": 0,
            "event": kind,
            "entity_ref": b"",
            "event_id": entity_id,
            "payload": b"",
            "traceparent": traceparent,
            "reason": reason,
            "parked": False,
            "create_time": datetime.now(UTC),
        },
    )


async def blocked_entities(session: AsyncSession, publisher: str, partition: int) -> set[bytes]:
    """Entities of a partition that have a dead letter: their events must wait."""
    query = (
        select(DEAD_LETTER.c.entity_ref)
        .where(DEAD_LETTER.c.publisher == publisher, DEAD_LETTER.c.partition == partition)
        .distinct()
    )
    return {bytes(row.entity_ref) for row in await session.execute(query)}


async def page(session: AsyncSession, size: int, after: tuple[datetime, str] | None) -> tuple[Sequence[Any], int]:
    """A page of letters, oldest first, and their number in all."""
    query = select(DEAD_LETTER).order_by(DEAD_LETTER.c.create_time, DEAD_LETTER.c.dead_letter_id).limit(size)
    if after is not None:
        query = query.where(tuple_(DEAD_LETTER.c.create_time, DEAD_LETTER.c.dead_letter_id) > after)
    rows = (await session.execute(query)).all()
    total = await session.scalar(select(func.count()).select_from(DEAD_LETTER))
    return rows, total or 0


async def hold_entity(session: AsyncSession, envelope: Envelope) -> bool:
    """Whether the event's entity still has letters. Waits for a replay of them and holds off the next one until the
    transaction ends."""
    query = select(DEAD_LETTER.c.dead_letter_id).where(_of_entity(envelope)).order_by(DEAD_LETTER.c.position)
    return bool((await session.execute(query.with_for_update())).all())


async def entities(session: AsyncSession, ids: Sequence[str]) -> tuple[int, Sequence[str]]:
    """(how many of the named letters exist, the letters of their entities): none may be applied before another that
    came before it."""
    named = (await session.execute(select(DEAD_LETTER).where(DEAD_LETTER.c.dead_letter_id.in_(ids)))).all()
    jobs = [row.dead_letter_id for row in named if not row.publisher]
    return len(named), [*jobs, *await ids_of(session, [envelope_of(row) for row in named if row.publisher])]


async def ids_of(session: AsyncSession, envelopes: Sequence[Envelope]) -> Sequence[str]:
    """All letters of the entities of these events."""
    query = select(DEAD_LETTER.c.dead_letter_id).where(or_(false(), *map(_of_entity, envelopes)))
    return (await session.scalars(query)).all()


def _of_entity(envelope: Envelope) -> ColumnElement[bool]:
    return and_(
        DEAD_LETTER.c.publisher == envelope.publisher,
        DEAD_LETTER.c.partition == envelope.partition,
        DEAD_LETTER.c.entity_ref == envelope.entity_ref,
    )


async def in_order(session: AsyncSession, ids: Sequence[str], most: int) -> Sequence[Any]:
    """The named letters (all where none is named) in the order in which they must be applied, locked."""
    query = (
        select(DEAD_LETTER)
        .order_by(
            DEAD_LETTER.c.publisher, DEAD_LETTER.c.partition, DEAD_LETTER.c.position, DEAD_LETTER.c.dead_letter_id
        )
        .limit(most)
        .with_for_update()
    )
    if ids:
        query = query.where(DEAD_LETTER.c.dead_letter_id.in_(ids))
    return (await session.execute(query)).all()


async def remove(session: AsyncSession, dead_letter_id: str) -> None:
    """Removes a letter that was applied."""
    await session.execute(delete(DEAD_LETTER).where(DEAD_LETTER.c.dead_letter_id == dead_letter_id))


def envelope_of(row: Any) -> Envelope:
    """The event as it was published."""
    return Envelope(
        publisher=row.publisher,
        event=row.event,
        partition=row.partition,
        position=row.position,
        event_id=row.event_id,
        entity_ref=bytes(row.entity_ref),
        traceparent=row.traceparent,
        payload=bytes(row.payload),
    )
