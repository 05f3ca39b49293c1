"""Which figure decides where parts of a sample are judged by themselves?

A platform that removes nothing must not hide behind nine that remove everything, and ten platforms with too few
requests each must not pass as one. Each part that is large enough is judged, the whole is judged, and the worst of
these decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.gate.domain.kpis import Direction, Kpi, Parts
from services.gate.domain.measures import MAX_STRATA, Fact, Stratum
from services.gate.domain.statistics import Interval, clopper_pearson

T = TypeVar("T")

POOL = "ALL"
"""Name of the whole."""


@dataclass(frozen=True)
class Figure:
    """A figure of the whole or of a part."""

    value: float
    size: int
    interval: Interval | None
    at_worst: float
    """The same figure with everything that could not be used counted against it."""


@dataclass(frozen=True)
class Judged:
    """The figure that decides, and what the parts look like."""

    figure: Figure | None
    """None without data. Its size is below the required one where nothing is large enough to decide."""
    decider: str
    """Part that decides, or ALL; empty without data."""
    parts: Mapping[str, Figure]
    pool: Figure | None
    strata: Sequence[Stratum]

    def facts(self) -> list[Fact]:
        """Who decides, and what the whole is beside it."""
        if self.figure is None:
            return []
        text = f"{self.decider} (n = {self.figure.size:,})"
        return [Fact({"ko": "판정을 정한 부분", "en": "The part that decides"}, text)]


Measure = Callable[[Sequence[T], int], Figure]
"""The figure of at least one item, and of so many beside it that could not be used."""


def judge_parts(
    kpi: Kpi, items: Sequence[T], part_of: Callable[[T], str], unusable: Mapping[str, int], measure: Measure[T]
) -> Judged:
    """The figure that decides. `unusable` counts by part what belongs to the population and could not be used."""
    if not items:
        return Judged(None, "", {}, None, ())
    groups: defaultdict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[part_of(item) or "UNKNOWN"].append(item)
    pool = measure(items, sum(unusable.values()))
    parts = {name: measure(group, unusable.get(name, 0)) for name, group in groups.items()}
    rule = kpi.population.parts
    decider, figure = _decide(kpi, rule, pool, parts)
    return Judged(figure, decider, parts, pool, _strata(rule, parts))


def _decide(kpi: Kpi, rule: Parts | None, pool: Figure, parts: Mapping[str, Figure]) -> tuple[str, Figure]:
    if rule is None:
        return POOL, pool
    judged = {name: part for name, part in parts.items() if part.size >= rule.required}
    if not judged and not rule.pool_suffices:
        # Nothing may decide: the largest part says how far it is from enough.
        largest = max(part.size for part in parts.values())
        return POOL, Figure(pool.value, min(largest, kpi.required_size - 1), pool.interval, pool.at_worst)
    if pool.size >= kpi.required_size or not judged:
        judged[POOL] = pool
    sign = 1 if kpi.threshold.direction is Direction.AT_MOST else -1
    # Of equal ones the larger is the more telling.
    decider, figure = max(judged.items(), key=lambda each: (sign * each[1].value, each[1].size, each[0]))
    least_sure = max((each.at_worst for each in judged.values()), key=lambda value: sign * value)
    return decider, Figure(figure.value, figure.size, figure.interval, least_sure)


def _strata(rule: Parts | None, parts: Mapping[str, Figure]) -> list[Stratum]:
    """The parts, the largest first; without a rule nobody asked for them."""
    if rule is None:
        return []
    largest = sorted(parts.items(), key=lambda each: (-each[1].size, each[0]))[:MAX_STRATA]
    return [
        Stratum(rule.dimension, name, part.size, part.value, part.interval, rule.required) for name, part in largest
    ]


def proportion(kpi: Kpi, hits: int, size: int, unusable: int) -> Figure:
    """A proportion of at least one item with its exact interval."""
    against = unusable if kpi.threshold.direction is Direction.AT_MOST else 0
    at_worst = (hits + against) / (size + unusable)
    return Figure(hits / size, size, clopper_pearson(hits, size), at_worst)
