"""Were requests about one's own data answered in time (PIPA 35 to 37, Decree 41, 43, 44; 44-3)?

The deadline is the one that the records of a request state; an extension is a record of its own, and counts where it
came before the deadline that it extends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.gate.domain import loads
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.measures import Excluded, Fact, Measurement
from services.gate.domain.parts import Figure, judge_parts, proportion

RECEIVED, EXTENDED = "RECEIVED", "EXTENDED"
_CLASSES: Mapping[str, Words] = {
    "OPEN_BEFORE_DUE": {"ko": "기한이 남은 미처리 요청", "en": "open, and its deadline is still to come"},
    "UNKNOWN_TYPE": {"ko": "알 수 없는 유형이나 상태의 기록", "en": "a record states an unknown type or state"},
    "NEVER_RECEIVED": {"ko": "접수 기록이 없는 처리", "en": "answered without a receipt on record"},
    "WITHOUT_DEADLINE": {"ko": "기한이 적히지 않은 요청", "en": "the records state no deadline"},
    "IMPOSSIBLE_ORDER": {"ko": "접수보다 앞선 처리나 기한", "en": "answered, or due, before it was received"},
}
_UNUSABLE = ("UNKNOWN_TYPE", "NEVER_RECEIVED", "WITHOUT_DEADLINE", "IMPOSSIBLE_ORDER")


@dataclass(frozen=True, slots=True)
class RightsStep:
    """What one record says of a request."""

    request_id: str
    type: str
    to_state: str
    time: datetime
    due_time: datetime | None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be judged."""

    type: str
    answer: str
    """State that answered it; empty where nobody did."""
    in_time: bool


def rights_in_time(kpi: Kpi, steps: Iterable[RightsStep], since: datetime, now: datetime) -> Measurement:
    """Answered in time ÷ received in the window. Open ones beyond their deadline are late; those before it a class."""
    asked, classes, unusable = _asked(kpi, steps, since, now)

    def rate(items: Sequence[Asked], doubtful: int) -> Figure:
        return proportion(kpi, sum(item.in_time for item in items), len(items), doubtful)

    judged = judge_parts(kpi, asked, lambda item: item.type, unusable, rate)
    figure, pool = judged.figure, judged.pool
    load = loads.late_answers(pool.size, pool.value) if pool else loads.NOTHING
    return Measurement(
        value=figure.value if figure else None,
        size=figure.size if figure else 0,
        interval=figure.interval if figure else None,
        method="CLOPPER_PEARSON" if figure else "",
        strata=judged.strata,
        excluded=[Excluded(name, classes[name], meaning) for name, meaning in _CLASSES.items()],
        facts=[*judged.facts(), *_answers(asked)],
        derivation_value=load.value,
        derivation_terms=load.terms,
        at_worst=figure.at_worst if figure and unusable.total() else None,
    )


def _asked(
    kpi: Kpi, steps: Iterable[RightsStep], since: datetime, now: datetime
) -> tuple[list[Asked], Counter[str], Counter[str]]:
    histories: defaultdict[str, set[RightsStep]] = defaultdict(set)
    for step in steps:
        if step.time <= now:
            histories[step.request_id].add(step)
    asked: list[Asked] = []
    classes: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    for steps_of_one in histories.values():
        history = sorted(steps_of_one, key=lambda s: (s.time, s.to_state, s.type, s.due_time or s.time))
        begin = min((step.time for step in history if step.to_state == RECEIVED), default=history[0].time)
        if begin < since:
            continue
        found = _placed(kpi, history, now)
        if isinstance(found, Asked):
            asked.append(found)
            continue
        classes[found] += 1
        unusable[history[0].type or "UNKNOWN"] += found in _UNUSABLE
    asked.sort(key=lambda each: (each.type, each.answer, each.in_time))
    return asked, classes, unusable


def _placed(kpi: Kpi, history: Sequence[RightsStep], now: datetime) -> Asked | str:
    """The request as it stands, or the class that it belongs to."""
    rule = kpi.population
    states = {RECEIVED, EXTENDED, *rule.counts}
    types = {step.type for step in history}
    if len(types) != 1 or not types <= {*rule.kinds} or any(step.to_state not in states for step in history):
        return "UNKNOWN_TYPE"
    receipts = [step for step in history if step.to_state == RECEIVED]
    if not receipts:
        return "NEVER_RECEIVED"
    received, due = receipts[0].time, receipts[0].due_time
    if due is None:
        return "WITHOUT_DEADLINE"
    answers = [step for step in history if step.to_state in rule.counts]
    if due < received or (answers and answers[0].time < received):
        return "IMPOSSIBLE_ORDER"
    for step in history:
        if step.to_state == EXTENDED and step.due_time is not None and step.time <= due:
            due = max(due, step.due_time)
    if answers:
        return Asked(receipts[0].type, answers[0].to_state, answers[0].time <= due)
    return Asked(receipts[0].type, "", False) if now > due else "OPEN_BEFORE_DUE"


def _answers(asked: Sequence[Asked]) -> list[Fact]:
    """How they were answered, so that refusing everything in time shows."""
    counts = Counter(item.answer or "OPEN" for item in asked)
    text = " · ".join(f"{answer} {count:,}" for answer, count in sorted(counts.items(), key=lambda a: (-a[1], a[0])))
    return [Fact({"ko": "처리 결과", "en": "How they were answered"}, text)] if text else []
