"""How is a rejection answered without asking a person?

Only where the platform's template says which evidence answers the reason, the evidence is there, the mandate lets us
answer, and the limit of attempts is not reached. Everything else waits for a person.
"""

from __future__ import annotations

from dataclasses import replace

from services.chassis.telemetry import logger, stage
from services.removal.domain.filing import Scope, authority, missing
from services.removal.domain.policy import Field, Path, Policy
from services.removal.domain.request import Request
from services.removal.domain.states import Move, State
from services.removal.handlers import SUBMIT, Needs
from services.removal.handlers.keeping import keep
from services.removal.handlers.preparing import claimant_for, evidence_of
from services.removal.ports import Note, Work

log = logger(__name__)

NOBODY_KNOWS_THE_REASON = "REASON_NOT_IN_TEMPLATE"
NOTHING_ANSWERS_IT = "NOTHING_ANSWERS_IT"
FOR_THE_PERSON = "FOR_THE_PERSON"
NO_MANDATE_TO_ANSWER = "NO_MANDATE_TO_ANSWER"


async def supplement_when_due(needs: Needs, request_id: str) -> None:
    """Adds what answers the rejection of a request and puts it again. Repeating it changes nothing.

    Raises Unavailable while the case service cannot be asked.
    """
    with stage("removal_supplement"):
        async with needs.store.begin() as work:
            request = await work.request(request_id)
            policy = needs.policies.get(request.platform) if request else None
            if request is None or policy is None or request.state is not State.REJECTED:
                return
            obstacle = await _obstacle(needs, work, request, policy)
            if obstacle:
                await _leave(needs, work, request, obstacle)
                return
            sighting = await work.sighting(request.sighting_id)
        fresh = await evidence_of(needs, sighting) if sighting else None
        claimant = await claimant_for(needs, policy, request.subscriber_id)
        async with needs.store.begin() as work:
            request = await work.request(request_id)
            if request is None or request.state is not State.REJECTED:
                return
            now = needs.clock.now()
            evidence = fresh or work.unseal(request)
            mandate = authority(policy, await work.mandates(request.subscriber_id), now).mandate
            said = needs.policies.statement(policy, request.reason, evidence, mandate)
            evidence = replace(evidence, statement=said)
            known = policy.rejection(request.reason)
            wanted = replace(policy, required=known.answered_by) if known else policy
            if missing(wanted, evidence, claimant):
                await _leave(needs, work, request, NOTHING_ANSWERS_IT)
                return
            request.evidence_sealed = work.seal(request, evidence)
            request.move(Move.SUPPLEMENT, now)
            request.missing = missing(policy, evidence, claimant)
            request.next_attempt(policy.resubmission.most_attempts)
            await keep(needs, work, request, policy)
            await work.schedule(SUBMIT, [request_id], now)
        log.info("removal_supplemented", removal_request_id=request_id)


async def _obstacle(needs: Needs, work: Work, request: Request, policy: Policy) -> str:
    """Why nobody but a person can answer; empty where we can."""
    known = policy.rejection(request.reason)
    if known is None:
        return NOBODY_KNOWS_THE_REASON
    if not known.answered_by:
        return NOTHING_ANSWERS_IT
    if Field.IDENTITY_DOCUMENT in known.answered_by or request.path is Path.PERSON:
        return FOR_THE_PERSON
    standing = await work.mandates(request.subscriber_id)
    if not any(item.covers(policy.platform, needs.clock.now(), Scope.SUPPLEMENT) for item in standing):
        return NO_MANDATE_TO_ANSWER
    return ""


async def _leave(needs: Needs, work: Work, request: Request, obstacle: str) -> None:
    """Leaves it to a person, and says why in the log; the request keeps the platform's reason."""
    note = Note("MARK", obstacle, request.reason, rule_version=request.policy_version)
    await work.note(request, note, needs.clock.now())
