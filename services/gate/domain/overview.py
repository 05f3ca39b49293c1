"""How do all gates stand at a glance? What the index page is drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.gate.domain.dependencies import DependencyState, Standing
from services.gate.domain.kpis import Gates, Kpi
from services.gate.domain.report import Past, past_entry, threshold_entry


@dataclass(frozen=True)
class Glance:
    """What is known of all gates at one moment."""

    gates: Gates
    trends: Mapping[str, Sequence[Past]]
    """The last reports of each name, oldest first."""
    standings: Sequence[Standing]
    now: datetime
    code_version: str


def overview(glance: Glance) -> dict[str, Any]:
    """Every gate with its last report and trend, every stage, and the dependencies that are not in order."""
    return {
        "create_time": glance.now.isoformat(timespec="seconds"),
        "gates": [_gate(kpi, glance) for kpi in glance.gates.kpis.values()],
        "stages": [
            {"name": stage.name, "report": stage.report, "title": dict(stage.title), **_last(stage.report, glance)}
            for stage in glance.gates.stages.values()
            if stage.report
        ],
        "dependencies": [_dependency(s) for s in glance.standings if s.state is not DependencyState.HOLDS],
        "versions": {"gates": glance.gates.version, "code": glance.code_version},
    }


def _gate(kpi: Kpi, glance: Glance) -> dict[str, Any]:
    return {
        "name": kpi.report,
        "title": dict(kpi.title),
        "area": kpi.area,
        "threshold": threshold_entry(kpi),
        "required": kpi.required_size,
        "window_days": kpi.window_days,
        "stages": glance.gates.stages_of(kpi.report),
        **_last(kpi.report, glance),
    }


def _last(name: str, glance: Glance) -> dict[str, Any]:
    trend = [past_entry(past) for past in glance.trends.get(name, ())]
    return {"last": trend[-1] if trend else None, "trend": trend}


def _dependency(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.dependency.dependency_id,
        "kind": standing.dependency.kind.value,
        "title": dict(standing.dependency.title),
        "owner": standing.dependency.owner,
        "state": standing.state.value,
        "since": standing.since.isoformat(timespec="seconds"),
        "degrades": dict(standing.dependency.degrades),
    }
