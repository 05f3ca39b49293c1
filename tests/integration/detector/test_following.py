"""The detector follows what `case` publishes."""

from __future__ import annotations

from misuse.case.v1 import events_pb2 as case
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_FACE_TEMPLATE, CONSENT_SCOPE_SERVICE
from services.chassis.bus import Event
from services.chassis.ids import uuid7
from services.detector.consumer import case_handlers


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
            event = Event("case", 0, position, uuid7(), type(message).DESCRIPTOR.full_name, "", message)
            await handlers[type(message)](session, [event])
    async with world.detector.store.begin() as work:
        found = await work.subscribers.get(who)
    assert (True, True, {CONSENT_SCOPE_SERVICE}) == (found.minor, found.suspended, set(found.consents))
