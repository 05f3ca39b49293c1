"""How urgent is a case, and what is told in a burst?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from services.case.adapters.rules import load_rules
from services.case.domain.priorities import Burst
from services.case.domain.words import CaseState, Priority, PriorityReason

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RULES = load_rules()


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([], Priority.NORMAL),
        ([PriorityReason.MINOR], Priority.HIGH),
        ([PriorityReason.NAME_AND_ADDRESS], Priority.HIGH),
        ([PriorityReason.SPREADING], Priority.HIGH),
        ([PriorityReason.SEXUAL_CONTENT], Priority.URGENT),
        ([PriorityReason.MINOR, PriorityReason.MINOR], Priority.HIGH),
        ([PriorityReason.MINOR, PriorityReason.SPREADING], Priority.URGENT),
        (list(PriorityReason), Priority.URGENT),
    ],
)
def test_reasons_make_a_case_urgent(reasons: list[PriorityReason], expected: Priority) -> None:
    assert expected is RULES.pace.priority(reasons)


def test_the_more_urgent_a_case_the_sooner_it_is_due_and_only_living_states_are() -> None:
    for state in CaseState:
        times = [RULES.pace.deadline(state, NOW, priority) for priority in Priority]
        ended = state in (CaseState.CLOSED, CaseState.PURGED, CaseState.MERGED)
        assert ended == (times == [None, None, None])
        assert sorted(times, reverse=True, key=lambda time: time or NOW) == times


def test_the_first_of_a_burst_are_told_and_the_others_wait_for_the_digest() -> None:
    rules, burst = RULES.incident.burst, Burst()
    for second in range(1000):
        burst.add(NOW + timedelta(milliseconds=60 * second), rules)
    assert (1000, 1000 - rules.told_singly) == (burst.count, burst.untold(rules))


def test_a_burst_that_is_over_begins_anew_unless_its_digest_is_owed() -> None:
    rules, burst = RULES.incident.burst, Burst()
    burst.add(NOW, rules)
    burst.add(NOW + rules.within, rules)
    assert (NOW + rules.within, 1) == (burst.start_time, burst.count)
    for _ in range(rules.told_singly):
        burst.add(NOW + rules.within, rules)
    burst.add(NOW + 3 * rules.within, rules)
    assert 2 == burst.untold(rules)
    burst.end()
    assert 0 == burst.untold(rules)
