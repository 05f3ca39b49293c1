"""Where the gates come from: versioned YAML beside the code, or the operator's folder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

from misuse.log.v1.record_pb2 import LogRecord
from services.chassis import yaml_text
from services.gate.domain.dependencies import Dependency, DependencyKind, Register
from services.gate.domain.kpis import (
    Action,
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
    data = _read("kpis.yaml", folder)
    actions = _read("actions.yaml", folder)["actions"]
    kpis = {kpi.report: kpi for kpi in (_kpi(each, actions) for each in data["kpis"])}
    indexes = {index: _index(index, rule) for index, rule in data.get("indexes", {}).items()}
    stages = {name: _stage(name, stage, indexes) for name, stage in data["stages"].items()}
    gates = Gates(str(data["version"]), kpis, stages)
    _check(gates)
    return gates


def load_register(gates: Gates, folder: Path | None = None) -> Register:
    """The register of dependencies. Raises ValueError when an entry names a report or a stage that is not there."""
    data = _read("dependencies.yaml", folder)
    register = Register(str(data["version"]), {each["id"]: _dependency(each) for each in data["dependencies"]})
    for dependency in register.dependencies.values():
        if not set(gates.kpis).issuperset(dependency.reports) or not set(gates.stages).issuperset(dependency.stages):
            raise ValueError(f"dependencies.yaml: {dependency.dependency_id} names an unknown report or stage")
    return register


def _read(name: str, folder: Path | None) -> dict[str, Any]:
    data: dict[str, Any] = yaml_text.read(SHIPPED / name, folder, "gate")
    return data


def _dependency(data: dict[str, Any]) -> Dependency:
    return Dependency(
        dependency_id=data["id"],
        kind=DependencyKind(data["kind"]),
        title=data["title"],
        owner=data["owner"],
        since=datetime.combine(data["since"], time(), UTC),
        degrades=data["degrades"],
        reports=tuple(data["reports"]),
        stages=tuple(data["stages"]),
    )


def _action(data: dict[str, Any]) -> Action:
    return Action(
        action_id=data["id"],
        words={"ko": data["ko"], "en": data["en"]},
        command=tuple(data.get("command", ())),
        runbook=data.get("runbook", ""),
        rehearsed=bool(data.get("rehearsed", False)),
    )


def _kpi(data: dict[str, Any], actions: Mapping[str, list[dict[str, Any]]]) -> Kpi:
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
        on_failure=tuple(map(_action, actions[data["report"]])),
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
        artefacts=tuple(Artefact(a["name"], a.get("record_type", ""), a.get("report", "")) for a in data["artefacts"]),
        indexes=tuple(indexes[index] for index in data.get("indexes", ())),
        report=data.get("report", ""),
        title=data.get("title", {}),
        composes=tuple(data.get("composes", ())),
    )


def _check(gates: Gates) -> None:
    known_types = {field.name for field in LogRecord.DESCRIPTOR.oneofs_by_name["body"].fields}
    for kpi in gates.kpis.values():
        if not known_types.issuperset(kpi.sources):
            raise ValueError(f"kpis.yaml: {kpi.report} names an unknown record type")
    for stage in gates.stages.values():
        if not set(gates.kpis).issuperset(stage.reports):
            raise ValueError(f"kpis.yaml: stage {stage.name} names an unknown report")
        if not set(gates.stages).issuperset(stage.composes):
            raise ValueError(f"kpis.yaml: stage {stage.name} composes an unknown stage")
        if not (known_types | {""}).issuperset(artefact.record_type for artefact in stage.artefacts):
            raise ValueError(f"kpis.yaml: stage {stage.name} names an unknown record type")
