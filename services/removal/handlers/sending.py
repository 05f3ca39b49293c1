"""How is a request put to the platform, at most once an attempt?

The intention is committed before anything leaves, and the answer is committed after. A crash in between is seen by
the next run: a form is sent again under the same idempotency key, a mail is not, and a person decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from services.chassis.telemetry import logger, stage
from services.removal.domain.address import host_of
from services.removal.domain.filing import Claimant, Evidence, Mandate, attempt_id, authority
from services.removal.domain.policy import Policy
from services.removal.domain.request import Attempt, Request
from services.removal.domain.states import SENDABLE, State
from services.removal.handlers import SUBMIT, SUBMIT_AGAIN, Needs
from services.removal.handlers.preparing import barred, claimant_for
from services.removal.ports import Accepted, Answer, Barred, Later, Refused, Sent, Unknown, Way, Work

log = logger(__name__)

MAX_TRIES = 8
"""How often one attempt is begun before a person has to look."""
FIRST_PAUSE = timedelta(seconds=2)
LONGEST_PAUSE = timedelta(minutes=15)
LOST = "CRASH_WHILE_SENDING"
RETRIES_EXHAUSTED = "RETRIES_EXHAUSTED"


@dataclass(frozen=True)
class _Plan:
    """What is to be sent, and where."""

    subscriber_id: str
    policy: Policy
    way: Way
    evidence: Evidence
    mandate: Mandate | None


async def submit(needs: Needs, kind: str, request_id: str) -> None:
    """Sends a request that is ready. Repeating it after a crash sends nothing twice.

    `kind` is the kind of due work that this runs as. Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_submit"):
        plan = await _plan(needs, request_id)
        if plan is None:
            return
        claimant = await claimant_for(needs, plan.policy, plan.subscriber_id) or Claimant()
        attempt = await _intend(needs, request_id, plan)
        if attempt is None:
            return
        key = attempt_id(request_id, attempt.number)
        filing = needs.policies.render(plan.policy, plan.evidence, claimant, plan.mandate, reference=key)
        answer = await plan.way.sender.send(plan.policy, plan.way.endpoint, filing, key)
        await _record(needs, kind, request_id, attempt.number, answer)


async def _plan(needs: Needs, request_id: str) -> _Plan | None:
    """What to send; None where nothing may be sent now, and the request says why."""
    async with needs.store.begin() as work:
        request = await work.request(request_id)
        policy = needs.policies.get(request.platform) if request else None
        if request is None or policy is None or not request.may_be_sent:
            return None
        plan = await _way(needs, work, request, policy)
        if isinstance(plan, _Plan):
            return plan
        request.wait(plan, request.path)
        await work.save(request)
        return None


async def _way(needs: Needs, work: Work, request: Request, policy: Policy) -> _Plan | str:
    """The plan, or the reason for waiting."""
    if obstacle := barred(await work.subscriber(request.subscriber_id)):
        return obstacle
    right = authority(policy, await work.mandates(request.subscriber_id), needs.clock.now())
    request.path = right.path
    if right.obstacle:
        return right.obstacle
    evidence = work.unseal(request)
    way = needs.ways.find(policy, host_of(evidence.source_url))
    return way if isinstance(way, str) else _Plan(request.subscriber_id, policy, way, evidence, right.mandate)


async def _intend(needs: Needs, request_id: str, plan: _Plan) -> Attempt | None:
    """Commits that sending begins; None where it must not (any more)."""
    async with needs.store.begin() as work:
        request = await work.request(request_id)
        if request is None or not request.may_be_sent:
            return None
        attempt = request.next_attempt()
        interrupted = attempt.in_flight and not plan.way.sender.repeatable
        if interrupted or attempt.tries >= MAX_TRIES:
            request.lose_track(attempt, LOST if interrupted else RETRIES_EXHAUSTED, needs.clock.now())
            await work.save(request)
            return None
        attempt.in_flight = True
        attempt.tries += 1
        request.path = plan.policy.path
        request.policy_version = plan.policy.version
        await work.save(request)
        return attempt


async def _record(needs: Needs, kind: str, request_id: str, number: int, answer: Answer) -> None:
    """Commits what came of it."""
    async with needs.store.begin() as work:
        request = await work.request(request_id)
        if request is None:
            return
        attempt = request.attempts[number - 1]
        if request.state in SENDABLE | {State.UNCERTAIN}:
            await _apply(needs, work, kind, request, attempt, answer)
        else:
            # Withdrawn, or settled by a person, while it was on its way: only the attempt remembers.
            attempt.in_flight = False
        await work.save(request)
        log.info("removal_attempt", removal_request_id=request_id, attempt=number, answer=type(answer).__name__)


async def _apply(needs: Needs, work: Work, kind: str, request: Request, attempt: Attempt, answer: Answer) -> None:
    now = needs.clock.now()
    match answer:
        case Accepted(reference):
            request.accept(attempt, reference, now)
        case Sent():
            request.sent(attempt, now)
        case Refused(reason):
            request.refuse(attempt, reason, now)
        case Unknown(reason):
            request.lose_track(attempt, reason, now)
        case Barred(reason):
            request.bar(attempt, reason)
        case Later(reason, after_s):
            request.put_off(attempt, reason)
            pause = timedelta(seconds=after_s) if after_s is not None else pause_after(attempt.tries)
            other = SUBMIT_AGAIN if kind == SUBMIT else SUBMIT
            await work.schedule(other, [request.request_id], now + pause)


def pause_after(tries: int) -> timedelta:
    """How long to wait after the n-th try: doubling from two seconds to a quarter of an hour."""
    return min(FIRST_PAUSE * (1 << (tries - 1)), LONGEST_PAUSE)
