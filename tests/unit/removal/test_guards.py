"""Are platforms spared from too much, and does the press get its second pair of eyes?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.removal.adapters.rules import load_rules
from services.removal.domain.guards import PLATFORM_HELD, PLATFORM_PAUSED, Gate
from services.removal.domain.policy import Pace

RULES = load_rules().guards
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("host", "needed"),
    [
        ("www.korea.go.kr", True),
        ("go.kr", True),
        ("cargo.kr", False),
        ("whitehouse.gov", True),
        ("www.gov.uk", True),
        ("news.naver.com", True),
        ("blog.naver.com", False),
        ("yna.co.kr", True),
        ("notyna.co.kr", False),
        ("supremecourt.example.org", False),
        ("court.example.org", True),
        ("example.com", False),
    ],
)
def test_press_governments_and_courts_need_two_people(host: str, needed: bool) -> None:
    assert needed == RULES.needs_two_people(host)


def test_a_ratio_says_nothing_before_enough_was_decided() -> None:
    few, many = RULES.least_decided - 1, RULES.least_decided
    assert not RULES.too_groundless(few, few)
    assert not RULES.too_groundless(int(RULES.most_groundless * many), many)
    assert RULES.too_groundless(int(RULES.most_groundless * many) + 1, many)


@given(
    st.lists(st.integers(min_value=0, max_value=400_000), min_size=1, max_size=200),
    st.integers(min_value=1, max_value=20),
    st.integers(min_value=1, max_value=10),
    st.integers(min_value=2, max_value=60),
)
def test_no_minute_and_no_day_takes_more_than_the_pace(gaps: list[int], minute: int, burst: int, day: int) -> None:
    gate, now, slots = Gate("x"), NOW, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        slot = gate.turn(Pace(minute, burst, day), now)
        assert slot >= now
        slots.append(slot)
    slots.sort()
    assert most(slots, timedelta(minutes=1)) <= minute + burst
    assert most(slots, timedelta(days=1)) <= day


def most(slots: list[datetime], window: timedelta) -> int:
    """The most slots in any half-open window of that length."""
    return max(sum(start <= slot < start + window for slot in slots) for start in slots)


def test_a_burst_goes_at_once_and_what_follows_takes_turns() -> None:
    gate = Gate("x")
    slots = [gate.turn(Pace(60, 3, 1000), NOW) for _ in range(5)]
    assert [NOW, NOW, NOW, NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)] == slots


def test_a_platform_that_fails_in_a_row_is_left_alone_and_tried_again() -> None:
    gate = Gate("x")
    for _ in range(RULES.failures_in_a_row - 1):
        gate.failed(RULES, NOW)
    assert "" == gate.obstacle(NOW)
    gate.failed(RULES, NOW)
    assert PLATFORM_PAUSED == gate.obstacle(NOW)
    later = NOW + RULES.pause
    assert "" == gate.obstacle(later)
    gate.failed(RULES, later)
    assert PLATFORM_PAUSED == gate.obstacle(later)


def test_a_held_platform_stays_held() -> None:
    assert PLATFORM_HELD == Gate("x", held="GROUNDLESS_RATIO").obstacle(NOW + timedelta(days=999))
