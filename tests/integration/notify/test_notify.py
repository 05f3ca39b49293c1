"""Is everybody told once, on every device, until they say so?"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from misuse.case.v1 import case_pb2
from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1.access_pb2 import (
    PURPOSE_OPERATIONS,
    ROLE_SRE,
)
from misuse.common.v1.signal_pb2 import CASE_KIND_PRE_UPLOAD
from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.removal.v1 import events_pb2 as removal_events
from misuse.removal.v1 import removal_service_pb2
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.notify.adapters.rules import load_delivery_rules
from services.notify.adapters.tables import metadata
from tests.integration.notify.world import START, World, closed, opened, serving, within


async def test_an_opened_case_reaches_every_device_once_and_the_inbox(world: World) -> None:
    person = await world.person("phone", "tablet")
    event = opened(person)
    await world.feed(event, event)
    for device in ("phone", "tablet"):
        async with world.stream(person, device) as stream:
            got = (await within(20, anext(stream))).notification
            assert (event.case_id, 1) == (got.case_id, got.attempt)
            assert 1 == await world.acknowledge(person, got.notification_id, device_id=device)
    assert 1 == len((await world.inbox(person)).items)
    assert ["notification_handed_over", "notification_acknowledged"] * 2 == await world.events()
    assert ["QUEUED"] * 2 + ["HANDED_OVER", "ACKNOWLEDGED"] * 2 == await world.actions()


async def test_a_waiting_stream_is_woken_by_the_commit(database: str, tmp_path: Path) -> None:
    rules = replace(load_delivery_rules(None, "test"), poll=timedelta(hours=1))
    async with serving(database, tmp_path, rules) as world:
        person = await world.person("phone")
        async with world.stream(person) as stream:
            coming = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.2)
            assert not coming.done()
            await world.feed(opened(person))
            await within(20, coming)


async def test_the_lock_screen_names_neither_platform_nor_channel_and_the_inbox_does(world: World) -> None:
    person = await world.person("phone")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    assert "NAVER" not in got.title + got.body
    item = (await world.inbox(person)).items[0]
    assert "얼굴 사진" in item.title
    assert "NAVER" in item.body


async def test_an_english_subscriber_is_told_in_english_and_discreetly_when_asked(world: World) -> None:
    person = await world.person("phone", language="en")
    await world.stub.SetPreferences(
        pb.SetPreferencesRequest(
            subscriber_id=person,
            preferences=pb.Preferences(
                language="en", discreet=True, quiet_start_minute=-1, quiet_end_minute=-1
            ),
        ),
        metadata=world.subscriber(person),
    )
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    assert ("Notice", "You have a message.") == (got.title, got.body)
    assert "Your face photo was found" == (await world.inbox(person)).items[0].title


async def test_what_is_not_acknowledged_comes_again_under_the_same_id(world: World) -> None:
    person = await world.person("phone")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        first = (await within(20, anext(stream))).notification
        world.clock.advance(timedelta(seconds=7))
        again = (await within(20, anext(stream))).notification
    assert (first.notification_id, 2) == (again.notification_id, again.attempt)
    assert ["QUEUED", "HANDED_OVER", "RESENT"] == await world.actions()
    assert ["notification_handed_over"] == await world.events()


async def test_a_device_that_reconnects_gets_at_once_what_it_did_not_acknowledge(world: World) -> None:
    person = await world.person("phone")
    await world.feed(opened(person), opened(person))
    async with world.stream(person) as stream:
        first = [(await within(20, anext(stream))).notification.notification_id for _ in range(2)]
    await world.acknowledge(person, first[0])
    async with world.stream(person) as stream:
        assert first[1] == (await within(20, anext(stream))).notification.notification_id


async def test_a_stream_holds_back_until_the_device_acknowledges(narrow_world: World) -> None:
    world, person = narrow_world, await narrow_world.person("phone")
    await world.feed(*(opened(person) for _ in range(3)))
    async with world.stream(person) as stream:
        first = [(await within(20, anext(stream))).notification.notification_id for _ in range(2)]
        third = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.3)
        assert not third.done()
        await world.acknowledge(person, first[0])
        assert (await within(20, third)).notification.notification_id not in first


async def test_operators_see_counts_of_what_became_of_notifications(world: World) -> None:
    person = await world.person("phone", "tablet")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    await world.acknowledge(person, got.notification_id)
    removal = pb.RemoveDeviceRequest(subscriber_id=person, device_id="tablet")
    await world.stub.RemoveDevice(removal, metadata=world.subscriber(person))
    operator = world.signed("staff-1", ROLE_SRE, PURPOSE_OPERATIONS, "")
    counts = await world.stub.GetDeliveryStats(pb.GetDeliveryStatsRequest(), metadata=operator)
    expected = pb.GetDeliveryStatsResponse(queued=2, sent=1, acknowledged=1, superseded=1)
    assert counts == expected


async def test_two_notices_that_a_merge_makes_one_count_once(world: World) -> None:
    person, root, merged = await world.person("phone"), uuid7(), uuid7()
    await world.feed(opened(person, root), opened(person, merged))
    async with world.stream(person) as stream:
        got = [(await within(20, anext(stream))).notification.notification_id for _ in range(2)]
    await world.acknowledge(person, *got)
    await world.feed(case_events.CaseMerged(root_case_id=root, merged_case_id=merged, subscriber_id=person))
    operator = world.signed("staff-1", ROLE_SRE, PURPOSE_OPERATIONS, "")
    counts = await world.stub.GetDeliveryStats(pb.GetDeliveryStatsRequest(), metadata=operator)
    assert pb.GetDeliveryStatsResponse(queued=2, sent=1, acknowledged=1) == counts


async def test_word_of_a_removal_request_survives_the_merge_of_its_case(world: World) -> None:
    person, root, merged = await world.person("phone"), uuid7(), uuid7()
    facts = removal_events.RemovalFacts(
        removal_request_id=uuid7(), subscriber_id=person, case_ids=[merged], platform="naver",
        episode=1, attempt=1, state=removal_service_pb2.REMOVAL_STATE_REJECTED,
    )
    await world.feed(opened(person, root), opened(person, merged), removal_events.RemovalRejected(facts=facts))
    await world.feed(case_events.CaseMerged(root_case_id=root, merged_case_id=merged, subscriber_id=person))
    async with world.stream(person) as stream:
        got = [(await within(20, anext(stream))).notification.subject for _ in range(2)]
    assert [pb.NOTICE_SUBJECT_CASE_OPENED, pb.NOTICE_SUBJECT_REMOVAL_REJECTED] == sorted(got)


async def test_after_the_last_attempt_a_delivery_is_given_up_and_a_late_word_still_counts(
    world: World,
) -> None:
    person = await world.person("phone")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    world.clock.advance(timedelta(hours=73))
    await world.until("EXPIRED")
    assert 1 == await world.acknowledge(person, got.notification_id)
    assert "ACKNOWLEDGED" == (await world.actions())[-1]


async def test_without_a_device_the_notice_goes_to_the_inbox_alone(world: World) -> None:
    person = await world.person()
    await world.feed(opened(person))
    assert ["NO_LIVE_DEVICE"] == await world.actions()
    assert 1 == len((await world.inbox(person)).items)


async def test_a_removed_device_supersedes_its_notices_and_ends_its_stream(world: World) -> None:
    person = await world.person("phone")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        await within(20, anext(stream))
        request = pb.RemoveDeviceRequest(subscriber_id=person, device_id="phone")
        for _ in range(2):
            await world.stub.RemoveDevice(request, metadata=world.subscriber(person))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await within(20, anext(stream))
    assert "DEVICE_NOT_REGISTERED" == unwrap(refused.value).reason
    assert ["QUEUED", "HANDED_OVER", "SUPERSEDED"] == await world.actions()


async def test_a_notice_for_a_merged_case_is_the_notice_of_its_root(world: World) -> None:
    person = await world.person("phone")
    root, merged = uuid7(), uuid7()
    await world.feed(opened(person, root), opened(person, merged))
    await world.feed(
        case_events.CaseMerged(root_case_id=root, merged_case_id=merged, subscriber_id=person)
    )
    await world.feed(closed(person, merged), closed(person, root))
    closings = [i for i in (await world.inbox(person)).items if i.subject == pb.NOTICE_SUBJECT_CASE_CLOSED]
    assert [root] == [item.case_id for item in closings]
    await world.feed(case_events.CaseUnmerged(root_case_id=root, case_id=merged, subscriber_id=person))
    await world.feed(closed(person, merged))
    assert merged == (await world.inbox(person)).items[0].case_id


async def test_a_case_that_closes_again_after_reopening_is_told_again(world: World) -> None:
    person, case_id = await world.person("phone"), uuid7()
    await world.feed(opened(person, case_id), closed(person, case_id), closed(person, case_id))
    reopened = case_events.CaseReopened(case_id=case_id, subscriber_id=person, reason="X", occurrence=1)
    await world.feed(reopened, closed(person, case_id))
    subjects = [pb.NoticeSubject.Name(item.subject)[15:] for item in (await world.inbox(person)).items]
    assert ["CASE_CLOSED", "CASE_REOPENED", "CASE_CLOSED", "CASE_OPENED"] == subjects


async def test_a_burst_of_sightings_is_one_notice_and_the_next_burst_another(world: World) -> None:
    person, case_id = await world.person("phone"), uuid7()
    bursts = []
    for minute in (0, 90):
        digest = case_events.CaseSightingsDigested(case_id=case_id, subscriber_id=person, sightings=995)
        digest.from_time.FromDatetime(START + timedelta(minutes=minute))
        bursts += [digest, digest]
    await world.feed(opened(person, case_id), *bursts)
    items = [i for i in (await world.inbox(person)).items if i.subject == pb.NOTICE_SUBJECT_SIGHTINGS_DIGEST]
    assert [case_id, case_id] == [item.case_id for item in items]


async def test_removal_notices_name_platform_and_result_in_the_inbox(world: World) -> None:
    person, case_id, request_id = await world.person("phone"), uuid7(), uuid7()
    facts = removal_events.RemovalFacts(
        removal_request_id=request_id, subscriber_id=person, case_ids=[case_id], platform="naver",
        episode=1, attempt=1, state=removal_service_pb2.REMOVAL_STATE_REMOVED,
    )
    await world.feed(opened(person, case_id), removal_events.RemovalReceived(facts=facts))
    await world.feed(*[removal_events.RemovalCompleted(facts=facts)] * 2)
    items = (await world.inbox(person)).items
    assert 3 == len(items)
    assert "네이버에서 삭제되었습니다" == items[0].title


async def test_the_person_is_told_when_a_request_waits_for_them_and_again_when_reminded(world: World) -> None:
    person, case_id = await world.person("phone"), uuid7()
    waiting = removal_events.RemovalHandedToPerson(
        facts=removal_events.RemovalFacts(
            removal_request_id=uuid7(), subscriber_id=person, case_ids=[case_id], platform="youtube", episode=1,
            state=removal_service_pb2.REMOVAL_STATE_CHECKED, reason="WAITS_FOR_PERSON",
        ),
        occurrence=1,
    )
    reminder = removal_events.RemovalHandedToPerson(facts=waiting.facts, occurrence=2)
    needs_mandate = removal_events.RemovalHandedToPerson(facts=waiting.facts, occurrence=1)
    needs_mandate.facts.reason = "NO_MANDATE"
    await world.feed(waiting, waiting, reminder, needs_mandate)
    titles = [item.title for item in (await world.inbox(person)).items]
    asked = "유튜브 삭제 요청을 직접 제출해 주세요"
    assert ["유튜브 삭제 요청에 위임이 필요합니다", asked, asked] == titles


async def test_a_suspended_subscriber_is_left_in_peace_until_resumed(world: World) -> None:
    person = await world.person("phone")
    await world.feed(case_events.SubscriberSuspended(subscriber_id=person), opened(person))
    async with world.stream(person) as stream:
        coming = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.3)
        assert not coming.done()
        await world.feed(case_events.SubscriberResumed(subscriber_id=person))
        await within(20, coming)


async def test_erasure_leaves_no_row_and_no_key_and_drops_what_comes_later(world: World) -> None:
    person = await world.person("phone")
    await world.feed(opened(person), case_events.SubscriberErasureRequested(subscriber_id=person))
    await world.feed(opened(person))
    assert [] == list((await world.inbox(person)).items)
    assert world.keys.destroyed(person)
    assert ["erasure_completed"] == await world.events()
    async with world.database.begin() as session:
        for table in ("subscriber", "device", "inbox_item", "notification", "known_case", "gathering", "contact"):
            query = text(f"SELECT count(*) FROM {table}")
            assert 0 == await session.scalar(query)


async def test_the_inbox_pages_newest_first_and_refuses_a_foreign_token(world: World) -> None:
    person = await world.person()
    cases = [uuid7() for _ in range(5)]
    for case_id in cases:
        await world.feed(opened(person, case_id))
    first = await world.inbox(person, page_size=3)
    rest = await world.inbox(person, page_size=3, page_token=first.next_page_token)
    assert cases[::-1] == [item.case_id for item in (*first.items, *rest.items)]
    assert "" == rest.next_page_token
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.inbox(person, page_token="not ours")
    assert "BAD_PAGE_TOKEN" == unwrap(refused.value).reason


async def test_read_items_are_no_longer_unread_and_those_of_others_do_not_count(world: World) -> None:
    person, other = await world.person(), await world.person()
    await world.feed(opened(person), opened(other))
    own = (await world.inbox(person)).items[0].item_id
    foreign = (await world.inbox(other)).items[0].item_id
    request = pb.MarkReadRequest(subscriber_id=person, item_ids=[own, foreign])
    for _ in range(2):
        assert 1 == (await world.stub.MarkRead(request, metadata=world.subscriber(person))).read
    assert [] == list((await world.inbox(person, unread_only=True)).items)
    assert [foreign] == [item.item_id for item in (await world.inbox(other, unread_only=True)).items]


async def test_a_device_acknowledges_only_its_own(world: World) -> None:
    person = await world.person("phone", "tablet")
    await world.feed(opened(person))
    async with world.stream(person) as stream:
        got = (await within(20, anext(stream))).notification
    assert 0 == await world.acknowledge(person, got.notification_id, device_id="tablet")
    assert 1 == await world.acknowledge(person, got.notification_id)


async def test_of_many_that_acknowledge_at_once_one_that_is_not_registered_fails_alone(world: World) -> None:
    people = [await world.person("phone") for _ in range(3)]
    await world.feed(*(opened(person) for person in people))
    ids = {}
    for person in people:
        async with world.stream(person) as stream:
            ids[person] = (await within(20, anext(stream))).notification.notification_id
    calls = [world.acknowledge(person, ids[person], uuid7()) for person in people]
    strange = world.acknowledge(people[0], ids[people[0]], device_id="nobodys")
    *done, refused = await asyncio.gather(*calls, strange, return_exceptions=True)
    assert [1, 1, 1] == done
    assert isinstance(refused, grpc.aio.AioRpcError)
    assert "DEVICE_NOT_REGISTERED" == unwrap(refused).reason


async def test_waits_for_the_next_attempt_differ_by_chance_within_the_rules(world: World) -> None:
    person = await world.person("phone")
    await world.feed(*(opened(person) for _ in range(20)))
    async with world.stream(person) as stream:
        for _ in range(20):
            await within(20, anext(stream))
    async with world.database.begin() as session:
        found = list(await session.scalars(text("SELECT next_time - last_sent_time FROM notification")))
    shortest = load_delivery_rules(None, "test").resend_after
    assert all(shortest <= wait <= 1.2 * shortest for wait in found)
    assert 1 < len(set(found))


async def test_a_device_is_told_of_when_it_becomes_one_and_not_by_its_own_name(world: World) -> None:
    somebody = await world.person("phone", "phone", "tablet")
    await world.stub.RemoveDevice(
        pb.RemoveDeviceRequest(subscriber_id=somebody, device_id="phone"), metadata=world.subscriber(somebody)
    )
    await world.stub.RegisterDevice(
        pb.RegisterDeviceRequest(subscriber_id=somebody, device_id="phone", os="ios"),
        metadata=world.subscriber(somebody),
    )
    told = await world.devices_told()
    hashes = [hashlib.sha256(f"{somebody}\0{name}".encode()).digest() for name in ("phone", "tablet", "phone")]
    assert [(somebody, each) for each in hashes] == [(x.subscriber_id, x.device_hash) for x in told]
    assert all(b"phone" not in x.SerializeToString() for x in told)


async def test_the_twenty_first_device_is_refused(world: World) -> None:
    person = await world.person(*(f"d{n}" for n in range(20)))
    request = pb.RegisterDeviceRequest(subscriber_id=person, device_id="d20", os="ios")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.stub.RegisterDevice(request, metadata=world.subscriber(person))
    assert "TOO_MANY_DEVICES" == unwrap(refused.value).reason


async def test_personal_data_lies_only_in_ciphertext(world: World) -> None:
    person = await world.person()
    request = pb.RegisterDeviceRequest(
        subscriber_id=person, device_id="phone", os="ios", push_token="canary-push-token"
    )
    await world.stub.RegisterDevice(request, metadata=world.subscriber(person))
    await world.feed(opened(person))
    async with world.database.begin() as session:
        stored = await session.scalar(text("SELECT push_token FROM device"))
        details = await session.scalar(text("SELECT details FROM inbox_item"))
    assert b"canary" not in bytes(stored)
    assert b"NAVER" not in bytes(details)


async def test_the_migrations_make_exactly_the_tables_of_the_code(world: World) -> None:
    async with world.database.engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata())
        )
    assert [] == [change for change in found if "alembic_version" not in str(change)]


async def test_a_warning_before_an_upload_and_its_blur_are_told_in_words_of_their_own(world: World) -> None:
    who, case_id = await world.person("phone"), uuid7()
    opened = case_events.CaseOpened(case_id=case_id, subscriber_id=who, kind=CASE_KIND_PRE_UPLOAD)
    closed = case_events.CaseClosed(case_id=case_id, subscriber_id=who, resolution=case_pb2.RESOLUTION_REDACTED)
    await world.feed(opened, opened, closed)
    async with world.stream(who) as stream:
        subjects = [(await anext(stream)).notification.subject for _ in range(2)]
    assert {pb.NOTICE_SUBJECT_UPLOAD_WARNED, pb.NOTICE_SUBJECT_UPLOAD_REDACTED} == set(subjects)


@pytest.mark.parametrize(
    "resolution",
    [case_pb2.RESOLUTION_UPLOAD_CANCELLED, case_pb2.RESOLUTION_UPLOADED, case_pb2.RESOLUTION_NOT_ANSWERED],
)
async def test_what_the_subscriber_chose_a_moment_ago_is_no_news(world: World, resolution: Any) -> None:
    who = await world.person("phone")
    await world.feed(case_events.CaseClosed(case_id=uuid7(), subscriber_id=who, resolution=resolution))
    request = pb.ListInboxRequest(subscriber_id=who)
    assert [] == list((await world.stub.ListInbox(request, metadata=world.subscriber(who))).items)
