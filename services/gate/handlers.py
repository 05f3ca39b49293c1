"""What the gate does: measures, judges a release, keeps test runs, shows."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.chassis.errors import AlreadyExists, InvalidInput, NotFound
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger, stage
from services.gate import operations
from services.gate.domain.indexes import judge_index
from services.gate.domain.junit import read_junit
from services.gate.domain.kpis import Gates, IndexRule, Kpi, Outcome, Stage, TestKind, TestRun, test_outcome, worst
from services.gate.domain.leak_signals import LeakCounts, LeakSignals
from services.gate.domain.measures import Measurement, case_latency, human_wait, notification_reliability
from services.gate.domain.overrides import Override, check_override
from services.gate.domain.report import Occasion, Report, make_report
from services.gate.domain.user_actions import ActionCounts, user_actions
from services.gate.ports import Command, Decision, RecordedRun, Records, Shelves, VerifyGrant, Views
from services.gate.sampling import measure_false_positives, measure_precision

log = logger(__name__)

Measure = Callable[[Kpi, Records, datetime], Awaitable[Measurement]]
"""Reads the records of a gate's window, which ends at the given time, and computes its figures."""

NOT_MEASURABLE_YET = "NOT_MEASURABLE_YET"
_BEFORE = timedelta(hours=1)
"""Commits are looked for from a little before the window: clocks of services differ."""


async def measure_case_latency(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of CaseLatencyReport_v1."""
    since = now - timedelta(days=kpi.window_days)
    decisions = await records.match_decisions(since, now)
    commits = await records.commits(since - _BEFORE)
    dropped = await records.dropped(since - _BEFORE)
    review_band = await records.count("match_decision_log", "REVIEW", since, now)
    measured = case_latency(kpi, decisions, commits, dropped, review_band, now)
    waits = human_wait(await records.human_waits(since, now))
    read = {"match_decision_log": len(decisions), "case_lifecycle_log": len(commits) + len(dropped)}
    return replace(measured, facts=[*measured.facts, *waits], records=read)


async def measure_notification_reliability(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of NotificationReliabilityReport_v1."""
    since = now - timedelta(days=kpi.window_days)
    notifications = await records.notifications(since, now)
    without = await records.count("notification_delivery_log", "NO_LIVE_DEVICE", since, now)
    foreign = await records.foreign("notification_delivery_log", since, now)
    measured = notification_reliability(kpi, notifications, without, now, foreign)
    return replace(measured, records={"notification_delivery_log": len(notifications)})


_FIGURES: Mapping[str, Measure] = {
    "FaceMatchEvalReport_v1": measure_precision,
    "FalsePositiveAnalysisReport_v1": measure_false_positives,
    "CaseLatencyReport_v1": measure_case_latency,
    "NotificationReliabilityReport_v1": measure_notification_reliability,
    "RemovalSuccessRateReport_v1": operations.measure_removal_success,
    "PlatformTTRReport_v1": operations.measure_time_to_removal,
    "RepostRecurrenceReport_v1": operations.measure_recurrence,
    "ChannelCoverageReport_v1": operations.measure_coverage,
    "ChannelOnboardingLeadtimeReport_v1": operations.measure_onboarding,
    "PurgeAuditReport_v1": operations.measure_purges,
    "RightsRequestSLAReport_v1": operations.measure_rights,
}
"""How the figures of each report are measured."""
MEASURES: Mapping[str, Measure] = {report: operations.complete(measure) for report, measure in _FIGURES.items()}
"""Reports that can be computed, each from a log without gaps; all others answer ERROR, never PASSED."""


@dataclass(frozen=True)
class Gatekeeper:
    """Judges releases."""

    gates: Gates
    views: Views
    shelves: Shelves
    clock: Clock
    code_version: str
    measures: Mapping[str, Measure]
    new_id: Callable[[], str] = uuid7

    async def evaluate(self, release: str, stage_name: str, command: Command) -> Decision:
        """Judges a release by the exit list of a stage. Raises InvalidInput UNKNOWN_STAGE.

        Measuring happens in a read-only view before the transaction that stores everything: of two equal
        requests at once the second throws its measurements away and answers with the first's decision.
        """
        exit_list = self.gates.stages.get(stage_name)
        if exit_list is None:
            raise InvalidInput(
                "UNKNOWN_STAGE", "There is no such stage.", violations=[("stage", "UNKNOWN_STAGE")]
            )
        if (done := await self._recall(command)) is not None:
            return done
        decision, cut_off = await self._judge(release, exit_list)
        async with self.shelves() as shelf:
            known = await shelf.recall(command)
            if known is None:
                await shelf.put_decision(decision, cut_off)
                await shelf.remember(command, decision.decision_id)
        return decision if known is None else await self.decision(known, "")

    async def _recall(self, command: Command) -> Decision | None:
        async with self.shelves() as shelf:
            known = await shelf.recall(command)
        return None if known is None else await self.decision(known, "")

    async def _judge(self, release: str, exit_list: Stage) -> tuple[Decision, Mapping[str, int]]:
        now = self.clock.now()
        async with self.shelves() as shelf:
            runs = await shelf.latest_runs(release)
            overrides = await shelf.overrides.of_release(release)
        async with self.views() as records:
            cut_off = await records.cut_off()
            present = await records.counts_by_type()
            occasion = Occasion(
                "", release, exit_list.name, now, self.gates.version, self.code_version, cut_off, overrides
            )
            reports = [
                await self._report(self.gates.kpis[name], records, runs, occasion)
                for name in exit_list.reports
            ]
            indexes = [await _index(rule, records, now) for rule in exit_list.indexes]
        further = [*indexes, *_missing_tests(exit_list, runs), *_missing_artefacts(exit_list, present)]
        outcome = worst([*(report.outcome for report in reports), *(found for found, _ in further)])
        reasons = [f"{r.name}: {r.outcome} {' '.join(r.reasons)}".rstrip() for r in reports]
        reasons += [reason for _, reason in further]
        decision = Decision(
            self.new_id(), release, exit_list.name, outcome, reasons[:64], now, reports
        )
        return decision, cut_off

    async def _report(
        self, kpi: Kpi, records: Records, runs: Mapping[TestKind, TestRun], occasion: Occasion
    ) -> Report:
        own = replace(occasion, report_id=self.new_id())
        measured, trouble = await self._measure(kpi, records, occasion.now)
        return make_report(kpi, measured, trouble, runs.get(kpi.also_needs), own)

    async def _measure(
        self, kpi: Kpi, records: Records, now: datetime
    ) -> tuple[Measurement | None, str]:
        """The measurement, or the reason why there is none: what cannot be measured never passes."""
        measure = self.measures.get(kpi.report)
        if measure is None:
            return None, NOT_MEASURABLE_YET
        try:
            with stage(f"measure_{kpi.report}"):
                return await measure(kpi, records, now), ""
        except Exception as error:
            log.error("measurement_failed", report=kpi.report, error=error)
            return None, "MEASUREMENT_FAILED"

    async def record_run(
        self, release: str, kind: TestKind, commit: str, junit: bytes, command: Command
    ) -> TestRun:
        """Keeps the counts of a test run. Raises InvalidInput for a document that cannot be taken."""
        counts = read_junit(junit)
        run = TestRun(self.new_id(), kind, commit, counts.passed, counts.failed, counts.skipped)
        digest = hashlib.sha256(junit).digest()
        async with self.shelves() as shelf:
            known = await shelf.recall(command)
            if known is None:
                await shelf.put_run(RecordedRun(run, release, digest, self.clock.now()))
                await shelf.remember(command, run.test_run_id)
                return run
            stored = await shelf.run(known)
        return stored or run

    async def decision(self, decision_id: str, release: str) -> Decision:
        """A decision by its id, or the latest about a release. Raises NotFound."""
        async with self.shelves() as shelf:
            found = await (
                shelf.decision(decision_id) if decision_id else shelf.latest_decision(release)
            )
        if found is None:
            raise NotFound("NO_SUCH_DECISION", "There is no such decision.")
        return found

    async def report(self, report_id: str) -> Report:
        """A report with its document. Raises NotFound."""
        async with self.shelves() as shelf:
            found = await shelf.report(report_id)
        if found is None:
            raise NotFound("NO_SUCH_REPORT", "There is no such report.")
        return found

    async def reports(self, name: str, before: str, limit: int) -> Sequence[Report]:
        """Reports, newest first, without documents."""
        async with self.shelves() as shelf:
            return await shelf.reports(name, before, limit)

    async def user_actions(
        self, start: datetime, end: datetime
    ) -> tuple[ActionCounts, Sequence[ActionCounts], Mapping[str, int]]:
        """UserActionOutcomeReport of a period: total, rows, and up to where records were read."""
        async with self.views() as records:
            cut_off = await records.cut_off()
            total, rows = user_actions(
                await records.upload_warnings(start, end), await records.upload_choices(start)
            )
        return total, rows, cut_off

    async def leak_signals(
        self, start: datetime, end: datetime
    ) -> tuple[LeakCounts, Sequence[LeakCounts], Mapping[str, int]]:
        """LeakSignalSummaryReport of a period: total, rows, and up to where records were read."""
        signals = LeakSignals()
        async with self.views() as records:
            cut_off = await records.cut_off()
            async for decision in records.leak_decisions(start, end):
                signals.add(decision)
            async for refused in records.refusals(start, end):
                signals.refuse(refused)
        total, rows = signals.summary()
        return total, rows, cut_off

    async def list_gates(self, start: int, limit: int) -> tuple[Sequence[Kpi], Mapping[str, Report]]:
        """Gates in the order of their file from a number on, with the last report of each."""
        page = list(self.gates.kpis.values())[start : start + limit]
        async with self.shelves() as shelf:
            return page, await shelf.last_reports([kpi.report for kpi in page])


@dataclass(frozen=True)
class WantedOverride:
    """What a caller says that two people have approved; `body` is what their grant covers."""

    decision_id: str
    release: str
    stage: str
    reason: str
    body: bytes


@dataclass(frozen=True)
class Overriding:
    """Lets a release go out although its decision is INCONCLUSIVE."""

    shelves: Shelves
    clock: Clock
    verify: VerifyGrant
    reference: Callable[[str], str]
    """Opaque reference of an actor."""

    async def override(self, wanted: WantedOverride, grant: bytes, command: Command) -> Decision:
        """Overrides a decision once. Returns it. Raises NotFound, PermissionDenied, AlreadyExists OVERRIDDEN_BEFORE or
        GRANT_USED, and what `check_override` raises."""
        async with self.shelves() as shelf:
            if await shelf.recall(command) is None:
                now = self.clock.now()
                verified = self.verify(grant, wanted.body, now)
                decision = await shelf.decision(wanted.decision_id)
                if decision is None:
                    raise NotFound("NO_SUCH_DECISION", "There is no such decision.")
                if decision.override is not None:
                    raise AlreadyExists("OVERRIDDEN_BEFORE", "The decision was overridden before.")
                latest = await shelf.overrides.is_latest(decision)
                about = (decision.release, decision.stage)
                check_override((wanted.release, wanted.stage), *about, decision.outcome, latest=latest)
                override = Override(
                    decision_id=decision.decision_id,
                    release=decision.release,
                    stage=decision.stage,
                    reason=wanted.reason,
                    proposal_id=verified.grant_id,
                    proposer_ref=verified.proposer_ref,
                    approver_refs=verified.approver_refs,
                    create_time=now,
                )
                await shelf.overrides.put(override, verified, self.reference(command.caller))
                await shelf.remember(command, decision.decision_id)
        async with self.shelves() as shelf:
            found = await shelf.decision(wanted.decision_id)
        if found is None:
            raise NotFound("NO_SUCH_DECISION", "There is no such decision.")
        return found


async def _index(rule: IndexRule, records: Records, now: datetime) -> tuple[Outcome, str]:
    """How current an index was, said whatever the outcome: the figure belongs to the judgement."""
    said = await records.replicas(rule.index, now - timedelta(minutes=rule.window_minutes), now)
    outcome, reason = judge_index(rule, said)
    return outcome, f"{rule.index}: {outcome} {reason}"


def _missing_tests(
    exit_list: Stage, runs: Mapping[TestKind, TestRun]
) -> list[tuple[Outcome, str]]:
    """What the needed kinds of tests take away; nothing where all have passed."""
    judged = [(kind, *test_outcome(runs.get(kind))) for kind in exit_list.tests]
    return [
        (outcome, f"{kind}: {outcome} {reason}")
        for kind, outcome, reason in judged
        if outcome is not Outcome.PASSED
    ]


def _missing_artefacts(exit_list: Stage, present: Mapping[str, int]) -> list[tuple[Outcome, str]]:
    """What artefacts that are not there take away."""
    missing = []
    for artefact in exit_list.artefacts:
        if not artefact.record_type:
            missing.append((Outcome.ERROR, f"{artefact.name}: ERROR {NOT_MEASURABLE_YET}"))
        elif not present.get(artefact.record_type):
            missing.append((Outcome.INCONCLUSIVE, f"{artefact.name}: INCONCLUSIVE NO_DATA"))
    return missing
