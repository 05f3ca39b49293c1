"""Do the figures count what they should, and do outcomes follow?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidInput
from services.chassis.ids import uuid7
from services.gate.adapters.html import render
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.domain.junit import MAX_DEPTH, Counts, read_junit
from services.gate.domain.kpis import Direction, Outcome, TestKind, TestRun, Threshold, judge, worst
from services.gate.domain.measures import (
    MatchDecision,
    Measurement,
    NotificationFacts,
    case_latency,
    duration_text,
    notification_reliability,
    percent_text,
)
from services.gate.domain.report import Occasion, Report, make_report
from services.gate.domain.statistics import Interval

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
GATES = load_gates()
LATENCY = GATES.kpis["CaseLatencyReport_v1"]
RELIABILITY = GATES.kpis["NotificationReliabilityReport_v1"]
SCHEMA = fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / "report_v1.json").read_text()))
PASSING_RUN = TestRun("run", TestKind.REGRESSION, "0123abc", 12, 0, 1)


def decided(decision_id: str, ago: timedelta = timedelta(hours=1), group: str = "NAVER") -> MatchDecision:
    return MatchDecision(decision_id, NOW - ago, NOW - ago + timedelta(seconds=1), group, "FACE")


def latency_of(*seconds: float | None) -> Measurement:
    """Decisions with the given latencies; None never became a case."""
    decisions = [decided(str(n)) for n in range(len(seconds))]
    commits = {
        d.decision_id: d.discover_time + timedelta(seconds=s)
        for d, s in zip(decisions, seconds, strict=True)
        if s is not None
    }
    return case_latency(LATENCY, decisions, commits, set(), 0, NOW)


def report_of(measured: Measurement | None, run: TestRun | None, trouble: str = "") -> Report:
    occasion = Occasion(uuid7(), "1.0.0", "ALL", NOW, GATES.version, "abc", {"case/0": 4})
    return make_report(LATENCY, measured, trouble, run, occasion)


# --- case latency ---


def test_latency_runs_from_discovery_to_the_commit() -> None:
    measured = latency_of(*(float(n) for n in range(1, 101)))
    assert (measured.value, measured.size) == (95_000.0, 100)


def test_a_decision_without_a_case_is_infinite_and_drags_the_percentile_with_it() -> None:
    assert latency_of(*[1.0] * 19, None).value == 1_000.0
    measured = latency_of(*[1.0] * 18, None, None)
    assert measured.value == math.inf
    assert measured.distribution is not None
    assert measured.distribution.infinite == 2


def test_what_may_still_come_and_what_must_not_come_are_classes_of_their_own() -> None:
    fresh = decided("fresh", timedelta(minutes=5))
    decisions = [decided("old"), fresh, decided("of one who left")]
    measured = case_latency(LATENCY, decisions, {"old": NOW}, {"of one who left"}, 7, NOW)
    assert measured.size == 1
    assert {e.name: e.count for e in measured.excluded} == {"PENDING": 1, "DROPPED": 1, "REVIEW_BAND": 7}


def test_a_clock_that_runs_ahead_makes_no_negative_latency() -> None:
    assert latency_of(-3.0).value == 0.0


def test_parts_are_measured_by_channel_group_and_kind() -> None:
    decisions = [decided("a"), decided("b"), decided("c", group="X")]
    commits = {d.decision_id: d.discover_time + timedelta(seconds=2) for d in decisions[:2]}
    measured = case_latency(LATENCY, decisions, commits, set(), 0, NOW)
    by_group = {s.name: (s.size, s.value) for s in measured.strata if s.dimension == "channel_group"}
    assert by_group == {"NAVER": (2, 2_000.0), "X": (1, math.inf)}


def test_without_decisions_nothing_is_claimed() -> None:
    measured = case_latency(LATENCY, [], {}, set(), 0, NOW)
    assert (measured.value, measured.interval, measured.size) == (None, None, 0)


# --- notification success ---


def sent(ago: timedelta = timedelta(hours=1), **fields: object) -> NotificationFacts:
    return replace(NotificationFacts("device", "android", "CASE_OPENED", NOW - ago), **fields)  # type: ignore[arg-type] # any field


def test_acknowledged_over_handed_over_with_all_others_in_classes() -> None:
    measured = notification_reliability(
        RELIABILITY,
        [
            *[sent(acknowledged=True, latency_ms=40.0)] * 3,
            sent(),
            sent(undeliverable=True),
            sent(superseded=True),
            sent(ago=timedelta(minutes=1)),
            replace(sent(), sent_time=None),
            *[replace(sent(held=True), sent_time=None)] * 2,
            sent(held=True, acknowledged=True),
            sent(invalid_token=True),
            replace(sent(invalid_token=True), sent_time=None),
            sent(invalid_token=True, acknowledged=True),
        ],
        without_device=5,
        now=NOW,
    )
    assert (measured.value, measured.size) == (5 / 7, 7)
    assert {e.name: e.count for e in measured.excluded} == {
        "SUPERSEDED": 1, "INVALID_TOKEN": 2, "QUIET_HOURS": 2, "NO_LIVE_DEVICE": 5, "NOT_HANDED_OVER": 1, "PENDING": 1,
        "NEVER_HANDED_OVER": 0, "FOREIGN_RECORD": 0,
    }


def test_an_acknowledgement_counts_even_when_the_notice_was_superseded_afterwards() -> None:
    fact = sent(acknowledged=True, superseded=True)
    assert notification_reliability(RELIABILITY, [fact], 0, NOW).value == 1.0


# --- outcomes ---


@pytest.mark.parametrize(
    ("value", "size", "expected"),
    [
        (300_000.0, 10_000, (Outcome.PASSED, "")),
        (300_001.0, 10_000, (Outcome.FAILED, "THRESHOLD_NOT_MET")),
        (math.inf, 10_000, (Outcome.FAILED, "THRESHOLD_NOT_MET")),
        (1.0, 9_999, (Outcome.INCONCLUSIVE, "SAMPLE_TOO_SMALL")),
        (None, 0, (Outcome.INCONCLUSIVE, "NO_DATA")),
    ],
)
def test_the_point_value_decides_on_enough_data(
    value: float | None, size: int, expected: tuple[Outcome, str]
) -> None:
    assert judge(LATENCY, value, size) == expected


def test_the_worst_outcome_wins_and_nothing_is_no_pass() -> None:
    assert worst([]) == Outcome.INCONCLUSIVE
    assert worst([Outcome.PASSED, Outcome.INCONCLUSIVE]) == Outcome.INCONCLUSIVE
    assert worst([Outcome.INCONCLUSIVE, Outcome.ERROR]) == Outcome.ERROR
    assert worst([Outcome.ERROR, Outcome.FAILED]) == Outcome.FAILED


@given(st.lists(st.sampled_from(Outcome), min_size=1))
def test_a_release_passes_only_when_everything_passes(outcomes: list[Outcome]) -> None:
    assert (worst(outcomes) is Outcome.PASSED) == all(o is Outcome.PASSED for o in outcomes)


def test_a_claim_looks_at_the_unfavourable_end() -> None:
    at_least = Threshold(Direction.AT_LEAST, 0.9, "ratio")
    assert at_least.claimable(Interval(0.9, 0.95)) and not at_least.claimable(Interval(0.89, 0.99))
    at_most = Threshold(Direction.AT_MOST, 0.07, "ratio")
    assert at_most.claimable(Interval(0.01, 0.07)) and not at_most.claimable(Interval(0.01, 0.08))


@pytest.mark.parametrize(
    ("run", "outcome", "reason"),
    [
        (PASSING_RUN, Outcome.PASSED, []),
        (None, Outcome.INCONCLUSIVE, ["TEST_RUN_MISSING"]),
        (replace(PASSING_RUN, failed=1), Outcome.FAILED, ["TESTS_FAILED"]),
        (replace(PASSING_RUN, passed=0), Outcome.INCONCLUSIVE, ["NO_TEST_RAN"]),
    ],
)
def test_a_good_figure_needs_its_tests(run: TestRun | None, outcome: Outcome, reason: list[str]) -> None:
    report = report_of(replace(latency_of(1.0), size=10_000), run)
    assert (report.outcome, report.reasons) == (outcome, reason)


# --- reports ---


REPORTS = {
    "a full one": report_of(latency_of(*(float(n) for n in range(1, 301)), None), PASSING_RUN),
    "infinite": report_of(latency_of(*[None] * 100), None),
    "without data": report_of(case_latency(LATENCY, [], {}, set(), 0, NOW), None),
    "not measured": report_of(None, PASSING_RUN, "NOT_MEASURABLE_YET"),
    "of one": report_of(latency_of(2.0), None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_keeps_the_schema_and_is_strict_json(name: str) -> None:
    document = REPORTS[name].document
    assert SCHEMA(json.loads(json.dumps(document, allow_nan=False)))


@pytest.mark.parametrize("name", REPORTS)
def test_every_page_is_whole_and_reaches_for_nothing_outside(name: str) -> None:
    page = render(json.loads(json.dumps(REPORTS[name].document))).decode()
    assert page.rstrip().endswith("</html>")
    for outside in ("http:", "https:", "src=", "@import", "url(", "<script", "<link", "javascript:"):
        assert outside not in page
    assert "default-src 'none'" in page
    assert REPORTS[name].outcome in page


def test_text_of_the_document_is_escaped_on_the_page() -> None:
    document = json.loads(json.dumps(REPORTS["a full one"].document))
    document["strata"][0]["name"] = "<img onerror=x>"
    page = render(document).decode()
    assert "<img" not in page and "&lt;img onerror=x&gt;" in page


def test_what_cannot_be_measured_is_an_error_and_shows_no_value() -> None:
    report = REPORTS["not measured"]
    assert (report.outcome, report.value_text, report.document["interval"]) == (Outcome.ERROR, "", None)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(0.4, "0 ms"), (999.4, "999 ms"), (1_240, "1.24 s"), (300_000, "5 min"), (250_000, "4 min 10 s"),
     (259_200_000, "72 h"), (math.inf, "∞")],
)  # fmt: skip
def test_durations_for_people(milliseconds: float, expected: str) -> None:
    assert duration_text(milliseconds) == expected


def test_a_miss_is_never_rounded_up_to_a_hundred_percent() -> None:
    assert percent_text(0.99999) == "99.999 %"
    assert percent_text(1.0) == "100.00 %"


# --- the gates as data ---


def test_there_are_eleven_gates_and_every_stage_ends_in_some() -> None:
    assert len(GATES.kpis) == 11
    assert set(GATES.stages) == {"1", "2", "3", "ALL"}
    assert set(GATES.stages["ALL"].reports) == set(GATES.kpis)


@pytest.mark.parametrize(
    ("report", "direction", "value", "days", "tests"),
    [
        ("FaceMatchEvalReport_v1", ">=", 0.90, 14, "REGRESSION"),
        ("FalsePositiveAnalysisReport_v1", "<=", 0.07, 14, "POLICY"),
        ("CaseLatencyReport_v1", "<=", 300_000, 7, "REGRESSION"),
        ("NotificationReliabilityReport_v1", ">=", 0.995, 7, "SCENARIO"),
        ("RemovalSuccessRateReport_v1", ">=", 0.75, 30, "POLICY"),
        ("PlatformTTRReport_v1", "<=", 72 * 3_600_000, 30, "SCENARIO"),
        ("RepostRecurrenceReport_v1", "<=", 0.10, 90, "REGRESSION"),
        ("ChannelCoverageReport_v1", ">=", 0.85, 30, "POLICY"),
        ("ChannelOnboardingLeadtimeReport_v1", "<=", 14, 90, "ROLLBACK"),
        ("PurgeAuditReport_v1", ">=", 0.98, 30, "POLICY"),
        ("RightsRequestSLAReport_v1", ">=", 0.95, 90, "SCENARIO"),
    ],
)
def test_thresholds_windows_and_tests_are_those_that_were_asked_for(
    report: str, direction: str, value: float, days: int, tests: str
) -> None:
    kpi = GATES.kpis[report]
    shown = {Direction.AT_LEAST: ">=", Direction.AT_MOST: "<="}[kpi.threshold.direction]
    assert (shown, kpi.threshold.value, kpi.window_days, kpi.also_needs) == (direction, value, days, tests)


def test_a_stage_that_names_an_unknown_report_stops_the_start(tmp_path: Path) -> None:
    own = tmp_path / "gate"
    own.mkdir()
    text = (SHIPPED / "kpis.yaml").read_text(encoding="utf-8")
    (own / "kpis.yaml").write_text(text.replace("reports: [FaceMatchEvalReport_v1]", "reports: [Nonsense_v1]"))
    with pytest.raises(ValueError, match="unknown report"):
        load_gates(tmp_path)


# --- JUnit ---


def test_junit_is_counted_whatever_the_nesting() -> None:
    document = b"""<?xml version="1.0"?><testsuites><testsuite name="a">
        <testcase name="1"/><testcase name="2"><failure>text</failure></testcase>
        <testcase name="3"><skipped/></testcase><testcase name="4"><error/><skipped/></testcase>
        <testcase name="5"><system-out>failure</system-out></testcase></testsuite></testsuites>"""
    assert read_junit(document) == Counts(passed=2, failed=2, skipped=1)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "JUNIT_UNREADABLE"),
        (b"<testsuite><testcase>", "JUNIT_UNREADABLE"),
        (b"<html/>", "JUNIT_UNREADABLE"),
        (b"\xff\xfe\x00", "JUNIT_UNREADABLE"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><testsuite/>', "JUNIT_DOCTYPE_REFUSED"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE x><testsuite/>'.encode("utf-16"), "JUNIT_DOCTYPE_REFUSED"),
        (b"<testsuite>" * (MAX_DEPTH + 1), "JUNIT_TOO_DEEP"),
        (b"<testsuite>" + b" " * 4 * 1024 * 1024, "JUNIT_TOO_LARGE"),
    ],
)
def test_what_is_no_plain_junit_is_refused_with_a_reason(document: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_junit(document)
    assert refused.value.reason == reason
