"""How do packed sightings become removal requests?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger, stage
from services.removal.domain.address import InvalidAddressError, normalise
from services.removal.domain.filing import (
    MISSING_EVIDENCE,
    NO_CONSENT,
    SUSPENDED,
    Claimant,
    Evidence,
    authority,
    missing,
)
from services.removal.domain.policy import Policy
from services.removal.domain.request import REAPPEARED, Request
from services.removal.domain.states import ENDED, Move, State
from services.removal.handlers import SUBMIT, Needs
from services.removal.handlers.keeping import keep
from services.removal.ports import PREPARED, SYSTEM, Cause, Sighting, Subscriber, Work

log = logger(__name__)

UNKNOWN_PLATFORM = "UNKNOWN_PLATFORM"
NO_CAPTURE = "NO_CAPTURE"
CASE_CLOSED = "CASE_CLOSED"
CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"


async def prepare(needs: Needs, case_id: str) -> None:
    """Makes a request of every sighting of a case that waits for one, or adds the case to the one that stands.
    Repeating it changes nothing. The pack is read once, whatever the number of sightings.

    Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_prepare"):
        async with needs.store.begin() as work:
            ready = await work.unprepared(case_id)
            if ready and barred(await work.subscriber(ready[0].subscriber_id)):
                ready = [sighting for sighting in ready if await _may_prepare(work, sighting)]
        known = [sighting for sighting in ready if needs.policies.get(sighting.platform) is not None]
        for sighting in ready:
            if sighting not in known:
                await _close_sighting(needs, sighting, UNKNOWN_PLATFORM)
        evidence = await _evidence(needs, known)
        claimants: dict[str, Claimant | None] = {}
        for sighting in known:
            await _prepare(needs, sighting, evidence.get(sighting.sighting_id), claimants)


async def _prepare(
    needs: Needs, sighting: Sighting, evidence: Evidence | None, claimants: dict[str, Claimant | None]
) -> None:
    """`claimants`: what was asked already, by platform: all sightings of a case have one subscriber."""
    policy = needs.policies.get(sighting.platform)
    outcome = NO_CAPTURE if evidence is None else _address_fault(evidence)
    if evidence is None or policy is None or outcome:
        await _close_sighting(needs, sighting, outcome)
        return
    if policy.platform not in claimants:
        claimants[policy.platform] = await claimant_for(needs, policy, sighting.subscriber_id)
    claimant = claimants[policy.platform]
    async with needs.store.begin() as work:
        # Asked again: consent, case and subscriber may have changed while others were asked.
        if await _may_prepare(work, sighting):
            await make(needs, work, sighting, policy, evidence, claimant)


async def make(
    needs: Needs,
    work: Work,
    sighting: Sighting,
    policy: Policy,
    evidence: Evidence,
    claimant: Claimant | None,
    *,
    cause: Cause = SYSTEM,
    anew: bool = False,
) -> Request:
    """The request for a page: the one that stands, or a new one, checked and on its way.

    The next episode starts where the latest was taken back by an obstacle that is gone; with `anew`, where the
    latest has ended in any way. Serialised per subscriber.
    """
    now = needs.clock.now()
    await work.subscriber(sighting.subscriber_id, lock=True)
    url_ref = work.url_ref(normalise(evidence.source_url))
    latest = await work.latest(sighting.subscriber_id, url_ref, policy.platform)
    if latest is not None and _reposted(latest, evidence) and latest.episode < needs.following.most_episodes:
        latest.lapse(now, REAPPEARED)
        await work.save(latest)
        request = await next_episode(needs, work, latest, policy, evidence, claimant, cause)
    elif latest is not None and not (_obstacle_is_gone(latest) or (anew and latest.state in ENDED)):
        request = latest
    else:
        request = _draft(sighting, policy, url_ref, latest, now)
        request.evidence_sealed = work.seal(request, evidence)
        request.made(now)
        await check(needs, work, request, policy, evidence, claimant, cause)
    await work.prepared(sighting, request.request_id)
    return request


async def next_episode(
    needs: Needs,
    work: Work,
    before: Request,
    policy: Policy,
    evidence: Evidence,
    claimant: Claimant | None,
    cause: Cause | None = None,
) -> Request:
    """The content is there again: the request that asks for it anew, for the same cases. The caller holds the lock on
    the subscriber and saves the request of the episode before.
    """
    now = needs.clock.now()
    sighting = Sighting(before.sighting_id, "", before.subscriber_id, before.platform, evidence.pack_version)
    request = _draft(sighting, policy, before.url_ref, before, now)
    request.case_ids = before.case_ids
    request.released = before.released
    request.evidence_sealed = work.seal(request, replace(evidence, statement=""))
    if before.baseline_sealed:
        request.baseline_sealed = work.seal_baseline(request, work.unseal_baseline(before))
        request.look_time = before.look_time
    request.made(now, REAPPEARED)
    await check(needs, work, request, policy, evidence, claimant, cause or SYSTEM)
    for case_id in before.case_ids:
        await work.link(request.request_id, case_id)
    return request


def _reposted(latest: Request, evidence: Evidence) -> bool:
    """Whether content that was gone was found again later."""
    if latest.state not in (State.REMOVED, State.UNVERIFIED) or latest.end_time is None:
        return False
    try:
        found = datetime.fromisoformat(evidence.discover_time)
    except ValueError:
        return False
    return found.tzinfo is not None and found > latest.end_time


def _obstacle_is_gone(latest: Request) -> bool:
    """Whether it ended for want of consent or of an open case: who asks for a request has both. What a person
    took back by their own word stays so.
    """
    return latest.state is State.WITHDRAWN and latest.reason in (CONSENT_WITHDRAWN, CASE_CLOSED)


async def check(
    needs: Needs,
    work: Work,
    request: Request,
    policy: Policy,
    evidence: Evidence,
    claimant: Claimant | None,
    cause: Cause = SYSTEM,
) -> None:
    """Checks the required fields of a draft and keeps it; a complete one is checked, and sent if we may."""
    now = needs.clock.now()
    request.missing = missing(policy, evidence, claimant)
    if request.missing:
        request.wait(MISSING_EVIDENCE)
        await keep(needs, work, request, policy, cause)
        return
    request.move(Move.CHECK, now)
    right = authority(policy, await work.mandates(request.subscriber_id), now)
    request.wait(right.obstacle, right.path)
    await keep(needs, work, request, policy, cause)
    if not right.obstacle:
        await work.schedule(SUBMIT, [request.request_id], now)


async def evidence_of(needs: Needs, sighting: Sighting) -> Evidence | None:
    """What the latest pack says of a sighting; None where it is not in it."""
    found = await _from_pack(needs, sighting.case_id, [sighting.sighting_id], 0)
    return found.get(sighting.sighting_id)


async def claimant_for(needs: Needs, policy: Policy, subscriber_id: str) -> Claimant | None:
    """The subscriber's own data, asked for only where the platform demands it."""
    return await needs.case_file.claimant(subscriber_id) if policy.discloses else None


def barred(subscriber: Subscriber) -> str:
    """What forbids acting for a subscriber: SUSPENDED (PIPA 37), NO_CONSENT; empty where nothing does."""
    return SUSPENDED if subscriber.suspended else "" if subscriber.removal_consent else NO_CONSENT


def _draft(sighting: Sighting, policy: Policy, url_ref: bytes, before: Request | None, at: datetime) -> Request:
    return Request(
        request_id=uuid7(),
        subscriber_id=sighting.subscriber_id,
        platform=policy.platform,
        url_ref=url_ref,
        episode=before.episode + 1 if before else 1,
        sighting_id=sighting.sighting_id,
        policy_version=policy.version,
        path=policy.path,
        create_time=at,
        state=State.DRAFT,
        previous_id=before.request_id if before else "",
        case_ids=(sighting.case_id,),
    )


async def _may_prepare(work: Work, sighting: Sighting) -> bool:
    """Whether something is to be done about the sighting now; holds the subscriber's lock."""
    subscriber = await work.subscriber(sighting.subscriber_id, lock=True)
    fresh = await work.sighting(sighting.sighting_id)
    if fresh is None or fresh.outcome in (PREPARED, CASE_CLOSED):
        return False
    obstacle = barred(subscriber)
    if obstacle:
        await work.save_sighting(replace(fresh, outcome=obstacle))
    return not obstacle


async def _close_sighting(needs: Needs, sighting: Sighting, outcome: str) -> None:
    log.warning("no_removal_request", sighting_id=sighting.sighting_id, reason=outcome)
    async with needs.store.begin() as work:
        await work.save_sighting(replace(sighting, outcome=outcome))


async def _evidence(needs: Needs, sightings: Sequence[Sighting]) -> Mapping[str, Evidence]:
    """The evidence of sightings of one case. The newest of their packs holds all that fits into a pack; what it
    lacks is looked for where it was first packed, and, where that version is not kept any more, in the latest.
    """
    found: dict[str, Evidence] = {}
    newest, *older = sorted({sighting.pack_version for sighting in sightings}, reverse=True) or [0]
    for version in (newest, *older, 0):
        missed = [sighting for sighting in sightings if sighting.sighting_id not in found]
        wanted = [s.sighting_id for s in missed if version in (newest, 0, s.pack_version)]
        if wanted:
            found |= await _from_pack(needs, sightings[0].case_id, wanted, version)
    return found


async def _from_pack(
    needs: Needs, case_id: str, sighting_ids: Sequence[str], version: int
) -> Mapping[str, Evidence]:
    try:
        return await needs.case_file.evidence(case_id, sighting_ids, version)
    except (NotFound, FailedPrecondition):
        return {}


def _address_fault(evidence: Evidence) -> str:
    try:
        normalise(evidence.source_url)
    except InvalidAddressError as error:
        return error.reason
    return ""
