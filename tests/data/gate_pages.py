"""What do the gate's pages show? Documents with made-up figures that look like real ones: reports, stages, index.

The figures are drawn from a seeded generator; nothing in them was ever measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from services.gate.adapters.actions_html import render_actions
from services.gate.adapters.index_html import render_index
from services.gate.adapters.leaks_html import render_leaks
from services.gate.adapters.rules import load_gates, load_register
from services.gate.adapters.stages_html import render_document
from services.gate.domain.curves import Curve, CurveKind, CurvePoint
from services.gate.domain.dependencies import DependencyChange, DependencyState, Standing, standings
from services.gate.domain.kpis import Kpi, Outcome, TestKind, TestRun
from services.gate.domain.leak_signals import LeakCounts
from services.gate.domain.measures import Distribution, Excluded, Fact, Measurement, Stratum, value_text
from services.gate.domain.overrides import Override
from services.gate.domain.overview import Glance, overview
from services.gate.domain.report import Occasion, Past, Report, make_report
from services.gate.domain.stages import Exit, JudgedIndex, judge_exit, make_stage_report
from services.gate.domain.statistics import Interval, clopper_pearson, ecdf
from services.gate.domain.user_actions import ActionCounts

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
RELEASE = "2026.3.0"
_HOUR = 3_600_000.0
_PLATFORMS = ("naver", "kakao", "google", "youtube", "meta", "x", "tiktok")
_GATES = load_gates()
_RUNS = {
    kind: TestRun(f"0199d2c0-0000-7000-8000-00000000000{n}", kind, "4f2a9c1d7e", 412 + n, 0, 3)
    for n, kind in enumerate(TestKind)
    if kind is not TestKind.ROLLBACK
}
_OVERRIDE = Override(
    decision_id=f"0199d2c0-0000-7000-8000-{1:012x}",
    release=RELEASE,
    stage="1",
    reason="FEW_EVENTS_YET",
    proposal_id=f"0199d2c0-0000-7000-8000-{2:012x}",
    proposer_ref="a" * 16,
    approver_refs=("b3f19c0d22aa4e71", "c07d5be0913f6a28"),
    create_time=NOW - timedelta(days=3),
)


def _id(number: int) -> str:
    return f"0199d2c1-0000-7000-8000-{number:012x}"


def _fact(ko: str, en: str, text: str) -> Fact:
    return Fact({"ko": ko, "en": en}, text)


def _class(name: str, count: int, ko: str, en: str) -> Excluded:
    return Excluded(name, count, {"ko": ko, "en": en})


def _part(dimension: str, name: str, size: int, value: float, low: float, high: float, required: int = 0) -> Stratum:
    return Stratum(dimension, name, size, value, Interval(low, high), required)


def _rate(kpi: Kpi, size: int, value: float, parts: Mapping[str, Sequence[str]], random: Random) -> Measurement:
    """A proportion with strata."""
    strata = []
    for dimension, names in parts.items():
        for number, name in enumerate(names):
            n = max(3, int(size / (number + 1.4) / 1.6))
            hits = min(n, max(0, round(n * random.gauss(value, 0.02))))
            required = kpi.required_size if dimension == "platform" else 0
            strata.append(Stratum(dimension, name, n, hits / n, clopper_pearson(hits, n), required))
    hits = round(size * value)
    return Measurement(
        value=hits / size,
        size=size,
        interval=clopper_pearson(hits, size),
        method="CLOPPER_PEARSON",
        strata=strata,
        excluded=[
            _class("PENDING", 17, "아직 기한이 남아 판단하지 않음", "not judged yet: there is time left"),
            _class("IMPOSSIBLE_ORDER", 2, "순서가 맞지 않는 기록", "records in an order that cannot be"),
        ],
        facts=[
            _fact("가장 나쁜 부분", "Worst part", f"{strata[-1].name} – {value_text(strata[-1].value, 'ratio')}"),
            _fact("전체와 종결 집단의 차이", "Difference between all and the closed cohort", "0.8 %p"),
        ],
        derivation_value=f"{size * 0.01:,.1f}",
        derivation_terms=[
            _fact("대상 건수", "Population", f"{size:,}"),
            _fact("1 %p당 추가 건수", "Further items per 1 %p", f"{size * 0.01:,.1f}"),
        ],
        records={kpi.sources[0]: size + 19},
    )


def _latency(kpi: Kpi, random: Random) -> Measurement:
    values = sorted(random.lognormvariate(7.2, 0.7) for _ in range(12_400))
    values[-3:] = [math.inf] * 3
    names = {"ko": "발견에서 사건 확정까지", "en": "Discovery to commit of the case"}
    groups = ("naver", "kakao-daum", "domestic-communities", "overseas-forums-and-paste-sites", "telegram-public")
    return Measurement(
        value=3_940.0,
        size=len(values),
        interval=Interval(3_850.0, 4_050.0),
        method="ORDER_STATISTICS",
        distribution=Distribution(names, ecdf(values), kpi.threshold.value, 3),
        strata=[
            _part("channel_group", name, 4_000 - 700 * n, 2_500.0 * 1.9**n, 2_000 * 1.9**n, 3_400 * 1.9**n)
            for n, name in enumerate(groups)
        ]
        + [_part("kind", name, 5_000, 3_000.0, 2_900, 3_200) for name in ("FACE", "PII")],
        excluded=[
            _class("REVIEW_BAND", 214, "사람이 먼저 판단하는 구간", "a person decides first"),
            _class("DROPPED", 3, "회원이 처리 정지 상태", "the subscriber is suspended"),
        ],
        facts=[
            _fact("중앙값", "Median", "1.34 s"),
            _fact("기준 이내 비율", "Share within the threshold", "99.976 % [99.930 %, 99.995 %]"),
            _fact("끝내 열리지 않음", "Never became a case", "3"),
        ],
        derivation_value="1.2 / min",
        derivation_terms=[
            _fact("발생률", "Event rate", "1.2 / min"),
            _fact("지연 1분당 적체", "Backlog per minute of delay", "1.2"),
        ],
        records={"match_decision_log": 12_617, "case_lifecycle_log": 12_400},
    )


def _survival(group: str, scale_hours: float, count: int, random: Random) -> Curve:
    """A Kaplan–Meier curve of made-up removals, followed for at most 240 hours."""
    times = sorted((min(random.expovariate(1 / scale_hours), 240.0), random.random() < 0.12) for _ in range(count))
    share, at_risk, points, censored = 1.0, count, [], []
    for hours, lost in times:
        if lost or hours >= 240:
            censored.append(hours * _HOUR)
        else:
            share *= 1 - 1 / at_risk
            half = 1.96 * share * math.sqrt(max(1 - share, 0.0) / at_risk)
            low, high = max(0.0, share - half), min(1.0, share + half)
            points.append(CurvePoint(hours * _HOUR, round(share, 5), round(low, 5), round(high, 5), at_risk))
        at_risk -= 1
    name = {"ko": "접수에서 삭제 확인까지 (Kaplan–Meier)", "en": "Acceptance to confirmed removal (Kaplan–Meier)"}
    return Curve(name, CurveKind.SURVIVAL, "ms", points[:400], group, censored[:400], 72 * _HOUR, 0.5)


def _ttr(kpi: Kpi, random: Random) -> Measurement:
    curves = [_survival("", 52, 360, random)]
    curves += [_survival(name, 30 + 14 * n, 120 - 12 * n, random) for n, name in enumerate(_PLATFORMS)]
    hours = [(22 + 11 * n, 17 + 9 * n, 29 + 14 * n) for n in range(len(_PLATFORMS))]
    strata = [
        _part("platform", name, 120 - 12 * n, *(each * _HOUR for each in hours[n]), 100)
        for n, name in enumerate(_PLATFORMS)
    ]
    return Measurement(
        value=37.4 * _HOUR,
        size=360,
        interval=Interval(33 * _HOUR, 43 * _HOUR),
        method="BROOKMEYER_CROWLEY",
        strata=strata,
        excluded=[_class("NOT_RECEIVED", 21, "플랫폼이 접수하지 않음", "never received by the platform")],
        facts=[_fact("중도절단", "Censored", "71"), _fact("재제출", "Resubmissions", "44")],
        derivation_value="18.7",
        derivation_terms=[
            _fact("하루 요청 수", "Requests a day", "12.0"),
            _fact("24시간당 대기", "Waiting per 24 h", "12.0"),
        ],
        records={"removal_request_log": 1_604},
        curves=curves,
    )


def _recurrence(kpi: Kpi, random: Random) -> Measurement:
    measured = _rate(kpi, 480, 0.058, {"kind": ("FACE", "PII", "PRE_UPLOAD")}, random)
    points, share = [], 0.0
    for day in range(1, 31):
        share += random.uniform(0.0006, 0.0034)
        points.append(CurvePoint(float(day), round(share, 5), round(share * 0.7, 5), round(share * 1.4, 5), 480))
    name = {"ko": "종결 뒤 다시 발견될 때까지", "en": "Closing to being found again"}
    return replace(measured, curves=[Curve(name, CurveKind.INCIDENCE, "days", points, "", (), 30.0, 0.1)])


def _onboarding(kpi: Kpi) -> Measurement:
    days = [3.0, 5.5, 6.0, 8.5, 11.0]
    points = [CurvePoint(day, (n + 1) / 5) for n, day in enumerate(days)]
    name = {"ko": "요구에서 규칙 적용까지", "en": "Requirement to rules live"}
    return Measurement(
        value=11.0,
        size=5,
        interval=None,
        method="ORDER_STATISTICS",
        strata=[Stratum("channel", f"channel-{n}", 1, day, None) for n, day in enumerate(days, 1)],
        curves=[Curve(name, CurveKind.ECDF, "days", points, "", (), 14.0, 0.9)],
        derivation_value="140 / d",
        records={"channel_scan_log": 61},
    )


def _measured(kpi: Kpi, random: Random) -> Measurement:
    groups = {"channel_group": ("naver", "kakao-daum", "domestic-communities", "overseas-forums", "telegram-public")}
    frozen: dict[str, str | int] = {
        "sample_id": _id(77), "design": "SIMPLE", "seed": "5f" * 32, "population_size": 18_204,
        "population_sha256": "3c" * 32, "manifest_sha256": "9a" * 32,
        "from": "2026-02-23T12:00:00+00:00", "to": "2026-03-09T11:00:00+00:00",
        "plan_version": "2026.1", "policy_version": "labelling_policy@2026.1+4c11d2e09a7f",
        "quality_version": "label_quality@2026.1",
    }  # fmt: skip
    match kpi.report:
        case "FaceMatchEvalReport_v1":
            measured = _rate(kpi, 1_000, 0.931, groups | {"kind": ("FACE",)}, random)
            return replace(measured, frozen=frozen)
        case "FalsePositiveAnalysisReport_v1":
            measured = _rate(kpi, 300, 0.083, groups, random)
            return replace(measured, frozen=frozen | {"design": "STRATIFIED"}, method="KORN_GRAUBARD")
        case "CaseLatencyReport_v1":
            return _latency(kpi, random)
        case "NotificationReliabilityReport_v1":
            parts = {"device_class": ("android", "ios", "web"), "path": ("STREAM", "PUSH", "SMS")}
            return _rate(kpi, 24_816, 0.9962, parts, random)
        case "RemovalSuccessRateReport_v1":
            return _rate(kpi, 412, 0.79, {"platform": _PLATFORMS, "cohort": ("CLOSED", "ALL")}, random)
        case "PlatformTTRReport_v1":
            return _ttr(kpi, random)
        case "RepostRecurrenceReport_v1":
            return _recurrence(kpi, random)
        case "ChannelCoverageReport_v1":
            return _rate(kpi, 2_140, 0.9, {"channel_group": _PLATFORMS}, random)
        case "ChannelOnboardingLeadtimeReport_v1":
            return _onboarding(kpi)
        case "PurgeAuditReport_v1":
            return _rate(kpi, 1_870, 0.994, {"type": ("EVIDENCE", "CAPTURE", "SPOOL")}, random)
        case _:
            return _rate(kpi, 22, 0.97, {"type": ("ACCESS", "CORRECTION", "DELETION", "SUSPENSION")}, random)


def _trend(kpi: Kpi, value: float, random: Random) -> list[Past]:
    """Eleven earlier reports around today's value."""
    found = []
    for n in range(11):
        share = kpi.threshold.unit == "ratio"
        then = min(1.0, random.gauss(value, 0.01)) if share else value * random.gauss(1, 0.02)
        outcome = Outcome.PASSED if kpi.threshold.holds(then) else Outcome.FAILED
        when = NOW - timedelta(days=7 * (11 - n))
        text = value_text(then, kpi.threshold.unit) if kpi.threshold.unit != "days" else f"{then:.1f} days"
        found.append(Past(_id(500 + n), f"2026.2.{n}", when, outcome, then, text, 1_000 + n))
    return found


@cache
def reports() -> tuple[Report, ...]:
    """A report of every figure, in the order of the gates."""
    made = []
    for number, kpi in enumerate(_GATES.kpis.values()):
        random = Random(kpi.report)
        measured = _measured(kpi, random)
        occasion = Occasion(
            report_id=_id(number), release=RELEASE, stage="ALL", now=NOW,
            gates_version=_GATES.version, code_version="4f2a9c1",
            cut_off={f"{name}/{p}": 10_000 + p for name in ("case", "detector", "notify") for p in (4, 5, 6, 7)},
            overrides=[_OVERRIDE], runs=_RUNS, trend=_trend(kpi, measured.value or 0.0, random),
        )  # fmt: skip
        made.append(make_report(kpi, measured, "", _RUNS.get(kpi.also_needs), occasion))
    return tuple(made)


@cache
def stage_reports() -> tuple[Report, ...]:
    """A report of every stage, with one dependency lost and one degraded."""
    by_name = {report.name: report for report in reports()}
    made: list[Report] = []
    for number, stage in enumerate(_GATES.stages.values()):
        leaving = Exit(
            stage=stage,
            reports=[by_name[name] for name in stage.reports],
            runs=_RUNS,
            records={artefact.record_type: 1_204 for artefact in stage.artefacts if artefact.record_type},
            indexes=[JudgedIndex(rule.index, Outcome.PASSED, "900 ms of 5000 ms") for rule in stage.indexes],
            standings=[each for each in shown_standings() if stage.name in each.dependency.stages],
            register_version="2026.1",
            stages=[report for report in made if report.document["stage"] in stage.composes],
        )
        occasion = Occasion(
            _id(100 + number), RELEASE, stage.name, NOW, _GATES.version, "4f2a9c1", {"case/4": 10}, [_OVERRIDE]
        )
        made.append(make_stage_report(leaving, judge_exit(leaving), occasion))
    return tuple(made)


def shown_standings() -> Sequence[Standing]:
    """The shipped register with a lost and a degraded entry."""
    changes = {
        name: DependencyChange(_id(900), name, state, reason, NOW - timedelta(days=2))
        for name, state, reason in (
            ("removal-channels", DependencyState.LOST, "FORM_WITHDRAWN"),
            ("push-providers", DependencyState.DEGRADED, "FCM_OUTAGE"),
        )
    }
    return standings(load_register(_GATES), changes)


def index() -> dict[str, Any]:
    """The overview; one gate has no report yet."""
    trends: dict[str, Sequence[Past]] = {}
    for report in [*reports(), *stage_reports()]:
        if report.name == "RightsRequestSLAReport_v1":
            continue
        kpi = _GATES.kpis.get(report.name)
        earlier = _trend(kpi, report.value or 0.0, Random(report.name)) if kpi else []
        last = Past(report.report_id, RELEASE, NOW, report.outcome, report.value, report.value_text, report.sample_size)
        trends[report.name] = [*earlier, last]
    return overview(Glance(_GATES, trends, shown_standings(), NOW, "4f2a9c1"))


def leaks() -> dict[str, object]:
    """A LeakSignalSummaryReport."""
    rows = [
        LeakCounts(dimension, name, 400 - 40 * n, 220, 60 - 5 * n, 20, 300 - 30 * n, 0, 90 - 9 * n, 700 - 60 * n)
        for dimension, names in (
            ("source_type", ("WEB", "SNS", "FORUM", "DARK_WEB")),
            ("channel_group", (*_PLATFORMS, "domestic-communities")),
            ("kind", ("MOBILE_PHONE", "EMAIL", "RESIDENT_NUMBER", "BANK_ACCOUNT")),
        )
        for n, name in enumerate(names)
    ]
    rows.append(LeakCounts("refusal", "CHANNEL_BLOCKED", 0, 0, 0, 0, 0, 31, 0, 0))
    return _period(LeakCounts("total", "", 1_204, 611, 181, 44, 979, 31, 260, 2_411), rows)


def actions() -> dict[str, object]:
    """A UserActionOutcomeReport."""
    rows = [
        ActionCounts("severity", name, 300 - 80 * n, 150 - 40 * n, 60 - 20 * n, 50 - 20 * n, 20)
        for n, name in enumerate(("HIGH", "MEDIUM"))
    ]
    rows += [
        ActionCounts("kind", name, 180 - 20 * n, 90 - 9 * n, 30 - 5 * n, 25, 10)
        for n, name in enumerate(("FACE_OWN", "MOBILE_PHONE", "FACE_OTHER", "ADDRESS"))
    ]
    return _period(ActionCounts("total", "", 520, 260, 120, 85, 40), rows)


def _period(total: Any, rows: Sequence[Any]) -> dict[str, object]:
    return {
        "start": (NOW - timedelta(days=30)).isoformat(timespec="seconds"),
        "end": NOW.isoformat(timespec="seconds"),
        "total": asdict(total),
        "rows": [asdict(row) for row in rows],
        "cut_off": {"detector/4": 12_617, "detector/5": 12_004},
    }


def empty_report() -> Report:
    """A report of a gate that could not be measured, for a release without tests."""
    kpi = _GATES.kpis["CaseLatencyReport_v1"]
    occasion = Occasion(_id(300), RELEASE, "ALL", NOW, _GATES.version, "4f2a9c1", {})
    return make_report(kpi, None, "MEASUREMENT_FAILED", None, occasion)


def pages() -> dict[str, bytes]:
    """Every page by name."""
    return {name: make() for name, make in _makers().items()}


def names() -> list[str]:
    """What the pages are called, without making them."""
    return sorted(_makers())


def _makers() -> dict[str, Callable[[], bytes]]:
    made = {report.name: partial(render_document, report.document) for report in [*reports(), *stage_reports()]}
    return made | {
        "index": lambda: render_index(index()),
        "LeakSignalSummaryReport": lambda: render_leaks(leaks()),
        "UserActionOutcomeReport": lambda: render_actions(actions()),
        "empty": lambda: render_document(empty_report().document),
    }


def write_pages(folder: Path) -> None:
    """Saves every page, so that a person can look at them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / f"{name}.html").write_bytes(page)
