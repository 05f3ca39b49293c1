"""Does whoever watches cases see every change, also those that commit late, and go on where he left?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listen

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1.case_pb2 import CASE_STATE_CLOSED, RESOLUTION_REMOVED
from services.case.handlers import watching
from services.chassis.broker import Broker
from services.chassis.outbox import Relay
from services.chassis.tasks import end
from tests.integration.case.world import World, refused

CASES = 16


@pytest.fixture
async def relayed(world: World, nats_url: str) -> AsyncIterator[World]:
    """The world with its relay at work, which gives committed rows their positions."""
    broker = Broker(nats_url, "case")
    await broker.connect()
    partitions = world.service.units.outbox.partitions
    relay = asyncio.ensure_future(Relay(world.database, broker, "case", partitions).run())
    yield world
    await end(relay)
    await broker.close()


@asynccontextmanager
async def watching_from(world: World, token: str = "", **wanted: str) -> AsyncIterator[Any]:
    """An open stream, with its first answer taken: the token alone."""
    call = world.cases.WatchCases(pb.WatchCasesRequest(resume_token=token, **wanted), metadata=world.operator)
    first = await call.read()
    assert isinstance(first, pb.WatchCasesResponse)
    assert ("", False) == (first.event, first.HasField("case"))
    try:
        yield call
    finally:
        call.cancel()


async def changes(call: Any, count: int) -> list[pb.WatchCasesResponse]:
    """The next changes, tokens alone left out."""
    found: list[pb.WatchCasesResponse] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            answer = await call.read()
            if answer.event:
                found.append(answer)
    return found


async def test_a_watcher_sees_the_life_of_a_case(relayed: World) -> None:
    person = await relayed.person()
    async with watching_from(relayed) as call:
        await relayed.match(relayed.facts(person, cluster_id="c1"))
        await relayed.match(relayed.facts(person, cluster_id="c1"))
        [opened, sighted] = await changes(call, 2)
        close = pb.CloseCaseRequest(case_id=opened.case.case_id, request_id="c", resolution=RESOLUTION_REMOVED)
        await relayed.cases.CloseCase(close, metadata=relayed.operator)
        [closed] = await changes(call, 1)
    assert ["CaseOpened", "CaseSighted", "CaseClosed"] == [opened.event, sighted.event, closed.event]
    assert (2, CASE_STATE_CLOSED) == (sighted.case.sighting_count, closed.case.state)


async def test_a_subscribers_changes_alone_are_shown(relayed: World) -> None:
    one, other = await relayed.person(), await relayed.person()
    async with watching_from(relayed, subscriber_id=other) as call:
        await relayed.match(relayed.facts(one, cluster_id="c1"), relayed.facts(other, cluster_id="c1"))
        [change] = await changes(call, 1)
    assert other == change.case.subscriber_id


@pytest.mark.slow
async def test_nothing_is_missed_by_resuming_anywhere_while_transactions_commit_in_any_order(relayed: World) -> None:
    people = await asyncio.gather(*(relayed.person() for _ in range(CASES)))

    async def open_slowly(number: int, person: str) -> None:
        """Writes its rows first and commits later: a reader by row number would have passed them by then."""
        async with relayed.database.begin() as session:
            pause = text(f"SELECT pg_sleep({0.03 * (number * 7 % 5)})")
            listen(session.sync_session, "before_commit", lambda sync: sync.execute(pause) and None)
            await relayed.service.following.matched(session, [relayed.event(relayed.facts(person, cluster_id="c"))])

    token, seen = "", list[str]()
    async with watching_from(relayed) as call:
        await relayed.match(relayed.facts(people[0], cluster_id="c"))
        [first] = await changes(call, 1)
        token = first.resume_token
        seen.append(first.case.subscriber_id)
    work = asyncio.gather(*(open_slowly(number, person) for number, person in enumerate(people[1:])))
    while len(seen) < CASES:
        # Whoever watches leaves after each few changes and comes back with the last token.
        async with watching_from(relayed, token) as call:
            found = await changes(call, min(5, CASES - len(seen)))
        token = found[-1].resume_token
        seen += [change.case.subscriber_id for change in found]
    await work
    assert sorted(people) == sorted(seen)


async def test_a_token_that_the_outbox_no_longer_reaches_is_refused(relayed: World) -> None:
    person = await relayed.person()
    async with watching_from(relayed) as call:
        await relayed.match(relayed.facts(person, cluster_id="c1"))
        [opened] = await changes(call, 1)
        await relayed.match(relayed.facts(person, cluster_id="c1"), relayed.facts(person, cluster_id="c1"))
        await changes(call, 2)
    await relayed.sql("DELETE FROM outbox WHERE position IS NOT NULL")
    with refused("POSITION_NO_LONGER_KEPT"):
        async with watching_from(relayed, opened.resume_token) as call:
            await changes(call, 1)


@pytest.mark.parametrize("token", ["x", "AQ==", "!!!!", "AQABAAAAAAAAAAE="])
async def test_a_token_that_is_not_ours_is_refused(world: World, token: str) -> None:
    with refused("BAD_RESUME_TOKEN"):
        async with watching_from(world, token):
            pass


async def test_watchers_are_bounded(world: World) -> None:
    world.service.needs.watching.watchers = watching.MOST_WATCHERS
    with refused("WATCHERS_FULL"):
        async with watching_from(world):
            pass
    world.service.needs.watching.watchers -= 1
    async with watching_from(world):
        pass


async def test_a_subscriber_may_not_watch(world: World) -> None:
    person = await world.person()
    call = world.cases.WatchCases(pb.WatchCasesRequest(subscriber_id=person), metadata=world.subscriber(person))
    with refused("ROLE_NOT_ALLOWED"):
        await call.read()
