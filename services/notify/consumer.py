"""Which events of other services notify turns into notices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1 import case_pb2
from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1 import signal_pb2
from misuse.removal.v1 import events_pb2 as removal_events
from misuse.removal.v1 import removal_service_pb2
from services.chassis.bus import Event, Handler
from services.notify.domain.notices import Facts, KnownCase, Notice, Subject
from services.notify.handlers.telling import Telling
from services.notify.ports import Unit

UnitOf = Callable[[AsyncSession], Unit]
"""Wraps the consumer's transaction."""


def case_handlers(telling: Telling, unit_of: UnitOf) -> Mapping[type[Message], Handler]:
    """What is done with the events of `case`."""
    events = _CaseEvents(telling)
    return {
        case_events.SubscriberRegistered: _each(events.registered, unit_of),
        case_events.SubscriberSuspended: _each(events.suspended, unit_of),
        case_events.SubscriberResumed: _each(events.resumed, unit_of),
        case_events.SubscriberErasureRequested: _each(events.erasure_requested, unit_of),
        case_events.CaseOpened: _batch(events.opened, unit_of),
        case_events.CaseReopened: _batch(events.reopened, unit_of),
        case_events.CaseSightingsDigested: _batch(events.digested, unit_of),
        case_events.CaseClosed: _batch(events.closed, unit_of),
        case_events.CaseMerged: _each(events.merged, unit_of),
        case_events.CaseUnmerged: _each(events.unmerged, unit_of),
        case_events.RightsRequestReceived: _batch(events.right_received, unit_of),
        case_events.RightsRequestExtended: _batch(events.right_extended, unit_of),
        case_events.RightsRequestAnswered: _batch(events.right_answered, unit_of),
    }


def removal_handlers(telling: Telling, unit_of: UnitOf) -> Mapping[type[Message], Handler]:
    """What is done with the events of `removal`."""
    subjects = {
        removal_events.RemovalReceived: Subject.REMOVAL_RECEIVED,
        removal_events.RemovalRejected: Subject.REMOVAL_REJECTED,
        removal_events.RemovalBlockedTemporarily: Subject.REMOVAL_COMPLETED,
        removal_events.RemovalCompleted: Subject.REMOVAL_COMPLETED,
        removal_events.ContentReappeared: Subject.CONTENT_REAPPEARED,
    }
    handlers = {kind: _batch(_removal_teller(telling, subject), unit_of) for kind, subject in subjects.items()}
    return {**handlers, removal_events.RemovalHandedToPerson: _batch(_handed_over_teller(telling), unit_of)}


class _CaseEvents:
    """One method an event of `case`."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    async def registered(self, unit: Unit, event: case_events.SubscriberRegistered) -> None:
        if not self._telling.keys.destroyed(event.subscriber_id):
            await unit.store.keep_subscriber(event.subscriber_id, event.language)

    async def suspended(self, unit: Unit, event: case_events.SubscriberSuspended) -> None:
        await self._hold(unit, event.subscriber_id, True)

    async def resumed(self, unit: Unit, event: case_events.SubscriberResumed) -> None:
        await self._hold(unit, event.subscriber_id, False)

    async def _hold(self, unit: Unit, subscriber_id: str, suspended: bool) -> None:
        if not self._telling.keys.destroyed(subscriber_id):
            await unit.store.set_suspended(subscriber_id, suspended, self._telling.clock.now())

    async def erasure_requested(self, unit: Unit, event: case_events.SubscriberErasureRequested) -> None:
        await self._telling.erase(unit, event.subscriber_id, event.round)

    async def merged(self, unit: Unit, event: case_events.CaseMerged) -> None:
        if not self._telling.keys.destroyed(event.subscriber_id):
            await self._telling.merge(unit, event.root_case_id, event.merged_case_id, event.subscriber_id)

    async def unmerged(self, unit: Unit, event: case_events.CaseUnmerged) -> None:
        if not self._telling.keys.destroyed(event.subscriber_id):
            await unit.store.set_parent(event.case_id, event.case_id, event.subscriber_id)

    async def opened(self, unit: Unit, events: Sequence[case_events.CaseOpened]) -> None:
        live = [event for event in events if not self._telling.keys.destroyed(event.subscriber_id)]
        await unit.store.keep_cases(
            [
                KnownCase(e.case_id, e.subscriber_id, e.case_id, _kind(e.kind), e.channel_group)
                for e in live
            ]
        )
        await self._telling.tell(unit, [_case_notice(e, _opening(e.kind), "OPEN", "1") for e in live])

    async def reopened(self, unit: Unit, events: Sequence[case_events.CaseReopened]) -> None:
        for event in events:
            await unit.store.count_reopening(event.case_id, event.occurrence)
        await self._telling.tell(
            unit, [_case_notice(e, Subject.CASE_REOPENED, "OPEN", str(e.occurrence)) for e in events]
        )

    async def digested(self, unit: Unit, events: Sequence[case_events.CaseSightingsDigested]) -> None:
        """A burst is told once; its beginning tells it from the next."""
        await self._telling.tell(
            unit,
            [_case_notice(e, Subject.SIGHTINGS_DIGEST, "OPEN", e.from_time.ToJsonString()) for e in events],
        )

    async def closed(self, unit: Unit, events: Sequence[case_events.CaseClosed]) -> None:
        """The n-th closing follows the (n-1)-th reopening."""
        reopenings = await self._telling.reopenings(unit, [event.case_id for event in events])
        await self._telling.tell(
            unit,
            [
                _case_notice(e, _closing(e.resolution), _resolution(e.resolution), str(reopenings[e.case_id] + 1))
                for e in events
                if e.resolution not in _KNOWN_TO_THE_SUBSCRIBER
            ],
        )

    async def right_received(self, unit: Unit, events: Sequence[case_events.RightsRequestReceived]) -> None:
        """The receipt."""
        await self._telling.tell(unit, [_rights_notice(e, "RECEIVED", e.rights_request_id) for e in events])

    async def right_extended(self, unit: Unit, events: Sequence[case_events.RightsRequestExtended]) -> None:
        """Each time is news of its own."""
        await self._telling.tell(
            unit, [_rights_notice(e, "EXTENDED", f"{e.rights_request_id}.{e.extensions}") for e in events]
        )

    async def right_answered(self, unit: Unit, events: Sequence[case_events.RightsRequestAnswered]) -> None:
        """What it says stands in the answer itself; the notice says that there is one."""
        await self._telling.tell(unit, [_rights_notice(e, e.state, e.rights_request_id) for e in events])


def _rights_notice(event: Any, state: str, occurrence: str) -> Notice:
    facts = Facts(kind=event.type)
    return Notice(event.subscriber_id, "", Subject.RIGHTS_REQUEST, state, occurrence, facts)


def _removal_teller(telling: Telling, subject: Subject) -> Callable[[Unit, Sequence[Any]], Any]:
    async def tell(unit: Unit, events: Sequence[Any]) -> None:
        await telling.tell(unit, [_removal_notice(e.facts, subject) for e in events if e.facts.case_ids])

    return tell


def _handed_over_teller(telling: Telling) -> Callable[[Unit, Sequence[removal_events.RemovalHandedToPerson]], Any]:
    async def tell(unit: Unit, events: Sequence[removal_events.RemovalHandedToPerson]) -> None:
        await telling.tell(unit, [_waiting_notice(event) for event in events if event.facts.case_ids])

    return tell


def _case_notice(event: Any, subject: Subject, state: str, occurrence: str) -> Notice:
    return Notice(event.subscriber_id, event.case_id, subject, state, occurrence)


def _removal_notice(facts: removal_events.RemovalFacts, subject: Subject) -> Notice:
    """A request of several cases is told once, under the first of them."""
    return Notice(
        subscriber_id=facts.subscriber_id,
        case_id=facts.case_ids[0],
        subject=subject,
        state=removal_service_pb2.RemovalState.Name(facts.state).removeprefix("REMOVAL_STATE_"),
        occurrence=f"{facts.removal_request_id}.{facts.attempt}",
        facts=Facts(platform=facts.platform),
    )


def _waiting_notice(event: removal_events.RemovalHandedToPerson) -> Notice:
    """Each reminder is news of its own; what the person is to do follows from the reason."""
    facts = event.facts
    return Notice(
        subscriber_id=facts.subscriber_id,
        case_id=facts.case_ids[0],
        subject=Subject.REMOVAL_WAITS_FOR_YOU,
        state=facts.reason[:32],
        # Of the state as well: what was filed, turned down and supplemented may wait for the person once more.
        occurrence=f"{facts.removal_request_id}.{facts.state}.{facts.attempt}.{event.occurrence}",
        facts=Facts(platform=facts.platform),
    )


_KNOWN_TO_THE_SUBSCRIBER = frozenset(
    {case_pb2.RESOLUTION_UPLOAD_CANCELLED, case_pb2.RESOLUTION_UPLOADED, case_pb2.RESOLUTION_NOT_ANSWERED}
)
"""Ends that the subscriber brought about a moment ago, or did not care for: no news."""


def _opening(kind: signal_pb2.CaseKind.ValueType) -> Subject:
    return Subject.UPLOAD_WARNED if kind == signal_pb2.CASE_KIND_PRE_UPLOAD else Subject.CASE_OPENED


def _closing(resolution: case_pb2.Resolution.ValueType) -> Subject:
    return Subject.UPLOAD_REDACTED if resolution == case_pb2.RESOLUTION_REDACTED else Subject.CASE_CLOSED


def _kind(kind: signal_pb2.CaseKind.ValueType) -> str:
    return "" if not kind else signal_pb2.CaseKind.Name(kind).removeprefix("CASE_KIND_")


def _resolution(resolution: case_pb2.Resolution.ValueType) -> str:
    return case_pb2.Resolution.Name(resolution).removeprefix("RESOLUTION_")


def _batch(work: Callable[[Unit, Sequence[Any]], Any], unit_of: UnitOf) -> Handler:
    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        await work(unit_of(session), [event.message for event in events])

    return handle


def _each(work: Callable[[Unit, Any], Any], unit_of: UnitOf) -> Handler:
    async def handle(session: AsyncSession, events: Sequence[Event]) -> None:
        unit = unit_of(session)
        for event in events:
            await work(unit, event.message)

    return handle
