"""How decisions, reports and test runs lie in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import String, column, select, true, values
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, defer

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE
from misuse.gate.v1.events_pb2 import ReleaseEvaluated
from misuse.gate.v1.gate_service_pb2 import Outcome as OutcomeProto
from misuse.log.v1.record_pb2 import LogRecord, ReleaseDecisionLog
from services.chassis.idempotency import RequestMemory
from services.chassis.outbox import Outbox
from services.gate.adapters.dependencies import SqlDependencyChanges
from services.gate.adapters.labels import evaluation_of
from services.gate.adapters.overrides import SqlOverrides
from services.gate.adapters.tables import ReleaseDecisionRow, ReportRow, TestRunRow
from services.gate.domain.kpis import Outcome, TestKind, TestRun
from services.gate.domain.report import SCHEMA, Past, Report
from services.gate.ports import Command, Decision, RecordedRun


class SqlShelf:
    """See ports.Shelf."""

    def __init__(self, session: AsyncSession, outbox: Outbox, memory: RequestMemory) -> None:
        self._session = session
        self._outbox = outbox
        self._memory = memory
        self.overrides = SqlOverrides(session, outbox)
        self.dependencies = SqlDependencyChanges(session, outbox)

    async def recall(self, command: Command) -> str | None:
        """See Shelf."""
        return await self._memory.recall(
            self._session, command.caller, command.method, command.request_id, command.request
        )

    async def remember(self, command: Command, resource_id: str) -> None:
        """See Shelf."""
        await self._memory.remember(
            self._session, command.caller, command.method, command.request_id, command.request, resource_id
        )

    async def put_decision(self, decision: Decision, cut_off: Mapping[str, int]) -> None:
        """See Shelf."""
        self._session.add(
            ReleaseDecisionRow(
                decision_id=decision.decision_id,
                release=decision.release,
                stage=decision.stage,
                outcome=decision.outcome.value,
                reasons=list(decision.reasons),
                cut_off=dict(cut_off),
                create_time=decision.create_time,
                document=decision.document,
            )
        )
        self._session.add_all(
            _report_row(report, decision.decision_id, number)
            for number, report in enumerate((*decision.reports, *decision.stage_reports))
        )
        self._tell(decision)

    def _tell(self, decision: Decision) -> None:
        """The log record and the event of a decision; those of one release keep their order."""
        body = ReleaseDecisionLog(
            release=decision.release,
            stage=decision.stage,
            outcome=decision.outcome.value,
            report_ids=[report.report_id for report in (*decision.reports, *decision.stage_reports)][:32],
        )
        record = LogRecord(
            entity="release_decision",
            entity_id=decision.decision_id,
            entity_version=1,
            purpose=PURPOSE_RELEASE,
            occur_time=_stamp(decision.create_time),
            release_decision_log=body,
        )
        self._outbox.record(self._session, decision.release, record)
        for report in decision.reports:
            if (evaluation := evaluation_of(report)) is not None:
                self._outbox.record(self._session, decision.release, evaluation)
        event = ReleaseEvaluated(
            decision_id=decision.decision_id,
            release=decision.release,
            stage=decision.stage,
            outcome=OutcomeProto.Value(f"OUTCOME_{decision.outcome}"),
        )
        self._outbox.event(self._session, decision.release, event)

    async def put_run(self, run: RecordedRun) -> None:
        """See Shelf."""
        self._session.add(
            TestRunRow(
                test_run_id=run.run.test_run_id,
                release=run.release,
                kind=run.run.kind.value,
                commit=run.run.commit,
                passed=run.run.passed,
                failed=run.run.failed,
                skipped=run.run.skipped,
                junit_sha256=run.junit_sha256,
                create_time=run.create_time,
            )
        )

    async def run(self, test_run_id: str) -> TestRun | None:
        """See Shelf."""
        row = await self._session.get(TestRunRow, test_run_id)
        return None if row is None else _run(row)

    async def latest_runs(self, release: str) -> Mapping[TestKind, TestRun]:
        """See Shelf."""
        query = (
            select(TestRunRow)
            .where(TestRunRow.release == release)
            .ext(distinct_on(TestRunRow.kind))
            .order_by(TestRunRow.kind, TestRunRow.test_run_id.desc())
        )
        return {TestKind(row.kind): _run(row) for row in await self._session.scalars(query)}

    async def decision(self, decision_id: str) -> Decision | None:
        """See Shelf."""
        row = await self._session.get(ReleaseDecisionRow, decision_id)
        return None if row is None else await self._with_reports(row)

    async def latest_decision(self, release: str, stage: str) -> Decision | None:
        """See Shelf."""
        query = select(ReleaseDecisionRow).where(ReleaseDecisionRow.release == release)
        if stage:
            query = query.where(ReleaseDecisionRow.stage == stage)
        row = await self._session.scalar(query.order_by(ReleaseDecisionRow.decision_id.desc()).limit(1))
        return None if row is None else await self._with_reports(row)

    async def _with_reports(self, row: ReleaseDecisionRow) -> Decision:
        query = (
            select(ReportRow)
            .where(ReportRow.decision_id == row.decision_id)
            .order_by(ReportRow.number)
            .options(defer(ReportRow.document))
        )
        found = list(await self._session.scalars(query))
        return Decision(
            decision_id=row.decision_id,
            release=row.release,
            stage=row.stage,
            outcome=Outcome(row.outcome),
            reasons=row.reasons,
            create_time=row.create_time,
            reports=[_report(each, {}) for each in found if each.form == SCHEMA],
            override=await self.overrides.of_decision(row.decision_id),
            stage_reports=[_report(each, {}) for each in found if each.form != SCHEMA],
            document=row.document or b"",
        )

    async def report(self, report_id: str) -> Report | None:
        """See Shelf."""
        row = await self._session.get(ReportRow, report_id)
        return None if row is None else _report(row, row.document)

    async def reports(self, name: str, before: str, limit: int) -> Sequence[Report]:
        """See Shelf."""
        query = select(ReportRow).options(defer(ReportRow.document))
        if name:
            query = query.where(ReportRow.name == name)
        if before:
            query = query.where(ReportRow.report_id < before)
        rows = await self._session.scalars(query.order_by(ReportRow.report_id.desc()).limit(limit))
        return [_report(row, {}) for row in rows]

    async def last_reports(self, names: Sequence[str]) -> Mapping[str, Report]:
        """See Shelf."""
        query = (
            select(ReportRow)
            .options(defer(ReportRow.document))
            .where(ReportRow.name.in_(names))
            .ext(distinct_on(ReportRow.name))
            .order_by(ReportRow.name, ReportRow.report_id.desc())
        )
        return {row.name: _report(row, {}) for row in await self._session.scalars(query)}

    async def trends(self, names: Sequence[str], most: int) -> Mapping[str, Sequence[Past]]:
        """See Shelf."""
        wanted = values(column("name", String), name="wanted").data([(name,) for name in names])
        last = (
            select(ReportRow)
            .options(defer(ReportRow.document))
            .where(ReportRow.name == wanted.c.name)
            .order_by(ReportRow.report_id.desc())
            .limit(most)
            .lateral()
        )
        row = aliased(ReportRow, last)
        query = select(row).select_from(wanted).join(last, true()).options(defer(row.document)).order_by(row.report_id)
        found: dict[str, list[Past]] = {}
        if names:
            for each in await self._session.scalars(query):
                found.setdefault(each.name, []).append(_past(each))
        return found


def _report_row(report: Report, decision_id: str, number: int) -> ReportRow:
    return ReportRow(
        report_id=report.report_id,
        decision_id=decision_id,
        number=number,
        name=report.name,
        release=report.release,
        outcome=report.outcome.value,
        reasons=list(report.reasons),
        value_text=report.value_text,
        sample_size=report.sample_size,
        required_size=report.required_size,
        create_time=report.create_time,
        document=dict(report.document),
        form=report.form,
        value=report.value,
    )


def _report(row: ReportRow, document: Mapping[str, Any]) -> Report:
    return Report(
        report_id=row.report_id,
        name=row.name,
        release=row.release,
        outcome=Outcome(row.outcome),
        reasons=row.reasons,
        value_text=row.value_text,
        sample_size=row.sample_size,
        required_size=row.required_size,
        create_time=row.create_time,
        document=document,
        value=row.value,
    )


def _past(row: ReportRow) -> Past:
    return Past(
        report_id=row.report_id,
        release=row.release,
        create_time=row.create_time,
        outcome=Outcome(row.outcome),
        value=row.value,
        value_text=row.value_text,
        sample_size=row.sample_size,
    )


def _run(row: TestRunRow) -> TestRun:
    return TestRun(row.test_run_id, TestKind(row.kind), row.commit, row.passed, row.failed, row.skipped)


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
