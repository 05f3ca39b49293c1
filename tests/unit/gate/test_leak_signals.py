"""Does the summary of leak signals count each signal and each hit once, and does its page stand by itself?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

from services.gate.adapters.leaks_html import render_leaks
from services.gate.domain.leak_signals import (
    MAX_ROWS,
    Fate,
    LeakCounts,
    LeakDecision,
    LeakSignals,
    Place,
    Refusals,
)

PHONE = Place("MOBILE_PHONE", "text.0", 0, 13)
MAIL = Place("EMAIL", "text.0", 20, 36)


def decision(ref: str, fate: Fate, *places: Place, group: str = "naver", **nobody: int) -> LeakDecision:
    return LeakDecision(ref.encode(), fate, "WEB", group, frozenset(places), nobody)


def summary(
    decisions: Iterable[LeakDecision], refused: Iterable[Refusals] = ()
) -> tuple[LeakCounts, Sequence[LeakCounts]]:
    signals = LeakSignals()
    for each in decisions:
        signals.add(each)
    for refusal in refused:
        signals.refuse(refusal)
    return signals.summary()


def test_decisions_about_one_signal_are_one_signal_with_the_highest_fate_whatever_their_order() -> None:
    three = [
        decision("a", Fate.MATCHED, PHONE, NAME=2),
        decision("a", Fate.IN_REVIEW, PHONE, MAIL),
        decision("a", Fate.IN_REVIEW),
    ]
    totals = {summary(order)[0] for order in permutations(three)}
    assert totals == {LeakCounts("total", "", 1, 1, 1, 0, 0, 0, hits_of_subscribers=2, hits_of_nobody=2)}


def test_a_signal_of_nobody_is_dropped_and_its_hits_counted() -> None:
    total, _ = summary([decision("a", Fate.DROPPED, EMAIL=3), decision("b", Fate.DROPPED)])
    assert total == LeakCounts("total", "", 2, 1, 0, 0, 2, 0, hits_of_subscribers=0, hits_of_nobody=3)


def test_each_kind_has_a_row_with_the_signals_that_hold_it() -> None:
    _, rows = summary([decision("a", Fate.MATCHED, PHONE, MOBILE_PHONE=1, NAME=1), decision("b", Fate.DROPPED, NAME=4)])
    found = [row for row in rows if row.dimension == "kind"]
    kinds = {row.name: (row.signals, row.hits_of_subscribers, row.hits_of_nobody) for row in found}
    assert kinds == {"MOBILE_PHONE": (1, 1, 1), "NAME": (2, 0, 5)}


def test_what_the_door_refused_is_counted_apart_from_signals() -> None:
    total, rows = summary([], [Refusals("AREA_FORBIDDEN", "overseas", 2), Refusals("UNKNOWN_CHANNEL", "", 1)])
    assert (total.signals, total.refused) == (0, 3)
    assert [(row.dimension, row.name, row.refused) for row in rows] == [
        ("channel_group", "overseas", 2),
        ("refusal", "AREA_FORBIDDEN", 2),
        ("refusal", "UNKNOWN_CHANNEL", 1),
    ]


def test_rows_are_bounded_and_the_largest_come_first() -> None:
    many = [decision(f"{n}", Fate.DROPPED, group=f"g{n:03}") for n in range(2 * MAX_ROWS)]
    _, rows = summary([*many, decision("more", Fate.DROPPED, group="g200")])
    assert (len(rows), [row.name for row in rows[:2]]) == (MAX_ROWS, ["WEB", "g200"])


def test_the_page_stands_by_itself_and_escapes_names() -> None:
    counts = {"signals": 3, "with_data": 2, "matched": 1, "in_review": 0, "dropped": 2, "refused": 0}
    counts |= {"hits_of_subscribers": 2, "hits_of_nobody": 4}
    row = {"dimension": "channel_group", "name": "<b>naver</b>"} | counts
    page = render_leaks(
        {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-31T00:00:00+00:00", "total": counts, "rows": [row],
         "cut_off": {"detector/0": 7}}
    ).decode()  # fmt: skip
    assert "&lt;b&gt;naver&lt;/b&gt;" in page and "<b>naver</b>" not in page
    outside = ("http:", "https:", "src=", "@import", "url(", "<script", "<link", "javascript:")
    assert [each for each in outside if each in page] == []


def test_a_period_without_signals_has_a_page_too() -> None:
    total, rows = summary([])
    counts = {name: getattr(total, name) for name in LeakCounts.__dataclass_fields__}
    page = render_leaks({"start": "2026-03-01", "end": "2026-03-31", "total": counts, "rows": rows, "cut_off": {}})
    assert "이 기간에는 신호가 없습니다" in page.decode()
