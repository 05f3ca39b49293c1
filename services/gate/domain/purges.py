"""Was everything purged that was due, and was everything due that was purged?

Two lists are laid beside each other: what owners said would be due, written when the time was fixed, and what was
logged when it was gone. Either may lack what the other has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.gate.domain import loads
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.measures import Excluded, Fact, Measurement, Stratum
from services.gate.domain.parts import proportion

_CLASSES: Mapping[str, Words] = {
    "PENDING": {
        "ko": "기한이 막 지나 아직 기록을 기다리는 것",
        "en": "due so recently that the record may still come",
    },
    "UNLISTED": {
        "ko": "대상 목록을 쓰지 않는 종류의 파기; 기록에 적힌 기한만 있음",
        "en": "purges of kinds without a due list; their own records state when they were due",
    },
    "UNKNOWN_KIND": {"ko": "알 수 없는 종류의 기록", "en": "a record states a kind that is not known"},
}

Item = tuple[str, str]
"""(kind, id) of something that is purged."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something became subject to purge."""

    item: Item
    time: datetime
    rule: str


@dataclass(frozen=True, slots=True)
class Purged:
    """Something was purged, as the log says."""

    item: Item
    time: datetime
    due_time: datetime
    record_id: str


@dataclass(frozen=True)
class Books:
    """Both lists, laid beside each other."""

    in_time: Sequence[Item]
    late: Sequence[Item]
    """Logged after the grace."""
    missing: Sequence[Item]
    """Due, and not logged."""
    never_due: Sequence[Item]
    """Logged, and never due."""
    twice: int
    """Logs beyond the first of an item."""
    classes: Counter[str]
    unlisted_late: int


def reconcile(kpi: Kpi, due: Iterable[Due], purged: Iterable[Purged], now: datetime) -> Books:
    """Lays both lists beside each other. What is due in the window counts by its due time, and what was never due by
    the time of its log; records may come in any order and several times."""
    rule, grace = kpi.population, timedelta(milliseconds=kpi.grace_ms)
    since, classes = now - timedelta(days=kpi.window_days), Counter[str]()
    listed = {*rule.kinds}
    deadlines: dict[Item, datetime] = {}
    for entry in set(due):
        if entry.item[0] in listed:
            deadlines[entry.item] = min(deadlines.get(entry.item, entry.time), entry.time)
        elif since <= entry.time <= now:
            classes["UNKNOWN_KIND"] += 1
    logs: defaultdict[Item, set[datetime]] = defaultdict(set)
    unlisted: set[Purged] = set()
    for log in {each.record_id: each for each in purged}.values():
        if log.item[0] in listed:
            logs[log.item].add(log.time)
        elif since <= log.time <= now:
            known = log.item[0] in rule.not_counted
            classes["UNLISTED" if known else "UNKNOWN_KIND"] += 1
            if known:
                unlisted.add(log)
    found: dict[str, list[Item]] = {"in_time": [], "late": [], "missing": []}
    for item, deadline in deadlines.items():
        if since <= deadline <= now:
            place = _place(deadline, logs.get(item), grace, now)
            if place == "PENDING":
                classes[place] += 1
            else:
                found[place].append(item)
    never = [item for item, times in logs.items() if item not in deadlines and since <= min(times) <= now]
    again = [sum(since <= time <= now for time in times) - 1 for times in logs.values() if len(times) > 1]
    return Books(
        in_time=found["in_time"],
        late=found["late"],
        missing=found["missing"],
        never_due=never,
        twice=sum(more for more in again if more > 0),
        classes=classes,
        unlisted_late=sum(log.time > log.due_time + grace for log in unlisted),
    )


def _place(deadline: datetime, times: Iterable[datetime] | None, grace: timedelta, now: datetime) -> str:
    first = min((time for time in times or () if time <= now), default=None)
    if first is None:
        return "PENDING" if now < deadline + grace else "missing"
    return "in_time" if first <= deadline + grace else "late"


def purge_audit(kpi: Kpi, books: Books) -> Measurement:
    """Logged in time ÷ (due + logged and never due): a discrepancy of either list counts against the figure."""
    done = len(books.in_time)
    due = done + len(books.late) + len(books.missing)
    size = due + len(books.never_due)
    unusable = books.classes["UNKNOWN_KIND"]
    figure = proportion(kpi, done, size, unusable) if size else None
    load = loads.unlogged(due, done / due) if due else loads.NOTHING
    return Measurement(
        value=figure.value if figure else None,
        size=size,
        interval=figure.interval if figure else None,
        method="CLOPPER_PEARSON" if figure else "",
        strata=_strata(kpi, books, lambda item: item[0]),
        excluded=[Excluded(name, books.classes[name], meaning) for name, meaning in _CLASSES.items()],
        facts=_facts(books) if figure else [],
        derivation_value=load.value,
        derivation_terms=load.terms,
        at_worst=figure.at_worst if figure and unusable else None,
    )


def _facts(books: Books) -> list[Fact]:
    rows = [
        ("대상이나 기록 없음", "Due and not logged", len(books.missing)),
        ("기록되었으나 대상이 아님", "Logged and never due", len(books.never_due)),
        ("두 번 이상 기록됨", "Logged more than once", books.twice),
        ("늦게 기록됨", "Logged late", len(books.late)),
        ("목록 없는 종류 중 늦은 파기", "Late among kinds without a due list", books.unlisted_late),
    ]
    return [Fact({"ko": ko, "en": en}, f"{count:,}") for ko, en, count in rows]


def _strata(kpi: Kpi, books: Books, name_of: Callable[[Item], str]) -> list[Stratum]:
    done = Counter(name_of(item) for item in books.in_time)
    size = done + Counter(name_of(item) for item in [*books.late, *books.missing, *books.never_due])
    figures = [(name, proportion(kpi, done[name], count, 0)) for name, count in size.items()]
    figures.sort(key=lambda each: (-each[1].size, each[0]))
    return [Stratum("item_kind", name, one.size, one.value, one.interval) for name, one in figures]
