"""Does a consumer go on by itself after interruptions, and does a replay keep an entity's order?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1.events_pb2 import CaseOpened, CaseReopened
from misuse.ops.v1 import ops_pb2
from services.chassis.broker import Delivery
from services.chassis.bus import Consumer, Event
from services.chassis.clock import SystemClock
from services.chassis.database import is_transient
from services.chassis.errors import FailedPrecondition, OutOfRange, Unavailable
from services.chassis.ids import uuid7
from services.chassis.ops import OpsServicer
from services.chassis.outbox import OUTBOX, _envelope, _stamped, partition_of, republish
from services.chassis.tasks import end
from tests.integration.chassis.test_bus import PARTITIONS, SEEN, Bus, _bus, _delete_stream

pytestmark = pytest.mark.slow


@pytest.fixture
async def bus(database_url: Callable[[str], str], nats_url: str) -> AsyncIterator[Bus]:
    async with _bus(database_url, nats_url) as bus:
        yield bus


async def _published(bus: Bus, *case_ids: str, subscriber: str) -> None:
    """Publishes and ends the relay, so that no announcement follows."""
    relay = bus.start_relay()
    await bus.opened(*case_ids, subscriber=subscriber)
    await asyncio.sleep(1.0)
    await end(relay)


async def test_an_event_that_failed_for_a_moment_behind_a_rejected_one_is_applied_without_help(bus: Bus) -> None:
    failures = ["away"]

    async def apply(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            assert isinstance(event.message, CaseOpened)
            if event.message.case_id == "poison":
                raise FailedPrecondition("TEST_POISON", "Refused by the test.")
            if event.message.case_id == "third" and failures:
                failures.pop()
                raise Unavailable("PEER_AWAY", "The peer is away.")
            await session.execute(insert(SEEN).values(case_id=event.message.case_id, what="opened"))

    async def nothing(partition: int, position: int) -> None:
        return None

    consumer = Consumer(
        bus.subscriber, bus.broker, "case", {CaseOpened: apply}, nothing, service="notify", partitions=PARTITIONS
    )
    relay = bus.start_relay()
    async with bus.publisher.begin() as session:
        for case_id, key in (("first", "a"), ("poison", "ill"), ("third", "a"), ("fourth", "a")):
            row_key = _key_in(0, key)
            bus.outbox.event(session, row_key, CaseOpened(case_id=case_id, subscriber_id=row_key))
    await asyncio.sleep(1.0)
    await end(relay)
    bus.start(consumer.run)
    assert await bus.until_seen(3) == ["first", "third", "fourth"]


def _key_in(partition: int, name: str) -> str:
    return next(k for n in range(100) if partition_of(k := f"{name}{n}", PARTITIONS) == partition)


async def test_a_question_for_lost_events_that_failed_is_asked_again(bus: Bus) -> None:
    asked = list[int]()

    async def ask(partition: int, position: int) -> None:
        asked.append(position)
        if len(asked) == 1:
            raise Unavailable("PEER_AWAY", "The peer is away.")
        await republish(bus.publisher, bus.broker, "case", partition, position)

    await _published(bus, "lost", subscriber="a")
    await _delete_stream(bus)
    bus.broker._checked.clear()
    relay = bus.start_relay()
    await asyncio.sleep(1.0)
    await end(relay)
    consumer = Consumer(
        bus.subscriber, bus.broker, "case", {CaseOpened: bus._apply}, ask, service="notify", partitions=PARTITIONS
    )
    bus.start(consumer.run)
    assert await bus.until_seen(1) == ["lost"]


async def test_live_events_among_the_repeated_ones_do_not_ask_for_all_again(bus: Bus) -> None:
    asked = list[int]()

    async def ask(partition: int, position: int) -> None:
        asked.append(position)
        async with bus.publisher.engine.connect() as connection:
            rows = [*await _stamped(connection, partition, position), *await _stamped(connection, partition, 501)]
            tail = (await _stamped(connection, partition, 1000))[0]
        rows = [row for row in rows if row.position >= position]
        for start in range(0, len(rows), 100):
            chunk = [*rows[start : start + 100], tail]
            await bus.broker.publish("case", [_envelope("case", row) for row in chunk])

    names = [f"case-{n:04d}" for n in range(1000)]
    await _published(bus, *names, subscriber="a")
    await _delete_stream(bus)
    bus.broker._checked.clear()
    relay = bus.start_relay()
    await asyncio.sleep(1.0)
    await end(relay)
    consumer = Consumer(
        bus.subscriber, bus.broker, "case", {CaseOpened: bus._apply}, ask, service="notify", partitions=PARTITIONS
    )
    bus.start(consumer.run)
    assert await bus.until_seen(1000) == names
    assert asked == [1]


async def test_a_long_loss_is_repeated_in_bounded_pieces(bus: Bus) -> None:
    names = [f"case-{n:04d}" for n in range(1200)]
    await _published(bus, *names, subscriber="a")
    partition = partition_of("a", PARTITIONS)
    events, head = await republish(bus.publisher, bus.broker, "case", partition, 1, most=500)
    assert (events, head) == (500, 1200)


async def test_a_durable_that_vanished_ends_the_reading(bus: Bus) -> None:
    await _published(bus, "one", subscriber="a")
    subscription = await bus.broker.follow("case", "notify_case", 0, None)
    _, js = bus.broker._open()
    await js.delete_consumer("CASE", "notify_case_p00")
    with pytest.raises(Unavailable):
        async with asyncio.timeout(8):
            while True:
                deliveries: list[Delivery] = await subscription.fetch(10, 1.0)
                assert deliveries == []


def _ops(bus: Bus, *consumers: Consumer) -> OpsServicer:
    return OpsServicer("notify", bus.subscriber, bus.broker, SystemClock(), consumers)


async def _letters(ops: OpsServicer, count: int) -> list[ops_pb2.DeadLetter]:
    async with asyncio.timeout(10):
        while True:
            page = await ops.ListDeadLetters(ops_pb2.ListDeadLettersRequest(page_size=200), None)
            if len(page.dead_letters) >= count:
                return list(page.dead_letters)
            await asyncio.sleep(0.02)


async def test_a_replay_at_one_instance_frees_the_entity_at_the_other(bus: Bus) -> None:
    bus.refuse.add("poison")
    bus.start_relay()
    bus.start(bus.consumer().run)
    await bus.opened("poison", subscriber="ill")
    other_instance = _ops(bus, bus.consumer())
    await _letters(other_instance, 1)
    bus.refuse.clear()
    await other_instance.ReplayDeadLetters(ops_pb2.ReplayDeadLettersRequest(), None)
    await bus.opened("next", subscriber="ill")
    assert await bus.until_seen(2) == ["poison", "next"]


@pytest.mark.parametrize("named", [0, 1], ids=["the rejected one", "the one behind it"])
async def test_a_named_letter_is_replayed_with_its_whole_entity_in_order(bus: Bus, named: int) -> None:
    bus.refuse.add("poison")
    bus.start_relay()
    consumer = bus.consumer()
    bus.start(consumer.run)
    await bus.opened("poison", "behind", subscriber="ill")
    ops = _ops(bus, consumer)
    letters = await _letters(ops, 2)
    bus.refuse.clear()
    request = ops_pb2.ReplayDeadLettersRequest(dead_letter_ids=[letters[named].dead_letter_id])
    answer = await ops.ReplayDeadLetters(request, None)
    assert await bus.seen() == ["poison", "behind"]
    assert (answer.replayed, answer.rejected) == (2, 0)


async def test_an_event_that_comes_during_a_replay_is_applied_after_it(bus: Bus) -> None:
    replaying = asyncio.Event()

    async def apply(session: AsyncSession, events: Sequence[Event]) -> None:
        if replaying.is_set() and events[0].message.case_id == "poison":  # type: ignore[attr-defined] # CaseOpened
            await bus.opened("late", subscriber="ill")
            await asyncio.sleep(1.5)
        await bus._apply(session, events)

    bus.refuse.add("poison")
    bus.start_relay()
    consumer = Consumer(
        bus.subscriber,
        bus.broker,
        "case",
        {CaseOpened: apply},
        lambda p, n: asyncio.sleep(0),
        service="notify",
        partitions=PARTITIONS,
    )
    bus.start(consumer.run)
    await bus.opened("poison", "behind", subscriber="ill")
    ops = _ops(bus, consumer)
    await _letters(ops, 2)
    bus.refuse.clear()
    replaying.set()
    await ops.ReplayDeadLetters(ops_pb2.ReplayDeadLettersRequest(), None)
    assert await bus.until_seen(3) == ["poison", "behind", "late"]
    assert (await ops.ListDeadLetters(ops_pb2.ListDeadLettersRequest(), None)).total == 0


async def test_events_that_nobody_uses_do_not_hide_rejections_in_a_row(bus: Bus) -> None:
    bus.start_relay()
    consumer = bus.consumer()
    keys = [k for n in range(300) if partition_of(k := f"k{n}", PARTITIONS) == 0][:60]
    bus.refuse.update(keys)
    async with bus.publisher.begin() as session:
        for key in keys:
            bus.outbox.event(session, key, CaseOpened(case_id=key, subscriber_id=key))
            bus.outbox.event(session, key, CaseReopened(case_id=key, subscriber_id=key))
    bus.start(consumer.run)
    ops = _ops(bus, consumer)
    await _letters(ops, 50)
    await asyncio.sleep(1.0)
    assert len(await _letters(ops, 50)) == 50


async def test_old_rows_leave_the_outbox_however_many(bus: Bus) -> None:
    old = datetime.now(UTC) - timedelta(days=15)
    row = {"partition": 0, "event": "x", "entity_ref": b"", "payload": b"", "traceparent": "", "create_time": old}
    async with bus.publisher.begin() as session:
        rows = [row | {"position": n, "event_id": uuid7()} for n in range(-25_000, 0)]
        await session.execute(insert(OUTBOX), rows)
    bus.start_relay()
    async with asyncio.timeout(8):
        while True:
            async with bus.publisher.begin() as session:
                if await session.scalar(select(func.count()).select_from(OUTBOX)) == 0:
                    return
            await asyncio.sleep(0.2)


def test_a_pool_without_a_free_connection_is_a_passing_trouble() -> None:
    assert is_transient(PoolTimeout())


async def test_a_position_out_of_bounds_is_refused(bus: Bus) -> None:
    with pytest.raises(OutOfRange):
        await republish(bus.publisher, bus.broker, "case", 100_000, 1)
