"""How sure are we of a proportion or a percentile?

Sources: Wilson, JASA 22 (1927) 209-212; Clopper and Pearson, Biometrika 26 (1934) 404-413; nearest rank and the
order-statistic interval as in Hahn, Meeker and Escobar, Statistical Intervals (2nd ed. 2017), sections 5.2 and 6.2;
the incomplete beta function by its continued fraction, NIST DLMF 8.17.22 (modified Lentz).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
"""Two-sided confidence of every interval that a report prints."""
_TINY = 1e-300


class Interval(NamedTuple):
    """A two-sided confidence interval; an end may be infinite."""

    low: float
    high: float


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 < share ≤ 1) of the ascending values do not exceed.

    Infinite values count like others. Raises ValueError without values.
    """
    if not ordered or not 0 < share <= 1:
        raise ValueError("a percentile needs values and a share within (0, 1]")
    return ordered[rank_of(len(ordered), share) - 1]


def rank_of(size: int, share: float) -> int:
    """Rank of the percentile, from 1: ⌈share · n⌉, guarded against rounding of `share · n`."""
    return max(1, math.ceil(share * size - 1e-9))


def percentile_interval(
    ordered: Sequence[float], share: float, confidence: float = CONFIDENCE
) -> Interval | None:
    """The distribution-free interval between two order statistics for a percentile.

    The ranks are the tightest whose tails hold at most α/2 each by the binomial distribution. None where the
    sample is too small for an upper or lower rank.
    """
    size, tail = len(ordered), (1 - confidence) / 2
    low = _last(lambda rank: binomial_cdf(rank - 1, size, share) <= tail, size)
    high = _first(lambda rank: 1 - binomial_cdf(rank - 1, size, share) <= tail, size)
    if low is None or high is None:
        return None
    return Interval(ordered[low - 1], ordered[high - 1])


def wilson(successes: int, size: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion, without continuity correction."""
    _check(successes, size)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, z2 = successes / size, z * z
    centre = (rate + z2 / (2 * size)) / (1 + z2 / size)
    half = z * math.sqrt(rate * (1 - rate) / size + z2 / (4 * size * size)) / (1 + z2 / size)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def clopper_pearson(successes: int, size: int, confidence: float = CONFIDENCE) -> Interval:
    """The exact interval of a proportion: covers at least `confidence`, whatever the rate."""
    _check(successes, size)
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else beta_quantile(tail, successes, size - successes + 1)
    high = 1.0 if successes == size else beta_quantile(1 - tail, successes + 1, size - successes)
    return Interval(low, high)


def stratified(parts: Sequence[tuple[int, int, int]], confidence: float = CONFIDENCE) -> tuple[float, Interval]:
    """A proportion over strata (population, successes, size ≥ 1), each weighted by its population, with its interval.

    The interval is the exact one at the effective sample size: Korn and Graubard, Survey Methodology 24 (1998) 193-201.
    Without any variance between items the effective size is that of the weights alone. No correction for finite
    populations: the interval is never too narrow for it.
    """
    total = sum(population for population, _, _ in parts)
    shares = [(population / total, successes / size, size) for population, successes, size in parts]
    value = sum(weight * rate for weight, rate, _ in shares)
    variance = sum(weight**2 * rate * (1 - rate) / max(size - 1, 1) for weight, rate, size in shares)
    most = sum(size for _, _, size in parts)
    if variance > 0:
        effective = min(value * (1 - value) / variance, float(most))
    else:
        effective = 1 / sum(weight**2 / size for weight, _, size in shares)
    hits, tail = value * effective, (1 - confidence) / 2
    misses = effective - hits
    low = 0.0 if value <= 0 else beta_quantile(tail, hits, misses + 1)
    high = 1.0 if value >= 1 else beta_quantile(1 - tail, hits + 1, misses)
    return value, Interval(low, high)


def binomial_cdf(successes: int, size: int, rate: float) -> float:
    """P(X ≤ successes) for X ~ Bin(size, rate), by the incomplete beta function (DLMF 8.17.5)."""
    if successes < 0:
        return 0.0
    if successes >= size:
        return 1.0
    return incomplete_beta(size - successes, successes + 1, 1 - rate)


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability, by bisection to 1e-14."""
    low, high = 0.0, 1.0
    while high - low > 1e-14:
        middle = (low + high) / 2
        if incomplete_beta(a, b, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b) for a, b > 0 and 0 ≤ x ≤ 1."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _beta_fraction(a, b, x) / a


def _beta_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1 / _away_from_zero(1 + coefficient * d)
            c = _away_from_zero(1 + coefficient / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _first(true: Callable[[int], bool], size: int) -> int | None:
    """The first rank from 1 for which `true` holds; it stays true from there on."""
    low, high = 1, size + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if true(middle) else (middle + 1, high)
    return low if low <= size else None


def _last(true: Callable[[int], bool], size: int) -> int | None:
    """The last rank for which `true` holds; it is true up to there."""
    first_false = _first(lambda rank: not true(rank), size)
    last = size if first_false is None else first_false - 1
    return last or None


def _check(successes: int, size: int) -> None:
    if size < 1 or not 0 <= successes <= size:
        raise ValueError("a proportion needs 0 ≤ successes ≤ size and size ≥ 1")


def ecdf(ordered: Sequence[float], points: int = 200) -> list[tuple[float, float]]:
    """At most `points` + 1 steps (value, share of all not above it) of the finite, ascending values."""
    size = len(ordered)
    finite = size - sum(1 for value in ordered if math.isinf(value))
    if not finite:
        return []
    stride = math.ceil(finite / points)
    ranks = sorted({*range(1, finite + 1, stride), finite})
    return [(ordered[rank - 1], rank / size) for rank in ranks]
