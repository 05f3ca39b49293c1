"""Does a request get attention when it needs it, and each reminder once?"""

from __future__ import annotations

import pathlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from services.removal.adapters.policy_files import PolicyFiles
from services.removal.adapters.rules import SHIPPED, RulesError, load_rules
from services.removal.domain.following import Step, moments
from services.removal.domain.policy import Path, Policy
from services.removal.domain.request import Request
from services.removal.domain.states import State

RULES = load_rules().following
POLICIES = PolicyFiles()
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def naver() -> Policy:
    """A shipped policy: 24 hours to acknowledge, 72 to decide, 720 of silence."""
    found = POLICIES.get("naver")
    assert found is not None
    return found


def request(state: State, **fields: object) -> Request:
    """A request that came into a state now and was looked at before."""
    made = Request("01900000-0000-7000-8000-000000000001", "", "naver", b"", 1, "", "1", Path.HTTP_FORM, NOW)
    given = {"state": state, "state_time": NOW, "looks": 1, "look_time": NOW, **fields}
    for name, value in given.items():
        setattr(made, name, value)
    return made


def hours(made: Request) -> list[tuple[float, str, str]]:
    """(hours from now, step, name) of what is to be done."""
    return [
        ((moment.time - NOW) / HOUR, moment.step.value, moment.name) for moment in moments(made, naver(), RULES)
    ]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (request(State.CHECKED, looks=0), [(0, "LOOK", "")]),
        (request(State.CHECKED), []),
        (
            request(State.SUBMITTED),
            [(1, "LOOK", ""), (24, "MARK", "NO_ACKNOWLEDGEMENT"), (720, "GIVE_UP", "SILENCE")],
        ),
        (
            request(State.RECEIVED, looks=3),
            [(6, "LOOK", ""), (72, "MARK", "OVERDUE"), (720, "GIVE_UP", "SILENCE")],
        ),
        (request(State.RECEIVED, looks=99, marks=("OVERDUE",)), [(720, "GIVE_UP", "SILENCE")]),
        (
            request(State.RECEIVED, claim_time=NOW, marks=("OVERDUE",)),
            [(0, "LOOK", ""), (720, "GIVE_UP", "SILENCE")],
        ),
        (
            request(State.RECEIVED, gone_time=NOW, marks=("OVERDUE",)),
            [(0.5, "LOOK", ""), (720, "GIVE_UP", "SILENCE")],
        ),
        (
            request(State.REJECTED, looks=99),
            [(24, "SUPPLEMENT", ""), (720, "GIVE_UP", "NOBODY_ANSWERED")],
        ),
        (request(State.REJECTED, looks=99, marks=("SUPPLEMENT",)), [(720, "GIVE_UP", "NOBODY_ANSWERED")]),
        (
            request(State.CHECKED, path=Path.PERSON, looks=99),
            [(72, "REMIND", "REMINDED_0"), (168, "REMIND", "REMINDED_1"), (720, "GIVE_UP", "PERSON_DID_NOT_FILE")],
        ),
        (request(State.TEMP_BLOCKED, block_until=NOW + 700 * HOUR), [(700, "LOOK", "")]),
        (request(State.TEMP_BLOCKED, block_until=NOW, end_time=NOW, marks=("LAPSED",)), []),
        (request(State.REMOVED), [(24, "LOOK", "")]),
        (request(State.REMOVED, looks=6), [(720, "LOOK", "")]),
        (request(State.REMOVED, looks=7), []),
        (request(State.REMOVED, marks=("LAPSED",)), []),
        (request(State.UNVERIFIED), [(24, "LOOK", "")]),
        (request(State.WITHDRAWN), []),
        (request(State.UNRESOLVED), []),
        (request(State.DEINDEXED), []),
        (request(State.DRAFT), []),
    ],
)
def test_what_comes_next(made: Request, expected: list[tuple[float, str, str]]) -> None:
    assert expected == hours(made)


def test_looks_come_at_rising_intervals_and_the_last_before_it_is_given_up() -> None:
    times = [each for number in range(30) for each in hours(request(State.RECEIVED, looks=number))]
    looks = [time for time, step, _ in times if step == Step.LOOK]
    assert sorted(looks) == looks
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert gaps[0] < gaps[-1]
    assert looks[-1] < min(time for time, step, _ in times if step == Step.GIVE_UP)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("following.yaml", "changed_below: 0.35", "changed_below: 7"),
        ("following.yaml", "[1, 3, 6,", "[1, 3, 2,"),
        ("guards.yaml", "most_ratio: 0.1", "most_ratio: 0"),
        ("replies.yaml", "(?P<days>", "(?P<weeks>"),
        ("replies.yaml", "  DEINDEXED:", "  FORGOTTEN:"),
    ],
)
def test_a_rule_that_makes_no_sense_stops_the_service(tmp_path: pathlib.Path, name: str, old: str, new: str) -> None:
    folder = tmp_path / "removal"
    folder.mkdir()
    before = (SHIPPED / name).read_text(encoding="utf-8")
    (folder / name).write_text(before.replace(old, new, 1), encoding="utf-8")
    assert before != (folder / name).read_text(encoding="utf-8")
    with pytest.raises(RulesError):
        load_rules(folder.parent)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (request(State.CHECKED, looks=0, look_time=None), []),
        (request(State.RECEIVED, looks=0, look_time=None, marks=("OVERDUE",)), [(1, "LOOK"), (720, "GIVE_UP")]),
        # What a platform claims is looked at all the same: that nobody could see is what makes it unverified.
        (request(State.RECEIVED, looks=0, claim_time=NOW, marks=("OVERDUE",)), [(0, "LOOK"), (720, "GIVE_UP")]),
    ],
)
def test_where_nobody_looks_at_pages_the_first_look_is_left_out(
    made: Request, expected: list[tuple[float, str]]
) -> None:
    found = moments(made, naver(), replace(RULES, sees=False))
    assert expected == [((moment.time - NOW) / HOUR, moment.step.value) for moment in found]
