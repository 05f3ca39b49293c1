"""Do quiet hours follow the clock on the wall, also when it is put forward or back?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.domain.quiet import quiet_until


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "zone", "start", "end", "expected"),
    [
        ("2026-03-02T21:59+09:00", "Asia/Seoul", 22 * 60, 7 * 60, None),
        ("2026-03-02T22:00+09:00", "Asia/Seoul", 22 * 60, 7 * 60, "2026-03-03T07:00+09:00"),
        ("2026-03-03T06:59+09:00", "Asia/Seoul", 22 * 60, 7 * 60, "2026-03-03T07:00+09:00"),
        ("2026-03-03T07:00+09:00", "Asia/Seoul", 22 * 60, 7 * 60, None),
        ("2026-03-03T13:30+09:00", "Asia/Seoul", 13 * 60, 14 * 60, "2026-03-03T14:00+09:00"),
        # The same moment is night in Seoul and day in New York.
        ("2026-03-02T23:00+09:00", "America/New_York", 22 * 60, 7 * 60, None),
        # Clocks go forward at 02:00 on 8 March 2026: the night is an hour shorter.
        ("2026-03-08T01:30-05:00", "America/New_York", 22 * 60, 7 * 60, "2026-03-08T07:00-04:00"),
        ("2026-03-08T03:30-04:00", "America/New_York", 22 * 60, 7 * 60, "2026-03-08T07:00-04:00"),
        # An end at 02:30 does not exist that day.
        ("2026-03-08T01:59-05:00", "America/New_York", 22 * 60, 150, "2026-03-08T03:30-04:00"),
        # They go back at 02:00 on 1 November 2026: 01:30 comes twice, the second one ends the night.
        ("2026-11-01T01:45-04:00", "America/New_York", 22 * 60, 90, "2026-11-01T01:30-05:00"),
        ("2026-11-01T01:15-05:00", "America/New_York", 22 * 60, 90, "2026-11-01T01:30-05:00"),
        ("2026-11-01T01:30-05:00", "America/New_York", 22 * 60, 90, None),
        # A start at 01:30 is the first of the two.
        ("2026-11-01T01:30-04:00", "America/New_York", 90, 7 * 60, "2026-11-01T07:00-05:00"),
        ("2026-03-02T23:00+09:00", "Asia/Seoul", -1, -1, None),
        ("2026-03-02T23:00+09:00", "Asia/Seoul", 60, 60, None),
    ],
)
def test_quiet_hours(now: str, zone: str, start: int, end: int, expected: str | None) -> None:
    assert (at(expected) if expected else None) == quiet_until(at(now), zone, start, end)


@given(
    minute=st.integers(0, 2 * 365 * 1440),
    zone=st.sampled_from(["Asia/Seoul", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu"]),
    start=st.integers(0, 1439),
    end=st.integers(0, 1439),
)
def test_quiet_hours_end_within_a_day_and_are_over_then(minute: int, zone: str, start: int, end: int) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    until = quiet_until(now, zone, start, end)
    if until is not None:
        assert 0 < (until - now).total_seconds() <= 26 * 3600
        # Unless the next night follows at once: where start and end are less than an hour apart, a change of clocks may
        # put one upon the other.
        again = quiet_until(until, zone, start, end)
        assert again is None or (start - end) % 1440 <= 60
