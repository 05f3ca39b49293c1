"""Is the end of a removal request counted as the gate takes it?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.removal.domain.policy import Path
from services.removal.domain.request import Request, Transition
from services.removal.domain.states import Move, State
from services.removal.metrics import count_move
from tests.metrics_page import value

RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)


def ended(outcome: str) -> float:
    return value("jikimi_removal_ended_total", platform="trial", outcome=outcome) or 0.0


def moved(before: State, after: State, received: bool = True) -> tuple[float, float]:
    """By how much (gone, not gone) rose."""
    request = Request("r", "s", "trial", b"", 1, "g", "policy-1", Path.HTTP_FORM, RECEIVED)
    request.receive_time = RECEIVED if received else None
    at = RECEIVED + timedelta(hours=30)
    gone, not_gone = ended("gone"), ended("not_gone")
    count_move(request, Transition(before, after, Move.SEE_REMOVED, 1, 2, at, ""))
    return ended("gone") - gone, ended("not_gone") - not_gone


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (State.RECEIVED, State.REMOVED, (1, 0)),
        (State.RECEIVED, State.TEMP_BLOCKED, (1, 0)),
        (State.TEMP_BLOCKED, State.REMOVED, (0, 0)),
        (State.RECEIVED, State.UNRESOLVED, (0, 1)),
        (State.RECEIVED, State.DEINDEXED, (0, 1)),
        (State.RECEIVED, State.WITHDRAWN, (0, 0)),
        (State.RECEIVED, State.REJECTED, (0, 0)),
    ],
)
def test_an_end_is_counted_once_and_as_what_it_is(
    before: State, after: State, expected: tuple[float, float]
) -> None:
    assert expected == moved(before, after)


def test_what_no_platform_received_is_not_counted() -> None:
    assert (0, 0) == moved(State.CHECKED, State.REMOVED, received=False)
