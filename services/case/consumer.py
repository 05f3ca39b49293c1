"""Which events does `case` follow, and which use case does each start?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.reading_pb2 import PersonalDataRead
from misuse.detector.v1 import events_pb2 as detector_events
from misuse.detector.v1.events_pb2 import ReviewNeeded, SignalMatched, UploadResolved, UploadWarned
from misuse.gate.v1 import events_pb2 as gate_events
from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import LogRecord
from misuse.notify.v1 import events_pb2 as notify_events
from misuse.removal.v1 import events_pb2 as removal
from services.case.domain.removals import RemovalState
from services.case.domain.rules import Rules
from services.case.domain.words import Band
from services.case.handlers import cases, intake, review, uploads
from services.case.handlers.access import AccessKeeping
from services.case.handlers.caselog import Arrival, append_records
from services.case.handlers.erasing import Erasing
from services.case.handlers.purging import Purging
from services.case.metrics import CASE_LATENCY
from services.case.ports import Unit
from services.case.translate import facts_of, warning_of
from services.chassis.bus import Event, Handler, runs_of_one_type
from services.chassis.errors import InvalidInput

RECORDED_BY = ("detector", "case", "removal", "notify", "gate")
"""Publishers whose records make up the case log."""
ANSWERS: Mapping[str, type[Message]] = {
    "detector": detector_events.ErasureCompleted,
    "removal": removal.ErasureCompleted,
    "notify": notify_events.ErasureCompleted,
    "gate": gate_events.ErasureCompleted,
}
"""Publisher → its answer to an erasure."""
M = TypeVar("M", bound=Message)
Handlers: TypeAlias = Mapping[type[Message], Handler]

_FOLLOWED = (
    removal.RemovalSubmitted,
    removal.RemovalReceived,
    removal.RemovalRejected,
    removal.RemovalResubmitted,
    removal.RemovalBlockedTemporarily,
    removal.RemovalCompleted,
    removal.RemovalWithdrawn,
    removal.RemovalHandedToPerson,
    removal.ContentReappeared,
)


@dataclass(frozen=True)
class Following:
    """What following events needs."""

    unit: Callable[[AsyncSession], Unit]
    """A unit over the consumer's transaction."""
    rules: Rules
    now: Callable[[], datetime]
    purging: Purging

    def signals(self) -> Handlers:
        """The handler for what the detector decided."""
        return dict.fromkeys((SignalMatched, ReviewNeeded, UploadWarned, UploadResolved), self.decided)

    def removals(self) -> Handlers:
        """The handlers for what becomes of removal requests."""
        return dict.fromkeys(_FOLLOWED, self.removal_moved)

    def samples(self) -> Handlers:
        """The handlers for what the gate draws."""
        return {SampleFrozen: self.sample_frozen}

    def records(self) -> Handlers:
        """The handlers for the records of one publisher."""
        return {LogRecord: self.recorded}

    def erasures(self, erasing: Erasing, publisher: str) -> Handlers:
        """The handler for a service's answers to erasures."""

        async def completed(session: AsyncSession, events: Sequence[Event]) -> None:
            answers: list[Any] = [event.message for event in events]
            await erasing.completed(self.unit(session), publisher, [(a.subscriber_id, a.round) for a in answers])

        return {ANSWERS[publisher]: completed}

    def readings(self, access: AccessKeeping) -> Handlers:
        """The handler for readings of personal data, of any publisher."""

        async def read(session: AsyncSession, events: Sequence[Event]) -> None:
            await access.take_in(self.unit(session), [reading for reading, _ in _of(PersonalDataRead, events)])

        return {PersonalDataRead: read}

    async def decided(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """What the detector decided is dealt with type by type. Where several types come together, all subscribers are
        locked at once, in their order, as whoever packs their cases or follows their removals locks them: transactions
        that took them type by type would wait for each other in a circle."""
        apply: Mapping[type[Message], Handler] = {
            SignalMatched: self.matched,
            ReviewNeeded: self.review_needed,
            UploadWarned: self.upload_warned,
            UploadResolved: self.upload_resolved,
        }
        runs = list(runs_of_one_type(events))
        if len(runs) > 1:
            await self.unit(session).subscribers.lock({_person_of(event.message) for event in events})
        for kind, run in runs:
            await apply[kind](session, run)

    async def matched(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """Facts that the detector is sure of open or join cases."""
        facts = [facts_of(message.facts, Band.MATCH, trace) for message, trace in _of(SignalMatched, events)]
        now = self.now()
        await intake.take_in(self.unit(session), facts, self.rules, now)
        for fact in facts:
            latency = max(0.0, (now - fact.discover_time).total_seconds())
            CASE_LATENCY.observe(latency, fact.kind.name, traceparent=fact.traceparent)

    async def review_needed(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """Facts that a person must look at become review items."""
        asked = [
            (facts_of(message.facts, Band.REVIEW, trace), message.facts.SerializeToString(deterministic=True))
            for message, trace in _of(ReviewNeeded, events)
        ]
        await review.ask_people(self.unit(session), asked, self.rules, self.now())

    async def sample_frozen(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """Each item of a frozen sample is labelled by people."""
        for message, _ in _of(SampleFrozen, events):
            await review.take_sample(
                self.unit(session), message.sample_id, message.decision_ids, self.rules, self.now()
            )

    async def upload_warned(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """A warning before an upload is a case, under the id that the detector gave it."""
        unit, warned = self.unit(session), _of(UploadWarned, events)
        # All at once, in their order, as matches and evidence lock them: one by one they would wait in a circle.
        await unit.subscribers.lock({message.subscriber_id for message, _ in warned})
        for message, trace in warned:
            await uploads.adopt(unit, warning_of(message, trace), self.now())

    async def upload_resolved(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """What the subscriber chose ends the case."""
        unit, resolved = self.unit(session), _of(UploadResolved, events)
        await unit.subscribers.lock({message.subscriber_id for message, _ in resolved})  # see upload_warned
        for message, _ in resolved:
            await uploads.conclude(unit, message.case_id, message.upload_check_id, message.choice, self.now())

    async def recorded(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """Records go into the case log, and what they tell of purges into the list of them."""
        arrivals = [
            Arrival(event.publisher, record) for event, (record, _) in zip(events, _of(LogRecord, events), strict=True)
        ]
        unit = self.unit(session)
        await append_records(unit, arrivals)
        await self.purging.take_in(unit, [arrival.record for arrival in arrivals])

    async def removal_moved(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """Removal requests moved; their cases follow."""
        await cases.follow_removals(self.unit(session), [_move_of(event) for event in events], self.rules, self.now())


def _move_of(event: Event) -> cases.RemovalMove:
    """What an event of a removal request tells. Raises InvalidInput REMOVAL_STATE_UNKNOWN."""
    facts: removal.RemovalFacts = event.message.facts  # type: ignore[attr-defined] # all of _FOLLOWED have it
    try:
        state = RemovalState(facts.state)
    except ValueError:
        raise InvalidInput("REMOVAL_STATE_UNKNOWN", "The request is in no known state.") from None
    reappeared = isinstance(event.message, removal.ContentReappeared)
    return cases.RemovalMove(tuple(facts.case_ids), facts.removal_request_id, state, reappeared)


def _person_of(decided: Any) -> str:
    """The subscriber of what the detector decided."""
    facts = decided if isinstance(decided, UploadWarned | UploadResolved) else decided.facts
    return str(facts.subscriber_id)


def _of(kind: type[M], events: Sequence[Event]) -> list[tuple[M, str]]:
    """The messages of a run with the traces of their causes; a run has one type."""
    return [(event.message, event.traceparent) for event in events if isinstance(event.message, kind)]
