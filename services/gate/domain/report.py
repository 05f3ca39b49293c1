"""What a report says: one JSON document (`schemas/report_v1.json`), the truth that the HTML page is drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.gate.domain.judging import judge_measurement
from services.gate.domain.kpis import Direction, Kpi, Outcome, TestRun, test_outcome, worst
from services.gate.domain.measures import Distribution, Measurement, Stratum, value_text
from services.gate.domain.overrides import Override, printed
from services.gate.domain.statistics import CONFIDENCE, Interval

SCHEMA = "report_v1"


@dataclass(frozen=True)
class Report:
    """A report and what stands in lists of reports."""

    report_id: str
    name: str
    release: str
    outcome: Outcome
    reasons: Sequence[str]
    value_text: str
    sample_size: int
    required_size: int
    create_time: datetime
    document: Mapping[str, Any]


@dataclass(frozen=True)
class Occasion:
    """For what and over what a report is made."""

    report_id: str
    release: str
    stage: str
    now: datetime
    gates_version: str
    code_version: str
    cut_off: Mapping[str, int]
    """publisher/partition → last position that was read."""
    overrides: Sequence[Override] = ()
    """By which earlier decisions about the release were overridden."""


def make_report(
    kpi: Kpi,
    measured: Measurement | None,
    trouble: str,
    run: TestRun | None,
    occasion: Occasion,
) -> Report:
    """Judges what was measured. Without a measurement the outcome is ERROR for the reason `trouble`."""
    if measured is None:
        own, own_reasons = Outcome.ERROR, [trouble]
    else:
        own, own_reasons = judge_measurement(kpi, measured)
    tests, test_reason = test_outcome(run)
    outcome = worst([own, tests])
    reasons = [reason for reason in (*own_reasons, test_reason) if reason]
    figure = measured or Measurement(None, 0, None, "")
    text = "" if figure.value is None else value_text(figure.value, kpi.threshold.unit)
    document = {
        "schema": SCHEMA,
        "report_id": occasion.report_id,
        "name": kpi.report,
        "area": kpi.area,
        "title": dict(kpi.title),
        "release": occasion.release,
        "stage": occasion.stage,
        "create_time": occasion.now.isoformat(timespec="seconds"),
        "outcome": outcome.value,
        "figure_outcome": own.value,
        "reasons": reasons,
        "definition": dict(kpi.definition),
        "window": _window(kpi, occasion.now),
        "sample": _sample(kpi, figure),
        "estimator": dict(kpi.estimator),
        "value": _number(figure.value) | {"unit": kpi.threshold.unit, "text": text},
        "threshold": _threshold(kpi),
        "interval": _interval(kpi, figure),
        "distribution": _distribution(figure.distribution),
        "strata": [_stratum(kpi, stratum) for stratum in figure.strata],
        "excluded": [
            {"class": e.name, "count": e.count, "meaning": dict(e.meaning)} for e in figure.excluded
        ],
        "facts": [{"name": dict(fact.name), "text": fact.text} for fact in figure.facts],
        "tests": [_test(kpi, run, tests)],
        "threshold_reason": {"formula": dict(kpi.derivation), "value": figure.derivation_value},
        "on_failure": [dict(action) for action in kpi.on_failure],
        "overrides": [printed(override) for override in occasion.overrides],
        "data": {"cut_off": dict(occasion.cut_off), "records": dict(figure.records)},
        "versions": {"gates": occasion.gates_version, "code": occasion.code_version},
    }
    return Report(
        report_id=occasion.report_id,
        name=kpi.report,
        release=occasion.release,
        outcome=outcome,
        reasons=reasons,
        value_text=text,
        sample_size=figure.size,
        required_size=kpi.required_size,
        create_time=occasion.now,
        document=document,
    )


def _sample(kpi: Kpi, figure: Measurement) -> dict[str, Any]:
    sample: dict[str, Any] = {"plan": dict(kpi.sample_plan), "size": figure.size, "required": kpi.required_size}
    return sample | ({"frozen": dict(figure.frozen)} if figure.frozen else {})


def _window(kpi: Kpi, now: datetime) -> dict[str, Any]:
    start = now - timedelta(days=kpi.window_days)
    return {
        "days": kpi.window_days,
        "from": start.isoformat(timespec="seconds"),
        "to": now.isoformat(timespec="seconds"),
    }


def _threshold(kpi: Kpi) -> dict[str, Any]:
    sign = "≤" if kpi.threshold.direction is Direction.AT_MOST else "≥"
    return {
        "direction": kpi.threshold.direction.value,
        "number": kpi.threshold.value,
        "unit": kpi.threshold.unit,
        "text": f"{sign} {value_text(kpi.threshold.value, kpi.threshold.unit)}",
    }


def _interval(kpi: Kpi, figure: Measurement) -> dict[str, Any] | None:
    """The interval with its method, and whether the claim holds at its unfavourable end."""
    if not figure.method:
        return None
    return _ends(kpi, figure.interval) | {
        "confidence": CONFIDENCE,
        "method": figure.method,
        "claim_holds": None if figure.interval is None else kpi.threshold.claimable(figure.interval),
    }


def _ends(kpi: Kpi, interval: Interval | None) -> dict[str, Any]:
    """Both ends as numbers and for people; null where the sample is too small for an interval."""
    if interval is None:
        return {"low": None, "high": None, "text": ""}
    low, high = (value_text(end, kpi.threshold.unit) for end in interval)
    return {"low": _number(interval.low), "high": _number(interval.high), "text": f"{low} – {high}"}


def _number(value: float | None) -> dict[str, Any]:
    """JSON has no infinity: it is a flag of its own."""
    infinite = value is not None and math.isinf(value)
    return {"number": None if infinite else value, "infinite": infinite}


def _distribution(distribution: Distribution | None) -> dict[str, Any] | None:
    if distribution is None or not (distribution.points or distribution.infinite):
        return None
    return {
        "name": dict(distribution.name),
        "unit": "ms",
        "points": [[value, share] for value, share in distribution.points],
        "threshold": distribution.threshold,
        "infinite": distribution.infinite,
    }


def _stratum(kpi: Kpi, stratum: Stratum) -> dict[str, Any]:
    return {
        "dimension": stratum.dimension,
        "name": stratum.name,
        "size": stratum.size,
        "value": _number(stratum.value) | {"text": value_text(stratum.value, kpi.threshold.unit)},
        "interval": _ends(kpi, stratum.interval),
        "holds": kpi.threshold.holds(stratum.value),
    }


def _test(kpi: Kpi, run: TestRun | None, outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": kpi.also_needs.value,
        "outcome": outcome.value,
        "test_run_id": run.test_run_id if run else "",
        "commit": run.commit if run else "",
        "passed": run.passed if run else 0,
        "failed": run.failed if run else 0,
        "skipped": run.skipped if run else 0,
    }
