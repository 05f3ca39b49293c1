"""Are samples drawn from raw records, frozen for good, and judged by the labels that records state?"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import fastjsonschema
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.common.v1.signal_pb2 import BAND_MATCH, BAND_REVIEW, MATCH_KIND_FACE, MATCH_KIND_PII
from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import CaseLifecycleLog, LabelLog, LogRecord, MatchDecisionLog, ReviewLog
from services.chassis.clock import ManualClock
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.console import sample_commands
from services.console.home import Home
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.adapters.sampling_rules import load_plans
from tests.integration.gate.loopback import Loopback, loopback

START = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
SCHEMA = fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / "report_v1.json").read_text()))
PRECISION, FALSE = "FaceMatchEvalReport_v1", "FalsePositiveAnalysisReport_v1"


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Loopback]:
    """Samples of ten items and two spare ones, by gates that ask for as many."""
    gates, plans = load_gates(), load_plans()
    kpis = {
        name: replace(kpi, required_size=10) if name in plans.by_report else kpi for name, kpi in gates.kpis.items()
    }
    small = {name: (replace(plan, size=10, spare=2), term) for name, (plan, term) in plans.by_report.items()}
    clock = ManualClock(START)
    async with loopback(
        database, tmp_path, clock, gates=replace(gates, kpis=kpis), plans=replace(plans, by_report=small)
    ) as made:
        yield made


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


async def alerts(
    world: Loopback, number: int, group: str = "NAVER", kind: Any = MATCH_KIND_FACE, band: Any = BAND_MATCH,
    ago: timedelta = timedelta(days=1),
) -> list[str]:  # fmt: skip
    """Decisions of the detector; their ids."""
    moment, ids = stamp(world.clock.now() - ago), [uuid7() for _ in range(number)]
    log = MatchDecisionLog(band=band, kind=kind, channel_group=group, decide_time=moment)
    records = [LogRecord(record_id=uuid7(), decision_id=i, occur_time=moment, match_decision_log=log) for i in ids]
    await world.feed("detector", records)
    return ids


async def label(
    world: Loopback, sample: pb.Sample, decision_ids: list[str], *words: str, third: str = "",
    policy: str = "labelling-1",
) -> None:  # fmt: skip
    """Two people say these words of each, a third where named."""
    records = []
    for decision_id in decision_ids:
        given = [("aa", "REVIEWER", words[0]), ("bb", "REVIEWER", words[-1])]
        given += [("cc", "ADJUDICATOR", third)] if third else []
        for minute, (who, source, word) in enumerate(given):
            log = LabelLog(
                source=source, verdict=word, sample_id=sample.sample_id, review_ms=20_000, policy_version=policy
            )
            moment = stamp(world.clock.now() + timedelta(minutes=minute))
            records.append(
                LogRecord(
                    record_id=uuid7(), decision_id=decision_id, actor_ref=who, occur_time=moment, label_log=log
                )
            )
    await world.feed("case", records)


async def drawn(world: Loopback, report: str) -> tuple[pb.Sample, list[str]]:
    """A frozen sample with its items in their order, as the event names them; the gate's records have come back."""
    sample = await world.freeze(report)
    await world.log_own_records()
    event = (await world.events(SampleFrozen))[-1]
    return sample, list(event.decision_ids)


async def document(world: Loopback, decision: pb.ReleaseDecision, name: str) -> dict[str, Any]:
    report_id = next(summary.report_id for summary in decision.reports if summary.name == name)
    request = pb.GetReportRequest(report_id=report_id, format=pb.REPORT_FORMAT_JSON)
    answer = await world.stub.GetReport(request, metadata=world.metadata())
    loaded: dict[str, Any] = json.loads(answer.document)
    assert SCHEMA(loaded)
    return loaded


def facts(report: dict[str, Any]) -> dict[str, str]:
    return {fact["name"]["en"]: fact["text"] for fact in report["facts"]}


def reason(error: grpc.aio.AioRpcError) -> str:
    return unwrap(error).reason


# --- freezing ---


async def test_a_sample_is_told_with_the_hash_of_the_population_and_of_its_items(world: Loopback) -> None:
    ids = await alerts(world, 40)
    sample, items = await drawn(world, PRECISION)
    assert (40, 10, 12) == (sample.population_size, sample.size, sample.drawn)
    assert hashlib.sha256("".join(f"{i}\n" for i in sorted(ids)).encode()).digest() == sample.population_sha256
    assert hashlib.sha256("".join(f"\t{i}\n" for i in items).encode()).digest() == sample.manifest_sha256
    ranked = sorted(ids, key=lambda i: hashlib.sha256(f"{sample.seed}\n{i}".encode()).digest())
    assert ranked[:12] == items
    [event] = await world.events(SampleFrozen)
    assert ("labelling-1", "label-quality-1") == (event.policy_version, event.quality_version)
    [record] = await world.raw("sample_log")
    assert items == [item.decision_id for item in record.sample_log.items]


async def test_what_comes_after_freezing_changes_nothing_and_the_sample_can_be_drawn_again(world: Loopback) -> None:
    ids = await alerts(world, 40)
    sample, _ = await drawn(world, PRECISION)
    # Late records of the same window, and one that takes an alert out of the population.
    await alerts(world, 40)
    gone = LogRecord(
        record_id=uuid7(), decision_id=ids[0], occur_time=stamp(START),
        case_lifecycle_log=CaseLifecycleLog(transition="DROPPED"),
    )  # fmt: skip
    await world.feed("case", [gone])
    world.clock.advance(timedelta(days=1))
    shown = await world.show(sample.sample_id, reproduce=True)
    assert (sample, True) == (shown.sample, shown.reproduced)
    assert (await world.freeze(PRECISION)).population_sha256 != sample.population_sha256


async def test_the_same_request_freezes_once(world: Loopback) -> None:
    await alerts(world, 40)
    assert await world.freeze(PRECISION, "r") == await world.freeze(PRECISION, "r")
    assert 1 == len(await world.events(SampleFrozen))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.freeze(FALSE, "r")
    assert "REQUEST_ID_REUSED" == reason(refused.value)


async def test_the_population_is_the_alerts_of_the_window_that_became_cases(world: Loopback) -> None:
    ids = await alerts(world, 13)
    await alerts(world, 5, band=BAND_REVIEW)
    await alerts(world, 5, kind=MATCH_KIND_PII)
    await alerts(world, 5, ago=timedelta(days=15))
    dropped = LogRecord(
        record_id=uuid7(), decision_id=ids[0], occur_time=stamp(START - timedelta(days=1)),
        case_lifecycle_log=CaseLifecycleLog(transition="DROPPED"),
    )  # fmt: skip
    await world.feed("case", [dropped])
    assert 12 == (await world.freeze(PRECISION)).population_size
    by_group = await world.freeze(FALSE)
    assert (17, ["NAVER"]) == (by_group.population_size, [part.name for part in by_group.parts])


async def test_too_few_alerts_are_no_sample(world: Loopback) -> None:
    await alerts(world, 9)
    for name, expected in ((PRECISION, "TOO_FEW"), ("CaseLatencyReport_v1", "NO_SAMPLING_PLAN")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await world.freeze(name)
        assert expected == reason(refused.value)
    assert [] == await world.events(SampleFrozen)


async def test_samples_are_listed_newest_first_in_pages(world: Loopback) -> None:
    await alerts(world, 20)
    frozen = [(await world.freeze(PRECISION)).sample_id for _ in range(3)]
    await world.freeze(FALSE)
    seen, token = list[str](), ""
    for _ in range(2):
        request = pb.ListSamplesRequest(report_name=PRECISION, page_size=2, page_token=token)
        answer = await world.stub.ListSamples(request, metadata=world.metadata())
        seen += [sample.sample_id for sample in answer.samples]
        token = answer.next_page_token
    assert (frozen[::-1], "") == (seen, token)


# --- judging ---


async def test_precision_is_counted_from_labels_and_printed_with_kappa(world: Loopback) -> None:
    await alerts(world, 40)
    sample, items = await drawn(world, PRECISION)
    await label(world, sample, items[:6], "MATCH")
    await label(world, sample, items[6:7], "MATCH", policy="labelling-0")
    await label(world, sample, items[7:8], "NO_MATCH")
    await label(world, sample, items[8:9], "MATCH", "NO_MATCH", third="MATCH")
    await label(world, sample, items[9:10], "UNSURE", "UNSURE", third="NO_MATCH")
    report = await document(world, await world.evaluate("1"), PRECISION)
    assert (0.8, 10) == (report["value"]["number"], report["sample"]["size"])
    assert sample.manifest_sha256.hex() == report["sample"]["frozen"]["manifest_sha256"]
    told = facts(report)
    assert "87.50 %" == told["Precision where both labellers agree"][:7]
    assert ("2", "3", "2", "20.00 s") == (
        told["Adjudicated by a third person"], told["Labellers"], told["Labels by another labelling policy"],
        told["Median review time"],
    )  # fmt: skip
    progress = (await world.show(sample.sample_id)).progress
    assert (10, 8, 2, 2, 10) == (
        progress.settled, progress.true_positives, progress.false_positives, progress.adjudicated, progress.pairs,
    )  # fmt: skip
    assert told["Cohen's kappa (95 % interval)"].startswith(f"{progress.kappa:.3f} [{progress.kappa_low:.3f} – ")


async def test_false_positives_are_weighted_by_the_alerts_of_each_group(world: Loopback) -> None:
    for group, number in (("NAVER", 90), ("SNS", 10)):
        await alerts(world, number, group)
    sample, items = await drawn(world, FALSE)
    parts = {"NAVER": items[:10], "SNS": items[12:22]}
    await label(world, sample, parts["NAVER"], "MATCH")
    await label(world, sample, parts["SNS"][:6], "MATCH")
    await label(world, sample, parts["SNS"][6:], "NO_MATCH")
    report = await document(world, await world.evaluate(), FALSE)
    assert report["value"]["number"] == pytest.approx(0.1 * 0.4)
    assert (10, "PASSED", "KORN_GRAUBARD") == (
        report["sample"]["size"], report["figure_outcome"], report["interval"]["method"],
    )  # fmt: skip
    assert facts(report)["Worst channel group"].startswith("SNS – 40.00 %")


async def test_a_group_that_nobody_labelled_leaves_the_whole_without_a_claim(world: Loopback) -> None:
    for group in ("NAVER", "SNS"):
        await alerts(world, 20, group)
    sample, items = await drawn(world, FALSE)
    await label(world, sample, items[:10], "MATCH")
    report = await document(world, await world.evaluate(), FALSE)
    assert (0, "INCONCLUSIVE") == (report["sample"]["size"], report["figure_outcome"])


async def test_labels_of_another_sample_or_of_the_review_band_count_for_nothing(world: Loopback) -> None:
    await alerts(world, 20)
    first, items = await drawn(world, PRECISION)
    await label(world, first, items[:10], "NO_MATCH")
    world.clock.advance(timedelta(minutes=1))
    second, items = await drawn(world, PRECISION)
    await label(world, second, items[:10], "MATCH")
    await label(world, pb.Sample(), items[:10], "NO_MATCH")
    report = await document(world, await world.evaluate("1"), PRECISION)
    assert (1.0, second.sample_id) == (report["value"]["number"], report["sample"]["frozen"]["sample_id"])
    assert "2" == facts(report)["Samples frozen in the window"]


async def test_spare_items_take_the_place_of_void_ones(world: Loopback) -> None:
    await alerts(world, 20)
    sample, items = await drawn(world, PRECISION)
    void = ReviewLog(action="VOID", sample_id=sample.sample_id, reason="SUBSCRIBER_ERASED")
    moment = stamp(world.clock.now())
    gone = LogRecord(record_id=uuid7(), decision_id=items[0], occur_time=moment, review_log=void)
    await world.feed("case", [gone])
    await label(world, sample, items[1:11], "MATCH")
    report = await document(world, await world.evaluate("1"), PRECISION)
    counts = {each["class"]: each["count"] for each in report["excluded"]}
    assert (10, {"UNLABELLED": 0, "DISPUTED": 0, "VOID": 1, "SPARE": 1}) == (report["sample"]["size"], counts)


async def test_an_expired_sample_says_nothing_any_more(world: Loopback) -> None:
    await alerts(world, 20)
    sample, items = await drawn(world, PRECISION)
    await label(world, sample, items[:10], "MATCH")
    world.clock.advance(timedelta(days=29))
    report = await document(world, await world.evaluate("1"), PRECISION)
    assert ("INCONCLUSIVE", 0) == (report["figure_outcome"], report["sample"]["size"])


async def test_a_judgement_by_labels_is_an_evaluation_on_record(world: Loopback) -> None:
    await alerts(world, 20)
    sample, items = await drawn(world, PRECISION)
    await label(world, sample, items[:10], "MATCH")
    decision = await world.evaluate("1")
    await world.log_own_records()
    [record] = await world.raw("sample_evaluation_log")
    found = record.sample_evaluation_log
    assert (sample.sample_id, sample.manifest_sha256) == (found.sample_id, found.manifest_sha256)
    assert [found.evaluation_id] == [report.report_id for report in decision.reports]


async def test_the_human_wait_of_the_review_band_stands_beside_case_latency(world: Loopback) -> None:
    moment = stamp(world.clock.now() - timedelta(hours=1))
    records = [
        LogRecord(
            record_id=uuid7(), decision_id=decision_id, occur_time=moment,
            label_log=LabelLog(source="REVIEWER", verdict=word, wait_ms=wait),
        )
        for decision_id, word, wait in (
            ("a", "UNSURE", 1_000), ("a", "MATCH", 60_000), ("a", "MATCH", 600_000), ("b", "NO_MATCH", 120_000),
        )
    ]  # fmt: skip
    await world.feed("case", records)
    report = await document(world, await world.evaluate(), "CaseLatencyReport_v1")
    assert "1 min · P95 2 min (n = 2)" == facts(report)["Human wait, median (review band)"]


# --- the command line ---


@dataclass(frozen=True)
class NearHome:
    """What commands need of a home: an issuer's key and where services listen."""

    path: Path
    service_ports: dict[str, int]

    def addresses(self, service: str) -> list[str]:
        return [f"127.0.0.1:{self.service_ports[service]}"]


async def test_samples_are_frozen_and_shown_on_the_command_line(
    world: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "tokens" / "private"
    keys.mkdir(parents=True)
    shutil.copy(tmp_path / "private" / "app.key", keys / "issuer.key")
    home = cast(Home, NearHome(tmp_path, {"gate": world.port}))
    await alerts(world, 20)

    async def told(command: Any, **options: object) -> Any:
        assert 0 == await command(home, argparse.Namespace(json=True, **options))
        return json.loads(capsys.readouterr().out)

    frozen = await told(sample_commands.sample_freeze, report="precision")
    assert (PRECISION, 20, 10, 12) == tuple(
        frozen[name] for name in ("report_name", "population_size", "size", "drawn")
    )
    await world.log_own_records()
    [event] = await world.events(SampleFrozen)
    await label(world, pb.Sample(sample_id=frozen["sample_id"]), list(event.decision_ids)[:9], "MATCH")
    shown = await told(sample_commands.sample_show, sample=frozen["sample_id"], reproduce=True)
    assert (True, 9, 1, None) == tuple(shown[name] for name in ("reproduced", "settled", "unlabelled", "kappa"))
    [listed] = await told(sample_commands.sample_show, sample="", reproduce=False)
    assert frozen == listed
    assert 0 == await sample_commands.sample_show(
        home, argparse.Namespace(json=False, sample=frozen["sample_id"], reproduce=False)
    )
    assert "labelling-1" in capsys.readouterr().out
