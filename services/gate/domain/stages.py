"""May a stage be left? The exit list of a stage judged, and the report that composes what it asks for.

The document follows `schemas/stage_report_v1.json`; the figures in it are those of the reports it composes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.gate.domain.dependencies import Standing, said
from services.gate.domain.kpis import Artefact, Outcome, Stage, TestKind, TestRun, test_outcome, worst
from services.gate.domain.overrides import printed
from services.gate.domain.report import Occasion, Report, needed_tests, past_entry

STAGE_SCHEMA = "stage_report_v1"
NOT_MEASURABLE_YET = "NOT_MEASURABLE_YET"
MAX_REASONS = 64


@dataclass(frozen=True)
class JudgedIndex:
    """How current an index in memory was."""

    index: str
    outcome: Outcome
    said: str
    """The figure, or the reason."""


@dataclass(frozen=True)
class Exit:
    """All that the judgement about a stage rests on."""

    stage: Stage
    reports: Sequence[Report]
    runs: Mapping[TestKind, TestRun]
    records: Mapping[str, int]
    """Records by type."""
    indexes: Sequence[JudgedIndex] = ()
    standings: Sequence[Standing] = ()
    """Of the dependencies of this stage."""
    register_version: str = ""
    stages: Sequence[Report] = ()
    """Reports of the stages that it composes."""


@dataclass(frozen=True)
class Entry:
    """One line of an exit list, judged."""

    outcome: Outcome
    reason: str
    """For the reasons of the decision; empty where it says nothing that is not said already."""


@dataclass(frozen=True)
class Verdict:
    """What the exit list gives together."""

    outcome: Outcome
    reasons: Sequence[str]
    passed: int
    """Lines of the list that passed."""
    entries: int


def judge_exit(leaving: Exit) -> Verdict:
    """The worst outcome wins over reports, indexes, tests, artefacts, dependencies and composed stages."""
    entries = list(_entries(leaving))
    return Verdict(
        outcome=worst(entry.outcome for entry in entries),
        reasons=[entry.reason for entry in entries if entry.reason][:MAX_REASONS],
        passed=sum(entry.outcome is Outcome.PASSED for entry in entries),
        entries=len(entries),
    )


def _entries(leaving: Exit) -> Iterator[Entry]:
    for report in leaving.reports:
        yield Entry(report.outcome, f"{report.name}: {report.outcome} {' '.join(report.reasons)}".rstrip())
    for index in leaving.indexes:
        yield Entry(index.outcome, f"{index.index}: {index.outcome} {index.said}")
    for kind in leaving.stage.tests:
        outcome, reason = test_outcome(leaving.runs.get(kind))
        yield Entry(outcome, f"{kind}: {outcome} {reason}" if reason else "")
    for artefact in leaving.stage.artefacts:
        outcome, reason = judge_artefact(artefact, leaving)
        yield Entry(outcome, f"{artefact.name}: {outcome} {reason}" if reason else "")
    for standing in leaving.standings:
        yield Entry(standing.outcome, said(standing))
    for stage in leaving.stages:
        yield Entry(stage.outcome, "" if stage.outcome is Outcome.PASSED else f"{stage.name}: {stage.outcome}")


def judge_artefact(artefact: Artefact, leaving: Exit) -> tuple[Outcome, str]:
    """Whether an artefact is there: records of its type, or its report with something in it."""
    if not artefact.record_type and not artefact.report:
        return Outcome.ERROR, NOT_MEASURABLE_YET
    if present(artefact, leaving):
        return Outcome.PASSED, ""
    return Outcome.INCONCLUSIVE, "NO_DATA"


def present(artefact: Artefact, leaving: Exit) -> int:
    """Records, or the size of the report's sample."""
    if artefact.record_type:
        return leaving.records.get(artefact.record_type, 0)
    made = {report.name: report.sample_size for report in leaving.reports} | {r.name: 1 for r in leaving.stages}
    return made.get(artefact.report, 0)


def make_stage_report(leaving: Exit, verdict: Verdict, occasion: Occasion) -> Report:
    """The report of a stage. Its sample is the exit list: lines that passed, of all lines."""
    stage = leaving.stage
    text = f"{verdict.passed} / {verdict.entries}"
    document = {
        "schema": STAGE_SCHEMA,
        "report_id": occasion.report_id,
        "name": stage.report,
        "title": dict(stage.title),
        "release": occasion.release,
        "stage": stage.name,
        "create_time": occasion.now.isoformat(timespec="seconds"),
        "outcome": verdict.outcome.value,
        "reasons": list(verdict.reasons),
        "passed": verdict.passed,
        "entries": verdict.entries,
        "reports": [_figure(report) for report in leaving.reports],
        "stages": [_composed(report) for report in leaving.stages],
        "tests": needed_tests(stage.tests, leaving.runs),
        "artefacts": [_artefact(each, leaving) for each in stage.artefacts],
        "indexes": [{"index": i.index, "outcome": i.outcome.value, "text": i.said} for i in leaving.indexes],
        "dependencies": [_dependency(standing) for standing in leaving.standings],
        "on_failure": [
            {"report": report.name, "actions": list(report.document["on_failure"])}
            for report in leaving.reports
            if report.outcome is not Outcome.PASSED
        ],
        "overrides": [printed(override) for override in occasion.overrides],
        "trend": [past_entry(past) for past in occasion.trend],
        "data": {"cut_off": dict(occasion.cut_off)},
        "versions": {
            "gates": occasion.gates_version,
            "code": occasion.code_version,
            "dependencies": leaving.register_version,
        },
    }
    return Report(
        report_id=occasion.report_id,
        name=stage.report,
        release=occasion.release,
        outcome=verdict.outcome,
        reasons=[],
        value_text=text,
        sample_size=verdict.passed,
        required_size=verdict.entries,
        create_time=occasion.now,
        document=document,
    )


_OF_FIGURE = (
    "report_id", "name", "title", "outcome", "reasons", "value", "threshold", "window", "interval", "worst", "trend",
)  # fmt: skip


def _figure(report: Report) -> dict[str, Any]:
    """A report that is composed, at a glance: what stands in it, with the worst part of each dimension."""
    document = report.document
    worst_parts = {(part["dimension"], part["name"]) for part in document["worst"]}
    parts = [part for part in document["strata"] if (part["dimension"], part["name"]) in worst_parts]
    sample = {key: document["sample"][key] for key in ("size", "required")}
    return {key: document[key] for key in _OF_FIGURE if key != "worst"} | {"sample": sample, "worst": parts}


def _composed(report: Report) -> dict[str, Any]:
    return {
        "report_id": report.report_id,
        "name": report.name,
        "title": dict(report.document["title"]),
        "stage": report.document["stage"],
        "outcome": report.outcome.value,
        "passed": report.sample_size,
        "entries": report.required_size,
    }


def _artefact(artefact: Artefact, leaving: Exit) -> dict[str, Any]:
    outcome, _ = judge_artefact(artefact, leaving)
    return {
        "name": artefact.name,
        "record_type": artefact.record_type,
        "report": artefact.report,
        "count": present(artefact, leaving),
        "outcome": outcome.value,
    }


def _dependency(standing: Standing) -> dict[str, Any]:
    dependency = standing.dependency
    return {
        "id": dependency.dependency_id,
        "kind": dependency.kind.value,
        "title": dict(dependency.title),
        "owner": dependency.owner,
        "state": standing.state.value,
        "reason": standing.reason,
        "since": standing.since.isoformat(timespec="seconds"),
        "degrades": dict(dependency.degrades),
        "reports": list(dependency.reports),
        "outcome": standing.outcome.value,
    }
