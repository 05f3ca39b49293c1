"""How do state, log record and event commit together, and how do they get to the broker?

Handlers add events and records to their own transaction (`Outbox`). One relay per publisher, holding an
advisory lock, gives committed rows a gap-free position per partition and publishes them in order. A row that
is published twice does no harm: consumers keep a cursor of positions.

Each of the N partitions has two lanes: domain events in partition p, log records of the same entities in partition
N + p. So who acts on events never waits behind records, and who keeps records reads nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    delete,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from misuse.log.v1.record_pb2 import LogRecord
from services.chassis import straight
from services.chassis.broker import Broker, Envelope
from services.chassis.database import TABLES, Database, add_later, is_transient
from services.chassis.errors import OutOfRange
from services.chassis.ids import created_at, uuid7
from services.chassis.metrics import histogram, stage
from services.chassis.tasks import Pauses
from services.chassis.telemetry import inject_traceparent, logger
from services.chassis.tracing import tell_case

log = logger(__name__)

PUBLISH_DELAY = histogram(
    "jikimi_publish_delay_seconds",
    "How long does an event wait in the outbox, from its commit until the broker has it? (the oldest of each round)",
)

KEPT = timedelta(days=14)
"""How long published rows can be asked for again."""
BATCH = 500
"""Rows a round and a lane, at most: half of what an atomic batch may hold."""
PAUSE_SECONDS = 0.1
"""After a round that did not take all it may, rows gather for so long: a round costs the same however few it takes. The
first row after a calm waits for nothing."""
POLL_SECONDS, LONGEST_POLL_SECONDS = 0.3, 1.0
"""When the relay looks for what was committed elsewhere, at first and after a while without work."""
REPUBLISH_AT_MOST = 20_000
"""Events of one answer to a consumer that misses some: it reads them within the deadline and asks on."""
TIDY_SECONDS = 600.0
TIDY_ROWS = 10_000
ENTITIES = 8_192
"""Entities whose place in the outbox is remembered."""
MAX_PAYLOAD = 900_000
"""Largest event, bytes: the broker takes 1 MB with headers."""
ANNOUNCE_AFTER = 3
"""Rounds without work (together about two seconds) after which the heads are announced."""
RECORDED = "recorded"
"""Event name of a log record."""

OUTBOX = Table(
    "outbox",
    TABLES,
    Column("seq", BigInteger, Identity(), primary_key=True, comment="order of insertion; has gaps, never shown"),
    Column(
        "partition", SmallInteger, nullable=False, comment="hash of the subscriber mod N; records + N"
    ),
    Column("position", BigInteger, comment="gap-free in the partition; NULL until the relay stamps it"),
    Column("event_id", Text, nullable=False, comment="UUIDv7"),
    Column("event", Text, nullable=False, comment="event name in snake case"),
    Column("entity_ref", LargeBinary, nullable=False, comment="keyed hash of the entity, for parking"),
    Column("payload", LargeBinary, nullable=False, comment="serialised message: ids, versions, hashes"),
    Column("traceparent", Text, nullable=False, comment="W3C trace context of the cause; may be empty"),
    Column("create_time", DateTime(timezone=True), nullable=False, comment="real time of insertion"),
    Index("ix_outbox_unstamped", "seq", postgresql_where=text("position IS NULL")),
    Index("ix_outbox_position", "partition", "position", unique=True),
)
OUTBOX_HEAD = Table(
    "outbox_head",
    TABLES,
    Column("partition", SmallInteger, primary_key=True, autoincrement=False, comment="partition"),
    Column("position", BigInteger, nullable=False, comment="last position given out"),
    Column("published", BigInteger, nullable=False, comment="last position that the broker has confirmed"),
)

_STAMP = text(
    """
    WITH picked AS (
        SELECT seq, partition FROM outbox WHERE position IS NULL ORDER BY seq LIMIT :batch
    ), numbered AS (
        SELECT p.seq, h.position + row_number() OVER (PARTITION BY p.partition ORDER BY p.seq) AS position
        FROM picked p JOIN outbox_head h ON h.partition = p.partition
    ), stamped AS (
        UPDATE outbox o SET position = n.position FROM numbered n WHERE o.seq = n.seq
        RETURNING o.partition, o.position, o.event_id, o.event, o.entity_ref, o.payload, o.traceparent
    ), heads AS (
        UPDATE outbox_head h SET position = s.position
        FROM (SELECT partition, max(position) AS position FROM stamped GROUP BY partition) s
        WHERE h.partition = s.partition
    )
    SELECT * FROM stamped ORDER BY partition, position
    """
)
"""What the relay publishes next, its positions given."""
# Partition by partition, so that the index is used: as one join of ranges the planner reads the whole table.
UNPUBLISHED = text(
    """
    SELECT o.partition, o.position, o.event_id, o.event, o.entity_ref, o.payload, o.traceparent
    FROM outbox_head h CROSS JOIN LATERAL (
        SELECT * FROM outbox w WHERE w.partition = h.partition AND w.position > h.published
        ORDER BY w.position LIMIT :share
    ) o
    ORDER BY o.partition, o.position
    """
)
"""What has its position and may not be published yet, the server or the broker having failed: at most `share` events of
each partition."""
# Not waited for until it is on the disk: lost with the server, it has rows published again, which does no harm.
_PUBLISHED = text(
    """
    UPDATE outbox_head h SET published = greatest(h.published, n.position)
    FROM unnest(CAST(:partitions AS int[]), CAST(:positions AS bigint[])) AS n(partition, position),
         set_config('synchronous_commit', 'off', true)
    WHERE h.partition = n.partition
    """
)


def event_name(message_type: type[Message]) -> str:
    """The event's name in subjects: `CaseOpened` → `case_opened`, a log record → `recorded`."""
    if message_type is LogRecord:
        return RECORDED
    return _in_snake_case(message_type.DESCRIPTOR.name)


@cache
def _in_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def lanes(kinds: Collection[type[Message]], partitions: int) -> range:
    """The partitions in which events of these kinds are found, of N partitions with two lanes each."""
    records = LogRecord in kinds
    events = len(kinds) > records
    return range(0 if events else partitions, 2 * partitions if records else partitions)


def partition_of(key: str, partitions: int) -> int:
    """The partition of an entity: the same for all its events, in every service."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big") % partitions


class Outbox:
    """Adds events and log records to the caller's transaction."""

    def __init__(self, service: str, partitions: int, pepper: bytes) -> None:
        """`pepper` keys the hash of the entity that headers carry, so that no id can be read from them."""
        self.service = service
        self.partitions = partitions
        self._pepper = pepper
        # A transaction writes several events of an entity, and many transactions follow: two hashes for each add up.
        self._place_of = lru_cache(maxsize=ENTITIES)(self._place)

    def event(self, session: AsyncSession, key: str, message: Message, *, traceparent: str | None = None) -> None:
        """Adds an event. `key` is the subscriber id, or the entity's id where there is no subscriber: events of
        one key keep their order. `traceparent` names the cause; None takes the current span. Raises ValueError
        for a message that the broker would not take."""
        _tell_case(message, traceparent)
        payload = message.SerializeToString(deterministic=True)
        if len(payload) > MAX_PAYLOAD:
            raise ValueError("an event is larger than the broker takes")
        partition, entity_ref = self._place_of(key)
        add_later(
            session,
            OUTBOX,
            {
                "partition": partition + (self.partitions if isinstance(message, LogRecord) else 0),
                "event_id": uuid7(),
                "event": event_name(type(message)),
                "entity_ref": entity_ref,
                "payload": payload,
                "traceparent": inject_traceparent() if traceparent is None else traceparent,
                "create_time": datetime.now(UTC),
            },
        )

    def _place(self, key: str) -> tuple[int, bytes]:
        """Partition and reference of an entity."""
        reference = hashlib.blake2b(key.encode(), digest_size=8, key=self._pepper[:64]).digest()
        return partition_of(key, self.partitions), reference

    def record(self, session: AsyncSession, key: str, record: LogRecord, *, traceparent: str | None = None) -> None:
        """Adds a log record; fills `record_id` and `service` where they are empty."""
        record.record_id = record.record_id or uuid7()
        record.service = record.service or self.service
        self.event(session, key, record, traceparent=traceparent)


class Relay:
    """Takes committed rows to the broker. Runs in every replica; one holds the lock and works."""

    def __init__(self, database: Database, broker: Broker, service: str, partitions: int) -> None:
        self._database = database
        self._broker = broker
        self._service = service
        self._lanes = 2 * partitions
        self._wakeup = database.wakeup(OUTBOX.name)
        self._tidied = -TIDY_SECONDS

    async def run(self) -> None:
        """Relays until cancelled; a lost connection or broker is tried again with a growing pause."""
        pauses, loop = Pauses(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                async with self._database.lock_holder() as connection:
                    await self._relay_while_locked(connection)
            except Exception as error:
                if not (is_transient(error) or self._broker.is_trouble(error)):
                    raise
                log.warning("relay_interrupted", error=type(error).__name__)
                await asyncio.sleep(pauses.after(loop.time() - began))

    async def _relay_while_locked(self, connection: AsyncConnection) -> None:
        while not await self._lock(connection):
            await asyncio.sleep(0.5)
        await self._prepare(connection)
        left, idle_rounds = True, 0
        while True:
            self._wakeup.clear()
            if await self._broker.ensure_stream(self._service):
                log.warning("stream_created", stream=self._service)
                await self._announce(connection)
            # What was begun before goes first; who fails comes back to it, with the lock taken anew.
            rows = await self._left(connection) if left else ()
            left = bool(rows)
            rows = rows or await self._stamp(connection)
            if rows:
                idle_rounds = 0
                await self._publish(connection, rows)
                if left or len(rows) == BATCH:
                    continue
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                idle_rounds += 1
                if idle_rounds == ANNOUNCE_AFTER:
                    await self._announce(connection)
                await self._tidy(connection)
            # Commits of this process wake it; the poll is for those of other replicas and slows down with calm.
            await _wait(self._wakeup, min(POLL_SECONDS * (1 + idle_rounds), LONGEST_POLL_SECONDS))

    async def _lock(self, connection: AsyncConnection) -> bool:
        query = text("SELECT pg_try_advisory_lock(hashtext('jikimi.relay'))")
        locked = bool(await connection.scalar(query))
        return locked

    async def _prepare(self, connection: AsyncConnection) -> None:
        query = text(
            "INSERT INTO outbox_head (partition, position, published) "
            "SELECT p, 0, 0 FROM generate_series(0, :last) p ON CONFLICT DO NOTHING"
        )
        await connection.execute(query, {"last": self._lanes - 1})
        # A plan of stamping that was made while the outbox was short is kept, and would read all of it each time.
        await connection.execute(text("SET enable_seqscan = off"))
        # One plan is right for every round; the server would make one anew for each.
        await connection.execute(text("SET plan_cache_mode = force_generic_plan"))

    async def _left(self, connection: AsyncConnection) -> Sequence[Any]:
        return (await straight.execute(connection, UNPUBLISHED, {"share": max(1, 2 * BATCH // self._lanes)})).all()

    async def _stamp(self, connection: AsyncConnection) -> Sequence[Any]:
        return (await straight.execute(connection, _STAMP, {"batch": BATCH})).all()

    async def _publish(self, connection: AsyncConnection, rows: Sequence[Any]) -> None:
        with stage("publish"):
            await self._broker.publish(self._service, [_envelope(self._service, row) for row in rows])
        PUBLISH_DELAY.observe(max(0.0, time.time() - min(created_at(row.event_id) for row in rows)))
        heads: dict[int, int] = {}
        for row in rows:
            heads[row.partition] = max(heads.get(row.partition, 0), row.position)
        places = {"partitions": list(heads), "positions": list(heads.values())}
        await straight.execute(connection, _PUBLISHED, places)

    async def _announce(self, connection: AsyncConnection) -> None:
        """Tells consumers the head of every partition, so that one who lost the tail notices."""
        rows = (await connection.execute(select(OUTBOX_HEAD.c.partition, OUTBOX_HEAD.c.published))).all()
        await self._broker.announce(self._service, {row.partition: row.published for row in rows})

    async def _tidy(self, connection: AsyncConnection) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._tidied < TIDY_SECONDS:
            return
        old = select(OUTBOX.c.seq).where(
            OUTBOX.c.create_time < datetime.now(UTC) - KEPT, OUTBOX.c.position.is_not(None)
        )
        result = await connection.execute(delete(OUTBOX).where(OUTBOX.c.seq.in_(old.limit(TIDY_ROWS))))
        # Where there was more than a piece, the next idle round goes on: the outbox must shrink as fast as it grows.
        if result.rowcount < TIDY_ROWS:
            self._tidied = now


async def republish(
    database: Database,
    broker: Broker,
    service: str,
    partition: int,
    from_position: int,
    most: int = REPUBLISH_AT_MOST,
) -> tuple[int, int]:
    """Publishes the stamped rows of a partition again, from a position on, about `most` of them at once. Returns
    (events, head position). Raises OutOfRange where the outbox no longer holds them."""
    if not 0 <= partition < 2**15 or not 1 <= from_position < 2**63:
        raise OutOfRange("POSITION_UNKNOWN", "There is no such partition or position.")
    events, position = 0, from_position
    async with database.engine.connect() as connection:
        head = await connection.scalar(select(OUTBOX_HEAD.c.position).where(OUTBOX_HEAD.c.partition == partition))
        if head is None:
            raise OutOfRange("POSITION_UNKNOWN", "There is no such partition or position.")
        while position <= head and events < most:
            rows = await _stamped(connection, partition, position)
            if not rows or rows[0].position != position:
                raise OutOfRange("POSITION_NO_LONGER_KEPT", "The outbox no longer holds this position.")
            # One by one: whoever asks may be of the release before, which reads no runs.
            await broker.publish(service, [_envelope(service, row) for row in rows], apart=True)
            events += len(rows)
            position = rows[-1].position + 1
    return events, head


async def _stamped(connection: AsyncConnection, partition: int, position: int) -> Sequence[Any]:
    query = (
        select(OUTBOX)
        .where(OUTBOX.c.partition == partition, OUTBOX.c.position >= position)
        .order_by(OUTBOX.c.position)
        .limit(BATCH)
    )
    rows = (await connection.execute(query)).all()
    await connection.commit()
    return rows


def _tell_case(message: Message, traceparent: str | None) -> None:
    """What a hop writes says which case it is about."""
    case_ids = message.case_ids if isinstance(message, LogRecord) else (getattr(message, "case_id", ""),)
    if case_ids and case_ids[0]:
        tell_case(case_ids[0], traceparent)


def _envelope(service: str, row: Any) -> Envelope:
    return Envelope(
        publisher=service,
        event=row.event,
        partition=row.partition,
        position=row.position,
        event_id=row.event_id,
        entity_ref=bytes(row.entity_ref),
        traceparent=row.traceparent,
        payload=bytes(row.payload),
    )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
