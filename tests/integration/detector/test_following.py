"""The detector follows what `case` and notify publish."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

from misuse.case.v1 import events_pb2 as case
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_FACE_TEMPLATE, CONSENT_SCOPE_SERVICE
from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.notify.v1 import events_pb2 as notify
from services.chassis.bus import Event
from services.chassis.ids import uuid7
from services.detector.consumer import case_handlers, notify_handlers


async def test_a_device_that_notify_registered_asks_for_proofs_again(world, heavy):
    who = await world.register("WATCHED_IDENTIFIER")
    watch_id = await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, "010-0000-1234")
    handler = notify_handlers(world.detector.devices, world.detector.store.within)[notify.DeviceRegistered]

    async def told(*names: str) -> None:
        events = [
            notify.DeviceRegistered(
                subscriber_id=who, device_hash=hashlib.sha256(f"{who}\0{name}".encode()).digest()
            )
            for name in names
        ]
        async with world.database.begin() as session:
            await handler(session, [Event("notify", 0, n, uuid7(), "", e) for n, e in enumerate(events)])

    async def ends() -> datetime:
        async with world.detector.store.begin() as work:
            return (await work.watches.get(watch_id)).watch.expire_time

    full = await ends()
    await told("phone", "phone")  # the first of all: there is none that it could have been taken from
    assert full == await ends()
    await told("tablet")
    assert world.clock.now() + heavy.rules.ownership.new_device == await ends()
    request = enrolment.NoteDeviceRequest(subscriber_id=who, device_id="tablet")
    assert not (await world.enrolment.NoteDevice(request, metadata=world.backend)).new_device
    most = heavy.rules.ownership.most_devices
    await told(*(f"device-{number}" for number in range(most)))
    assert most == await world.count("known_device")


async def test_devices_of_strangers_and_of_the_erased_harm_nothing(world):
    known, erased = uuid7(), uuid7()
    world.keys.get_or_create(erased)
    world.keys.destroy(erased)
    handler = notify_handlers(world.detector.devices, world.detector.store.within)[notify.DeviceRegistered]
    for who in (known, erased):
        event = notify.DeviceRegistered(subscriber_id=who, device_hash=b"h" * 32)
        async with world.database.begin() as session:
            await handler(session, [Event("notify", 0, 1, uuid7(), "", event)])
    assert 1 == await world.count("known_device")


async def test_a_batch_of_events_changes_the_projection(world):
    who = uuid7()
    handlers = case_handlers(world.detector.following, world.detector.store.within)
    messages = [
        case.SubscriberRegistered(subscriber_id=who, minor=True),
        case.ConsentRecorded(subscriber_id=who, scope=CONSENT_SCOPE_SERVICE),
        case.ConsentRecorded(subscriber_id=who, scope=CONSENT_SCOPE_FACE_TEMPLATE),
        case.ConsentWithdrawn(subscriber_id=who, scope=CONSENT_SCOPE_FACE_TEMPLATE),
        case.SubscriberSuspended(subscriber_id=who),
    ]
    async with world.database.begin() as session:
        for position, message in enumerate(messages):
            event = Event("case", 0, position, uuid7(), "", message)
            await handlers[type(message)](session, [event])
    async with world.detector.store.begin() as work:
        found = await work.subscribers.get(who)
    assert (True, True, {CONSENT_SCOPE_SERVICE}) == (found.minor, found.suspended, set(found.consents))


async def test_batches_about_the_same_people_in_another_order_do_not_wait_for_each_other_in_a_circle(world):
    people = [await world.register("WATCHED_IDENTIFIER") for _ in range(12)]
    within = world.detector.store.within
    consents = case_handlers(world.detector.following, within)[case.ConsentRecorded]
    devices = notify_handlers(world.detector.devices, within)[notify.DeviceRegistered]

    async def follow(handler, messages) -> None:
        events = [Event("", 0, n, uuid7(), "", m) for n, m in enumerate(messages)]
        async with world.database.begin() as session:
            await handler(session, events)

    def consented(order):
        return [case.ConsentRecorded(subscriber_id=who, scope=CONSENT_SCOPE_FACE_TEMPLATE) for who in order]

    registered = [notify.DeviceRegistered(subscriber_id=who, device_hash=b"h" * 32) for who in people]
    for _ in range(3):
        await asyncio.gather(
            follow(consents, consented(people)),
            follow(consents, consented(people[::-1])),
            follow(devices, registered[::-1]),
        )
    assert 12 == await world.count("known_device")
