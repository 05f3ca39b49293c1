"""May a request move like this?"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.removal.domain import policy
from services.removal.domain.request import Request, ResubmissionLimitError
from services.removal.domain.states import (
    ENDED,
    IllegalMoveError,
    Move,
    Outcome,
    State,
    after,
    transitions,
)

README = Path(__file__).parents[3] / "services" / "removal" / "README.md"
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def request(state: State = State.DRAFT) -> Request:
    """A request in a state."""
    return Request(
        request_id="01900000-0000-7000-8000-000000000001",
        subscriber_id="01900000-0000-7000-8000-000000000002",
        platform="naver",
        url_ref=b"",
        episode=1,
        sighting_id="",
        policy_version="1",
        path=policy.Path.HTTP_FORM,
        create_time=NOW,
        state=state,
    )


def test_the_diagram_shows_the_table() -> None:
    drawn = set(re.findall(r"^ +(\w+) --> (\w+): (\w+)$", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert {(before.value, to.value, move.value) for before, move, to in transitions()} == drawn


def test_nothing_leaves_the_end_but_what_is_seen() -> None:
    leaving = {(before, move) for before, move, _ in transitions() if before in ENDED}
    expected = {
        (State.UNVERIFIED, Move.SEE_REMOVED),
        (State.UNVERIFIED, Move.SEE_PRESENT),
        (State.UNVERIFIED, Move.BLOCK),
        (State.UNVERIFIED, Move.DEINDEX),
    }
    assert expected == leaving


def test_every_state_can_be_reached_from_a_draft() -> None:
    reached, fresh = {State.DRAFT}, {State.DRAFT}
    while fresh:
        fresh = {to for before, _, to in transitions() if before in fresh} - reached
        reached |= fresh
    assert set(State) == reached


def test_a_refused_move_changes_nothing() -> None:
    refused = request(State.DRAFT)
    with pytest.raises(IllegalMoveError):
        refused.move(Move.ACCEPT, NOW)
    assert (State.DRAFT, 1, []) == (refused.state, refused.version, refused.transitions)


@given(st.lists(st.sampled_from(Move), max_size=30))
def test_whatever_happens_version_and_log_agree_and_the_clock_starts_once(moves: list[Move]) -> None:
    moved = request()
    first: datetime | None = None
    for number, move in enumerate(moves):
        at = NOW + timedelta(hours=number)
        try:
            expected = after(moved.state, move)
        except IllegalMoveError:
            continue
        moved.move(move, at)
        first = at if first is None and move is Move.ACCEPT else first
        assert expected == moved.state
    assert 1 + len(moved.transitions) == moved.version
    assert first == moved.receive_time
    assert (moved.state in ENDED) == (moved.end_time is not None)


def test_an_attempt_is_new_only_when_the_last_one_is_settled() -> None:
    checked = request(State.CHECKED)
    one = checked.next_attempt()
    assert one is checked.next_attempt()
    one.outcome = Outcome.REFUSED
    assert 2 == checked.next_attempt().number


def test_the_attempts_have_an_end() -> None:
    busy = request(State.CHECKED)
    for _ in range(policy.MOST_ATTEMPTS):
        busy.next_attempt().outcome = Outcome.UNCERTAIN
    with pytest.raises(ResubmissionLimitError):
        busy.next_attempt()


def test_a_supplemented_request_waits_for_a_person() -> None:
    supplemented = request(State.SUPPLEMENTED)
    assert not supplemented.may_be_sent
    supplemented.next_attempt()
    assert supplemented.may_be_sent


def test_a_late_answer_settles_what_had_become_uncertain() -> None:
    lost = request(State.CHECKED)
    attempt = lost.next_attempt()
    lost.lose_track(attempt, "CRASH_WHILE_SENDING", NOW)
    lost.accept(attempt, "R-1", NOW)
    assert (State.RECEIVED, Outcome.ACCEPTED) == (lost.state, attempt.outcome)


def test_a_representation_tells_no_secret() -> None:
    secret = request()
    secret.evidence_sealed = b"sealed"
    assert "sealed" not in repr(secret).replace("evidence_sealed", "")
