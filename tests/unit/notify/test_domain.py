"""Do the rules of notices and deliveries say what they should?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.adapters.rules import load_delivery_rules, load_texts
from services.notify.domain import LANGUAGES, Facts, Preferences, Step, Subject, root_of

START = datetime(2026, 3, 2, tzinfo=UTC)
RULES = load_delivery_rules(None, "test")
TEXTS = load_texts(None)


@pytest.mark.parametrize(
    ("attempt", "seconds_since_sent", "expected"),
    [
        (1, 4.9, Step.WAIT),
        (1, 5, Step.RESEND),
        (2, 9.9, Step.WAIT),
        (2, 10, Step.RESEND),
        (11, 60, Step.RESEND),
        (12, 59, Step.WAIT),
        (12, 60, Step.GIVE_UP),
    ],
)
def test_waits_double_up_to_a_bound_and_end_after_the_last_attempt(
    attempt: int, seconds_since_sent: float, expected: Step
) -> None:
    now = START + timedelta(minutes=30)
    sent = now - timedelta(seconds=seconds_since_sent)
    assert expected == RULES.step(START, sent, attempt, now)


def test_what_was_never_handed_over_waits_until_it_is_too_old() -> None:
    end = START + RULES.give_up_after
    assert Step.WAIT == RULES.step(START, None, 0, end - timedelta(seconds=1))
    assert Step.GIVE_UP == RULES.step(START, None, 0, end)


@given(attempt=st.integers(1, 40), sent_after=st.integers(0, 200_000), later=st.integers(0, 10_000))
def test_before_the_next_look_there_is_nothing_to_do(attempt: int, sent_after: int, later: int) -> None:
    sent = START + timedelta(seconds=sent_after)
    look = RULES.next_look(START, sent, attempt)
    assert Step.WAIT == RULES.step(START, sent, attempt, look - timedelta(seconds=1 + later))
    assert Step.WAIT != RULES.step(START, sent, attempt, look)


def test_the_root_is_found_through_any_number_of_merges_and_a_loop_ends() -> None:
    parents = {"a": "b", "b": "c", "c": "c"}
    assert "c" == root_of("a", parents)
    assert "x" == root_of("x", parents)
    assert root_of("l", {"l": "m", "m": "l"}) in {"l", "m"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("subject", Subject)
@pytest.mark.parametrize("discreet", [False, True])
def test_lock_screen_texts_have_no_place_for_details(
    language: str, subject: Subject, discreet: bool
) -> None:
    title, body = TEXTS.for_lock_screen(subject, Preferences(language, discreet))
    assert title and body
    assert "{" not in title + body


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_code_stands_for_itself_and_a_missing_one_is_worded(language: str) -> None:
    _, body = TEXTS.for_inbox(Subject.CASE_OPENED, "OPEN", Facts("FACE", "SOMEWHERE_NEW"), language)
    assert "SOMEWHERE_NEW" in body
    _, bare = TEXTS.for_inbox(Subject.CASE_OPENED, "OPEN", Facts(), language)
    assert "{" not in bare and "UNKNOWN" not in bare


def test_facts_survive_storage_and_a_later_field_is_left_out() -> None:
    facts = Facts("FACE", "NAVER", "blog")
    assert facts == Facts.from_bytes(facts.to_bytes())
    assert Facts("PII") == Facts.from_bytes(b'{"kind": "PII", "later": 1}')


def test_a_text_that_is_missing_stops_the_start_and_is_named(tmp_path: Path) -> None:
    own = tmp_path / "notify"
    own.mkdir()
    (own / "texts.yaml").write_text(
        "version: x\nlock_screen: {ko: {}}\ndiscreet: {}\ninbox: {}\nnames: {}\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"ko\.CASE_OPENED"):
        load_texts(tmp_path)
