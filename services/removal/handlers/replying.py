"""What did a platform answer, and what follows from it?

Replies come by web hook and by mail, any number of times and in any order. One is about the request whose attempt or
reference it names; it moves the request only when it is proved to be the platform's and its reading is clear. All
others wait for a person, with their text under the subscriber's key.
"""

from __future__ import annotations

from datetime import datetime

from services.chassis.ids import uuid7
from services.chassis.telemetry import logger, stage
from services.removal.domain.policy import Path, Policy
from services.removal.domain.replies import (
    LONGEST_TEXT,
    MOST_REPLIES,
    Outcome,
    Reading,
    Reply,
    attempt_ids,
    is_proved,
    read,
)
from services.removal.domain.request import Attempt, Request, ResubmissionLimitError
from services.removal.domain.states import SENDABLE, IllegalMoveError, Move, State
from services.removal.domain.states import Outcome as Sent
from services.removal.handlers import Needs
from services.removal.handlers.guarding import judge_ratio
from services.removal.handlers.keeping import keep
from services.removal.ports import SYSTEM, Cause, Note, StoredReply, Work

log = logger(__name__)

LONGEST_KEPT = 4096
"""Characters of a reply that a person gets to read."""
UNKNOWN_REFERENCE = "UNKNOWN_REFERENCE"
NOT_UNDERSTOOD = "NOT_UNDERSTOOD"
SENDER_NOT_PROVED = "SENDER_NOT_PROVED"
NOT_POSSIBLE_NOW = "NOT_POSSIBLE_NOW"


async def receive(needs: Needs, reply: Reply) -> Outcome:
    """Takes a reply in; the same one again changes nothing."""
    with stage("removal_reply"):
        async with needs.store.begin() as work:
            quoted = (*reply.quoted, *attempt_ids(reply.text[:LONGEST_TEXT]))
            named = quoted or reply.references
            found = await work.quoting(quoted, reply.references, reply.platform) if named else ()
            request = await work.request(found[0]) if len(found) == 1 else None
            policy = needs.policies.get(request.platform) if request else None
            if request is None or policy is None:
                log.warning("removal_reply_unmatched", channel=reply.channel, reason=UNKNOWN_REFERENCE)
                return Outcome.UNMATCHED
            outcome = await _take(needs, work, request, policy, reply)
        log.info("removal_reply", removal_request_id=request.request_id, outcome=outcome.value)
        return outcome


async def _take(needs: Needs, work: Work, request: Request, policy: Policy, reply: Reply) -> Outcome:
    if await work.replies(request.request_id) >= MOST_REPLIES:
        return Outcome.TOO_MANY
    now, reply_id = needs.clock.now(), uuid7()
    reading = read(reply, policy, needs.replies)
    outcome = Outcome.UNCLEAR if reading.move is None else Outcome.APPLIED
    reason = "" if outcome is Outcome.APPLIED else NOT_UNDERSTOOD
    if not is_proved(reply, policy):
        outcome, reason = Outcome.NOT_PROVED, SENDER_NOT_PROVED
    if outcome is Outcome.APPLIED and not _applies(needs, request, policy, reading, reply, now):
        outcome, reason = Outcome.UNCLEAR, NOT_POSSIBLE_NOW
    text = b"" if outcome is Outcome.APPLIED else work.seal_reply(request, reply_id, reply.text[:LONGEST_KEPT])
    ref = work.message_ref(policy.platform, reply.message_id)
    kept = StoredReply(
        reply_id, ref, request.request_id, policy.platform, reply.channel, now, outcome.value, text_sealed=text
    )
    if not await work.add_reply(kept):
        return Outcome.REPEATED
    await work.note(request, Note("REPLY", outcome.value, reason, rule_version=needs.replies.version), now)
    if outcome is Outcome.APPLIED:
        await keep(needs, work, request, policy)
        if reading.move is Move.REJECT:
            await judge_ratio(needs, work, policy.platform)
    return outcome


def _applies(needs: Needs, request: Request, policy: Policy, reading: Reading, reply: Reply, now: datetime) -> bool:
    """Applies a reading; False, and nothing changed, where the request is in no state for it."""
    if reading.move is None:
        return False
    reference = reply.references[0] if reply.references else _reference(policy, reply)
    until = now + reading.block if reading.block is not None else None
    try:
        answered(request, policy, reading.move, reference, reading.reason, now, block_until=until)
    except (IllegalMoveError, ResubmissionLimitError):
        return False
    return True


def _reference(policy: Policy, reply: Reply) -> str:
    match = policy.acknowledgement.search(reply.text[:LONGEST_TEXT])
    return match["reference"][:128] if match else ""


def answered(
    request: Request,
    policy: Policy,
    move: Move,
    reference: str,
    reason: str,
    at: datetime,
    *,
    block_until: datetime | None = None,
) -> None:
    """Applies an answer of the platform to a request, all or nothing. A decision shows that it was received: one that
    was not acknowledged before is accepted first. That the content is gone is looked at before anybody believes it.

    Raises IllegalMoveError, ResubmissionLimitError.
    """
    before = request.state
    attempt = request.attempts[-1] if request.attempts else None
    if move is Move.ACCEPT:
        if before is State.RECEIVED:
            # Accepted by the form, acknowledged by mail: the same news twice.
            return
        request.accept(_answered(request, attempt, move), reference, at)
        return
    if before in (State.SUBMITTED, State.UNCERTAIN) and move is not Move.REJECT:
        request.accept(_answered(request, attempt, Move.ACCEPT), reference, at)
    match move:
        case Move.REJECT:
            refused = _answered(request, attempt, move) if request.state in SENDABLE else attempt
            known = policy.rejection(reason)
            most, groundless = policy.resubmission.most_attempts, known is not None and known.groundless
            request.refuse(refused, reason, at, most=most, groundless=groundless)
        case Move.REPORT_REMOVED if request.state in (State.RECEIVED, State.TEMP_BLOCKED):
            request.claim_time = at
            request.wait(PLATFORM_SAYS_REMOVED)
        case Move.BLOCK:
            request.move(move, at, reason)
            request.block_until = block_until
        case _:
            request.move(move, at, reason)


PLATFORM_SAYS_REMOVED = "PLATFORM_SAYS_REMOVED"
"""A request that waits for a look at the page."""


def _answered(request: Request, attempt: Attempt | None, move: Move) -> Attempt:
    """The attempt that the answer is about; a person's own filing counts as one. Raises IllegalMoveError."""
    if request.state in SENDABLE and request.path is not Path.PERSON:
        # Nothing was sent: there is nothing that the platform could have answered.
        raise IllegalMoveError(request.state, move)
    if attempt is None or attempt.outcome in (Sent.ACCEPTED, Sent.REFUSED):
        return request.next_attempt()
    return attempt


async def settle(work: Work, needs: Needs, request: Request, reply_id: str, cause: Cause = SYSTEM) -> bool:
    """Notes that a person has read a reply about this request; False where there is no such reply."""
    if not await work.settle_reply(reply_id, request.request_id):
        return False
    note = Note("REPLY", Outcome.SETTLED.value, rule_version=needs.replies.version)
    await work.note(request, note, needs.clock.now(), cause)
    return True
