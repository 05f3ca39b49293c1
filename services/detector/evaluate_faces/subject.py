"""What is evaluated, and by which plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.chassis import yaml_text
from services.detector.domain.faces import FaceRules
from services.detector.evaluate_faces.calibration import Aims
from services.detector.evaluate_faces.data import Data
from services.detector.evaluate_faces.identification import Person
from services.detector.evaluate_faces.looks import Seen

PLAN_FILE = Path(__file__).parents[1] / "rules" / "face_evaluation.yaml"


@dataclass(frozen=True)
class Plan:
    """rules/face_evaluation.yaml, where each field is explained."""

    id: str
    version: int
    splits: int
    seed: int
    enrol_one_in: int
    gallery_sizes: Sequence[int]
    gallery_splits: int
    false_acceptance_rates: Sequence[float]
    face_sides_px: Sequence[int]
    calibration: Aims
    shown_licences: Sequence[str]
    most_shown: int
    populations: Mapping[str, Mapping[str, str]]


def read_plan(file: Path = PLAN_FILE) -> Plan:
    """Raises TypeError for a field that is missing or unknown."""
    values = yaml_text.parse(file.read_text(encoding="utf-8"))
    return Plan(**{**values, "calibration": Aims(**values["calibration"])})


@dataclass(frozen=True)
class Subject:
    """What is evaluated: the data, what was seen in it, the rules, and how to look at more."""

    data: Data
    seen: Sequence[Seen] = field(repr=False)
    rules: FaceRules
    plan: Plan
    engine_id: str
    calibrate: bool = False

    @property
    def people(self) -> list[Person]:
        """The pictures with a role."""
        return [
            Person(a.identity, a.role, b)
            for a, b in zip(self.data.listed, self.seen, strict=True)
            if a.role is not None
        ]
