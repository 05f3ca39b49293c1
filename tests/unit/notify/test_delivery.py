"""What is done about a delivery, and when?"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.adapters.rules import load_delivery_rules
from services.notify.domain.delivery import Delivery, Standing, Step, next_steps
from services.notify.domain.gathering import Gathering, GatheringRules

START = datetime(2026, 3, 2, tzinfo=UTC)
RULES = replace(load_delivery_rules(None, "test"), fall_back_after=timedelta(days=1))
QUEUED = Standing(Delivery.QUEUED, ready=True, attempt=0, create_time=START, last_sent_time=None, pushable=False)


def sent(attempt: int, at: datetime, **changes: object) -> Standing:
    standing = replace(QUEUED, delivery=Delivery.HANDED_OVER, ready=False, attempt=attempt, last_sent_time=at)
    return replace(standing, **changes)  # type: ignore[arg-type] # any field


@pytest.mark.parametrize(
    ("attempt", "seconds_since_sent", "expected"),
    [
        (1, 4.9, set()),
        (1, 5, {Step.RESEND}),
        (2, 9.9, set()),
        (2, 10, {Step.RESEND}),
        (11, 60, {Step.RESEND}),
        (12, 59, set()),
        (12, 60, {Step.GIVE_UP}),
    ],
)
def test_waits_double_up_to_a_bound_and_end_after_the_last_attempt(
    attempt: int, seconds_since_sent: float, expected: set[Step]
) -> None:
    now = START + timedelta(minutes=30)
    steps, _ = next_steps(sent(attempt, now - timedelta(seconds=seconds_since_sent)), RULES, now)
    assert expected == steps


def test_what_was_never_handed_over_waits_until_it_is_too_old() -> None:
    end = START + RULES.give_up_after
    assert Step.GIVE_UP not in next_steps(QUEUED, RULES, end - timedelta(seconds=1))[0]
    assert {Step.GIVE_UP} == next_steps(QUEUED, RULES, end)[0]


@given(
    attempt=st.integers(0, 12),
    sent_after=st.integers(0, 200_000),
    looked_after=st.integers(0, 260_000),
    ready=st.booleans(),
    pushable=st.booleans(),
)
def test_the_next_look_lies_ahead_and_nothing_is_to_be_done_before_it(
    attempt: int, sent_after: int, looked_after: int, ready: bool, pushable: bool
) -> None:
    now = START + timedelta(seconds=looked_after)
    last = START + timedelta(seconds=min(sent_after, looked_after)) if attempt else None
    delivery = Delivery.HANDED_OVER if attempt else Delivery.QUEUED
    standing = replace(
        QUEUED, delivery=delivery, ready=ready or not attempt, attempt=attempt, last_sent_time=last, pushable=pushable
    )
    steps, look = next_steps(standing, RULES, now)
    assert steps == {Step.GIVE_UP} or look > now
    if not steps:
        assert set() == next_steps(standing, RULES, look - timedelta(seconds=1))[0]


def test_what_waits_is_pushed_where_the_device_can_be_woken_until_the_attempts_are_used_up() -> None:
    woken = replace(QUEUED, pushable=True)
    assert {Step.PUSH} == next_steps(woken, RULES, START)[0]
    assert set() == next_steps(replace(woken, attempt=RULES.max_attempts), RULES, START)[0]


def test_the_alternative_path_begins_after_its_time_or_at_once_when_the_token_is_refused() -> None:
    late = START + RULES.fall_back_after
    assert Step.FALL_BACK in next_steps(QUEUED, RULES, late)[0]
    assert Step.FALL_BACK not in next_steps(replace(QUEUED, fell_back=True), RULES, late)[0]
    assert Step.FALL_BACK in next_steps(replace(QUEUED, token_refused=True), RULES, START)[0]


def test_what_has_arrived_on_the_device_is_neither_sent_again_nor_told_another_way() -> None:
    arrived = sent(1, START, delivery=Delivery.DELIVERED)
    assert set() == next_steps(arrived, RULES, START + RULES.fall_back_after)[0]
    assert {Step.GIVE_UP} == next_steps(arrived, RULES, START + RULES.give_up_after)[0]


def test_quiet_hours_hold_everything_and_wake_no_device_for_what_a_stream_may_show() -> None:
    until = START + timedelta(hours=3)
    held = replace(QUEUED, pushable=True, quiet_until=until)
    assert (frozenset({Step.HOLD}), until) == next_steps(held, RULES, START)
    shown = replace(held, urgent=True)
    assert (frozenset({Step.HOLD}), until) == next_steps(shown, RULES, START)
    late = START + RULES.fall_back_after
    assert Step.FALL_BACK not in next_steps(replace(shown, quiet_until=late + timedelta(hours=1)), RULES, late)[0]
    assert {Step.PUSH} == next_steps(replace(shown, quiet_until=None), RULES, until)[0] - {Step.FALL_BACK}


def test_what_a_stream_showed_in_quiet_hours_and_nobody_acknowledged_is_shown_again() -> None:
    late = START + timedelta(minutes=10)
    shown = replace(sent(1, START, delivery=Delivery.HANDED_OVER), urgent=True, quiet_until=late + timedelta(hours=3))
    assert {Step.RESEND} == next_steps(shown, RULES, late)[0]


def test_nothing_is_given_up_while_the_subscriber_is_suspended() -> None:
    steps, look = next_steps(replace(QUEUED, suspended=True), RULES, START + 2 * RULES.give_up_after)
    assert set() == steps
    assert look > START + 2 * RULES.give_up_after


# --- digests ---

GATHERING = GatheringRules(at_once=3, window=timedelta(minutes=10), gather_for=timedelta(minutes=5))


def test_a_thousand_notices_at_once_are_a_few_and_one_digest() -> None:
    gathering, alone = Gathering(START), 0
    for number in range(1000):
        gathering, gathered = gathering.add(START, timedelta(), GATHERING, f"digest-{number}")
        alone += not gathered
    assert (3, 997, START + timedelta(minutes=5)) == (alone, gathering.gathered, gathering.due_time)


def test_a_flood_that_goes_on_after_a_digest_is_gathered_at_once_and_calm_ends_it() -> None:
    closed = Gathering(START, digest_id="d", gathered=9).close(START, GATHERING)
    later = START + timedelta(minutes=10)
    assert closed.add(START, timedelta(), GATHERING, "e")[1]
    assert not closed.add(later, timedelta(), GATHERING, "e")[1]


def test_who_wishes_digests_gets_no_notice_alone() -> None:
    gathering, gathered = Gathering(START).add(START, timedelta(hours=1), GATHERING, "d")
    assert (True, START + timedelta(hours=1)) == (gathered, gathering.due_time)
