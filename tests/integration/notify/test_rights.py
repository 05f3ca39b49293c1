"""Does the person hear of requests about the own data, in words that tell a stranger nothing?"""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from misuse.case.v1 import events_pb2 as case_events
from misuse.notify.v1 import notify_service_pb2 as pb
from services.chassis.ids import uuid7
from tests.integration.notify.world import World


def moves(person: str, kind: str, state: str) -> list[Message]:
    """A request that came in, was put off twice, and was answered."""
    asked = {"rights_request_id": uuid7(), "subscriber_id": person, "type": kind}
    return [
        case_events.RightsRequestReceived(**asked),
        case_events.RightsRequestExtended(**asked, extensions=1),
        case_events.RightsRequestExtended(**asked, extensions=2),
        case_events.RightsRequestAnswered(**asked, state=state),
    ]


@pytest.mark.parametrize(("language", "word"), [("ko", "개인정보 열람"), ("en", "access")])
async def test_each_move_is_told_once_and_names_its_type_in_the_inbox_alone(
    world: World, language: str, word: str
) -> None:
    person = await world.person("phone", language=language)
    told = moves(person, "ACCESS", "REJECTED")
    await world.feed(*told, *told)
    items = (await world.inbox(person)).items
    assert {pb.NOTICE_SUBJECT_RIGHTS_REQUEST} == {item.subject for item in items}
    assert (4, 3) == (len(items), len({item.title for item in items}))
    assert all(word in item.title for item in items)
    async with world.stream(person) as stream:
        shown = await anext(stream)
    assert word not in shown.notification.title + shown.notification.body


async def test_who_asked_for_processing_to_stop_is_told_that_it_did(world: World) -> None:
    person = await world.person("phone")
    await world.feed(
        case_events.SubscriberSuspended(subscriber_id=person), *moves(person, "SUSPENSION", "FULFILLED")[-1:]
    )
    async with world.stream(person) as stream:
        shown = await anext(stream)
    assert pb.NOTICE_SUBJECT_RIGHTS_REQUEST == shown.notification.subject
