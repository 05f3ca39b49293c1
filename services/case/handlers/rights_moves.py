"""What does every move of a request about one's own data leave behind, and what becomes of requests in an erasure?"""

from __future__ import annotations

from datetime import datetime

from misuse.case.v1 import events_pb2
from services.case import records
from services.case.domain.rights import SUBSCRIBER_ERASED, RightsRequest, RightsRules, RightsType
from services.case.metrics import RIGHTS_ANSWERED, RIGHTS_SECONDS
from services.case.ports import RIGHTS_ANSWER, RIGHTS_DUE, SYSTEM, Unit, Who


def record(
    unit: Unit, request: RightsRequest, to_state: str, reason: str, rules: RightsRules, now: datetime, who: Who
) -> None:
    """Writes a move down; the key tells nothing of the subscriber, for the last records outlive her."""
    unit.record(request.rights_request_id, records.rights(request, to_state, reason, rules.version, now, who))


async def remind(unit: Unit, request: RightsRequest, rules: RightsRules, now: datetime) -> None:
    """Has somebody look at it again."""
    await unit.remind(RIGHTS_DUE, {request.rights_request_id: (request.next_look(rules, now), "")})


async def answered(unit: Unit, request: RightsRequest, rules: RightsRules, now: datetime, who: Who) -> None:
    """What an answer leaves: the record, the figures, and the word to the person, where there is one."""
    record(unit, request, request.state.value, request.reason, rules, now, who)
    await unit.forget_reminders(RIGHTS_DUE, [request.rights_request_id])
    kind = request.type.value.lower()
    RIGHTS_ANSWERED.add(kind, "late" if request.overdue(now) else "in_time")
    RIGHTS_SECONDS.observe((now - request.create_time).total_seconds(), kind)
    if request.subscriber_id is not None:
        told = events_pb2.RightsRequestAnswered(
            rights_request_id=request.rights_request_id,
            subscriber_id=request.subscriber_id,
            type=request.type.value,
            state=request.state.value,
        )
        unit.tell(request.subscriber_id, told)


async def erasure_begins(
    unit: Unit, subscriber_id: str, erasure_id: str, rules: RightsRules, now: datetime, who: Who
) -> None:
    """Open deletions are fulfilled by this erasure, whoever started it."""
    for request in await unit.rights.open_of(subscriber_id):
        if request.type is RightsType.DELETION and request.begin_erasure(erasure_id):
            await unit.rights.update(request)
            told = records.rights_follow(request, "STARTED", rules.version, now, who)
            unit.record(request.rights_request_id, told)


async def forget_subscriber(unit: Unit, subscriber_id: str, rules: RightsRules, now: datetime) -> None:
    """Requests stay as what happened and name nobody; their answers go, and what is open and is no deletion is
    answered: nothing is left that could be shown, corrected or stopped."""
    for request in await unit.rights.answered_of(subscriber_id):
        await unit.forget_reminders(RIGHTS_ANSWER, [request.rights_request_id])
        purged = records.purge("RIGHTS_ANSWER", request.rights_request_id, now, rules.version, now)
        unit.record(request.rights_request_id, purged)
    open_ones = await unit.rights.open_of(subscriber_id)
    await unit.rights.forget_subscriber(subscriber_id)
    for request in open_ones:
        request.subscriber_id, request.document_sha256, request.answer_kept = None, b"", False
        if request.type is not RightsType.DELETION:
            request.reject(SUBSCRIBER_ERASED, now)
            await unit.rights.update(request)
            await answered(unit, request, rules, now, SYSTEM)


async def erasure_completes(unit: Unit, erasure_id: str, rules: RightsRules, now: datetime) -> None:
    """The deletions that waited for it are fulfilled."""
    for request in await unit.rights.of_erasure(erasure_id):
        request.fulfil(now)
        await unit.rights.update(request)
        await answered(unit, request, rules, now, SYSTEM)
