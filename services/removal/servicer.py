"""How are calls to removal translated? Decides nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.common.v1.access_pb2 import ROLE_DEVICE, ROLE_SUBSCRIBER
from misuse.removal.v1 import removal_service_pb2 as pb
from misuse.removal.v1 import removal_service_pb2_grpc
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid
from services.chassis.keys import keyed_hash
from services.chassis.tokens import Actor, current_actor
from services.removal.domain.filing import Mandate, Scope
from services.removal.domain.policy import LANGUAGES, Policy
from services.removal.domain.request import Attempt, Request
from services.removal.domain.states import Move, State
from services.removal.handlers import Needs, commands, guarding, reading
from services.removal.handlers.commands import Command
from services.removal.handlers.counting import list_counts
from services.removal.ports import Cause, Listing
from services.removal.translate import state_to_proto

MAX_STATEMENT = 2000
MAX_PLATFORMS = 32
_PLATFORM = re.compile(r"[a-z][a-z0-9_]{0,31}")
_REFERENCE = re.compile(r"[A-Za-z0-9._:/#-]{0,128}")
"""A reference is a code: what a platform writes beside it may quote the notice."""
_REASON = re.compile(r"([A-Z][A-Z0-9_]{0,62})?")
_MOVES = {
    pb.PLATFORM_ANSWER_ACCEPTED: Move.ACCEPT,
    pb.PLATFORM_ANSWER_REJECTED: Move.REJECT,
    pb.PLATFORM_ANSWER_REMOVED: Move.REPORT_REMOVED,
    pb.PLATFORM_ANSWER_TEMP_BLOCKED: Move.BLOCK,
    pb.PLATFORM_ANSWER_DEINDEXED: Move.DEINDEX,
}
_SCOPES = {
    pb.MANDATE_SCOPE_FILE: Scope.FILE,
    pb.MANDATE_SCOPE_SUPPLEMENT: Scope.SUPPLEMENT,
    pb.MANDATE_SCOPE_JOIN: Scope.JOIN,
}


class RemovalServicer(removal_service_pb2_grpc.RemovalServiceServicer):
    """RemovalService."""

    def __init__(self, needs: Needs, pepper: bytes) -> None:
        """`pepper` keys the hash of the actor that log records carry."""
        self._needs = needs
        self._pepper = pepper

    async def GetRemovalRequest(
        self, request: pb.GetRemovalRequestRequest, context: Any
    ) -> pb.GetRemovalRequestResponse:
        """See the contract."""
        found = await commands.get(self._needs, _own(), _request_id(request))
        return pb.GetRemovalRequestResponse(removal_request=_to_proto(found))

    async def ListRemovalRequests(
        self, request: pb.ListRemovalRequestsRequest, context: Any
    ) -> pb.ListRemovalRequestsResponse:
        """See the contract."""
        size = _page_size(request.page_size)
        listing = Listing(
            subscriber_id=parse_uuid(request.subscriber_id, "subscriber_id") if request.subscriber_id else "",
            case_id=parse_uuid(request.case_id, "case_id") if request.case_id else "",
            states=_states(request.states),
            size=size + 1,
            after=_position(request.page_token),
        )
        async with self._needs.store.begin() as work:
            found = await work.list_requests(listing)
        answer = pb.ListRemovalRequestsResponse(removal_requests=[_to_proto(item) for item in found[:size]])
        if len(found) > size:
            last = found[size - 1]
            answer.next_page_token = _token(f"{last.create_time.isoformat()}|{last.request_id}")
        return answer

    async def CreateRemovalRequest(
        self, request: pb.CreateRemovalRequestRequest, context: Any
    ) -> pb.CreateRemovalRequestResponse:
        """See the contract."""
        made = await commands.create(
            self._needs,
            self._command("CreateRemovalRequest", request),
            parse_uuid(request.case_id, "case_id"),
            parse_uuid(request.sighting_id, "sighting_id"),
            _platform(request.platform, "platform"),
        )
        return pb.CreateRemovalRequestResponse(removal_request=_to_proto(made))

    async def SupplementEvidence(
        self, request: pb.SupplementEvidenceRequest, context: Any
    ) -> pb.SupplementEvidenceResponse:
        """See the contract."""
        _check(request.pack_version >= 0, "pack_version", "OUT_OF_BOUNDS")
        _check(len(request.statement) <= MAX_STATEMENT, "statement", "TOO_LONG")
        command = self._command("SupplementEvidence", request)
        done = await commands.supplement(
            self._needs, command, _request_id(request), request.pack_version, request.statement
        )
        return pb.SupplementEvidenceResponse(removal_request=_to_proto(done))

    async def ResubmitRemovalRequest(
        self, request: pb.ResubmitRemovalRequestRequest, context: Any
    ) -> pb.ResubmitRemovalRequestResponse:
        """See the contract."""
        command = self._command("ResubmitRemovalRequest", request)
        done = await commands.resubmit(self._needs, command, _request_id(request))
        return pb.ResubmitRemovalRequestResponse(removal_request=_to_proto(done))

    async def RecordPlatformResponse(
        self, request: pb.RecordPlatformResponseRequest, context: Any
    ) -> pb.RecordPlatformResponseResponse:
        """See the contract."""
        move = _MOVES.get(request.answer)
        _check(_REFERENCE.fullmatch(request.reference) is not None, "reference", "MALFORMED")
        _check(_REASON.fullmatch(request.reason) is not None, "reason", "MALFORMED")
        if move is None:
            raise _wrong("answer", "ANSWER_UNKNOWN")
        done = await commands.record_response(
            self._needs,
            self._command("RecordPlatformResponse", request),
            _request_id(request),
            move,
            reference=request.reference,
            reason=request.reason or ("REJECTED" if move is Move.REJECT else ""),
            block_until=_time(request, "block_until_time"),
            reply_id=parse_uuid(request.reply_id, "reply_id") if request.reply_id else "",
        )
        return pb.RecordPlatformResponseResponse(removal_request=_to_proto(done))

    async def ListTransparencyCounts(
        self, request: pb.ListTransparencyCountsRequest, context: Any
    ) -> pb.ListTransparencyCountsResponse:
        """See the contract."""
        found = await list_counts(self._needs, request.first_month, request.last_month)
        return pb.ListTransparencyCountsResponse(counts=[pb.TransparencyCount(**asdict(count)) for count in found])

    async def ListPlatformReplies(
        self, request: pb.ListPlatformRepliesRequest, context: Any
    ) -> pb.ListPlatformRepliesResponse:
        """See the contract."""
        size, after = _page_size(request.page_size), _untoken(request.page_token)
        found = await reading.open_replies(self._needs, size + 1, after)
        answer = pb.ListPlatformRepliesResponse(replies=[_reply_to_proto(item) for item in found[:size]])
        if len(found) > size:
            answer.next_page_token = _token(found[size - 1].reply.reply_id)
        return answer

    async def RecordSubscriberAnswer(
        self, request: pb.RecordSubscriberAnswerRequest, context: Any
    ) -> pb.RecordSubscriberAnswerResponse:
        """See the contract."""
        _check(_REFERENCE.fullmatch(request.reference) is not None, "reference", "MALFORMED")
        known = request.answer in pb.SubscriberAnswer.values() and request.answer
        _check(bool(known), "answer", "ANSWER_UNKNOWN")
        answer = pb.SubscriberAnswer.Name(request.answer).removeprefix("SUBSCRIBER_ANSWER_")
        command = self._command("RecordSubscriberAnswer", request)
        done = await commands.tell(self._needs, command, _request_id(request), answer, request.reference)
        return pb.RecordSubscriberAnswerResponse(removal_request=_to_proto(done))

    async def ReviewRemovalRequest(
        self, request: pb.ReviewRemovalRequestRequest, context: Any
    ) -> pb.ReviewRemovalRequestResponse:
        """See the contract."""
        cause = _cause(self._pepper, current_actor())
        done, agreed = await guarding.review(self._needs, _request_id(request), request.approve, cause)
        return pb.ReviewRemovalRequestResponse(removal_request=_to_proto(done), approvals=agreed)

    async def HoldPlatform(self, request: pb.HoldPlatformRequest, context: Any) -> pb.HoldPlatformResponse:
        """See the contract."""
        _check(bool(request.reason) and _REASON.fullmatch(request.reason) is not None, "reason", "MALFORMED")
        platform, cause = _platform(request.platform, "platform"), _cause(self._pepper, current_actor())
        return pb.HoldPlatformResponse(held=await guarding.hold(self._needs, platform, request.reason, cause))

    async def ReleasePlatform(self, request: pb.ReleasePlatformRequest, context: Any) -> pb.ReleasePlatformResponse:
        """See the contract."""
        platform, cause = _platform(request.platform, "platform"), _cause(self._pepper, current_actor())
        held, agreed = await guarding.release(self._needs, platform, cause)
        return pb.ReleasePlatformResponse(held=held, approvals=agreed)

    async def WithdrawRemovalRequest(
        self, request: pb.WithdrawRemovalRequestRequest, context: Any
    ) -> pb.WithdrawRemovalRequestResponse:
        """See the contract."""
        command = self._command("WithdrawRemovalRequest", request)
        done = await commands.withdraw(self._needs, command, _request_id(request))
        return pb.WithdrawRemovalRequestResponse(removal_request=_to_proto(done))

    async def GetFilingPackage(self, request: pb.GetFilingPackageRequest, context: Any) -> pb.GetFilingPackageResponse:
        """See the contract."""
        package = await commands.package(self._needs, _own(), _request_id(request))
        filing = package.filing
        return pb.GetFilingPackageResponse(
            endpoint=package.endpoint,
            subject=filing.subject,
            body=filing.body,
            language=filing.language,
            fields=[pb.FilingField(name=name, value=value) for name, value in filing.fields],
            steps=package.policy.steps[_spoken(package.language)],
            links=_links(package.policy, package.language),
            fallbacks=[
                pb.FilingBody(
                    platform=body.platform,
                    display_name=body.display_name,
                    steps=body.steps[_spoken(package.language)],
                    links=_links(body, package.language),
                )
                for body in package.fallbacks
            ],
        )

    async def ListPlatforms(self, request: pb.ListPlatformsRequest, context: Any) -> pb.ListPlatformsResponse:
        """See the contract."""
        size, after = _page_size(request.page_size), _untoken(request.page_token)
        rest = [policy for policy in self._needs.policies.all() if policy.platform > after]
        async with self._needs.store.begin() as work:
            held = {gate.platform: gate.held for gate in await work.gates()}
        platforms = [_platform_to_proto(policy, held.get(policy.platform, "")) for policy in rest[:size]]
        answer = pb.ListPlatformsResponse(platforms=platforms)
        if len(rest) > size:
            answer.next_page_token = _token(rest[size - 1].platform)
        return answer

    async def GrantMandate(self, request: pb.GrantMandateRequest, context: Any) -> pb.GrantMandateResponse:
        """See the contract."""
        _check(len(request.platforms) <= MAX_PLATFORMS, "platforms", "TOO_MANY")
        _check(len(request.document_sha256) == 32, "document_sha256", "NOT_32_BYTES")
        expire_time = _time(request, "expire_time")
        if expire_time is None:
            raise _wrong("expire_time", "MISSING")
        mandate = await commands.grant_mandate(
            self._needs,
            self._command("GrantMandate", request),
            parse_uuid(request.subscriber_id, "subscriber_id"),
            [_platform(platform, "platforms") for platform in request.platforms],
            request.document_sha256,
            expire_time,
            _scopes(request.scope),
        )
        return pb.GrantMandateResponse(mandate=_mandate_to_proto(mandate))

    async def RevokeMandate(self, request: pb.RevokeMandateRequest, context: Any) -> pb.RevokeMandateResponse:
        """See the contract."""
        mandate = await commands.revoke_mandate(
            self._needs,
            parse_uuid(request.subscriber_id, "subscriber_id"),
            parse_uuid(request.mandate_id, "mandate_id"),
            _cause(self._pepper, current_actor()),
        )
        return pb.RevokeMandateResponse(mandate=_mandate_to_proto(mandate))

    def _command(self, method: str, request: Message) -> Command:
        actor = current_actor()
        return Command(actor.subject, method, request, _cause(self._pepper, actor), _own(actor))


def _cause(pepper: bytes, actor: Actor) -> Cause:
    ref = keyed_hash(pepper, "actor", actor.subject).hex()[:16]
    return Cause(role=actor.role, ref=ref, purpose=actor.purpose)


def _own(actor: Actor | None = None) -> str:
    """The only subscriber whose things the caller may see; empty for staff and back end."""
    who = actor or current_actor()
    return who.subject if who.role in (ROLE_SUBSCRIBER, ROLE_DEVICE) else ""


def _to_proto(request: Request) -> pb.RemovalRequest:
    return pb.RemovalRequest(
        removal_request_id=request.request_id,
        subscriber_id=request.subscriber_id,
        case_ids=request.case_ids,
        platform=request.platform,
        state=state_to_proto(request.state),
        episode=request.episode,
        policy_version=request.policy_version,
        create_time=_stamp(request.create_time),
        receive_time=_stamp(request.receive_time),
        end_time=_stamp(request.end_time),
        block_until_time=_stamp(request.block_until),
        attempts=[_attempt_to_proto(attempt) for attempt in request.attempts],
        missing_fields=request.missing,
        path=request.path,
        version=request.version,
        reason=request.reason,
        submit_time=_stamp(request.submit_time),
        look_time=_stamp(request.look_time),
        previous_request_id=request.previous_id,
        slot_time=_stamp(request.slot_time),
    )


def _attempt_to_proto(attempt: Attempt) -> pb.RemovalAttempt:
    return pb.RemovalAttempt(
        attempt=attempt.number,
        send_time=_stamp(attempt.send_time),
        outcome=attempt.outcome,
        reference=attempt.reference,
        reason=attempt.reason,
    )


def _mandate_to_proto(mandate: Mandate) -> pb.Mandate:
    return pb.Mandate(
        mandate_id=mandate.mandate_id,
        platforms=mandate.platforms,
        document_sha256=mandate.document_sha256,
        expire_time=_stamp(mandate.expire_time),
        revoke_time=_stamp(mandate.revoke_time),
        scope=[number for number, scope in _SCOPES.items() if scope in mandate.scope],
    )


def _platform_to_proto(policy: Policy, held: str) -> pb.Platform:
    return pb.Platform(
        platform=policy.platform,
        display_name=policy.display_name,
        policy_version=policy.version,
        path=policy.path,
        required_fields=[field.value for field in policy.required],
        kind=policy.kind,
        channel_group=policy.group,
        digest=policy.digest,
        approved=policy.approved,
        held=held,
    )


def _reply_to_proto(item: reading.ReadReply) -> pb.PlatformReply:
    return pb.PlatformReply(
        reply_id=item.reply.reply_id,
        removal_request_id=item.reply.request_id,
        platform=item.reply.platform,
        channel=item.reply.channel,
        receive_time=_stamp(item.reply.receive_time),
        outcome=item.reply.outcome,
        text=item.text,
    )


def _links(policy: Policy, language: str) -> list[pb.FilingLink]:
    return [pb.FilingLink(title=link.title[_spoken(language)], url=link.url) for link in policy.links[:16]]


def _spoken(language: str) -> str:
    return language if language in LANGUAGES else LANGUAGES[0]


def _scopes(values: Sequence[pb.MandateScope.ValueType]) -> tuple[Scope, ...]:
    """What a mandate lets us do; by default to file and to answer rejections."""
    if not values:
        return (Scope.FILE, Scope.SUPPLEMENT)
    _check(set(values) <= set(_SCOPES), "scope", "SCOPE_UNKNOWN")
    return tuple(scope for number, scope in _SCOPES.items() if number in values)


def _stamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _time(request: Any, field: str) -> datetime | None:
    """The time in a field; None when unset. Raises InvalidInput for one that no calendar has."""
    if not request.HasField(field):
        return None
    try:
        time: datetime = getattr(request, field).ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise _wrong(field, "TIME_MALFORMED") from None
    return time


def _states(values: Sequence[pb.RemovalState.ValueType]) -> tuple[State, ...]:
    names = {pb.RemovalState.Value(f"REMOVAL_STATE_{state}"): state for state in State}
    _check(len(values) <= len(names) and set(values) <= set(names), "states", "STATE_UNKNOWN")
    return tuple(names[value] for value in values)


def _request_id(request: Any) -> str:
    return parse_uuid(request.removal_request_id, "removal_request_id")


def _platform(value: str, field: str) -> str:
    _check(_PLATFORM.fullmatch(value) is not None, field, "PLATFORM_MALFORMED")
    return value


def _page_size(value: int) -> int:
    _check(0 <= value <= 200, "page_size", "OUT_OF_BOUNDS")
    return value or 50


def _position(token: str) -> tuple[datetime, str] | None:
    text = _untoken(token)
    if not text:
        return None
    time, _, request_id = text.partition("|")
    try:
        return datetime.fromisoformat(time).astimezone(UTC), parse_uuid(request_id, "page_token")
    except (ValueError, OverflowError, InvalidInput):
        raise _wrong("page_token", "BAD_PAGE_TOKEN") from None


def _token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _untoken(token: str) -> str:
    try:
        return base64.b64decode(token[:256], altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        raise _wrong("page_token", "BAD_PAGE_TOKEN") from None


def _check(fine: bool, field: str, reason: str) -> None:
    if not fine:
        raise _wrong(field, reason)


def _wrong(field: str, reason: str) -> InvalidInput:
    return InvalidInput(reason, "A field is missing or out of bounds.", violations=[(field, reason)])
