"""Does the partition into incidents depend on the facts alone?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.case.domain.incidents import Book, Facts, Joined, Key, Merged, Opened, assign
from services.case.domain.words import CaseKind, CaseState, KeyKind, Resolution, Rule

START = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = timedelta(days=10)


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
    return near and bool(set(one.keys) & set(other.keys))


def slow_partition(facts: Iterable[Facts]) -> set[frozenset[str]]:
    """Connected components, computed plainly: what `assign` must agree with."""
    groups: list[list[Facts]] = []
    for new in facts:
        near = [group for group in groups if any(linked(new, other) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([new, *(other for group in near for other in group)])
    return {frozenset(member.decision_id for member in group) for group in groups}


def fast_partition(facts: Iterable[Facts]) -> set[frozenset[str]]:
    book, placed = Book("s", WINDOW), dict[str, str]()
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
def test_any_order_and_any_repetition_gives_the_same_incidents(facts: list[Facts], random: object) -> None:
    expected = slow_partition(facts)
    shuffled = [*facts, *facts[::2]]
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis' own Random
    assert expected == fast_partition(facts)
    assert expected == fast_partition(shuffled)


def test_facts_without_a_shared_key_open_cases_of_their_own() -> None:
    book = Book("s", WINDOW)
    results = [assign(fact(n, [cluster(str(n))]), book, START, f"c{n}") for n in range(2)]
    assert [Opened, Opened] == [type(result) for result in results]


def test_the_strongest_key_names_the_rule() -> None:
    book = Book("s", WINDOW)
    keys = [Key(KeyKind.POST, "p"), Key(KeyKind.IDENTIFIER, "w"), cluster("c")]
    for count, rule in ((1, Rule.SAME_POST), (2, Rule.SAME_IDENTIFIER), (3, Rule.SAME_CLUSTER)):
        book = Book("s", WINDOW)
        assign(fact(0, keys), book, START, "c0")
        joined = assign(fact(1, keys[:count]), book, START, "c1")
        assert isinstance(joined, Joined)
        assert rule is joined.rule


def test_the_oldest_of_several_stays() -> None:
    book = Book("s", WINDOW)
    for number in range(3):
        assign(fact(number, [cluster(str(number))]), book, START + timedelta(hours=-number), f"c{number}")
    merged = assign(fact(9, [cluster("0"), cluster("1"), cluster("2")]), book, START, "c9")
    assert isinstance(merged, Merged)
    assert ("c2", ["c1", "c0"]) == (merged.joined.case.case_id, [case.case_id for case in merged.merged])


def test_the_window_slides_with_the_sightings() -> None:
    book = Book("s", WINDOW)
    assign(fact(0, [cluster("a")], day=0), book, START, "c0")
    for day in (9, 18, 27):
        assert isinstance(assign(fact(day, [cluster("a")], day=day), book, START, f"c{day}"), Joined)
    assert isinstance(assign(fact(99, [cluster("a")], day=38), book, START, "c99"), Opened)


def test_an_incident_that_is_worked_on_does_not_vanish_in_a_closed_one() -> None:
    book = Book("s", WINDOW)
    for number in range(2):
        assign(fact(number, [cluster(str(number))]), book, START + timedelta(hours=number), f"c{number}")
    older, newer = book.cases["c0"], book.cases["c1"]
    older.move(CaseState.CLOSED, START, Resolution.FALSE_POSITIVE)
    newer.move(CaseState.WAITING_PLATFORM, START)
    merged = assign(fact(2, [cluster("0"), cluster("1")]), book, START, "c2")
    assert isinstance(merged, Merged)
    assert (CaseState.WAITING_PLATFORM, True) == (older.state, merged.joined.reopened)


def test_a_separation_holds_against_facts_that_hit_both_sides() -> None:
    book = Book("s", WINDOW)
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
