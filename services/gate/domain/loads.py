"""Why is a threshold what it is: what does a step away from it cost today?

One function for each figure that is computed from what happened; requirements and README name the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.gate.domain.measures import Fact, duration_text, percent_text

STEP = 0.01
"""One percentage point."""


@dataclass(frozen=True)
class Load:
    """What a step costs, and the numbers that it is computed from."""

    value: str
    terms: Sequence[Fact]


NOTHING = Load("", ())
"""Without data there is no load."""


def resubmissions(requests: int, success: float) -> Load:
    """Resubmissions = requests × (1 - success): further ones for each percentage point that success falls."""
    if not requests:
        return NOTHING
    terms = [
        _count("접수된 요청", "Requests received", requests),
        Fact({"ko": "성공률", "en": "Success"}, percent_text(success)),
        _load("현재 재제출 부담", "Resubmissions now", requests * (1 - success)),
    ]
    return Load(_step(requests), terms)


def waiting(requests: int, days: int, median_ms: float) -> Load:
    """Waiting = waiting time × daily requests: further open requests for each 24 hours that removal takes longer."""
    if not requests:
        return NOTHING
    daily = requests / days
    terms = [
        Fact({"ko": "하루 요청 수", "en": "Requests a day"}, f"{daily:,.1f}"),
        Fact({"ko": "중앙 소요 시간", "en": "Median time"}, duration_text(median_ms)),
    ]
    if median_ms != float("inf"):
        terms.append(_load("현재 대기 중인 요청", "Requests that wait now", median_ms / 86_400_000 * daily))
    return Load(f"{daily:,.1f} / 24 h", terms)


def reopened(closed: int, recurrence: float) -> Load:
    """Reopened = closed × recurrence: further cases for each percentage point."""
    if not closed:
        return NOTHING
    terms = [
        _count("종결된 사건", "Cases closed", closed),
        Fact({"ko": "재발률", "en": "Recurrence"}, percent_text(recurrence)),
        _load("현재 다시 열린 사건", "Reopened now", closed * recurrence),
    ]
    return Load(_step(closed), terms)


def missed_signals(signals: int, coverage: float) -> Load:
    """Missed signals = sample × (1 - coverage): further ones for each percentage point that coverage falls."""
    if not signals:
        return NOTHING
    terms = [
        _count("기간 안의 신호", "Signals in the window", signals),
        Fact({"ko": "포괄률", "en": "Coverage"}, percent_text(coverage)),
        _load("현재 놓치는 신호", "Signals missed now", signals * (1 - coverage)),
    ]
    return Load(_step(signals), terms)


def missed_by_delay(days_late: float, daily_signals: float) -> Load:
    """Missed = days late × daily signals of one channel: signals lost for each day that a channel comes later."""
    terms = [
        Fact({"ko": "기준을 넘긴 일수의 합", "en": "Days beyond the threshold, all channels"}, f"{days_late:,.1f}"),
        Fact({"ko": "채널당 하루 신호 수", "en": "Signals a day and channel"}, f"{daily_signals:,.1f}"),
        _load("현재 놓친 신호", "Signals missed now", days_late * daily_signals),
    ]
    return Load(f"{daily_signals:,.1f} / 24 h", terms)


def unlogged(due: int, rate: float) -> Load:
    """Unlogged = due × (1 - rate): further purges without a record for each percentage point that the rate falls."""
    if not due:
        return NOTHING
    terms = [
        _count("파기 대상", "Purges due", due),
        Fact({"ko": "이행률", "en": "Purge rate"}, percent_text(rate)),
        _load("현재 기록 없는 파기", "Unlogged now", due * (1 - rate)),
    ]
    return Load(_step(due), terms)


def late_answers(received: int, rate: float) -> Load:
    """Late = received × (1 - rate): further late answers for each percentage point that the rate falls."""
    if not received:
        return NOTHING
    terms = [
        _count("접수된 요청", "Requests received", received),
        Fact({"ko": "준수율", "en": "Answered in time"}, percent_text(rate)),
        _load("현재 지연", "Late now", received * (1 - rate)),
    ]
    return Load(_step(received), terms)


def _step(size: int) -> str:
    return f"{size * STEP:,.1f} / 1 %p"


def _count(ko: str, en: str, number: int) -> Fact:
    return Fact({"ko": ko, "en": en}, f"{number:,}")


def _load(ko: str, en: str, number: float) -> Fact:
    return Fact({"ko": ko, "en": en}, f"{number:,.1f}")
