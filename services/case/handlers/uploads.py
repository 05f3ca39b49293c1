"""How does a warning before an upload become a case, and how does it end?

The detector has told the subscriber the case's id already, so the case takes that id. No content belongs to it: there
is no sighting, no evidence, no removal.
"""

from __future__ import annotations

from datetime import datetime

from misuse.case.v1 import events_pb2
from services.case import records
from services.case.domain.cases import MOVES, Case
from services.case.domain.incidents import latency_ms
from services.case.domain.uploads import RESOLUTIONS, UploadWarning
from services.case.domain.words import CaseKind, CaseState, Resolution, SubscriberState
from services.case.handlers.cases import finish, lock_root
from services.case.ports import SYSTEM, Unit
from services.chassis.errors import InvalidInput, NotFound


async def adopt(unit: Unit, warning: UploadWarning, now: datetime) -> None:
    """Opens the case of a warning; a repeat changes nothing. Raises NotFound SUBSCRIBER_UNKNOWN, InvalidInput
    CASE_ID_TAKEN."""
    who = warning.subscriber_id
    subscriber = (await unit.subscribers.lock([who])).get(who)
    if subscriber is None:
        raise NotFound("SUBSCRIBER_UNKNOWN", "The warning concerns nobody who is registered.")
    known = await unit.cases.get(warning.case_id)
    if known is not None:
        if known.subscriber_id != who:
            raise InvalidInput("CASE_ID_TAKEN", "The case belongs to somebody else.")
        return
    case = Case(
        case_id=warning.case_id,
        subscriber_id=who,
        kinds=[CaseKind.PRE_UPLOAD],
        discover_time=warning.warn_time,
        create_time=now,
        update_time=now,
        latency_ms=latency_ms(warning.warn_time, now),
    )
    if subscriber.state is not SubscriberState.ACTIVE:
        reason = f"SUBSCRIBER_{subscriber.state.name}"
        unit.record(who, records.upload(case, "DROPPED", "", warning.upload_check_id, now, reason=reason))
        return
    await unit.cases.save([], [case], [], [], [], {}, "", now)
    event = events_pb2.CaseOpened(
        case_id=case.case_id,
        subscriber_id=who,
        kind=records.kind_number(CaseKind.PRE_UPLOAD),
        discover_time=records.stamp(warning.warn_time),
        create_time=records.stamp(now),
        language=subscriber.language,
    )
    unit.tell(who, event, warning.traceparent)
    unit.record(who, records.upload(case, "OPENED", "", warning.upload_check_id, now), warning.traceparent)


async def conclude(unit: Unit, case_id: str, upload_check_id: str, choice: str, now: datetime) -> None:
    """Closes the case of a warning by what the subscriber chose. Leaves alone a case that is closed or merged already,
    and a warning that opened none. Raises InvalidInput CHOICE_UNKNOWN."""
    resolution = RESOLUTIONS.get(choice)
    if resolution is None:
        raise InvalidInput("CHOICE_UNKNOWN", "The choice is not known.")
    if await unit.cases.get(case_id) is None:
        return
    root = await lock_root(unit, case_id)
    if root.case_id != case_id or CaseState.CLOSED not in MOVES[root.state]:
        return
    if resolution is Resolution.REDACTED and CaseKind.REDACTION not in root.kinds:
        root.kinds.append(CaseKind.REDACTION)
    await finish(unit, root, resolution, now, SYSTEM)
