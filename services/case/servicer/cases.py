"""How does CaseService reach its use cases?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from misuse.case.v1 import case_pb2, case_service_pb2_grpc
from misuse.case.v1 import case_service_pb2 as pb
from services.case.domain.cases import Case
from services.case.domain.words import CaseKind, CaseState, Resolution, Verdict
from services.case.handlers import caselog, cases, evidence
from services.case.ports import CaseFilter, Unit
from services.case.servicer.calls import (
    Needs,
    number,
    number_of,
    once,
    owner,
    page_size,
    position_of,
    token_of,
    token_of_number,
)
from services.case.translate import case_message, pack_message, sighting_message
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid

SIGHTINGS_AT_MOST = 200
CHUNK_BYTES = 256 * 1024


class CaseServicer(case_service_pb2_grpc.CaseServiceServicer):
    """See the contract. WatchCases and ExportCase are not built yet."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    async def GetCase(self, request: pb.GetCaseRequest, context: Any) -> Any:
        """See the contract."""
        async with self._needs.units() as unit:
            root = await self._root(unit, parse_uuid(request.case_id, "case_id"))
            sightings = await unit.cases.sightings(root.case_id, SIGHTINGS_AT_MOST)
            message = await self._shown(unit, root.case_id)
        return pb.GetCaseResponse(case=message, sightings=[sighting_message(s) for s in sightings])

    async def ListCases(self, request: pb.ListCasesRequest, context: Any) -> Any:
        """See the contract."""
        size, after = page_size(request.page_size), position_of(request.page_token)
        async with self._needs.units() as unit:
            found = await unit.cases.page(_filter(request), size, after)
            attached = await unit.cases.attachments([case.case_id for case in found])
        token = token_of(found[-1].create_time, found[-1].case_id) if len(found) == size else ""
        return pb.ListCasesResponse(
            cases=[case_message(case, attached[case.case_id]) for case in found], next_page_token=token
        )

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
                return await cases.take_verdict(unit, subscriber_id, case_id, verdict, now, who)

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
        async with self._needs.units() as unit:
            now, who = self._needs.now(), self._needs.who()
            summary, archive = await evidence.read_pack(
                unit, case_id, request.version, owner(), self._needs.rules, now, who
            )
        for start in range(0, len(archive), CHUNK_BYTES):
            chunk = archive[start : start + CHUNK_BYTES]
            yield pb.GetEvidencePackResponse(summary=None if start else pack_message(summary), chunk=chunk)

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
        async with self._needs.units() as unit:
            if case_id and await unit.cases.get(case_id) is None:
                raise cases.unknown()
            result = await caselog.verify_log(unit, case_id)
        return pb.VerifyCaseLogResponse(
            valid=not result.faults,
            chains=result.chains,
            entries=result.entries,
            faults=[
                pb.ChainFault(chain_id=chain_id, sequence=fault.sequence, reason=fault.reason)
                for chain_id, fault in result.faults
            ],
            head_hash=result.head.head_hash if case_id else b"",
            head_sequence=result.head.sequence,
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


def _filter(request: pb.ListCasesRequest) -> CaseFilter:
    if len(request.channel_group) > 64 or not request.channel_group.isprintable():
        violation = ("channel_group", "CHANNEL_GROUP_MALFORMED")
        raise InvalidInput(violation[1], "A channel group is a short name.", violations=[violation])
    return CaseFilter(
        subscriber_id=parse_uuid(request.subscriber_id, "subscriber_id") if request.subscriber_id else "",
        states=tuple(number(CaseState, state, "states") for state in dict.fromkeys(request.states)),
        kind=number(CaseKind, request.kind, "kind") if request.kind else None,
        decision_id=parse_uuid(request.decision_id, "decision_id") if request.decision_id else "",
        channel_group=request.channel_group,
    )
