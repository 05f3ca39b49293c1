"""How is a subscriber erased: who is asked, what does `case` forget, and when does nobody hold anything any more?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.case.v1 import events_pb2
from services.case import records
from services.case.domain.erasure import OWN, Erasure, ErasureRules, begin
from services.case.domain.rights import RightsRules
from services.case.domain.words import SubscriberState
from services.case.handlers import review, rights_moves, subscribers
from services.case.metrics import RIGHTS_ANSWERED, RIGHTS_SECONDS
from services.case.ports import ERASURE, SYSTEM, Keys, Unit, Units, Who
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger

log = logger(__name__)


@dataclass(frozen=True)
class Erasing:
    """Erases subscribers."""

    units: Units
    keys: Keys
    rules: ErasureRules
    rights: RightsRules
    now: Callable[[], datetime]

    async def request(self, unit: Unit, subscriber_id: str, who: Who) -> Erasure:
        """Ends processing at once and has everybody asked. An erasure that is under way is returned as it is. Raises
        NotFound, also for somebody who has been erased."""
        subscriber = await subscribers.locked(unit, subscriber_id)
        known = await unit.erasures.of_subscriber(subscriber_id)
        if known is not None:
            return known
        if subscriber.state is SubscriberState.ERASED:
            raise subscribers.unknown()
        now = self.now()
        await subscribers.leave(unit, subscriber_id, now, who)
        erasure = begin(uuid7(), subscriber_id, self.rules, now)
        await unit.erasures.add(erasure)
        await unit.remind(ERASURE, {erasure.erasure_id: (now, "")})
        await rights_moves.erasure_begins(unit, subscriber_id, erasure.erasure_id, self.rights, now, who)
        left = await subscribers.locked(unit, subscriber_id)
        _record(unit, subscriber_id, "ERASURE_REQUESTED", left.version, now, who)
        due = (unit.reference(subscriber_id), erasure.due_time, self.rules.version, now)
        unit.record(subscriber_id, records.purge_due("SUBSCRIBER_KEY", *due))
        return erasure

    async def go_on(self, erasure_id: str) -> None:
        """What the due row of an erasure does: asks the round that runs, of everybody who has not answered it, and
        answers for `case`. Repeating it asks again."""
        async with self.units() as unit:
            erasure = await self._ask(unit, erasure_id)
        if erasure is not None and erasure.subscriber_id is not None and OWN in erasure.waiting_for:
            await self._forget(erasure, erasure.subscriber_id)

    async def _ask(self, unit: Unit, erasure_id: str) -> Erasure | None:
        """The erasure as it stands; None where nothing is to be done now."""
        now = self.now()
        erasure = await unit.erasures.lock(erasure_id)
        if erasure is None or erasure.subscriber_id is None:
            return None
        if now < erasure.ask_time:
            await unit.remind(ERASURE, {erasure_id: (erasure.ask_time, "")})
            return None
        event = events_pb2.SubscriberErasureRequested(subscriber_id=erasure.subscriber_id, round=erasure.round)
        unit.tell(erasure.subscriber_id, event)
        await unit.remind(ERASURE, {erasure_id: (now + self.rules.ask_again, "")})
        if erasure.overdue(now):
            missing = dict.fromkeys(erasure.missing(now), "missing")
            log.error("erasure_overdue", erasure_id=erasure_id, round=erasure.round, **missing)
        return erasure

    async def _forget(self, erasure: Erasure, subscriber_id: str) -> None:
        """Rows first, then the key, then the answer; a crash anywhere in between repeats it from the start.

        The chains of the case log change hands before their key goes: a record that arrives in between is sealed by
        the new key. The subscriber's row goes last: facts that arrive in between find somebody who is leaving.
        """
        async with self.units() as unit:
            await unit.subscribers.lock([subscriber_id])
            await review.forget_subscriber(unit, subscriber_id, self.now())
            await self._purge_cases(unit, subscriber_id, uuid7())
            await rights_moves.forget_subscriber(unit, subscriber_id, self.rights, self.now())
            await unit.erasures.delete_rows(subscriber_id)
        self.keys.destroy(subscriber_id)
        async with self.units() as unit:
            await unit.erasures.delete_subscriber(subscriber_id)
            # Chains that were begun while the first transaction was under way.
            await unit.erasures.hand_over_chains(subscriber_id, uuid7())
            unit.tell(subscriber_id, events_pb2.ErasureCompleted(subscriber_id=subscriber_id, round=erasure.round))
            if erasure.round == 1:
                purged = (unit.reference(subscriber_id), erasure.due_time, self.rules.version, self.now())
                unit.record(subscriber_id, records.purge("SUBSCRIBER_KEY", *purged))
            await self._answered(unit, subscriber_id, OWN, erasure.round)

    async def _purge_cases(self, unit: Unit, subscriber_id: str, nobody: str) -> None:
        """Cases stay as what happened, and belong to nobody: `nobody` is an id that was never anybody's."""
        before = await unit.erasures.purge_cases(subscriber_id, nobody, self.now())
        await unit.erasures.hand_over_chains(subscriber_id, nobody)
        for case, state in before:
            record = records.lifecycle(case, "PURGED", state.name, self.now(), reason="SUBSCRIBER_ERASED")
            unit.record(subscriber_id, record)

    async def completed(self, unit: Unit, service: str, answers: Sequence[tuple[str, int]]) -> None:
        """Notes answers of a service: (subscriber, round)."""
        for subscriber_id, round_number in answers:
            await self._answered(unit, subscriber_id, service, max(round_number, 1))

    async def _answered(self, unit: Unit, subscriber_id: str, service: str, round_number: int) -> None:
        now = self.now()
        erasure = await unit.erasures.lock_of(subscriber_id)
        if erasure is None:
            return
        complete = erasure.answered(service, round_number, self.rules, now)
        await unit.erasures.update(erasure)
        if complete:
            RIGHTS_ANSWERED.add("erasure", "late" if erasure.overdue(now) else "in_time")
            RIGHTS_SECONDS.observe((now - erasure.request_time).total_seconds(), "erasure")
            await unit.forget_reminders(ERASURE, [erasure.erasure_id])
            await rights_moves.erasure_completes(unit, erasure.erasure_id, self.rights, now)
            unit.tell(subscriber_id, events_pb2.SubscriberErased(subscriber_id=subscriber_id))
            _record(unit, subscriber_id, "ERASED", 1, now, SYSTEM)
        elif now < erasure.ask_time:
            await unit.remind(ERASURE, {erasure.erasure_id: (erasure.ask_time, "")})


def _record(unit: Unit, subscriber_id: str, transition: str, version: int, now: datetime, who: Who) -> None:
    record = records.subscriber(transition, unit.reference(subscriber_id), version, now, who)
    unit.record(subscriber_id, record)
