"""Does a plan for labels on a thousand alerts end in figures that anybody recounts from the raw records?"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from misuse.common.v1.access_pb2 import PURPOSE_REVIEW, ROLE_REVIEWER
from misuse.common.v1.signal_pb2 import BAND_MATCH, MATCH_KIND_FACE
from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import LogRecord, MatchDecisionLog
from services.case.domain.words import Label
from services.case.handlers import review
from services.case.ports import Who
from services.chassis.ids import uuid7
from services.gate.adapters.rules import load_gates
from services.gate.adapters.sampling_rules import load_plans
from tests.integration.case.world import World
from tests.integration.gate.loopback import Loopback, loopback

pytestmark = pytest.mark.slow

EVENTS = 1000
SIMPLE = 400
"""Items of the simple sample. The shipped plan takes a thousand: as many as there are, and twice as long to label."""
GROUPS = {"NAVER": 0.55, "SNS_GLOBAL": 0.30, "COMMUNITY": 0.15}
WRONG = {"NAVER": 0.03, "SNS_GLOBAL": 0.08, "COMMUNITY": 0.20}
"""How often an alert of a group is wrong."""
PER_GROUP = 40
PRECISION, FALSE = "FaceMatchEvalReport_v1", "FalsePositiveAnalysisReport_v1"
LABELLERS = ("ann", "bob", "cho")


@pytest.fixture
async def gate(world: World, migrated_url: Callable[[str], str], tmp_path: Path) -> AsyncIterator[Loopback]:
    """The gate beside `case`, by the same clock; the shipped plans with smaller sizes."""
    gates, plans, sizes = load_gates(), load_plans(), {PRECISION: SIMPLE, FALSE: PER_GROUP}
    kpis = gates.kpis | {name: replace(gates.kpis[name], required_size=size) for name, size in sizes.items()}
    small = {
        name: (replace(plan, size=sizes[name], spare=2), term) for name, (plan, term) in plans.by_report.items()
    }
    async with loopback(
        migrated_url("gate"), tmp_path / "gate", world.clock,
        gates=replace(gates, kpis=kpis), plans=replace(plans, by_report=small),
    ) as made:  # fmt: skip
        yield made


async def alerts(world: World, gate: Loopback, chance: random.Random) -> dict[str, bool]:
    """A thousand decisions of the detector that became cases: decision → whether it is right."""
    person, truth, records = await world.person(), dict[str, bool](), list[LogRecord]()
    names = chance.choices(list(GROUPS), list(GROUPS.values()), k=EVENTS)
    for start in range(0, EVENTS, 200):
        part = [
            world.facts(person, cluster_id=f"c{start + number}", channel_group=group)
            for number, group in enumerate(names[start : start + 200])
        ]
        await world.match(*part)
        for facts in part:
            truth[facts.decision_id] = chance.random() >= WRONG[facts.channel_group]
            log = MatchDecisionLog(
                band=BAND_MATCH, kind=MATCH_KIND_FACE, channel_group=facts.channel_group,
                decide_time=facts.decide_time, discover_time=facts.discover_time,
            )  # fmt: skip
            records.append(
                LogRecord(
                    record_id=uuid7(),
                    decision_id=facts.decision_id,
                    occur_time=facts.decide_time,
                    match_decision_log=log,
                )
            )
    await gate.feed("detector", records)
    await pass_on(world, gate)
    return truth


async def pass_on(world: World, gate: Loopback) -> None:
    """What `case` has recorded since reaches the gate."""
    records = await world.records()
    await gate.feed("case", records[gate.positions.get("case", 0) :])


def opinion(right: bool, chance: random.Random) -> Label:
    """What a careful person says: now and then unsure, seldom wrong."""
    if chance.random() < 0.03:
        return Label.UNSURE
    return Label.MATCH if right != (chance.random() < 0.02) else Label.NO_MATCH


async def label_everything(world: World, truth: dict[str, bool], chance: random.Random) -> None:
    """Three people lease and label until there is nothing left for any of them; then a fourth decides the disputes."""
    rules, open_for = world.service.needs.rules, list(LABELLERS)
    while open_for:
        name = chance.choice(open_for)
        who = Who(ROLE_REVIEWER, name, PURPOSE_REVIEW)
        async with world.service.units() as unit:
            items = await review.lease(unit, 20, rules, world.clock.now(), who)
        world.clock.advance(timedelta(seconds=20))
        async with world.service.units() as unit:
            for item in items:
                said = opinion(truth[item.decision_id], chance)
                await review.label(unit, item.review_item_id, said, rules, world.clock.now(), who)
        if not items:
            open_for.remove(name)
    eve = Who(ROLE_REVIEWER, "eve", PURPOSE_REVIEW)
    while True:
        async with world.service.units() as unit:
            waiting = await unit.reviews.disputed(100, None, eve.ref)
            for item in waiting:
                said = Label.MATCH if truth[item.decision_id] else Label.NO_MATCH
                await review.adjudicate(unit, item.review_item_id, said, rules, world.clock.now(), eve)
        if not waiting:
            return


async def document(gate: Loopback, decision: pb.ReleaseDecision, name: str) -> dict[str, Any]:
    report_id = next(summary.report_id for summary in decision.reports if summary.name == name)
    request = pb.GetReportRequest(report_id=report_id, format=pb.REPORT_FORMAT_JSON)
    loaded: dict[str, Any] = json.loads((await gate.stub.GetReport(request, metadata=gate.metadata())).document)
    return loaded


async def items_of(gate: Loopback, sample: pb.Sample) -> list[str]:
    """Decisions in a sample in the order drawn, by its record."""
    [log] = [r.sample_log for r in await gate.raw("sample_log") if r.sample_log.sample_id == sample.sample_id]
    return [item.decision_id for item in log.items]


# --- the recount: plain Python over raw records, nothing of the gate's ---


def recounted(records: Sequence[LogRecord], sample_id: str) -> dict[str, tuple[list[str], str]]:
    """Decision → (the words of the two, by who said them; the final word)."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    third: dict[str, str] = {}
    for record in records:
        if record.label_log.sample_id == sample_id and record.label_log.source == "REVIEWER":
            said[record.decision_id][record.actor_ref] = record.label_log.verdict
        elif record.label_log.sample_id == sample_id:
            assert record.actor_ref not in said[record.decision_id]
            third[record.decision_id] = record.label_log.verdict
    found = {}
    for decision_id, words in said.items():
        two = [words[who] for who in sorted(words)]
        alike = len(set(two)) == 1 and two[0] != "UNSURE"
        assert alike != (decision_id in third)
        found[decision_id] = (two, two[0] if alike else third[decision_id])
    return found


def kappa_of(pairs: Sequence[Sequence[str]]) -> float:
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    size = len(pairs)
    observed = sum(one == other for one, other in pairs) / size
    expected = sum(first[word] * second[word] for word in first) / size**2
    return (observed - expected) / (1 - expected)


async def test_a_thousand_alerts_give_a_sample_labels_and_figures_that_recount_to_the_same(
    world: World, gate: Loopback
) -> None:
    chance = random.Random(20260309)
    truth = await alerts(world, gate, chance)
    world.clock.advance(timedelta(minutes=1))
    simple, by_group = await gate.freeze(PRECISION), await gate.freeze(FALSE)
    await gate.log_own_records()
    for event in await gate.events(SampleFrozen):
        await world.feed(event, publisher="gate")
    await label_everything(world, truth, chance)
    await pass_on(world, gate)

    decisions = await gate.raw("match_decision_log")
    labels = await gate.raw("label_log")
    ids = "".join(f"{decision_id}\n" for decision_id in sorted(truth))
    assert hashlib.sha256(ids.encode()).digest() == simple.population_sha256 == by_group.population_sha256

    # Precision on the simple sample, κ, disagreements and what the third person did.
    labelled, drawn = recounted(labels, simple.sample_id), await items_of(gate, simple)
    assert drawn == sorted(truth, key=lambda i: hashlib.sha256(f"{simple.seed}\n{i}".encode()).digest())[: SIMPLE + 2]
    assert set(drawn) == set(labelled)
    settled = {decision_id: labelled[decision_id] for decision_id in drawn[:SIMPLE]}
    words = Counter(word for _, word in settled.values())
    disputed = sum(len(set(two)) > 1 or two[0] == "UNSURE" for two, _ in settled.values())
    shown = await gate.show(simple.sample_id, reproduce=True)
    progress = shown.progress
    assert shown.reproduced
    assert (SIMPLE, words["MATCH"], words["NO_MATCH"], disputed, 0, SIMPLE) == (
        progress.settled, progress.true_positives, progress.false_positives, progress.adjudicated, progress.disputed,
        progress.pairs,
    )  # fmt: skip
    assert progress.kappa == pytest.approx(kappa_of([two for two, _ in settled.values()]), abs=1e-12)
    assert -1 <= progress.kappa_low < progress.kappa < progress.kappa_high <= 1
    assert disputed > 0
    decision = await gate.evaluate()
    report = await document(gate, decision, PRECISION)
    assert (words["MATCH"] / SIMPLE, SIMPLE) == (report["value"]["number"], report["sample"]["size"])

    # The false-positive rate on the stratified sample, weighted by the alerts of each group.
    settled = recounted(labels, by_group.sample_id)
    volume = Counter(record.match_decision_log.channel_group for record in decisions)
    group_of = {record.decision_id: record.match_decision_log.channel_group for record in decisions}
    wrong: dict[str, list[bool]] = defaultdict(list)
    for decision_id in await items_of(gate, by_group):
        group = group_of[decision_id]
        if len(wrong[group]) < PER_GROUP:
            wrong[group].append(settled[decision_id][1] == "NO_MATCH")
    expected = sum(volume[group] / EVENTS * sum(hits) / len(hits) for group, hits in wrong.items())
    report = await document(gate, decision, FALSE)
    assert report["value"]["number"] == pytest.approx(expected, abs=1e-12)
    groups = [part for part in report["strata"] if part["dimension"] == "channel_group"]
    shares = {part["name"]: part["value"]["number"] for part in groups}
    assert shares == pytest.approx({group: sum(hits) / len(hits) for group, hits in wrong.items()})
    worst = max(shares, key=lambda group: shares[group])
    told = {fact["name"]["en"]: fact["text"] for fact in report["facts"]}
    assert told["Worst channel group"].startswith(f"{worst} – ")
    # Each alert of this test is an incident of its own.
    assert str(PER_GROUP * len(GROUPS)) == told["Cases in the sample"]
    assert ("20.00 s", PER_GROUP) == (told["Median review time"], report["sample"]["size"])
