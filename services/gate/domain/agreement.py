"""How far do two labellers agree beyond chance?

Cohen's kappa: Cohen, Educational and Psychological Measurement 20 (1960) 37-46. Its large-sample standard error:
Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969) 323-327, as in Fleiss, Levin and Paik, Statistical Methods
for Rates and Proportions (3rd ed. 2003), 18.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from services.gate.domain.statistics import CONFIDENCE, Interval


@dataclass(frozen=True, slots=True)
class Agreement:
    """What pairs of labels say of one another."""

    pairs: int
    equal: int
    kappa: float | None
    """None without pairs, or where all labels are one word: chance alone would agree as well."""
    interval: Interval | None

    @property
    def share(self) -> float | None:
        """Share of equal pairs; None without pairs."""
        return self.equal / self.pairs if self.pairs else None


def agreement(pairs: Sequence[tuple[str, str]], confidence: float = CONFIDENCE) -> Agreement:
    """Kappa of pairs (word of the first labeller, word of the second). Where more than two people label, "first" is
    the one whose reference sorts first: for two people this is Cohen's kappa of these two."""
    size, equal = len(pairs), sum(one == other for one, other in pairs)
    if not size:
        return Agreement(0, 0, None, None)
    words = sorted({word for pair in pairs for word in pair})
    cells = Counter(pairs)
    table = [[cells[row, column] / size for column in words] for row in words]
    rows = [sum(row) for row in table]
    columns = [sum(column) for column in zip(*table, strict=True)]
    observed = equal / size
    expected = sum(row * column for row, column in zip(rows, columns, strict=True))
    if expected >= 1 - 1e-12:
        return Agreement(size, equal, None, None)
    kappa = (observed - expected) / (1 - expected)
    error = _standard_error(table, rows, columns, expected, kappa, size)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Agreement(size, equal, kappa, Interval(max(-1.0, kappa - half), min(1.0, kappa + half)))


def _standard_error(
    table: Sequence[Sequence[float]],
    rows: Sequence[float],
    columns: Sequence[float],
    expected: float,
    kappa: float,
    size: int,
) -> float:
    each = range(len(rows))
    rest = 1 - kappa
    same = sum(table[i][i] * (1 - (rows[i] + columns[i]) * rest) ** 2 for i in each)
    other = rest**2 * sum(table[i][j] * (columns[i] + rows[j]) ** 2 for i in each for j in each if i != j)
    centre = (kappa - expected * rest) ** 2
    return math.sqrt(max(0.0, same + other - centre)) / ((1 - expected) * math.sqrt(size))
