"""Is what the rules promise there: actions that can be typed, runbooks that exist, dependencies of all kinds?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.console.__main__ import _parser
from services.gate.adapters.rules import load_gates, load_register
from services.gate.domain.dependencies import DependencyKind
from services.gate.domain.kpis import Action

ROOT = Path(__file__).parents[3]
GATES = load_gates()
ACTIONS = [(kpi.report, action) for kpi in GATES.kpis.values() for action in kpi.on_failure]


def anchors(file: Path) -> set[str]:
    """Anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("report", "action"), ACTIONS, ids=lambda value: getattr(value, "action_id", value))
def test_an_action_can_be_typed_and_is_described(report: str, action: Action) -> None:
    page, _, anchor = action.runbook.partition("#")
    assert anchor in anchors(ROOT / page)
    if action.command:
        words = [re.sub(r"\{(\w+)\}", "something", word) for word in action.command]
        assert _parser().parse_args(words).run is not None
    holes = {word for word in action.command if word.startswith("{")}
    assert not action.rehearsed or (action.command and holes <= {"{release}"})


def test_every_gate_has_an_action_and_some_are_rehearsed() -> None:
    assert all(kpi.on_failure for kpi in GATES.kpis.values())
    assert any(action.rehearsed for _, action in ACTIONS)


def test_the_register_holds_all_four_kinds_and_each_stage_rests_on_something() -> None:
    register = load_register(GATES)
    assert set(DependencyKind) == {each.kind for each in register.dependencies.values()}
    assert set(GATES.stages) == {stage for each in register.dependencies.values() for stage in each.stages}
    assert set(GATES.kpis) >= {report for each in register.dependencies.values() for report in each.reports}
