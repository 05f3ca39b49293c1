"""How do events come in?

A consumer keeps one cursor per (publisher, partition), reads every event of the partition in order, skips what
it does not use, applies batches in one transaction and moves the cursor in that same transaction. So there is no
inbox, nothing is applied twice, and a gap in the positions means loss: the publisher is asked to publish again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from sqlalchemy import BigInteger, Column, SmallInteger, Table, Text, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.log.v1.record_pb2 import LogRecord
from services.chassis import dead_letters
from services.chassis.broker import HEAD, Broker, Delivery, Envelope, StreamPlace, Subscription
from services.chassis.database import TABLES, Database, is_transient
from services.chassis.errors import Aborted, FailedPrecondition, InvalidInput
from services.chassis.ids import created_at
from services.chassis.leases import Leases
from services.chassis.metrics import counter, histogram
from services.chassis.outbox import RECORDED, event_name, lanes
from services.chassis.tasks import Pauses, end
from services.chassis.telemetry import logger
from services.chassis.together import Left, Piece, Together
from services.chassis.tracing import Hops

log = logger(__name__)

APPLIED = counter("jikimi_events_applied_total", "How many events does this service apply?", "publisher")
REJECTED = counter("jikimi_events_rejected_total", "How many events were put aside as dead letters?", "publisher")
DELAY = histogram(
    "jikimi_event_delay_seconds",
    "How long is an event under way from its commit at the publisher until it is applied here?",
    "publisher",
    "event",
)

BATCH, GROWN_BATCH = 200, 500
"""Events applied in one transaction; the second where batches may grow, for nobody waits for what is in them."""
REJECTIONS_IN_A_ROW = 50
"""More than this and the consumer stops: a bad release must not put everything aside."""
BUSY_BATCH, BUSY_SECONDS, YIELD_SECONDS = 20, 0.3, 3.0
"""A batch of so many events makes a consumer busy, and for so long after it; what yields waits at most so long. One
that lets its batches grow is busy only where a batch is full."""
REBALANCE_SECONDS = 4.0
SKIP_EVENTS, SKIP_SECONDS = 1000, 5.0
"""How far, and for how long, the stored cursor may lie behind while only events pass that nobody uses here."""
GATHER_SECONDS = 2.0
"""Who reads what nobody waits for, as records, lets a batch grow for so long: a transaction for each would cost more
than the events."""
STEADY_SECONDS, STEADY_GATHER_SECONDS = 0.5, 0.05
"""Where a batch was applied so recently, events come steadily: the next too may grow, for a moment that nobody notices.
The first after a calm is applied at once."""
JOIN_SECONDS = 0.005
"""The first batch lets those of the other partitions join it: what was published together arrives together, and what
grew together is ready together."""
FETCH_SECONDS = 4.0
"""How long a quiet partition waits before it looks around."""

CURSOR = Table(
    "bus_cursor",
    TABLES,
    Column("publisher", Text, primary_key=True, comment="publisher of the events"),
    Column("partition", SmallInteger, primary_key=True, autoincrement=False, comment="partition"),
    Column("position", BigInteger, nullable=False, comment="last position applied"),
    Column("stream_id", Text, nullable=False, comment="incarnation of the stream that stream_seq belongs to"),
    Column("stream_seq", BigInteger, nullable=False, comment="where to go on reading; a hint only"),
)


# Text, for it is part of every batch of every consumer: building it anew would cost more than the query.
_MOVE = text(
    f"""
    UPDATE {CURSOR.name} AS c SET position = v.position, stream_id = v.stream_id, stream_seq = v.stream_seq
    FROM unnest(CAST(:publishers AS text[]), CAST(:partitions AS int[]), CAST(:before AS bigint[]),
        CAST(:positions AS bigint[]), CAST(:stream_ids AS text[]), CAST(:stream_seqs AS bigint[]))
        AS v (publisher, partition, before, position, stream_id, stream_seq)
    WHERE c.publisher = v.publisher AND c.partition = v.partition AND c.position = v.before
    RETURNING c.partition
    """
)


# Event and _Read are made for every event; frozen ones would cost three times as much.


@dataclass(slots=True)
class Event:
    """An event as a handler gets it."""

    publisher: str
    partition: int
    position: int
    event_id: str
    traceparent: str
    message: Message = field(repr=False)


T = TypeVar("T")
K = TypeVar("K")
Handler = Callable[[AsyncSession, Sequence[Event]], Awaitable[None]]
"""Applies a run of events of the types that it was named for, in order, in the given transaction."""
Republish = Callable[[int, int], Awaitable[None]]
"""Asks the publisher for a partition again, from a position on."""


@dataclass(slots=True)
class _Read:
    """An event that has a handler, decoded; `message` is None where it cannot be decoded."""

    envelope: Envelope
    message: Message | None = field(repr=False)


@dataclass(frozen=True)
class _Batch:
    """What comes next in a partition, and where its cursor goes from and to."""

    consumer: Consumer
    partition: int
    reads: Sequence[_Read]
    from_position: int
    to_position: int
    place: StreamPlace


class Step:
    """Consumers of one database that are applied in step: what their partitions have at the same time is applied in one
    transaction, and where batches may grow, they grow until the same moment."""

    def __init__(self, most: int = GROWN_BATCH) -> None:
        """`most`: events in one transaction. Thousands of records at once would keep the event loop from what somebody
        waits for."""
        self.applied_at = float("-inf")
        """Time of the event loop."""
        self._gathers_until = float("-inf")
        self._together: Together[_Batch] = Together(most=most, size=_events_in, moment=JOIN_SECONDS, patient=True)

    def gathering(self, growing: float) -> float:
        """How long a batch that has begun to arrive, and that may grow for `growing` seconds, may grow: as long as
        those that grow already, seconds."""
        now = asyncio.get_running_loop().time()
        if self._gathers_until <= now:
            self._gathers_until = now + growing
        return self._gathers_until - now

    async def commit(self, batch: _Batch) -> None:
        """Applies a partition's batch and moves its cursor, in one transaction with whatever the other partitions have
        at the same time. Raises what it raises alone."""
        await self._together(batch, self._commit)

    async def _commit(self, pieces: Sequence[Piece[_Batch]], _alone: bool) -> Sequence[Left | None]:
        batches = [piece.item for piece in pieces]
        with Hops() as hops:
            async with batches[0].consumer.begin() as session:
                await _apply(session, [(batch.consumer, batch.reads) for batch in batches], hops)
                await _move_cursors(session, batches)
        self.applied_at = asyncio.get_running_loop().time()
        for batch in batches:
            batch.consumer.applied(batch.reads)
        return [None] * len(batches)


async def _apply(session: AsyncSession, partitions: Sequence[tuple[Consumer, Sequence[_Read]]], hops: Hops) -> None:
    """Hands runs of events to their handler, in the order of each partition."""
    events = [[consumer.event(read, hops) for read in reads] for consumer, reads in partitions]
    for handler, run in _runs(events, itemgetter(0)):
        await handler(session, [event for _, event in run])


async def _move_cursors(session: AsyncSession, batches: Sequence[_Batch]) -> None:
    """Moves cursors in the transaction of the effects. Raises Aborted when another instance moved one."""
    values = {
        "publishers": [batch.consumer.publisher for batch in batches],
        "partitions": [batch.partition for batch in batches],
        "before": [batch.from_position for batch in batches],
        "positions": [batch.to_position for batch in batches],
        "stream_ids": [batch.place.stream_id for batch in batches],
        "stream_seqs": [batch.place.sequence for batch in batches],
    }
    moved = (await session.execute(_MOVE, values)).all()
    if len(moved) != len(batches):
        raise Aborted("CURSOR_MOVED", "Another instance reads this partition.")


class Consumer:
    """Applies the events of one publisher to this service's database."""

    def __init__(
        self,
        database: Database,
        broker: Broker,
        publisher: str,
        handlers: Mapping[type[Message], Handler],
        republish: Republish,
        *,
        service: str,
        partitions: int,
        yields_to: Consumer | None = None,
        gathers: bool | None = None,
        steady_gather_seconds: float = STEADY_GATHER_SECONDS,
        step: Step | None = None,
    ) -> None:
        """`yields_to`: while that consumer has much to do, this one waits, for a few seconds at most a batch.
        `gathers`: whether batches may grow for GATHER_SECONDS; by default where records alone are read.
        `steady_gather_seconds`: for how long any other batch may grow where events come steadily.
        `step`: with whom it is applied in step; by default its partitions among themselves."""
        self._yields_to = yields_to
        self._busy_until = 0.0
        self._large_batches = 0
        self._database = database
        self._broker = broker
        self.publisher = publisher
        self._types = {event_name(message_type): message_type for message_type in handlers}
        self._handlers = {event_name(message_type): handler for message_type, handler in handlers.items()}
        self._republish = republish
        self._name = f"{service}_{publisher}"
        self.partitions = lanes(handlers.keys(), partitions)
        self.gathers = set(handlers) == {LogRecord} if gathers is None else gathers
        self.batch = GROWN_BATCH if self.gathers else BATCH
        self._steady_gather_seconds = steady_gather_seconds
        self._large = self.batch if self.gathers else BUSY_BATCH
        self._readers: dict[int, _PartitionReader] = {}
        most = self.batch if self.gathers else self.batch * len(self.partitions)
        self.step = step or Step(most)

    async def run(self) -> None:
        """Reads the partitions that this instance leases, until cancelled."""
        while True:
            try:
                await self._run_leased()
            except Exception as error:
                if not (is_transient(error) or self._broker.is_trouble(error)):
                    raise
                log.warning("consumer_interrupted", publisher=self.publisher, error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def _run_leased(self) -> None:
        """Holds leases on a connection of its own; readers end with it."""
        readers: dict[int, asyncio.Task[None]] = {}
        async with self._database.lock_holder() as connection:
            leases = Leases(connection, self.publisher, self.partitions)
            await leases.join()
            try:
                while True:
                    taken, surplus = await leases.balance()
                    for partition in taken:
                        readers[partition] = asyncio.create_task(self._read_partition(partition))
                    for partition in surplus:
                        await end(readers.pop(partition))
                        await leases.give_back(partition)
                    for task in readers.values():
                        if task.done():
                            task.result()
                    if readers:
                        await asyncio.wait(readers.values(), timeout=REBALANCE_SECONDS)
                    else:
                        await asyncio.sleep(REBALANCE_SECONDS)
            finally:
                await end(*readers.values())

    async def _read_partition(self, partition: int) -> None:
        reader = self._readers[partition] = _PartitionReader(self, partition)
        pauses, loop = Pauses(), asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await reader.read()
            except Exception as error:
                if not (is_transient(error) or self._broker.is_trouble(error)):
                    raise
                log.info("reader_interrupted", consumer=self._name, partition=partition, error=type(error).__name__)
                await asyncio.sleep(pauses.after(loop.time() - began))

    @property
    def busy(self) -> bool:
        """Whether it is applying a large batch, or just was: what can wait should let it go on."""
        return self._large_batches > 0 or asyncio.get_running_loop().time() < self._busy_until

    # -- what a reader needs of its consumer --

    async def wait_for_turn(self) -> None:
        """Lets a busy consumer that goes before this one work, for a bounded time."""
        if self._yields_to is not None:
            await until_calm([self._yields_to], YIELD_SECONDS)

    def gathering(self) -> float:
        """How long a batch that has begun to arrive may grow, seconds."""
        steady = asyncio.get_running_loop().time() - self.step.applied_at < STEADY_SECONDS
        growing = GATHER_SECONDS if self.gathers else self._steady_gather_seconds if steady else 0.0
        return self.step.gathering(growing)

    @contextmanager
    def working_on(self, events: int) -> Iterator[None]:
        """Keeps in mind that much is to be done."""
        large = events >= self._large
        self._large_batches += large
        try:
            yield
        finally:
            self._large_batches -= large
            if large:
                self._busy_until = asyncio.get_running_loop().time() + BUSY_SECONDS

    async def follow(self, partition: int, after: StreamPlace | None) -> Subscription:
        """A subscription of the partition."""
        return await self._broker.follow(self.publisher, self._name, partition, after)

    async def ask_again(self, partition: int, position: int) -> None:
        """Asks the publisher for what is missing."""
        log.warning("gap", consumer=self._name, partition=partition, from_position=position)
        await self._republish(partition, position)

    async def load_cursor(self, partition: int) -> tuple[int, StreamPlace, set[bytes]]:
        """(position, place in the stream, entities that are blocked)."""
        async with self._database.begin() as session:
            blank = {"position": 0, "stream_id": "", "stream_seq": 0}
            await session.execute(
                insert(CURSOR).values(publisher=self.publisher, partition=partition, **blank).on_conflict_do_nothing()
            )
            query = select(CURSOR).where(CURSOR.c.publisher == self.publisher, CURSOR.c.partition == partition)
            row = (await session.execute(query)).one()
            blocked = await dead_letters.blocked_entities(session, self.publisher, partition)
        return row.position, StreamPlace(row.stream_id, row.stream_seq), blocked

    def read(self, envelope: Envelope) -> _Read | None:
        """The event decoded, or None where nobody here uses it."""
        message_type = self._types.get(envelope.event)
        if message_type is None:
            return None
        try:
            return _Read(envelope, message_type.FromString(envelope.payload))
        except DecodeError:
            return _Read(envelope, None)

    def applied(self, reads: Sequence[_Read]) -> None:
        """Counts events whose transaction has committed, and how long they were under way; of records, which come in
        masses, the first of a batch stands for all."""
        if not reads:
            return
        APPLIED.add(self.publisher, by=len(reads))
        now, record_told = time.time(), False
        for each in (read.envelope for read in reads):
            if each.event == RECORDED and record_told:
                continue
            record_told = record_told or each.event == RECORDED
            if made := created_at(each.event_id):
                DELAY.observe(max(0.0, now - made), self.publisher, each.event, traceparent=each.traceparent)

    def event(self, read: _Read, hops: Hops) -> tuple[Handler, Event]:
        """An event and what applies it. Raises InvalidInput EVENT_UNREADABLE."""
        envelope, message = read.envelope, read.message
        if message is None:
            raise InvalidInput("EVENT_UNREADABLE", "The event cannot be decoded.")
        event = Event(
            publisher=envelope.publisher,
            partition=envelope.partition,
            position=envelope.position,
            event_id=envelope.event_id,
            traceparent=envelope.traceparent,
            message=message,
        )
        handler = self._handlers[envelope.event]
        if isinstance(message, LogRecord) or not envelope.traceparent:
            return handler, event
        about = {"publisher": self.publisher, "case_id": _case_of(message)}
        ready_at = created_at(envelope.event_id) or None
        own = hops.begin(envelope.traceparent, f"consume {envelope.event}", about, ready_at)
        return handler, event if own == envelope.traceparent else replace(event, traceparent=own)

    def begin(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A transaction of the service's database."""
        return self._database.begin()

    def count_rejection(self) -> None:
        """Counts an event that was put aside."""
        REJECTED.add(self.publisher)

    def positions(self) -> Mapping[int, int]:
        """Partition → last position dealt with, of the partitions that this instance reads or has read."""
        return {partition: reader.position for partition, reader in self._readers.items()}

    def unblock(self, partition: int) -> None:
        """Makes the reader of a partition look again at which entities are blocked; after a replay."""
        if partition in self._readers:
            self._readers[partition].look_again()

    async def replay(self, session: AsyncSession, envelope: Envelope) -> None:
        """Applies a dead letter again. Raises what the handler raises."""
        read = self.read(envelope)
        if read is None:
            raise FailedPrecondition("NO_HANDLER", "Nothing here applies this event.")
        with Hops() as hops:
            await _apply(session, [(self, [read])], hops)
        self.applied([read])


class _PartitionReader:
    """Reads one partition from its cursor on."""

    def __init__(self, consumer: Consumer, partition: int) -> None:
        self._consumer = consumer
        self._partition = partition
        self._position = 0
        self._stored = 0
        self._stored_at = 0.0
        self._blocked: set[bytes] = set()
        self._rejections = 0
        self._known = 0
        self._asked_at = 0.0
        self._stale = False

    @property
    def position(self) -> int:
        """The last position dealt with."""
        return self._position

    def look_again(self) -> None:
        """The blocked entities are read again before the next batch."""
        self._stale = True

    async def read(self) -> None:
        """Follows the stream until it breaks."""
        consumer = self._consumer
        self._position, place, self._blocked = await consumer.load_cursor(self._partition)
        self._stored = self._position
        subscription = await consumer.follow(self._partition, place if place.stream_id else None)
        try:
            while True:
                deliveries = await subscription.fetch(consumer.batch, FETCH_SECONDS)
                if 0 < len(deliveries) < consumer.batch and (moment := consumer.gathering()):
                    deliveries += await subscription.gather(consumer.batch - len(deliveries), moment)
                if self._stale:
                    _, _, self._blocked = await consumer.load_cursor(self._partition)
                    self._stale = False
                if deliveries:
                    await consumer.wait_for_turn()
                with consumer.working_on(len(deliveries)):
                    await self._take(deliveries, subscription.stream_id)
        finally:
            await subscription.close()

    async def _take(self, deliveries: Sequence[Delivery], stream_id: str) -> None:
        """Applies what is next in order; asks again where there is more and nothing of it is next."""
        batch: list[Delivery] = []
        expected = self._position + 1
        for delivery in deliveries:
            envelope = delivery.envelope
            self._known = max(self._known, envelope.position)
            if envelope.event != HEAD and envelope.position == expected:
                batch.append(delivery)
                expected += 1
        if batch:
            await self._apply(batch, stream_id)
        elif self._known > self._position:
            await self._ask_again()

    async def _ask_again(self) -> None:
        """Asks at most every two seconds, until what is known to exist has arrived."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._asked_at + 2.0:
            return
        try:
            await self._consumer.ask_again(self._partition, self._position + 1)
        finally:
            # From the answer on: what was repeated lies behind all that is still to be read.
            self._asked_at = loop.time()

    async def _apply(self, batch: Sequence[Delivery], stream_id: str) -> None:
        """The whole batch in one transaction; one by one only where that fails."""
        reads = [self._consumer.read(delivery.envelope) for delivery in batch]
        used = [read for read in reads if read is not None]
        blocked = any(read.envelope.entity_ref in self._blocked for read in used)
        if not blocked:
            last = batch[-1]
            position = last.envelope.position
            if not used and self._may_skip(position):
                self._position = position
                return
            try:
                await self._commit(used, position, StreamPlace(stream_id, last.stream_seq))
                self._rejections = 0 if used else self._rejections
                return
            except Exception as error:
                if is_transient(error):
                    raise
        for delivery, read in zip(batch, reads, strict=True):
            await self._apply_alone(delivery.envelope, read, StreamPlace(stream_id, delivery.stream_seq))

    def _may_skip(self, to_position: int) -> bool:
        """Whether events that nobody uses here may be passed without writing that down: after a crash they are read
        and passed again. Bounded, so that a restart does not read for long."""
        recent = asyncio.get_running_loop().time() - self._stored_at < SKIP_SECONDS
        return recent and to_position - self._stored < SKIP_EVENTS

    async def _commit(self, reads: Sequence[_Read], to_position: int, place: StreamPlace) -> None:
        await self._consumer.step.commit(self._batch(reads, to_position, place))
        self._moved(to_position)

    def _batch(self, reads: Sequence[_Read], to_position: int, place: StreamPlace) -> _Batch:
        return _Batch(self._consumer, self._partition, reads, self._stored, to_position, place)

    async def _move(self, session: AsyncSession, to_position: int, place: StreamPlace) -> None:
        await _move_cursors(session, [self._batch((), to_position, place)])

    def _moved(self, to_position: int) -> None:
        self._position = self._stored = to_position
        self._stored_at = asyncio.get_running_loop().time()

    async def _apply_alone(self, envelope: Envelope, read: _Read | None, place: StreamPlace) -> None:
        if read is not None and envelope.entity_ref in self._blocked and await self._park(envelope, place):
            return
        try:
            await self._commit([read] if read else [], envelope.position, place)
            self._rejections = 0 if read else self._rejections
        except Exception as error:
            if is_transient(error):
                raise
            await self._reject(envelope, error, place)

    async def _reject(self, envelope: Envelope, error: Exception, place: StreamPlace) -> None:
        reason = dead_letters.reason_of(error)
        log.error("event_rejected", event_name=envelope.event, position=envelope.position, reason=reason, error=error)
        self._consumer.count_rejection()
        await self._put_aside(envelope, reason, place)
        self._rejections += 1
        if self._rejections >= REJECTIONS_IN_A_ROW:
            log.error("consumer_stopped", publisher=envelope.publisher, partition=envelope.partition)
            await asyncio.Event().wait()

    async def _park(self, envelope: Envelope, place: StreamPlace) -> bool:
        """Parks an event behind the letters of its entity. False where there are none any more: a replay, here or
        at another instance, has freed it."""
        async with self._consumer.begin() as session:
            if not await dead_letters.hold_entity(session, envelope):
                self._blocked.discard(envelope.entity_ref)
                return False
            dead_letters.put_event(session, envelope, "PARKED_BEHIND_A_REJECTED_EVENT", parked=True)
            await self._move(session, envelope.position, place)
        self._moved(envelope.position)
        return True

    async def _put_aside(self, envelope: Envelope, reason: str, place: StreamPlace) -> None:
        async with self._consumer.begin() as session:
            dead_letters.put_event(session, envelope, reason, parked=False)
            await self._move(session, envelope.position, place)
        self._moved(envelope.position)
        self._blocked.add(envelope.entity_ref)


async def until_calm(consumers: Collection[Consumer], seconds: float) -> None:
    """Waits while one of the consumers is busy, at most so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while any(consumer.busy for consumer in consumers) and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.05)


def _events_in(batch: _Batch) -> int:
    return len(batch.reads)


def _case_of(message: Message) -> str | None:
    """The case that an event names; None for one that names none."""
    return getattr(message, "case_id", None) or None


def runs_of_one_type(events: Sequence[Event]) -> Iterator[tuple[type[Message], list[Event]]]:
    """The runs of one type in a run for one handler, as long as they can be with each partition in its order."""
    partitions = [list(each) for _, each in groupby(events, key=attrgetter("publisher", "partition"))]
    return _runs(partitions, lambda event: type(event.message))


def _runs(partitions: Sequence[Sequence[T]], kind_of: Callable[[T], K]) -> Iterator[tuple[K, list[T]]]:
    """Runs of one kind, as long as they can be with each partition in its order."""
    rest = [deque((kind, list(run)) for kind, run in groupby(each, key=kind_of)) for each in partitions]
    while rest := [each for each in rest if each]:
        kind = rest[0][0][0]
        yield kind, [item for each in rest if each[0][0] == kind for item in each.popleft()[1]]
