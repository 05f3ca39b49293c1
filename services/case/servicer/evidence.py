"""How does CaseService reach the use cases of exports and guidance, and what does a call say of log heads?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from misuse.case.v1 import case_service_pb2 as pb
from services.case.domain.chain import Head
from services.case.domain.guidance import Outcome
from services.case.handlers import guiding
from services.case.handlers.exporting import export_case
from services.case.servicer.calls import Needs, number, once
from services.case.translate import guidance_message
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid

CHUNK_BYTES = 256 * 1024
HEADS_AT_MOST = 1_000
DOCUMENTS_AT_MOST = 16
DOCUMENT_BYTES = 256 * 1024
_REASON_CHARS = 256


class EvidenceCalls:
    """The part of CaseService that exports cases and takes outcomes of guidance."""

    _needs: Needs

    async def ExportCase(
        self, request: pb.ExportCaseRequest, context: Any
    ) -> AsyncIterator[pb.ExportCaseResponse]:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id")
        reason = _reason(request.reason)
        documents = _documents(request)
        now, who = self._needs.now(), self._needs.who()
        async with self._needs.units() as unit:
            export_id, archive = await export_case(
                unit, self._needs.exporting, self._needs.rules, case_id, reason, documents, now, who
            )
        for start in range(0, len(archive), CHUNK_BYTES):
            chunk = archive[start : start + CHUNK_BYTES]
            yield pb.ExportCaseResponse(chunk=chunk, export_id="" if start else export_id)

    async def RecordGuidanceOutcome(self, request: pb.RecordGuidanceOutcomeRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        case_id = parse_uuid(request.case_id, "case_id")
        outcome = number(Outcome, request.outcome, "outcome")
        if not 1 <= len(request.path_id) <= 64:
            raise _malformed("path_id", "PATH_ID_MALFORMED")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who, rules = self._needs.now(), self._needs.who(), self._needs.rules
                return await guiding.take_outcome(
                    unit, subscriber_id, case_id, request.path_id, outcome, rules, now, who
                )

            root_id = await once(unit, "RecordGuidanceOutcome", request, work)
            path = await guiding.attached(unit, root_id, request.path_id)
        return pb.RecordGuidanceOutcomeResponse(guidance=guidance_message(path, self._needs.guidance))


def heads_of(request: pb.VerifyCaseLogRequest, case_id: str) -> list[tuple[str, Head]]:
    """The heads of a call. Raises InvalidInput HEADS_MALFORMED."""
    fine = len(request.heads) <= HEADS_AT_MOST and all(
        1 <= len(head.chain_id) <= 80 and len(head.head_hash) == 32 and head.sequence > 0 for head in request.heads
    )
    if case_id:
        fine = fine and all(head.chain_id == case_id for head in request.heads)
        fine = fine and not (request.after_chain_id or request.until_chain_id)
    if not fine or max(len(request.after_chain_id), len(request.until_chain_id)) > 80:
        raise _malformed("heads", "HEADS_MALFORMED")
    return [(head.chain_id, Head(head.sequence, head.head_hash)) for head in request.heads]


def _documents(request: pb.ExportCaseRequest) -> list[bytes]:
    documents = list(request.head_documents)
    if len(documents) > DOCUMENTS_AT_MOST or any(not 2 <= len(each) <= DOCUMENT_BYTES for each in documents):
        raise _malformed("head_documents", "HEADS_MALFORMED")
    return documents


def _reason(text: str) -> str:
    if not 1 <= len(text) <= _REASON_CHARS or not text.isprintable():
        raise _malformed("reason", "REASON_MALFORMED")
    return text


def _malformed(field: str, reason: str) -> InvalidInput:
    return InvalidInput(reason, "A field is missing or out of bounds.", violations=[(field, reason)])
