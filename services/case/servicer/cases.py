"""How does CaseService reach its use cases?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

from misuse.case.v1 import case_pb2, case_service_pb2_grpc
from misuse.case.v1 import case_service_pb2 as pb
from services.case.domain.cases import Case
from services.case.domain.words import Resolution, Verdict
from services.case.handlers import caselog, cases, evidence, review, search
from services.case.handlers.caselog import Span
from services.case.handlers.evidence import PackAsked
from services.case.ports import PackSummary, Unit
from services.case.servicer.calls import (
    Needs,
    number,
    number_of,
    once,
    owner,
    page_size,
    token_of_number,
)
from services.case.servicer.evidence import EvidenceCalls, heads_of
from services.case.servicer.lists import filter_of, order_of, place_of, token_of_place
from services.case.translate import case_message, guidance_message, pack_message, sighting_message, statistics_message
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid
from services.chassis.together import Piece, Together

SIGHTINGS_AT_MOST = 200
CHUNK_BYTES = 256 * 1024


class CaseServicer(EvidenceCalls, case_service_pb2_grpc.CaseServiceServicer):
    """See the contract."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        # `removal` asks for many at the same time.
        self._reading: Together[PackAsked] = Together()

    async def GetCase(self, request: pb.GetCaseRequest, context: Any) -> Any:
        """See the contract."""
        async with self._needs.units() as unit:
            root = await self._root(unit, parse_uuid(request.case_id, "case_id"))
            sightings = (await unit.cases.sightings([root.case_id], SIGHTINGS_AT_MOST))[root.case_id]
            message = await self._shown(unit, root.case_id)
            attached = (await unit.evidence.guidance([root.case_id]))[root.case_id]
        return pb.GetCaseResponse(
            case=message,
            sightings=[sighting_message(s) for s in sightings],
            guidance=[guidance_message(path, self._needs.guidance) for path in attached],
        )

    async def ListCases(self, request: pb.ListCasesRequest, context: Any) -> Any:
        """See the contract."""
        size, order = page_size(request.page_size), order_of(request)
        after = place_of(order, request.page_token)
        words = await search.asked_words(self._needs.units, request.text, self._needs.rules, self._needs.now())
        async with self._needs.units() as unit:
            found = await unit.cases.page(filter_of(request, words), order, size, after)
            attached = await unit.cases.attachments([case.case_id for case in found])
        token = token_of_place(order, found[-1]) if len(found) == size else ""
        return pb.ListCasesResponse(
            cases=[case_message(case, attached[case.case_id]) for case in found], next_page_token=token
        )

    async def GetCaseStatistics(self, request: pb.GetCaseStatisticsRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id") if request.subscriber_id else ""
        return statistics_message(await self._needs.counting.count(subscriber_id))

    async def WatchCases(
        self, request: pb.WatchCasesRequest, context: Any
    ) -> AsyncIterator[pb.WatchCasesResponse]:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id") if request.subscriber_id else ""
        async with aclosing(self._needs.watching.follow(request.resume_token, subscriber_id)) as changes:
            async for seen in changes:
                case = case_message(seen.case, seen.attached) if seen.case else None
                yield pb.WatchCasesResponse(case=case, event=seen.event, resume_token=seen.token)

    async def CloseCase(self, request: pb.CloseCaseRequest, context: Any) -> Any:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id")
        resolution = number(Resolution, request.resolution, "resolution")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await cases.close(unit, case_id, resolution, request.version, now, who)

            done = await once(unit, "CloseCase", request, work)
            return pb.CloseCaseResponse(case=await self._shown(unit, done))

    async def ReopenCase(self, request: pb.ReopenCaseRequest, context: Any) -> Any:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await cases.reopen(unit, case_id, request.reason, self._needs.rules, now, who)

            done = await once(unit, "ReopenCase", request, work)
            return pb.ReopenCaseResponse(case=await self._shown(unit, done))

    async def MergeCases(self, request: pb.MergeCasesRequest, context: Any) -> Any:
        """See the contract."""
        root_id = parse_uuid(request.root_case_id, "root_case_id")
        merged_id = parse_uuid(request.merged_case_id, "merged_case_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await cases.merge(unit, root_id, merged_id, self._needs.rules, now, who)

            done = await once(unit, "MergeCases", request, work)
            return pb.MergeCasesResponse(case=await self._shown(unit, done))

    async def UnmergeCase(self, request: pb.UnmergeCaseRequest, context: Any) -> Any:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await cases.unmerge(unit, case_id, self._needs.rules, now, who)

            done = await once(unit, "UnmergeCase", request, work)
            return pb.UnmergeCaseResponse(case=await self._shown(unit, done))

    async def RecordSubscriberVerdict(self, request: pb.RecordSubscriberVerdictRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        case_id = parse_uuid(request.case_id, "case_id")
        verdict = number(Verdict, request.verdict, "verdict")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                root_case_id = await cases.take_verdict(
                    unit, subscriber_id, case_id, verdict, now, who, sexual_content=request.sexual_content
                )
                await review.heard(unit, root_case_id, verdict, now)
                return root_case_id

            done = await once(unit, "RecordSubscriberVerdict", request, work)
            return pb.RecordSubscriberVerdictResponse(case=await self._shown(unit, done))

    async def GetEvidencePack(
        self, request: pb.GetEvidencePackRequest, context: Any
    ) -> AsyncIterator[pb.GetEvidencePackResponse]:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id")
        if request.version < 0:
            violation = ("version", "VERSION_NEGATIVE")
            raise InvalidInput(violation[1], "Versions count from 1.", violations=[violation])
        asked = PackAsked(case_id, request.version, owner(), self._needs.who())
        summary, archive = await self._reading(asked, self._read_packs)
        for start in range(0, len(archive), CHUNK_BYTES):
            chunk = archive[start : start + CHUNK_BYTES]
            yield pb.GetEvidencePackResponse(summary=None if start else pack_message(summary), chunk=chunk)

    async def _read_packs(
        self, pieces: Sequence[Piece[PackAsked]], _alone: bool
    ) -> Sequence[tuple[PackSummary, bytes]]:
        async with self._needs.units() as unit:
            return await evidence.read_packs(unit, pieces, self._needs.rules, self._needs.now())

    async def ListCaseLog(self, request: pb.ListCaseLogRequest, context: Any) -> Any:
        """See the contract. A merged case has a chain of its own, up to the merge and after it."""
        case_id = parse_uuid(request.case_id, "case_id")
        size, after = page_size(request.page_size), number_of(request.page_token)
        async with self._needs.units() as unit:
            if await unit.cases.get(case_id) is None:
                raise cases.unknown()
            chain = await unit.log.chain(case_id)
            found = await unit.log.entries(case_id, after, size)
            entries = [
                pb.CaseLogEntry(
                    sequence=item.entry.sequence,
                    record=await unit.log.open_record(chain.key_owner, item),
                    previous_hash=item.entry.previous_hash,
                    entry_hash=item.entry.entry_hash,
                )
                for item in found
            ]
        token = token_of_number(found[-1].entry.sequence) if len(found) == size else ""
        return pb.ListCaseLogResponse(entries=entries, next_page_token=token)

    async def VerifyCaseLog(self, request: pb.VerifyCaseLogRequest, context: Any) -> Any:
        """See the contract."""
        case_id = parse_uuid(request.case_id, "case_id") if request.case_id else ""
        kept = heads_of(request, case_id)
        async with self._needs.units() as unit:
            if case_id and await unit.cases.get(case_id) is None:
                raise cases.unknown()
            span = Span(case_id, request.after_chain_id, request.until_chain_id)
            result = await caselog.verify_log(unit, span, kept)
        return pb.VerifyCaseLogResponse(
            valid=not result.faults,
            chains=result.chains,
            entries=result.entries,
            faults=[
                pb.ChainFault(
                    chain_id=chain_id,
                    sequence=fault.sequence,
                    reason=fault.reason,
                    expected_hash=fault.expected,
                    actual_hash=fault.actual,
                    until_sequence=fault.until,
                )
                for chain_id, fault in result.faults
            ],
            head_hash=result.head.head_hash if case_id else b"",
            head_sequence=result.head.sequence,
            witnessed_entries=result.witnessed,
            purged_entries=result.purged,
        )

    async def _root(self, unit: Unit, case_id: str) -> Case:
        """The root of a case that the caller may see. Raises NotFound."""
        case = await unit.cases.get(case_id)
        if case is None or (owner() and case.subscriber_id != owner()):
            raise cases.unknown()
        root = await unit.cases.get(case.root_case_id)
        return root or case

    async def _shown(self, unit: Unit, case_id: str) -> case_pb2.Case:
        case = await unit.cases.get(case_id)
        if case is None:
            raise cases.unknown()
        return case_message(case, (await unit.cases.attachments([case_id]))[case_id])
