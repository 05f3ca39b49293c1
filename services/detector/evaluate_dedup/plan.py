"""What the evaluation does, and what it should find: rules/dedup_evaluation.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.chassis import yaml_text

PLAN_FILE = Path(__file__).parents[1] / "rules" / "dedup_evaluation.yaml"


@dataclass(frozen=True)
class Plan:
    """Fields of the file, where each is explained."""

    version: int
    portraits: int
    pairs: Mapping[str, float]
    transforms: Mapping[str, float]
    texts: float


def read_plan(file: Path = PLAN_FILE) -> Plan:
    """The plan in a YAML file. Raises ValueError when a field is missing or unknown."""
    try:
        return Plan(**yaml_text.parse(file.read_text(encoding="utf-8")))
    except TypeError as problem:
        raise ValueError(f"{file.name}: fields differ from Plan") from problem
