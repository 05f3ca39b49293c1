"""A warning before an upload is a case under the id that its subscriber was told, and ends as the subscriber chose."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.case.v1 import case_pb2, case_service_pb2, subscriber_service_pb2
from misuse.case.v1 import events_pb2 as told
from misuse.common.v1.signal_pb2 import CASE_KIND_PRE_UPLOAD, CASE_KIND_REDACTION
from misuse.detector.v1.events_pb2 import SignalMatched, UploadResolved, UploadWarned
from misuse.log.v1.record_pb2 import BlurApplyLog, LogRecord, PreUploadWarningLog
from services.chassis.ids import uuid7
from tests.integration.case.world import World, refused


def warning(world: World, who: str, **changes: str) -> UploadWarned:
    moment = Timestamp()
    moment.FromDatetime(world.clock.now())
    values = {"upload_check_id": uuid7(), "case_id": uuid7(), "subscriber_id": who} | changes
    return UploadWarned(**values, occur_time=moment)


def answer(warned: UploadWarned, choice: str) -> UploadResolved:
    return UploadResolved(
        upload_check_id=warned.upload_check_id,
        case_id=warned.case_id,
        subscriber_id=warned.subscriber_id,
        choice=choice,
        occur_time=warned.occur_time,
    )


async def test_the_case_has_the_id_of_the_warning_and_a_repeat_opens_no_second(world: World) -> None:
    warned = warning(world, await world.person())
    for _ in range(2):
        await world.feed(warned)
    case = await case_of(world, warned)
    assert (warned.case_id, [CASE_KIND_PRE_UPLOAD], case_pb2.CASE_STATE_OPEN) == (
        case.case_id,
        list(case.kinds),
        case.state,
    )
    assert [warned.case_id] == [event.case_id for event in await world.events(told.CaseOpened)]


@pytest.mark.parametrize(
    ("choice", "resolution"),
    [
        ("BLUR", case_pb2.RESOLUTION_REDACTED),
        ("CANCEL", case_pb2.RESOLUTION_UPLOAD_CANCELLED),
        ("PROCEED", case_pb2.RESOLUTION_UPLOADED),
        ("NO_ANSWER", case_pb2.RESOLUTION_NOT_ANSWERED),
    ],
)
async def test_the_choice_closes_the_case_once(world: World, choice, resolution) -> None:
    warned = warning(world, await world.person())
    await world.feed(warned)
    for _ in range(2):
        await world.feed(answer(warned, choice))
    case = await case_of(world, warned)
    assert (case_pb2.CASE_STATE_CLOSED, resolution) == (case.state, case.resolution)
    assert (choice == "BLUR") == (CASE_KIND_REDACTION in case.kinds)
    assert 1 == len(await world.events(told.CaseClosed))


async def test_an_answer_to_a_warning_that_opened_nothing_is_left_alone(world: World) -> None:
    warned = warning(world, await world.person())
    await world.feed(answer(warned, "CANCEL"))
    assert [] == await world.events(told.CaseClosed)


async def test_nobody_else_gives_the_subscribers_answer(world: World) -> None:
    warned = warning(world, await world.person())
    await world.feed(warned)
    request = case_service_pb2.CloseCaseRequest(
        case_id=warned.case_id, request_id=uuid7(), resolution=case_pb2.RESOLUTION_REDACTED
    )
    with refused("RESOLUTION_RESERVED"):
        await world.cases.CloseCase(request, metadata=world.operator)


async def test_a_case_that_somebody_else_has_is_not_taken(world: World) -> None:
    warned = warning(world, await world.person())
    await world.feed(warned)
    with pytest.raises(Exception, match="CASE_ID_TAKEN"):
        await world.feed(warning(world, await world.person(), case_id=warned.case_id))


async def test_records_that_came_before_the_case_stand_in_its_log(world: World) -> None:
    warned = warning(world, await world.person())
    body = PreUploadWarningLog(upload_check_id=warned.upload_check_id)
    await world.feed(of(warned, pre_upload_warning_log=body))
    await world.feed(warned)
    await world.log_own_records()
    blur = BlurApplyLog(upload_check_id=warned.upload_check_id)
    await world.feed(of(warned, blur_apply_log=blur))
    request = case_service_pb2.ListCaseLogRequest(case_id=warned.case_id)
    entries = (await world.cases.ListCaseLog(request, metadata=world.auditor)).entries
    bodies = [entry.record.WhichOneof("body") for entry in entries]
    assert ["pre_upload_warning_log", "case_lifecycle_log", "blur_apply_log"] == bodies


async def test_a_suspended_subscriber_gets_no_case(world: World) -> None:
    who = await world.person()
    request = subscriber_service_pb2.SuspendSubscriberRequest(subscriber_id=who)
    await world.people.SuspendSubscriber(request, metadata=world.subscriber(who))
    await world.feed(warning(world, who))
    assert [] == await world.events(told.CaseOpened)
    assert "DROPPED" in await world.transitions()


async def case_of(world: World, warned: UploadWarned) -> case_pb2.Case:
    request = case_service_pb2.GetCaseRequest(case_id=warned.case_id)
    return (await world.cases.GetCase(request, metadata=world.operator)).case


def of(warned: UploadWarned, **body: PreUploadWarningLog | BlurApplyLog) -> LogRecord:
    """A record as the detector writes it."""
    return LogRecord(
        record_id=uuid7(),
        case_ids=[warned.case_id],
        decision_id=warned.upload_check_id,
        entity="upload_check",
        entity_id=warned.upload_check_id,
        entity_version=1,
        service="detector",
        occur_time=warned.occur_time,
        **body,
    )


async def test_answers_about_the_same_people_in_another_order_do_not_wait_for_each_other_in_a_circle(
    world: World,
) -> None:
    people = [await world.person() for _ in range(12)]
    for _ in range(3):
        warned = [warning(world, who) for who in people]
        matches = [SignalMatched(facts=world.facts(who)) for who in people]
        await asyncio.gather(world.feed(*warned), world.feed(*warned[::-1]), world.feed(*matches))
        answers = [answer(each, "BLUR") for each in warned]
        await asyncio.gather(world.feed(*answers), world.feed(*answers[::-1]))
    assert 36 == len(await world.events(told.CaseClosed))
