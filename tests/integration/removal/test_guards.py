"""Are platforms, the press and the subscriber's own word respected before anything is sent?"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest

from misuse.removal.v1 import events_pb2
from misuse.removal.v1 import removal_service_pb2 as pb
from services.removal.adapters.ways import Sending
from tests.integration.removal.world import RULES, START, Running, World, as_error, stamp, with_partner
from tests.simulators.platform import PlatformSimulator

PRESS = "https://news.example.com/article/1"


async def review(world: World, request_id: str, who: str, *, approve: bool = True) -> pb.ReviewRemovalRequestResponse:
    """Somebody looks at a request of possible public interest."""
    request = pb.ReviewRemovalRequestRequest(removal_request_id=request_id, approve=approve)
    answer: pb.ReviewRemovalRequestResponse = await world.stub.ReviewRemovalRequest(
        request, metadata=world.operator(who)
    )
    return answer


async def test_a_page_of_the_press_waits_for_two_different_people(world: World) -> None:
    person = await world.person()
    await world.packed(person, "x", address=PRESS)
    await world.work()
    waiting = await world.only(person)
    assert (pb.REMOVAL_STATE_CHECKED, "WAITS_FOR_REVIEW") == (waiting.state, waiting.reason)
    agreed = [(await review(world, waiting.removal_request_id, who)).approvals for who in ("anna", "anna")]
    await world.work()
    assert ([1, 1], []) == (agreed, world.forms)

    assert 2 == (await review(world, waiting.removal_request_id, "bob")).approvals
    await world.work()
    assert (pb.REMOVAL_STATE_RECEIVED, 1) == ((await world.only(person)).state, len(world.forms))
    assert [("APPROVED", "")] * 3 == await world.notes("REVIEW")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await review(world, waiting.removal_request_id, "carol")
    assert "NOT_WAITING_FOR_REVIEW" == as_error(caught)


async def test_one_refusal_ends_what_may_be_of_public_interest(world: World) -> None:
    person = await world.person()
    await world.packed(person, "x", address=PRESS)
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    await review(world, request_id, "anna")
    ended = (await review(world, request_id, "bob", approve=False)).removal_request
    assert (pb.REMOVAL_STATE_WITHDRAWN, "REVIEW_REFUSED") == (ended.state, (await world.only(person)).reason)
    await world.work()
    assert [] == world.forms


async def test_a_held_platform_gets_nothing_until_two_people_release_it(world: World) -> None:
    held = await world.stub.HoldPlatform(
        pb.HoldPlatformRequest(platform="x", reason="FORM_UNDER_REPAIR"), metadata=world.operator()
    )
    person = await world.person()
    await world.packed(person, "x")
    await world.packed(person, "naver")
    await world.work()
    states = {request.platform: (request.state, request.reason) for request in await world.requests(person)}
    assert "FORM_UNDER_REPAIR" == held.held
    assert (pb.REMOVAL_STATE_CHECKED, "PLATFORM_HELD") == states["x"]
    assert pb.REMOVAL_STATE_RECEIVED == states["naver"][0]

    release = pb.ReleasePlatformRequest(platform="x")
    said = [await world.stub.ReleasePlatform(release, metadata=world.operator(who)) for who in ("anna", "anna", "bob")]
    assert [("FORM_UNDER_REPAIR", 1), ("FORM_UNDER_REPAIR", 1), ("", 2)] == [(one.held, one.approvals) for one in said]
    await world.work()
    assert {pb.REMOVAL_STATE_RECEIVED} == {request.state for request in await world.requests(person)}


@pytest.mark.slow
async def test_a_platform_that_finds_too_many_groundless_is_held_by_itself(world: World) -> None:
    person, rules = await world.person(), RULES.guards
    world.platform.mailroom.tell("x", "reject=NOT_A_VIOLATION", "*")
    for number in range(rules.least_decided + 1):
        await world.packed(person, "x", address=f"https://example.com/{number}")
        await world.work()
        world.clock.advance(timedelta(seconds=1))
    reasons = [request.reason for request in await world.requests(person)]
    assert (1, rules.least_decided) == (reasons.count("PLATFORM_HELD"), reasons.count("NOT_A_VIOLATION"))
    assert [("GROUNDLESS_RATIO", "")] == await world.notes("HOLD")


@pytest.mark.slow
async def test_a_platform_gets_no_more_than_its_pace_and_everybody_gets_a_turn(
    migrated: str, tmp_path: Path, platform: PlatformSimulator
) -> None:
    policies = with_partner(tmp_path, pace={"per_minute": 60, "burst": 2, "per_day": 1000})
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path / "a", platform, sending, policies=policies) as world:
        person = await world.person()
        for number in range(5):
            await world.packed(person, "naver", address=f"https://example.com/{number}")
        await world.work()
        assert 2 == len(world.forms)
        waiting = [request for request in await world.requests(person) if request.reason == "RATE_LIMIT"]
        slots = sorted(request.slot_time.seconds for request in waiting)
        assert [stamp(START).seconds + second for second in (1, 2, 3)] == slots
        for expected in (3, 4, 5):
            await world.later(seconds=1)
            assert expected == len(world.forms)
        assert {pb.REMOVAL_STATE_RECEIVED} == {request.state for request in await world.requests(person)}


async def test_turns_that_were_missed_are_not_made_up_for_at_once(
    migrated: str, tmp_path: Path, platform: PlatformSimulator
) -> None:
    policies = with_partner(tmp_path, pace={"per_minute": 60, "burst": 2, "per_day": 1000})
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path / "a", platform, sending, policies=policies) as world:
        person = await world.person()
        for number in range(9):
            await world.packed(person, "naver", address=f"https://example.com/{number}")
        await world.work()
        assert 2 == len(world.forms)
        # As if the service had stood still for a minute.
        await world.later(seconds=60)
        assert 4 == len(world.forms)
        for expected in (5, 6, 7, 8, 9):
            await world.later(seconds=1)
            assert expected == len(world.forms)



@pytest.mark.slow
async def test_a_platform_that_fails_in_a_row_is_left_alone_for_a_while(world: World) -> None:
    person, rules = await world.person(), RULES.guards
    world.platform.mailroom.tell("x", "500", "*")
    for number in range(rules.failures_in_a_row + 2):
        await world.packed(person, "x", address=f"https://example.com/{number}")
        await world.work()
    reasons = [request.reason for request in await world.requests(person)]
    assert {"HTTP_500": rules.failures_in_a_row, "PLATFORM_PAUSED": 2} == {
        reason: reasons.count(reason) for reason in set(reasons)
    }
    world.platform.mailroom.tell("x")
    world.clock.advance(rules.pause)
    await world.work()
    await world.later(minutes=1)
    assert {pb.REMOVAL_STATE_RECEIVED} == {request.state for request in await world.requests(person)}
    assert rules.failures_in_a_row + 2 == len(world.forms)


async def test_a_template_that_wants_it_waits_for_the_subscribers_word(
    migrated: str, tmp_path: Path, platform: PlatformSimulator
) -> None:
    policies = with_partner(tmp_path, hold_for_verdict=True)
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path / "a", platform, sending, policies=policies) as world:
        person = await world.person()
        for number in range(2):
            await world.packed(person, "naver", address=f"https://example.com/{number}")
        await world.work()
        one, other = await world.requests(person)
        assert ({"WAITS_FOR_VERDICT"}, []) == ({one.reason, other.reason}, world.forms)
        assert ["RemovalHandedToPerson"] * 2 == await world.events()
        await world.tell(person, one.removal_request_id, pb.SUBSCRIBER_ANSWER_FILE_IT)
        await world.tell(person, other.removal_request_id, pb.SUBSCRIBER_ANSWER_DO_NOT_FILE)
        await world.work()
        states = {request.removal_request_id: request.state for request in await world.requests(person)}
        assert pb.REMOVAL_STATE_RECEIVED == states[one.removal_request_id]
        assert pb.REMOVAL_STATE_WITHDRAWN == states[other.removal_request_id]
        assert 1 == len(world.forms)


async def test_who_never_gives_the_word_is_reminded_and_then_the_request_ends(
    migrated: str, tmp_path: Path, platform: PlatformSimulator
) -> None:
    policies = with_partner(tmp_path, hold_for_verdict=True)
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path / "a", platform, sending, policies=policies) as world:
        person = await world.person()
        await world.packed(person, "naver")
        await world.work()
        await world.later(days=4)
        asked = [event for event in await world.outbox() if isinstance(event, events_pb2.RemovalHandedToPerson)]
        assert [1, 2] == [event.occurrence for event in asked]
        assert {"WAITS_FOR_VERDICT"} == {event.facts.reason for event in asked}
        await world.later(days=27)
        ended = await world.only(person)
        assert (pb.REMOVAL_STATE_UNRESOLVED, "NO_VERDICT") == (ended.state, ended.reason)
        assert [] == world.forms


async def test_nobody_may_speak_for_another_subscriber(world: World) -> None:
    person, stranger = await world.person(), await world.person()
    await world.packed(person, "naver")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.tell(stranger, request_id, pb.SUBSCRIBER_ANSWER_GONE)
    assert grpc.StatusCode.NOT_FOUND == caught.value.code()
