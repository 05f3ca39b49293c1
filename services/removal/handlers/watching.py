"""Is the content gone, and did anybody do what they should have by now?

Removed means seen removed: only a look, the platform's own status API or the subscriber's own eyes make a request
REMOVED. What nobody can see is UNVERIFIED and said so. A look and the clocks of a request are one piece of due work,
because what the one finds moves the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.chassis.telemetry import logger, stage
from services.removal.domain.address import host_of
from services.removal.domain.following import REMINDED, Moment, Step, moments, waits_for_person
from services.removal.domain.guards import ALONE
from services.removal.domain.policy import Policy
from services.removal.domain.request import REAPPEARED, Request
from services.removal.domain.sight import Baseline, Finding, Judgement, Sight, baseline_of, judge
from services.removal.domain.states import LOOKED_AT, Move, State
from services.removal.handlers import SUBMIT, SUPPLEMENT, Needs
from services.removal.handlers.keeping import SOON, keep
from services.removal.handlers.preparing import barred, next_episode
from services.removal.ports import Cause, Note, Work

log = logger(__name__)

STILL_THERE = "STILL_THERE"
NOBODY_CAN_SEE = "NOBODY_CAN_SEE"
BLOCK_ENDED_UNSEEN = "BLOCK_ENDED_UNSEEN"
SEEN_BLINDED = "SEEN_BLINDED"
STATUS_API = "STATUS_API"
TOO_MANY_EPISODES = "TOO_MANY_EPISODES"


@dataclass(frozen=True)
class _Look:
    """What is to be looked at."""

    subscriber_id: str
    policy: Policy
    address: str
    reference: str
    """The platform's, for its status API; may be empty."""


async def follow(needs: Needs, request_id: str) -> None:
    """Does what has become due about a request. Repeating it changes nothing."""
    with stage("removal_follow"):
        look = await _clocks(needs, request_id)
        if look is None:
            return
        sight = await needs.watcher.look(look.address)
        stated = None
        if judge(sight, None, needs.following.sight).finding is Finding.UNSEEN and look.reference:
            stated = await needs.desk.ask(look.policy, host_of(look.address), look.reference)
        await _looked(needs, look.subscriber_id, request_id, sight, stated)


async def _clocks(needs: Needs, request_id: str) -> _Look | None:
    """Applies the clocks of a request; what to look at, where a look is due."""
    async with needs.store.begin() as work:
        request = await work.request(request_id)
        policy = needs.policies.get(request.platform) if request else None
        if request is None or policy is None or barred(await work.subscriber(request.subscriber_id)):
            # Whoever is suspended, or took the consent back, is not acted for; resuming schedules this anew.
            return None
        now = needs.clock.now()
        for moment in moments(request, policy, needs.following):
            if moment.time <= now and moment.step is not Step.LOOK:
                await _apply(needs, work, request, moment, now)
        due = [moment for moment in moments(request, policy, needs.following) if moment.time <= now]
        looks = any(moment.step is Step.LOOK for moment in due)
        # A look that keeps failing must use up the tries of this due row: it is scheduled anew only after it was made.
        await keep(needs, work, request, policy, not_before=now + SOON, schedule=not looks)
        if not looks:
            return None
        last = request.attempts[-1] if request.attempts else None
        return _Look(request.subscriber_id, policy, work.unseal(request).source_url, last.reference if last else "")


async def _apply(needs: Needs, work: Work, request: Request, moment: Moment, now: datetime) -> None:
    """One step that needs no look."""
    version = needs.following.version
    match moment.step:
        case Step.GIVE_UP if request.state in LOOKED_AT:
            request.move(Move.GIVE_UP, now, moment.name)
        case Step.SUPPLEMENT if Step.SUPPLEMENT not in request.marks:
            request.mark(Step.SUPPLEMENT)
            await work.schedule(SUPPLEMENT, [request.request_id], now)
        case Step.REMIND if waits_for_person(request):
            request.mark(moment.name)
            told = sum(name.startswith(REMINDED) for name in request.marks)
            await work.hand_to_person(request, 1 + told, now)
            await work.note(request, Note("REMIND", moment.name, request.reason, rule_version=version), now)
        case Step.PART if request.joined_id:
            request.released = tuple(dict.fromkeys((*request.released, ALONE)))
            await work.schedule(SUBMIT, [request.request_id], now)
        case Step.MARK:
            request.mark(moment.name)
            request.wait(moment.name)
            await work.note(request, Note("MARK", moment.name, rule_version=version), now)


async def _looked(needs: Needs, subscriber_id: str, request_id: str, sight: Sight, stated: Move | None) -> None:
    """Commits what was seen."""
    async with needs.store.begin() as work:
        # Before the request its subscriber, as in `locked`.
        await work.subscriber(subscriber_id, lock=True)
        request = await work.request(request_id)
        policy = needs.policies.get(request.platform) if request else None
        if request is None or policy is None:
            return
        now, rules = needs.clock.now(), needs.following
        held = Baseline.from_bytes(work.unseal_baseline(request)) if request.baseline_sealed else None
        found = judge(sight, held, rules.sight)
        note = Note("LOOK", found.finding, found.reason, sight.rule_id, rules.version)
        await work.note(request, note, now)
        if found.finding is Finding.LATER:
            pause = max(sight.retry_after or rules.later, SOON)
            await keep(needs, work, request, policy, not_before=now + pause)
            return
        if request.claim_time is None and request.gone_time is None:
            # A look that somebody's word or an earlier look asked for takes no place in the schedule.
            request.looks += 1
        request.look_time = now
        if found.finding is Finding.PRESENT and held is None:
            request.baseline_sealed = work.seal_baseline(request, baseline_of(sight, rules.sight).to_bytes())
        await _conclude(needs, work, request, policy, found, stated)
        await keep(needs, work, request, policy, not_before=now + SOON)
    log.info("removal_look", removal_request_id=request_id, finding=found.finding.value, reason=found.reason)


async def locked(work: Work, request_id: str) -> Request | None:
    """A request, and before it its subscriber: whoever may start the next episode takes the locks in this order."""
    found = await work.request(request_id, lock=False)
    if found is None:
        return None
    await work.subscriber(found.subscriber_id, lock=True)
    return await work.request(request_id)


async def _conclude(
    needs: Needs, work: Work, request: Request, policy: Policy, found: Judgement, stated: Move | None
) -> None:
    """Moves the request as the finding says."""
    now = needs.clock.now()
    match found.finding:
        case Finding.GONE:
            see_removed(request, found.reason, now)
        case Finding.LOOKS_GONE:
            if request.gone_time is not None and now >= request.gone_time + needs.following.confirm_after:
                see_removed(request, found.reason, now)
            elif request.state is not State.REMOVED and request.gone_time is None:
                request.gone_time = now
        case Finding.BLINDED:
            _see_blinded(needs, request, now)
        case Finding.PRESENT:
            await see_present(needs, work, request, policy, now)
        case Finding.UNSEEN:
            _not_seen(request, stated, now)


def see_removed(request: Request, reason: str, at: datetime) -> None:
    """The content is gone; for one that was gone before, that is no news."""
    request.gone_time = None
    if request.state in LOOKED_AT:
        request.move(Move.SEE_REMOVED, at, reason)


async def see_present(
    needs: Needs, work: Work, request: Request, policy: Policy, at: datetime, cause: Cause | None = None
) -> Request:
    """The content is there: a claim of the platform is disproved, a removal has not lasted. Returns the request that
    goes on: the same, or the next episode.
    """
    request.gone_time = None
    blocked = request.state is State.TEMP_BLOCKED and request.block_until is not None and request.block_until <= at
    if request.state is State.REMOVED or blocked:
        if request.episode >= needs.following.most_episodes:
            request.lapse(at, TOO_MANY_EPISODES)
            return request
        request.lapse(at, REAPPEARED)
        evidence = work.unseal(request)
        return await next_episode(needs, work, request, policy, evidence, None, cause)
    if request.state is State.UNVERIFIED:
        request.move(Move.SEE_PRESENT, at, STILL_THERE)
    elif request.claim_time is not None:
        request.claim_time = None
        request.wait(STILL_THERE)
    return request


def _see_blinded(needs: Needs, request: Request, at: datetime) -> None:
    """The page says that it is hidden for a time: once that is confirmed, it is a block like one that the platform
    tells of. One that lasts longer than it should is looked at again.
    """
    rules = needs.following
    if request.state is State.TEMP_BLOCKED:
        request.block_until = at + rules.watch_after[0]
    elif request.gone_time is None:
        request.gone_time = at
    elif at >= request.gone_time + rules.confirm_after and request.state in (State.RECEIVED, State.UNVERIFIED):
        request.move(Move.BLOCK, at, SEEN_BLINDED)
        request.block_until = at + rules.blind
    else:
        request.gone_time = None


def _not_seen(request: Request, stated: Move | None, at: datetime) -> None:
    """Nobody may or can look: the status API speaks, else the platform's word stays unverified."""
    if stated is Move.REPORT_REMOVED:
        see_removed(request, STATUS_API, at)
        return
    request.gone_time = None
    if request.claim_time is not None:
        request.move(Move.REPORT_REMOVED, at, NOBODY_CAN_SEE)
    elif request.state is State.TEMP_BLOCKED:
        request.move(Move.REPORT_REMOVED, at, BLOCK_ENDED_UNSEEN)
