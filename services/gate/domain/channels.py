"""Are the channel groups covered that should be, and how long does a new channel take?"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.gate.domain import loads
from services.gate.domain.curves import Curve, CurveKind, CurvePoint
from services.gate.domain.kpis import Kpi, Words
from services.gate.domain.measures import MAX_STRATA, Excluded, Fact, Measurement, Stratum
from services.gate.domain.statistics import ecdf, nearest_rank, percentile_interval

_DAY = timedelta(days=1)
_DEGRADED = ("PUBLIC", "MANUAL", "BLOCKED")
_COVERAGE_CLASSES: Mapping[str, Words] = {
    "OTHER_GROUP": {
        "ko": "상위 10개에 들지 않는 그룹의 신호",
        "en": "signals of groups that are none of the Top-10",
    },
    "REFUSED": {"ko": "수집 규칙으로 거절된 신호", "en": "signals that the door refused"},
    "DUPLICATE": {"ko": "이미 받은 신호의 반복", "en": "repeats of signals that were taken before"},
}
_LEAD_CLASSES: Mapping[str, Words] = {
    "PENDING": {
        "ko": "기준 일수가 아직 지나지 않은 준비 중 채널",
        "en": "channels under way that are younger than the threshold",
    },
    "UNKNOWN_STEP": {"ko": "알 수 없는 단계의 기록", "en": "a record states a step that is not known"},
    "NOT_NEW": {
        "ko": "새 채널이 아님: 처음부터 있던 채널의 재개",
        "en": "not new: a channel that came with the system was resumed",
    },
    "GIVEN_UP": {
        "ko": "기간보다 먼저 요구되었고 아직 적용되지 않음",
        "en": "asked for before the window and not live: counted in the windows before",
    },
    "IMPOSSIBLE_ORDER": {"ko": "요구보다 앞선 규칙 적용", "en": "rules live before the requirement"},
}


@dataclass(frozen=True, slots=True)
class ChannelLevel:
    """Where one channel stands, as a record says."""

    channel: str
    group: str
    level: str
    reason: str
    version: int
    time: datetime


@dataclass(frozen=True)
class Signals:
    """Signals of a window, each once."""

    by_group: Mapping[str, int]
    channels: int
    """Channels that brought at least one."""
    refused: int
    duplicate: int

    @property
    def total(self) -> int:
        """Of all groups."""
        return sum(self.by_group.values())


def channel_coverage(kpi: Kpi, signals: Signals, levels: Iterable[ChannelLevel]) -> Measurement:
    """Groups with enough signals ÷ groups that should be covered. The size is the number of signals, so that a system
    that has hardly begun makes no claim."""
    rule = kpi.population
    counts = {group: signals.by_group.get(group, 0) for group in rule.groups}
    covered = [group for group, count in counts.items() if count >= rule.least_per_group]
    size = sum(counts.values())
    value = len(covered) / len(rule.groups) if size else None
    load = loads.missed_signals(size, value) if value is not None else loads.NOTHING
    classes = Counter(OTHER_GROUP=signals.total - size, REFUSED=signals.refused, DUPLICATE=signals.duplicate)
    return Measurement(
        value=value,
        size=size,
        interval=None,
        method="CENSUS" if size else "",
        strata=[
            Stratum("channel_group", group, count, float(group in covered), None)
            for group, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        ],
        excluded=[Excluded(name, classes[name], meaning) for name, meaning in _COVERAGE_CLASSES.items()],
        facts=[*_missing(counts, rule.least_per_group), *_degraded(levels)] if size else [],
        derivation_value=load.value,
        derivation_terms=load.terms,
    )


def _missing(counts: Mapping[str, int], least: int) -> list[Fact]:
    fewest = sorted(counts.items(), key=lambda each: (each[1], each[0]))
    short = [f"{group} {count:,}" for group, count in fewest if count < least]
    name = {"ko": f"신호 {least:,}건에 못 미친 그룹", "en": f"Groups below {least:,} signals"}
    return [Fact(name, " · ".join(short) or "—")]


def _degraded(levels: Iterable[ChannelLevel]) -> list[Fact]:
    """Groups whose best channel does not run by the official way, as the latest records say; what was never changed
    runs as it was shipped and has no record."""
    latest: dict[str, ChannelLevel] = {}
    for each in sorted(levels, key=lambda one: (one.version, one.time, one.level, one.reason)):
        latest[each.channel] = each
    best: defaultdict[str, str] = defaultdict(lambda: "BLOCKED")
    order = ("OFFICIAL", *_DEGRADED)
    for each in latest.values():
        level = each.level if each.level in order and each.reason != "PAUSED" else "BLOCKED"
        best[each.group] = min(best[each.group], level, key=order.index)
    names: Mapping[str, Words] = {
        "PUBLIC": {"ko": "공개 신호로 축소된 그룹", "en": "Groups at public access only"},
        "MANUAL": {"ko": "회원 제출로만 운영되는 그룹", "en": "Groups by hand only"},
        "BLOCKED": {"ko": "막히거나 멈춘 그룹", "en": "Groups blocked or paused"},
    }
    found = {level: sorted(group for group, own in best.items() if own == level) for level in _DEGRADED}
    return [Fact(names[level], ", ".join(groups)) for level, groups in found.items() if groups]


@dataclass(frozen=True, slots=True)
class OnboardingStep:
    """What one record says of a new channel."""

    channel: str
    group: str
    step: str
    time: datetime


def onboarding(
    kpi: Kpi, steps: Iterable[OnboardingStep], signals: Signals, signal_days: int, now: datetime
) -> Measurement:
    """P90 of the days from the requirement to the first time that the rules were live, over channels that went live in
    the window and those that should have: not live after the threshold is infinite, and before that under way."""
    lead, classes = _lead_times(kpi, steps, now)
    ordered = sorted(lead.values())
    slowest = sorted(lead.items(), key=lambda each: (-each[1], each[0]))
    unusable = classes["UNKNOWN_STEP"] + classes["IMPOSSIBLE_ORDER"]
    value = nearest_rank(ordered, 0.9) if ordered else None
    beyond = [days for days in ordered if days > kpi.threshold.value]
    # What is not live yet is late by what has passed at most.
    late = sum(min(days, float(kpi.window_days)) - kpi.threshold.value for days in beyond)
    daily = signals.total / signal_days / signals.channels if signals.channels else 0.0
    load = loads.missed_by_delay(late, daily) if ordered else loads.NOTHING
    return Measurement(
        value=value,
        size=len(ordered),
        interval=percentile_interval(ordered, 0.9) if ordered else None,
        method="ORDER_STATISTICS" if ordered else "",
        strata=[Stratum("channel", name, 1, days, None) for name, days in slowest[:MAX_STRATA]],
        excluded=[Excluded(name, classes[name], meaning) for name, meaning in _LEAD_CLASSES.items()],
        derivation_value=load.value,
        derivation_terms=load.terms,
        curves=_curve(kpi, ordered),
        at_worst=nearest_rank([*ordered, *[math.inf] * unusable], 0.9) if ordered and unusable else None,
    )


def _lead_times(kpi: Kpi, steps: Iterable[OnboardingStep], now: datetime) -> tuple[dict[str, float], Counter[str]]:
    required: dict[str, datetime] = {}
    live: dict[str, datetime] = {}
    classes: Counter[str] = Counter()
    known = {"REQUIRED": required, "LIVE": live}
    for step in set(steps):
        if step.time > now:
            continue
        if step.step in known:
            times = known[step.step]
            times[step.channel] = min(times.get(step.channel, step.time), step.time)
        else:
            classes["UNKNOWN_STEP"] += step.time >= now - timedelta(days=kpi.window_days)
    lead: dict[str, float] = {}
    since = now - timedelta(days=kpi.window_days)
    for channel in sorted(required.keys() | live.keys()):
        asked, begun = required.get(channel), live.get(channel)
        if begun is not None and begun < since:
            continue
        if asked is None:
            classes["NOT_NEW"] += 1
        elif begun is None and asked < since:
            classes["GIVEN_UP"] += 1
        elif begun is None:
            late = (now - asked) / _DAY > kpi.threshold.value
            classes["PENDING"] += not late
            if late:
                lead[channel] = math.inf
        elif begun < asked:
            classes["IMPOSSIBLE_ORDER"] += 1
        else:
            lead[channel] = (begun - asked) / _DAY
    return lead, classes


def _curve(kpi: Kpi, ordered: Sequence[float]) -> list[Curve]:
    if not ordered:
        return []
    return [
        Curve(
            name={"ko": "요구에서 규칙 적용까지", "en": "Requirement to rules live"},
            kind=CurveKind.ECDF,
            unit="days",
            points=[CurvePoint(0.0, 0.0), *(CurvePoint(days, share) for days, share in ecdf(ordered))],
            threshold=kpi.threshold.value,
            target=0.9,
        )
    ]
