"""How do moves and states of a request become log records, events and the contract's numbers?"""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from misuse.log.v1.record_pb2 import ConsentLog, LogRecord, RemovalFollowLog, RemovalRequestLog
from misuse.removal.v1 import events_pb2
from misuse.removal.v1.removal_service_pb2 import RemovalState
from services.removal.domain.filing import Mandate
from services.removal.domain.request import REAPPEARED, Request, Transition
from services.removal.domain.states import Move, State
from services.removal.ports import Cause, Note

MOST_RECORD_CASES = 16
"""Cases that one log record names."""
MOST_EVENT_CASES = 100
"""Cases that one event names."""


def record_of(request: Request, transition: Transition, cause: Cause, group: str = "") -> LogRecord:
    """The log record of a transition; it names no subscriber. `group` is the channel group of the platform."""
    record = LogRecord(
        case_ids=request.case_ids[:MOST_RECORD_CASES],
        entity="removal_request",
        entity_id=request.request_id,
        entity_version=transition.version,
        actor_role=cause.role,
        actor_ref=cause.ref,
        purpose=cause.purpose,
        removal_request_log=RemovalRequestLog(
            removal_request_id=request.request_id,
            platform=request.platform,
            from_state=transition.before or "",
            to_state=transition.after,
            attempt=transition.attempt,
            episode=request.episode,
            policy_version=request.policy_version,
            path=request.path,
            reason=transition.reason,
        ),
    )
    record.occur_time.FromDatetime(transition.at)
    body = record.removal_request_log
    body.previous_request_id, body.groundless = request.previous_id, request.groundless
    body.channel_group = group
    times = (
        (body.create_time, request.create_time),
        (body.submit_time, request.submit_time),
        (body.receive_time, request.receive_time),
        (body.end_time, request.end_time),
        (body.block_until_time, request.block_until),
    )
    for stamp, time in times:
        if time is not None:
            stamp.FromDatetime(time)
    return record


def record_of_note(subject: Request | str, note: Note, at: datetime, cause: Cause) -> LogRecord:
    """The log record of something done about a request, or about a platform by its name."""
    request = None if isinstance(subject, str) else subject
    record = LogRecord(
        case_ids=request.case_ids[:MOST_RECORD_CASES] if request else (),
        entity="removal_request" if request else "platform",
        entity_id=request.request_id if request else str(subject),
        entity_version=request.version if request else 1,
        actor_role=cause.role,
        actor_ref=cause.ref,
        purpose=cause.purpose,
        removal_follow_log=RemovalFollowLog(
            removal_request_id=request.request_id if request else "",
            platform=request.platform if request else str(subject),
            episode=request.episode if request else 0,
            step=note.step,
            outcome=note.outcome,
            reason=note.reason,
            rule_id=note.rule_id,
            rule_version=note.rule_version,
            state=request.state if request else "",
        ),
    )
    record.occur_time.FromDatetime(at)
    return record


def record_of_mandate(mandate: Mandate, at: datetime, cause: Cause) -> LogRecord:
    """The log record of a mandate granted or revoked: a consent in writing. It names no subscriber."""
    given = mandate.revoke_time is None
    record = LogRecord(
        entity="mandate",
        entity_id=mandate.mandate_id,
        entity_version=1 if given else 2,
        actor_role=cause.role,
        actor_ref=cause.ref,
        purpose=cause.purpose,
        consent_log=ConsentLog(scope="MANDATE", given=given),
    )
    record.occur_time.FromDatetime(at)
    return record


def event_of(request: Request, transition: Transition) -> Message | None:
    """The event of a transition; None for moves that nobody acts upon."""
    facts = _facts(request, transition)
    match transition.move:
        case None if transition.reason == REAPPEARED:
            return events_pb2.ContentReappeared(facts=facts)
        case Move.SEE_PRESENT:
            return events_pb2.ContentReappeared(facts=facts)
        case Move.SUBMIT if transition.attempt > 1:
            return events_pb2.RemovalResubmitted(facts=facts)
        case Move.SUBMIT:
            return events_pb2.RemovalSubmitted(facts=facts)
        case Move.ACCEPT:
            return events_pb2.RemovalReceived(facts=facts)
        case Move.REJECT:
            return events_pb2.RemovalRejected(facts=facts)
        case Move.BLOCK:
            blocked = events_pb2.RemovalBlockedTemporarily(facts=facts)
            if request.block_until is not None:
                blocked.block_until_time.FromDatetime(request.block_until)
            return blocked
        case Move.REPORT_REMOVED | Move.SEE_REMOVED | Move.DEINDEX | Move.GIVE_UP:
            return events_pb2.RemovalCompleted(facts=facts)
        case Move.WITHDRAW:
            return events_pb2.RemovalWithdrawn(facts=facts)
        case _:
            return None


def handed_to_person(request: Request, occurrence: int, at: datetime) -> Message:
    """The event that it is for the person to file a request."""
    tries, version = len(request.attempts), request.version
    transition = Transition(request.state, request.state, None, tries, version, at, request.reason)
    return events_pb2.RemovalHandedToPerson(facts=_facts(request, transition), occurrence=occurrence)


def state_to_proto(state: State) -> RemovalState.ValueType:
    """The contract's number of a state."""
    return RemovalState.Value(f"REMOVAL_STATE_{state}")


def _facts(request: Request, transition: Transition) -> events_pb2.RemovalFacts:
    facts = events_pb2.RemovalFacts(
        removal_request_id=request.request_id,
        subscriber_id=request.subscriber_id,
        case_ids=request.case_ids[:MOST_EVENT_CASES],
        platform=request.platform,
        episode=request.episode,
        attempt=transition.attempt,
        state=state_to_proto(transition.after),
        reason=transition.reason,
    )
    facts.occur_time.FromDatetime(transition.at)
    return facts
