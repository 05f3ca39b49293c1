"""Does the partition into incidents depend on the facts alone?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.case.domain.incidents import Book, Facts, Joined, Key, Merged, Opened, assign
from services.case.domain.priorities import BurstRules
from services.case.domain.rules import IncidentRules
from services.case.domain.words import CaseKind, CaseState, KeyKind, PriorityReason, Resolution, Rule

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = timedelta(days=10)
BURST = BurstRules(timedelta(hours=1), told_singly=3, spreading=5, repack_after=timedelta(minutes=1))
RULES = IncidentRules(
    version="test-1",
    windows=dict.fromkeys(KeyKind, WINDOW),
    dump_keys=frozenset({KeyKind.DUMP, KeyKind.POST}),
    near=frozenset({CaseKind.FACE, CaseKind.PII}),
    reopen_within=timedelta(days=5),
    burst=BURST,
)


def fact(number: int, keys: Sequence[Key], day: int = 0, kind: CaseKind = CaseKind.FACE) -> Facts:
    return Facts(
        decision_id=f"d{number}",
        subscriber_id="s",
        signal_ref=b"",
        kind=kind,
        channel="ch",
        channel_group="SNS",
        platform="",
        discover_time=START + timedelta(days=day),
        keys=tuple(keys),
    )


def cluster(value: str) -> Key:
    return Key(KeyKind.CLUSTER, value)


def linked(one: Facts, other: Facts) -> bool:
    near = abs(one.discover_time - other.discover_time) <= WINDOW
    return near and bool(set(one.joining(RULES)) & set(other.joining(RULES)))


def slow_partition(facts: Iterable[Facts]) -> set[frozenset[str]]:
    """Connected components, computed plainly: what `assign` must agree with."""
    groups: list[list[Facts]] = []
    for new in facts:
        near = [group for group in groups if any(linked(new, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([new, *(other for group in near for other in group)])
    return {frozenset(member.decision_id for member in group) for group in groups}


def fast_partition(facts: Iterable[Facts]) -> set[frozenset[str]]:
    book, placed = Book("s", RULES), dict[str, str]()
    for number, new in enumerate(facts):
        if new.decision_id in placed:
            continue
        match assign(new, book, START + timedelta(seconds=number), f"c{number:04}"):
            case Opened(case=case):
                placed[new.decision_id] = case.case_id
            case Joined(branch_id=branch) | Merged(joined=Joined(branch_id=branch)):
                placed[new.decision_id] = branch
    groups: dict[str, set[str]] = {}
    for decision_id, case_id in placed.items():
        groups.setdefault(book.root_of(case_id), set()).add(decision_id)
    for root, members in groups.items():
        assert len(members) == book.cases[root].sighting_count
    return {frozenset(members) for members in groups.values()}


KEYS = st.lists(
    st.builds(Key, st.sampled_from(list(KeyKind)), st.sampled_from("abcde")), max_size=4, unique=True
)
FACTS = st.lists(st.tuples(KEYS, st.integers(0, 60)), max_size=14).map(
    lambda rows: [fact(number, keys, day) for number, (keys, day) in enumerate(rows)]
)


@settings(deadline=None)
@given(FACTS, st.randoms(use_true_random=False))
@pytest.mark.slow
def test_any_order_and_any_repetition_gives_the_same_incidents(facts: list[Facts], random: object) -> None:
    expected = slow_partition(facts)
    shuffled = [*facts, *facts[::2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis' own Random
    assert expected == fast_partition(facts)
    assert expected == fast_partition(shuffled)


def test_facts_without_a_shared_key_open_cases_of_their_own() -> None:
    book = Book("s", RULES)
    results = [assign(fact(n, [cluster(str(n))]), book, START, f"c{n}") for n in range(2)]
    assert [Opened, Opened] == [type(result) for result in results]


def test_the_strongest_key_names_the_rule() -> None:
    book = Book("s", RULES)
    keys = [Key(KeyKind.POST, "p"), Key(KeyKind.IDENTIFIER, "w"), cluster("c")]
    for count, rule in ((1, Rule.SAME_POST), (2, Rule.SAME_IDENTIFIER), (3, Rule.SAME_CLUSTER)):
        book = Book("s", RULES)
        assign(fact(0, keys), book, START, "c0")
        joined = assign(fact(1, keys[:count]), book, START, "c1")
        assert isinstance(joined, Joined)
        assert rule is joined.rule


def test_the_oldest_of_several_stays() -> None:
    book = Book("s", RULES)
    for number in range(3):
        assign(fact(number, [cluster(str(number))]), book, START + timedelta(hours=-number), f"c{number}")
    merged = assign(fact(9, [cluster("0"), cluster("1"), cluster("2")]), book, START, "c9")
    assert isinstance(merged, Merged)
    assert ("c2", ["c1", "c0"]) == (merged.joined.case.case_id, [case.case_id for case, _ in merged.merged])


def test_the_window_slides_with_the_sightings() -> None:
    book = Book("s", RULES)
    assign(fact(0, [cluster("a")], day=0), book, START, "c0")
    for day in (9, 18, 27):
        assert isinstance(assign(fact(day, [cluster("a")], day=day), book, START, f"c{day}"), Joined)
    assert isinstance(assign(fact(99, [cluster("a")], day=38), book, START, "c99"), Opened)


def test_an_incident_that_is_worked_on_does_not_vanish_in_a_closed_one() -> None:
    book = Book("s", RULES)
    for number in range(2):
        assign(fact(number, [cluster(str(number))]), book, START + timedelta(hours=number), f"c{number}")
    older, newer = book.cases["c0"], book.cases["c1"]
    older.move(CaseState.CLOSED, START, Resolution.FALSE_POSITIVE)
    newer.move(CaseState.WAITING_PLATFORM, START)
    merged = assign(fact(2, [cluster("0"), cluster("1")]), book, START, "c2")
    assert isinstance(merged, Merged)
    assert (CaseState.WAITING_PLATFORM, True) == (older.state, merged.joined.reopened)


def test_a_separation_holds_against_facts_that_hit_both_sides() -> None:
    book = Book("s", RULES)
    for number in range(2):
        assign(fact(number, [cluster(str(number))]), book, START, f"c{number}")
    book.separations.append(("c1", "c0"))
    result = assign(fact(2, [Key(KeyKind.POST, "x"), cluster("0"), cluster("1")]), book, START, "c2")
    assert isinstance(result, Joined)
    assert ["c0", "c1"] == sorted(book.cases)
    # The shared key stays with whom it was.
    joined = assign(fact(3, [cluster("1")]), book, START, "c3")
    assert isinstance(joined, Joined)
    assert "c1" == joined.case.case_id


# --- which keys join ---


def test_an_entry_of_a_dump_joins_by_its_dump_and_not_by_the_address_in_it() -> None:
    book = Book("s", RULES)
    address = Key(KeyKind.IDENTIFIER, "w")
    for number, dump in enumerate(["first", "second"]):
        opened = assign(fact(number, [address, Key(KeyKind.DUMP, dump)]), book, START, f"c{number}")
        assert isinstance(opened, Opened)
    joined = assign(fact(2, [Key(KeyKind.IDENTIFIER, "v"), Key(KeyKind.DUMP, "second")]), book, START, "c2")
    assert isinstance(joined, Joined)
    assert ("c1", Rule.SAME_DUMP) == (joined.case.case_id, joined.rule)
    assert isinstance(assign(fact(3, [address]), book, START, "c3"), Opened)


def test_a_near_picture_of_the_same_person_names_its_own_rule() -> None:
    book = Book("s", RULES)
    assign(fact(0, [cluster("a")]), book, START, "c0")
    near = replace(fact(1, [cluster("b"), cluster("a")]), near=frozenset({"a"}))
    joined = assign(near, book, START, "c1")
    assert isinstance(joined, Joined)
    assert Rule.SAME_PERSON_NEAR_PICTURE is joined.rule


def test_a_kind_that_the_rules_leave_out_joins_nothing() -> None:
    rules = replace(RULES, windows={KeyKind.CLUSTER: WINDOW}, near=frozenset())
    book = Book("s", rules)
    assign(fact(0, [cluster("a"), Key(KeyKind.POST, "p")]), book, START, "c0")
    assert isinstance(assign(fact(1, [Key(KeyKind.POST, "p")]), book, START, "c1"), Opened)
    near = replace(fact(2, [cluster("b"), cluster("a")]), near=frozenset({"a"}))
    assert isinstance(assign(near, book, START, "c2"), Opened)


def test_each_kind_of_key_has_its_own_window() -> None:
    rules = replace(RULES, windows={KeyKind.CLUSTER: WINDOW, KeyKind.POST: 3 * WINDOW})
    book = Book("s", rules)
    assign(fact(0, [cluster("a"), Key(KeyKind.POST, "p")]), book, START, "c0")
    assert isinstance(assign(fact(1, [cluster("a")], day=20), book, START, "c1"), Opened)
    assert isinstance(assign(fact(2, [Key(KeyKind.POST, "p")], day=20), book, START, "c2"), Joined)


# --- what was closed ---


def closed(book: Book, resolution: Resolution = Resolution.REMOVED) -> None:
    assign(fact(0, [cluster("a")]), book, START, "c0")
    book.cases["c0"].move(CaseState.CLOSED, START + timedelta(days=1), resolution)


def test_what_is_found_soon_after_the_closing_opens_the_case_again_and_recurs() -> None:
    book = Book("s", RULES)
    closed(book)
    joined = assign(fact(1, [cluster("a")], day=3), book, START, "c1")
    assert isinstance(joined, Joined)
    [again] = joined.recurrences
    assert (True, "c0", "REOPENED", Resolution.REMOVED) == (
        joined.reopened,
        again.case_id,
        again.outcome,
        again.resolution,
    )
    assert START + timedelta(days=1) == again.close_time


def test_what_is_found_long_after_the_closing_opens_a_case_that_names_the_old_one_and_takes_its_keys() -> None:
    book = Book("s", RULES)
    closed(book)
    opened = assign(fact(1, [cluster("a")], day=8), book, START, "c1")
    assert isinstance(opened, Opened)
    assert ("c0", ["LINKED"]) == (opened.case.recurrence_of, [again.outcome for again in opened.recurrences])
    joined = assign(fact(2, [cluster("a")], day=9), book, START, "c2")
    assert isinstance(joined, Joined)
    assert ("c1", (), CaseState.CLOSED) == (joined.case.case_id, joined.recurrences, book.cases["c0"].state)


def test_what_had_been_found_before_the_closing_and_comes_late_opens_again_and_is_no_recurrence() -> None:
    book = Book("s", RULES)
    closed(book)
    joined = assign(fact(1, [cluster("a")], day=1), book, START, "c1")
    assert isinstance(joined, Joined)
    assert (True, ()) == (joined.reopened, joined.recurrences)


def test_a_false_positive_neither_recurs_nor_is_linked() -> None:
    book = Book("s", RULES)
    closed(book, Resolution.FALSE_POSITIVE)
    for number, day in enumerate([3, 8], start=1):
        joined = assign(fact(number, [cluster("a")], day=day), book, START, f"c{number}")
        assert isinstance(joined, Joined)
        assert (False, ()) == (joined.reopened, joined.recurrences)


def test_a_closed_case_that_joins_an_open_one_recurs_there() -> None:
    book = Book("s", RULES)
    closed(book)
    book.cases["c0"].create_time += timedelta(days=1)
    assign(fact(1, [cluster("b")], day=2), book, START, "c1")
    merged = assign(fact(2, [cluster("a"), cluster("b")], day=3), book, START, "c2")
    assert isinstance(merged, Merged)
    assert [("c0", "MERGED")] == [(again.case_id, again.outcome) for again in merged.joined.recurrences]


# --- bursts ---


def test_the_sighting_that_makes_a_burst_says_that_the_case_spreads() -> None:
    book = Book("s", RULES)
    assign(fact(0, [cluster("a")]), book, START, "c0")
    found = [assign(fact(n, [cluster("a")]), book, START + timedelta(minutes=n), f"c{n}") for n in range(1, 7)]
    assert [0, 0, 0, 1, 0, 0] == [len(joined.reasons) for joined in found if isinstance(joined, Joined)]
    assert [PriorityReason.SPREADING] == book.cases["c0"].reasons
