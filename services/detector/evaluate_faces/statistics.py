"""What scores and counts amount to: rates at thresholds, tails, intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Counts = NDArray[np.int64]
Booleans = NDArray[np.bool_]

STEPS = 100_000
"""Steps of a score's histogram per unit: thresholds are true to 1e-5."""
CONFIDENCE = 0.95
ROUNDS = 2_000
_PAIRS_AT_ONCE = 1_000_000
_FEWEST_IN_TAIL = 50
_LEAST_SHAPE = -0.3
_ROUNDS_AT_ONCE = 100


@dataclass
class Scores:
    """How many cosines of one kind fell where, −1..1. Millions of pairs take the room of one histogram."""

    counts: Counts = field(default_factory=lambda: np.zeros(2 * STEPS + 1, np.int64), repr=False)

    def add(self, scores: NDArray[np.floating]) -> None:
        """Counts scores of any shape."""
        places = np.clip(np.floor((scores.ravel().astype(np.float64) + 1) * STEPS), 0, 2 * STEPS).astype(np.int64)
        self.counts += np.bincount(places, minlength=2 * STEPS + 1)

    @property
    def size(self) -> int:
        return int(self.counts.sum())

    def at_least(self, threshold: float) -> int:
        """How many reach a threshold."""
        return int(self.counts[_place(threshold) :].sum())

    def threshold(self, rate: float) -> float:
        """The lowest threshold that at most `rate` of the scores reach."""
        above = np.cumsum(self.counts[::-1])[::-1]
        reached = np.flatnonzero(above <= rate * self.size)
        return (int(reached[0]) if len(reached) else 2 * STEPS + 1) / STEPS - 1

    def shares_at_least(self, thresholds: Sequence[float]) -> list[float]:
        """The share that reaches each threshold; 0 when there are no scores."""
        above = np.concatenate([np.cumsum(self.counts[::-1])[::-1], [0]])
        size = max(1, int(above[0]))
        return [float(above[_place(t)]) / size for t in thresholds]

    def coarse(self, steps: int) -> list[int]:
        """Counts in `steps` equal parts of −1..1."""
        edges = np.linspace(0, 2 * STEPS + 1, steps + 1).astype(np.int64)
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        return [int(sums[b] - sums[a]) for a, b in pairwise(edges.tolist())]


def _place(threshold: float) -> int:
    return min(max(round((threshold + 1) * STEPS), 0), 2 * STEPS + 1)


@dataclass(frozen=True)
class Tail:
    """How the highest scores thin out: a generalised Pareto tail over a high threshold (peaks over threshold: Pickands,
    Ann. Stat. 3 (1975) 119-131). Cosines have an end, so the shape is never positive; 0 is an exponential tail."""

    start: float
    share: float
    """Of all scores, those from `start` on."""
    scale: float
    shape: float
    counted: int
    """Scores that the tail was fitted on."""

    def at(self, rate: float) -> float:
        """The threshold that a share `rate` of all scores should reach; `start` for what is more than the tail."""
        fewer = max(1.0, self.share / rate)
        if self.shape == 0:
            return self.start + self.scale * math.log(fewer)
        return self.start + self.scale / self.shape * (math.pow(fewer, self.shape) - 1)

    def per_decade(self, rate: float) -> float:
        """What a threshold for `rate` gains for a tenth of it; never more further up."""
        return self.at(rate / 10) - self.at(rate)


def tail_of(scores: Scores, share: float) -> Tail:
    """Fits the highest `share` of the scores by their mean and variance (Hosking and Wallis, Technometrics 29 (1987)
    339-349). Raises ValueError when these are fewer than fifty."""
    start = scores.threshold(share)
    counts = scores.counts[_place(start) :]
    counted = int(counts.sum())
    if counted < _FEWEST_IN_TAIL:
        raise ValueError(f"too few pairs of strangers to learn thresholds from: {scores.size}")
    middles = (np.arange(len(counts)) + 0.5) / STEPS
    mean = float(counts @ middles) / counted
    variance = float(counts @ (middles - mean) ** 2) / counted
    shape = min(0.0, max(_LEAST_SHAPE, (1 - mean * mean / variance) / 2))
    return Tail(start, counted / scores.size, mean * (1 - shape), shape, counted)


@dataclass(frozen=True)
class View:
    """One way to compare pictures: per embedder float32 [P,D] unit vectors as probe and as template, and its weight."""

    parts: tuple[tuple[Floats, Floats, float], ...] = field(repr=False)

    def compare(self, rows: slice | Counts, columns: slice | Counts) -> Floats:
        """Scores of some pictures as probes with others as templates, float32 [rows, columns]."""
        return np.asarray(sum(w * (probe[rows] @ other[columns].T) for probe, other, w in self.parts), np.float32)

    def pairs(self, a: Sequence[int], b: Sequence[int]) -> Floats:
        """Scores of single pairs, float32 [N]."""
        rows, columns = list(a), list(b)
        products = [w * np.einsum("nd,nd->n", probe[rows], other[columns]) for probe, other, w in self.parts]
        return np.asarray(sum(products), np.float32)


def codes_of(identities: Sequence[str]) -> Counts:
    """int64 [P]: the same number for the same person."""
    return np.unique(np.asarray(identities, str), return_inverse=True)[1].astype(np.int64)


def all_pairs(view: View, codes: Counts) -> Iterator[tuple[Floats, Booleans, Counts, Counts]]:
    """Every pair of pictures once, in blocks: scores [N], whether both show one person, places of either. `codes`
    [P] numbers the people."""
    size = len(codes)
    step = max(16, _PAIRS_AT_ONCE // max(1, size))
    for at in range(0, size, step):
        rows = slice(at, min(at + step, size))
        block = view.compare(rows, slice(at, size))
        a, b = np.triu_indices(block.shape[0], k=1, m=block.shape[1])
        a, b = a + at, b + at
        yield block[a - at, b - at], codes[a] == codes[b], a, b


def strangers(view: View, codes: Counts) -> Scores:
    """The scores of all pairs that show two people."""
    scores = Scores()
    for values, same, _, _ in all_pairs(view, codes):
        scores.add(values[~same])
    return scores


def wilson(successes: int, size: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, JASA 22 (1927) 209-212); 0 to 1 when there is no trial."""
    if not size:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rate, z2 = successes / size, z * z
    centre = (rate + z2 / (2 * size)) / (1 + z2 / size)
    half = z * math.sqrt(rate * (1 - rate) / size + z2 / (4 * size * size)) / (1 + z2 / size)
    return (centre - half if successes else 0.0), (centre + half if successes < size else 1.0)


def bootstrap(parts: Sequence[tuple[Counts, Counts]], seed: int) -> list[tuple[float, float]]:
    """95 % percentile intervals (Efron 1979) of ratios Σ above ÷ Σ below, each pair of int64 [people].

    People are drawn with replacement, all pictures of one person together: pictures of one person are no
    independent trials. The same draws serve all ratios. Where all or none did the same: Wilson's interval.
    """
    people = len(parts[0][0])
    if not people:
        return [(0.0, 1.0)] * len(parts)
    chance = np.random.default_rng(seed)
    columns = np.stack([column for pair in parts for column in pair], axis=1).astype(np.float64)
    even = np.full(people, 1 / people)
    sums = np.concatenate(
        [chance.multinomial(people, even, size=_ROUNDS_AT_ONCE) @ columns for _ in range(ROUNDS // _ROUNDS_AT_ONCE)]
    )
    return [
        _unanimous(above, below) or _middle(sums[:, 2 * at], sums[:, 2 * at + 1])
        for at, (above, below) in enumerate(parts)
    ]


def _unanimous(above: Counts, below: Counts) -> tuple[float, float] | None:
    """Where all or none did the same no draw differs: Wilson's interval with people as trials."""
    people = int((below > 0).sum())
    if not above.any():
        return wilson(0, people)
    return wilson(people, people) if (above == below).all() else None


def _middle(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float, float]:
    some = below > 0
    low, high = np.quantile(above[some] / below[some], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
