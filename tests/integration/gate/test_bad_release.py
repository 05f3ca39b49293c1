"""Does a good release pass, and is a bad one stopped by the right gate for the reason that is true?

One healthy history of every kind of record, judged by the real service over gates that ask for little. Each test spoils
one thing in it.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import text

from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import LabelLog, LogRecord
from services.chassis.clock import ManualClock
from services.chassis.ids import uuid7
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.adapters.sampling_rules import load_plans
from services.gate.domain.kpis import Gates, Kpi
from tests.data.histories import DAY, GROUPS, HOUR, History
from tests.integration.gate.loopback import Loopback, loopback

pytestmark = pytest.mark.slow
NOW = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
SCHEMA = fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / "report_v1.json").read_text()))
PRECISION, FALSE = "FaceMatchEvalReport_v1", "FalsePositiveAnalysisReport_v1"
LATENCY, NOTICES = "CaseLatencyReport_v1", "NotificationReliabilityReport_v1"
SUCCESS = "RemovalSuccessRateReport_v1"
JUNIT = b"<testsuite><testcase/></testsuite>"
EACH = 12
"""Alerts of each channel group; a few more than the samples want."""
Outcomes = dict[str, tuple[str, list[str]]]


def small(kpi: Kpi) -> Kpi:
    """The same gate, content with a few."""
    parts = kpi.population.parts
    population = replace(
        kpi.population,
        parts=replace(parts, required=20) if parts else None,
        least_per_group=EACH if kpi.population.least_per_group else 0,
    )
    return replace(kpi, required_size=5 if kpi.required_size == 5 else 10, population=population)


def gates() -> Gates:
    shipped = load_gates()
    return replace(shipped, kpis={name: small(kpi) for name, kpi in shipped.kpis.items()})


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Loopback]:
    """The service on an empty database, with small gates and samples of ten."""
    plans = load_plans()
    few = {name: (replace(plan, size=10, spare=2), term) for name, (plan, term) in plans.by_report.items()}
    async with loopback(
        database, tmp_path, ManualClock(NOW), gates=gates(), plans=replace(plans, by_report=few)
    ) as made:
        yield made


def latency(_: int) -> timedelta | None:
    return timedelta(seconds=2)


def healthy(case_after: Callable[[int], timedelta | None] = latency) -> History:
    """Three months in which everything went well. `case_after`: how long the case of the n-th alert took."""
    made = History(NOW, random.Random(1))
    for number in range(EACH * len(GROUPS)):
        made.decision(NOW - 2 * DAY + number * timedelta(minutes=5), case_after(number), GROUPS[number % len(GROUPS)])
    for number in range(40):
        made.notice(NOW - DAY, "HANDED_OVER", "ACKNOWLEDGED")
        made.request(("naver", "x")[number % 2], NOW - 15 * DAY, NOW - 15 * DAY + 5 * HOUR)
        made.closing(NOW - 50 * DAY - number * HOUR)
        made.purge("UPLOAD_CHECK", NOW - 5 * DAY, NOW - 5 * DAY + HOUR)
        made.right("ACCESS", NOW - 40 * DAY, NOW - 30 * DAY, NOW - 35 * DAY)
    for number in range(5):
        made.onboarding(f"channel-{number}", NOW - 40 * DAY, NOW - 35 * DAY)
    return made


async def feed(world: Loopback, made: History) -> None:
    by_publisher: defaultdict[str, list[LogRecord]] = defaultdict(list)
    for publisher, record in made.records:
        by_publisher[publisher].append(record)
    for publisher, records in by_publisher.items():
        await world.feed(publisher, records)


async def label(world: Loopback, wrong_of_ten: int = 0) -> None:
    """Two people say of every item of both samples what it is."""
    for report in (PRECISION, FALSE):
        sample = await world.freeze(report)
        await world.log_own_records()
        event = (await world.events(SampleFrozen))[-1]
        records = []
        for number, decision_id in enumerate(event.decision_ids):
            word = "NO_MATCH" if number % 10 < wrong_of_ten else "MATCH"
            for who in ("aa", "bb"):
                log = LabelLog(
                    source="REVIEWER", verdict=word, sample_id=sample.sample_id, review_ms=20_000,
                    policy_version="labelling-1",
                )  # fmt: skip
                moment = Timestamp()
                moment.FromDatetime(NOW - HOUR)
                records.append(
                    LogRecord(
                        record_id=uuid7(), decision_id=decision_id, actor_ref=who, occur_time=moment, label_log=log
                    )
                )
        await world.feed("case", records)


async def judged(world: Loopback) -> Outcomes:
    """What each gate says, with its reasons."""
    for kind in ("SCENARIO", "REGRESSION", "POLICY", "ROLLBACK"):
        run = pb.RecordTestRunRequest(release="1.0", kind=kind, commit="0123abc", junit=JUNIT, request_id=uuid7())
        await world.stub.RecordTestRun(run, metadata=world.metadata())
    found: Outcomes = {}
    for summary in (await world.evaluate()).reports:
        request = pb.GetReportRequest(report_id=summary.report_id, format=pb.REPORT_FORMAT_JSON)
        answer = await world.stub.GetReport(request, metadata=world.metadata())
        document: dict[str, Any] = json.loads(answer.document)
        assert SCHEMA(document)
        page = pb.GetReportRequest(report_id=summary.report_id, format=pb.REPORT_FORMAT_HTML)
        assert (await world.stub.GetReport(page, metadata=world.metadata())).document.startswith(b"<!doctype html>")
        found[summary.name] = (document["outcome"], document["reasons"])
    return found


def stopped(outcomes: Outcomes) -> Outcomes:
    return {name: said for name, said in outcomes.items() if said[0] != "PASSED"}


async def test_a_good_release_passes_all_eleven_gates(world: Loopback) -> None:
    await feed(world, healthy())
    await label(world)
    outcomes = await judged(world)
    assert (11, {}) == (len(outcomes), stopped(outcomes))


async def test_a_threshold_that_is_too_low_fails_precision_and_false_positives(world: Loopback) -> None:
    await feed(world, healthy())
    await label(world, wrong_of_ten=2)
    assert stopped(await judged(world)) == {
        PRECISION: ("FAILED", ["THRESHOLD_NOT_MET"]), FALSE: ("FAILED", ["THRESHOLD_NOT_MET"]),
    }  # fmt: skip


async def test_a_queue_that_stalls_fails_the_case_latency(world: Loopback) -> None:
    await feed(world, healthy(lambda number: timedelta(seconds=2) if number < EACH * len(GROUPS) - 20 else None))
    await label(world)
    assert stopped(await judged(world)) == {LATENCY: ("FAILED", ["THRESHOLD_NOT_MET"])}


async def test_log_records_that_are_dropped_make_every_figure_an_error(world: Loopback) -> None:
    await feed(world, healthy())
    await label(world)
    async with world.database.begin() as session:
        # All of one notice, so that no figure shows it: whoever drops a record leaves its position.
        await session.execute(text("DELETE FROM log_record WHERE publisher = 'notify' AND position IN (4, 5, 6)"))
    outcomes = await judged(world)
    assert outcomes == dict.fromkeys(outcomes, ("ERROR", ["LOG_RECORDS_MISSING"]))


async def test_log_records_whose_end_was_cut_off_are_missed_too(world: Loopback) -> None:
    await feed(world, healthy())
    await label(world)
    async with world.database.begin() as session:
        await session.execute(
            text(
                "DELETE FROM log_record WHERE publisher = 'notify' AND position > "
                "(SELECT max(position) - 3 FROM log_record WHERE publisher = 'notify')"
            )
        )
    assert (await judged(world))[NOTICES] == ("ERROR", ["LOG_RECORDS_MISSING"])


async def test_what_was_lost_before_the_window_does_not_stop_a_release_for_ever(world: Loopback) -> None:
    await feed(world, healthy())
    await label(world)
    async with world.database.begin() as session:
        await session.execute(
            text("UPDATE log_record SET occur_time = :old WHERE publisher = 'notify' AND position <= 9"),
            {"old": NOW - 100 * DAY},
        )
        await session.execute(text("DELETE FROM log_record WHERE publisher = 'notify' AND position IN (4, 5)"))
    assert stopped(await judged(world)) == {}


async def test_words_of_devices_that_a_counter_made_up_prove_nothing(world: Loopback) -> None:
    made = healthy()
    for _ in range(20):
        made.notice(NOW - DAY, "HANDED_OVER")
        # Acknowledged without having been handed over; and by somebody who delivers nothing.
        made.notice(NOW - DAY, "ACKNOWLEDGED")
        made.notice(NOW - DAY, "HANDED_OVER", "ACKNOWLEDGED", publisher="case")
    await feed(world, made)
    await label(world)
    assert stopped(await judged(world)) == {NOTICES: ("FAILED", ["THRESHOLD_NOT_MET"])}


async def test_words_without_a_handing_over_alone_are_no_ground_to_pass(world: Loopback) -> None:
    made = healthy()
    for _ in range(10):
        made.notice(NOW - DAY, "ACKNOWLEDGED")
    await feed(world, made)
    await label(world)
    assert stopped(await judged(world)) == {NOTICES: ("INCONCLUSIVE", ["UNUSABLE_RECORDS"])}


async def test_one_platform_that_removes_nothing_fails_the_release(world: Loopback) -> None:
    made = healthy()
    for _ in range(20):
        made.request("meta", NOW - 15 * DAY)
    await feed(world, made)
    await label(world)
    assert stopped(await judged(world)) == {
        SUCCESS: ("FAILED", ["THRESHOLD_NOT_MET"]), "PlatformTTRReport_v1": ("FAILED", ["THRESHOLD_NOT_MET"]),
    }  # fmt: skip


async def test_records_that_come_twice_and_in_any_order_change_nothing(world: Loopback) -> None:
    made = healthy()
    copies = [(publisher, LogRecord.FromString(record.SerializeToString())) for publisher, record in made.records]
    made.records += copies
    made.chance.shuffle(made.records)
    await feed(world, made)
    await label(world)
    assert stopped(await judged(world)) == {}
