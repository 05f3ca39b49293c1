"""Where the gates come from: versioned YAML beside the code, or the operator's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from misuse.log.v1.record_pb2 import LogRecord
from services.gate.domain.kpis import (
    Artefact,
    Direction,
    Gates,
    IndexRule,
    Kpi,
    Parts,
    Population,
    Stage,
    TestKind,
    Threshold,
)

SHIPPED = Path(__file__).parents[1] / "rules"


def load_gates(folder: Path | None = None) -> Gates:
    """All gates. Raises ValueError when an exit list or a source names something that is not there."""
    own = folder / "gate" / "kpis.yaml" if folder else None
    path = own if own and own.exists() else SHIPPED / "kpis.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    kpis = {kpi.report: kpi for kpi in map(_kpi, data["kpis"])}
    indexes = {index: _index(index, rule) for index, rule in data.get("indexes", {}).items()}
    stages = {name: _stage(name, stage, indexes) for name, stage in data["stages"].items()}
    gates = Gates(str(data["version"]), kpis, stages)
    _check(gates)
    return gates


def _kpi(data: dict[str, Any]) -> Kpi:
    threshold = data["threshold"]
    return Kpi(
        report=data["report"],
        area=data["area"],
        title=data["title"],
        definition=data["definition"],
        sources=tuple(data["sources"]),
        window_days=int(data["window_days"]),
        sample_plan=data["sample_plan"],
        required_size=int(data["required_size"]),
        estimator=data["estimator"],
        threshold=Threshold(
            Direction(threshold["direction"]), float(threshold["value"]), str(threshold["unit"])
        ),
        also_needs=TestKind(data["also_needs"]),
        on_failure=tuple(data["on_failure"]),
        derivation=data["derivation"],
        grace_ms=int(data.get("grace_ms", 0)),
        population=_population(data.get("population", {})),
    )


def _population(data: dict[str, Any]) -> Population:
    parts = data.get("parts")
    return Population(
        parts=Parts(str(parts["dimension"]), int(parts["required"]), bool(parts["pool_suffices"])) if parts else None,
        counts=tuple(data.get("counts", ())),
        kinds=tuple(data.get("kinds", ())),
        not_counted=tuple(data.get("not_counted", ())),
        groups=tuple(data.get("groups", ())),
        least_per_group=int(data.get("least_per_group", 0)),
        follow_up_days=int(data.get("follow_up_days", 0)),
        horizon_days=int(data.get("horizon_days", 0)),
    )


def _index(name: str, data: dict[str, Any]) -> IndexRule:
    return IndexRule(name, int(data["window_minutes"]), int(data["most_age_ms"]))


def _stage(name: str, data: dict[str, Any], indexes: Mapping[str, IndexRule]) -> Stage:
    unknown = set(data.get("indexes", ())) - indexes.keys()
    if unknown:
        raise ValueError(f"kpis.yaml: stage {name} names an unknown index")
    return Stage(
        name=name,
        reports=tuple(data["reports"]),
        tests=tuple(TestKind(kind) for kind in data["tests"]),
        artefacts=tuple(Artefact(a["name"], a["record_type"]) for a in data["artefacts"]),
        indexes=tuple(indexes[index] for index in data.get("indexes", ())),
    )


def _check(gates: Gates) -> None:
    known_types = {field.name for field in LogRecord.DESCRIPTOR.oneofs_by_name["body"].fields}
    for kpi in gates.kpis.values():
        if not known_types.issuperset(kpi.sources):
            raise ValueError(f"kpis.yaml: {kpi.report} names an unknown record type")
    for stage in gates.stages.values():
        if not set(gates.kpis).issuperset(stage.reports):
            raise ValueError(f"kpis.yaml: stage {stage.name} names an unknown report")
        if not (known_types | {""}).issuperset(artefact.record_type for artefact in stage.artefacts):
            raise ValueError(f"kpis.yaml: stage {stage.name} names an unknown record type")
