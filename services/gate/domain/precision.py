"""How right are alerts, by what people said of a frozen sample of them?

Precision and false-positive rate are complements by definition. They are two estimators on two samples: one simple
random, one stratified by channel group and weighted by the alerts of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

from services.gate.domain.kpis import Kpi
from services.gate.domain.labels import RIGHT, WRONG, Labelled, Part, Settled
from services.gate.domain.measures import (
    MAX_STRATA,
    Excluded,
    Fact,
    Measurement,
    Stratum,
    duration_text,
    percent_text,
)
from services.gate.domain.samples import Sample
from services.gate.domain.statistics import Interval, clopper_pearson, stratified

SHOWN_GROUPS = 5


def precision(kpi: Kpi, sample: Sample, seen: Labelled) -> Measurement:
    """TP ÷ (TP + FP) over the settled items of a simple random sample."""
    settled = [item for item in seen.items if item.word]
    right = sum(item.word == RIGHT for item in settled)
    alone = [item for item in settled if not item.adjudicated]
    agreed = sum(item.word == RIGHT for item in alone)
    both = _share(agreed, len(alone))
    facts = [_fact("두 판정자가 일치한 것만의 정밀도", "Precision where both labellers agree", both)]
    load = sample.drawn.population_size * 0.01 * seen.mean_review_ms
    return Measurement(
        value=right / len(settled) if settled else None,
        size=len(settled),
        interval=clopper_pearson(right, len(settled)) if settled else None,
        method="CLOPPER_PEARSON",
        strata=_strata(settled, RIGHT),
        excluded=_classes(seen),
        facts=[*facts, *_quality(seen)],
        derivation_value=f"{duration_text(load)} / {_days(sample)} d" if seen.review_ms else "",
        derivation_terms=_review_load(sample, seen, 1 - right / len(settled)) if settled else (),
        frozen=cited(sample),
    )


def _review_load(sample: Sample, seen: Labelled, wrong: float) -> list[Fact]:
    """re-review load = FP × mean review time."""
    alerts = sample.drawn.population_size
    return [
        _fact("기간 안의 경보", "Alerts in the window", f"{alerts:,}"),
        _fact("오탐 비율", "Share of false positives", percent_text(wrong)),
        _fact("평균 검토 시간", "Mean review time", duration_text(seen.mean_review_ms)),
        _fact("현재 재검토 부담", "Re-review load now", duration_text(alerts * wrong * seen.mean_review_ms)),
    ]


def false_positives(kpi: Kpi, sample: Sample, seen: Labelled) -> Measurement:
    """FP ÷ (TP + FP) over a stratified sample, each channel group weighted by its alerts. The size is that of the group
    with the fewest settled items: one group that nobody labelled leaves the whole without a claim."""
    counted = [(part, part.words().count(WRONG), len(part.words())) for part in seen.parts]
    known = [(part.stratum.population, wrong, size) for part, wrong, size in counted if size]
    value, interval = stratified(known) if known else (None, None)
    settled = [item for item in seen.items if item.word]
    groups = sorted(seen.parts, key=lambda part: (-part.stratum.population, part.stratum.name))[:SHOWN_GROUPS]
    return Measurement(
        value=value,
        size=min((size for _, _, size in counted), default=0),
        interval=interval,
        method="KORN_GRAUBARD",
        strata=_strata(settled, WRONG),
        excluded=_classes(seen),
        facts=[*_worst(counted), *_quality(seen)],
        derivation_value=" · ".join(f"{g.stratum.name} {g.stratum.population * 0.01:,.1f}" for g in groups),
        derivation_terms=[] if value is None else _extra_items(known, value),
        frozen=cited(sample),
    )


def _extra_items(known: Sequence[tuple[int, int, int]], value: float) -> list[Fact]:
    """Extra merge and review items: alerts of the groups that were labelled × their share of false positives."""
    alerts = sum(population for population, _, _ in known)
    return [
        _fact("판정된 그룹의 경보", "Alerts of the labelled groups", f"{alerts:,}"),
        _fact("오탐률", "False-positive rate", percent_text(value)),
        _fact("현재 추가 병합·검토 건수", "Extra merge and review items now", f"{alerts * value:,.1f}"),
    ]


def cited(sample: Sample) -> dict[str, str | int]:
    """What a report says of the sample that it rests on."""
    return {
        "sample_id": sample.sample_id,
        "design": sample.plan.design.value,
        "seed": sample.seed,
        "population_size": sample.drawn.population_size,
        "population_sha256": sample.drawn.population_sha256.hex(),
        "manifest_sha256": sample.drawn.manifest_sha256.hex(),
        "from": sample.start_time.isoformat(timespec="seconds"),
        "to": sample.end_time.isoformat(timespec="seconds"),
        "plan_version": sample.plan_version,
        "policy_version": sample.papers.policy_version,
        "quality_version": sample.papers.quality_version,
    }


def _strata(settled: Sequence[Settled], word: str) -> list[Stratum]:
    """The share of a word by channel group and kind, the largest parts first."""
    groups: defaultdict[tuple[str, str], list[bool]] = defaultdict(list)
    for item in settled:
        for key in (("channel_group", item.alert.channel_group), ("kind", item.alert.kind)):
            groups[key].append(item.word == word)
    found: list[Stratum] = []
    for dimension in ("channel_group", "kind"):
        own = [(name, hits) for (of, name), hits in groups.items() if of == dimension]
        for name, hits in sorted(own, key=lambda group: (-len(group[1]), group[0]))[:MAX_STRATA]:
            value, interval = _rate(sum(hits), len(hits))
            found.append(Stratum(dimension, name or "UNKNOWN", len(hits), value, interval))
    return found


def _rate(hits: int, size: int) -> tuple[float, Interval]:
    return hits / size, clopper_pearson(hits, size)


def _share(hits: int, size: int) -> str:
    if not size:
        return "—"
    value, (low, high) = _rate(hits, size)
    return f"{percent_text(value)} [{percent_text(low)} – {percent_text(high)}] n = {size:,}"


def _worst(counted: Sequence[tuple[Part, int, int]]) -> list[Fact]:
    known = [each for each in counted if each[2]]
    if not known:
        return []
    part, wrong, size = max(known, key=lambda each: (each[1] / each[2], each[0].stratum.name))
    text = f"{part.stratum.name} – {_share(wrong, size)}"
    return [_fact("가장 나쁜 채널 그룹", "Worst channel group", text)]


def _classes(seen: Labelled) -> list[Excluded]:
    """What is drawn and has no final word."""
    meanings = {
        "UNLABELLED": (
            sum(item.labelled < 2 for item in seen.items),
            {"ko": "아직 두 명이 판정하지 않음", "en": "two people have not labelled it yet"},
        ),
        "DISPUTED": (
            sum(item.disputed for item in seen.items),
            {"ko": "두 판정이 갈려 제3자를 기다림", "en": "the two disagree; a third person is waited for"},
        ),
        "VOID": (
            sum(part.void for part in seen.parts),
            {
                "ko": "회원 탈퇴 등으로 더는 판정할 수 없음; 예비 항목이 대신함",
                "en": "can no longer be labelled; a spare item replaces it",
            },
        ),
        "SPARE": (
            sum(part.spare for part in seen.parts),
            {"ko": "필요하지 않은 예비 항목", "en": "spare items that are not needed"},
        ),
    }
    return [Excluded(name, count, meaning) for name, (count, meaning) in meanings.items()]


def drawing(frozen: int, cases: int) -> list[Fact]:
    """What a reader must know of the drawing. `frozen`: samples for this report within the window, this one included;
    `cases`: incidents that the items belong to, since alerts about one incident are right or wrong together."""
    return [
        _fact("이 기간에 동결된 표본 수", "Samples frozen in the window", f"{frozen:,}"),
        _fact("표본에 든 사건 수", "Cases in the sample", f"{cases:,}"),
    ]


def _quality(seen: Labelled) -> list[Fact]:
    """How well and how fast people labelled."""
    agreed = seen.agreement
    kappa = "—" if agreed.kappa is None else f"{agreed.kappa:.3f}"
    if agreed.interval is not None:
        kappa += f" [{agreed.interval.low:.3f} – {agreed.interval.high:.3f}]"
    facts = [
        _fact("코언의 카파 (95 % 구간)", "Cohen's kappa (95 % interval)", f"{kappa} n = {agreed.pairs:,}"),
        _fact("두 판정의 단순 일치율", "Raw agreement of the two", _share(agreed.equal, agreed.pairs)),
        _fact("제3자가 판정한 항목", "Adjudicated by a third person", f"{sum(i.adjudicated for i in seen.items):,}"),
        _fact("판정자 수", "Labellers", f"{seen.labellers:,}"),
        _fact("다른 판정 지침에 따른 판정", "Labels by another labelling policy", f"{seen.other_policy:,}"),
    ]
    if seen.median_review_ms is not None:
        facts.append(_fact("판정 시간 중앙값", "Median review time", duration_text(seen.median_review_ms)))
    if seen.per_hour is not None:
        facts.append(_fact("시간당 판정 수", "Labels per hour", f"{seen.per_hour:,.1f}"))
    return facts


def _days(sample: Sample) -> int:
    return round((sample.end_time - sample.start_time) / timedelta(days=1))


def _fact(ko: str, en: str, text: str) -> Fact:
    return Fact({"ko": ko, "en": en}, text)
