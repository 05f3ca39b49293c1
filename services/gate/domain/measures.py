"""How the figures of a report come out of facts that log records state.

Every function takes facts and answers a `Measurement`; which record gives which fact is the caller's business.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from services.gate.domain.curves import Curve
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.statistics import (
    Interval,
    clopper_pearson,
    ecdf,
    nearest_rank,
    percentile_interval,
)

T = TypeVar("T")

MAX_STRATA = 40
"""Parts shown of one dimension."""


@dataclass(frozen=True)
class Stratum:
    """A figure of one part of the sample."""

    dimension: str
    name: str
    size: int
    value: float
    interval: Interval | None
    required: int = 0
    """Size from which this part is judged by itself; 0 where only the whole is judged."""


@dataclass(frozen=True)
class Excluded:
    """What was not counted, and why that is no loss."""

    name: str
    count: int
    meaning: Words


@dataclass(frozen=True)
class Fact:
    """A further figure worth knowing."""

    name: Words
    text: str


@dataclass(frozen=True)
class Distribution:
    """The empirical distribution of a duration in milliseconds."""

    name: Words
    points: Sequence[tuple[float, float]]
    """(value, share of all not above it)"""
    threshold: float | None
    infinite: int


@dataclass(frozen=True)
class Measurement:
    """What was measured."""

    value: float | None
    """In the unit of the threshold; infinite where the percentile is; None without data."""
    size: int
    interval: Interval | None
    method: str
    """Of the interval: ORDER_STATISTICS, CLOPPER_PEARSON or KORN_GRAUBARD; empty where nothing was measured."""
    distribution: Distribution | None = None
    strata: Sequence[Stratum] = ()
    excluded: Sequence[Excluded] = ()
    facts: Sequence[Fact] = ()
    derivation_value: str = ""
    """The threshold's reason, computed over this data."""
    records: Mapping[str, int] = field(default_factory=dict)
    """Records read, by type."""
    frozen: Mapping[str, str | int] = field(default_factory=dict)
    """The frozen sample that it rests on, as the report cites it; empty where it rests on none."""
    curves: Sequence[Curve] = ()
    """All together first, then the largest parts; at most MAX_CURVES."""
    at_worst: float | None = None
    """The value with everything unusable counted against it: a figure that only passes without that claims nothing.
    None where nothing is unusable."""
    missing: int = 0
    """Log records in the window that were published and are not here: nothing is measured then."""
    derivation_terms: Sequence[Fact] = ()
    """Today's numbers that the threshold's reason is computed from, in the order of its formula."""


@dataclass(frozen=True)
class MatchDecision:
    """A decision of the MATCH band."""

    decision_id: str
    discover_time: datetime
    decide_time: datetime
    channel_group: str
    kind: str


def case_latency(
    kpi: Kpi,
    decisions: Iterable[MatchDecision],
    committed: Mapping[str, datetime],
    dropped: Set[str],
    review_band: int,
    now: datetime,
) -> Measurement:
    """P95 from discovery to the commit of case or sighting, over decisions of the MATCH band.

    `committed` says when the case of a decision was committed, `dropped` which decisions opened nothing because
    their subscriber is not processed. A decision with neither is infinite once it is older than the grace of the
    gate, and a class of its own before.
    """
    grace = timedelta(milliseconds=kpi.grace_ms)
    latencies: list[tuple[MatchDecision, float]] = []
    pending = not_processed = 0
    for decision in decisions:
        commit = committed.get(decision.decision_id)
        if commit is not None:
            milliseconds = (commit - decision.discover_time) / timedelta(milliseconds=1)
            latencies.append((decision, max(0.0, milliseconds)))
        elif decision.decision_id in dropped:
            not_processed += 1
        elif now - decision.decide_time >= grace:
            latencies.append((decision, math.inf))
        else:
            pending += 1
    ordered = sorted(latency for _, latency in latencies)
    return Measurement(
        value=nearest_rank(ordered, 0.95) if ordered else None,
        size=len(ordered),
        interval=percentile_interval(ordered, 0.95) if ordered else None,
        method="ORDER_STATISTICS",
        distribution=_latency_distribution(ordered, kpi.threshold.value),
        strata=[
            *_strata("channel_group", latencies, lambda decision: decision.channel_group, _p95),
            *_strata("kind", latencies, lambda decision: decision.kind, _p95),
        ],
        excluded=_latency_classes(pending, not_processed, review_band),
        facts=_latency_facts(ordered, kpi.threshold.value),
        derivation_value=_backlog(latencies),
        derivation_terms=_backlog_terms(latencies, ordered),
    )


def _p95(values: Sequence[float]) -> tuple[float, Interval | None]:
    return nearest_rank(values, 0.95), percentile_interval(values, 0.95)


def _latency_distribution(ordered: Sequence[float], threshold: float) -> Distribution:
    name = {"ko": "발견에서 사건 확정까지", "en": "Discovery to commit of the case"}
    return Distribution(name, ecdf(ordered), threshold, sum(1 for value in ordered if math.isinf(value)))


def _latency_classes(pending: int, not_processed: int, review_band: int) -> list[Excluded]:
    return [
        Excluded(
            "PENDING",
            pending,
            {
                "ko": "결정된 지 얼마 되지 않아 아직 사건을 기다리는 것",
                "en": "decided so recently that the case may still come",
            },
        ),
        Excluded(
            "DROPPED",
            not_processed,
            {
                "ko": "회원이 처리 정지 또는 탈퇴 상태여서 사건을 열지 않음",
                "en": "no case is opened: the subscriber is suspended or has left",
            },
        ),
        Excluded(
            "REVIEW_BAND",
            review_band,
            {
                "ko": "사람이 먼저 판단하는 구간; 대기 시간은 따로 셈",
                "en": "a person decides first; that wait is a figure of its own",
            },
        ),
    ]


def _latency_facts(ordered: Sequence[float], threshold: float) -> list[Fact]:
    if not ordered:
        return []
    within = sum(1 for value in ordered if value <= threshold)
    infinite = sum(1 for value in ordered if math.isinf(value))
    low, high = clopper_pearson(within, len(ordered))
    return [
        Fact({"ko": "중앙값", "en": "Median"}, duration_text(nearest_rank(ordered, 0.5))),
        Fact({"ko": "최댓값", "en": "Maximum"}, duration_text(ordered[-1])),
        Fact(
            {"ko": "기준 이내 비율", "en": "Share within the threshold"},
            f"{percent_text(within / len(ordered))} [{percent_text(low)}, {percent_text(high)}]",
        ),
        Fact({"ko": "사건이 끝내 열리지 않음", "en": "Never became a case"}, f"{infinite:,}"),
    ]


def human_wait(waits_ms: Sequence[float]) -> list[Fact]:
    """How long people were waited for in the review band, from the item's coming in to the first label that decided."""
    if not waits_ms:
        return []
    ordered = sorted(waits_ms)
    text = f"{duration_text(nearest_rank(ordered, 0.5))} · P95 {duration_text(nearest_rank(ordered, 0.95))}"
    name = {"ko": "사람을 기다린 시간, 중앙값 (검토 구간)", "en": "Human wait, median (review band)"}
    return [Fact(name, f"{text} (n = {len(ordered):,})")]


def _backlog(latencies: Sequence[tuple[MatchDecision, float]]) -> str:
    """backlog = event rate × delay, per minute."""
    rate = _rate_per_minute(latencies)
    return "" if rate is None else f"{rate:,.1f} / min"


def _backlog_terms(latencies: Sequence[tuple[MatchDecision, float]], ordered: Sequence[float]) -> list[Fact]:
    rate = _rate_per_minute(latencies)
    if rate is None:
        return []
    delay = nearest_rank(ordered, 0.95)
    backlog = "∞" if math.isinf(delay) else f"{rate * delay / 60_000:,.1f}"
    return [
        Fact({"ko": "분당 일치 결정", "en": "Match decisions a minute"}, f"{rate:,.1f}"),
        Fact({"ko": "지연 (P95)", "en": "Delay (P95)"}, duration_text(delay)),
        Fact({"ko": "현재 적체", "en": "Backlog now"}, backlog),
    ]


def _rate_per_minute(latencies: Sequence[tuple[MatchDecision, float]]) -> float | None:
    """Decisions a minute between the first and the last; None where two are needed."""
    if len(latencies) < 2:
        return None
    times = [decision.decide_time for decision, _ in latencies]
    return len(latencies) / max((max(times) - min(times)) / timedelta(minutes=1), 1.0)


@dataclass
class NotificationFacts:
    """What the delivery records say of one notification."""

    device_ref: str
    device_class: str
    subject: str
    sent_time: datetime | None = None
    acknowledged: bool = False
    latency_ms: float = 0.0
    superseded: bool = False
    undeliverable: bool = False
    """Given up: its time ran out, or its provider knows no such device."""
    invalid_token: bool = False
    held: bool = False
    """Quiet hours held it back for a time."""
    path: str = ""
    """Way of the first handing over: STREAM, PUSH."""


def notification_reliability(
    kpi: Kpi,
    notifications: Iterable[NotificationFacts],
    without_device: int,
    now: datetime,
    foreign: int = 0,
) -> Measurement:
    """Acknowledged ÷ handed over to a live device. `foreign`: records of deliveries by somebody who delivers nothing.

    Superseded ones, those whose push token the provider refused, those held back by quiet hours, those without a
    device or never handed over are classes of their own; so are those handed over so recently that the word may still
    come. Whatever was handed over and acknowledged counts; a word that nothing was handed over for proves nothing.
    """
    grace = timedelta(milliseconds=kpi.grace_ms)
    counted: list[tuple[NotificationFacts, float]] = []
    classes: Counter[str] = Counter(NO_LIVE_DEVICE=without_device, FOREIGN_RECORD=foreign)
    for fact in notifications:
        if fact.acknowledged and fact.sent_time is None:
            classes["NEVER_HANDED_OVER"] += 1
        elif fact.acknowledged:
            counted.append((fact, 1.0))
        elif fact.superseded:
            classes["SUPERSEDED"] += 1
        elif fact.invalid_token:
            classes["INVALID_TOKEN"] += 1
        elif fact.sent_time is None:
            classes["QUIET_HOURS" if fact.held else "NOT_HANDED_OVER"] += 1
        elif not fact.undeliverable and now - fact.sent_time < grace:
            classes["PENDING"] += 1
        else:
            counted.append((fact, 0.0))
    size, done = len(counted), sum(1 for _, hit in counted if hit)
    unproved = classes["NEVER_HANDED_OVER"]
    return Measurement(
        value=done / size if size else None,
        size=size,
        interval=clopper_pearson(done, size) if size else None,
        method="CLOPPER_PEARSON",
        distribution=_acknowledgement_distribution(counted),
        strata=[
            *_strata("device_class", counted, lambda fact: fact.device_class, _rate),
            *_strata("path", counted, lambda fact: fact.path, _rate),
            *_strata("subject", counted, lambda fact: fact.subject, _rate),
        ],
        excluded=[Excluded(name, classes[name], meaning) for name, meaning in _CLASSES.items()],
        facts=_device_facts(counted),
        derivation_value=f"{size * 0.001:,.1f} / 0.1 %p" if size else "",
        derivation_terms=_resends(size, done),
        at_worst=done / (size + unproved) if size and unproved else None,
    )


def _resends(size: int, done: int) -> list[Fact]:
    """resends = sent × failure rate."""
    if not size:
        return []
    return [
        Fact({"ko": "전달한 알림", "en": "Notifications handed over"}, f"{size:,}"),
        Fact({"ko": "실패율", "en": "Failure rate"}, percent_text(1 - done / size)),
        Fact({"ko": "현재 재전송", "en": "Resends now"}, f"{size - done:,}"),
    ]


_CLASSES: Mapping[str, Words] = {
    "SUPERSEDED": {
        "ko": "기기 삭제 또는 사건 병합으로 대체됨",
        "en": "superseded by removal of the device or merge of the case",
    },
    "INVALID_TOKEN": {
        "ko": "푸시 사업자가 토큰을 무효로 답함",
        "en": "the push provider knows no such device",
    },
    "QUIET_HOURS": {"ko": "방해 금지 시간으로 보류됨", "en": "held back by quiet hours"},
    "NO_LIVE_DEVICE": {"ko": "살아 있는 기기가 없어 보관함에만 남음", "en": "no live device: inbox only"},
    "NOT_HANDED_OVER": {"ko": "기기가 아직 접속하지 않음", "en": "the device has not come for it"},
    "PENDING": {"ko": "방금 보내 확인을 기다리는 중", "en": "sent so recently that the word may still come"},
    "NEVER_HANDED_OVER": {
        "ko": "전달 기록 없이 확인만 있음; 증거가 되지 않음",
        "en": "acknowledged without a handing over on record: proves nothing",
    },
    "FOREIGN_RECORD": {
        "ko": "알림 서비스가 쓰지 않은 전달 기록; 세지 않음",
        "en": "records of deliveries by somebody who delivers nothing; not counted",
    },
}


def _rate(hits: Sequence[float]) -> tuple[float, Interval | None]:
    done = round(sum(hits))
    return done / len(hits), clopper_pearson(done, len(hits))


def _acknowledgement_distribution(counted: Sequence[tuple[NotificationFacts, float]]) -> Distribution:
    waits = sorted(fact.latency_ms if hit else math.inf for fact, hit in counted)
    name = {"ko": "전달에서 확인까지", "en": "Handing over to acknowledgement"}
    return Distribution(name, ecdf(waits), None, sum(1 for wait in waits if math.isinf(wait)))


def _device_facts(counted: Sequence[tuple[NotificationFacts, float]]) -> list[Fact]:
    if not counted:
        return []
    per_device: defaultdict[str, list[float]] = defaultdict(list)
    for fact, hit in counted:
        per_device[fact.device_ref].append(hit)
    rates = sorted(sum(hits) / len(hits) for hits in per_device.values())
    waits = sorted(fact.latency_ms for fact, hit in counted if hit)
    facts = [
        Fact({"ko": "기기 수", "en": "Devices"}, f"{len(rates):,}"),
        Fact({"ko": "기기별 최저 성공률", "en": "Worst device"}, percent_text(rates[0])),
        Fact(
            {"ko": "모두 확인한 기기", "en": "Devices that acknowledged everything"},
            percent_text(sum(1 for rate in rates if rate == 1) / len(rates)),
        ),
    ]
    if waits:
        median = duration_text(nearest_rank(waits, 0.5))
        facts.append(Fact({"ko": "확인까지 중앙값", "en": "Median time to acknowledge"}, median))
    return facts


def _strata(
    dimension: str,
    sample: Sequence[tuple[T, float]],
    name_of: Callable[[T], str],
    figure: Callable[[Sequence[float]], tuple[float, Interval | None]],
) -> list[Stratum]:
    """A figure per value of a dimension, the largest parts first."""
    groups: defaultdict[str, list[float]] = defaultdict(list)
    for item, value in sample:
        groups[name_of(item) or "UNKNOWN"].append(value)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:MAX_STRATA]
    return [Stratum(dimension, name, len(values), *figure(sorted(values))) for name, values in largest]


def duration_text(milliseconds: float) -> str:
    """A duration for people: 240 ms, 1.24 s, 4 min 10 s; ∞ for never."""
    if math.isinf(milliseconds):
        return "∞"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def percent_text(share: float) -> str:
    """A share for people, without rounding a miss up to 100 %."""
    if 0.9995 <= share < 1:
        return f"{math.floor(share * 1_000_000) / 10_000:.3f} %"
    return f"{share * 100:.2f} %"


def value_text(value: float, unit: str) -> str:
    """A value of a gate for people."""
    if unit == "ratio":
        return percent_text(value)
    return duration_text(value) if unit == "ms" else f"{value:g} {unit}"
