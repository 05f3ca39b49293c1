"""Which alerts do people label for a release gate, and how can anybody draw them again?

A sample is a function of the population and a seed that is made after the population was fixed: items rank by
SHA-256 of seed and decision id, so that neither the order in which records came nor the library that draws decides.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

WHOLE = ""
"""Name of the one stratum of a simple sample."""


class Design(StrEnum):
    """How a sample is drawn."""

    SIMPLE = "SIMPLE"
    """Simple random over the whole population."""
    STRATIFIED = "STRATIFIED"
    """Simple random within each channel group."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the sample of a report is drawn (`rules/sampling.yaml`)."""

    report: str
    design: Design
    kinds: frozenset[str]
    """Kinds of alerts in the population: FACE, PII."""
    size: int
    """Items that count in each stratum."""
    spare: int
    """Further items in each stratum: in their order they replace those that can no longer be labelled."""


@dataclass(frozen=True, slots=True)
class Term:
    """How long something counts."""

    window_days: int
    """The population: alerts of so many days."""
    valid_days: int
    """For so long after freezing a figure may rest on the sample."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The documents that people label by, as every sample cites them."""

    policy_version: str
    policy_sha256: bytes
    quality_version: str
    quality_sha256: bytes


@dataclass(frozen=True, slots=True)
class Plans:
    """All plans of one version."""

    version: str
    papers: Papers
    by_report: Mapping[str, tuple[Plan, Term]]
    most_strata: int
    """Channel groups that one sample may have."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A decision of the MATCH band, as its record states it."""

    decision_id: str
    channel_group: str
    kind: str


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part that is drawn from by itself."""

    name: str
    """Channel group, or WHOLE."""
    population: int
    size: int
    """Items that count."""
    drawn: int
    """Items drawn, spare ones included."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn, and from what."""

    population_size: int
    population_sha256: bytes
    manifest_sha256: bytes
    strata: tuple[Stratum, ...]
    items: tuple[Alert, ...]
    """By stratum, in the order drawn."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A frozen sample."""

    sample_id: str
    plan: Plan
    """As it was when the sample was drawn."""
    seed: str
    start_time: datetime
    end_time: datetime
    expire_time: datetime
    """Last moment at which a figure may rest on it."""
    cut_off: Mapping[str, int]
    drawn: Drawn
    plan_version: str
    papers: Papers

    @property
    def size(self) -> int:
        """Items that count."""
        return sum(stratum.size for stratum in self.drawn.strata)

    def reproduced_from(self, population: Iterable[Alert]) -> bool:
        """Whether this population and the seed give the very same sample."""
        return draw(strata_of(population, self.plan), self.plan, self.seed) == self.drawn

    def parts(self) -> Sequence[tuple[Stratum, Sequence[Alert]]]:
        """Each stratum with its items, in the order drawn."""
        found, start = [], 0
        for stratum in self.drawn.strata:
            found.append((stratum, self.drawn.items[start : start + stratum.drawn]))
            start += stratum.drawn
        return found


def strata_of(population: Iterable[Alert], plan: Plan) -> Mapping[str, Sequence[Alert]]:
    """The population by stratum, in the order of names."""
    groups: defaultdict[str, list[Alert]] = defaultdict(list)
    for alert in population:
        if alert.kind in plan.kinds:
            groups[WHOLE if plan.design is Design.SIMPLE else alert.channel_group].append(alert)
    return dict(sorted(groups.items()))


def draw(strata: Mapping[str, Sequence[Alert]], plan: Plan, seed: str) -> Drawn:
    """Draws by a seed. A stratum with fewer alerts than wanted is taken whole."""
    parts, items = [], list[Alert]()
    for name, alerts in strata.items():
        ranked = sorted(alerts, key=lambda alert: _rank(seed, alert.decision_id))[: plan.size + plan.spare]
        parts.append(Stratum(name, len(alerts), min(plan.size, len(ranked)), len(ranked)))
        items += ranked
    ids = sorted(alert.decision_id for alerts in strata.values() for alert in alerts)
    lines = [
        f"{part.name}\t{item.decision_id}\n"
        for part, start in zip(parts, _starts(parts), strict=True)
        for item in items[start : start + part.drawn]
    ]
    return Drawn(
        population_size=len(ids),
        population_sha256=_sha256(f"{decision_id}\n" for decision_id in ids),
        manifest_sha256=_sha256(lines),
        strata=tuple(parts),
        items=tuple(items),
    )


def _rank(seed: str, decision_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\n{decision_id}".encode()).digest()


def _starts(parts: Sequence[Stratum]) -> list[int]:
    starts = [0]
    for part in parts[:-1]:
        starts.append(starts[-1] + part.drawn)
    return starts if parts else []


def _sha256(lines: Iterable[str]) -> bytes:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.digest()
