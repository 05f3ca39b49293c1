"""Do requests that are on their way at the same time share transactions, and is each still dealt with by itself?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event, text

from misuse.removal.v1 import removal_service_pb2 as pb
from services.chassis.due import TAKE, DueWorker
from services.removal.handlers import PREPARE, SUBMIT
from tests.integration.removal.world import ADDRESS, World


async def work_side_by_side(world: World, *kinds: str) -> None:
    """Does what is due of these kinds, all at once, until nothing is."""
    handlers = {kind: handler for kind, handler in world.removal.due().items() if not kinds or kind in kinds}
    worker = DueWorker(world.database, world.clock, handlers, parallel=TAKE)
    while items := await worker._take():
        await asyncio.gather(*(worker._run_one(item) for item in items))


@asynccontextmanager
async def transactions(world: World) -> AsyncIterator[list[int]]:
    """Counts those that are begun."""
    begun: list[int] = []

    def count(_: object) -> None:
        begun.append(1)

    event.listen(world.database.engine.sync_engine, "begin", count)
    try:
        yield begun
    finally:
        event.remove(world.database.engine.sync_engine, "begin", count)


@pytest.mark.slow
async def test_many_requests_are_filed_once_each_in_a_few_transactions(world: World) -> None:
    people = [await world.person() for _ in range(12)]
    for number, person in enumerate(people):
        await world.packed(person, ("naver", "telegram", "x")[number % 3])
    async with transactions(world) as begun:
        await work_side_by_side(world, PREPARE)
    # Alone, each would have begun three.
    assert len(begun) < 12 * 2
    await work_side_by_side(world)

    assert [pb.REMOVAL_STATE_RECEIVED] * 12 == [(await world.only(person)).state for person in people]
    assert 8 == len({form["idempotency_key"] for form in world.forms}) == len(world.forms)
    assert 4 == len({mail["message_id"] for mail in world.mails}) == len(world.mails)
    assert 12 * 4 == len(await world.states())


async def test_a_page_that_two_cases_find_at_once_is_one_request(world: World) -> None:
    person = await world.person()
    cases = [(await world.packed(person, "naver"))[0] for _ in range(3)]
    await work_side_by_side(world)

    assert sorted(cases) == sorted((await world.only(person)).case_ids)
    assert 1 == len(world.forms)


async def test_one_that_cannot_be_made_hinders_no_other(world: World) -> None:
    people = [await world.person() for _ in range(4)]
    for person in people:
        await world.packed(person, "naver")
    world.removal.store._surroundings.keys.destroy(people[1])
    await work_side_by_side(world, PREPARE)

    assert [1, 0, 1, 1] == [len(await world.requests(person)) for person in people]


async def test_what_another_transaction_holds_is_waited_for_by_nobody_else(world: World) -> None:
    people = [await world.person() for _ in range(4)]
    for person in people:
        await world.packed(person, "telegram")
    await work_side_by_side(world, PREPARE)
    held = await world.only(people[2])
    async with world.database.begin() as session:
        query = text("SELECT 1 FROM removal_request WHERE request_id = :id FOR UPDATE")
        await session.execute(query, {"id": held.removal_request_id})
        working = asyncio.create_task(work_side_by_side(world, SUBMIT))
        while len(world.mails) < 3:
            assert not working.done()
            await asyncio.sleep(0.01)
    await working
    assert [pb.REMOVAL_STATE_RECEIVED] * 4 == [(await world.only(person)).state for person in people]


async def test_each_writes_in_its_own_trace(world: World) -> None:
    people = [await world.person() for _ in range(3)]
    for person in people:
        await world.packed(person, "x", address=f"{ADDRESS}{person[-4:]}")
    async with world.database.begin() as session:
        await session.execute(
            text("UPDATE due SET traceparent = '00-' || md5(entity_id) || '-00000000000000aa-01'")
        )
    await work_side_by_side(world, PREPARE)
    async with world.database.begin() as session:
        query = text(
            "SELECT count(DISTINCT substr(o.traceparent, 4, 32)) FROM outbox o WHERE o.traceparent LIKE '00-%'"
            " AND EXISTS (SELECT FROM packed_sighting p WHERE substr(o.traceparent, 4, 32) = md5(p.case_id))"
        )
        assert 3 == await session.scalar(query)
