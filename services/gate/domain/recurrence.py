"""Of the cases that were closed, how many were found again?

A closing is watched for the horizon; only closings that are at least that old count, so that each was watched as long.
A closing recurs once, however often its content is found. What was blinded for a time and shows again when the block
is over counts whenever that is: the block may last longer than the horizon.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.gate.domain import loads
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.measures import Excluded, Fact, Measurement, Stratum, percent_text
from services.gate.domain.parts import proportion
from services.gate.domain.removals import RemovalStep

BLOCKED = "TEMP_BLOCKED"
_CLASSES: Mapping[str, Words] = {
    "NOT_COUNTED": {"ko": "오탐으로 종결되어 재발할 수 없음", "en": "closed as a false positive: cannot recur"},
    "OTHER_KIND": {
        "ko": "업로드 전 경고 등 재발과 무관한 사건",
        "en": "cases that cannot recur, such as warnings before an upload",
    },
    "NO_CLOSING_BEFORE": {
        "ko": "다시 발견되었으나 기간 안에 그 전의 종결이 없음 (아직 열려 있던 사건 등)",
        "en": "found again, but not closed in the window before that: the case was still open, or closed earlier",
    },
    "UNKNOWN_ENDING": {
        "ko": "알 수 없는 종류나 종결 사유의 기록",
        "en": "a record states a kind or a resolution that is not known",
    },
    "CLOSING_NOT_LOGGED": {
        "ko": "재발 기록이 말하는 종결의 기록이 없음",
        "en": "found again after a closing that has no record",
    },
}
_KINDS = frozenset({"FACE", "PII", "PRE_UPLOAD", "REDACTION"})
_RESOLUTIONS = frozenset({"REMOVED", BLOCKED, "DEINDEXED", "FALSE_POSITIVE", "WITHDRAWN", "UNRESOLVED"})


@dataclass(frozen=True, slots=True)
class Closing:
    """A case was closed."""

    case_id: str
    time: datetime
    kind: str
    resolution: str


@dataclass(frozen=True, slots=True)
class Find:
    """Content of a case was found again."""

    case_id: str
    time: datetime
    after_block: bool
    """True when a platform shows again what it had blinded for a time."""
    close_time: datetime | None = None
    """The closing that it is said to follow; None where the record names none."""


def reappearances(steps: Iterable[RemovalStep]) -> list[Find]:
    """Finds that removal requests tell of: one that follows an earlier request was made because the content is there
    again, for every case that it names."""
    blocked, following = set(), []
    for step in steps:
        if step.to_state == BLOCKED:
            blocked.add(step.request_id)
        if step.previous_id and step.version <= 1:
            following.append(step)
    return [
        Find(case_id, step.time, step.previous_id in blocked) for step in following for case_id in step.case_ids
    ]


@dataclass(frozen=True)
class _Seen:
    """Closings that count, each with whether it recurred and after how long."""

    recurred: Mapping[Closing, timedelta | None]
    classes: Counter[str]


def recurrence(kpi: Kpi, closings: Iterable[Closing], finds: Iterable[Find], now: datetime) -> Measurement:
    """Closings found again within the horizon ÷ closings from the beginning of the window to a horizon ago."""
    seen = _look(kpi, closings, finds, now)
    size, hits = len(seen.recurred), sum(each is not None for each in seen.recurred.values())
    unusable = seen.classes["UNKNOWN_ENDING"] + seen.classes["CLOSING_NOT_LOGGED"]
    figure = proportion(kpi, hits, size, unusable) if size else None
    load = loads.reopened(size, hits / size) if size else loads.NOTHING
    return Measurement(
        value=figure.value if figure else None,
        size=size,
        interval=figure.interval if figure else None,
        method="CLOPPER_PEARSON" if figure else "",
        strata=[
            *_strata(kpi, "resolution", seen.recurred, lambda closing: closing.resolution),
            *_strata(kpi, "kind", seen.recurred, lambda closing: closing.kind),
        ],
        excluded=[Excluded(name, seen.classes[name], meaning) for name, meaning in _CLASSES.items()],
        facts=_facts(seen.recurred),
        derivation_value=load.value,
        derivation_terms=load.terms,
        at_worst=figure.at_worst if figure and unusable else None,
    )


def _look(kpi: Kpi, closings: Iterable[Closing], finds: Iterable[Find], now: datetime) -> _Seen:
    rule, classes = kpi.population, Counter[str]()
    horizon = timedelta(days=rule.horizon_days)
    since, until = now - timedelta(days=kpi.window_days), now - horizon
    by_case: defaultdict[str, dict[datetime, Closing]] = defaultdict(dict)
    for closing in sorted(set(closings), key=lambda each: (each.time, each.case_id, each.resolution, each.kind)):
        by_case[closing.case_id].setdefault(closing.time, closing)
    recurred: dict[Closing, timedelta | None] = {}
    for of_case in by_case.values():
        for closing in of_case.values():
            if since <= closing.time <= until:
                trouble = _class_of(closing, rule.kinds, rule.not_counted)
                classes[trouble] += bool(trouble)
                if not trouble:
                    recurred[closing] = None
    for find in sorted(set(finds), key=lambda each: (each.time, each.case_id, each.after_block)):
        if since <= find.time <= now:
            lost = find.close_time is not None and since <= find.close_time <= until
            trouble = _mark(find, by_case.get(find.case_id, {}), recurred, horizon)
            classes["CLOSING_NOT_LOGGED" if trouble and lost else trouble] += bool(trouble)
    return _Seen(recurred, classes)


def _mark(
    find: Find, closings: Mapping[datetime, Closing], recurred: dict[Closing, timedelta | None], horizon: timedelta
) -> str:
    """Notes a find at the closing that it follows; the class that it belongs to where there is none."""
    times = list(closings)
    place = bisect_left(times, find.time)
    if place == 0:
        return "NO_CLOSING_BEFORE"
    closing = closings[times[place - 1]]
    after = find.time - closing.time
    counts = after <= horizon or (find.after_block and closing.resolution == BLOCKED)
    if counts and closing in recurred and recurred[closing] is None:
        recurred[closing] = after
    return ""


def _class_of(closing: Closing, kinds: Sequence[str], not_counted: Sequence[str]) -> str:
    if closing.kind not in kinds:
        return "OTHER_KIND" if closing.kind in _KINDS else "UNKNOWN_ENDING"
    if closing.resolution not in _RESOLUTIONS:
        return "UNKNOWN_ENDING"
    return "NOT_COUNTED" if closing.resolution in not_counted else ""


def _strata(
    kpi: Kpi, dimension: str, recurred: Mapping[Closing, timedelta | None], name_of: Callable[[Closing], str]
) -> list[Stratum]:
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    for closing, after in recurred.items():
        groups[name_of(closing) or "UNKNOWN"].append(after is not None)
    figures = [(name, proportion(kpi, sum(hits), len(hits), 0)) for name, hits in groups.items()]
    figures.sort(key=lambda each: (-each[1].size, each[0]))
    return [Stratum(dimension, name, one.size, one.value, one.interval) for name, one in figures]


def _facts(recurred: Mapping[Closing, timedelta | None]) -> list[Fact]:
    if not recurred:
        return []
    cases = {closing.case_id for closing in recurred}
    again: Set[str] = {closing.case_id for closing, after in recurred.items() if after is not None}
    waits = sorted(after for after in recurred.values() if after is not None)
    facts = [
        Fact(
            {"ko": "사건 수 (여러 번 종결된 사건은 한 번)", "en": "Cases (closed several times: once)"},
            f"{len(cases):,}, {len(again):,} = {percent_text(len(again) / len(cases))}",
        )
    ]
    if waits:
        middle = waits[(len(waits) - 1) // 2] / timedelta(days=1)
        facts.append(Fact({"ko": "재발까지 중앙값", "en": "Median time to recurrence"}, f"{middle:.1f} d"))
    return facts
