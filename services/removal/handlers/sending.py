"""How is a request put to the platform, at most once an attempt?

The intention is committed before anything leaves, and the answer is committed after. A crash in between is seen by
the next run: a form is sent again under the same idempotency key, a mail is not, and a person decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from services.chassis.telemetry import logger, stage
from services.chassis.together import LEFT, Left, Piece
from services.removal.domain.address import host_of
from services.removal.domain.filing import Claimant, Evidence, Mandate, authority
from services.removal.domain.guards import (
    PLATFORM_PAUSED,
    RATE_LIMIT,
    TWO_PEOPLE,
    VERDICT,
    WAITS_FOR_REVIEW,
    WAITS_FOR_VERDICT,
    Gate,
)
from services.removal.domain.policy import Policy
from services.removal.domain.request import Attempt, Request, ResubmissionLimitError
from services.removal.domain.states import SENDABLE, State
from services.removal.handlers import SUBMIT, SUBMIT_AGAIN, Needs
from services.removal.handlers.guarding import judge_ratio
from services.removal.handlers.joining import join
from services.removal.handlers.keeping import keep
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


@dataclass(frozen=True)
class _Begun:
    """An attempt whose beginning is committed."""

    plan: _Plan
    attempt: Attempt
    failing: bool
    """Whether the platform has failed last, so that a success is news."""


@dataclass(frozen=True)
class _Turn:
    """A request that is to be sent now."""

    kind: str
    """The kind of due work that this runs as."""
    request_id: str
    plan: _Plan | None = None
    """What was planned, where the subscriber's data had to be asked for in between."""


@dataclass(frozen=True)
class _Answered:
    """What came of an attempt."""

    turn: _Turn
    begun: _Begun
    answer: Answer


async def submit(needs: Needs, kind: str, request_id: str) -> None:
    """Sends a request that is ready. Repeating it after a crash sends nothing twice.

    `kind` is the kind of due work that this runs as. Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_submit"):
        turn, begin = _Turn(kind, request_id), partial(_begin_all, needs)
        claimant, begun = Claimant(), await needs.queues.beginning(turn, begin)
        if isinstance(begun, _Plan):
            claimant = await claimant_for(needs, begun.policy, begun.subscriber_id) or claimant
            begun = await needs.queues.beginning(replace(turn, plan=begun), begin)
        if not isinstance(begun, _Begun):
            return
        plan, key = begun.plan, begun.attempt.attempt_id
        filing = needs.policies.render(plan.policy, plan.evidence, claimant, plan.mandate, reference=key)
        answer = await plan.way.sender.send(plan.policy, plan.way.endpoint, filing, key)
        await needs.queues.recording(_Answered(turn, begun, answer), partial(_record_all, needs))
        log.info(
            "removal_attempt",
            removal_request_id=request_id,
            attempt=begun.attempt.number,
            answer=type(answer).__name__,
        )


async def _begin_all(
    needs: Needs, turns: Sequence[Piece[_Turn]], alone: bool
) -> Sequence[_Begun | _Plan | Left | None]:
    """Commits that sending begins; see `_begin`. What another transaction holds is left."""
    async with needs.store.begin() as work:
        requests = await work.requests({turn.item.request_id for turn in turns}, wait=alone)
        await work.meet({request.subscriber_id for request in requests.values()})
        found: list[_Begun | _Plan | Left | None] = []
        await work.open_gates(_gates(needs, turns, requests))
        for turn in turns:
            request = requests.get(turn.item.request_id)
            if request is None:
                found.append(None if alone else LEFT)
            else:
                found.append(await turn.within(_begin(needs, work, turn.item, request)))
        return found


def _gates(needs: Needs, turns: Sequence[Piece[_Turn]], requests: Mapping[str, Request]) -> Collection[str]:
    """The platforms to which something may be sent in this transaction."""
    named = set()
    for turn in turns:
        request = requests.get(turn.item.request_id)
        policy = needs.policies.get(request.platform) if request else None
        if policy and (turn.item.plan or not policy.discloses):
            named.add(policy.platform)
    return named


async def _begin(needs: Needs, work: Work, turn: _Turn, request: Request) -> _Begun | _Plan | None:
    """Notes that sending begins; None where nothing may be sent now, and the request says why. Where the platform
    wants to see who asks, first the plan alone, and nothing is changed: the subscriber's data are read only for a
    request that may be sent, and never while anything is locked.
    """
    policy = needs.policies.get(request.platform)
    if policy is None or not request.may_be_sent:
        return None
    way = turn.plan or await _way(needs, work, request, policy)
    if isinstance(way, _Plan) and await join(needs, work, request, policy, way.mandate):
        await keep(needs, work, request, policy)
        return None
    if isinstance(way, _Plan):
        return way if policy.discloses and turn.plan is None else await _intend(needs, work, turn.kind, request, way)
    request.wait(way, request.path)
    await keep(needs, work, request, policy)
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
    host = host_of(evidence.source_url)
    if policy.hold_for_verdict and VERDICT not in request.released:
        return WAITS_FOR_VERDICT
    if needs.guards.needs_two_people(host) and TWO_PEOPLE not in request.released:
        return WAITS_FOR_REVIEW
    way = needs.ways.find(policy, host)
    return way if isinstance(way, str) else _Plan(request.subscriber_id, policy, way, evidence, right.mandate)


async def _intend(needs: Needs, work: Work, kind: str, request: Request, plan: _Plan) -> _Begun | None:
    """Notes that sending begins; None where it must not (any more), or not yet."""
    try:
        attempt = request.next_attempt(plan.policy.resubmission.most_attempts)
    except ResubmissionLimitError:
        return None
    interrupted = attempt.in_flight and not plan.way.sender.repeatable
    if interrupted or attempt.tries >= MAX_TRIES:
        request.lose_track(attempt, LOST if interrupted else RETRIES_EXHAUSTED, needs.clock.now())
        await keep(needs, work, request, plan.policy)
        return None
    gate = await work.gate(plan.policy.platform)
    if not await _passes(needs, work, kind, request, plan.policy, gate):
        await work.save(request)
        return None
    attempt.in_flight = True
    attempt.tries += 1
    request.slot_time = None
    request.path = plan.policy.path
    request.policy_version = plan.policy.version
    await work.save(request)
    return _Begun(plan, attempt, gate.failures > 0)


async def _passes(
    needs: Needs, work: Work, kind: str, request: Request, policy: Policy, gate: Gate
) -> bool:
    """Whether the gate of the platform is open and it is this request's turn; otherwise the request says what it waits
    for, and is scheduled for when that is over by itself. A turn that was taken is kept, until it lapses.
    """
    now = needs.clock.now()
    if obstacle := gate.obstacle(now):
        request.wait(obstacle)
        if obstacle == PLATFORM_PAUSED and gate.pause_until is not None:
            await work.schedule(_other(kind), [request.request_id], gate.pause_until)
        return False
    if request.slot_time is None or request.slot_time < now - needs.guards.turn_lapses_after:
        request.slot_time = gate.turn(policy.pace, now)
        await work.save_gate(gate)
    if request.slot_time > now:
        request.wait(RATE_LIMIT)
        await work.schedule(_other(kind), [request.request_id], request.slot_time)
        return False
    return True


def _other(kind: str) -> str:
    return SUBMIT_AGAIN if kind == SUBMIT else SUBMIT


async def _record_all(needs: Needs, answers: Sequence[Piece[_Answered]], alone: bool) -> Sequence[bool | Left]:
    """Commits what came of attempts, but for those whose request another transaction holds."""
    async with needs.store.begin() as work:
        requests = await work.requests({each.item.turn.request_id for each in answers}, wait=alone)
        failed = (each.item for each in answers if isinstance(each.item.answer, Later | Barred))
        await work.open_gates({item.begun.plan.policy.platform for item in failed})
        done: list[bool | Left] = []
        for each in answers:
            request = requests.get(each.item.turn.request_id)
            if request is not None:
                await each.within(_record(needs, work, each.item, request))
            done.append(request is not None or alone or LEFT)
        return done


async def _record(needs: Needs, work: Work, answered: _Answered, request: Request) -> None:
    """Notes what came of an attempt."""
    begun, answer, policy = answered.begun, answered.answer, answered.begun.plan.policy
    attempt = request.attempts[begun.attempt.number - 1]
    if request.state in SENDABLE | {State.UNCERTAIN}:
        await _apply(needs, work, answered.turn.kind, request, attempt, answer, policy)
    else:
        # Withdrawn, or settled by a person, while it was on its way: only the attempt remembers.
        attempt.in_flight = False
    await keep(needs, work, request, policy)
    await _count(needs, work, policy, answer, failing=begun.failing)


async def _apply(
    needs: Needs, work: Work, kind: str, request: Request, attempt: Attempt, answer: Answer, policy: Policy
) -> None:
    now = needs.clock.now()
    match answer:
        case Accepted(reference):
            request.accept(attempt, reference, now)
        case Sent():
            request.sent(attempt, now)
        case Refused(reason):
            known = policy.rejection(reason)
            most, groundless = policy.resubmission.most_attempts, known is not None and known.groundless
            request.refuse(attempt, reason, now, most=most, groundless=groundless)
        case Unknown(reason):
            request.lose_track(attempt, reason, now)
        case Barred(reason):
            request.bar(attempt, reason)
        case Later(reason, after_s):
            request.put_off(attempt, reason)
            pause = timedelta(seconds=after_s) if after_s is not None else pause_after(attempt.tries)
            await work.schedule(_other(kind), [request.request_id], now + pause)


async def _count(needs: Needs, work: Work, policy: Policy, answer: Answer, *, failing: bool) -> None:
    """What the answer says about the platform: it fails, it works, it finds our requests groundless. `failing`: whether
    it had failed when the attempt began; that it works on is no news.
    """
    match answer:
        case Later() | Barred():
            gate = await work.gate(policy.platform)
            gate.failed(needs.guards, needs.clock.now())
            await work.save_gate(gate)
        case Refused():
            if failing:
                await work.worked(policy.platform)
            await judge_ratio(needs, work, policy.platform)
        case _ if failing:
            await work.worked(policy.platform)


def pause_after(tries: int) -> timedelta:
    """How long to wait after the n-th try: doubling from two seconds to a quarter of an hour."""
    return min(FIRST_PAUSE * (1 << (tries - 1)), LONGEST_PAUSE)
