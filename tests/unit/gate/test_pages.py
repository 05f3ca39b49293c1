"""Do documents keep their schema, do pages draw whatever a document may hold, and is nothing in them markup?"""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gate.adapters.charts import NARROW, SMALL, WIDE, Frame, curve_chart, ecdf_chart, histogram_chart, spark
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.adapters.stages_html import render_document
from services.gate.domain.curves import Curve, CurveKind, CurvePoint
from services.gate.domain.kpis import Outcome
from services.gate.domain.measures import Distribution, Measurement, Stratum
from services.gate.domain.report import Occasion, make_report
from services.gate.domain.statistics import ecdf
from tests.data import gate_pages

SCHEMAS = {
    name: fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / f"{name}.json").read_text()))
    for name in ("report_v1", "stage_report_v1")
}
REPORTS = {report.name: report for report in gate_pages.reports()}
STAGES = {report.name: report for report in gate_pages.stage_reports()}
GATES = load_gates()
NEW = ("curves", "worst", "trend")
"""What reports from before stages had reports do not have."""


@pytest.mark.parametrize("name", [*REPORTS, *STAGES])
def test_a_document_follows_its_schema(name: str) -> None:
    document = (REPORTS | STAGES)[name].document
    assert SCHEMAS[document["schema"]](document)
    assert (REPORTS | STAGES)[name].form == document["schema"]


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_from_before_is_still_drawn(name: str) -> None:
    old: Any = deepcopy(REPORTS[name].document)
    for field in NEW:
        del old[field]
    del old["threshold_reason"]["terms"]
    old["tests"] = [{key: value for key, value in test.items() if key != "needed"} for test in old["tests"]]
    old["on_failure"] = [{"ko": action["ko"], "en": action["en"]} for action in old["on_failure"]]
    old["strata"] = [{key: value for key, value in part.items() if key != "required"} for part in old["strata"]]
    assert SCHEMAS["report_v1"](old)
    assert old["title"]["ko"] in render_document(old).decode()


@pytest.mark.parametrize("name", ["RemovalSuccessRateReport_v1", "PlatformTTRReport_v1", "RemovalOpsKPIReport_v1"])
def test_names_from_outside_are_not_markup(name: str) -> None:
    text = json.dumps((REPORTS | STAGES)[name].document).replace('"tiktok"', '"<script>alert(1)</script>"')
    text = text.replace('"google"', '"<script>alert(1)</script>"')
    page = render_document(json.loads(text)).decode()
    assert "&lt;script&gt;" in page
    assert "<script" not in page


def report_of(measured: Measurement, name: str = "CaseLatencyReport_v1") -> dict[str, Any]:
    occasion = Occasion(REPORTS["CaseLatencyReport_v1"].report_id, "1.0", "ALL", gate_pages.NOW, "v", "c", {})
    return dict(make_report(GATES.kpis[name], measured, "", None, occasion).document)


@pytest.mark.parametrize(("name", "worst"), [("CaseLatencyReport_v1", "slow"), ("RemovalSuccessRateReport_v1", "fast")])
def test_the_worst_part_lies_on_the_far_side_of_the_threshold(name: str, worst: str) -> None:
    parts = [Stratum("d", part, 9, value, None) for part, value in (("fast", 0.2), ("middle", 0.5), ("slow", 0.9))]
    assert [{"dimension": "d", "name": worst}] == report_of(Measurement(0.5, 27, None, "", strata=parts), name)["worst"]


def test_of_parts_that_are_equally_bad_the_largest_is_named() -> None:
    parts = [Stratum("d", name, size, math.inf, None) for name, size in (("few", 2), ("many", 70), ("some", 5))]
    document = report_of(Measurement(math.inf, 77, None, "", strata=parts))
    assert [{"dimension": "d", "name": "many"}] == document["worst"]
    assert SCHEMAS["report_v1"](document)


def numbers_of(path: str) -> list[tuple[str, float]]:
    """Coordinates of an SVG path of M, L, H, V."""
    found: list[tuple[str, float]] = []
    for letter, first, second in re.findall(r"([MLHV])(-?[\d.]+)(?: (-?[\d.]+))?", path):
        found.append(("y" if letter == "V" else "x", float(first)))
        if second:
            found.append(("y", float(second)))
    return found


def inside(path: str, frame: Frame) -> bool:
    """Whether all of a path lies in its frame."""
    bounds = {"x": frame.width, "y": frame.height}
    return all(0 <= value <= bounds[axis] for axis, value in numbers_of(path))


durations = st.lists(st.floats(0, 1e10, allow_nan=False) | st.just(math.inf), min_size=1, max_size=60).map(sorted)
frames = st.sampled_from([WIDE, NARROW, SMALL])


@settings(deadline=None, max_examples=60)
@given(values=durations, threshold=st.none() | st.floats(1, 1e9), frame=frames)
def test_any_distribution_stays_in_its_frame(values: list[float], threshold: float | None, frame: Frame) -> None:
    shown = Distribution({"ko": "가", "en": "a"}, ecdf(values), threshold, sum(map(math.isinf, values)))
    drawn = report_of(Measurement(values[-1], len(values), None, "", distribution=shown))["distribution"]
    if drawn["points"]:
        chart = ecdf_chart(drawn, frame)
        assert inside(chart["line"], frame)
        columns = histogram_chart(drawn, frame)["columns"]
        assert all(0 <= c["x"] and c["x"] + c["width"] <= frame.width and c["height"] >= 0 for c in columns)


curves = st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1), st.booleans()), max_size=30)


@settings(deadline=None, max_examples=60)
@given(steps=curves, kind=st.sampled_from(CurveKind), unit=st.sampled_from(["ms", "days"]), frame=frames)
def test_any_curve_stays_in_its_frame(
    steps: list[tuple[float, float, bool]], kind: CurveKind, unit: str, frame: Frame
) -> None:
    points = [CurvePoint(at, share, share / 2, (1 + share) / 2, 3) for at, share, lost in sorted(steps) if not lost]
    censored = [at for at, _, lost in steps if lost]
    curve = Curve({"ko": "가", "en": "a"}, kind, unit, points, "", censored, 7.0, 0.5)
    document = report_of(Measurement(1.0, 9, None, "", curves=[curve]))
    assert SCHEMAS["report_v1"](document)
    chart = curve_chart(document["curves"][0], frame)
    assert inside(chart["line"], frame)
    assert inside(chart["band"], frame)
    assert all(0 <= mark["x"] <= frame.width and 0 <= mark["y"] <= frame.height for mark in chart["censored"])
    assert len(chart["x_ticks"]) <= 14


pasts = st.lists(st.none() | st.floats(0, 1e9) | st.just(math.inf), max_size=14)


@settings(deadline=None, max_examples=60)
@given(values=pasts, threshold=st.floats(0, 1e9))
def test_a_trend_is_drawn_from_two_values_on(values: list[float | None], threshold: float) -> None:
    trend = [
        {
            "value": {"number": None if value is None or math.isinf(value) else value, "infinite": value == math.inf},
            "outcome": Outcome.PASSED.value,
        }
        for value in values
    ]
    drawn = spark(trend, {"number": threshold})
    known = [value for value in values if value is not None]
    assert (drawn is None) == (len(known) < 2)
    if drawn is not None:
        assert len(known) == len(drawn["dots"])
        assert all(0 <= dot["y"] <= drawn["height"] and 0 <= dot["x"] <= drawn["width"] for dot in drawn["dots"])
