"""Which threshold of faces do the labels of people call for?

A face that the second opinion decided has a reach: the highest threshold under which it would be an alert. Raising the
threshold drops the alerts whose reach lies below it; what is left must be right often enough. Lowering it makes alerts
of review items; those alone must be right often enough, since how many of them were labelled says nothing of how many
there are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from services.detector.domain.faces import FaceRules

THRESHOLD = "second_match"
"""The one threshold that labels may move."""
RIGHT, WRONG = "MATCH", "NO_MATCH"
REVIEWER, ADJUDICATOR = "REVIEWER", "ADJUDICATOR"
_ONE_SIDED_95 = 1.6449


class Outcome(StrEnum):
    """What an evaluation comes to."""

    KEEP = "KEEP"
    TIGHTEN = "TIGHTEN"
    LOOSEN = "LOOSEN"
    TOO_FEW_LABELS = "TOO_FEW_LABELS"
    OUT_OF_REACH = "OUT_OF_REACH"
    """No threshold within what one change may do keeps enough right alerts."""


@dataclass(frozen=True)
class CalibrationRules:
    """Fields of rules/calibration.yaml, where each is explained."""

    id: str
    version: int
    precision: float
    least_labels: int
    least_added: int
    step: float
    most_tighter: float
    most_looser: float
    valid_days: int
    most_labels: int

    def __post_init__(self) -> None:
        most = (self.most_tighter, self.most_looser)
        bounded = 0 < self.step <= min(most) and max(most) < 1
        if not (bounded and 0 < self.precision < 1 and min(self.least_labels, self.least_added, self.valid_days) > 0):
            raise ValueError(f"rules {self.name} contradict themselves")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> CalibrationRules:
        """From parsed YAML. Raises ValueError for a missing, unknown or contradictory field."""
        try:
            return cls(**values)
        except TypeError as problem:
            raise ValueError("fields differ from CalibrationRules") from problem

    @property
    def name(self) -> str:
        """Id and version."""
        return f"{self.id}-{self.version}"

    @property
    def valid(self) -> timedelta:
        """How long a change may be adopted."""
        return timedelta(days=self.valid_days)


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """What somebody said of a decision. `sample_id` is empty for a review item."""

    decision_id: str
    labeller: str
    source: str
    """REVIEWER or ADJUDICATOR."""
    verdict: str
    sample_id: str


@dataclass(frozen=True, slots=True)
class Labelled:
    """A decision that people settled. `reach` never leaves the detector."""

    alert: bool
    """It was a MATCH of the sample; else a review item."""
    right: bool
    reach: float = field(repr=False)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What labels say of a threshold; counts as in the contract. `to` equals `at` where nothing is to change."""

    outcome: Outcome
    at: float = field(repr=False)
    to: float = field(repr=False)
    labels: int = 0
    right: int = 0
    kept: int = 0
    kept_right: int = 0
    added: int = 0
    added_right: int = 0

    @property
    def precision(self) -> float:
        """Lower bound of the share of right alerts among the kept."""
        return lower_bound(self.kept_right, self.kept)

    @property
    def proposes(self) -> bool:
        """Whether it calls for a change."""
        return self.outcome in (Outcome.TIGHTEN, Outcome.LOOSEN)


def settled(labels: Iterable[GivenLabel]) -> Mapping[str, bool]:
    """Decision → whether it was right: as two different people agree, or a third decides."""
    by_decision: defaultdict[str, list[GivenLabel]] = defaultdict(list)
    for label in labels:
        by_decision[label.decision_id].append(label)
    words = {decision_id: _word(given) for decision_id, given in by_decision.items()}
    return {decision_id: word == RIGHT for decision_id, word in words.items() if word}


def _word(given: Sequence[GivenLabel]) -> str:
    blind = {label.labeller: label.verdict for label in given if label.source == REVIEWER}
    final = [label.verdict for label in given if label.source == ADJUDICATOR and label.labeller not in blind]
    said = set(final[:1] if final else blind.values())
    word = said.pop() if len(said) == 1 and (final or len(blind) >= 2) else ""
    return word if word in (RIGHT, WRONG) else ""


def evaluate(known: Sequence[Labelled], at: float, rules: CalibrationRules) -> Evaluation:
    """What settled decisions say of the threshold `at`."""
    alerts = [each for each in known if each.alert]
    result = Evaluation(
        Outcome.TOO_FEW_LABELS, at, at, labels=len(alerts), right=sum(each.right for each in alerts)
    )
    if len(alerts) < rules.least_labels:
        return result
    kept = _counted(alerts, at)
    if lower_bound(*kept) < rules.precision:
        return _tightened(result, alerts, rules)
    loosened = _loosened([each for each in known if not each.alert], at, rules)
    found = replace(result, outcome=Outcome.KEEP, kept_right=kept[0], kept=kept[1])
    if loosened is None:
        return found
    to, (right, added) = loosened
    return replace(found, outcome=Outcome.LOOSEN, to=to, added=added, added_right=right)


def _tightened(result: Evaluation, alerts: Sequence[Labelled], rules: CalibrationRules) -> Evaluation:
    for step in range(1, _steps(rules.most_tighter, rules) + 1):
        to = result.at + step * rules.step
        right, kept = _counted(alerts, to)
        if kept >= rules.least_labels and lower_bound(right, kept) >= rules.precision:
            return replace(result, outcome=Outcome.TIGHTEN, to=to, kept=kept, kept_right=right)
    right, kept = _counted(alerts, result.at)
    return replace(result, outcome=Outcome.OUT_OF_REACH, kept=kept, kept_right=right)


def _loosened(
    items: Sequence[Labelled], at: float, rules: CalibrationRules
) -> tuple[float, tuple[int, int]] | None:
    """The lowest threshold whose whole way down holds, and the right ones and all of what it adds."""
    found = None
    for step in range(1, _steps(rules.most_looser, rules) + 1):
        to = at - step * rules.step
        right, added = _counted([each for each in items if each.reach < at], to)
        if added >= rules.least_added and lower_bound(right, added) >= rules.precision:
            found = to, (right, added)
    return found


def _steps(most: float, rules: CalibrationRules) -> int:
    return round(most / rules.step)


def _counted(known: Sequence[Labelled], threshold: float) -> tuple[int, int]:
    kept = [each for each in known if each.reach >= threshold - 1e-9]
    return sum(each.right for each in kept), len(kept)


def lower_bound(right: int, of: int) -> float:
    """Lower bound of a share at one-sided 95 % (Wilson 1927); 0 of nothing."""
    if of == 0:
        return 0.0
    z, share = _ONE_SIDED_95, right / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - spread) / (1 + z * z / of)


def fingerprint(rules: FaceRules) -> bytes:
    """SHA-256 over the values of rules as they were shipped: a change belongs to these and to no others."""
    values = asdict(rules) | {"calibrated": 0}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).digest()


@dataclass(frozen=True, slots=True)
class ThresholdInForce:
    """The last change of some rules: its number, and the threshold from then on in thousandths."""

    number: int
    to_milli: int


def in_force(shipped: FaceRules, change: ThresholdInForce | None) -> FaceRules:
    """The rules with the last change to them."""
    if change is None:
        return shipped
    return replace(shipped, second_match=change.to_milli / 1000, calibrated=change.number)
