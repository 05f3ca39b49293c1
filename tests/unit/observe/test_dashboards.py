"""Do dashboards and rules ask for what the code measures, and is every panel a question?"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.observe import build, dashboards, slos
from services.chassis import yaml_text
from services.chassis.metrics import declared

ROOT = Path(__file__).resolve().parents[3]
OBSERVE = ROOT / "deploy" / "observe"
MODULES = (
    *(f"services.chassis.{name}" for name in ("backlog", "bus", "due", "metrics", "outbox", "server")),
    *(f"services.{service}.metrics" for service in ("detector", "case", "notify", "removal")),
)
OF_THE_PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "up",
}
"""What prometheus_client and Prometheus themselves tell."""


def known() -> set[str]:
    """Names that a query may use."""
    for module in MODULES:
        importlib.import_module(module)
    measured = {series for each in declared().values() for series in each.series}
    return {each for each in measured if "_trial" not in each} | OF_THE_PROCESS


def rules() -> list[dict[str, Any]]:
    files = sorted((OBSERVE / "rules").glob("*.yaml"))
    return [rule for file in files for group in yaml_text.parse(file.read_text())["groups"] for rule in group["rules"]]


RECORDED = {rule["record"] for rule in rules() if "record" in rule}


def names_in(query: str) -> set[str]:
    """Metrics of a query: what stands before a selector, a window or an operator and is no function or label."""
    without = re.sub(r'"[^"]*"|\{[^}]*\}|\b(by|on|group_right|group_left)\s*\([^)]*\)', " ", query)
    return set(re.findall(r"\b(?:jikimi|process|up)\b[\w:]*|\b(?:jikimi|process)[_:][\w:]+", without))


QUERIES = [query.expr for each in dashboards.all_dashboards() for panel in each.panels() for query in panel.queries]


def test_the_reading_of_queries_finds_names() -> None:
    assert {"jikimi_a_total", "jikimi:b:rate5m", "up"} == names_in(
        'sum by (jikimi_label) (rate(jikimi_a_total{x="jikimi_no"}[5m])) / jikimi:b:rate5m + up'
    )


@pytest.mark.parametrize("query", sorted({*QUERIES, *(rule["expr"] for rule in rules())}))
def test_what_is_asked_for_is_measured(query: str) -> None:
    assert names_in(query)
    assert set() == names_in(query) - known() - RECORDED


def test_what_is_measured_is_asked_for_somewhere() -> None:
    asked = set().union(*(names_in(query) for query in (*QUERIES, *(rule["expr"] for rule in rules()))))
    unasked = [each.name for each in declared().values() if not asked & set(each.series) and "_trial" not in each.name]
    assert [] == unasked


def test_every_panel_is_a_question_asked_once_a_dashboard() -> None:
    for each in dashboards.all_dashboards():
        titles = [panel.title for panel in each.panels()]
        assert [] == [title for title in titles if "?" not in title and "wanted" not in title]
        assert len(titles) == len(set(titles)), each.uid


def test_what_lies_in_the_folder_is_what_the_code_makes() -> None:
    made = build.files()
    assert {str(file): text for file, text in made.items()} == {str(f): f.read_text(encoding="utf-8") for f in made}
    assert set(made) >= set((OBSERVE / "dashboards").glob("*.json"))


@pytest.mark.parametrize("file", sorted((OBSERVE / "dashboards").glob("*.json")), ids=lambda file: file.stem)
def test_panels_do_not_lie_on_each_other(file: Path) -> None:
    shown = json.loads(file.read_text(encoding="utf-8"))
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in shown["panels"]):
        columns, lines = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        cells = {(x, y) for x in columns for y in lines}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in shown["panels"]}) == len(shown["panels"])


def test_every_service_has_a_dashboard() -> None:
    made = {each.uid for each in dashboards.all_dashboards()}
    assert {"jikimi-overview", "jikimi-gates", "jikimi-removal", "jikimi-tracing"} <= made
    assert {f"jikimi-{service}" for service in dashboards.SERVICES} <= made


def test_service_levels_are_those_of_the_gates() -> None:
    kpis = yaml_text.parse((ROOT / "services" / "gate" / "rules" / "kpis.yaml").read_text())["kpis"]
    wanted = {each["report"]: each["threshold"]["value"] for each in kpis}
    budgets = {slo.name: slo.budget for slo in slos.SLOS}
    assert 300_000 == wanted["CaseLatencyReport_v1"] and 'le="300.0"' in slos.SLOS[0].bad
    assert {
        "case_latency": 0.05,  # the gate asks for the 95th percentile
        "ack": round(1 - wanted["NotificationReliabilityReport_v1"], 6),
        "removal": round(1 - wanted["RemovalSuccessRateReport_v1"], 6),
        "rights": round(1 - wanted["RightsRequestSLAReport_v1"], 6),
    } == budgets
