"""Does a packed sighting reach the platform once, and does the log tell what became of it?"""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.message import Message
from sqlalchemy import func, select, text

from misuse.case.v1 import case_pb2, subscriber_service_pb2
from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1.access_pb2 import ROLE_SUBSCRIBER
from misuse.removal.v1 import removal_service_pb2 as pb
from services.chassis.due import DUE
from services.chassis.ids import uuid7
from services.removal.adapters.tables import Base
from services.removal.adapters.ways import Sending
from services.removal.domain.filing import Claimant
from services.removal.domain.states import State
from services.removal.handlers import FOLLOW
from tests.integration.removal.world import ADDRESS, NAME, START, Running, World, as_error, stamp
from tests.simulators.platform import PlatformSimulator

# --- the way of a request ---


async def test_a_packed_sighting_is_filed_by_form_and_accepted(world: World) -> None:
    person = await world.person()
    case_id, _ = await world.packed(person, "naver")
    await world.work()

    request = await world.only(person)
    assert pb.REMOVAL_STATE_RECEIVED == request.state
    assert [case_id] == list(request.case_ids)
    assert [("ACCEPTED", "NAVER-0001")] == [(item.outcome, item.reference) for item in request.attempts]
    assert stamp(START) == request.receive_time
    assert ["DRAFT", "CHECKED", "SUBMITTED", "RECEIVED"] == await world.states()
    assert ["RemovalSubmitted", "RemovalReceived"] == await world.events()
    [form] = world.forms
    assert ADDRESS == form["fields"]["content_url"]
    assert NAME == form["fields"]["claimant_name"]


async def test_a_packed_sighting_is_filed_by_mail_and_accepted_by_the_final_hop(world: World) -> None:
    person = await world.person()
    await world.packed(person, "telegram")
    await world.work()

    request = await world.only(person)
    assert pb.REMOVAL_STATE_RECEIVED == request.state
    assert "TELEGRAM-0001" == request.attempts[0].reference
    [mail] = world.mails
    assert ADDRESS in mail["body"]
    assert NAME not in mail["body"]
    assert 0 == world.cases.profiles_read


async def test_a_repeat_only_adds_its_case(world: World) -> None:
    person = await world.person()
    first, _ = await world.packed(person, "naver")
    second, _ = await world.packed(person, "naver", address="http://example.com/board/view?no=17#photo")
    await world.work()

    request = await world.only(person)
    assert sorted([first, second]) == sorted(request.case_ids)
    assert 1 == len(world.forms)


async def test_another_page_another_platform_and_another_person_are_requests_of_their_own(world: World) -> None:
    one, two = await world.person(), await world.person()
    await world.packed(one, "naver")
    await world.packed(one, "naver", address="https://example.com/board/view?no=18")
    await world.packed(one, "x")
    await world.packed(two, "naver")
    await world.work()

    assert 3 == len(await world.requests(one))
    assert 1 == len(await world.requests(two))
    assert 4 == len(world.forms)


async def test_nothing_is_prepared_without_consent_and_all_of_it_with(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver", consent=False)
    await world.work()
    assert [] == await world.requests(person)

    await world.feed(
        case_events.ConsentRecorded(
            subscriber_id=person, scope=subscriber_service_pb2.CONSENT_SCOPE_REMOVAL, consent_id=uuid7()
        )
    )
    await world.work()
    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state


async def test_without_a_mandate_the_person_files_and_with_one_we_do(world: World) -> None:
    person = await world.person(mandate=False)
    await world.packed(person, "naver")
    await world.work()
    waiting = await world.only(person)
    assert (pb.REMOVAL_STATE_CHECKED, "PERSON", "NO_MANDATE") == (waiting.state, waiting.path, waiting.reason)
    assert [] == world.forms

    await world.mandate(person, "naver")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_RECEIVED, "HTTP_FORM") == (request.state, request.path)


async def test_a_revoked_mandate_stops_what_is_not_sent_yet(world: World) -> None:
    person = await world.person(mandate=False)
    mandate = await world.mandate(person)
    world.platform.mailroom.tell("naver", "500", "*")
    await world.packed(person, "naver")
    await world.work()
    revoke = pb.RevokeMandateRequest(subscriber_id=person, mandate_id=mandate.mandate_id)
    await world.stub.RevokeMandate(revoke, metadata=world.subscriber(person))

    world.platform.mailroom.tell("naver")
    world.clock.advance(timedelta(hours=1))
    await world.work()
    assert "NO_MANDATE" == (await world.only(person)).reason
    assert [] == world.forms


async def test_granting_and_revoking_a_mandate_leave_a_record_each(world: World) -> None:
    person = await world.person(mandate=False)
    mandate = await world.mandate(person)
    revoke = pb.RevokeMandateRequest(subscriber_id=person, mandate_id=mandate.mandate_id)
    for _ in range(2):
        await world.stub.RevokeMandate(revoke, metadata=world.subscriber(person))
    records = await world.records("consent_log")
    assert [True, False] == [record.consent_log.given for record in records]
    assert {("mandate", mandate.mandate_id, "MANDATE")} == {
        (record.entity, record.entity_id, record.consent_log.scope) for record in records
    }
    assert all(record.actor_role == ROLE_SUBSCRIBER for record in records)
    assert person not in str(records)


async def test_only_the_person_may_file_at_youtube_and_gets_what_it_takes(world: World) -> None:
    person = await world.person()
    await world.packed(person, "youtube")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_CHECKED, "WAITS_FOR_PERSON") == (request.state, request.reason)

    wanted = pb.GetFilingPackageRequest(removal_request_id=request.removal_request_id)
    package = await world.stub.GetFilingPackage(wanted, metadata=world.subscriber(person))
    assert "ko" == package.language
    assert ADDRESS in package.body

    done = await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_ACCEPTED, reference="Y-1")
    assert (pb.REMOVAL_STATE_RECEIVED, "Y-1") == (done.state, done.attempts[0].reference)


async def test_evidence_that_is_missing_leaves_a_draft(world: World) -> None:
    person = await world.person()

    async def nameless(subscriber_id: str) -> Claimant:
        return Claimant()

    world.cases.claimant = nameless  # type: ignore[method-assign] # the profile of someone without a name
    await world.packed(person, "naver")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_DRAFT, ["claimant_name"]) == (request.state, list(request.missing_fields))


# --- platforms that misbehave ---


@pytest.mark.parametrize("lie", ["429", "500", "503"])
async def test_a_busy_platform_is_asked_again_later_under_the_same_key(world: World, lie: str) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", lie)
    await world.packed(person, "x")
    await world.work()
    held = await world.only(person)
    assert (pb.REMOVAL_STATE_CHECKED, f"HTTP_{lie}") == (held.state, held.reason)

    world.clock.advance(timedelta(seconds=5))
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_RECEIVED, 1) == (request.state, len(request.attempts))


async def test_an_answer_that_got_lost_does_not_file_twice(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "lost_answer")
    await world.packed(person, "x")
    await world.work()
    world.clock.advance(timedelta(seconds=5))
    await world.work()

    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state
    assert 1 == len(world.forms)


async def test_a_platform_that_is_always_broken_is_left_to_a_person(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "500", "*")
    await world.packed(person, "x")
    for _ in range(12):
        await world.work()
        world.clock.advance(timedelta(hours=1))
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_UNCERTAIN, "RETRIES_EXHAUSTED") == (request.state, request.reason)

    world.platform.mailroom.tell("x")
    await world.resubmit(request.removal_request_id)
    await world.work()
    again = await world.only(person)
    assert (pb.REMOVAL_STATE_RECEIVED, 2) == (again.state, len(again.attempts))


@pytest.mark.parametrize(("lie", "reason"), [("captcha", "CAPTCHA"), ("login", "LOGIN_WALL")])
async def test_a_wall_is_not_climbed(world: World, lie: str, reason: str) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", lie)
    await world.packed(person, "x")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_CHECKED, "PERSON", reason) == (request.state, request.path, request.reason)


async def test_success_without_a_reference_is_sent_and_not_yet_received(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "silent")
    await world.packed(person, "x")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_SUBMITTED, "SENT") == (request.state, request.attempts[0].outcome)
    assert not request.HasField("receive_time")


async def test_rejected_is_supplemented_and_resubmitted_and_the_clock_does_not_restart(world: World) -> None:
    person = await world.person()
    await world.packed(person, "x")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    world.clock.advance(timedelta(hours=1))
    rejected = await world.answer(request_id, pb.PLATFORM_ANSWER_REJECTED, reason="NOT_ENOUGH")
    assert (pb.REMOVAL_STATE_REJECTED, "NOT_ENOUGH") == (rejected.state, rejected.reason)

    assert pb.REMOVAL_STATE_SUPPLEMENTED == (await world.supplement(request_id)).state
    await world.work()
    assert 1 == len(world.forms)

    await world.resubmit(request_id)
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_RECEIVED, 2) == (request.state, len(request.attempts))
    assert stamp(START) == request.receive_time
    assert "얼굴이 보입니다" in world.forms[1]["fields"]["body"]
    assert "RemovalResubmitted" in await world.events()


async def test_the_fifth_rejection_ends_the_request(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "reject", "*")
    await world.packed(person, "x")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    for _ in range(4):
        await world.supplement(request_id)
        await world.resubmit(request_id)
        await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_UNRESOLVED, 5) == (request.state, len(request.attempts))
    assert "RemovalCompleted" == (await world.events())[-1]


async def test_a_mail_whose_answer_got_lost_is_settled_by_a_person(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("telegram", "lost_answer")
    await world.packed(person, "telegram")
    await world.work()
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_UNCERTAIN, "NO_REPLY_TO_DATA") == (request.state, request.reason)

    done = await world.answer(request.removal_request_id, pb.PLATFORM_ANSWER_ACCEPTED, reference="TELEGRAM-0001")
    assert (pb.REMOVAL_STATE_RECEIVED, 1) == (done.state, len(done.attempts))
    assert 1 == len(world.mails)


async def test_a_mail_server_that_is_busy_gets_the_mail_later(world: World) -> None:
    person = await world.person()
    world.platform.mailroom.tell("overseas", "450")
    await world.packed(person, "overseas")
    await world.work()
    assert "SMTP_450" == (await world.only(person)).reason
    world.clock.advance(timedelta(seconds=5))
    await world.work()
    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state
    assert 1 == len(world.mails)


# --- crashes ---


async def test_a_crash_while_mailing_leaves_it_to_a_person(world: World) -> None:
    request_id = await crashed_while_sending(world, "telegram")
    await world.work()
    request = await world.stub.GetRemovalRequest(
        pb.GetRemovalRequestRequest(removal_request_id=request_id), metadata=world.operator()
    )
    assert pb.REMOVAL_STATE_UNCERTAIN == request.removal_request.state
    assert "CRASH_WHILE_SENDING" == request.removal_request.reason
    assert [] == world.mails


async def test_a_crash_while_filing_a_form_files_it_once(world: World) -> None:
    request_id = await crashed_while_sending(world, "x")
    await world.work()
    request = await world.stub.GetRemovalRequest(
        pb.GetRemovalRequestRequest(removal_request_id=request_id), metadata=world.operator()
    )
    assert pb.REMOVAL_STATE_RECEIVED == request.removal_request.state
    assert 1 == len(world.forms)


async def crashed_while_sending(world: World, platform: str) -> str:
    """A request whose sending was begun by a process that is gone. Returns its id."""
    person = await world.person(mandate=False)
    await world.packed(person, platform)
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    async with world.removal.store.begin() as work:
        request = await work.request(request_id)
        assert request is not None
        attempt = request.next_attempt()
        attempt.in_flight, attempt.tries = True, 1
        await work.save(request)
    await world.mandate(person)
    return request_id


# --- what happens to cases and people ---


async def test_requests_follow_a_merge_and_its_end(world: World) -> None:
    person = await world.person()
    merged, _ = await world.packed(person, "naver")
    root = uuid7()
    await world.work()
    await world.feed(case_events.CaseMerged(root_case_id=root, merged_case_id=merged, subscriber_id=person))
    assert sorted([root, merged]) == sorted((await world.only(person)).case_ids)

    await world.feed(case_events.CaseUnmerged(root_case_id=root, case_id=merged, subscriber_id=person))
    assert [merged] == list((await world.only(person)).case_ids)


async def test_a_false_positive_takes_the_request_back_unless_another_case_wants_it(world: World) -> None:
    person = await world.person()
    one, _ = await world.packed(person, "naver")
    other, _ = await world.packed(person, "naver")
    await world.work()
    await world.feed(closed(one, person))
    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state

    await world.feed(closed(other, person))
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_WITHDRAWN, "CASE_CLOSED") == (request.state, request.reason)
    assert "RemovalWithdrawn" == (await world.events())[-1]


async def test_a_merged_case_ends_with_its_root(world: World) -> None:
    person = await world.person()
    merged, _ = await world.packed(person, "naver")
    root = uuid7()
    await world.work()
    await world.feed(case_events.CaseMerged(root_case_id=root, merged_case_id=merged, subscriber_id=person))
    await world.feed(closed(root, person))
    assert pb.REMOVAL_STATE_WITHDRAWN == (await world.only(person)).state


async def test_a_case_closed_before_its_request_was_made_gets_none(world: World) -> None:
    person = await world.person()
    case_id, _ = await world.packed(person, "naver")
    await world.feed(closed(case_id, person))
    await world.work()
    assert [] == await world.requests(person)


def closed(case_id: str, person: str) -> case_events.CaseClosed:
    """A false positive."""
    return case_events.CaseClosed(case_id=case_id, subscriber_id=person, resolution=case_pb2.RESOLUTION_FALSE_POSITIVE)


async def test_withdrawn_consent_takes_open_requests_back(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.work()
    await world.feed(
        case_events.ConsentWithdrawn(
            subscriber_id=person, scope=subscriber_service_pb2.CONSENT_SCOPE_REMOVAL, consent_id=uuid7()
        )
    )
    request = await world.only(person)
    assert (pb.REMOVAL_STATE_WITHDRAWN, "CONSENT_WITHDRAWN") == (request.state, request.reason)


def consent(person: str, kind: type[Any]) -> Message:
    """ConsentRecorded or ConsentWithdrawn for removal."""
    scope = subscriber_service_pb2.CONSENT_SCOPE_REMOVAL
    message: Message = kind(subscriber_id=person, scope=scope, consent_id=uuid7())
    return message


async def episodes(world: World, person: str) -> list[tuple[int, str]]:
    """(episode, state) of a subscriber's requests, oldest first."""
    found = sorted(await world.requests(person), key=lambda request: request.episode)
    return [(r.episode, pb.RemovalState.Name(r.state).removeprefix("REMOVAL_STATE_")) for r in found]


async def test_consent_given_again_lets_the_next_sighting_start_the_next_episode(world: World) -> None:
    person = await world.person()
    case_id, _ = await world.packed(person, "naver")
    await world.work()
    await world.feed(consent(person, case_events.ConsentWithdrawn))
    await world.packed(person, "naver", case_id=case_id, consent=False)
    await world.work()
    assert [(1, "WITHDRAWN")] == await episodes(world, person)
    await world.feed(consent(person, case_events.ConsentRecorded))
    await world.work()
    assert [(1, "WITHDRAWN"), (2, "RECEIVED")] == await episodes(world, person)
    await world.packed(person, "naver", case_id=case_id)
    await world.work()
    assert 2 == len(await world.requests(person))


async def test_a_request_that_the_person_took_back_stays_so(world: World) -> None:
    person = await world.person()
    case_id, _ = await world.packed(person, "naver")
    await world.work()
    request = pb.WithdrawRemovalRequestRequest(
        removal_request_id=(await world.only(person)).removal_request_id, request_id=uuid7()
    )
    await world.stub.WithdrawRemovalRequest(request, metadata=world.subscriber(person))
    await world.packed(person, "naver", case_id=case_id)
    await world.work()
    assert [(1, "WITHDRAWN")] == await episodes(world, person)


async def test_a_false_positive_that_was_a_mistake_is_filed_again(world: World) -> None:
    person = await world.person()
    case_id, _ = await world.packed(person, "naver")
    await world.work()
    # Packed, and closed before a request was made of it.
    await world.packed(person, "naver", case_id=case_id, address=ADDRESS + "&page=2")
    await world.feed(closed(case_id, person))
    await world.work()
    assert [(1, "WITHDRAWN")] == await episodes(world, person)
    await world.feed(case_events.CaseReopened(case_id=case_id, subscriber_id=person, reason="MISTAKE", occurrence=1))
    await world.work()
    assert [(1, "RECEIVED"), (1, "WITHDRAWN")] == sorted(await episodes(world, person))
    await world.packed(person, "naver", case_id=case_id)
    await world.work()
    assert [(1, "RECEIVED"), (1, "WITHDRAWN"), (2, "RECEIVED")] == sorted(await episodes(world, person))


@pytest.mark.slow
async def test_a_pack_of_many_sightings_is_read_once(world: World) -> None:
    person = await world.person()
    ids = [uuid7() for _ in range(20)]
    world.cases.addresses |= {each: f"https://www.example.com/board/{number}" for number, each in enumerate(ids)}
    packed = case_events.EvidencePacked(
        case_id=uuid7(),
        subscriber_id=person,
        pack_id=uuid7(),
        version=7,
        sightings=[case_events.PackedSighting(sighting_id=each, platform="naver") for each in ids],
        removal_consent=True,
    )
    await world.feed(packed)
    await world.work()
    assert (20, 1) == (len(await world.requests(person)), world.cases.packs_read)


async def test_a_suspended_subscriber_is_held_and_resumed(world: World) -> None:
    person = await world.person()
    await world.feed(case_events.SubscriberSuspended(subscriber_id=person))
    await world.packed(person, "naver")
    await world.work()
    assert [] == await world.requests(person)

    await world.feed(case_events.SubscriberResumed(subscriber_id=person))
    await world.work()
    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state


async def test_nothing_is_sent_while_sending_is_off(migrated: str, tmp_path: Path, platform: PlatformSimulator) -> None:
    async with Running(migrated, tmp_path, platform, Sending()) as world:
        person = await world.person()
        await world.packed(person, "naver")
        await world.work()
        request = await world.only(person)
        assert (pb.REMOVAL_STATE_CHECKED, "DRY_RUN") == (request.state, request.reason)
        assert [] == world.forms


# --- commands ---


async def test_answers_of_the_platform_move_the_request_as_the_diagram_says(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    until = stamp(START + timedelta(days=30))
    blocked = await world.answer(request_id, pb.PLATFORM_ANSWER_TEMP_BLOCKED, block_until_time=until)
    assert (pb.REMOVAL_STATE_TEMP_BLOCKED, until) == (blocked.state, blocked.block_until_time)
    claimed = await world.answer(request_id, pb.PLATFORM_ANSWER_REMOVED)
    assert (pb.REMOVAL_STATE_TEMP_BLOCKED, "PLATFORM_SAYS_REMOVED") == (claimed.state, claimed.reason)
    await world.work()
    removed = await world.only(person)
    assert (pb.REMOVAL_STATE_UNVERIFIED, "NOBODY_CAN_SEE") == (removed.state, removed.reason)
    assert removed.HasField("end_time")
    assert ["RemovalBlockedTemporarily", "RemovalCompleted"] == (await world.events())[-2:]


async def test_an_answer_that_makes_no_sense_is_refused_and_changes_nothing(world: World) -> None:
    person = await world.person(mandate=False)
    await world.packed(person, "naver")
    await world.work()
    before = await world.only(person)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.answer(before.removal_request_id, pb.PLATFORM_ANSWER_REMOVED)
    assert "ILLEGAL_TRANSITION" == as_error(caught)
    assert before == await world.only(person)


@pytest.mark.parametrize("answer", [pb.PLATFORM_ANSWER_ACCEPTED, pb.PLATFORM_ANSWER_REJECTED])
async def test_what_was_not_sent_cannot_have_been_answered(world: World, answer: pb.PlatformAnswer.ValueType) -> None:
    person = await world.person()
    world.platform.mailroom.tell("x", "reject")
    await world.packed(person, "x")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    await world.supplement(request_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.answer(request_id, answer)
    assert "ILLEGAL_TRANSITION" == as_error(caught)


async def test_the_same_command_twice_is_done_once(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    command = pb.WithdrawRemovalRequestRequest(removal_request_id=request_id, request_id="once")
    first = await world.stub.WithdrawRemovalRequest(command, metadata=world.subscriber(person))
    second = await world.stub.WithdrawRemovalRequest(command, metadata=world.subscriber(person))
    assert first == second
    assert 1 == (await world.events()).count("RemovalWithdrawn")


async def test_a_request_made_by_hand_after_the_end_is_the_next_episode(world: World) -> None:
    person = await world.person()
    case_id, sighting_id = await world.packed(person, "naver")
    await world.work()
    first = (await world.only(person)).removal_request_id
    await world.answer(first, pb.PLATFORM_ANSWER_REMOVED)
    await world.work()
    command = pb.CreateRemovalRequestRequest(
        case_id=case_id, sighting_id=sighting_id, platform="naver", request_id="again"
    )
    made = await world.stub.CreateRemovalRequest(command, metadata=world.operator())
    repeated = await world.stub.CreateRemovalRequest(command, metadata=world.operator())
    assert 2 == made.removal_request.episode
    assert made.removal_request.removal_request_id == repeated.removal_request.removal_request_id
    await world.work()
    assert ["NAVER-0001", "NAVER-0002"] == [form["reference"] for form in world.forms]


@pytest.mark.parametrize(
    ("platform_id", "sighting", "reason"),
    [("nowhere", "", "UNKNOWN_PLATFORM"), ("naver", "other", "NOT_PACKED_YET"), ("naver", "", "NO_MANDATE")],
)
async def test_a_request_by_hand_says_what_is_missing(
    world: World, platform_id: str, sighting: str, reason: str
) -> None:
    person = await world.person(mandate=False)
    case_id, sighting_id = await world.packed(person, "naver")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.CreateRemovalRequest(
            pb.CreateRemovalRequestRequest(
                case_id=case_id,
                sighting_id=uuid7() if sighting else sighting_id,
                platform=platform_id,
                request_id="x",
            ),
            metadata=world.operator(),
        )
    assert reason == as_error(caught)


@pytest.mark.parametrize("obstacle", ["NO_CONSENT", "SUSPENDED"])
async def test_nobody_files_by_hand_without_consent_or_during_a_suspension(world: World, obstacle: str) -> None:
    person = await world.person()
    case_id, sighting_id = await world.packed(person, "naver", consent=obstacle != "NO_CONSENT")
    if obstacle == "SUSPENDED":
        await world.feed(case_events.SubscriberSuspended(subscriber_id=person))
    command = pb.CreateRemovalRequestRequest(
        case_id=case_id, sighting_id=sighting_id, platform="naver", request_id="x"
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.CreateRemovalRequest(command, metadata=world.operator())
    assert obstacle == as_error(caught)
    await world.work()
    assert ([], []) == (await world.requests(person), world.forms)


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:00", "no time"])
async def test_a_page_token_that_is_none_of_ours_is_refused(world: World, time: str) -> None:
    person = await world.person()
    token = base64.urlsafe_b64encode(f"{time}|{uuid7()}".encode()).decode()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.ListRemovalRequests(
            pb.ListRemovalRequestsRequest(subscriber_id=person, page_token=token), metadata=world.subscriber(person)
        )
    assert "BAD_PAGE_TOKEN" == as_error(caught)


async def test_another_subscribers_request_does_not_exist(world: World) -> None:
    person, stranger = await world.person(), await world.person()
    await world.packed(person, "naver")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    for call, request in (
        (world.stub.GetRemovalRequest, pb.GetRemovalRequestRequest(removal_request_id=request_id)),
        (world.stub.GetFilingPackage, pb.GetFilingPackageRequest(removal_request_id=request_id)),
        (
            world.stub.WithdrawRemovalRequest,
            pb.WithdrawRemovalRequestRequest(removal_request_id=request_id, request_id="x"),
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=world.subscriber(stranger))
        assert grpc.StatusCode.NOT_FOUND == caught.value.code()


async def test_pages_hold_every_request_once(world: World) -> None:
    person = await world.person()
    for number in range(5):
        await world.packed(person, "naver", address=f"https://example.com/{number}")
    await world.work()
    seen: list[str] = []
    token = ""
    while True:
        answer = await world.stub.ListRemovalRequests(
            pb.ListRemovalRequestsRequest(subscriber_id=person, page_size=2, page_token=token),
            metadata=world.subscriber(person),
        )
        seen += [item.removal_request_id for item in answer.removal_requests]
        token = answer.next_page_token
        if not token:
            break
    assert (5, 5) == (len(seen), len(set(seen)))


@pytest.mark.parametrize("token", ["!", "bm90IGEgdG9rZW4=", "AAAA"])
async def test_a_bad_page_token_is_named(world: World, token: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stub.ListRemovalRequests(pb.ListRemovalRequestsRequest(page_token=token), metadata=world.operator())
    assert "BAD_PAGE_TOKEN" == as_error(caught)


async def test_platforms_are_listed_with_the_versions_of_their_policies(world: World) -> None:
    answer = await world.stub.ListPlatforms(pb.ListPlatformsRequest(page_size=4), metadata=world.operator())
    assert ["community", "d4u", "eraser", "google"] == [item.platform for item in answer.platforms]
    rest = await world.stub.ListPlatforms(
        pb.ListPlatformsRequest(page_token=answer.next_page_token), metadata=world.operator()
    )
    assert 11 == len(rest.platforms)
    bodies = {item.platform for item in (*answer.platforms, *rest.platforms) if item.kind == "PUBLIC_BODY"}
    assert {"d4u", "eraser", "kcsc", "kidc", "kisa"} == bodies
    assert not any(item.approved for item in (*answer.platforms, *rest.platforms))


# --- what is stored ---


async def test_neither_address_nor_name_is_stored_or_published_in_the_clear(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.work()
    async with world.database.begin() as session:
        names = (await session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))).scalars()
        # The names come from the catalogue of a database made for this test.
        queries = [text(f'SELECT array_agg(t::text) FROM "{name}" t') for name in names.all()]
        stored = "".join([str(await session.scalar(query)) for query in queries])
    for secret in ("example.com", NAME, "gildong"):
        assert secret not in stored
        assert secret.encode().hex() not in stored


async def test_erasure_leaves_nothing_and_drops_what_comes_later(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.packed(person, "youtube", address="https://example.com/other")
    await world.work()
    await world.feed(case_events.SubscriberErasureRequested(subscriber_id=person))
    await world.packed(person, "naver")
    await world.work()

    assert [] == await world.requests(person)
    async with world.database.begin() as session:
        left = {
            table.name: await session.scalar(select(func.count()).select_from(table))
            for table in Base.metadata.sorted_tables
            if "subscriber_id" in table.c or table.name in ("request_case", "attempt", "due", "platform_reply", "vote")
        }
    assert {} == {name: count for name, count in left.items() if count}
    assert "ErasureCompleted" == (await world.events())[-1]


async def test_a_mandate_after_erasure_is_refused(world: World) -> None:
    person = await world.person()
    await world.feed(case_events.SubscriberErasureRequested(subscriber_id=person))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.mandate(person)
    assert "OWNER_ERASED" == as_error(caught)


async def test_the_migrations_make_the_tables_that_the_code_describes(world: World) -> None:
    async with world.database.engine.connect() as connection:
        differences = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), Base.metadata)
        )
    assert [] == differences


async def test_only_the_next_look_stays_due_when_all_is_done(world: World) -> None:
    person = await world.person()
    await world.packed(person, "naver")
    await world.work()
    async with world.database.begin() as session:
        due = (await session.execute(select(DUE))).all()
    assert [FOLLOW] == [row.kind for row in due]
    assert all(row.due_time > world.clock.now() for row in due)
    assert State.RECEIVED == (await world.states())[-1]
