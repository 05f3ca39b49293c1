"""How does PrivacyService reach the use cases of requests about one's own data?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from misuse.case.v1 import privacy_service_pb2 as pb
from services.case.domain.people import LANGUAGES
from services.case.domain.rights import REASON_CHARS, Asked, Correction, Entry, RightsRequest, RightsState, wrong
from services.case.handlers.rights import Rights
from services.case.handlers.rights_answers import detail_in
from services.case.ports import Unit
from services.case.records import stamp
from services.case.servicer.calls import Needs, once, owner, page_size, position_of, token_of
from services.chassis.ids import parse_uuid

CHUNK_BYTES = 256 * 1024
EVERYTHING = "ALL"


class RightsCalls:
    """The part of PrivacyService that takes and answers requests."""

    _needs: Needs
    _rights: Rights

    async def CreateRightsRequest(self, request: pb.CreateRightsRequestRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        asked = Asked(
            request.type,
            request.requester,
            request.identity_basis,
            request.document_sha256,
            request.reason,
            request.detail,
        )
        async with self._needs.units() as unit:

            async def work() -> str:
                return await self._rights.receive(unit, subscriber_id, asked, self._needs.who())

            made = await once(unit, "CreateRightsRequest", request, work)
            shown = await self._right(unit, await self._rights.get(unit, made, ""))
        return pb.CreateRightsRequestResponse(rights_request=shown)

    async def GetRightsRequest(self, request: pb.GetRightsRequestRequest, context: Any) -> Any:
        """See the contract."""
        rights_request_id = parse_uuid(request.rights_request_id, "rights_request_id")
        async with self._needs.units() as unit:
            found = await self._rights.get(unit, rights_request_id, owner())
            shown = await self._right(unit, found)
            shown.detail = detail_in(await unit.rights.words(found))
        return pb.GetRightsRequestResponse(rights_request=shown)

    async def ListRightsRequests(self, request: pb.ListRightsRequestsRequest, context: Any) -> Any:
        """See the contract."""
        size, after, state = page_size(request.page_size), position_of(request.page_token), _state(request.state)
        async with self._needs.units() as unit:
            found = await self._rights.page(unit, owner(), state, size, after)
            shown = [await self._right(unit, each) for each in found]
        token = token_of(found[-1].due_time, found[-1].rights_request_id) if len(found) == size else ""
        return pb.ListRightsRequestsResponse(rights_requests=shown, next_page_token=token)

    async def FulfillRightsRequest(self, request: pb.FulfillRightsRequestRequest, context: Any) -> Any:
        """See the contract."""
        rights_request_id = parse_uuid(request.rights_request_id, "rights_request_id")
        corrections = [_correction(each) for each in request.corrections]
        async with self._needs.units() as unit:
            done = await self._rights.fulfil(
                unit, rights_request_id, request.statement, corrections, self._needs.who()
            )
            shown = await self._right(unit, done)
        return pb.FulfillRightsRequestResponse(rights_request=shown)

    async def RejectRightsRequest(self, request: pb.RejectRightsRequestRequest, context: Any) -> Any:
        """See the contract."""
        rights_request_id = parse_uuid(request.rights_request_id, "rights_request_id")
        async with self._needs.units() as unit:
            done = await self._rights.reject(
                unit, rights_request_id, request.reason, request.statement, self._needs.who()
            )
            shown = await self._right(unit, done)
        return pb.RejectRightsRequestResponse(rights_request=shown)

    async def ExtendRightsRequest(self, request: pb.ExtendRightsRequestRequest, context: Any) -> Any:
        """See the contract."""
        rights_request_id = parse_uuid(request.rights_request_id, "rights_request_id")
        async with self._needs.units() as unit:
            done = await self._rights.extend(
                unit, rights_request_id, request.reason, request.extensions, self._needs.who()
            )
            shown = await self._right(unit, done)
        return pb.ExtendRightsRequestResponse(rights_request=shown)

    async def GetRightsAnswer(
        self, request: pb.GetRightsAnswerRequest, context: Any
    ) -> AsyncIterator[pb.GetRightsAnswerResponse]:
        """See the contract."""
        rights_request_id = parse_uuid(request.rights_request_id, "rights_request_id")
        if len(request.reason) > REASON_CHARS:
            raise wrong("reason", "REASON_MALFORMED")
        async with self._needs.units() as unit:
            document = await self._rights.document(unit, rights_request_id, owner())
        for start in range(0, len(document), CHUNK_BYTES):
            yield pb.GetRightsAnswerResponse(chunk=document[start : start + CHUNK_BYTES])

    async def _right(self, unit: Unit, request: RightsRequest) -> pb.RightsRequest:
        rules, now = self._rights.rules, self._needs.now()
        refusal, language = rules.refusals.get(request.reason), LANGUAGES[0]
        if refusal and request.subscriber_id and (known := await unit.subscribers.get(request.subscriber_id)):
            language = known.language
        return pb.RightsRequest(
            rights_request_id=request.rights_request_id,
            type=request.type.value,
            state=request.state.value,
            create_time=stamp(request.create_time),
            due_time=stamp(request.due_time),
            subscriber_id=request.subscriber_id or "",
            requester=request.requester.value,
            identity_basis=request.identity_basis,
            extensions=request.extensions,
            answer_time=stamp(request.answer_time) if request.answer_time else None,
            overdue=request.overdue(now),
            reason_code=request.reason,
            reason_text=refusal.words[language] if refusal else "",
            objection_text=rules.objection[language] if request.state is RightsState.REJECTED else "",
            law=rules.types[request.type].law,
            rule_version=request.rule_version,
            erasure_id=request.erasure_id,
            answer_kept=request.answer_kept,
        )


def _state(name: str) -> RightsState | None:
    """The state that is asked for; None for all. Raises InvalidInput."""
    if name == EVERYTHING:
        return None
    try:
        return RightsState(name or RightsState.RECEIVED)
    except ValueError:
        raise wrong("state", "STATE_UNKNOWN") from None


def _correction(message: pb.Correction) -> Correction:
    try:
        return Correction(Entry(message.entry), message.content)
    except ValueError:
        raise wrong("corrections", "CORRECTION_MALFORMED") from None
