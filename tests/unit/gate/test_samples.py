"""Are samples a function of population and seed alone, and do labels count as they should?"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import sqrt

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.ids import uuid7
from services.gate.adapters.html import render
from services.gate.adapters.labels import record_of, sample_of
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.adapters.sampling_rules import load_plans
from services.gate.domain.agreement import agreement
from services.gate.domain.labels import GivenLabel, Settled, labelled, settle
from services.gate.domain.precision import false_positives
from services.gate.domain.report import Occasion, make_report
from services.gate.domain.samples import Alert, Design, Papers, Plan, Sample, draw, strata_of
from services.gate.domain.statistics import clopper_pearson, stratified

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
SEED = "5e" * 32
SIMPLE = Plan("FaceMatchEvalReport_v1", Design.SIMPLE, frozenset({"FACE"}), 30, 5)
BY_GROUP = Plan("FalsePositiveAnalysisReport_v1", Design.STRATIFIED, frozenset({"FACE", "PII"}), 30, 5)


def population(size: int, groups: int = 3, kind: str = "FACE") -> list[Alert]:
    return [Alert(f"{number:06d}", f"G{number % groups}", kind) for number in range(size)]


def sample(plan: Plan = SIMPLE, alerts: int = 100) -> Sample:
    drawn = draw(strata_of(population(alerts), plan), plan, SEED)
    papers = Papers("p-1", b"p" * 32, "q-1", b"q" * 32)
    week = timedelta(days=7)
    return Sample("s", plan, SEED, NOW - week, NOW, NOW + week, {"detector/0": 9}, drawn, "plan-1", papers)


# --- drawing ---


@given(st.integers(0, 2**32), st.sampled_from([SIMPLE, BY_GROUP]))
def test_the_order_in_which_alerts_came_changes_no_sample(seed: int, plan: Plan) -> None:
    alerts = population(120)
    shuffled = random.Random(seed).sample(alerts, len(alerts))
    assert draw(strata_of(alerts, plan), plan, SEED) == draw(strata_of(shuffled, plan), plan, SEED)


def test_hashes_are_those_of_the_ordered_ids_and_of_the_items() -> None:
    drawn = draw(strata_of(population(100), BY_GROUP), BY_GROUP, SEED)
    ids = "".join(f"{number:06d}\n" for number in range(100))
    assert hashlib.sha256(ids.encode()).digest() == drawn.population_sha256
    lines = "".join(f"{item.channel_group}\t{item.decision_id}\n" for item in drawn.items)
    assert hashlib.sha256(lines.encode()).digest() == drawn.manifest_sha256


def test_each_channel_group_is_drawn_from_by_itself_and_a_small_one_is_taken_whole() -> None:
    alerts = [*population(80, groups=2), *(Alert(f"x{n}", "SMALL", "PII") for n in range(4))]
    drawn = draw(strata_of(alerts, BY_GROUP), BY_GROUP, SEED)
    assert [("G0", 40, 30, 35), ("G1", 40, 30, 35), ("SMALL", 4, 4, 4)] == [
        (part.name, part.population, part.size, part.drawn) for part in drawn.strata
    ]


def test_other_kinds_are_not_in_the_population() -> None:
    alerts = [*population(50), *(Alert(f"p{n}", "G0", "PII") for n in range(50))]
    drawn = draw(strata_of(alerts, SIMPLE), SIMPLE, SEED)
    assert (50, {"FACE"}) == (drawn.population_size, {item.kind for item in drawn.items})


def test_every_alert_is_drawn_about_equally_often() -> None:
    plan, times = replace(SIMPLE, size=20, spare=0), dict.fromkeys(range(40), 0)
    for seed in range(800):
        for item in draw(strata_of(population(40), plan), plan, f"{seed:064x}").items:
            times[int(item.decision_id)] += 1
    # Binomial with n = 800, p = 1/2, always by the same seeds.
    assert all(abs(count - 400) < 5 * sqrt(200) for count in times.values())


def test_a_sample_survives_its_record_and_is_drawn_again_from_it() -> None:
    frozen = sample(BY_GROUP)
    again = sample_of(record_of(frozen).sample_log)
    assert frozen == again
    assert again.reproduced_from(population(100))
    assert not again.reproduced_from(population(101))


def test_the_shipped_plans_ask_for_what_the_gates_need() -> None:
    plans = load_plans()
    (simple, _), (by_group, _) = (
        plans.by_report[name] for name in ("FaceMatchEvalReport_v1", "FalsePositiveAnalysisReport_v1")
    )
    assert (Design.SIMPLE, 1000) == (simple.design, simple.size)
    assert (Design.STRATIFIED, 300) == (by_group.design, by_group.size)
    assert ("labelling-1", "label-quality-1") == (plans.papers.policy_version, plans.papers.quality_version)


# --- labels ---


def said(*words: tuple[str, str, str], decision_id: str = "a") -> list[GivenLabel]:
    """(labeller, source, word), a minute apart."""
    return [
        GivenLabel(decision_id, who, source, word, NOW + timedelta(minutes=number), 1000, "p-1")
        for number, (who, source, word) in enumerate(words)
    ]


R, A = "REVIEWER", "ADJUDICATOR"


@pytest.mark.parametrize(
    ("words", "word", "adjudicated", "disputed"),
    [
        ([], "", False, False),
        ([("x", R, "MATCH")], "", False, False),
        ([("x", R, "MATCH"), ("y", R, "MATCH")], "MATCH", False, False),
        ([("x", R, "NO_MATCH"), ("y", R, "NO_MATCH")], "NO_MATCH", False, False),
        ([("x", R, "MATCH"), ("y", R, "NO_MATCH")], "", False, True),
        ([("x", R, "UNSURE"), ("y", R, "UNSURE")], "", False, True),
        ([("x", R, "MATCH"), ("y", R, "UNSURE"), ("z", A, "NO_MATCH")], "NO_MATCH", True, False),
        # One person is one labeller, whatever they say again.
        ([("x", R, "MATCH"), ("x", R, "MATCH")], "", False, False),
        # Nobody decides about their own label, nor before there are two.
        ([("x", R, "MATCH"), ("y", R, "NO_MATCH"), ("x", A, "MATCH")], "", False, True),
        ([("z", A, "MATCH"), ("x", R, "MATCH"), ("y", R, "NO_MATCH")], "", False, True),
        # The first third person counts, and so do the first two labellers.
        ([("x", R, "MATCH"), ("y", R, "NO_MATCH"), ("z", A, "MATCH"), ("w", A, "NO_MATCH")], "MATCH", True, False),
        ([("x", R, "MATCH"), ("y", R, "MATCH"), ("w", R, "NO_MATCH")], "MATCH", False, False),
    ],
)
def test_two_labellers_settle_an_item_or_a_third_does(
    words: list[tuple[str, str, str]], word: str, adjudicated: bool, disputed: bool
) -> None:
    found: Settled = settle(Alert("a", "G0", "FACE"), said(*words))
    assert (word, adjudicated, disputed) == (found.word, found.adjudicated, found.disputed)


def test_spare_items_replace_what_can_no_longer_be_labelled_in_the_order_drawn() -> None:
    frozen = sample()
    ids = [item.decision_id for item in frozen.drawn.items]
    [part] = labelled(frozen, [], frozenset(ids[:2])).parts
    assert (ids[2:32], 2, 3) == ([item.alert.decision_id for item in part.items], part.void, part.spare)


def test_what_was_settled_before_it_became_void_counts() -> None:
    frozen = sample()
    first = frozen.drawn.items[0].decision_id
    found = labelled(frozen, said(("x", R, "MATCH"), ("y", R, "MATCH"), decision_id=first), {first})
    [part] = found.parts
    assert 0 == found.other_policy
    assert (first, 0) == (part.items[0].alert.decision_id, part.void)


def test_labels_of_spare_items_that_are_not_needed_count_nowhere() -> None:
    frozen = sample()
    spare = frozen.drawn.items[-1].decision_id
    found = labelled(frozen, said(("x", R, "MATCH"), ("y", R, "NO_MATCH"), decision_id=spare), frozenset())
    assert (0, 0, ()) == (found.agreement.pairs, found.labellers, found.review_ms)


# --- kappa ---


def pairs(table: dict[tuple[str, str], int]) -> list[tuple[str, str]]:
    return [pair for pair, count in table.items() for _ in range(count)]


FLEISS = {
    ("a", "a"): 75, ("a", "b"): 1, ("a", "c"): 4,
    ("b", "a"): 5, ("b", "b"): 4, ("b", "c"): 1,
    ("c", "a"): 0, ("c", "b"): 0, ("c", "c"): 10,
}  # fmt: skip


def kappa_by_hand(shares: dict[tuple[str, str], float]) -> float:
    words = sorted({word for pair in shares for word in pair})
    observed = sum(shares.get((word, word), 0.0) for word in words)
    expected = sum(
        sum(share for (one, _), share in shares.items() if one == word)
        * sum(share for (_, other), share in shares.items() if other == word)
        for word in words
    )
    return (observed - expected) / (1 - expected)


def test_kappa_and_its_interval_equal_a_published_example_and_the_delta_method() -> None:
    found = agreement(pairs(FLEISS))
    assert found.kappa == pytest.approx(0.676, abs=0.0005)
    size, step = sum(FLEISS.values()), 1e-6
    shares = {pair: count / size for pair, count in FLEISS.items()}
    slopes = {
        pair: (kappa_by_hand(shares | {pair: share + step}) - kappa_by_hand(shares | {pair: share - step})) / (2 * step)
        for pair, share in shares.items()
    }
    mean = sum(shares[pair] * slope for pair, slope in slopes.items())
    variance = sum(shares[pair] * slope**2 for pair, slope in slopes.items()) - mean**2
    half = 1.959964 * sqrt(variance / size)
    assert found.interval == pytest.approx((found.kappa - half, found.kappa + half), abs=1e-4)


def test_kappa_is_one_in_full_agreement_and_nought_by_chance() -> None:
    assert 1.0 == agreement(pairs({("a", "a"): 5, ("b", "b"): 5})).kappa
    chance = agreement(pairs({("a", "a"): 25, ("a", "b"): 25, ("b", "a"): 25, ("b", "b"): 25}))
    assert chance.kappa == pytest.approx(0.0)


@pytest.mark.parametrize("table", [{}, {("a", "a"): 9}])
def test_kappa_is_not_defined_without_pairs_or_with_one_word_alone(table: dict[tuple[str, str], int]) -> None:
    found = agreement(pairs(table))
    assert (None, None) == (found.kappa, found.interval)


# --- the weighted proportion ---


def test_strata_are_weighted_by_their_populations() -> None:
    value, interval = stratified([(900, 3, 300), (100, 30, 300)])
    assert value == pytest.approx(0.9 * 0.01 + 0.1 * 0.1)
    assert interval.low < value < interval.high


def test_one_stratum_has_the_exact_interval_of_its_effective_size() -> None:
    value, interval = stratified([(5000, 15, 301)])
    low, high = clopper_pearson(15, 300)
    assert (value, interval.low, interval.high) == pytest.approx((15 / 301, low, high), abs=3e-4)


@pytest.mark.parametrize("hits", [0, 1])
def test_without_variance_the_interval_is_that_of_the_weights(hits: int) -> None:
    value, interval = stratified([(50, 10 * hits, 10), (50, 10 * hits, 10)])
    low, high = clopper_pearson(20 * hits, 20)
    assert (value, interval.low, interval.high) == pytest.approx((float(hits), low, high))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    chance, strata, covered = random.Random(7), [(700, 0.02), (200, 0.10), (100, 0.3)], 0
    truth = sum(population * rate for population, rate in strata) / 1000
    for _ in range(150):
        drawn = [(size, sum(chance.random() < rate for _ in range(60)), 60) for size, rate in strata]
        low, high = stratified(drawn)[1]
        covered += low <= truth <= high
    # At 95 % coverage 150 draws give 142 on average; 132 is four standard deviations below.
    assert covered >= 132


# --- the page ---


def test_a_report_by_labels_keeps_to_the_schema_and_its_page_cites_the_sample() -> None:
    frozen = replace(sample(BY_GROUP), sample_id=uuid7())
    words = [
        label
        for number, item in enumerate(frozen.drawn.items)
        for label in said(
            ("x", R, "MATCH"),
            ("y", R, "NO_MATCH" if number % 7 == 0 else "MATCH"),
            ("z", A, "NO_MATCH"),
            decision_id=item.decision_id,
        )
    ]
    kpi = load_gates().kpis[BY_GROUP.report]
    measured = false_positives(kpi, frozen, labelled(frozen, words, frozenset()))
    occasion = Occasion(uuid7(), "1.0.0", "ALL", NOW, "gates", "abc", {"case/0": 4})
    report = make_report(kpi, measured, "", None, occasion)
    schema = json.loads((SHIPPED.parent / "schemas" / "report_v1.json").read_text(encoding="utf-8"))
    assert fastjsonschema.compile(schema)(report.document)
    page = render(report.document).decode()
    cited = (frozen.seed, frozen.drawn.manifest_sha256.hex(), "Korn–Graubard", "가장 나쁜 채널 그룹")
    assert [] == [each for each in cited if each not in page]
