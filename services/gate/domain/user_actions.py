"""What did subscribers do after warnings before uploads? UserActionOutcomeReport."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CHOICES = ("BLUR", "CANCEL", "PROCEED", "NO_ANSWER")
MAX_ROWS = 64


@dataclass(frozen=True)
class UploadWarning:
    """A warning that was shown."""

    upload_check_id: str
    names: frozenset[str]
    """What was found: FACE_OWN, FACE_OTHER, identifier kinds."""
    severity: str


@dataclass(frozen=True)
class ActionCounts:
    """What became of warnings; `open` ones have no answer yet and time left."""

    dimension: str
    name: str
    shown: int
    blurred: int
    cancelled: int
    went_on: int
    no_answer: int

    @property
    def open(self) -> int:
        """Warnings that are neither answered nor given up."""
        return self.shown - self.blurred - self.cancelled - self.went_on - self.no_answer


def user_actions(
    warnings: Iterable[UploadWarning], choices: Mapping[str, str]
) -> tuple[ActionCounts, Sequence[ActionCounts]]:
    """The total, and a row for each kind and severity, the largest first. A warning about several kinds counts in the
    row of each. `choices`: upload_check_id → one of CHOICES."""
    counted: dict[tuple[str, str], Counter[str]] = {("total", ""): Counter()}
    for warning in warnings:
        rows = [("total", ""), ("severity", warning.severity), *(("kind", name) for name in sorted(warning.names))]
        for row in rows:
            tally = counted.setdefault(row, Counter())
            tally["SHOWN"] += 1
            tally[choices.get(warning.upload_check_id, "OPEN")] += 1
    total = _counts(("total", ""), counted.pop(("total", "")))
    rest = [_counts(row, tally) for row, tally in counted.items()]
    return total, sorted(rest, key=lambda row: (-row.shown, row.dimension, row.name))[:MAX_ROWS]


def _counts(row: tuple[str, str], tally: Counter[str]) -> ActionCounts:
    return ActionCounts(*row, tally["SHOWN"], *(tally[choice] for choice in CHOICES))
