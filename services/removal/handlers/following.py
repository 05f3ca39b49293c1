"""What does removal do when something happens to a case or a subscriber?

Each function applies one fact in the transaction of the caller, who reads events in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.removal.domain.filing import NO_CONSENT, SUSPENDED
from services.removal.domain.states import LOOKED_AT, IllegalMoveError, Move, State
from services.removal.handlers import FOLLOW, PREPARE, SUBMIT
from services.removal.handlers.preparing import CASE_CLOSED, CONSENT_WITHDRAWN
from services.removal.ports import Sighting, Work

OPEN_STATES = (
    State.DRAFT,
    State.CHECKED,
    State.SUBMITTED,
    State.RECEIVED,
    State.REJECTED,
    State.SUPPLEMENTED,
    State.UNCERTAIN,
)


async def packed(work: Work, subscriber_id: str, sightings: Sequence[Sighting], *, consent: bool, at: datetime) -> None:
    """Evidence of sightings was packed: a request is prepared for each that has a platform."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    if subscriber.removal_consent != consent:
        await work.save_subscriber(replace(subscriber, removal_consent=consent))
    await work.add_sightings(sightings)
    await work.schedule(PREPARE, sorted({sighting.case_id for sighting in sightings}), at)


async def case_closed(work: Work, case_id: str, at: datetime) -> None:
    """A case ended as false positive or was withdrawn: its requests end, unless another open case wants them."""
    await _withdraw(work, await work.close_case(case_id), CASE_CLOSED, at)


async def case_reopened(work: Work, case_id: str, at: datetime) -> None:
    """A case goes on: what was left undone because it was closed is prepared again."""
    if await work.reopen_case(case_id):
        await work.schedule(PREPARE, [case_id], at)


async def registered(work: Work, subscriber_id: str, language: str) -> None:
    """A subscriber is new."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    await work.save_subscriber(replace(subscriber, language=language))


async def suspended(work: Work, subscriber_id: str) -> None:
    """Processing stops (PIPA 37): nothing is prepared or sent until it is resumed."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    await work.save_subscriber(replace(subscriber, suspended=True))


async def resumed(work: Work, subscriber_id: str, at: datetime) -> None:
    """Processing goes on, with what was held."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    await work.save_subscriber(replace(subscriber, suspended=False))
    await _go_on(work, subscriber_id, at)


async def consented(work: Work, subscriber_id: str, at: datetime) -> None:
    """The subscriber consented to removal on behalf: what waited for it goes on."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    await work.save_subscriber(replace(subscriber, removal_consent=True))
    await _go_on(work, subscriber_id, at)


async def consent_withdrawn(work: Work, subscriber_id: str, at: datetime) -> None:
    """Consent to removal on behalf ended: every open request is taken back."""
    subscriber = await work.subscriber(subscriber_id, lock=True)
    await work.save_subscriber(replace(subscriber, removal_consent=False))
    await _withdraw(work, await work.waiting(subscriber_id, OPEN_STATES, ()), CONSENT_WITHDRAWN, at)


async def erased(work: Work, subscriber_id: str, asked: int, at: datetime) -> None:
    """A subscriber is forgotten; what waited for one of their requests goes its own way."""
    waiting = await work.joined_to_those_of(subscriber_id)
    await work.erase(subscriber_id, asked)
    await work.schedule(SUBMIT, waiting, at)


async def _go_on(work: Work, subscriber_id: str, at: datetime) -> None:
    await work.schedule(PREPARE, await work.held_cases(subscriber_id), at)
    held = await work.waiting(subscriber_id, [State.CHECKED, State.SUPPLEMENTED], [SUSPENDED, NO_CONSENT])
    await work.schedule(SUBMIT, held, at)
    # Looks and clocks stood still meanwhile.
    await work.schedule(FOLLOW, await work.waiting(subscriber_id, sorted(LOOKED_AT | {State.REMOVED}), ()), at)


async def _withdraw(work: Work, request_ids: Sequence[str], reason: str, at: datetime) -> None:
    for request_id in request_ids:
        request = await work.request(request_id)
        if request is None:
            continue
        try:
            request.move(Move.WITHDRAW, at, reason)
        except IllegalMoveError:
            # It has ended: nothing is left to take back.
            continue
        await work.schedule(SUBMIT, await work.joined_to(request_id), at)
        await work.save(request)
