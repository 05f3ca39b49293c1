"""Do figures of operation and compliance equal an independent calculation, whatever way their records come?"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gate.adapters.rules import load_gates
from services.gate.domain.judging import LOG_RECORDS_MISSING, UNUSABLE_RECORDS, judge_measurement
from services.gate.domain.kpis import Kpi, Outcome, Population
from services.gate.domain.measures import Measurement
from services.gate.domain.survival import Observation, kaplan_meier, median, median_interval
from services.gate.handlers import MEASURES
from tests.data.histories import (
    CASE_KIND_FACE,
    CASE_KIND_PRE_UPLOAD,
    DAY,
    GROUPS,
    HOUR,
    History,
    disturbed,
)
from tests.unit.gate.memory_records import MemoryRecords

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
KPIS = load_gates().kpis
SEEDS = st.integers(0, 2**32)


def history(seed: int = 1) -> History:
    return History(NOW, random.Random(seed))


def measured(report: str, made: History, *, seed: int | None = None, kpi: Kpi | None = None) -> Measurement:
    """The figure of a history, its records as they were written, or disturbed."""
    records: Any = MemoryRecords(made.records if seed is None else disturbed(made, random.Random(seed)))
    return asyncio.run(MEASURES[report](kpi or KPIS[report], records, NOW))  # type: ignore[arg-type] # a coroutine


def outcome(report: str, made: History) -> tuple[Outcome, list[str]]:
    return judge_measurement(KPIS[report], measured(report, made))


def excluded(figure: Measurement) -> dict[str, int]:
    return {each.name: each.count for each in figure.excluded if each.count}


def strata(figure: Measurement, dimension: str) -> dict[str, tuple[int, float]]:
    return {each.name: (each.size, each.value) for each in figure.strata if each.dimension == dimension}


# --- removal: success ---

SUCCESS, TTR = "RemovalSuccessRateReport_v1", "PlatformTTRReport_v1"


@dataclass(frozen=True)
class Truth:
    """A request that a platform received."""

    platform: str
    receive: datetime
    end: datetime | None
    state: str

    @property
    def done(self) -> bool:
        return self.end is not None and self.state in ("REMOVED", "TEMP_BLOCKED")


def removals(made: History, chance: random.Random, most: int = 400) -> list[Truth]:
    """Requests of some platforms, some before the window, never received, or open; the truth of those that count."""
    truths = []
    for _ in range(chance.randrange(most)):
        platform = chance.choice(("naver", "naver", "naver", "x", "meta", "tiny"))
        receive = NOW - chance.uniform(0, 40) * DAY
        if chance.random() < 0.1:
            made.request(platform, None)
            continue
        state = chance.choice(("REMOVED",) * 6 + ("TEMP_BLOCKED", "UNRESOLVED", "DEINDEXED", "WITHDRAWN", "UNVERIFIED"))
        end = receive + chance.expovariate(1 / chance.choice((20, 60, 200))) * HOUR + timedelta(minutes=10)
        known = end if end <= NOW and chance.random() < 0.9 else None
        made.request(platform, receive, known, state, resubmitted=chance.random() < 0.2)
        if receive >= NOW - 30 * DAY:
            truths.append(Truth(platform, receive, known, state))
    return truths


def worst_of(
    kpi: Kpi, by_part: dict[str, tuple[int, float]], pool: tuple[int, float] | None
) -> tuple[int, float] | None:
    """Size and value of what decides: the worst of the whole and of the parts that are large enough."""
    if pool is None:
        return None
    large = [each for each in by_part.values() if each[0] >= 100]
    if not large:
        return (max(size for size, _ in by_part.values()), pool[1])
    values = [value for _, value in [*large, pool]]
    worst = min(values) if kpi.threshold.direction == "AT_LEAST" else max(values)
    return (0, worst)


@settings(max_examples=15, deadline=None)
@given(SEEDS)
@pytest.mark.slow
def test_success_by_platform_and_cohort_equals_a_plain_count(seed: int) -> None:
    made = history(seed)
    truths = removals(made, random.Random(seed))
    figure = measured(SUCCESS, made, seed=seed)
    by_platform: defaultdict[str, list[bool]] = defaultdict(list)
    for truth in truths:
        by_platform[truth.platform].append(truth.done)
    rates = {name: (len(hits), sum(hits) / len(hits)) for name, hits in by_platform.items()}
    closed = [truth.done for truth in truths if truth.receive <= NOW - 7 * DAY]
    assert strata(figure, "platform") == rates
    cohorts = strata(figure, "cohort")
    assert cohorts.get("CLOSED") == ((len(closed), sum(closed) / len(closed)) if closed else None)
    pool = (len(truths), sum(t.done for t in truths) / len(truths)) if truths else None
    assert cohorts.get("ALL") == pool
    expected = worst_of(KPIS[SUCCESS], rates, pool)
    assert figure.value == (expected[1] if expected else None)
    assert (figure.size >= 100) == any(size >= 100 for size, _ in rates.values())


def test_a_bad_platform_does_not_hide_behind_good_ones() -> None:
    made = history()
    for number in range(300):
        made.request("naver", NOW - 10 * DAY - number * HOUR / 10, NOW - 9 * DAY)
    for number in range(100):
        made.request("x", NOW - 10 * DAY, NOW - 9 * DAY if number < 70 else None)
    assert outcome(SUCCESS, made) == (Outcome.FAILED, ["THRESHOLD_NOT_MET"])
    assert measured(SUCCESS, made).value == 0.70


def test_many_small_platforms_do_not_pass_as_one() -> None:
    made = history()
    for number in range(900):
        made.request(f"platform-{number % 10}", NOW - 10 * DAY, NOW - 9 * DAY)
    assert outcome(SUCCESS, made) == (Outcome.INCONCLUSIVE, ["SAMPLE_TOO_SMALL"])
    assert measured(SUCCESS, made).size == 90


def test_small_platforms_are_shown_and_decide_only_within_the_whole() -> None:
    made = history()
    for _ in range(100):
        made.request("naver", NOW - 10 * DAY, NOW - 9 * DAY)
    for _ in range(20):
        made.request("x", NOW - 10 * DAY)
    assert outcome(SUCCESS, made)[0] is Outcome.PASSED
    assert strata(measured(SUCCESS, made), "platform") == {"naver": (100, 1.0), "x": (20, 0.0)}
    for _ in range(14):
        made.request("meta", NOW - 10 * DAY)
    assert outcome(SUCCESS, made)[0] is Outcome.FAILED


def test_rejected_given_up_withdrawn_and_silent_requests_stay_in_the_count() -> None:
    made = history()
    for state in ("REMOVED", "TEMP_BLOCKED", "REJECTED", "UNRESOLVED", "WITHDRAWN", "DEINDEXED", "UNVERIFIED"):
        made.request("naver", NOW - 10 * DAY, NOW - 9 * DAY, state)
    made.request("naver", NOW - 10 * DAY)
    made.request("naver", None)
    figure = measured(SUCCESS, made)
    assert (strata(figure, "platform"), excluded(figure)) == ({"naver": (8, 0.25)}, {"NOT_RECEIVED": 1})


def test_what_cannot_be_is_a_class_and_counts_against_a_pass() -> None:
    made = history()
    for _ in range(100):
        made.request("naver", NOW - 10 * DAY, NOW - 9 * DAY)
    for _ in range(30):
        made.request("naver", NOW - 10 * DAY, NOW - 11 * DAY)
    for _ in range(10):
        made.request("naver", NOW - 10 * DAY, NOW - 9 * DAY, "VANISHED")
    figure = measured(SUCCESS, made)
    assert excluded(figure) == {"IMPOSSIBLE_ORDER": 30, "UNKNOWN_STATE": 10}
    assert (figure.value, figure.at_worst) == (1.0, 100 / 140)
    assert outcome(SUCCESS, made) == (Outcome.INCONCLUSIVE, [UNUSABLE_RECORDS])


def test_a_change_that_was_never_written_is_a_class_and_counts_against_a_pass() -> None:
    made = history()
    for number in range(140):
        made.request("naver", NOW - 10 * DAY, NOW - 9 * DAY, resubmitted=True)
        if number >= 100:
            # What the platform rejected, say.
            rejected = [n for n, (_, r) in enumerate(made.records) if r.removal_request_log.to_state == "REJECTED"]
            del made.records[rejected[-1]]
    figure = measured(SUCCESS, made)
    assert (figure.size, excluded(figure)) == (100, {"STEP_MISSING": 40})
    assert outcome(SUCCESS, made) == (Outcome.INCONCLUSIVE, [UNUSABLE_RECORDS])


# --- removal: time ---


@settings(max_examples=15, deadline=None)
@given(SEEDS)
@pytest.mark.slow
def test_the_median_with_censoring_equals_scipy(seed: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    chance = random.Random(seed)
    watched = [
        Observation(float(chance.randrange(1, 60)), chance.random() < chance.choice((0.3, 0.9)))
        for _ in range(chance.randrange(1, 120))
    ]
    sample = stats.CensoredData.right_censored(
        [each.time for each in watched], [not each.happened for each in watched]
    )
    curve = stats.ecdf(sample).sf
    low, high = (end.probabilities for end in _bands(curve))
    steps = kaplan_meier(watched)
    theirs = {float(q): float(p) for q, p in zip(curve.quantiles, curve.probabilities, strict=True)}
    assert {step.at: pytest.approx(step.share, abs=1e-12) for step in steps} == {
        step.at: theirs[step.at] for step in steps
    }
    reached = [q for q, p in theirs.items() if p <= 0.5 + 1e-12]
    assert median(steps) == min(reached, default=math.inf)
    ours = {step.at: step for step in steps}
    for quantile, lower, upper in zip(curve.quantiles, low, high, strict=True):
        if float(quantile) in ours and not math.isnan(lower) and 0 < theirs[float(quantile)] < 1:
            step = ours[float(quantile)]
            assert (step.low, step.high) == (pytest.approx(lower, abs=1e-9), pytest.approx(upper, abs=1e-9))


def _bands(curve: Any) -> tuple[Any, Any]:
    import warnings

    with warnings.catch_warnings():
        # Where nothing happened, or all is over, the band is not defined, and scipy says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        found = curve.confidence_interval(method="log-log")
    return found.low, found.high


def plain_median(truths: Sequence[Truth]) -> float:
    """Kaplan–Meier by its definition, one distinct time after another."""
    ms = timedelta(milliseconds=1)
    ends = [(t.end - t.receive) / ms for t in truths if t.done and t.end]
    watched = [*ends, *((NOW - t.receive) / ms for t in truths if not t.done)]
    share = 1.0
    for time in sorted(set(ends)):
        at_risk = sum(each >= time for each in watched)
        ended = sum(each == time for each in ends)
        share *= 1 - ended / at_risk
        if share <= 0.5 + 1e-12:
            return time
    return math.inf


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_time_to_removal_by_platform_and_cohort_equals_the_definition(seed: int) -> None:
    made = history(seed)
    truths = removals(made, random.Random(seed), most=250)
    figure = measured(TTR, made, seed=seed)
    by_platform: defaultdict[str, list[Truth]] = defaultdict(list)
    for truth in truths:
        by_platform[truth.platform].append(truth)
    medians = {name: (len(group), plain_median(group)) for name, group in by_platform.items()}
    assert strata(figure, "platform") == medians
    closed = [truth for truth in truths if truth.receive <= NOW - 7 * DAY]
    assert strata(figure, "cohort").get("CLOSED") == ((len(closed), plain_median(closed)) if closed else None)
    pool = (len(truths), plain_median(truths)) if truths else None
    expected = worst_of(KPIS[TTR], medians, pool)
    assert figure.value == (expected[1] if expected else None)


def test_a_median_that_is_not_reached_fails() -> None:
    made = history()
    for number in range(200):
        made.request("naver", NOW - 20 * DAY, NOW - 19 * DAY if number < 90 else None)
    assert outcome(TTR, made) == (Outcome.FAILED, ["THRESHOLD_NOT_MET"])
    assert measured(TTR, made).value == math.inf


def test_giving_up_does_not_shorten_the_time_of_the_others() -> None:
    made = history()
    for number in range(200):
        end = NOW - 20 * DAY + (number % 24) * HOUR
        made.request("naver", NOW - 20 * DAY, end, "REMOVED" if number < 90 else "UNRESOLVED")
    assert measured(TTR, made).value == math.inf


def test_a_resubmission_does_not_restart_the_clock() -> None:
    made = history()
    for _ in range(100):
        made.request("naver", NOW - 20 * DAY, NOW - 15 * DAY, resubmitted=True)
    figure = measured(TTR, made)
    assert figure.value == 5 * DAY / timedelta(milliseconds=1)
    assert outcome(TTR, made)[0] is Outcome.FAILED


def test_the_band_of_the_median_may_have_no_upper_end() -> None:
    steps = kaplan_meier([Observation(1.0, True), Observation(2.0, True), Observation(3.0, False)])
    assert median(steps) == 2.0
    assert median_interval(steps).high == math.inf


# --- recurrence ---

RECURRENCE = "RepostRecurrenceReport_v1"


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_recurrence_equals_a_plain_count_over_closings_and_finds(seed: int) -> None:
    chance, made = random.Random(seed), history(seed)
    counted: list[bool] = []
    for _ in range(chance.randrange(200)):
        close = NOW - chance.uniform(0, 120) * DAY
        resolution = chance.choice(("REMOVED",) * 5 + ("FALSE_POSITIVE", "TEMP_BLOCKED", "UNRESOLVED"))
        kind = chance.choice((CASE_KIND_FACE,) * 6 + (CASE_KIND_PRE_UPLOAD,))
        case_id = made.closing(close, resolution, kind)
        finds = [close + chance.uniform(0.01, 70) * DAY for _ in range(chance.choice((0, 0, 0, 1, 2)))]
        finds = [find for find in finds if find <= NOW]
        blocked = resolution == "TEMP_BLOCKED"
        for find in finds:
            made.found_again(case_id, close, find, blocked=blocked)
        if NOW - 90 * DAY <= close <= NOW - 30 * DAY and resolution != "FALSE_POSITIVE" and kind == CASE_KIND_FACE:
            counted.append(any(find - close <= 30 * DAY or blocked for find in finds))
    figure = measured(RECURRENCE, made, seed=seed)
    assert (figure.size, figure.value) == (len(counted), sum(counted) / len(counted) if counted else None)


def test_a_closing_recurs_once_and_each_closing_of_a_case_counts() -> None:
    made, first, second = history(), NOW - 80 * DAY, NOW - 60 * DAY
    case_id = made.closing(first)
    made.found_again(case_id, first, first + DAY)
    made.found_again(case_id, first, first + 2 * DAY)
    made.closing(second, case_id=case_id)
    assert (measured(RECURRENCE, made).size, measured(RECURRENCE, made).value) == (2, 0.5)


def test_a_temporary_block_that_ends_and_reappears_counts_beyond_the_horizon() -> None:
    made, close = history(), NOW - 75 * DAY
    case_id = made.closing(close, "TEMP_BLOCKED")
    other = made.closing(close, "REMOVED")
    blocked = made.request("naver", close - 2 * DAY, close - DAY, "TEMP_BLOCKED", cases=[case_id])
    removed = made.request("naver", close - 2 * DAY, close - DAY, "REMOVED", cases=[other])
    for previous, case in ((blocked, case_id), (removed, other)):
        made.request("naver", None, previous=previous, cases=[case], created=close + 35 * DAY)
    figure = measured(RECURRENCE, made)
    assert strata(figure, "resolution") == {"REMOVED": (1, 0.0), "TEMP_BLOCKED": (1, 1.0)}


def test_closings_too_young_to_be_watched_and_too_old_are_left_out() -> None:
    made = history()
    for days in (10, 29.9, 30.1, 89.9, 90.1):
        made.closing(NOW - days * DAY)
    assert measured(RECURRENCE, made).size == 2


def test_a_find_whose_closing_was_not_logged_counts_against_a_pass() -> None:
    made = history()
    for _ in range(100):
        made.closing(NOW - 50 * DAY)
    for _ in range(12):
        made.found_again(made.new_id("case"), NOW - 50 * DAY, NOW - 45 * DAY)
    figure = measured(RECURRENCE, made)
    assert (figure.value, excluded(figure)) == (0.0, {"CLOSING_NOT_LOGGED": 12})
    assert outcome(RECURRENCE, made) == (Outcome.INCONCLUSIVE, [UNUSABLE_RECORDS])


# --- channels ---

COVERAGE, ONBOARDING = "ChannelCoverageReport_v1", "ChannelOnboardingLeadtimeReport_v1"


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_coverage_equals_a_plain_count(seed: int) -> None:
    chance, made, counts = random.Random(seed), history(seed), Counter[str]()
    kpi = replace(KPIS[COVERAGE], population=replace(KPIS[COVERAGE].population, least_per_group=20))
    for group in (*GROUPS, "elsewhere"):
        for _ in range(chance.choice((0, 19, 20, 25))):
            made.signal(NOW - chance.uniform(0, 29) * DAY, group)
            counts[group] += 1
        made.signal(NOW - 31 * DAY, group)
    figure = measured(COVERAGE, made, seed=seed, kpi=kpi)
    size = sum(counts[group] for group in GROUPS)
    assert (figure.size, figure.value) == (size, sum(counts[g] >= 20 for g in GROUPS) / 10 if size else None)
    assert excluded(figure) == ({"OTHER_GROUP": counts["elsewhere"]} if counts["elsewhere"] else {})


@pytest.mark.parametrize(("covered", "expected"), [(10, Outcome.PASSED), (9, Outcome.PASSED), (8, Outcome.FAILED)])
def test_of_ten_groups_nine_must_be_covered(covered: int, expected: Outcome) -> None:
    made = history()
    for number, group in enumerate(GROUPS):
        for _ in range(230 if number < covered else 199):
            made.signal(NOW - DAY, group)
    assert outcome(COVERAGE, made)[0] is expected


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_onboarding_equals_the_nearest_rank_of_lead_times(seed: int) -> None:
    chance, made, lead = random.Random(seed), history(seed), []
    for number in range(chance.randrange(14)):
        required = NOW - chance.uniform(0, 89) * DAY
        days = chance.uniform(0, 30)
        live = required + days * DAY if chance.random() < 0.8 else None
        live = live if live is not None and live <= NOW else None
        made.onboarding(f"channel-{number}", required, live)
        if live is not None and chance.random() < 0.3:
            made.onboarding(f"channel-{number}", None, min(NOW, live + DAY))
        if live is not None:
            lead.append((live - required) / DAY)
        elif NOW - required > 14 * DAY:
            lead.append(math.inf)
    figure = measured(ONBOARDING, made, seed=seed)
    assert figure.size == len(lead)
    assert figure.value == (sorted(lead)[math.ceil(0.9 * len(lead) - 1e-9) - 1] if lead else None)


def test_of_five_channels_the_slowest_decides() -> None:
    made = history()
    for number, days in enumerate((1, 2, 3, 4, 14.5)):
        made.onboarding(f"channel-{number}", NOW - 40 * DAY, NOW - 40 * DAY + days * DAY)
    assert outcome(ONBOARDING, made)[0] is Outcome.FAILED
    assert measured(ONBOARDING, made).value == 14.5


def test_a_channel_that_came_with_the_system_is_not_new() -> None:
    made = history()
    made.onboarding("naver-search", None, NOW - DAY)
    figure = measured(ONBOARDING, made)
    assert (figure.value, excluded(figure)) == (None, {"NOT_NEW": 1})


# --- purges ---

PURGES = "PurgeAuditReport_v1"


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_both_lists_of_purges_are_reconciled(seed: int) -> None:
    chance, made = random.Random(seed), history(seed)
    done = late = missing = never = pending = 0
    for _ in range(chance.randrange(300)):
        due = NOW - chance.uniform(-5, 29) * DAY
        sort = chance.choice(("in time", "in time", "in time", "late", "missing", "never due", "kind without list"))
        if sort == "kind without list":
            made.purge("CAPTURE", None, min(NOW, due))
        elif sort == "never due":
            made.purge("SPOOL_KEY", None, min(NOW, due))
            never += 1
        elif sort == "in time":
            log = due + chance.uniform(-1, 1) * DAY
            made.purge("REDACTION", due, log if log <= NOW else None, listed=due - 9 * DAY)
            logged = log <= NOW
            done += due <= NOW and logged
            pending += due <= NOW and not logged
        elif sort == "late":
            log = due + chance.uniform(1.01, 9) * DAY
            made.purge("REDACTION", due, log if log <= NOW else None, listed=due - 9 * DAY)
            late += due <= NOW and log <= NOW
            missing += due <= NOW - DAY and log > NOW
            pending += NOW - DAY < due <= NOW
        else:
            made.purge("UPLOAD_CHECK", due, None, listed=due - 9 * DAY)
            missing += due <= NOW - DAY
            pending += NOW - DAY < due <= NOW
    figure = measured(PURGES, made, seed=seed)
    size = done + late + missing + never
    assert (figure.size, figure.value) == (size, done / size if size else None)
    assert excluded(figure).get("PENDING", 0) == pending


def test_a_purge_that_nobody_had_listed_counts_against_the_figure() -> None:
    made = history()
    for _ in range(100):
        made.purge("UPLOAD_CHECK", NOW - 10 * DAY, NOW - 10 * DAY)
    assert outcome(PURGES, made)[0] is Outcome.PASSED
    for _ in range(3):
        made.purge("UPLOAD_CHECK", None, NOW - 10 * DAY)
    assert outcome(PURGES, made) == (Outcome.FAILED, ["THRESHOLD_NOT_MET"])


# --- rights ---

RIGHTS = "RightsRequestSLAReport_v1"
TYPES = ("ACCESS", "CORRECTION", "DELETION", "SUSPENSION", "EXPLANATION")


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_rights_in_time_equal_a_plain_count(seed: int) -> None:
    chance, made = random.Random(seed), history(seed)
    by_type: defaultdict[str, list[bool]] = defaultdict(list)
    open_ones = 0
    for _ in range(chance.randrange(200)):
        kind = chance.choice(TYPES)
        received = NOW - chance.uniform(0, 100) * DAY
        due = received + (30 if kind == "EXPLANATION" else 10) * DAY
        answered = received + chance.uniform(0, 12) * DAY if chance.random() < 0.9 else None
        answered = answered if answered and answered <= NOW else None
        made.right(kind, received, due, answered, chance.choice(("FULFILLED", "REJECTED")))
        if received >= NOW - 90 * DAY:
            if answered is not None:
                by_type[kind].append(answered <= due)
            elif due < NOW:
                by_type[kind].append(False)
            else:
                open_ones += 1
    figure = measured(RIGHTS, made, seed=seed)
    rates = {kind: (len(hits), sum(hits) / len(hits)) for kind, hits in by_type.items()}
    everyone = [hit for hits in by_type.values() for hit in hits]
    assert strata(figure, "type") == rates
    large = [rate for size, rate in rates.values() if size >= 30]
    pool = sum(everyone) / len(everyone) if everyone else None
    assert figure.value == (min([*large, pool]) if pool is not None else None)
    assert excluded(figure).get("OPEN_BEFORE_DUE", 0) == open_ones


def test_an_extension_counts_where_it_came_before_the_deadline() -> None:
    for extended_on, expected in ((9, 1.0), (11, 0.0)):
        made, received = history(), NOW - 60 * DAY
        made.right("ACCESS", received, received + 10 * DAY, None)
        request_id = made.records[-1][1].rights_request_log.rights_request_id
        for state, day in (("EXTENDED", extended_on), ("FULFILLED", 30)):
            made.right("ACCESS", received + day * DAY, received + 40 * DAY, None)
            log = made.records[-1][1].rights_request_log
            log.rights_request_id, log.to_state = request_id, state
        assert measured(RIGHTS, made).value == expected


def test_fulfilled_before_received_is_a_class_of_its_own() -> None:
    made = history()
    made.right("ACCESS", NOW - 20 * DAY, NOW - 10 * DAY, NOW - 21 * DAY)
    made.right("HANDSHAKE", NOW - 20 * DAY, NOW - 10 * DAY, NOW - 19 * DAY)
    figure = measured(RIGHTS, made)
    assert (figure.value, excluded(figure)) == (None, {"IMPOSSIBLE_ORDER": 1, "UNKNOWN_TYPE": 1})


# --- all of them ---


@pytest.mark.parametrize("report", sorted(set(MEASURES) - {"FaceMatchEvalReport_v1", "FalsePositiveAnalysisReport_v1"}))
def test_missing_records_make_every_figure_an_error(report: str) -> None:
    records: Any = MemoryRecords((), missing=3)
    figure = asyncio.run(MEASURES[report](KPIS[report], records, NOW))  # type: ignore[arg-type] # a coroutine
    assert judge_measurement(KPIS[report], figure) == (Outcome.ERROR, ["NO_DATA", LOG_RECORDS_MISSING])


def test_every_part_that_is_judged_is_large_enough_for_its_gate() -> None:
    rules = {name: kpi.population.parts for name, kpi in KPIS.items() if kpi.population != Population()}
    assert all(parts is None or parts.required >= KPIS[name].required_size for name, parts in rules.items())
