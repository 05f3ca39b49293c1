"""What do people ask removal to do?

Every command is done once per (caller, method, request id); a repeat gets the same resource again. The protobuf
request is passed along as the fingerprint of the command alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from google.protobuf.message import Message

from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.chassis.ids import uuid7
from services.removal.domain.address import InvalidAddressError, normalise
from services.removal.domain.filing import (
    NO_MANDATE,
    Claimant,
    Evidence,
    Mandate,
    Scope,
    authority,
    missing,
)
from services.removal.domain.guards import VERDICT, WAITS_FOR_VERDICT
from services.removal.domain.policy import Path, Policy
from services.removal.domain.request import Request, ResubmissionLimitError, attempt_id
from services.removal.domain.states import LOOKED_AT, SENDABLE, IllegalMoveError, Move, State
from services.removal.handlers import ILLEGAL_TRANSITION, SUBMIT, Needs
from services.removal.handlers.guarding import judge_ratio
from services.removal.handlers.keeping import keep
from services.removal.handlers.preparing import UNKNOWN_PLATFORM, barred, check, claimant_for, make
from services.removal.handlers.replying import answered, settle
from services.removal.handlers.watching import locked, see_present, see_removed
from services.removal.ports import Cause, Filing, Note, Sighting, Work

LONGEST_MANDATE = timedelta(days=731)
"""A mandate ends within two years."""
LONGEST_BLOCK = timedelta(days=366)
"""Bound of input; the Network Act's temporary measure ends after 30 days."""
DO_NOT_FILE = "DO_NOT_FILE"
SUBSCRIBER_CONFIRMED = "SUBSCRIBER_CONFIRMED"
_FOR_THE_PERSON = frozenset({State.CHECKED, State.SUPPLEMENTED, State.REJECTED})
"""States in which a request on the person's path waits for them."""


@dataclass(frozen=True)
class Command:
    """Who asks, by which method, with which words."""

    caller: str
    method: str
    message: Message
    cause: Cause
    own: str = ""
    """The only subscriber whose things this caller may touch; empty for staff."""


@dataclass(frozen=True)
class Package:
    """What a person needs to file by their own hand."""

    endpoint: str
    filing: Filing
    language: str
    policy: Policy
    fallbacks: tuple[Policy, ...]
    """Public bodies to turn to."""


async def create(needs: Needs, command: Command, case_id: str, sighting_id: str, platform: str) -> Request:
    """A request made by hand for a packed sighting; the next episode where the latest has ended.

    Raises FailedPrecondition: UNKNOWN_PLATFORM, NOT_PACKED_YET, NO_MANDATE, SUSPENDED, NO_CONSENT, or why the
    address cannot be used.
    """
    async with needs.store.begin() as work:
        done = await work.recall(command.caller, command.method, command.message)
        if done is not None:
            return await _get(work, command, done)
        sighting = await work.sighting(sighting_id)
        policy = needs.policies.get(platform)
        if policy is None:
            raise FailedPrecondition(UNKNOWN_PLATFORM, "There is no policy for this platform.")
        if sighting is None or sighting.case_id != case_id:
            raise FailedPrecondition("NOT_PACKED_YET", "The evidence of this sighting is not packed.")
        await _check_may_act(work, sighting.subscriber_id)
        if authority(policy, await work.mandates(sighting.subscriber_id), needs.clock.now()).obstacle == NO_MANDATE:
            raise FailedPrecondition(NO_MANDATE, "The subscriber has given no mandate for this platform.")
    evidence = await _usable_evidence(needs, sighting)
    claimant = await claimant_for(needs, policy, sighting.subscriber_id)
    async with needs.store.begin() as work:
        done = await work.recall(command.caller, command.method, command.message)
        if done is None:
            # Asked again: the subscriber may have changed while others were asked.
            await _check_may_act(work, sighting.subscriber_id)
            request = await make(needs, work, sighting, policy, evidence, claimant, cause=command.cause, anew=True)
            done = request.request_id
            await work.remember(command.caller, command.method, command.message, done)
        return await _get(work, command, done)


async def _check_may_act(work: Work, subscriber_id: str) -> None:
    """Nobody acts for somebody who is suspended or has not consented to removal. Raises FailedPrecondition."""
    if obstacle := barred(await work.subscriber(subscriber_id, lock=True)):
        raise FailedPrecondition(
            obstacle, "Nothing may be filed for the subscriber now.", violations=[("subscriber", obstacle)]
        )


async def supplement(needs: Needs, command: Command, request_id: str, pack_version: int, statement: str) -> Request:
    """Adds evidence to a rejected request, or to a draft that lacks some.

    Raises NotFound, FailedPrecondition ILLEGAL_TRANSITION or NOT_PACKED_YET.
    """
    async with needs.store.begin() as work:
        before = await _get(work, command, request_id, lock=False)
        sighting = await work.sighting(before.sighting_id)
    policy = _policy(needs, before)
    fresh = None if sighting is None else await _from_pack(needs, sighting, pack_version)
    if fresh is None:
        raise FailedPrecondition("NOT_PACKED_YET", "This version of the pack does not hold the evidence.")
    claimant = await claimant_for(needs, policy, before.subscriber_id)
    async with needs.store.begin() as work:
        if await work.recall(command.caller, command.method, command.message) is not None:
            return await _get(work, command, request_id)
        request = await _get(work, command, request_id)
        evidence = replace(fresh, statement=statement or work.unseal(request).statement)
        request.evidence_sealed = work.seal(request, evidence)
        if request.state is State.DRAFT:
            await check(needs, work, request, policy, evidence, claimant, command.cause)
        else:
            _move(request, Move.SUPPLEMENT, needs.clock.now())
            request.missing = missing(policy, evidence, claimant)
        return await _done(needs, work, command, request)


async def resubmit(needs: Needs, command: Command, request_id: str) -> Request:
    """Sends a supplemented or uncertain request again, or tries a checked one that was not sent.

    Raises NotFound, FailedPrecondition ILLEGAL_TRANSITION or RESUBMISSION_LIMIT.
    """
    async with needs.store.begin() as work:
        if await work.recall(command.caller, command.method, command.message) is not None:
            return await _get(work, command, request_id)
        request = await _get(work, command, request_id)
        if request.state not in (State.CHECKED, State.SUPPLEMENTED, State.UNCERTAIN):
            raise _illegal(request.state, Move.SUBMIT)
        try:
            request.next_attempt(_policy(needs, request).resubmission.most_attempts)
        except ResubmissionLimitError:
            raise _too_often() from None
        await work.schedule(SUBMIT, [request_id], needs.clock.now())
        return await _done(needs, work, command, request)


async def record_response(
    needs: Needs,
    command: Command,
    request_id: str,
    move: Move,
    *,
    reference: str = "",
    reason: str = "",
    block_until: datetime | None = None,
    reply_id: str = "",
) -> Request:
    """Records what the platform answered; `move` is ACCEPT, REJECT, REPORT_REMOVED, BLOCK or DEINDEX. `reply_id` names
    the reply that said so, where a person has read one.

    REMOVED is what the platform says: somebody looks at the page, and where nobody can, the request is UNVERIFIED.
    Raises NotFound, InvalidInput for a block without a sensible end, FailedPrecondition ILLEGAL_TRANSITION.
    """
    now = needs.clock.now()
    if move is Move.BLOCK and (block_until is None or not now < block_until <= now + LONGEST_BLOCK):
        raise _wrong("block_until_time", "BLOCK_UNTIL_OUT_OF_RANGE")
    async with needs.store.begin() as work:
        if await work.recall(command.caller, command.method, command.message) is not None:
            return await _get(work, command, request_id)
        request = await _get(work, command, request_id)
        policy = _policy(needs, request)
        try:
            answered(request, policy, move, reference, reason, now, block_until=block_until)
        except IllegalMoveError as error:
            raise _illegal(error.state, error.move) from None
        except ResubmissionLimitError:
            raise _too_often() from None
        if reply_id and not await settle(work, needs, request, reply_id, command.cause):
            raise NotFound("REPLY_NOT_FOUND", "There is no such reply about this request.")
        done = await _done(needs, work, command, request)
        if move is Move.REJECT:
            await judge_ratio(needs, work, policy.platform)
        return done


async def tell(needs: Needs, command: Command, request_id: str, answer: str, reference: str) -> Request:
    """Records what the subscriber says: FILE_IT, DO_NOT_FILE, FILED, GONE, PRESENT. Returns the request that goes on.

    Raises NotFound, FailedPrecondition ILLEGAL_TRANSITION.
    """
    async with needs.store.begin() as work:
        done = await work.recall(command.caller, command.method, command.message)
        if done is not None:
            return await _get(work, command, done, lock=False)
        request = await locked(work, request_id)
        if request is None or (command.own and request.subscriber_id != command.own):
            raise _not_found()
        policy, now = _policy(needs, request), needs.clock.now()
        goes_on = request
        match answer:
            case "FILE_IT":
                if request.state not in SENDABLE:
                    raise _illegal(request.state, Move.SUBMIT)
                request.released = tuple(dict.fromkeys((*request.released, VERDICT)))
                if request.reason == WAITS_FOR_VERDICT:
                    request.wait("")
                await work.schedule(SUBMIT, [request_id], now)
            case "DO_NOT_FILE":
                _move(request, Move.WITHDRAW, now, DO_NOT_FILE)
            case "FILED":
                _filed(request, policy, reference, now)
            case "GONE":
                if request.state not in LOOKED_AT:
                    raise _illegal(request.state, Move.SEE_REMOVED)
                see_removed(request, SUBSCRIBER_CONFIRMED, now)
            case _:
                goes_on = await see_present(needs, work, request, policy, now, command.cause)
        await work.note(request, Note("ANSWER", answer), now, command.cause)
        await keep(needs, work, request, policy, command.cause)
        await work.remember(command.caller, command.method, command.message, goes_on.request_id)
        return goes_on


def _filed(request: Request, policy: Policy, reference: str, at: datetime) -> None:
    """The person has filed it. A reference is the platform's own acceptance; without one it is out and no more."""
    if request.state not in SENDABLE or request.path is not Path.PERSON:
        raise _illegal(request.state, Move.SUBMIT)
    try:
        attempt = request.next_attempt(policy.resubmission.most_attempts)
    except ResubmissionLimitError:
        raise _too_often() from None
    if reference:
        request.accept(attempt, reference, at)
    else:
        request.sent(attempt, at)


async def withdraw(needs: Needs, command: Command, request_id: str) -> Request:
    """Takes a request back. Raises NotFound, FailedPrecondition ILLEGAL_TRANSITION."""
    async with needs.store.begin() as work:
        if await work.recall(command.caller, command.method, command.message) is not None:
            return await _get(work, command, request_id)
        request = await _get(work, command, request_id)
        _move(request, Move.WITHDRAW, needs.clock.now())
        return await _done(needs, work, command, request)


async def package(needs: Needs, own: str, request_id: str) -> Package:
    """What the person needs to file the request, or, where the platform did not help, to turn to a public body.
    Raises NotFound, FailedPrecondition NOT_FOR_PERSON.
    """
    async with needs.store.begin() as work:
        request = await work.request(request_id, lock=False)
        if request is None or (own and request.subscriber_id != own):
            raise _not_found()
        given_up = request.state is State.UNRESOLVED
        if not given_up and (request.path is not Path.PERSON or request.state not in _FOR_THE_PERSON):
            raise FailedPrecondition("NOT_FOR_PERSON", "This request does not wait for the person.")
        evidence = work.unseal(request)
        subscriber = await work.subscriber(request.subscriber_id)
    policy = _policy(needs, request)
    claimant = await claimant_for(needs, policy, request.subscriber_id) or Claimant()
    reference = attempt_id(request_id, len(request.attempts) + 1)
    filing = needs.policies.render(policy, evidence, claimant, None, reference=reference, language=subscriber.language)
    found = [needs.policies.get(body) for body in policy.fallback]
    fallbacks = tuple(body for body in found if body is not None)
    return Package(policy.endpoint, filing, subscriber.language, policy, fallbacks)


async def grant_mandate(
    needs: Needs,
    command: Command,
    subscriber_id: str,
    platforms: Sequence[str],
    document_sha256: bytes,
    expire_time: datetime,
    scope: Sequence[Scope] = (Scope.FILE, Scope.SUPPLEMENT),
) -> Mandate:
    """Notes a mandate; requests that waited for it go on. Raises InvalidInput."""
    now = needs.clock.now()
    if not now < expire_time <= now + LONGEST_MANDATE:
        raise _wrong("expire_time", "EXPIRE_TIME_OUT_OF_RANGE")
    if any(needs.policies.get(platform) is None for platform in platforms):
        raise _wrong("platforms", UNKNOWN_PLATFORM)
    async with needs.store.begin() as work:
        done = await work.recall(command.caller, command.method, command.message)
        if done is not None:
            return await _mandate(work, subscriber_id, done)
        if work.erased(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        mandate = Mandate(uuid7(), tuple(sorted(set(platforms))), document_sha256, expire_time, scope=tuple(scope))
        await work.save_mandate(subscriber_id, mandate, now, command.cause)
        waiting = await work.waiting(subscriber_id, [State.CHECKED, State.SUPPLEMENTED], [NO_MANDATE])
        await work.schedule(SUBMIT, waiting, now)
        await work.remember(command.caller, command.method, command.message, mandate.mandate_id)
        return mandate


async def revoke_mandate(needs: Needs, subscriber_id: str, mandate_id: str, cause: Cause) -> Mandate:
    """Ends a mandate; what is not sent yet will not be. Repeating it changes nothing. Raises NotFound."""
    async with needs.store.begin() as work:
        mandate = await _mandate(work, subscriber_id, mandate_id)
        if mandate.revoke_time is None:
            now = needs.clock.now()
            mandate = replace(mandate, revoke_time=now)
            await work.save_mandate(subscriber_id, mandate, now, cause)
        return mandate


async def get(needs: Needs, own: str, request_id: str) -> Request:
    """A request; another subscriber's does not exist for a subscriber. Raises NotFound."""
    async with needs.store.begin() as work:
        request = await work.request(request_id, lock=False)
    if request is None or (own and request.subscriber_id != own):
        raise _not_found()
    return request


async def _get(work: Work, command: Command, request_id: str, *, lock: bool = True) -> Request:
    request = await work.request(request_id, lock=lock)
    if request is None or (command.own and request.subscriber_id != command.own):
        raise _not_found()
    return request


async def _done(needs: Needs, work: Work, command: Command, request: Request) -> Request:
    await keep(needs, work, request, _policy(needs, request), command.cause)
    await work.remember(command.caller, command.method, command.message, request.request_id)
    return request


async def _mandate(work: Work, subscriber_id: str, mandate_id: str) -> Mandate:
    for mandate in await work.mandates(subscriber_id):
        if mandate.mandate_id == mandate_id:
            return mandate
    raise NotFound("MANDATE_NOT_FOUND", "There is no such mandate.")


async def _from_pack(needs: Needs, sighting: Sighting, pack_version: int) -> Evidence | None:
    found = await needs.case_file.evidence(sighting.case_id, [sighting.sighting_id], pack_version)
    return found.get(sighting.sighting_id)


async def _usable_evidence(needs: Needs, sighting: Sighting) -> Evidence:
    evidence = await _from_pack(needs, sighting, 0)
    if evidence is None:
        raise FailedPrecondition("NOT_PACKED_YET", "The pack does not hold this sighting.")
    try:
        normalise(evidence.source_url)
    except InvalidAddressError as error:
        raise FailedPrecondition(error.reason, "The address of the content cannot be used.") from None
    return evidence


def _policy(needs: Needs, request: Request) -> Policy:
    policy = needs.policies.get(request.platform)
    if policy is None:
        raise FailedPrecondition(UNKNOWN_PLATFORM, "There is no policy for this platform any more.")
    return policy


def _move(request: Request, move: Move, at: datetime, reason: str = "") -> None:
    try:
        request.move(move, at, reason)
    except IllegalMoveError as error:
        raise _illegal(error.state, error.move) from None


def _illegal(state: State, move: Move) -> FailedPrecondition:
    return FailedPrecondition(
        ILLEGAL_TRANSITION,
        "The request is not in a state that allows this.",
        metadata={"state": state.value, "move": move.value},
    )


def _too_often() -> FailedPrecondition:
    return FailedPrecondition("RESUBMISSION_LIMIT", "It was submitted as often as is decent.")


def _wrong(field: str, reason: str) -> InvalidInput:
    return InvalidInput(reason, "A field is out of its bounds.", violations=[(field, reason)])


def _not_found() -> NotFound:
    return NotFound("REMOVAL_REQUEST_NOT_FOUND", "There is no such removal request.")
