"""How is a request about one's own data taken, put off, answered and refused, and who hears of it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.case.v1 import events_pb2
from misuse.common.v1.access_pb2 import Role
from services.case import records
from services.case.domain import rights
from services.case.domain.rights import Asked, Correction, RightsRequest, RightsRules, RightsState, RightsType
from services.case.domain.words import SubscriberState
from services.case.handlers import subscribers
from services.case.handlers.correcting import correct
from services.case.handlers.erasing import Erasing
from services.case.handlers.rights_answers import Answer, answer_document, words_of
from services.case.handlers.rights_moves import answered, record, remind
from services.case.ports import RIGHTS_ANSWER, RIGHTS_DUE, SYSTEM, Unit, Units, Who
from services.chassis.errors import NotFound
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger

log = logger(__name__)


@dataclass(frozen=True)
class Rights:
    """Takes requests about one's own data to their answer; each step is a record."""

    units: Units
    erasing: Erasing
    rules: RightsRules
    now: Callable[[], datetime]

    async def receive(self, unit: Unit, subscriber_id: str, asked: Asked, who: Who) -> str:
        """Takes a request and tells the person that it came in. Returns its id. Raises NotFound, FailedPrecondition
        TOO_MANY_OPEN, and what `domain.rights.receive` raises."""
        now = self.now()
        request = rights.receive(uuid7(), subscriber_id, asked, _role(who), self.rules, now)
        subscriber = await subscribers.locked(unit, subscriber_id)
        if subscriber.state is SubscriberState.ERASED:
            raise subscribers.unknown()
        if len(await unit.rights.open_of(subscriber_id)) >= self.rules.open_at_most:
            raise rights.refused("TOO_MANY_OPEN", "Too many requests of this subscriber are open.")
        under_way = await unit.erasures.of_subscriber(subscriber_id)
        if request.type is RightsType.DELETION and under_way is not None:
            request.erasure_id = under_way.erasure_id
        await unit.rights.add(request, words_of(asked))
        record(unit, request, "RECEIVED", "", self.rules, now, who)
        received = events_pb2.RightsRequestReceived(
            rights_request_id=request.rights_request_id,
            subscriber_id=subscriber_id,
            type=request.type.value,
            due_time=records.stamp(request.due_time),
        )
        unit.tell(subscriber_id, received)
        await remind(unit, request, self.rules, now)
        return request.rights_request_id

    async def get(self, unit: Unit, rights_request_id: str, owner: str) -> RightsRequest:
        """One, of `owner` alone where one is named. Raises NotFound."""
        request = await unit.rights.get(rights_request_id)
        if request is None or (owner and request.subscriber_id != owner):
            raise unknown()
        return request

    async def extend(self, unit: Unit, rights_request_id: str, reason: str, seen: int, who: Who) -> RightsRequest:
        """Puts the deadline off and tells the person why. Raises NotFound, and what `RightsRequest.extend` raises."""
        now = self.now()
        request = await self._locked(unit, rights_request_id)
        if request.extend(reason, seen, self.rules, now):
            await unit.rights.update(request)
            record(unit, request, "EXTENDED", reason, self.rules, now, who)
            extended = events_pb2.RightsRequestExtended(
                rights_request_id=rights_request_id,
                subscriber_id=request.subscriber_id or "",
                type=request.type.value,
                due_time=records.stamp(request.due_time),
                extensions=request.extensions,
            )
            unit.tell(extended.subscriber_id, extended)
            await unit.forget_reminders(RIGHTS_DUE, [rights_request_id])
            await remind(unit, request, self.rules, now)
        return request

    async def reject(
        self, unit: Unit, rights_request_id: str, reason: str, statement: str, who: Who
    ) -> RightsRequest:
        """Refuses for a legal reason; repeating it changes nothing. Raises NotFound, FailedPrecondition, InvalidInput.
        """
        rights.check_statement(statement)
        request = await self._locked(unit, rights_request_id)
        if request.state is RightsState.REJECTED:
            return request
        if not request.open:
            raise rights.refused("ALREADY_FULFILLED", "The request has been fulfilled.")
        self.rules.refusal(reason, request.type)
        if request.erasure_id:
            raise rights.refused("ERASURE_UNDER_WAY", "What was asked for is being done.")
        now = self.now()
        request.reject(reason, now)
        await self._answer(unit, request, Answer(statement, reason=reason), now, who)
        return request

    async def fulfil(
        self, unit: Unit, rights_request_id: str, statement: str, corrections: list[Correction], who: Who
    ) -> RightsRequest:
        """Does what was asked for; repeating it changes nothing. A deletion is fulfilled when its erasure is complete.
        Raises NotFound, FailedPrecondition, InvalidInput."""
        request = await self._locked(unit, rights_request_id)
        if request.state is RightsState.FULFILLED or request.erasure_id:
            return request
        if not request.open:
            raise rights.refused("ALREADY_REJECTED", "The request has been rejected.")
        rights.check_statement(statement, required=request.type is RightsType.EXPLANATION)
        rights.check_corrections(request.type, corrections)
        subscriber_id = request.subscriber_id or ""
        if request.type is RightsType.DELETION:
            return await self._erase(unit, request, subscriber_id, who)
        now = self.now()
        if request.type is RightsType.SUSPENSION:
            await self._suspend(unit, subscriber_id, now, who)
        if corrections:
            await correct(unit, request, corrections, self.rules.version, now, who)
        request.fulfil(now)
        corrected = [each.entry.value for each in corrections]
        await self._answer(unit, request, Answer(statement, corrected=corrected), now, who)
        return request

    async def _suspend(self, unit: Unit, subscriber_id: str, now: datetime, who: Who) -> None:
        """Whoever has left is not processed any more: nothing is left to do."""
        subscriber = await subscribers.locked(unit, subscriber_id)
        if subscriber.state is SubscriberState.ACTIVE:
            await subscribers.suspend(unit, subscriber_id, now, who)

    async def _erase(self, unit: Unit, request: RightsRequest, subscriber_id: str, who: Who) -> RightsRequest:
        others = [each for each in await unit.rights.open_of(subscriber_id) if each.type is not RightsType.DELETION]
        if others:
            # What is erased can be shown to nobody any more.
            raise rights.refused("OTHERS_OPEN", "Other requests of this subscriber must be answered first.")
        await self.erasing.request(unit, subscriber_id, who)
        return await self._locked(unit, request.rights_request_id)

    async def _answer(self, unit: Unit, request: RightsRequest, answer: Answer, now: datetime, who: Who) -> None:
        """Keeps the document, tells the person, and has it purged one day."""
        document, request.answer_sha256 = await answer_document(unit, request, answer, self.rules)
        await unit.rights.update(request)
        await unit.rights.keep_answer(request, document)
        due_time = now + self.rules.keep_answer
        listed = (request.rights_request_id, due_time, self.rules.version, now)
        unit.record(request.rights_request_id, records.purge_due("RIGHTS_ANSWER", *listed))
        await unit.remind(RIGHTS_ANSWER, {request.rights_request_id: (due_time, "")})
        await answered(unit, request, self.rules, now, who)

    async def remind_when_due(self, rights_request_id: str) -> None:
        """What a due row does: somebody is reminded before the deadline, and again and again after it."""
        now = self.now()
        async with self.units() as unit:
            request = await unit.rights.lock(rights_request_id)
            if request is None or not request.open:
                return
            facts = {"rights_request_id": rights_request_id, "type": request.type.value}
            if now >= request.due_time:
                log.error("rights_request_overdue", **facts)
                self._follow(unit, request, "ESCALATED", now)
            elif now >= request.due_time - self.rules.remind[0]:
                log.warning("rights_request_due_soon", **facts)
                self._follow(unit, request, "REMINDED", now)
            await remind(unit, request, self.rules, now)

    def _follow(self, unit: Unit, request: RightsRequest, action: str, now: datetime) -> None:
        told = records.rights_follow(request, action, self.rules.version, now, SYSTEM)
        unit.record(request.rights_request_id, told)

    async def purge_answer(self, rights_request_id: str, due_time: datetime) -> None:
        """What a due row does: the answer was kept long enough."""
        now = self.now()
        async with self.units() as unit:
            request = await unit.rights.lock(rights_request_id)
            # Of somebody who was erased meanwhile the answer went with the rest, and that is on record.
            if request is None or not request.answer_kept:
                return
            await unit.rights.drop_answer(rights_request_id)
            purged = records.purge("RIGHTS_ANSWER", rights_request_id, due_time, self.rules.version, now)
            unit.record(rights_request_id, purged)

    async def document(self, unit: Unit, rights_request_id: str, owner: str) -> bytes:
        """The document that answers one. Raises NotFound, FailedPrecondition NOT_ANSWERED, ANSWER_PURGED."""
        request = await self.get(unit, rights_request_id, owner)
        if request.open:
            raise rights.refused("NOT_ANSWERED", "The request has not been answered.")
        document = await unit.rights.answer(request)
        if document is None:
            raise rights.refused("ANSWER_PURGED", "The answer is kept no longer.")
        return document

    async def page(
        self, unit: Unit, owner: str, state: RightsState | None, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[RightsRequest]:
        """A page in the order of deadlines; of `owner` alone where one is named."""
        return await unit.rights.page(owner, state, size, after)

    async def _locked(self, unit: Unit, rights_request_id: str) -> RightsRequest:
        """Locked behind its subscriber's row, as everything that changes what is a subscriber's."""
        request = await unit.rights.get(rights_request_id)
        if request is None:
            raise unknown()
        if request.subscriber_id is not None:
            await unit.subscribers.lock([request.subscriber_id])
        found = await unit.rights.lock(rights_request_id)
        if found is None:
            raise unknown()
        return found


def unknown() -> NotFound:
    """There is no such request, or none that the caller may know of."""
    return NotFound("RIGHTS_REQUEST_UNKNOWN", "There is no such request.")


def _role(who: Who) -> str:
    return Role.Name(who.role).removeprefix("ROLE_")
