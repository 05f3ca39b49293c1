"""Whatever platforms and pages do: right states, right notices, right clocks, and never two submissions of one attempt?

Everything goes over real HTTP and SMTP on loopback; time is moved by the clock alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import grpc.aio
import pytest
from sqlalchemy import func, select

from misuse.log.v1.record_pb2 import RemovalRequestLog
from misuse.removal.v1 import removal_service_pb2 as pb
from services.chassis.due import DUE
from services.removal.adapters.ways import Sending
from tests.integration.removal.world import ADDRESS, START, Running, World, as_error, stamp
from tests.simulators.pages import Pages
from tests.simulators.platform import PlatformSimulator

pytestmark = pytest.mark.slow

REMOVED, RECEIVED, UNVERIFIED = pb.REMOVAL_STATE_REMOVED, pb.REMOVAL_STATE_RECEIVED, pb.REMOVAL_STATE_UNVERIFIED
REJECTED, UNRESOLVED = pb.REMOVAL_STATE_REJECTED, pb.REMOVAL_STATE_UNRESOLVED
CHECKED, SUBMITTED = pb.REMOVAL_STATE_CHECKED, pb.REMOVAL_STATE_SUBMITTED
TEMP_BLOCKED = pb.REMOVAL_STATE_TEMP_BLOCKED


@pytest.fixture
def pages() -> Iterator[Pages]:
    """The site whose pages are to go."""
    with Pages() as made:
        yield made


@pytest.fixture
async def world(
    migrated: str, tmp_path: Path, platform: PlatformSimulator, pages: Pages
) -> AsyncIterator[World]:
    """The service with eyes: it may look at the pages."""
    sending = Sending(on=True, redirects=platform.endpoints())
    async with Running(migrated, tmp_path, platform, sending, watcher=pages) as made:
        yield made


async def filed(world: World, platform: str = "x") -> tuple[str, pb.RemovalRequest]:
    """A subscriber and their request at a platform, sent. Returns both."""
    person = await world.person()
    await world.packed(person, platform)
    await world.work()
    return person, await world.only(person)


async def by_episode(world: World, person: str) -> list[tuple[int, str, str]]:
    """(episode, state, reason), oldest first."""
    found = sorted(await world.requests(person), key=lambda request: request.episode)
    return [(r.episode, pb.RemovalState.Name(r.state).removeprefix("REMOVAL_STATE_"), r.reason) for r in found]


# --- accepted, and removed ---


async def test_accepted_and_seen_removed_and_watched_for_thirty_days(world: World, pages: Pages) -> None:
    person, request = await filed(world)
    assert RECEIVED == request.state
    await world.later(hours=2)
    pages.tell(ADDRESS, "gone")
    await world.later(hours=2)
    removed = await world.only(person)
    assert (REMOVED, "HTTP_404") == (removed.state, removed.reason)
    assert (stamp(START), stamp(START + timedelta(hours=4))) == (removed.receive_time, removed.end_time)
    assert ["RemovalSubmitted", "RemovalReceived", "RemovalCompleted"] == await world.events()
    for _ in range(31):
        await world.later(days=1)
    assert [(1, "REMOVED", "HTTP_404")] == await by_episode(world, person)
    async with world.database.begin() as session:
        assert 0 == await session.scalar(select(func.count()).select_from(DUE))
    assert 1 == len(world.forms)


async def test_the_log_holds_all_that_the_reports_need(world: World, pages: Pages) -> None:
    await filed(world)
    pages.tell(ADDRESS, "dead")
    await world.later(hours=1)
    last: RemovalRequestLog = (await world.records("removal_request_log"))[-1].removal_request_log
    assert ("x", "x", "RECEIVED", "REMOVED", 1, "HTTP_410") == (
        last.platform,
        last.channel_group,
        last.from_state,
        last.to_state,
        last.episode,
        last.reason,
    )
    assert [stamp(START)] * 3 == [last.create_time, last.submit_time, last.receive_time]
    assert stamp(START + timedelta(hours=1)) == last.end_time
    assert ADDRESS not in str(await world.outbox()) and "example.com" not in str(await world.outbox())


@pytest.mark.parametrize("state", ["soft", "changed"])
async def test_a_page_that_answers_with_other_words_is_gone_when_a_second_look_says_so(
    world: World, pages: Pages, state: str
) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, state)
    await world.later(hours=1)
    assert RECEIVED == (await world.only(person)).state
    await world.later(minutes=31)
    assert REMOVED == (await world.only(person)).state


async def test_a_page_that_was_odd_for_a_moment_is_not_gone(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, "soft")
    await world.later(hours=1)
    pages.tell(ADDRESS, "there")
    await world.later(minutes=31)
    assert RECEIVED == (await world.only(person)).state
    assert [("LOOKS_GONE", "SOFT_404"), ("PRESENT", "HTTP_200")] == (await world.notes("LOOK"))[-2:]


@pytest.mark.parametrize("state", ["wall", "login", "hidden", "broken", "busy"])
async def test_what_cannot_be_seen_is_not_removed(world: World, pages: Pages, state: str) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, state)
    await world.later(hours=5)
    assert RECEIVED == (await world.only(person)).state
    assert "RemovalCompleted" not in await world.events()


async def test_a_look_that_was_put_off_is_made_when_it_may_be(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, "busy")
    await world.later(hours=1)
    pages.tell(ADDRESS, "gone")
    await world.later(minutes=10)
    assert REMOVED == (await world.only(person)).state


# --- rejected ---


@pytest.mark.parametrize("reason", ["EVIDENCE_INSUFFICIENT", "LOCATION_UNCLEAR", "MANDATE_NOT_PROVED"])
async def test_a_rejection_that_evidence_answers_is_supplemented_and_resubmitted(world: World, reason: str) -> None:
    world.platform.mailroom.tell("x", f"reject={reason}")
    person, request = await filed(world)
    assert (REJECTED, reason, []) == (request.state, request.reason, world.forms)
    await world.later(hours=23)
    assert REJECTED == (await world.only(person)).state
    await world.later(hours=1)
    again = await world.only(person)
    assert (RECEIVED, 2) == (again.state, len(again.attempts))
    assert 1 == len(world.forms)
    assert "Further statement" in world.forms[0]["fields"]["body"]
    expected = ["RemovalSubmitted", "RemovalRejected", "RemovalResubmitted", "RemovalReceived"]
    assert expected == await world.events()


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("IDENTITY_NOT_PROVED", "FOR_THE_PERSON"),
        ("CONTENT_NOT_FOUND", "NOTHING_ANSWERS_IT"),
        ("WRONG_CHANNEL", "NOTHING_ANSWERS_IT"),
        ("NOT_A_VIOLATION", "NOTHING_ANSWERS_IT"),
        ("PUBLIC_INTEREST", "NOTHING_ANSWERS_IT"),
        ("DUPLICATE", "NOTHING_ANSWERS_IT"),
        ("SOMETHING_NEW", "REASON_NOT_IN_TEMPLATE"),
    ],
)
async def test_a_rejection_that_nothing_answers_waits_for_a_person_who_may_supplement_it(
    world: World, reason: str, why: str
) -> None:
    world.platform.mailroom.tell("x", f"reject={reason}")
    person, request = await filed(world)
    await world.later(days=2)
    assert (REJECTED, 1) == ((await world.only(person)).state, len((await world.only(person)).attempts))
    assert (why, reason) == (await world.notes("MARK"))[-1]

    await world.supplement(request.removal_request_id)
    await world.resubmit(request.removal_request_id)
    await world.work()
    assert (RECEIVED, 1) == ((await world.only(person)).state, len(world.forms))


async def test_a_rejection_that_nobody_takes_further_ends_with_the_public_bodies(world: World) -> None:
    world.platform.mailroom.tell("x", "reject=NOT_A_VIOLATION")
    person, request = await filed(world)
    await world.later(days=30)
    ended = await world.only(person)
    assert (UNRESOLVED, "NOBODY_ANSWERED") == (ended.state, ended.reason)
    wanted = pb.GetFilingPackageRequest(removal_request_id=request.removal_request_id)
    package = await world.stub.GetFilingPackage(wanted, metadata=world.subscriber(person))
    assert ["kcsc", "kisa"] == [body.platform for body in package.fallbacks]
    assert "tel:1377" in [link.url for body in package.fallbacks for link in body.links]


async def test_the_limit_of_the_template_ends_the_resubmissions(world: World) -> None:
    world.platform.mailroom.tell("tiktok", "reject", "*")
    person, _ = await filed(world, "tiktok")
    for _ in range(4):
        await world.later(days=1)
    ended = await world.only(person)
    assert (UNRESOLVED, "RESUBMISSION_LIMIT", 3) == (ended.state, ended.reason, len(ended.attempts))


# --- silent and broken platforms ---


@pytest.mark.parametrize("lie", ["429", "500", "hang", "lost_answer"])
async def test_a_platform_in_trouble_gets_the_request_once(world: World, lie: str) -> None:
    world.platform.mailroom.tell("x", lie, lie)
    person, request = await filed(world)
    assert CHECKED == request.state
    for _ in range(3):
        await world.later(seconds=10)
    assert (RECEIVED, 1) == ((await world.only(person)).state, len(world.forms))
    assert ["RemovalSubmitted", "RemovalReceived"] == await world.events()


async def test_a_platform_that_never_acknowledges_is_noted_and_given_up(world: World) -> None:
    world.platform.mailroom.tell("x", "silent")
    person, request = await filed(world)
    assert SUBMITTED == request.state
    await world.later(hours=25)
    assert (SUBMITTED, "NO_ACKNOWLEDGEMENT") == ((await world.only(person)).state, (await world.only(person)).reason)
    await world.later(days=30)
    ended = await world.only(person)
    assert (UNRESOLVED, "SILENCE") == (ended.state, ended.reason)
    assert [("NO_ACKNOWLEDGEMENT", "")] == await world.notes("MARK")
    assert not ended.HasField("receive_time")


async def test_a_platform_that_never_decides_is_overdue_and_given_up(world: World) -> None:
    person, _ = await filed(world)
    await world.later(hours=73)
    assert (RECEIVED, "OVERDUE") == ((await world.only(person)).state, (await world.only(person)).reason)
    await world.later(days=28)
    assert (UNRESOLVED, "SILENCE") == ((await world.only(person)).state, (await world.only(person)).reason)
    assert 1 == len(world.forms)


# --- a platform that lies ---


async def test_removed_by_word_and_still_there_is_not_removed(world: World, pages: Pages) -> None:
    person, request = await filed(world)
    await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_REMOVED)
    await world.work()
    assert (RECEIVED, "STILL_THERE") == ((await world.only(person)).state, (await world.only(person)).reason)
    assert "RemovalCompleted" not in await world.events()
    pages.tell(ADDRESS, "gone")
    await world.later(hours=1)
    assert REMOVED == (await world.only(person)).state
    assert ["RemovalSubmitted", "RemovalReceived", "RemovalCompleted"] == await world.events()


async def test_removed_by_word_where_nobody_may_look_is_unverified_until_the_subscriber_confirms(
    world: World, pages: Pages
) -> None:
    pages.tell(ADDRESS, "hidden")
    person, request = await filed(world)
    await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_REMOVED)
    await world.work()
    assert (UNVERIFIED, "NOBODY_CAN_SEE") == ((await world.only(person)).state, (await world.only(person)).reason)
    confirmed = await world.tell(person, request.removal_request_id, pb.SUBSCRIBER_ANSWER_GONE)
    assert (REMOVED, "SUBSCRIBER_CONFIRMED") == (confirmed.state, confirmed.reason)


async def test_the_subscriber_who_still_sees_it_reopens_what_was_unverified(world: World, pages: Pages) -> None:
    pages.tell(ADDRESS, "hidden")
    person, request = await filed(world)
    await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_REMOVED)
    await world.work()
    again = await world.tell(person, request.removal_request_id, pb.SUBSCRIBER_ANSWER_PRESENT)
    assert (RECEIVED, "STILL_THERE", 1) == (again.state, again.reason, again.episode)
    assert "ContentReappeared" == (await world.events())[-1]


# --- temporary blocks and reposts ---


async def blocked(world: World) -> tuple[str, pb.RemovalRequest]:
    """A request whose content is blinded for thirty days."""
    person, request = await filed(world, "naver")
    until = stamp(world.clock.now() + timedelta(days=30))
    done = await world.answer(
        request.removal_request_id, pb.PLATFORM_ANSWER_TEMP_BLOCKED, block_until_time=until
    )
    assert TEMP_BLOCKED == done.state
    return person, done


async def test_a_temporary_block_that_ends_is_looked_at_and_asked_for_again(world: World) -> None:
    person, _ = await blocked(world)
    await world.later(days=29)
    assert [(1, "TEMP_BLOCKED", "")] == await by_episode(world, person)
    await world.later(days=1)
    assert [(1, "TEMP_BLOCKED", "REAPPEARED"), (2, "RECEIVED", "")] == await by_episode(world, person)
    assert ["ContentReappeared", "RemovalSubmitted", "RemovalReceived"] == (await world.events())[-3:]
    assert 2 == len(world.forms)


async def test_a_page_that_shows_a_temporary_measure_is_blocked_and_not_removed(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, "blinded")
    await world.later(hours=1)
    await world.later(minutes=31)
    blinded = await world.only(person)
    until = START + timedelta(days=30, hours=1, minutes=31)
    assert (TEMP_BLOCKED, "SEEN_BLINDED", stamp(until)) == (blinded.state, blinded.reason, blinded.block_until_time)
    assert "RemovalBlockedTemporarily" == (await world.events())[-1]
    pages.tell(ADDRESS, "there")
    await world.later(days=30)
    assert [(1, "TEMP_BLOCKED", "REAPPEARED"), (2, "RECEIVED", "")] == await by_episode(world, person)


@pytest.mark.parametrize(
    ("state", "expected"), [("gone", ("REMOVED", "HTTP_404")), ("wall", ("UNVERIFIED", "BLOCK_ENDED_UNSEEN"))]
)
async def test_a_temporary_block_that_ends_with_the_content_gone_or_unseen(
    world: World, pages: Pages, state: str, expected: tuple[str, str]
) -> None:
    person, _ = await blocked(world)
    pages.tell(ADDRESS, state)
    await world.later(days=30)
    assert [(1, *expected)] == await by_episode(world, person)


async def test_a_repost_within_thirty_days_starts_the_next_episode(world: World, pages: Pages) -> None:
    person, first = await filed(world)
    pages.tell(ADDRESS, "gone")
    await world.later(hours=1)
    pages.tell(ADDRESS, "there")
    await world.later(days=8)
    assert [(1, "REMOVED", "REAPPEARED"), (2, "RECEIVED", "")] == await by_episode(world, person)
    second = max(await world.requests(person), key=lambda request: request.episode)
    assert (first.removal_request_id, list(first.case_ids)) == (second.previous_request_id, list(second.case_ids))
    pages.tell(ADDRESS, "gone")
    for _ in range(35):
        await world.later(days=1)
    assert [(1, "REMOVED", "REAPPEARED"), (2, "REMOVED", "HTTP_404")] == await by_episode(world, person)
    assert 1 == (await world.events()).count("ContentReappeared")
    assert 2 == len(world.forms)


async def test_a_repost_that_a_collector_finds_starts_the_next_episode(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, "gone")
    await world.later(hours=1)
    pages.tell(ADDRESS, "hidden")
    world.clock.advance(timedelta(hours=1))
    case_id, sighting_id = await world.packed(person, "x")
    world.cases.found[sighting_id] = world.clock.now().isoformat()
    await world.work()
    assert [(1, "REMOVED", "REAPPEARED"), (2, "RECEIVED", "")] == await by_episode(world, person)
    second = max(await world.requests(person), key=lambda request: request.episode)
    assert case_id in second.case_ids
    assert 1 == (await world.events()).count("ContentReappeared")


async def test_an_old_sighting_of_content_that_is_gone_changes_nothing(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    pages.tell(ADDRESS, "gone")
    await world.later(hours=1)
    await world.packed(person, "x")
    await world.work()
    assert [(1, "REMOVED", "HTTP_404")] == await by_episode(world, person)


# --- mandates and the person's own hand ---


async def test_a_mandate_that_ends_before_a_resubmission_stops_it(world: World) -> None:
    person = await world.person(mandate=False)
    await grant(world, person, hours=12)
    world.platform.mailroom.tell("x", "reject")
    await world.packed(person, "x")
    await world.work()
    await world.later(hours=30)
    request = await world.only(person)
    assert (REJECTED, 1, []) == (request.state, len(request.attempts), world.forms)
    assert ("NO_MANDATE_TO_ANSWER", "EVIDENCE_INSUFFICIENT") == (await world.notes("MARK"))[-1]


async def test_a_mandate_that_ends_in_mid_flight_hands_the_request_to_the_person(world: World) -> None:
    person = await world.person(mandate=False)
    await grant(world, person, hours=1)
    world.platform.mailroom.tell("x", "500", "*")
    await world.packed(person, "x")
    await world.work()
    await world.later(hours=2)
    request = await world.only(person)
    assert (CHECKED, "PERSON", "NO_MANDATE") == (request.state, request.path, request.reason)
    assert ["RemovalHandedToPerson"] == await world.events()
    world.platform.mailroom.tell("x")
    await world.mandate(person)
    await world.work()
    assert (RECEIVED, 1) == ((await world.only(person)).state, len(world.forms))


async def test_a_mandate_to_file_alone_does_not_let_us_answer_a_rejection(world: World) -> None:
    person = await world.person(mandate=False)
    await grant(world, person, hours=999, scope=[pb.MANDATE_SCOPE_FILE])
    world.platform.mailroom.tell("x", "reject")
    await world.packed(person, "x")
    await world.work()
    await world.later(days=2)
    assert REJECTED == (await world.only(person)).state
    assert [] == world.forms


async def grant(
    world: World, person: str, *, hours: float, scope: list[pb.MandateScope.ValueType] | None = None
) -> None:
    """The subscriber signs a mandate that ends."""
    request = pb.GrantMandateRequest(
        subscriber_id=person,
        request_id="short",
        document_sha256=b"\x01" * 32,
        expire_time=stamp(world.clock.now() + timedelta(hours=hours)),
        scope=scope or [],
    )
    await world.stub.GrantMandate(request, metadata=world.subscriber(person))


async def test_what_only_the_person_may_file_is_tracked_the_same_way(world: World, pages: Pages) -> None:
    person, request = await filed(world, "youtube")
    assert (CHECKED, "PERSON", "WAITS_FOR_PERSON") == (request.state, request.path, request.reason)
    assert ["RemovalHandedToPerson"] == await world.events()
    await world.later(hours=73)
    assert ["RemovalHandedToPerson"] * 2 == await world.events()

    wanted = pb.GetFilingPackageRequest(removal_request_id=request.removal_request_id)
    package = await world.stub.GetFilingPackage(wanted, metadata=world.subscriber(person))
    assert "YouTube" in package.steps[0] and "신고" in package.steps[0]
    assert ["https://support.google.com/youtube/contact/privacy"] == [link.url for link in package.links]
    assert ADDRESS in package.body

    done = await world.tell(person, request.removal_request_id, pb.SUBSCRIBER_ANSWER_FILED, "YT-4711")
    assert (RECEIVED, "YT-4711") == (done.state, done.attempts[0].reference)
    pages.tell(ADDRESS, "gone")
    await world.later(hours=1)
    assert REMOVED == (await world.only(person)).state
    expected = ["RemovalHandedToPerson"] * 2 + ["RemovalSubmitted", "RemovalReceived", "RemovalCompleted"]
    assert expected == await world.events()


async def test_what_the_person_never_files_ends(world: World) -> None:
    person, _ = await filed(world, "youtube")
    await world.later(days=30)
    ended = await world.only(person)
    assert (UNRESOLVED, "PERSON_DID_NOT_FILE") == (ended.state, ended.reason)


async def test_the_person_cannot_say_filed_of_what_we_file(world: World) -> None:
    person, request = await filed(world)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.tell(person, request.removal_request_id, pb.SUBSCRIBER_ANSWER_FILED, "X-1")
    assert "ILLEGAL_TRANSITION" == as_error(caught)


async def test_a_suspended_subscriber_is_not_watched_and_is_again_afterwards(world: World, pages: Pages) -> None:
    person, _ = await filed(world)
    await world.suspend(person)
    pages.tell(ADDRESS, "gone")
    await world.later(days=2)
    assert RECEIVED == (await world.only(person)).state
    await world.suspend(person, over=True)
    await world.work()
    assert REMOVED == (await world.only(person)).state
