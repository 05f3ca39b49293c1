"""Who lets a request, or the queue of a platform, go on?

One person is enough to stop; two different people have to agree before what was stopped goes on.
"""

from __future__ import annotations

from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.removal.domain.guards import (
    APPROVALS,
    GROUNDLESS_RATIO,
    PLATFORM_HELD,
    TWO_PEOPLE,
    WAITS_FOR_REVIEW,
    Gate,
)
from services.removal.domain.request import Request
from services.removal.domain.states import SENDABLE, Move
from services.removal.handlers import SUBMIT, Needs
from services.removal.handlers.keeping import keep
from services.removal.ports import SYSTEM, Cause, Note, Work

REVIEW_REFUSED = "REVIEW_REFUSED"


async def judge_ratio(needs: Needs, work: Work, platform: str) -> None:
    """Holds a platform that finds too many requests groundless (Network Act 44-13)."""
    rules, now = needs.guards, needs.clock.now()
    groundless, decided = await work.decided(platform, now - rules.groundless_window)
    if rules.too_groundless(groundless, decided):
        await _hold(needs, work, await work.gate(platform), GROUNDLESS_RATIO, SYSTEM)


async def review(needs: Needs, request_id: str, approve: bool, cause: Cause) -> tuple[Request, int]:
    """Somebody says whether a request of possible public interest may be filed. Returns it and how many agree.

    Raises NotFound, FailedPrecondition NOT_WAITING_FOR_REVIEW.
    """
    async with needs.store.begin() as work:
        request = await work.request(request_id)
        policy = needs.policies.get(request.platform) if request else None
        if request is None or policy is None:
            raise NotFound("REMOVAL_REQUEST_NOT_FOUND", "There is no such removal request.")
        if request.state not in SENDABLE or request.reason != WAITS_FOR_REVIEW:
            raise FailedPrecondition("NOT_WAITING_FOR_REVIEW", "The request does not wait for a review.")
        now, subject = needs.clock.now(), f"request:{request_id}"
        note = Note("REVIEW", "APPROVED" if approve else "REFUSED", rule_version=needs.guards.version)
        await work.note(request, note, now, cause)
        agreed = await work.vote(subject, cause.ref, now) if approve else 0
        if not approve:
            request.move(Move.WITHDRAW, now, REVIEW_REFUSED)
        elif agreed >= APPROVALS:
            request.released = (*request.released, TWO_PEOPLE)
            request.wait("")
            await work.schedule(SUBMIT, [request_id], now)
        if not approve or agreed >= APPROVALS:
            await work.forget_votes(subject)
        await keep(needs, work, request, policy, cause)
        return request, agreed


async def hold(needs: Needs, platform: str, reason: str, cause: Cause) -> str:
    """Stops the queue of a platform. Returns why it stands; repeating it changes nothing. Raises InvalidInput."""
    _known(needs, platform)
    async with needs.store.begin() as work:
        gate = await work.gate(platform)
        await _hold(needs, work, gate, reason, cause)
        return gate.held


async def release(needs: Needs, platform: str, cause: Cause) -> tuple[str, int]:
    """Somebody says that a queue may go on; it does when two have. Returns why it stands still, and how many agree.
    Raises InvalidInput.
    """
    _known(needs, platform)
    async with needs.store.begin() as work:
        gate = await work.gate(platform)
        if not gate.held:
            return "", 0
        now, subject = needs.clock.now(), f"platform:{platform}"
        agreed = await work.vote(subject, cause.ref, now)
        if agreed >= APPROVALS:
            await work.forget_votes(subject)
            await work.note(platform, Note("RELEASE", gate.held, rule_version=needs.guards.version), now, cause)
            gate.held = ""
            await work.save_gate(gate)
            await work.schedule(SUBMIT, await work.held_at(platform, [PLATFORM_HELD]), now)
        return gate.held, agreed


async def _hold(needs: Needs, work: Work, gate: Gate, reason: str, cause: Cause) -> None:
    if gate.held:
        return
    gate.held = reason
    await work.save_gate(gate)
    await work.forget_votes(f"platform:{gate.platform}")
    note = Note("HOLD", reason, rule_version=needs.guards.version)
    await work.note(gate.platform, note, needs.clock.now(), cause)


def _known(needs: Needs, platform: str) -> None:
    if needs.policies.get(platform) is None:
        violation = ("platform", "UNKNOWN_PLATFORM")
        raise InvalidInput(violation[1], "There is no policy for this platform.", violations=[violation])
