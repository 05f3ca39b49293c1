"""How possession of a phone or mailbox is proved, asked again, and lost to whoever holds it next."""

from __future__ import annotations

from datetime import timedelta

import grpc.aio
import pytest

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from services.chassis.rpc import unwrap

MOBILE, ADDRESS = common.IDENTIFIER_KIND_MOBILE_PHONE, common.IDENTIFIER_KIND_ADDRESS
NUMBER = "010-2345-6789"
HOME = "서울특별시 강남구 테헤란로 123"
LEAK = "판매자 연락처 010 2345 6789 로 문자 주세요"


async def reason_of(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return unwrap(refused.value).reason


async def state_of(world, who: str) -> list[int]:
    request = enrolment.ListWatchedIdentifiersRequest(subscriber_id=who)
    answer = await world.enrolment.ListWatchedIdentifiers(request, metadata=world.backend)
    return [each.state for each in answer.identifiers]


async def matched(world) -> list[str]:
    """Who is concerned by a post with the number in it."""
    before = len(await world.facts())
    await world.submit(world.signal(f"{LEAK} {before}"))
    await world.decide()
    return [facts.subscriber_id for facts in (await world.facts())[before:]]


async def test_a_recycled_number_belongs_to_whoever_proved_it_last(world):
    before, after = await world.register(), await world.register()
    await world.watched(before, MOBILE, NUMBER)
    assert [before] == await matched(world)
    await world.watched(after, MOBILE, "+82 10 2345 6789")
    assert [after] == await matched(world)
    assert [enrolment.OWNERSHIP_STATE_EXPIRED] == await state_of(world, before)
    reasons = [(record.to_state, record.reason) for record in await world.records("ownership_log")]
    assert ("EXPIRED", "PROVED_BY_ANOTHER") in reasons


async def test_a_number_recycled_while_its_holder_was_suspended_stays_lost(world):
    before, after = await world.register(), await world.register()
    await world.watched(before, MOBILE, NUMBER)
    await world.follow(lambda work: world.detector.following.suspended(work, before))
    await world.watched(after, MOBILE, NUMBER)
    await world.follow(lambda work: world.detector.following.resumed(work, before, False))
    assert [after] == await matched(world)


async def test_whoever_gets_the_number_back_proves_it_again(world):
    before, after = await world.register(), await world.register()
    watch_id = await world.watched(before, MOBILE, NUMBER)
    await world.watched(after, MOBILE, NUMBER)
    await world.prove(before, world.claims(before, watch_id, NUMBER))
    assert [before] == await matched(world)


async def test_a_home_is_shared_by_those_who_live_there(world):
    people = [await world.register() for _ in range(2)]
    for who in people:
        await world.watched(who, ADDRESS, HOME)
    assert [[enrolment.OWNERSHIP_STATE_VERIFIED]] * 2 == [await state_of(world, who) for who in people]


async def test_an_address_needs_the_real_name_and_a_number_does_not(world):
    who = await world.register()
    for kind, value, expected in ((ADDRESS, HOME, "REAL_NAME_NOT_PROVED"), (MOBILE, NUMBER, "")):
        watch_id = (await world.watch(who, kind, value)).watch_id
        claims = world.claims(who, watch_id, value, real_name=False)
        if expected:
            assert expected == await reason_of(world.prove(who, claims))
        else:
            assert enrolment.OWNERSHIP_STATE_VERIFIED == (await world.prove(who, claims)).state


async def test_a_new_device_asks_for_the_number_again(world, heavy):
    who = await world.register()
    watch_id = await world.watched(who, MOBILE, NUMBER)
    await world.watched(who, ADDRESS, HOME)

    async def on(device_id: str) -> list[str]:
        request = enrolment.NoteDeviceRequest(subscriber_id=who, device_id=device_id)
        return list((await world.enrolment.NoteDevice(request, metadata=world.backend)).prove_again_ids)

    assert [[], [watch_id], []] == [await on("phone"), await on("tablet"), await on("tablet")]
    assert "ID_MALFORMED" == await reason_of(on(""))
    assert [who] == await matched(world)
    world.clock.advance(heavy.rules.ownership.new_device)
    assert [] == await matched(world)
    await world.prove(who, world.claims(who, watch_id, NUMBER))
    assert [who] == await matched(world)


async def test_devices_of_a_subscriber_are_bounded(world, heavy):
    who = await world.register()
    numbers = range(heavy.rules.ownership.most_devices + 1)
    requests = [enrolment.NoteDeviceRequest(subscriber_id=who, device_id=f"d{number}") for number in numbers]
    for request in requests[:-1]:
        await world.enrolment.NoteDevice(request, metadata=world.backend)
    assert "TOO_MANY_DEVICES" == await reason_of(world.enrolment.NoteDevice(requests[-1], metadata=world.backend))
    assert heavy.rules.ownership.most_devices == await world.count("known_device")


async def test_what_was_never_proved_is_forgotten(world, heavy):
    who = await world.register()
    watch_id = (await world.watch(who, MOBILE, NUMBER)).watch_id
    expire = world.detector.enrolling.expire_watch
    world.clock.advance(heavy.rules.ownership.unproved - timedelta(seconds=1))
    await expire(watch_id)
    assert [enrolment.OWNERSHIP_STATE_PENDING] == await state_of(world, who)
    world.clock.advance(timedelta(seconds=1))
    await expire(watch_id)
    assert [enrolment.OWNERSHIP_STATE_ERASED] == await state_of(world, who)
    assert 0 == await world.count("watched_identifier WHERE value_ref IS NOT NULL OR sealed_value IS NOT NULL")


async def test_a_minor_watches_a_number_with_the_guardian_or_from_fourteen_on(world):
    child, youth = [await world.register(minor=True) for _ in range(2)]
    for who, change in ((child, {"guardian": True}), (youth, {"fourteen": True})):
        watch_id = (await world.watch(who, MOBILE, NUMBER)).watch_id
        assert "GUARDIAN_NOT_PROVED" == await reason_of(world.prove(who, world.claims(who, watch_id, NUMBER)))
        claims = world.claims(who, watch_id, NUMBER, **change)
        assert enrolment.OWNERSHIP_STATE_VERIFIED == (await world.prove(who, claims)).state
