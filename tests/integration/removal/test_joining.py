"""Are requests of several subscribers about one page joined where each mandate allows it, and nowhere else?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.case.v1 import events_pb2 as case_events
from misuse.removal.v1 import removal_service_pb2 as pb
from services.chassis.ids import uuid7
from services.removal.adapters.ways import Sending
from tests.integration.removal.world import POLICIES, Running, World, stamp
from tests.simulators.platform import PlatformSimulator

FILE, SUPPLEMENT, JOIN = pb.MANDATE_SCOPE_FILE, pb.MANDATE_SCOPE_SUPPLEMENT, pb.MANDATE_SCOPE_JOIN
CHECKED, RECEIVED, REMOVED = pb.REMOVAL_STATE_CHECKED, pb.REMOVAL_STATE_RECEIVED, pb.REMOVAL_STATE_REMOVED
X = POLICIES.get("x")


@pytest.fixture
async def world(migrated: str, tmp_path: Path, platform: PlatformSimulator) -> AsyncIterator[World]:
    """The service with all ways to the simulator."""
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path, platform, sending) as made:
        yield made


async def person(world: World, *scope: pb.MandateScope.ValueType) -> str:
    """A subscriber whose mandate lets us do this much."""
    subscriber_id = await world.person(mandate=False)
    expire: Timestamp = stamp(world.clock.now() + timedelta(days=365))
    request = pb.GrantMandateRequest(
        subscriber_id=subscriber_id, request_id=uuid7(), document_sha256=b"\x01" * 32, expire_time=expire, scope=scope
    )
    await world.stub.GrantMandate(request, metadata=world.subscriber(subscriber_id))
    return subscriber_id


async def two_of_one_page(world: World, platform: str = "x") -> tuple[str, str]:
    """Two people on one page, both let us join; the first one's request is with the platform."""
    first, second = await person(world, FILE, SUPPLEMENT, JOIN), await person(world, FILE, SUPPLEMENT, JOIN)
    for each in (first, second):
        await world.packed(each, platform)
        await world.work()
    return first, second


async def stands(world: World, who: str) -> tuple[pb.RemovalState.ValueType, str]:
    request = await world.only(who)
    return request.state, request.reason


@pytest.mark.parametrize("where", ["x", "naver"])
async def test_one_filing_stands_for_both_where_both_mandates_let_it(world: World, where: str) -> None:
    first, second = await two_of_one_page(world, where)
    assert ((RECEIVED, ""), (CHECKED, "JOINED")) == (await stands(world, first), await stands(world, second))
    assert [("JOINED", "")] == await world.notes("JOIN")
    leader = await world.only(first)
    await world.tell(first, leader.removal_request_id, pb.SUBSCRIBER_ANSWER_GONE)
    await world.work()
    assert [REMOVED, REMOVED] == [(await world.only(who)).state for who in (first, second)]
    assert 1 == len(world.forms)


async def test_two_that_become_ready_at_the_same_moment_lead_to_one_filing(world: World) -> None:
    people = [await person(world, FILE, JOIN) for _ in range(3)]
    for each in people:
        await world.packed(each, "x")
    await world.work()
    reasons = sorted([(await stands(world, who))[1] for who in people])
    assert (["", "JOINED", "JOINED"], 1) == (reasons, len(world.forms))


@pytest.mark.parametrize("lets", [True, False])
async def test_without_the_word_of_either_each_is_filed_for_itself(world: World, lets: bool) -> None:
    first = await person(world, FILE, *([JOIN] if lets else []))
    second = await person(world, FILE, *([] if lets else [JOIN]))
    for each in (first, second):
        await world.packed(each, "x")
        await world.work()
    assert [RECEIVED, RECEIVED] == [(await world.only(who)).state for who in (first, second)]
    assert 2 == len(world.forms)


async def test_other_pages_and_other_platforms_are_not_joined(world: World) -> None:
    first, second = await person(world, FILE, JOIN), await person(world, FILE, JOIN)
    await world.packed(first, "x")
    await world.work()
    await world.packed(second, "x", address="https://www.example.com/board/view?no=18")
    await world.packed(second, "tiktok")
    await world.work()
    assert {RECEIVED} == {request.state for request in await world.requests(second)}
    assert 3 == len(world.forms)


async def test_when_the_first_is_turned_down_the_second_goes_its_own_way(world: World) -> None:
    first, second = await two_of_one_page(world)
    leader = await world.only(first)
    await world.answer(leader.removal_request_id, pb.PLATFORM_ANSWER_REJECTED, reason="NOT_A_VIOLATION")
    await world.work()
    assert (RECEIVED, "") == await stands(world, second)
    assert (2, [("JOINED", ""), ("PARTED", "")]) == (len(world.forms), await world.notes("JOIN"))


async def test_when_the_first_person_leaves_the_second_goes_on(world: World) -> None:
    first, second = await two_of_one_page(world)
    await world.feed(case_events.SubscriberErasureRequested(subscriber_id=first, round=1))
    await world.work()
    assert (RECEIVED, "") == await stands(world, second)
    assert 2 == len(world.forms)


async def test_another_is_not_waited_for_without_end(world: World) -> None:
    first, second = await two_of_one_page(world)
    await world.suspend(first)
    assert X is not None
    await world.later(hours=X.expected.give_up.total_seconds() / 3600 + 1)
    assert (RECEIVED, "") == await stands(world, second)
    assert 2 == len(world.forms)


async def test_what_bars_the_first_from_being_filed_by_us_frees_the_second(world: World) -> None:
    first, second = await person(world, FILE, JOIN), await person(world, FILE, JOIN)
    world.platform.mailroom.tell("x", "500")
    await world.packed(first, "x")
    await world.work()
    await world.packed(second, "x")
    await world.work()
    assert (CHECKED, "JOINED") == await stands(world, second)
    world.platform.mailroom.tell("x", "captcha")
    await world.later(seconds=5)
    assert ((CHECKED, "CAPTCHA"), (RECEIVED, "")) == (await stands(world, first), await stands(world, second))
