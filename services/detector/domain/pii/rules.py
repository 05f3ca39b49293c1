"""How sure each rule is of what it finds, and which kinds together expose a person: the data of rules/pii.yaml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from services.chassis import yaml_text
from services.detector.domain.pii.hits import Combination, Hit
from services.detector.domain.pii.model import Check, Confidence, Kind
from services.detector.domain.pii.recogniser import Nearby

_ORDER: Final = (Nearby.AGAINST, Nearby.ALONE, Nearby.NEAR)
_KIND: Final = itemgetter(*map(Hit._fields.index, ("kind", "confidence", "personal")))
"""Of a hit what combinations ask for; posts that hold much are asked often."""
_MOST_KEPT: Final = 4_096
_CHECKS: Final = {"verified": Check.YES, "unverified": Check.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Rule:
    """Version and confidence of one recogniser; a missing level means that the candidate is dropped."""

    version: int
    levels: Mapping[tuple[Check, Nearby], Confidence]
    whole: Confidence | None = None

    def confidence(self, check: Check, nearby: Nearby) -> Confidence | None:
        """How sure the rule is, or None when the candidate does not count."""
        return self.levels.get((check, nearby))

    def counts_alone(self) -> bool:
        """Whether a candidate may count without words that speak for it."""
        return self.whole is not None or any(nearby is not Nearby.NEAR for _, nearby in self.levels)


@dataclass(frozen=True, slots=True)
class Rules:
    """A version of rules/pii.yaml. `max_chars`: longest signal that is scanned."""

    version: int
    max_chars: int
    rules: Mapping[str, Rule]
    combinations: tuple[Combination, ...]

    _made_up: dict[frozenset[Any], tuple[Combination, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def combinations_of(self, hits: Iterable[Hit]) -> tuple[Combination, ...]:
        """What the hits of one post say together."""
        kinds = frozenset(map(_KIND, hits))
        made_up = self._made_up.get(kinds)
        if made_up is None:
            if len(self._made_up) >= _MOST_KEPT:
                self._made_up.clear()
            found = {(kind, confidence) for kind, confidence, personal in kinds if personal}
            made_up = self._made_up[kinds] = tuple(each for each in self.combinations if each.holds(found))
        return made_up

    @classmethod
    def parse(cls, text: str) -> Rules:
        """Read the YAML text. Raises ValueError on a level, kind or check that does not exist."""
        raw = yaml_text.parse(text)
        try:
            return cls(
                version=int(raw["version"]),
                max_chars=int(raw["max_chars"]),
                rules={rule_id: _rule(entry) for rule_id, entry in raw["rules"].items()},
                combinations=tuple(_combination(entry) for entry in raw["combinations"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"pii rules: {error}") from error


def _combination(entry: Mapping[str, Any]) -> Combination:
    return Combination(
        name=str(entry["name"]),
        level=Confidence[entry["level"]],
        all_of=frozenset(Kind(kind) for kind in entry["all_of"]),
        at_least=Confidence[entry["at_least"]],
    )


def _rule(entry: Mapping[str, Any]) -> Rule:
    levels = {
        (check, nearby): Confidence[name]
        for key, check in _CHECKS.items()
        for nearby, name in zip(_ORDER, entry.get(key, ("-", "-", "-")), strict=True)
        if name != "-"
    }
    whole = entry.get("whole")
    return Rule(int(entry["version"]), levels, Confidence[whole] if whole else None)
