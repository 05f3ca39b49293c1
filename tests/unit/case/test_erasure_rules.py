"""When is an erasure complete, and whose answer is missing?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.case.adapters.rules import load_erasure_rules
from services.case.domain.erasure import begin

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
RULES = load_erasure_rules()


def test_every_service_answers() -> None:
    assert {"case", "detector", "removal", "notify", "gate"} == set(RULES.services)


def test_an_answer_counts_once_and_for_its_round_only() -> None:
    erasure = begin("e", "s", RULES, NOW)
    answers = [erasure.answered("gate", number, RULES, NOW) for number in (2, 1, 1)]
    assert [False, False, False] == answers
    assert {"case", "detector", "removal", "notify"} == set(erasure.missing(NOW))


def test_between_two_rounds_nobody_is_late() -> None:
    erasure = begin("e", "s", RULES, NOW)
    for service in RULES.services:
        erasure.answered(service, 1, RULES, NOW)
    assert (2, ()) == (erasure.round, erasure.missing(NOW))
    assert set(RULES.services) == set(erasure.missing(NOW + RULES.settle))


def test_the_last_answer_of_the_last_round_forgets_who_it_was() -> None:
    erasure = begin("e", "s", RULES, NOW)
    completions = [erasure.answered(s, number, RULES, NOW) for number in (1, 2) for s in RULES.services]
    assert [False] * 9 + [True] == completions
    assert (None, NOW) == (erasure.subscriber_id, erasure.complete_time)
    assert not erasure.overdue(NOW + timedelta(days=365))


def test_a_round_lasts_longer_than_any_call() -> None:
    assert RULES.settle > timedelta(minutes=5)
