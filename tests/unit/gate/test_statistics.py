"""Are the gate's statistics those of the books?"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gate.domain.statistics import (
    beta_quantile,
    binomial_cdf,
    clopper_pearson,
    ecdf,
    incomplete_beta,
    nearest_rank,
    percentile_interval,
    rank_of,
    wilson,
)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        # The worked example of the nearest-rank method: 15, 20, 35, 40, 50.
        ([15, 20, 35, 40, 50], 0.05, 15),
        ([15, 20, 35, 40, 50], 0.30, 20),
        ([15, 20, 35, 40, 50], 0.40, 20),
        ([15, 20, 35, 40, 50], 0.50, 35),
        ([15, 20, 35, 40, 50], 1.00, 50),
        ([7], 0.95, 7),
        ([1, 2, math.inf], 0.95, math.inf),
    ],
)
def test_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert nearest_rank(values, share) == expected


def test_the_rank_survives_binary_fractions() -> None:
    assert [rank_of(n, 0.95) for n in (20, 100, 10_000, 1_000_000)] == [19, 95, 9_500, 950_000]


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.floats(0.01, 1))
def test_at_least_the_share_lies_at_or_below_the_nearest_rank(values: list[float], share: float) -> None:
    ordered = sorted(values)
    value = nearest_rank(ordered, share)
    assert sum(1 for v in ordered if v <= value) >= share * len(ordered) - 1e-6
    assert sum(1 for v in ordered if v < value) < share * len(ordered)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs values"):
        nearest_rank([], 0.95)


@pytest.mark.parametrize(
    ("successes", "size", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I: exact and score intervals.
        (81, 263, 0.2527, 0.3676),
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson_as_published(successes: int, size: int, low: float, high: float) -> None:
    interval = clopper_pearson(successes, size)
    assert interval == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "size", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, size: int, low: float, high: float) -> None:
    assert wilson(successes, size) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("fewest", "size", "threshold"),
    [
        # "Claimable from": precision 0.90 of 1,000 and acknowledgements 0.995 of 10,000.
        (range(916, 920), 1_000, 0.90),
        (range(9_962, 9_965), 10_000, 0.995),
    ],
)
def test_a_claim_holds_at_its_lower_bound_from_the_known_number_on(
    fewest: range, size: int, threshold: float
) -> None:
    first = next(k for k in range(int(threshold * size), size) if clopper_pearson(k, size).low >= threshold)
    assert first in fewest


@given(st.integers(1, 400), st.data())
def test_the_exact_interval_holds_the_point_value_and_mirrors(size: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, size))
    low, high = clopper_pearson(successes, size)
    assert 0 <= low <= successes / size <= high <= 1
    mirrored = clopper_pearson(size - successes, size)
    assert (low, high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=1e-9)


def test_the_ends_of_the_exact_interval_leave_exactly_their_tails() -> None:
    low, high = clopper_pearson(81, 263)
    assert 1 - binomial_cdf(80, 263, low) == pytest.approx(0.025)
    assert binomial_cdf(81, 263, high) == pytest.approx(0.025)


@given(st.integers(1, 60), st.floats(0.01, 0.99))
def test_the_binomial_distribution_is_the_sum_of_its_terms(size: int, rate: float) -> None:
    total = 0.0
    for k in range(size + 1):
        total += math.comb(size, k) * rate**k * (1 - rate) ** (size - k)
        assert binomial_cdf(k, size, rate) == pytest.approx(total, abs=1e-9)


def test_the_incomplete_beta_function_at_known_points() -> None:
    assert incomplete_beta(1, 1, 0.3) == pytest.approx(0.3)
    assert incomplete_beta(2, 3, 0.5) == pytest.approx(0.6875)
    assert incomplete_beta(0.5, 0.5, 0.5) == pytest.approx(0.5)
    assert beta_quantile(0.5, 2, 2) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # P95 of 100: ranks 90 and 99 (Hahn, Meeker and Escobar: tails at most 2.5 % each).
        (100, (90, 99)),
        (1_000, (936, 964)),
    ],
)
def test_the_interval_of_a_percentile_lies_between_known_ranks(size: int, expected: tuple[int, int]) -> None:
    interval = percentile_interval([float(n) for n in range(1, size + 1)], 0.95)
    assert interval is not None
    low, high = (int(end) for end in interval)
    assert binomial_cdf(low - 1, size, 0.95) <= 0.025 < binomial_cdf(low, size, 0.95)
    assert 1 - binomial_cdf(high - 1, size, 0.95) <= 0.025 < 1 - binomial_cdf(high - 2, size, 0.95)
    assert abs(low - expected[0]) <= 1 and abs(high - expected[1]) <= 1


def test_a_small_sample_has_no_interval_for_a_high_percentile() -> None:
    # The maximum is an upper bound of P95 with 1 - 0.95^n, which passes 97.5 % at n = 72.
    assert percentile_interval([float(n) for n in range(71)], 0.95) is None
    assert percentile_interval([float(n) for n in range(72)], 0.95) is not None


def test_the_interval_covers_the_true_percentile_as_often_as_it_says() -> None:
    chance = random.Random(7)
    truth, hits, rounds = -math.log(0.05), 0, 400
    for _ in range(rounds):
        interval = percentile_interval(sorted(chance.expovariate(1) for _ in range(200)), 0.95)
        assert interval is not None
        hits += interval.low <= truth <= interval.high
    assert hits / rounds >= 0.93


def test_the_steps_of_a_distribution_are_few_end_at_the_last_value_and_leave_out_never() -> None:
    values = [*map(float, range(1, 10_000)), math.inf]
    steps = ecdf(values)
    assert len(steps) <= 202
    assert steps[-1] == (9_999.0, 0.9999)
    assert ecdf([math.inf]) == []
