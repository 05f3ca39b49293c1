"""Is everything counted once for the public, and nobody in it?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from sqlalchemy import text

from misuse.case.v1 import events_pb2 as case_events
from misuse.removal.v1 import removal_service_pb2 as pb
from services.removal.adapters.ways import Sending
from services.removal.handlers.counting import count_at
from tests.integration.removal.world import START, Running, World, as_error
from tests.simulators.platform import PlatformSimulator

# What the relay does to committed rows.
STAMP = text(
    "UPDATE outbox o SET position = n.place FROM (SELECT seq, row_number() OVER (PARTITION BY partition ORDER BY seq)"
    " AS place FROM outbox) n WHERE o.seq = n.seq AND o.position IS NULL"
)
MONTH = f"{START:%Y-%m}"


@pytest.fixture
async def world(migrated: str, tmp_path: Path, platform: PlatformSimulator) -> AsyncIterator[World]:
    """The service with all ways to the simulator."""
    async with Running(migrated, tmp_path, platform, Sending(on=True, redirects=platform.endpoints())) as made:
        yield made


async def counts(world: World) -> dict[tuple[str, str, str], int]:
    """(platform, what, reason) → how often, after an hour."""
    async with world.database.begin() as session:
        await session.execute(STAMP)
    await count_at(world.removal.needs, world.clock.now())
    await world.later(minutes=61)
    request = pb.ListTransparencyCountsRequest(first_month=MONTH, last_month=MONTH)
    answer = await world.stub.ListTransparencyCounts(request, metadata=world.operator())
    assert {MONTH} == {each.month for each in answer.counts}
    return {(each.platform, each.what, each.reason): each.number for each in answer.counts}


async def test_what_was_asked_and_what_came_of_it_is_counted_once_and_outlives_an_erasure(world: World) -> None:
    world.platform.mailroom.tell("x", "reject=NOT_A_VIOLATION", "reject=SOMETHING_ODD")
    people = [await world.person() for _ in range(3)]
    for number, person in enumerate(people):
        await world.packed(person, "x", address=f"https://example.com/{number}")
        await world.work()
    expected = {
        ("x", "REQUESTED", ""): 3,
        ("x", "SUBMITTED", ""): 3,
        ("x", "RECEIVED", ""): 1,
        ("x", "REJECTED", "NOT_A_VIOLATION"): 1,
        ("x", "REJECTED", "OTHER"): 1,
        ("x", "GROUNDLESS", ""): 1,
    }
    assert expected == await counts(world)
    for person in people:
        await world.feed(case_events.SubscriberErasureRequested(subscriber_id=person, round=1))
    assert expected == await counts(world)


async def test_a_resubmission_is_no_second_request(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "reject")
    await world.packed(person, "x")
    await world.work()
    await world.later(days=2)
    found = await counts(world)
    assert (1, 1, 1) == tuple(found["x", what, ""] for what in ("SUBMITTED", "RESUBMITTED", "RECEIVED"))


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        ("2026-13", "2026-13", "MONTH_MALFORMED"),
        ("2026-03", "", "MONTH_MALFORMED"),
        ("2026-03", "2026-02", "TOO_MANY_MONTHS"),
        ("2025-03", "2026-03", "TOO_MANY_MONTHS"),
    ],
)
async def test_a_span_that_is_none_is_refused(world: World, first: str, last: str, reason: str) -> None:
    request = pb.ListTransparencyCountsRequest(first_month=first, last_month=last)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.ListTransparencyCounts(request, metadata=world.operator())
    assert reason == as_error(caught)
