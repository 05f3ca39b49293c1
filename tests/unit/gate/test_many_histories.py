"""Of thousands of random histories, is the outcome of each what the rules say, and never a false PASSED?

`make gate-histories` judges ten thousand; the suite judges some (JIKIMI_HISTORIES says how many).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from services.gate.adapters.rules import load_gates
from services.gate.domain.judging import judge_measurement
from services.gate.domain.kpis import Kpi
from services.gate.handlers import MEASURES
from tests.data import truths
from tests.data.histories import History, disturbed
from tests.unit.gate.memory_records import MemoryRecords

NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
HISTORIES = int(os.environ.get("JIKIMI_HISTORIES", "450"))
REPORTS = list(truths.MAKERS)


def small(kpi: Kpi) -> Kpi:
    """The same gate, content with the sizes of `truths`."""
    parts, size = kpi.population.parts, truths.REQUIRED
    population = replace(
        kpi.population,
        parts=replace(parts, required=truths.PART) if parts else None,
        least_per_group=truths.PER_GROUP if kpi.population.least_per_group else 0,
    )
    size = {"ChannelCoverageReport_v1": truths.SIGNALS, "ChannelOnboardingLeadtimeReport_v1": truths.CHANNELS}.get(
        kpi.report, size
    )
    return replace(kpi, required_size=size, population=population)


KPIS = {name: small(kpi) for name, kpi in load_gates().kpis.items()}


@pytest.mark.slow
def test_the_outcome_of_every_history_is_what_the_rules_say() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for seed in range(HISTORIES):
        chance = random.Random(seed)
        report, shape = REPORTS[seed % len(REPORTS)], chance.choice(truths.SHAPES)
        made = History(NOW, chance)
        truth = truths.MAKERS[report](made, chance, shape)
        records: Any = MemoryRecords(disturbed(made, chance) if chance.random() < 0.7 else made.records)
        figure = asyncio.run(MEASURES[report](KPIS[report], records, NOW))  # type: ignore[arg-type] # a coroutine
        said = judge_measurement(KPIS[report], figure)[0].value
        assert (report, shape, seed, truth.outcome) == (report, shape, seed, said)
        if truth.value is not None:
            assert figure.value == pytest.approx(truth.value, abs=1e-12), (report, shape, seed)
        seen[report, said] += 1
    # The histories are worth judging only if all outcomes are among them.
    if HISTORIES >= 450:
        assert {said for _, said in seen} == {"PASSED", "FAILED", "INCONCLUSIVE"}
        assert {report for report, said in seen if said == "PASSED"} == set(REPORTS)
    print("\n", *(f"{report} {said} {count}\n" for (report, said), count in sorted(seen.items())))
