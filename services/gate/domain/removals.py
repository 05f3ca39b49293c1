"""What became of removal requests that platforms received, and after how long?

A request is put together from its records in the order of its versions, so that it does not matter when or how often a
record arrived. The population, what counts and who decides stand in `rules/kpis.yaml`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.gate.domain import loads
from services.gate.domain.curves import MAX_CURVES, MAX_POINTS, Curve, CurveKind
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.measures import MAX_STRATA, Excluded, Fact, Measurement, Stratum, value_text
from services.gate.domain.parts import POOL, Figure, Judged, judge_parts, proportion
from services.gate.domain.survival import Observation, kaplan_meier, median, median_interval, points

_MS = timedelta(milliseconds=1)
_BEFORE_SENDING = frozenset({"DRAFT", "CHECKED"})
_LAST = frozenset({"REMOVED", "DEINDEXED", "UNRESOLVED", "WITHDRAWN"})
"""States that no request leaves."""
_KNOWN = _BEFORE_SENDING | _LAST | {
    "SUBMITTED", "RECEIVED", "TEMP_BLOCKED", "UNVERIFIED", "REJECTED", "SUPPLEMENTED", "UNCERTAIN",
}  # fmt: skip
_UNUSABLE = ("UNKNOWN_STATE", "CONTRADICTORY", "IMPOSSIBLE_ORDER")
_CLASSES: Mapping[str, Words] = {
    "NOT_SENT": {"ko": "아직 보내지 않았거나 보내기 전에 끝남", "en": "not sent yet, or over before it was sent"},
    "NOT_RECEIVED": {"ko": "보냈으나 플랫폼이 접수하지 않음", "en": "sent, and not accepted by the platform"},
    "GONE_BEFORE_RECEIVED": {
        "ko": "플랫폼이 접수하기 전에 이미 사라짐",
        "en": "gone before the platform accepted the request",
    },
    "UNKNOWN_STATE": {"ko": "알 수 없는 상태의 기록", "en": "a record states a state that is not known"},
    "CONTRADICTORY": {"ko": "같은 버전의 기록이 서로 다름", "en": "records of one version contradict each other"},
    "IMPOSSIBLE_ORDER": {
        "ko": "접수 전에 삭제되는 등 있을 수 없는 순서",
        "en": "an order that cannot be, such as removed before accepted",
    },
}


@dataclass(frozen=True, slots=True)
class RemovalStep:
    """What one record says of a request."""

    request_id: str
    version: int
    time: datetime
    to_state: str
    platform: str
    receive_time: datetime | None = None
    block_until: datetime | None = None
    previous_id: str = ""
    case_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """A request that its platform received."""

    platform: str
    receive_time: datetime
    state: str
    done_time: datetime | None
    """Since when it is in a state that counts; None where it is in another."""


@dataclass(frozen=True)
class Requests:
    """The requests of a window."""

    received: Sequence[Received]
    classes: Counter[str]
    unusable: Counter[str]
    """What could not be used, by platform."""


def requests_of(kpi: Kpi, steps: Iterable[RemovalStep], since: datetime, now: datetime) -> Requests:
    """The requests that platforms received in the window, from steps in any order and any number."""
    histories: defaultdict[str, set[RemovalStep]] = defaultdict(set)
    for step in steps:
        histories[step.request_id].add(step)
    received: list[Received] = []
    classes: Counter[str] = Counter()
    unusable: Counter[str] = Counter()
    for steps_of_one in histories.values():
        history = sorted(steps_of_one, key=lambda step: (step.version, step.time, step.to_state))
        platform = next((step.platform for step in history if step.platform), "") or "UNKNOWN"
        begin = _receive_time(history) or min(step.time for step in history)
        if not since <= begin <= now:
            continue
        found = _placed(platform, history, kpi.population.counts)
        if isinstance(found, Received):
            received.append(found)
            continue
        classes[found] += 1
        unusable[platform] += found in _UNUSABLE
    # Whatever order the records came in, the figures are computed in one.
    received.sort(key=lambda each: (each.receive_time, each.platform, each.state, each.done_time or now))
    return Requests(received, classes, unusable)


def _placed(platform: str, history: Sequence[RemovalStep], counts: Sequence[str]) -> Received | str:
    """The request as it stands, or the class that it belongs to."""
    if trouble := _trouble(history):
        return trouble
    receive, done = _receive_time(history), _done_time(history, counts)
    if receive is None:
        return _why_not_received(history, counts)
    if done is not None and done < receive:
        return "IMPOSSIBLE_ORDER"
    return Received(platform, receive, history[-1].to_state, done)


def _receive_time(history: Sequence[RemovalStep]) -> datetime | None:
    stated = [step.receive_time for step in history if step.receive_time is not None]
    stated += [step.time for step in history if step.to_state == "RECEIVED"]
    return min(stated, default=None)


def _trouble(history: Sequence[RemovalStep]) -> str:
    if any(step.to_state not in _KNOWN for step in history):
        return "UNKNOWN_STATE"
    states = {(step.version, step.to_state) for step in history}
    if len({version for version, _ in states}) < len(states):
        return "CONTRADICTORY"
    last = history[-1].version
    if any(step.to_state in _LAST and step.version < last for step in history):
        return "IMPOSSIBLE_ORDER"
    return ""


def _done_time(history: Sequence[RemovalStep], counts: Sequence[str]) -> datetime | None:
    """The beginning of the last unbroken run of states that count: what came back in between was not done."""
    done: datetime | None = None
    for step in reversed(history):
        if step.to_state not in counts:
            break
        done = step.time if done is None else min(done, step.time)
    return done


def _why_not_received(history: Sequence[RemovalStep], counts: Sequence[str]) -> str:
    if history[-1].to_state in counts:
        return "GONE_BEFORE_RECEIVED"
    sent = any(step.to_state not in _BEFORE_SENDING | {"WITHDRAWN", "UNRESOLVED"} for step in history)
    return "NOT_RECEIVED" if sent else "NOT_SENT"


def removal_success(kpi: Kpi, requests: Requests, now: datetime) -> Measurement:
    """Removed or blinded ÷ received, later rejected, given up, withdrawn and silent ones included."""

    def rate(items: Sequence[Received], unusable: int) -> Figure:
        return proportion(kpi, sum(item.done_time is not None for item in items), len(items), unusable)

    whole = _whole(kpi, requests, rate, now)
    pool = whole.judged.pool
    load = loads.resubmissions(pool.size, pool.value) if pool else loads.NOTHING
    return whole.measurement("CLOPPER_PEARSON", load, ())


def time_to_removal(kpi: Kpi, requests: Requests, now: datetime) -> Measurement:
    """The Kaplan–Meier median from acceptance to removal or blinding. Whatever is not removed is censored at the end of
    the window, given up or not: nobody who waits in vain leaves the count of those who wait."""

    def middle(items: Sequence[Received], unusable: int) -> Figure:
        watched = [_observation(item, now) for item in items]
        steps = kaplan_meier(watched)
        never = [Observation(math.inf, False)] * unusable
        at_worst = median(kaplan_meier([*watched, *never])) if unusable else median(steps)
        return Figure(median(steps), len(items), median_interval(steps), at_worst)

    whole = _whole(kpi, requests, middle, now)
    pool = whole.judged.pool
    load = loads.waiting(pool.size, kpi.window_days, pool.value) if pool else loads.NOTHING
    return whole.measurement("BROOKMEYER_CROWLEY", load, _curves(kpi, requests.received, now))


@dataclass(frozen=True)
class _Whole:
    """Figures of all platforms, of the closed cohort, and what was not counted."""

    kpi: Kpi
    requests: Requests
    judged: Judged
    cohorts: Sequence[Stratum]

    def measurement(self, method: str, load: loads.Load, curves: Sequence[Curve]) -> Measurement:
        figure = self.judged.figure
        return Measurement(
            value=figure.value if figure else None,
            size=figure.size if figure else 0,
            interval=figure.interval if figure else None,
            method=method if figure else "",
            strata=[*self.judged.strata, *self.cohorts],
            excluded=[Excluded(name, self.requests.classes[name], meaning) for name, meaning in _CLASSES.items()],
            facts=[*self.judged.facts(), *self._pooled(), *_states(self.requests.received)],
            derivation_value=load.value,
            derivation_terms=load.terms,
            curves=curves,
            at_worst=figure.at_worst if figure and self.requests.unusable.total() else None,
        )

    def _pooled(self) -> list[Fact]:
        if self.judged.pool is None:
            return []
        text = f"{value_text(self.judged.pool.value, self.kpi.threshold.unit)} (n = {self.judged.pool.size:,})"
        return [Fact({"ko": "모든 플랫폼 합산", "en": "All platforms pooled"}, text)]


def _whole(
    kpi: Kpi, requests: Requests, figure: Callable[[Sequence[Received], int], Figure], now: datetime
) -> _Whole:
    judged = judge_parts(kpi, requests.received, lambda item: item.platform, requests.unusable, figure)
    return _Whole(kpi, requests, judged, _cohorts(kpi, requests.received, figure, now))


def _cohorts(
    kpi: Kpi, received: Sequence[Received], figure: Callable[[Sequence[Received], int], Figure], now: datetime
) -> list[Stratum]:
    """All, and the closed cohort: those received so early that each was watched as long as the rule says."""
    closed = [item for item in received if now - item.receive_time >= timedelta(days=kpi.population.follow_up_days)]
    by_platform: defaultdict[str, list[Received]] = defaultdict(list)
    for item in closed:
        by_platform[item.platform].append(item)
    groups = [("cohort", POOL, received), ("cohort", "CLOSED", closed)]
    largest = sorted(by_platform.items(), key=lambda each: (-len(each[1]), each[0]))[:MAX_STRATA]
    groups += [("closed_cohort", name, items) for name, items in largest]
    found = [(dimension, name, figure(items, 0)) for dimension, name, items in groups if items]
    return [Stratum(dimension, name, one.size, one.value, one.interval) for dimension, name, one in found]


def _states(received: Sequence[Received]) -> list[Fact]:
    """Where the requests stand: what was de-indexed, unverified, rejected or silent is shown apart."""
    states = Counter(item.state for item in received)
    text = " · ".join(f"{state} {count:,}" for state, count in sorted(states.items(), key=lambda s: (-s[1], s[0])))
    return [Fact({"ko": "현재 상태", "en": "Where they stand"}, text)] if text else []


def _observation(item: Received, now: datetime) -> Observation:
    if item.done_time is None:
        return Observation((now - item.receive_time) / _MS, False)
    return Observation((item.done_time - item.receive_time) / _MS, True)


def _curves(kpi: Kpi, received: Sequence[Received], now: datetime) -> list[Curve]:
    """The estimate of all, then of the largest platforms."""
    if not received:
        return []
    groups: defaultdict[str, list[Observation]] = defaultdict(list)
    for item in received:
        groups[item.platform].append(_observation(item, now))
    everyone = [_observation(item, now) for item in received]
    largest = sorted(groups.items(), key=lambda each: (-len(each[1]), each[0]))[: MAX_CURVES - 1]
    return [_curve(kpi, name, watched) for name, watched in [("", everyone), *largest]]


def _curve(kpi: Kpi, group: str, watched: Sequence[Observation]) -> Curve:
    censored = sorted({each.time for each in watched if not each.happened})
    stride = math.ceil(len(censored) / MAX_POINTS) or 1
    return Curve(
        name={"ko": "아직 삭제되지 않은 비율", "en": "Share not removed yet"},
        kind=CurveKind.SURVIVAL,
        unit="ms",
        points=points(kaplan_meier(watched)),
        group=group,
        censored=censored[::stride],
        threshold=kpi.threshold.value,
        target=0.5,
    )
