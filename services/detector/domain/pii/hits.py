"""What a scan for personal data gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from services.detector.domain.pii.canonical import comparable
from services.detector.domain.pii.model import Check, Confidence, Kind, MaskRule

DOXING: Final = "DOXING"
"""Name of the combinations that expose one person."""


class Hit(NamedTuple):
    """One piece of personal data found in one field.

    `start` and `end` count characters of the original text. `personal` is false for what is recognised only to be set
    aside (business numbers). `value` is the stretch of the normalised text that was matched where it can be a watched
    identifier, else empty: for national identifiers, credentials and kinds that cannot be watched. It is never part of
    the repr.
    """

    kind: Kind
    rule_id: str
    rule_version: int
    field: str
    start: int
    end: int
    confidence: Confidence
    check: Check
    mask_rule: MaskRule
    national: bool
    personal: bool
    value: str = ""

    def __repr__(self) -> str:
        """Without the value."""
        place = f"{self.field}[{self.start}:{self.end}]"
        return f"Hit({self.rule_id} v{self.rule_version}, {place}, {self.confidence.name})"

    @property
    def canonical(self) -> str:
        """The comparable form for watched identifiers; empty where there is none."""
        return comparable(self.kind, self.value) if self.value else ""


@dataclass(frozen=True, slots=True)
class Combination:
    """Kinds that say more together than each alone: one hit of every kind in `all_of`, each at least `at_least`.

    `level` is that of the combination itself, whatever the levels of its hits.
    """

    name: str
    level: Confidence
    all_of: frozenset[Kind]
    at_least: Confidence

    def holds(self, found: Iterable[tuple[Kind, Confidence]]) -> bool:
        """Whether personal data of these kinds and levels, all of one post, makes it up."""
        return self.all_of <= {kind for kind, confidence in found if confidence >= self.at_least}


@dataclass(frozen=True, slots=True)
class ScanResult:
    """All hits of a signal in field order, then by position, and the combinations that they make up."""

    hits: tuple[Hit, ...]
    combinations: tuple[Combination, ...] = ()

    @property
    def doxing(self) -> bool:
        """Whether the hits together expose one person."""
        return any(each.name == DOXING and each.level is Confidence.HIGH for each in self.combinations)

    def of(self, field: str) -> tuple[Hit, ...]:
        """The hits in one field, for masking that field's text."""
        return tuple(hit for hit in self.hits if hit.field == field)
