"""Which events of others the detector follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1 import events_pb2 as case
from services.chassis.bus import Event, Handler
from services.detector.handlers.following import Following
from services.detector.ports import Work

Within = Callable[[AsyncSession], Work]


def case_handlers(following: Following, within: Within) -> Mapping[type[Message], Handler]:
    """Event type of `case` → what it changes here."""

    def handler(apply: Callable[[Work, Any], Any]) -> Handler:
        async def run(session: AsyncSession, events: Sequence[Event]) -> None:
            work = within(session)
            for event in events:
                await apply(work, event.message)

        return run

    return {
        case.SubscriberRegistered: handler(lambda w, m: following.registered(w, m.subscriber_id, m.minor)),
        case.ConsentRecorded: handler(lambda w, m: following.consent(w, m.subscriber_id, m.scope, True)),
        case.ConsentWithdrawn: handler(lambda w, m: following.consent(w, m.subscriber_id, m.scope, False)),
        case.SubscriberSuspended: handler(lambda w, m: following.suspended(w, m.subscriber_id)),
        case.SubscriberResumed: handler(lambda w, m: following.resumed(w, m.subscriber_id, m.minor)),
        case.SubscriberErasureRequested: handler(lambda w, m: following.erase(w, m.subscriber_id)),
    }
