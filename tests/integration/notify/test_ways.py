"""Does a notice find its way: push, quiet hours, digests, the alternative path, contacts?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from nacl.public import PrivateKey, SealedBox
from sqlalchemy import text

from misuse.common.v1.access_pb2 import PURPOSE_OPERATIONS, ROLE_SRE
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE, CASE_KIND_PRE_UPLOAD, CaseKind
from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.removal.v1 import events_pb2 as removal_events
from misuse.removal.v1 import removal_service_pb2
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.notify.adapters.hooks import PAYLOAD_BYTES
from services.notify.adapters.rules import load_delivery_rules
from services.notify.adapters.ways import Ways as Config
from tests.integration.notify.world import World, opened, serving, within
from tests.simulators.ways import Ways

RULES = load_delivery_rules(None, "test")
NIGHT = {"quiet_start_minute": 22 * 60, "quiet_end_minute": 7 * 60}
NO_NIGHT = {"quiet_start_minute": -1, "quiet_end_minute": -1}


@pytest.fixture
def ways() -> Iterator[Ways]:
    """A push gateway, an SMS gateway and a mailbox."""
    with Ways() as simulated:
        yield simulated


@asynccontextmanager
async def reaching(url: str, folder: Path, ways: Ways, **rules: Any) -> AsyncIterator[World]:
    """The service with all ways to the simulators."""
    config = Config(push_hook=ways.push_hook, sms_gateway=ways.sms_gateway, relay=ways.relay)
    async with serving(url, folder, replace(RULES, **rules), config) as world:
        yield world


@pytest.fixture
async def world(database: str, tmp_path: Path, ways: Ways) -> AsyncIterator[World]:
    """The service; its clock says 18:00 in Seoul."""
    async with reaching(database, tmp_path, ways) as made:
        yield made


async def woken(world: World, person: str, token: str = "token", **fields: Any) -> str:
    """Registers a device that can be woken; returns its id."""
    device_id = fields.pop("device_id", "phone")
    await world.stub.RegisterDevice(
        pb.RegisterDeviceRequest(
            subscriber_id=person, device_id=device_id, os="ios", push_token=token, **fields
        ),
        metadata=world.subscriber(person),
    )
    return device_id


async def prefer(world: World, person: str, **fields: Any) -> None:
    wishes = pb.Preferences(**{"language": "ko", **NO_NIGHT, **fields})
    request = pb.SetPreferencesRequest(subscriber_id=person, preferences=wishes)
    await world.stub.SetPreferences(request, metadata=world.subscriber(person))


async def name_contact(world: World, person: str, path: Any, value: str) -> pb.Contact:
    request = pb.ChangeContactRequest(subscriber_id=person, path=path, value=value)
    return (await world.stub.ChangeContact(request, metadata=world.subscriber(person))).contact


async def until(seen: Any, number: int = 1) -> None:
    """Waits until a simulator has seen so much."""
    async with asyncio.timeout(30):
        while len(seen) < number:
            await asyncio.sleep(0.02)


def pushed_id(payload: bytes) -> str:
    return str(json.loads(payload)["id"])


# --- push ---


async def test_a_device_that_does_not_stream_is_woken_and_its_acknowledgement_counts(world: World, ways: Ways) -> None:
    person = await world.person()
    await woken(world, person)
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await world.until("HANDED_OVER")
    [pushed] = ways.pushed
    assert 1 == await world.acknowledge(person, pushed_id(pushed.payload))
    records = [(record.action, record.path) for record in await world.records()]
    assert [("QUEUED", ""), ("HANDED_OVER", "PUSH"), ("ACKNOWLEDGED", "PUSH")] == records


async def test_a_live_stream_is_given_the_time_to_take_it_first(world: World, ways: Ways) -> None:
    person = await world.person()
    await woken(world, person)
    async with world.stream(person) as stream:
        await world.feed(opened(person))
        got = (await within(20, anext(stream))).notification
        await world.acknowledge(person, got.notification_id)
    world.clock.advance(timedelta(seconds=3))
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=3))
    await world.until("HANDED_OVER", 2)
    assert got.notification_id not in {pushed_id(each.payload) for each in ways.pushed}


async def test_every_payload_has_the_same_size_and_only_the_device_opens_a_sealed_one(world: World, ways: Ways) -> None:
    person, key = await world.person(language="en"), PrivateKey.generate()
    await woken(world, person, "open", device_id="a", locale="ko-KR")
    await woken(world, person, "sealed", device_id="b", public_key=bytes(key.public_key))
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed, 2)
    by_token = {each.token: each.payload for each in ways.pushed}
    assert {PAYLOAD_BYTES} == {len(payload) for payload in by_token.values()}
    assert "새 알림이 있습니다" == json.loads(by_token["open"])["title"]
    assert b"title" not in by_token["sealed"]
    assert "You have a new notice" == json.loads(SealedBox(key).decrypt(by_token["sealed"]))["title"]


async def test_a_push_that_fails_is_made_again_under_the_same_id_and_is_handed_over_once(
    world: World, ways: Ways
) -> None:
    person = await world.person()
    await woken(world, person)
    ways.status["/push"] = 503
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await world.until("PUSH_FAILED")
    del ways.status["/push"]
    world.clock.advance(timedelta(seconds=10))
    await world.until("HANDED_OVER")
    assert ["QUEUED", "PUSH_FAILED", "HANDED_OVER"] == await world.actions()
    assert ["notification_handed_over"] == await world.events()
    assert "HTTP_503" == (await world.records())[1].reason


async def test_a_word_that_is_faster_than_the_providers_answer_counts(world: World, ways: Ways) -> None:
    person, told = await world.person(), list[str]()
    await woken(world, person)
    loop = asyncio.get_running_loop()

    def acknowledge(token: str, payload: bytes) -> None:
        # The gateway answers only when this is through.
        waiting = asyncio.run_coroutine_threadsafe(world.acknowledge(person, pushed_id(payload)), loop)
        told.append(str(waiting.result(20)))

    ways.on_push = acknowledge
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await until(told)
    assert ["1"] == told
    assert ["QUEUED", "HANDED_OVER", "ACKNOWLEDGED"] == await world.actions()


async def test_a_refused_token_is_forgotten_and_the_report_can_tell(world: World, ways: Ways) -> None:
    person = await world.person()
    await woken(world, person)
    ways.gone = lambda token: token == "token"
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await world.until("INVALID_TOKEN")
    async with world.database.begin() as session:
        assert await session.scalar(text("SELECT push_token IS NULL AND refused_time IS NOT NULL FROM device"))
    operator = world.signed("staff-1", ROLE_SRE, PURPOSE_OPERATIONS, "")
    counts = await world.stub.GetDeliveryStats(pb.GetDeliveryStatsRequest(), metadata=operator)
    assert pb.GetDeliveryStatsResponse(queued=1, invalid_tokens=1) == counts
    world.clock.advance(timedelta(hours=73))
    await world.until("UNDELIVERABLE")
    assert "TOKEN_REFUSED" == (await world.records())[-1].reason
    assert 1 == len(ways.pushed)


async def test_a_cases_next_notice_waits_behind_one_that_was_not_taken(world: World, ways: Ways) -> None:
    person, case_id = await world.person(), uuid7()
    await woken(world, person)
    ways.fail_every = 2
    ways._count = 1  # the first one fails
    await world.feed(opened(person, case_id), removal(person, case_id))
    world.clock.advance(timedelta(seconds=2))
    await world.until("PUSH_FAILED")
    ways.fail_every = 0
    world.clock.advance(timedelta(seconds=10))
    await world.until("HANDED_OVER")
    first = pushed_id(ways.pushed[0].payload)
    assert [first, first] == [pushed_id(each.payload) for each in ways.pushed]
    await world.acknowledge(person, first)
    world.clock.advance(timedelta(seconds=2))
    await world.until("HANDED_OVER", 2)
    assert pushed_id(ways.pushed[2].payload) > first


async def test_a_push_does_not_overtake_what_the_stream_took_and_was_not_acknowledged(
    world: World, ways: Ways
) -> None:
    person, case_id = await world.person(), uuid7()
    await woken(world, person)
    await world.feed(opened(person, case_id))
    async with world.stream(person) as stream:
        first = (await within(20, anext(stream))).notification
    await world.feed(removal(person, case_id), opened(person))
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed)
    await world.acknowledge(person, first.notification_id)
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed, 2)
    other_case, held_back = [pushed_id(each.payload) for each in ways.pushed]
    assert first.notification_id < held_back < other_case


async def test_what_has_arrived_is_noted_and_not_sent_again(world: World, ways: Ways) -> None:
    person = await world.person()
    await woken(world, person)
    await world.feed(opened(person))
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed)
    request = pb.AcknowledgeNotificationsRequest(
        subscriber_id=person, delivered_ids=[pushed_id(ways.pushed[0].payload)]
    )
    for _ in range(2):
        answer = await world.stub.AcknowledgeNotifications(request, metadata=world.device(person))
        assert 0 == answer.acknowledged
    world.clock.advance(timedelta(minutes=4))
    await asyncio.sleep(0.3)
    assert ["QUEUED", "HANDED_OVER", "DELIVERED"] == await world.actions()
    assert 1 == len(ways.pushed)


async def test_a_delivery_that_cannot_be_dealt_with_holds_up_no_other(world: World, ways: Ways) -> None:
    broken, person = await world.person(), await world.person()
    await woken(world, broken, "broken")
    await woken(world, person, "whole")
    async with world.database.begin() as session:
        await session.execute(
            text("UPDATE device SET push_token = 'not sealed' WHERE subscriber_id = :who"), {"who": broken}
        )
    await world.feed(opened(broken), opened(person))
    world.clock.advance(timedelta(seconds=2))
    await world.until("HANDED_OVER")
    assert ["whole"] == [each.token for each in ways.pushed]


# --- quiet hours ---


@pytest.mark.parametrize("kind", [CASE_KIND_FACE, CASE_KIND_PRE_UPLOAD])
async def test_quiet_hours_of_the_devices_zone_hold_a_push_until_they_end(
    world: World, ways: Ways, kind: CaseKind.ValueType
) -> None:
    person = await world.person()
    await woken(world, person, "seoul", device_id="a")
    await woken(world, person, "london", device_id="b", time_zone="Europe/London")
    await prefer(world, person, **NIGHT)
    world.clock.advance(timedelta(hours=5))  # 23:00 in Seoul, 14:00 in London
    event = opened(person)
    event.kind = kind
    await world.feed(event)
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed)
    assert ["london"] == [each.token for each in ways.pushed]
    assert 1 == (await world.actions()).count("QUIET_HOURS")
    world.clock.advance(timedelta(hours=8))
    async with asyncio.timeout(30):
        while "seoul" not in {each.token for each in ways.pushed}:
            await asyncio.sleep(0.02)


async def test_quiet_hours_hold_a_stream_too_but_neither_its_badge_nor_an_uploads_banner(world: World) -> None:
    person = await world.person("phone")
    await prefer(world, person, **NIGHT)
    world.clock.advance(timedelta(hours=5))
    call = world.stub.StreamNotifications(
        pb.StreamNotificationsRequest(subscriber_id=person, with_badge=True), metadata=world.device(person)
    )
    stream = aiter(call)
    first = await within(20, anext(stream))
    assert (True, 0) == (first.HasField("unread"), first.unread)
    await world.feed(opened(person))
    second = await within(20, anext(stream))
    assert (False, 1) == (second.HasField("notification"), second.unread)
    warning = opened(person)
    warning.kind = CASE_KIND_PRE_UPLOAD
    await world.feed(warning)
    got = [await within(20, anext(stream)) for _ in range(2)]
    subjects = [each.notification.subject for each in got if each.HasField("notification")]
    assert [pb.NOTICE_SUBJECT_UPLOAD_WARNED] == subjects
    assert {2} == {each.unread for each in got if each.HasField("unread")}
    await prefer(world, person, **NO_NIGHT)
    late = await within(20, anext(stream))
    assert pb.NOTICE_SUBJECT_CASE_OPENED == late.notification.subject
    call.cancel()


# --- digests ---


def removal(person: str, case_id: str) -> removal_events.RemovalReceived:
    facts = removal_events.RemovalFacts(
        removal_request_id=uuid7(), subscriber_id=person, case_ids=[case_id], platform="naver",
        episode=1, attempt=1, state=removal_service_pb2.REMOVAL_STATE_RECEIVED,
    )
    return removal_events.RemovalReceived(facts=facts)


@pytest.mark.slow
async def test_a_thousand_notices_make_one_digest_and_the_inbox_holds_each(
    database: str, tmp_path: Path, ways: Ways
) -> None:
    rules = replace(RULES.gathering, at_once=2)
    async with reaching(database, tmp_path, ways, gathering=rules) as world:
        person, case_id = await world.person("phone"), uuid7()
        await world.feed_at_once(*(removal(person, case_id) for _ in range(1000)))
        world.clock.advance(timedelta(minutes=2))
        await world.until("QUEUED", 3)
        actions = await world.actions()
        assert (998, 3) == (actions.count("DIGESTED"), actions.count("QUEUED"))
        async with world.stream(person) as stream:
            got = [(await within(20, anext(stream))).notification for _ in range(3)]
        assert (pb.NOTICE_SUBJECT_DIGEST, "") == (got[-1].subject, got[-1].case_id)
        items = (await world.inbox(person, page_size=200)).items
        assert "알림 998건을 모았습니다" == items[0].title
        async with world.database.begin() as session:
            assert 1001 == await session.scalar(text("SELECT count(*) FROM inbox_item"))


async def test_who_wishes_digests_is_told_once_an_hour(world: World) -> None:
    person = await world.person("phone")
    await prefer(world, person, digest_minutes=60)
    await world.feed(opened(person), opened(person))
    assert ["DIGESTED", "DIGESTED"] == await world.actions()
    world.clock.advance(timedelta(minutes=61))
    await world.until("QUEUED")
    assert pb.NOTICE_SUBJECT_DIGEST == (await world.inbox(person)).items[0].subject


# --- the alternative path ---


async def test_whom_no_device_reaches_gets_one_message_for_all_devices(world: World, ways: Ways) -> None:
    person = await world.person("phone", "tablet")
    await name_contact(world, person, pb.NOTICE_PATH_SMS, "+82 10-0000-0000")
    await world.feed(opened(person))
    world.clock.advance(RULES.fall_back_after + timedelta(seconds=2))
    await until(ways.texts)
    [sent] = ways.texts
    assert ("+821000000000", "확인하지 않은 알림이 있습니다. 앱에서 확인해 주세요.") == (sent["to"], sent["text"])
    await world.until("HANDED_OVER")
    world.clock.advance(timedelta(hours=1))
    await asyncio.sleep(0.3)
    assert 1 == len(ways.texts)
    assert 1 == (await world.actions()).count("FALLBACK")


async def test_an_acknowledgement_or_a_look_into_the_inbox_spares_the_message(world: World, ways: Ways) -> None:
    person = await world.person("phone", "tablet")
    await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821000000000")
    await world.feed(opened(person), opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    await world.acknowledge(person, got.notification_id)
    items = [item.item_id for item in (await world.inbox(person)).items]
    await world.stub.MarkRead(
        pb.MarkReadRequest(subscriber_id=person, item_ids=items), metadata=world.subscriber(person)
    )
    world.clock.advance(RULES.fall_back_after + timedelta(seconds=2))
    await world.until("SUPERSEDED")
    assert [] == ways.texts


async def test_without_a_device_the_message_goes_out_at_once_and_by_the_next_way_when_one_refuses(
    world: World, ways: Ways
) -> None:
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821000000000")
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, "somebody@example.com")
    ways.status["/sms"] = 400
    await world.feed(opened(person))
    await until(ways.mails)
    [mail] = ways.mails
    assert ("새 알림이 있습니다", "notice@jikimi.invalid") == (mail["Subject"], mail["From"].addresses[0].addr_spec)
    await world.until("HANDED_OVER")
    steps = [(record.action, record.path, record.reason) for record in await world.records()]
    assert [
        ("NO_LIVE_DEVICE", "INBOX", ""),
        ("FALLBACK", "SMS", ""),
        ("SEND_FAILED", "SMS", "HTTP_400"),
        ("HANDED_OVER", "EMAIL", ""),
    ] == steps


async def test_when_no_way_is_left_the_badge_remains(world: World, ways: Ways) -> None:
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, "somebody@example.com")
    ways.refuse_mail = "550 no such mailbox"
    await world.feed(opened(person))
    await world.until("UNDELIVERABLE")
    last = (await world.records())[-1]
    assert ("INBOX", "NO_WAY_LEFT") == (last.path, last.reason)


async def test_discreet_mode_changes_sender_subject_and_words(world: World, ways: Ways) -> None:
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, "somebody@example.com")
    await prefer(world, person, discreet=True)
    await world.feed(opened(person))
    await until(ways.mails)
    sender = ways.mails[0]["From"].addresses[0]
    assert ("알림", "notice@message.invalid") == (sender.display_name, sender.addr_spec)
    body = ways.mails[0].get_body(("plain",))
    assert body is not None
    assert ("알림", "새 메시지가 있습니다.") == (ways.mails[0]["Subject"], body.get_content().strip())


async def test_no_more_messages_a_day_than_the_rules_allow(database: str, tmp_path: Path, ways: Ways) -> None:
    async with reaching(database, tmp_path, ways, fall_backs_a_day=1) as world:
        person = await world.person()
        await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821000000000")
        await world.feed(opened(person))
        await until(ways.texts)
        await world.until("HANDED_OVER")
        await world.feed(opened(person))
        await world.until("UNDELIVERABLE")
        assert "DAILY_LIMIT" == (await world.records())[-1].reason


# --- contacts ---


async def test_a_change_of_contact_waits_and_the_old_contact_and_every_device_hear_of_it(
    world: World, ways: Ways
) -> None:
    person = await world.person("phone")
    first = await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821000000000")
    assert ("+82********00", False) == (first.masked, first.HasField("change_time"))
    changed = await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821099999999")
    assert ("+82********00", True) == (changed.masked, changed.HasField("change_time"))
    await until(ways.texts)
    assert ["+821000000000"] == [each["to"] for each in ways.texts]
    assert "바꾸는 요청" in ways.texts[0]["text"]
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    assert pb.NOTICE_SUBJECT_CONTACT_CHANGING == got.subject
    world.clock.advance(RULES.contact_delay + timedelta(seconds=1))
    async with asyncio.timeout(30):
        while "+82********99" not in await masked(world, person):
            await asyncio.sleep(0.02)


async def test_a_change_that_is_taken_back_never_takes_effect(world: World, ways: Ways) -> None:
    person = await world.person()
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, "old@example.com")
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, "")
    await until(ways.mails)
    request = pb.CancelContactChangeRequest(subscriber_id=person, path=pb.NOTICE_PATH_EMAIL)
    for _ in range(2):
        await world.stub.CancelContactChange(request, metadata=world.subscriber(person))
    world.clock.advance(RULES.contact_delay + timedelta(seconds=1))
    await asyncio.sleep(0.3)
    assert ["o***@e***.com"] == await masked(world, person)


async def masked(world: World, person: str) -> list[str]:
    request = pb.ListContactsRequest(subscriber_id=person)
    answer = await world.stub.ListContacts(request, metadata=world.subscriber(person))
    return [contact.masked for contact in answer.contacts]


@pytest.mark.parametrize("value", ["010-0000-0000", "+82", "nobody", "a@b", "a b@example.com", "+82" + "1" * 40])
async def test_what_is_no_contact_is_refused_without_quoting_it(world: World, value: str) -> None:
    person = await world.person()
    path = pb.NOTICE_PATH_EMAIL if "@" in value else pb.NOTICE_PATH_SMS
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await name_contact(world, person, path, value)
    assert "CONTACT_MALFORMED" == unwrap(refused.value).reason
    assert value not in str(refused.value.details())


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("time_zone", "Mars/Olympus", "TIME_ZONE_UNKNOWN"),
        ("time_zone", "../../etc/passwd", "TIME_ZONE_UNKNOWN"),
        ("locale", "k_", "LOCALE_MALFORMED"),
        ("public_key", b"short", "PUBLIC_KEY_MALFORMED"),
    ],
)
async def test_what_a_device_says_of_itself_is_checked(world: World, field: str, value: Any, reason: str) -> None:
    person = await world.person()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await woken(world, person, **{field: value})
    assert [(field, reason)] == [tuple(each) for each in unwrap(refused.value).violations]
