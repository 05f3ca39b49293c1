"""How do packed sightings become removal requests?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger, stage
from services.chassis.together import LEFT, Left, Piece
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


@dataclass(frozen=True)
class _Ready:
    """Sightings of one case of which requests can be made."""

    subscriber_id: str
    sightings: tuple[tuple[Sighting, Policy, Evidence], ...]
    claimants: Mapping[str, Claimant | None]
    """By platform: all sightings of a case have one subscriber."""


async def prepare(needs: Needs, case_id: str) -> None:
    """Makes a request of every sighting of a case that waits for one, or adds the case to the one that stands.
    Repeating it changes nothing. The pack is read once, whatever the number of sightings.

    Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_prepare"):
        waiting: Sequence[Sighting] = await needs.queues.reading(case_id, partial(_read, needs))
        known = [sighting for sighting in waiting if needs.policies.get(sighting.platform) is not None]
        for sighting in waiting:
            if sighting not in known:
                await _close_sighting(needs, sighting, UNKNOWN_PLATFORM)
        ready = await _ready(needs, known, await _evidence(needs, known))
        if ready is not None:
            await needs.queues.making(ready, partial(_make, needs))


async def _read(needs: Needs, cases: Sequence[Piece[str]], alone: bool) -> Sequence[Sequence[Sighting] | Left]:
    """The sightings of each case that wait for a request and may be prepared."""
    async with needs.store.begin() as work:
        waiting = await work.unprepared([case.item for case in cases])
        await work.meet({sighting.subscriber_id for sighting in waiting})
        found: list[Sequence[Sighting] | Left] = []
        for case in cases:
            own = [sighting for sighting in waiting if sighting.case_id == case.item]
            if own and barred(await work.subscriber(own[0].subscriber_id)):
                # What is written about them locks the subscriber.
                found.append([s for s in own if await _may_prepare(work, s)] if alone else LEFT)
            else:
                found.append(own)
        return found


async def _ready(
    needs: Needs, sightings: Sequence[Sighting], evidence: Mapping[str, Evidence]
) -> _Ready | None:
    """What requests are made of; None for nothing. A sighting without evidence that can be used is closed."""
    usable: list[tuple[Sighting, Policy, Evidence]] = []
    claimants: dict[str, Claimant | None] = {}
    for sighting in sightings:
        policy, captured = needs.policies.get(sighting.platform), evidence.get(sighting.sighting_id)
        outcome = NO_CAPTURE if captured is None else _address_fault(captured)
        if captured is None or policy is None or outcome:
            await _close_sighting(needs, sighting, outcome)
            continue
        if policy.platform not in claimants:
            claimants[policy.platform] = await claimant_for(needs, policy, sighting.subscriber_id)
        usable.append((sighting, policy, captured))
    return _Ready(usable[0][0].subscriber_id, tuple(usable), claimants) if usable else None


async def _make(needs: Needs, cases: Sequence[Piece[_Ready]], alone: bool) -> Sequence[bool | Left]:
    """Makes the requests of cases, but for those whose subscriber another transaction holds."""
    async with needs.store.begin() as work:
        locked = await work.meet({case.item.subscriber_id for case in cases}, lock=True, wait=alone)
        mine = [case.item for case in cases if case.item.subscriber_id in locked]
        await _read_ahead(work, mine)
        return [
            await case.within(_make_of_case(needs, work, case.item))
            if alone or case.item.subscriber_id in locked
            else LEFT
            for case in cases
        ]


async def _read_ahead(work: Work, cases: Sequence[_Ready]) -> None:
    """What making the requests asks for, read at once."""
    sightings = [each for case in cases for each in case.sightings]
    if sightings:
        await work.read_sightings([sighting.sighting_id for sighting, _, _ in sightings])
        await work.look_up(
            {
                (sighting.subscriber_id, work.url_ref(normalise(evidence.source_url)), policy.platform)
                for sighting, policy, evidence in sightings
            }
        )


async def _make_of_case(needs: Needs, work: Work, case: _Ready) -> bool:
    for sighting, policy, evidence in case.sightings:
        # Asked again: consent, case and subscriber may have changed while others were asked.
        if await _may_prepare(work, sighting):
            await make(needs, work, sighting, policy, evidence, case.claimants[policy.platform])
    return True


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
