"""Which events of others the detector follows: what `case` says of subscribers and labels, notify of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1 import events_pb2 as case
from misuse.log.v1.record_pb2 import LogRecord
from misuse.notify.v1 import events_pb2 as notify
from services.chassis.bus import Event, Handler
from services.detector.domain.calibration import GivenLabel
from services.detector.handlers.calibrating import Calibrating
from services.detector.handlers.following import Following
from services.detector.handlers.proving import Devices, Resolving
from services.detector.ports import Work

Within = Callable[[AsyncSession], Work]


def _handlers(
    within: Within, apply: Mapping[type[Message], Callable[[Work, Any], Any]]
) -> Mapping[type[Message], Handler]:
    """One handler for all types, each about one subscriber. All subscribers of a transaction are locked at once, in
    their order, as whoever decides signals locks them: transactions that took them one by one would wait for each other
    in a circle."""

    async def run(session: AsyncSession, events: Sequence[Event]) -> None:
        work = within(session)
        await work.subscribers.lock({cast(Any, event.message).subscriber_id for event in events})
        for event in events:
            await apply[type(event.message)](work, event.message)

    return dict.fromkeys(apply, run)


def notify_handlers(devices: Devices, within: Within) -> Mapping[type[Message], Handler]:
    """Event type of notify → what it changes here."""
    return _handlers(
        within,
        {notify.DeviceRegistered: lambda w, m: devices.registered(w, m.subscriber_id, m.device_hash)},
    )


def label_handlers(resolving: Resolving, calibrating: Calibrating, within: Within) -> Mapping[type[Message], Handler]:
    """What reviewers said in `case` → what it changes here. Its other records are passed over."""

    async def run(session: AsyncSession, events: Sequence[Event]) -> None:
        for event in events:
            record = cast(LogRecord, event.message)
            if record.WhichOneof("body") == "label_log" and record.decision_id:
                label = record.label_log
                work = within(session)
                said = (record.decision_id, record.actor_ref, label.source, label.verdict)
                await resolving.labelled(work, *said)
                await calibrating.labelled(work, GivenLabel(*said, label.sample_id))

    return {LogRecord: run}


def case_handlers(following: Following, within: Within) -> Mapping[type[Message], Handler]:
    """Event type of `case` → what it changes here."""
    return _handlers(
        within,
        {
            case.SubscriberRegistered: lambda w, m: following.registered(w, m.subscriber_id, m.minor),
            case.ConsentRecorded: lambda w, m: following.consent(w, m.subscriber_id, m.scope, True),
            case.ConsentWithdrawn: lambda w, m: following.consent(w, m.subscriber_id, m.scope, False),
            case.SubscriberSuspended: lambda w, m: following.suspended(w, m.subscriber_id),
            case.SubscriberResumed: lambda w, m: following.resumed(w, m.subscriber_id, m.minor),
            case.SubscriberErasureRequested: lambda w, m: following.erase(w, m.subscriber_id, m.round),
        },
    )
