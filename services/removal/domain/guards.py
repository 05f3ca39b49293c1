"""What keeps requests from being too many, groundless, or a means of censorship?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.removal.domain.policy import Pace

TWO_PEOPLE = "TWO_PEOPLE"
VERDICT = "VERDICT"
WAITS_FOR_REVIEW = "WAITS_FOR_REVIEW"
WAITS_FOR_VERDICT = "WAITS_FOR_VERDICT"
PLATFORM_HELD = "PLATFORM_HELD"
PLATFORM_PAUSED = "PLATFORM_PAUSED"
RATE_LIMIT = "RATE_LIMIT"
JOINED = "JOINED"
"""Why a request waits: another subscriber's about the same page is on its way."""
ALONE = "ALONE"
"""Lifted for good: it waited for another's long enough."""
GROUNDLESS_RATIO = "GROUNDLESS_RATIO"
APPROVALS = 2
"""Different people who have to agree."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Rules:
    """The rules of `rules/guards.yaml`."""

    version: str
    groundless_window: timedelta
    least_decided: int
    """Requests that must have been decided before their ratio says anything."""
    most_groundless: float
    turn_lapses_after: timedelta
    """A turn at a platform is lost when it is not used within this: missed ones must not be made up for at once."""
    failures_in_a_row: int
    pause: timedelta
    suffixes: tuple[str, ...]
    labels: frozenset[str]

    def needs_two_people(self, host: str) -> bool:
        """Whether what stands on a host may be of public interest."""
        covered = any(host == suffix or host.endswith(f".{suffix}") for suffix in self.suffixes)
        return covered or not self.labels.isdisjoint(host.split("."))

    def too_groundless(self, groundless: int, decided: int) -> bool:
        """Whether a platform found no ground too often (Network Act 44-13)."""
        return decided >= self.least_decided and groundless > self.most_groundless * decided


@dataclass
class Gate:
    """What stands between our requests and one platform."""

    platform: str
    held: str = ""
    """Why nothing goes there until people let it; empty where it does."""
    pause_until: datetime | None = None
    """Nothing goes there before, for it failed too often."""
    failures: int = 0
    """Failures in a row."""
    minute_time: datetime | None = None
    day_time: datetime | None = None
    """Theoretical arrival times of the next request, by the minute's and the day's limit (GCRA, ITU-T I.371)."""

    def turn(self, pace: Pace, now: datetime) -> datetime:
        """When the next request may go; the turn is taken. In any 24 hours no more than `per_day` go; in any minute no
        more than `per_minute` and a burst.
        """
        half = max(1, pace.per_day // 2)
        slot = now
        slot, self.minute_time = _turn(self.minute_time, timedelta(minutes=1) / pace.per_minute, pace.burst, slot)
        slot, self.day_time = _turn(self.day_time, _DAY / max(1, pace.per_day - half), half, slot)
        return slot

    def obstacle(self, now: datetime) -> str:
        """What keeps requests from going: PLATFORM_HELD, PLATFORM_PAUSED; empty where nothing does."""
        if self.held:
            return PLATFORM_HELD
        return PLATFORM_PAUSED if self.pause_until is not None and now < self.pause_until else ""

    def failed(self, rules: Rules, now: datetime) -> None:
        """Sending did not work; after too many times the platform is left alone for a while."""
        self.failures += 1
        if self.failures >= rules.failures_in_a_row:
            # One more failure after the pause is enough for the next.
            self.failures, self.pause_until = rules.failures_in_a_row - 1, now + rules.pause


def _turn(due: datetime | None, interval: timedelta, burst: int, now: datetime) -> tuple[datetime, datetime]:
    """The slot, and the theoretical arrival time after it."""
    expected = max(due or now, now)
    slot = max(now, expected - interval * (burst - 1))
    return slot, expected + interval
