"""Does every committed event arrive once, in order, whatever breaks between?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from google.protobuf.message import Message
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Identity,
    MetaData,
    Table,
    Text,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1.events_pb2 import CaseClosed, CaseOpened, CaseReopened
from misuse.log.v1.record_pb2 import LogRecord
from misuse.ops.v1 import ops_pb2
from services.chassis import dead_letters
from services.chassis.broker import PULL, Broker, Envelope, StreamPlace
from services.chassis.bus import Consumer, Event, Handler, Step
from services.chassis.clock import SystemClock
from services.chassis.database import Database, chassis_tables
from services.chassis.errors import FailedPrecondition
from services.chassis.ops import OpsServicer
from services.chassis.outbox import Outbox, Relay, partition_of, republish
from services.chassis.tasks import end

PARTITIONS = 2
METADATA = MetaData()
SEEN = Table(
    "seen",
    METADATA,
    Column("n", BigInteger, Identity(), primary_key=True),
    Column("case_id", Text, nullable=False),
    Column("what", Text, nullable=False),
)
chassis_tables(METADATA)


@dataclass
class Bus:
    """A publisher `case` and a consumer `notify`, each with its own database."""

    publisher: Database
    subscriber: Database
    broker: Broker
    outbox: Outbox
    refuse: set[str] = field(default_factory=set)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    together: list[set[int]] = field(default_factory=list)
    """Of each run of events: the partitions that they come from."""

    async def opened(self, *case_ids: str, subscriber: str = "") -> None:
        async with self.publisher.begin() as session:
            for case_id in case_ids:
                event = CaseOpened(case_id=case_id, subscriber_id=subscriber or case_id)
                self.outbox.event(session, event.subscriber_id, event)

    async def seen(self) -> list[str]:
        async with self.subscriber.begin() as session:
            return list((await session.scalars(select(SEEN.c.case_id).order_by(SEEN.c.n))).all())

    async def until_seen(self, count: int) -> list[str]:
        async with asyncio.timeout(20):
            while len(seen := await self.seen()) < count:
                await asyncio.sleep(0.02)
        return seen

    async def _apply(self, session: AsyncSession, events: Sequence[Event]) -> None:
        self.batches.append(len(events))
        self.together.append({event.partition for event in events})
        for event in events:
            assert isinstance(event.message, CaseOpened | CaseClosed)
            if event.message.case_id in self.refuse:
                raise FailedPrecondition("TEST_POISON", "Refused by the test.")
            what = "opened" if isinstance(event.message, CaseOpened) else "closed"
            await session.execute(insert(SEEN).values(case_id=event.message.case_id, what=what))

    async def _apply_record(self, session: AsyncSession, events: Sequence[Event]) -> None:
        self.batches.append(len(events))
        for event in events:
            assert isinstance(event.message, LogRecord)
            if event.message.entity_id in self.refuse:
                raise FailedPrecondition("TEST_POISON", "Refused by the test.")
            await session.execute(insert(SEEN).values(case_id=event.message.entity_id, what="record"))

    def consumer(self, *only: type[Message], step: Step | None = None) -> Consumer:
        """Of both lanes, or of some kinds; in step with others, its batches may grow."""

        async def ask(partition: int, position: int) -> None:
            await republish(self.publisher, self.broker, "case", partition, position)

        handlers: dict[type[Message], Handler] = {
            CaseOpened: self._apply,
            CaseClosed: self._apply,
            LogRecord: self._apply_record,
        }
        return Consumer(
            self.subscriber,
            self.broker,
            "case",
            {kind: handler for kind, handler in handlers.items() if kind in only or not only},
            ask,
            service="notify",
            partitions=PARTITIONS,
            gathers=True if step else None,
            step=step,
        )

    def start(self, run: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(run())
        self.tasks.append(task)
        return task

    def start_relay(self) -> asyncio.Task[None]:
        return self.start(Relay(self.publisher, self.broker, "case", PARTITIONS).run)


@asynccontextmanager
async def _bus(database_url: Callable[[str], str], nats_url: str) -> AsyncIterator[Bus]:
    publisher, subscriber = Database(database_url("case")), Database(database_url("notify"))
    broker = Broker(nats_url, "test")
    async with AsyncExitStack() as stack:
        for database in (publisher, subscriber):
            async with database.engine.begin() as connection:
                await connection.run_sync(METADATA.create_all)
            stack.push_async_callback(database.close)
        await broker.connect()
        stack.push_async_callback(broker.close)
        bus = Bus(publisher, subscriber, broker, Outbox("case", PARTITIONS, b"pepper"))
        try:
            yield bus
        finally:
            await end(*bus.tasks)


@pytest.fixture
async def bus(database_url: Callable[[str], str], nats_url: str) -> AsyncIterator[Bus]:
    async with _bus(database_url, nats_url) as bus:
        yield bus


async def test_committed_events_arrive_once_and_in_the_order_of_their_entity(bus: Bus) -> None:
    bus.start_relay()
    bus.start(bus.consumer().run)
    expected = [f"case-{n:03d}" for n in range(300)]
    for start in range(0, 300, 50):
        await bus.opened(*expected[start : start + 50], subscriber="somebody")
    assert await bus.until_seen(300) == expected
    assert max(bus.batches) > 1


async def test_partitions_that_have_something_at_the_same_time_share_a_transaction(bus: Bus) -> None:
    bus.start_relay()
    bus.start(bus.consumer(CaseOpened, CaseClosed).run)
    people = [next(f"{n}" for n in range(99) if partition_of(f"{n}", PARTITIONS) == p) for p in range(PARTITIONS)]
    for turn in range(20):
        async with bus.publisher.begin() as session:
            for person in people if turn % 3 else reversed(people):
                for event in (CaseOpened, CaseClosed)[:: 1 if person == people[0] else -1]:
                    message = event(case_id=f"{person}/{turn}", subscriber_id=person)
                    bus.outbox.event(session, person, message)
        await asyncio.sleep(0.03)
    await bus.until_seen(80)
    assert set(range(PARTITIONS)) in bus.together
    async with bus.subscriber.begin() as session:
        seen = (await session.execute(select(SEEN.c.case_id, SEEN.c.what).order_by(SEEN.c.n))).all()
    for person, order in zip(people, (("opened", "closed"), ("closed", "opened")), strict=True):
        wanted = [(f"{person}/{turn}", what) for turn in range(20) for what in order]
        assert wanted == [tuple(row) for row in seen if row.case_id.startswith(f"{person}/")]


async def test_consumers_in_step_share_transactions(bus: Bus) -> None:
    step = Step()
    bus.start_relay()
    for kind in (CaseOpened, LogRecord):
        bus.start(bus.consumer(kind, step=step).run)
    for number in range(8):
        async with bus.publisher.begin() as session:
            bus.outbox.event(session, "a", CaseOpened(case_id=f"case {number}", subscriber_id="a"))
            bus.outbox.record(session, "b", LogRecord(entity="case", entity_id=f"record {number}"))
        await asyncio.sleep(0.1)
    await bus.until_seen(16)
    transaction: ColumnElement[str] = literal_column("xmin::text")
    written = select(transaction, func.array_agg(SEEN.c.what.distinct())).select_from(SEEN).group_by(transaction)
    async with bus.subscriber.begin() as session:
        transactions = (await session.execute(written)).all()
    assert ["opened", "record"] in [sorted(what) for _, what in transactions]
    assert len(transactions) <= 4


async def test_what_one_partition_cannot_apply_stops_no_other(bus: Bus) -> None:
    bus.refuse = {"17"}
    bus.start_relay()
    bus.start(bus.consumer(CaseOpened).run)
    for start in range(0, 24, 2):
        await bus.opened(f"{start}", f"{start + 1}")
        await asyncio.sleep(0.03)
    assert {f"{n}" for n in range(24)} - {"17"} == set(await bus.until_seen(23))
    async with bus.subscriber.begin() as session:
        letters, _ = await dead_letters.page(session, 10, None)
    assert ["TEST_POISON"] == [letter.reason for letter in letters]


async def test_a_transaction_that_rolls_back_publishes_nothing(bus: Bus) -> None:
    bus.start_relay()
    bus.start(bus.consumer().run)
    with pytest.raises(RuntimeError):
        async with bus.publisher.begin() as session:
            bus.outbox.event(session, "a", CaseOpened(case_id="lost", subscriber_id="a"))
            raise RuntimeError
    await bus.opened("kept", subscriber="a")
    assert await bus.until_seen(1) == ["kept"]


async def test_events_that_nobody_uses_are_skipped(bus: Bus) -> None:
    bus.start_relay()
    bus.start(bus.consumer().run)
    async with bus.publisher.begin() as session:
        bus.outbox.event(session, "a", CaseReopened(case_id="x", subscriber_id="a"))
    await bus.opened("y", subscriber="a")
    assert await bus.until_seen(1) == ["y"]


@pytest.mark.slow
async def test_events_do_not_wait_behind_records_of_the_same_entity(bus: Bus) -> None:
    async with bus.publisher.begin() as session:
        for number in range(50):
            bus.outbox.record(session, "a", LogRecord(entity="case", entity_id=f"record {number}"))
        bus.outbox.event(session, "a", CaseOpened(case_id="one", subscriber_id="a"))
    bus.start_relay()
    events, records = bus.consumer(CaseOpened), bus.consumer(LogRecord)
    bus.start(events.run)
    assert await bus.until_seen(1) == ["one"]
    assert bus.batches == [1]
    bus.start(records.run)
    assert (await bus.until_seen(51))[1:] == [f"record {number}" for number in range(50)]


@pytest.mark.slow
async def test_records_that_trickle_in_are_applied_together(bus: Bus) -> None:
    bus.start_relay()
    bus.start(bus.consumer(LogRecord).run)
    for number in range(8):
        async with bus.publisher.begin() as session:
            bus.outbox.record(session, "a", LogRecord(entity="case", entity_id=f"record {number}"))
        await asyncio.sleep(0.05)
    assert await bus.until_seen(8) == [f"record {number}" for number in range(8)]
    assert len(bus.batches) <= 3


@pytest.mark.slow
async def test_who_gathers_waits_no_longer_than_for_what_it_takes(bus: Bus) -> None:
    await bus.opened(*(f"case {number}" for number in range(300)), subscriber="a")
    await bus.broker.ensure_stream("case")
    bus.start_relay()
    subscription = await bus.broker.follow("case", "test", partition_of("a", PARTITIONS), None)
    async with asyncio.timeout(30):
        found = await subscription.fetch(200, 20.0)
        found += await subscription.gather(200 - len(found), 60.0)
        assert list(range(1, 201)) == [delivery.envelope.position for delivery in found]
        while len(found) < 300:
            found += await subscription.gather(200, 0.05)
    assert list(range(1, 301)) == [delivery.envelope.position for delivery in found]
    await subscription.close()


async def test_events_of_one_kind_that_follow_each_other_are_one_message_and_arrive_as_they_are(bus: Bus) -> None:
    await bus.broker.ensure_stream("case")
    kinds = ["case_opened", "case_opened", "case_closed", "case_opened", "case_opened", "case_opened"]
    sent = [
        Envelope("case", kind, 1, n, f"id-{n}", bytes([n] * 8), "" if n % 2 else f"trace-{n}", b"x" * (n - 1))
        for n, kind in enumerate(kinds, start=1)
    ]
    await bus.broker.publish("case", sent)
    subscription = await bus.broker.follow("case", "test", 1, None)
    found = await subscription.fetch(200, 20.0)
    found += await subscription.gather(len(sent) - len(found), 20.0)
    assert sent == [delivery.envelope for delivery in found]
    # Three messages; whoever has dealt with a part of one goes on behind the message before it.
    assert [0, 1, 2, 2, 2, 3] == [delivery.stream_seq for delivery in found]
    await subscription.close()
    # A reader of the release before passes what has no position, and reads an entity of whatever has one.
    assert bus.broker._js is not None
    for number, run in ((1, True), (2, False), (3, True)):
        headers = (await bus.broker._js.get_msg("CASE", number)).headers or {}
        assert (run, not run, not run) == tuple(f"Jikimi-{each}" in headers for each in ("Run", "Position", "Entity"))

    after = StreamPlace(subscription.stream_id, found[3].stream_seq)
    again = await bus.broker.follow("case", "test", 1, after)
    assert sent[3:] == [delivery.envelope for delivery in await again.fetch(200, 20.0)]
    await again.close()


@pytest.mark.slow
async def test_who_is_far_behind_asks_for_no_more_than_it_takes(bus: Bus) -> None:
    await bus.broker.ensure_stream("case")
    # Kinds that alternate: each event is a message.
    kinds = ("case_opened", "case_closed")
    sent = [Envelope("case", kinds[n % 2], 1, n, f"id-{n}", bytes(8), "", b"x") for n in range(1, 4001)]
    await bus.broker.publish("case", sent)
    subscription = await bus.broker.follow("case", "test", 1, None)
    found = []
    for _ in range(20):
        found += await subscription.fetch(20, 20.0)
        await asyncio.sleep(0.02)
    assert [each.position for each in sent[: len(found)]] == [delivery.envelope.position for delivery in found]
    assert bus.broker._js is not None
    kept_back = (await bus.broker._js.consumer_info("CASE", "test_p01")).num_pending
    assert kept_back is not None
    assert kept_back > len(sent) - len(found) - 3 * PULL
    await subscription.close()


async def test_a_run_larger_than_what_is_asked_for_is_taken_whole(bus: Bus) -> None:
    await bus.broker.ensure_stream("case")
    sent = [Envelope("case", "case_opened", 1, n, f"id-{n}", bytes(8), "", b"x") for n in range(1, 31)]
    await bus.broker.publish("case", sent)
    subscription = await bus.broker.follow("case", "test", 1, None)
    async with asyncio.timeout(30):
        assert sent == [delivery.envelope for delivery in await subscription.fetch(20, 20.0)]
    await subscription.close()


async def test_what_is_asked_for_again_comes_one_by_one(bus: Bus) -> None:
    await bus.opened("one", "two", "three", subscriber="a")
    partition = partition_of("a", PARTITIONS)
    await bus.broker.ensure_stream("case")
    bus.start(bus.consumer().run)
    bus.start_relay()
    await bus.until_seen(3)
    await republish(bus.publisher, bus.broker, "case", partition, 1)
    subscription = await bus.broker.follow("case", "test", partition, None)
    found = await subscription.fetch(200, 20.0)
    while len(found) < 6:
        found += await subscription.fetch(200, 20.0)
    assert [1, 2, 3, 1, 2, 3] == [delivery.envelope.position for delivery in found]
    assert [0, 0, 1, 2, 3, 4] == [delivery.stream_seq for delivery in found]
    await subscription.close()


@pytest.mark.slow
async def test_a_rejected_record_holds_up_no_event(bus: Bus) -> None:
    bus.refuse.add("bad record")
    bus.start_relay()
    consumers = [bus.consumer(CaseOpened), bus.consumer(LogRecord)]
    for consumer in consumers:
        bus.start(consumer.run)
    async with bus.publisher.begin() as session:
        bus.outbox.record(session, "a", LogRecord(entity="case", entity_id="bad record"))
    ops = OpsServicer("notify", bus.subscriber, bus.broker, SystemClock(), consumers)
    await _until_letters(ops, 1)
    await bus.opened("one", subscriber="a")
    assert await bus.until_seen(1) == ["one"]
    bus.refuse.clear()
    replayed = await ops.ReplayDeadLetters(ops_pb2.ReplayDeadLettersRequest(), None)
    assert (replayed.replayed, replayed.rejected) == (1, 0)
    assert await bus.until_seen(2) == ["one", "bad record"]


async def test_a_deleted_stream_loses_nothing(bus: Bus) -> None:
    relay = bus.start_relay()
    consumer = bus.start(bus.consumer().run)
    await bus.opened(*(f"before-{n}" for n in range(20)))
    await bus.until_seen(20)
    await end(consumer)
    await bus.opened(*(f"unread-{n}" for n in range(20)))
    await asyncio.sleep(0.5)
    await _delete_stream(bus)
    bus.start(bus.consumer().run)
    await bus.opened(*(f"after-{n}" for n in range(20)))
    seen = await bus.until_seen(60)
    assert not relay.done()
    assert sorted(seen) == sorted(f"{when}-{n}" for when in ("before", "unread", "after") for n in range(20))


@pytest.mark.slow
async def test_a_stream_deleted_while_idle_is_made_anew_and_its_tail_is_asked_for(bus: Bus) -> None:
    bus.start_relay()
    consumer = bus.start(bus.consumer().run)
    await bus.opened("first", subscriber="a")
    await bus.until_seen(1)
    await end(consumer)
    await bus.opened("tail", subscriber="a")
    await asyncio.sleep(0.5)
    await _delete_stream(bus)
    bus.start(bus.consumer().run)
    assert await bus.until_seen(2) == ["first", "tail"]


async def _delete_stream(bus: Bus) -> None:
    _, js = bus.broker._open()
    await js.delete_stream("CASE")


async def test_a_restarted_consumer_goes_on_where_it_committed(bus: Bus) -> None:
    bus.start_relay()
    for round_number in range(5):
        consumer = bus.start(bus.consumer().run)
        await bus.opened(*(f"{round_number}-{n}" for n in range(30)), subscriber="a")
        await bus.until_seen(round_number * 30 + 5)
        await end(consumer)
    bus.start(bus.consumer().run)
    expected = [f"{round_number}-{n}" for round_number in range(5) for n in range(30)]
    assert await bus.until_seen(150) == expected


async def test_two_relays_do_not_publish_out_of_order(bus: Bus) -> None:
    bus.start_relay()
    bus.start_relay()
    bus.start(bus.consumer().run)
    expected = [f"case-{n}" for n in range(100)]
    for case_id in expected:
        await bus.opened(case_id, subscriber="a")
    assert await bus.until_seen(100) == expected


@pytest.mark.slow
async def test_two_instances_share_the_partitions(bus: Bus) -> None:
    bus.start_relay()
    first = bus.start(bus.consumer().run)
    await bus.opened(*(f"a{n}" for n in range(20)))
    await bus.until_seen(20)
    bus.start(bus.consumer().run)
    await asyncio.sleep(6)
    await bus.opened(*(f"b{n}" for n in range(20)))
    await bus.until_seen(40)
    await end(first)
    await bus.opened(*(f"c{n}" for n in range(20)))
    assert len(set(await bus.until_seen(60))) == 60


async def test_a_rejected_event_parks_its_entity_and_lets_the_others_pass(bus: Bus) -> None:
    bus.refuse.add("poison")
    bus.start_relay()
    consumer = bus.consumer()
    bus.start(consumer.run)
    await bus.opened("good-1", "poison", "behind", subscriber="ill")
    await bus.opened("other", subscriber="well")
    assert sorted(await bus.until_seen(2)) == ["good-1", "other"]
    ops = OpsServicer("notify", bus.subscriber, bus.broker, SystemClock(), [consumer])
    letters = await _until_letters(ops, 2)
    assert [(letter.reason, letter.parked) for letter in letters] == [
        ("TEST_POISON", False),
        ("PARKED_BEHIND_A_REJECTED_EVENT", True),
    ]
    refused = await ops.ReplayDeadLetters(ops_pb2.ReplayDeadLettersRequest(), None)
    assert (refused.replayed, refused.rejected) == (0, 2)
    bus.refuse.clear()
    replayed = await ops.ReplayDeadLetters(ops_pb2.ReplayDeadLettersRequest(), None)
    assert (replayed.replayed, replayed.rejected) == (2, 0)
    await bus.opened("next", subscriber="ill")
    assert (await bus.until_seen(5))[2:] == ["poison", "behind", "next"]


async def _until_letters(ops: OpsServicer, count: int) -> list[ops_pb2.DeadLetter]:
    async with asyncio.timeout(10):
        while True:
            page = await ops.ListDeadLetters(ops_pb2.ListDeadLettersRequest(), None)
            # Not `total`: it is counted a moment after the page was read.
            if len(page.dead_letters) >= count:
                return list(page.dead_letters)
            await asyncio.sleep(0.02)


async def test_an_event_that_cannot_be_decoded_is_put_aside(bus: Bus) -> None:
    bus.start_relay()
    consumer = bus.consumer()
    async with bus.publisher.begin() as session:
        bus.outbox.event(session, "a", CaseOpened(case_id="x", subscriber_id="a"))
        session.info["jikimi.pending_rows"][next(iter(session.info["jikimi.pending_rows"]))][0]["payload"] = b"\xff"
    await bus.opened("fine", subscriber="b")
    bus.start(consumer.run)
    assert await bus.until_seen(1) == ["fine"]
    ops = OpsServicer("notify", bus.subscriber, bus.broker, SystemClock(), [consumer])
    assert [letter.reason for letter in await _until_letters(ops, 1)] == ["EVENT_UNREADABLE"]


async def test_dead_letters_are_paged(bus: Bus) -> None:
    async with bus.subscriber.begin() as session:
        for number in range(5):
            dead_letters.put_job(session, "KIND", f"job-{number}", "REASON", "")
    ops = OpsServicer("notify", bus.subscriber, bus.broker, SystemClock(), [])
    first = await ops.ListDeadLetters(ops_pb2.ListDeadLettersRequest(page_size=3), None)
    second = await ops.ListDeadLetters(
        ops_pb2.ListDeadLettersRequest(page_size=3, page_token=first.next_page_token), None
    )
    ids = [letter.dead_letter_id for letter in (*first.dead_letters, *second.dead_letters)]
    assert (len(ids), len(set(ids)), second.next_page_token, first.total) == (5, 5, "", 5)
