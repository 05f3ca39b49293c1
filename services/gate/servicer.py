"""How calls to the gate are translated. Decides nothing."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.gate.v1 import dependencies_pb2, gate_service_pb2_grpc, leak_signals_pb2
from misuse.gate.v1 import gate_service_pb2 as pb
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid
from services.chassis.tokens import current_actor
from services.gate.depending import Depending
from services.gate.domain.dependencies import DependencyState
from services.gate.domain.kpis import Gates, Kpi, Outcome, TestKind
from services.gate.domain.leak_signals import LeakCounts
from services.gate.domain.overrides import Override, may_ship
from services.gate.domain.report import Report
from services.gate.domain.user_actions import ActionCounts
from services.gate.handlers import Gatekeeper, Overriding, WantedOverride
from services.gate.ports import Command, Decision, Heads, LogHead, Render, Sealed
from services.gate.sampling import Sampling
from services.gate.translate_dependencies import dependency_message
from services.gate.translate_samples import progress_message, sample_message
from services.gate.watching import WatchingReleases

_RELEASE = re.compile(r"[A-Za-z0-9._+-]{1,128}")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_LONGEST_PERIOD = timedelta(days=366)
_NAME = re.compile(r"[A-Za-z0-9_]{0,64}")
_DEPENDENCY = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True)
class Pages:
    """How documents become pages for people."""

    report: Render
    """Of figures and of stages."""
    leaks: Render
    actions: Render
    index: Render


@dataclass(frozen=True)
class SignedLog:
    """The heads of the case log as they were published, and the gate's signature over them."""

    heads: Heads
    seal: Sealed


class GateServicer(gate_service_pb2_grpc.GateServiceServicer):
    """GateService."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        gates: Gates,
        pages: Pages,
        overriding: Overriding,
        sampling: Sampling,
        log: SignedLog,
        watching: WatchingReleases,
        depending: Depending,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._gates = gates
        self._pages = pages
        self._overriding = overriding
        self._sampling = sampling
        self._log = log
        self._watching = watching
        self._depending = depending

    async def WatchReleases(
        self, request: pb.WatchReleasesRequest, context: Any
    ) -> AsyncIterator[pb.WatchReleasesResponse]:
        """See the contract."""
        release = _release(request.release) if request.release else ""
        async with aclosing(self._watching.follow(request.resume_token, release)) as decisions:
            async for seen in decisions:
                decision = None if seen.decision is None else _decision(seen.decision)
                yield pb.WatchReleasesResponse(decision=decision, resume_token=seen.token, event=seen.event)

    async def ListDependencies(
        self, request: dependencies_pb2.ListDependenciesRequest, context: Any
    ) -> dependencies_pb2.ListDependenciesResponse:
        """See the contract."""
        size = _page_size(request.page_size, 200)
        after = _opened(request.page_token)
        found = [each for each in await self._depending.all() if each.dependency.dependency_id > after]
        version = self._depending.register.version
        response = dependencies_pb2.ListDependenciesResponse(
            dependencies=[dependency_message(each, version) for each in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = _token(found[size - 1].dependency.dependency_id)
        return response

    async def SetDependency(
        self, request: dependencies_pb2.SetDependencyRequest, context: Any
    ) -> dependencies_pb2.SetDependencyResponse:
        """See the contract."""
        _check(bool(_DEPENDENCY.fullmatch(request.dependency_id)), "dependency_id", "DEPENDENCY_MALFORMED")
        _check(request.state in list(DependencyState), "state", "STATE_UNKNOWN")
        _check(bool(_REASON.fullmatch(request.reason)), "reason", "REASON_MALFORMED")
        command = _command("SetDependency", request.request_id, request)
        standing = await self._depending.change(
            request.dependency_id, DependencyState(request.state), request.reason, command
        )
        return dependencies_pb2.SetDependencyResponse(
            dependency=dependency_message(standing, self._depending.register.version)
        )

    async def ListLogHeads(self, request: pb.ListLogHeadsRequest, context: Any) -> pb.ListLogHeadsResponse:
        """See the contract."""
        _check(len(request.chain_id) <= 80, "chain_id", "CHAIN_ID_MALFORMED")
        size = _page_size(request.page_size, 1_000, 200)
        token = _opened(request.page_token)
        if request.chain_id:
            found = await self._log.heads.of(request.chain_id, _place(token), size + 1)
        else:
            found = await self._log.heads.last(token, size + 1)
        page = found[:size]
        response = pb.ListLogHeadsResponse(heads=[_head(head) for head in page], document=self._log.seal(page))
        if len(found) > size:
            last = page[-1]
            response.next_page_token = _token(
                f"{last.sequence} {last.head_hash.hex()}" if request.chain_id else last.chain_id
            )
        return response

    async def EvaluateRelease(
        self, request: pb.EvaluateReleaseRequest, context: Any
    ) -> pb.EvaluateReleaseResponse:
        """See the contract."""
        command = _command("EvaluateRelease", request.request_id, request)
        decision = await self._gatekeeper.evaluate(_release(request.release), request.stage, command)
        return pb.EvaluateReleaseResponse(decision=_decision(decision))

    async def OverrideRelease(
        self, request: pb.OverrideReleaseRequest, context: Any
    ) -> pb.OverrideReleaseResponse:
        """See the contract."""
        said = request.override
        _check(bool(_REASON.fullmatch(said.reason)), "override.reason", "REASON_MALFORMED")
        wanted = WantedOverride(
            decision_id=parse_uuid(said.decision_id, "override.decision_id"),
            release=_release(said.release),
            stage=said.stage,
            reason=said.reason,
            body=said.SerializeToString(deterministic=True),
        )
        command = _command("OverrideRelease", request.request_id, request)
        decision = await self._overriding.override(wanted, request.grant, command)
        return pb.OverrideReleaseResponse(decision=_decision(decision))

    async def GetReleaseDecision(
        self, request: pb.GetReleaseDecisionRequest, context: Any
    ) -> pb.GetReleaseDecisionResponse:
        """See the contract."""
        if request.decision_id:
            decision_id, release = parse_uuid(request.decision_id, "decision_id"), ""
        else:
            decision_id, release = "", _release(request.release)
        _check(request.stage in ("", *self._gates.stages), "stage", "UNKNOWN_STAGE")
        decision = await self._gatekeeper.decision(decision_id, release, request.stage)
        return pb.GetReleaseDecisionResponse(decision=_decision(decision))

    async def GetReport(self, request: pb.GetReportRequest, context: Any) -> pb.GetReportResponse:
        """See the contract."""
        report = await self._gatekeeper.report(parse_uuid(request.report_id, "report_id"))
        draw = self._pages.report if request.format == pb.REPORT_FORMAT_HTML else _json
        return pb.GetReportResponse(summary=_summary(report), document=draw(report.document))

    async def ListReports(self, request: pb.ListReportsRequest, context: Any) -> pb.ListReportsResponse:
        """See the contract."""
        _check(bool(_NAME.fullmatch(request.name)), "name", "NAME_MALFORMED")
        size = _page_size(request.page_size, 200)
        token = _opened(request.page_token)
        before = parse_uuid(token, "page_token") if token else ""
        reports = await self._gatekeeper.reports(request.name, before, size + 1)
        response = pb.ListReportsResponse(reports=[_summary(report) for report in reports[:size]])
        if len(reports) > size:
            response.next_page_token = _token(reports[size - 1].report_id)
        return response

    async def RecordTestRun(
        self, request: pb.RecordTestRunRequest, context: Any
    ) -> pb.RecordTestRunResponse:
        """See the contract."""
        _check(request.kind in list(TestKind), "kind", "KIND_UNKNOWN")
        _check(bool(_COMMIT.fullmatch(request.commit)), "commit", "COMMIT_MALFORMED")
        command = _command("RecordTestRun", request.request_id, request)
        run = await self._gatekeeper.record_run(
            _release(request.release), TestKind(request.kind), request.commit.lower(), request.junit, command
        )
        return pb.RecordTestRunResponse(
            test_run_id=run.test_run_id, passed=run.passed, failed=run.failed, skipped=run.skipped
        )

    async def ListGates(self, request: pb.ListGatesRequest, context: Any) -> pb.ListGatesResponse:
        """See the contract."""
        size = _page_size(request.page_size, 100)
        token = _opened(request.page_token)
        _check(token.isdigit() or not token, "page_token", "BAD_PAGE_TOKEN")
        start = int(token or 0)
        kpis, last = await self._gatekeeper.list_gates(start, size + 1)
        response = pb.ListGatesResponse(gates=[self._gate(kpi, last) for kpi in kpis[:size]])
        if request.page:
            response.page = self._pages.index(await self._gatekeeper.overview())
        if len(kpis) > size:
            response.next_page_token = _token(str(start + size))
        return response

    async def ReportUserActions(
        self, request: pb.ReportUserActionsRequest, context: Any
    ) -> pb.ReportUserActionsResponse:
        """See the contract."""
        start, end = _period(request)
        total, rows, cut_off = await self._gatekeeper.user_actions(start, end)
        page = self._pages.actions(_period_document(start, end, total, rows, cut_off)) if request.page else b""
        return pb.ReportUserActionsResponse(
            total=_counts(total),
            rows=[_counts(row) for row in rows],
            cut_off=[f"{place}={position}" for place, position in cut_off.items()],
            page=page,
        )

    async def ReportLeakSignals(
        self, request: leak_signals_pb2.ReportLeakSignalsRequest, context: Any
    ) -> leak_signals_pb2.ReportLeakSignalsResponse:
        """See the contract."""
        start, end = _period(request)
        total, rows, cut_off = await self._gatekeeper.leak_signals(start, end)
        page = self._pages.leaks(_period_document(start, end, total, rows, cut_off)) if request.page else b""
        return leak_signals_pb2.ReportLeakSignalsResponse(
            total=_leak_counts(total),
            rows=[_leak_counts(row) for row in rows],
            cut_off=[f"{place}={position}" for place, position in cut_off.items()],
            page=page,
        )

    async def FreezeSample(self, request: pb.FreezeSampleRequest, context: Any) -> pb.FreezeSampleResponse:
        """See the contract."""
        command = _command("FreezeSample", request.request_id, request)
        sample = await self._sampling.freeze(request.report_name, command)
        return pb.FreezeSampleResponse(
            sample_id=sample.sample_id,
            manifest_sha256=sample.drawn.manifest_sha256,
            size=sample.size,
            sample=sample_message(sample),
        )

    async def GetSample(self, request: pb.GetSampleRequest, context: Any) -> pb.GetSampleResponse:
        """See the contract."""
        sample, seen = await self._sampling.show(parse_uuid(request.sample_id, "sample_id"))
        response = pb.GetSampleResponse(sample=sample_message(sample), progress=progress_message(seen))
        if request.reproduce:
            response.reproduced = await self._sampling.reproduced(sample)
        return response

    async def ListSamples(self, request: pb.ListSamplesRequest, context: Any) -> pb.ListSamplesResponse:
        """See the contract."""
        _check(bool(_NAME.fullmatch(request.report_name)), "report_name", "NAME_MALFORMED")
        size = _page_size(request.page_size, 200)
        token = _opened(request.page_token)
        before = parse_uuid(token, "page_token") if token else ""
        samples = await self._sampling.page(request.report_name, before, size + 1)
        response = pb.ListSamplesResponse(samples=[sample_message(sample) for sample in samples[:size]])
        if len(samples) > size:
            response.next_page_token = _token(samples[size - 1].sample_id)
        return response

    def _gate(self, kpi: Kpi, last: Mapping[str, Report]) -> pb.Gate:
        report = last.get(kpi.report)
        return pb.Gate(
            report_name=kpi.report,
            definition=kpi.definition["en"],
            version=self._gates.version,
            stages=self._gates.stages_of(kpi.report),
            last_report=None if report is None else _summary(report),
        )


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _command(method: str, request_id: str, request: Message) -> Command:
    return Command(current_actor().subject, method, request_id, request)


def _check(fine: bool, field: str, reason: str) -> None:
    if not fine:
        raise InvalidInput(reason, "A field is missing or out of bounds.", violations=[(field, reason)])


def _release(value: str) -> str:
    _check(bool(_RELEASE.fullmatch(value)), "release", "RELEASE_MALFORMED")
    return value


def _page_size(value: int, most: int, usual: int = 50) -> int:
    _check(0 <= value <= most, "page_size", "OUT_OF_BOUNDS")
    return value or usual


def _place(token: str) -> tuple[int, bytes]:
    """Where a page of one chain's heads ended; before the first without a token."""
    number, _, digest = token.partition(" ")
    try:
        return (int(number), bytes.fromhex(digest)) if token else (0, b"")
    except ValueError:
        raise InvalidInput("BAD_PAGE_TOKEN", "The page token is not one of ours.") from None


def _head(head: LogHead) -> pb.LogHead:
    message = pb.LogHead(chain_id=head.chain_id, sequence=head.sequence, head_hash=head.head_hash)
    message.update_time.FromDatetime(head.update_time)
    return message


def _token(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode()


def _opened(token: str) -> str:
    """What `_token` put in; empty for the first page."""
    if len(token) > 128:
        raise InvalidInput("BAD_PAGE_TOKEN", "The page token is not one of ours.")
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        raise InvalidInput("BAD_PAGE_TOKEN", "The page token is not one of ours.") from None


def _decision(decision: Decision) -> pb.ReleaseDecision:
    return pb.ReleaseDecision(
        decision_id=decision.decision_id,
        release=decision.release,
        stage=decision.stage,
        outcome=_outcome(decision.outcome),
        reports=[_summary(report) for report in decision.reports],
        create_time=_stamp(decision.create_time),
        reasons=decision.reasons,
        override=None if decision.override is None else _override(decision.override),
        may_ship=may_ship(decision.outcome, decision.override),
        stage_reports=[_summary(report) for report in decision.stage_reports],
        document=decision.document,
    )


def _override(override: Override) -> pb.AppliedOverride:
    return pb.AppliedOverride(
        proposal_id=override.proposal_id,
        reason=override.reason,
        proposer_ref=override.proposer_ref,
        approver_refs=override.approver_refs,
        create_time=_stamp(override.create_time),
    )


def _summary(report: Report) -> pb.ReportSummary:
    return pb.ReportSummary(
        report_id=report.report_id,
        name=report.name,
        outcome=_outcome(report.outcome),
        value_text=report.value_text,
        sample_size=report.sample_size,
        required_size=report.required_size,
        create_time=_stamp(report.create_time),
        release=report.release,
    )


def _counts(counts: ActionCounts) -> pb.UserActionCounts:
    return pb.UserActionCounts(
        dimension=counts.dimension,
        name=counts.name,
        shown=counts.shown,
        blurred=counts.blurred,
        cancelled=counts.cancelled,
        went_on=counts.went_on,
        no_answer=counts.no_answer,
        open=counts.open,
    )


def _leak_counts(counts: LeakCounts) -> leak_signals_pb2.LeakSignalCounts:
    return leak_signals_pb2.LeakSignalCounts(
        dimension=counts.dimension,
        name=counts.name,
        signals=counts.signals,
        with_data=counts.with_data,
        matched=counts.matched,
        in_review=counts.in_review,
        dropped=counts.dropped,
        refused=counts.refused,
        hits_of_subscribers=counts.hits_of_subscribers,
        hits_of_nobody=counts.hits_of_nobody,
    )


def _period_document(
    start: datetime,
    end: datetime,
    total: LeakCounts | ActionCounts,
    rows: Sequence[LeakCounts] | Sequence[ActionCounts],
    cut_off: Mapping[str, int],
) -> dict[str, object]:
    """What the pages of reports of a period are drawn from."""
    return {
        "start": start.isoformat(timespec="seconds"),
        "end": end.isoformat(timespec="seconds"),
        "total": asdict(total),
        "rows": [asdict(row) for row in rows],
        "cut_off": dict(cut_off),
    }


def _period(
    request: pb.ReportUserActionsRequest | leak_signals_pb2.ReportLeakSignalsRequest,
) -> tuple[datetime, datetime]:
    """First moment and first moment after it."""
    there = request.HasField("start_time") and request.HasField("end_time")
    _check(there, "start_time", "PERIOD_MALFORMED")
    start, end = (_moment(each) for each in (request.start_time, request.end_time))
    _check(timedelta(0) < end - start <= _LONGEST_PERIOD, "end_time", "PERIOD_MALFORMED")
    return start, end


def _moment(value: Timestamp) -> datetime:
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput("PERIOD_MALFORMED", "The period is not one that a calendar holds.") from None


def _outcome(outcome: Outcome) -> pb.Outcome.ValueType:
    return pb.Outcome.Value(f"OUTCOME_{outcome}")


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
