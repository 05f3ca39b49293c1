"""How does a packed sighting become a removal request?"""

from __future__ import annotations

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
from services.removal.domain.request import Request
from services.removal.domain.states import ENDED, Move, State
from services.removal.handlers import SUBMIT, Needs
from services.removal.ports import SYSTEM, Cause, Sighting, Subscriber, Work

log = logger(__name__)

PREPARED = "PREPARED"
UNKNOWN_PLATFORM = "UNKNOWN_PLATFORM"
NO_CAPTURE = "NO_CAPTURE"
CASE_CLOSED = "CASE_CLOSED"


async def prepare(needs: Needs, sighting_id: str) -> None:
    """Makes a request of a sighting, or adds its case to the one that stands. Repeating it changes nothing.

    Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_prepare"):
        async with needs.store.begin() as work:
            sighting = await _ready(work, sighting_id)
        if sighting is None:
            return
        policy = needs.policies.get(sighting.platform)
        if policy is None:
            await _close_sighting(needs, sighting, UNKNOWN_PLATFORM)
            return
        evidence = await _evidence(needs, sighting, sighting.pack_version)
        outcome = NO_CAPTURE if evidence is None else _address_fault(evidence)
        if evidence is None or outcome:
            await _close_sighting(needs, sighting, outcome)
            return
        claimant = await claimant_for(needs, policy, sighting.subscriber_id)
        async with needs.store.begin() as work:
            # Asked again: consent, case and subscriber may have changed while others were asked.
            if await _ready(work, sighting_id) is not None:
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

    `anew` starts the next episode where the latest has ended. Serialised per subscriber.
    """
    now = needs.clock.now()
    await work.subscriber(sighting.subscriber_id, lock=True)
    url_ref = work.url_ref(normalise(evidence.source_url))
    latest = await work.latest(sighting.subscriber_id, url_ref, policy.platform)
    if latest is not None and not (anew and latest.state in ENDED):
        request = latest
    else:
        request = _draft(sighting, policy, url_ref, latest.episode + 1 if latest else 1, now)
        request.evidence_sealed = work.seal(request, evidence)
        request.made(now)
        await check(work, request, policy, evidence, claimant, now)
        await work.save(request, cause)
    await work.link(request.request_id, sighting.case_id)
    await work.save_sighting(replace(sighting, outcome=PREPARED, request_id=request.request_id))
    return request


async def check(
    work: Work, request: Request, policy: Policy, evidence: Evidence, claimant: Claimant | None, at: datetime
) -> None:
    """Checks the required fields of a draft; a complete one is checked, and sent if we may."""
    request.missing = missing(policy, evidence, claimant)
    if request.missing:
        request.wait(MISSING_EVIDENCE)
        return
    request.move(Move.CHECK, at)
    right = authority(policy, await work.mandates(request.subscriber_id), at)
    request.wait(right.obstacle, right.path)
    if not right.obstacle:
        await work.schedule(SUBMIT, [request.request_id], at)


async def claimant_for(needs: Needs, policy: Policy, subscriber_id: str) -> Claimant | None:
    """The subscriber's own data, asked for only where the platform demands it."""
    return await needs.case_file.claimant(subscriber_id) if policy.discloses else None


def barred(subscriber: Subscriber) -> str:
    """What forbids acting for a subscriber: SUSPENDED (PIPA 37), NO_CONSENT; empty where nothing does."""
    return SUSPENDED if subscriber.suspended else "" if subscriber.removal_consent else NO_CONSENT


def _draft(sighting: Sighting, policy: Policy, url_ref: bytes, episode: int, at: datetime) -> Request:
    return Request(
        request_id=uuid7(),
        subscriber_id=sighting.subscriber_id,
        platform=policy.platform,
        url_ref=url_ref,
        episode=episode,
        sighting_id=sighting.sighting_id,
        policy_version=policy.version,
        path=policy.path,
        create_time=at,
        state=State.DRAFT,
        case_ids=(sighting.case_id,),
    )


async def _ready(work: Work, sighting_id: str) -> Sighting | None:
    """The sighting if something is to be done about it now; holds the subscriber's lock."""
    sighting = await work.sighting(sighting_id)
    if sighting is None:
        return None
    subscriber = await work.subscriber(sighting.subscriber_id, lock=True)
    sighting = await work.sighting(sighting_id)
    if sighting is None or sighting.outcome in (PREPARED, CASE_CLOSED):
        return None
    obstacle = barred(subscriber)
    if not obstacle:
        return sighting
    await work.save_sighting(replace(sighting, outcome=obstacle))
    return None


async def _close_sighting(needs: Needs, sighting: Sighting, outcome: str) -> None:
    log.warning("no_removal_request", sighting_id=sighting.sighting_id, reason=outcome)
    async with needs.store.begin() as work:
        await work.save_sighting(replace(sighting, outcome=outcome))


async def _evidence(needs: Needs, sighting: Sighting, version: int) -> Evidence | None:
    """The sighting's evidence, from a later pack where this version is not kept any more."""
    try:
        return await needs.case_file.evidence(sighting.case_id, sighting.sighting_id, version)
    except (NotFound, FailedPrecondition):
        if version == 0:
            return None
        return await _evidence(needs, sighting, 0)


def _address_fault(evidence: Evidence) -> str:
    try:
        normalise(evidence.source_url)
    except InvalidAddressError as error:
        return error.reason
    return ""
