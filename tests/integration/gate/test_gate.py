"""Does the gate judge a release by the records alone, once, and say why?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastjsonschema
import grpc
import grpc.aio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from nacl.signing import SigningKey, VerifyKey
from sqlalchemy import insert, select, text

from misuse.case.v1.events_pb2 import LogHeadAdvanced, SubscriberErasureRequested
from misuse.common.v1.access_pb2 import (
    PURPOSE_AUDIT,
    PURPOSE_RELEASE,
    ROLE_AUDITOR,
    ROLE_RELEASE_MANAGER,
    ROLE_UNSPECIFIED,
)
from misuse.common.v1.signal_pb2 import (
    BAND_MATCH,
    BAND_NONE,
    BAND_REVIEW,
    IDENTIFIER_KIND_MOBILE_PHONE,
    MATCH_KIND_FACE,
    SOURCE_TYPE_DARK_WEB,
    SOURCE_TYPE_WEB,
    UPLOAD_SEVERITY_HIGH,
    UPLOAD_SEVERITY_MEDIUM,
    UPLOAD_SEVERITY_UNSPECIFIED,
)
from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.gate.v1 import gate_service_pb2_grpc, leak_signals_pb2
from misuse.log.v1.record_pb2 import (
    CaseLifecycleLog,
    IndexVersionLog,
    LogRecord,
    MatchDecisionLog,
    NotificationDeliveryLog,
    PreUploadWarningLog,
    SignalIntakeLog,
    UserActionOutcomeLog,
)
from services.chassis.bus import CURSOR, Event
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.grants import KEY_ID as GRANT_KEY
from services.chassis.grants import Grant, sign_grant
from services.chassis.ids import uuid7
from services.chassis.keys import pepper
from services.chassis.outbox import OUTBOX, Outbox
from services.chassis.rpc import unwrap
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from services.gate.__main__ import MAX_MESSAGE, Gate, wire
from services.gate.adapters.rules import SHIPPED, load_gates
from services.gate.adapters.tables import metadata
from services.gate.domain.kpis import Gates, Kpi, Stage
from services.gate.domain.measures import Measurement
from services.gate.handlers import MEASURES
from services.gate.ports import Records
from tests.integration.databases import connected, empty

START = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
SCHEMA = fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / "report_v1.json").read_text()))
JUNIT = b"<testsuite><testcase/><testcase><skipped/></testcase></testsuite>"


def stamp(moment: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(moment)
    return result


@dataclass
class World:
    """The service over loopback, its events fed by hand, its clock in our hands."""

    gate: Gate
    database: Database
    clock: ManualClock
    issuer: Issuer
    stub: gate_service_pb2_grpc.GateServiceAsyncStub
    positions: dict[str, int] = field(default_factory=dict)

    async def feed(self, publisher: str, messages: Sequence[Message]) -> None:
        """Applies events of one type, as the consumer would."""
        start = self.positions.get(publisher, 0)
        self.positions[publisher] = start + len(messages)
        events = [Event(publisher, 0, start + n, uuid7(), "", m) for n, m in enumerate(messages, 1)]
        handler = self.gate.intake.handlers_of(publisher)[type(messages[0])]
        async with self.database.begin() as session:
            await handler(session, events)
            await session.execute(text("DELETE FROM bus_cursor WHERE publisher = :p"), {"p": publisher})
            await session.execute(
                insert(CURSOR).values(
                    publisher=publisher, partition=0, position=events[-1].position, stream_id="", stream_seq=0
                )
            )

    async def cases(
        self, *latencies: float | None, band: Any = BAND_MATCH, transition: str = "OPENED"
    ) -> None:
        """Decisions an hour ago whose cases were committed after so many seconds; None never."""
        found = self.clock.now() - timedelta(hours=1)
        ids = [uuid7() for _ in latencies]
        log = MatchDecisionLog(
            band=band, kind=MATCH_KIND_FACE, channel_group="NAVER", discover_time=stamp(found),
            decide_time=stamp(found),
        )
        await self.feed(
            "detector",
            [LogRecord(record_id=uuid7(), decision_id=i, occur_time=stamp(found), match_decision_log=log) for i in ids],
        )
        opened = CaseLifecycleLog(transition=transition)
        await self.feed(
            "case",
            [
                LogRecord(
                    record_id=uuid7(), decision_id=i, case_ids=[uuid7()], case_lifecycle_log=opened,
                    occur_time=stamp(found + timedelta(seconds=seconds)),
                )
                for i, seconds in zip(ids, latencies, strict=True)
                if seconds is not None
            ],
        )

    async def notifications(self, *actions: tuple[str, ...]) -> None:
        """Notifications an hour ago, each with its records."""
        made = stamp(self.clock.now() - timedelta(hours=1))
        records = []
        for steps in actions:
            notification_id = uuid7()
            for action in steps:
                log = NotificationDeliveryLog(
                    notification_id=notification_id, action=action, device_ref="aa", device_class="ios",
                    subject="CASE_OPENED", latency_ms=30 if action == "ACKNOWLEDGED" else 0,
                )
                records.append(
                    LogRecord(record_id=uuid7(), occur_time=made, notification_delivery_log=log)
                )
        await self.feed("notify", records)

    def metadata(self) -> Sequence[tuple[str, str]]:
        token = self.issuer.issue("manager-1", ROLE_RELEASE_MANAGER, PURPOSE_RELEASE, "gate", 60)
        return [("authorization", f"Bearer {token}")]

    async def evaluate(self, stage: str = "ALL", request_id: str = "", release: str = "1.0") -> pb.ReleaseDecision:
        request = pb.EvaluateReleaseRequest(release=release, stage=stage, request_id=request_id or uuid7())
        return (await self.stub.EvaluateRelease(request, metadata=self.metadata())).decision

    async def run(self, kind: str, junit: bytes = JUNIT, request_id: str = "") -> pb.RecordTestRunResponse:
        request = pb.RecordTestRunRequest(
            release="1.0", kind=kind, commit="0123abc", junit=junit, request_id=request_id or uuid7()
        )
        return await self.stub.RecordTestRun(request, metadata=self.metadata())

    async def document(self, summary: pb.ReportSummary) -> dict[str, Any]:
        request = pb.GetReportRequest(report_id=summary.report_id, format=pb.REPORT_FORMAT_JSON)
        answer = await self.stub.GetReport(request, metadata=self.metadata())
        loaded: dict[str, Any] = json.loads(answer.document)
        return loaded


async def _broken(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    raise RuntimeError("010-1234-5678")


async def _world(
    url: str, folder: Path, gates: Gates | None = None, **options: Any
) -> AsyncIterator[World]:
    config = Config(
        service="gate", home=folder, database_url=url, keys_dir=folder / "keys", profile="test",
        token_keys_dir=folder / "public", listen="127.0.0.1:0", max_message_bytes=MAX_MESSAGE,
        service_key_file=folder / "private" / "gate.key",
    )
    issuer = create_key_pair(folder / "private", config.token_keys_dir, "app")
    database, clock = connected(url), ManualClock(START)
    await empty(database, metadata().sorted_tables)
    outbox = Outbox("gate", 4, pepper(config.keys_dir, "outbox"))
    gate = wire(config, database, outbox, clock, gates or load_gates(), "abc1234", **options)
    server, port = build_server(config, gate.register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = gate_service_pb2_grpc.GateServiceStub(channel)
        yield World(gate, database, clock, issuer, stub)
    await server.stop(0)
    await database.close()


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The service on an empty database."""
    async for made in _world(database, tmp_path):
        yield made


@pytest.fixture
async def broken_world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The same with a measurement that fails."""
    measures = {**MEASURES, "CaseLatencyReport_v1": _broken}
    async for made in _world(database, tmp_path, measures=measures):
        yield made


@pytest.fixture
async def blind_world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The same that can measure nothing."""
    async for made in _world(database, tmp_path, measures={}):
        yield made


@pytest.fixture
async def easy_world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The same with gates that ask for twenty events only."""
    gates = load_gates()
    kpis = {name: replace(kpi, required_size=20) for name, kpi in gates.kpis.items()}
    async for made in _world(database, tmp_path, gates=replace(gates, kpis=kpis)):
        yield made


def report(decision: pb.ReleaseDecision, name: str) -> pb.ReportSummary:
    return next(summary for summary in decision.reports if summary.name == name)


async def test_latency_is_recounted_from_raw_records_and_a_lost_case_is_infinite(world: World) -> None:
    await world.cases(*[2.0] * 18, None, None)
    await world.cases(1.0, band=BAND_REVIEW, transition="REVIEW_OPENED")
    await world.cases(1.0, transition="DROPPED")
    decision = await world.evaluate()
    summary = report(decision, "CaseLatencyReport_v1")
    assert (summary.value_text, summary.sample_size, summary.required_size) == ("∞", 20, 10_000)
    assert summary.outcome == pb.OUTCOME_INCONCLUSIVE
    document = await world.document(summary)
    assert SCHEMA(document)
    assert document["data"]["cut_off"] == {"case/0": 20, "detector/0": 22}
    assert {e["class"]: e["count"] for e in document["excluded"]} == {
        "PENDING": 0, "DROPPED": 1, "REVIEW_BAND": 1,
    }


async def test_on_enough_data_with_its_tests_a_gate_passes(easy_world: World) -> None:
    await easy_world.cases(*[2.0] * 20)
    await easy_world.run("REGRESSION")
    summary = report(await easy_world.evaluate(), "CaseLatencyReport_v1")
    assert (pb.Outcome.Name(summary.outcome), summary.value_text) == ("OUTCOME_PASSED", "2.00 s")


async def test_notification_success_leaves_out_what_never_reached_a_live_device(world: World) -> None:
    await world.notifications(
        *[("QUEUED", "HANDED_OVER", "ACKNOWLEDGED")] * 3,
        ("QUEUED", "HANDED_OVER", "RESENT"),
        ("QUEUED", "HANDED_OVER", "SUPERSEDED"),
        ("QUEUED", "HANDED_OVER", "INVALID_TOKEN"),
        ("QUEUED", "QUIET_HOURS"),
        ("QUEUED", "INVALID_TOKEN", "UNDELIVERABLE"),
        ("QUEUED",),
        ("NO_LIVE_DEVICE",),
    )
    summary = report(await world.evaluate(), "NotificationReliabilityReport_v1")
    assert (summary.value_text, summary.sample_size) == ("75.00 %", 4)
    document = await world.document(summary)
    counts = {e["class"]: e["count"] for e in document["excluded"]}
    assert counts == {
        "SUPERSEDED": 1, "INVALID_TOKEN": 2, "QUIET_HOURS": 1, "NO_LIVE_DEVICE": 1, "NOT_HANDED_OVER": 1, "PENDING": 0,
        "NEVER_HANDED_OVER": 0, "FOREIGN_RECORD": 0,
    }


async def test_without_data_every_figure_is_inconclusive_and_nothing_passes(world: World) -> None:
    decision = await world.evaluate()
    outcomes = {summary.name: pb.Outcome.Name(summary.outcome)[8:] for summary in decision.reports}
    assert outcomes == dict.fromkeys(MEASURES, "INCONCLUSIVE")
    assert len(outcomes) == 11
    assert decision.outcome != pb.OUTCOME_PASSED
    for summary in decision.reports:
        document = await world.document(summary)
        assert document["reasons"][0] == "NO_DATA"
        assert SCHEMA(document)


async def test_what_nobody_measures_is_an_error(blind_world: World) -> None:
    decision = await blind_world.evaluate()
    assert {summary.outcome for summary in decision.reports} == {pb.OUTCOME_ERROR}
    assert decision.outcome == pb.OUTCOME_ERROR


async def test_a_measurement_that_fails_is_an_error_without_its_words(broken_world: World) -> None:
    decision = await broken_world.evaluate()
    summary = report(decision, "CaseLatencyReport_v1")
    assert summary.outcome == pb.OUTCOME_ERROR
    document = await broken_world.document(summary)
    assert document["reasons"] == ["MEASUREMENT_FAILED", "TEST_RUN_MISSING"]
    assert "010-1234-5678" not in json.dumps(document) + " ".join(decision.reasons)


async def test_the_same_request_is_judged_once_and_told_once(world: World) -> None:
    first = await world.evaluate("2", "same")
    await world.cases(1.0)
    assert await world.evaluate("2", "same") == first
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.evaluate("3", "same")
    assert unwrap(refused.value).reason == "REQUEST_ID_REUSED"
    async with world.database.begin() as session:
        events = await session.scalars(select(OUTBOX.c.event).order_by(OUTBOX.c.seq))
        assert list(events) == ["recorded", "release_evaluated"]


async def test_a_stage_names_missing_tests_and_artefacts_in_its_reasons(world: World) -> None:
    await world.run("ROLLBACK")
    await world.run("POLICY", b"<testsuite><testcase><failure/></testcase></testsuite>")
    await world.notifications(("QUEUED", "HANDED_OVER", "ACKNOWLEDGED"))
    decision = await world.evaluate("2")
    assert list(decision.reasons) == [
        "NotificationReliabilityReport_v1: INCONCLUSIVE SAMPLE_TOO_SMALL TEST_RUN_MISSING",
        "POLICY: FAILED TESTS_FAILED",
        "LeakSignalSummaryReport: INCONCLUSIVE NO_DATA",
        "DedupMergeLog: INCONCLUSIVE NO_DATA",
    ]
    assert decision.outcome == pb.OUTCOME_FAILED


async def test_a_replica_that_served_an_old_index_stops_the_release(world: World) -> None:
    def said(replica: str, minutes_ago: int, age_ms: int, version: int) -> LogRecord:
        log = IndexVersionLog(
            index="face_gallery", replica=replica, version=version, head_version=version, age_ms=age_ms, entries=3
        )
        moment = stamp(world.clock.now() - timedelta(minutes=minutes_ago))
        return LogRecord(record_id=uuid7(), occur_time=moment, index_version_log=log)

    async def judged() -> str:
        return next(r for r in (await world.evaluate("1")).reasons if r.startswith("face_gallery"))

    assert await judged() == "face_gallery: INCONCLUSIVE NO_DATA"
    await world.feed("detector", [said("aa", 90, 60_000, 5), said("aa", 2, 700, 8), said("bb", 1, 900, 9)])
    assert await judged() == "face_gallery: PASSED 900 ms of 5000 ms, 2 replicas, version 9"
    await world.feed("detector", [said("bb", 30, 6_000, 7)])
    assert await judged() == "face_gallery: FAILED INDEX_STALE (6000 ms of 5000 ms, 2 replicas, version 9)"


async def test_an_unknown_stage_is_refused(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.evaluate("4")
    assert unwrap(refused.value).reason == "UNKNOWN_STAGE"


async def test_a_test_run_is_counted_once_and_the_latest_of_its_kind_decides(world: World) -> None:
    first = await world.run("REGRESSION", request_id="r")
    assert (first.passed, first.failed, first.skipped) == (1, 0, 1)
    assert await world.run("REGRESSION", request_id="r") == first
    await world.run("REGRESSION", b"<testsuite><testcase><error/></testcase></testsuite>")
    assert report(await world.evaluate(), "CaseLatencyReport_v1").outcome == pb.OUTCOME_FAILED


async def test_a_junit_of_four_mebibytes_passes_the_door(world: World) -> None:
    padding = b" " * (4 * 1024 * 1024 - len(JUNIT))
    assert (await world.run("REGRESSION", padding + JUNIT)).passed == 1


async def test_decisions_and_reports_are_found_again(world: World) -> None:
    decision = await world.evaluate("2")
    by_id = pb.GetReleaseDecisionRequest(decision_id=decision.decision_id)
    latest = pb.GetReleaseDecisionRequest(release="1.0")
    for request in (by_id, latest):
        answer = await world.stub.GetReleaseDecision(request, metadata=world.metadata())
        assert answer.decision == decision
    page = pb.GetReportRequest(report_id=decision.reports[0].report_id, format=pb.REPORT_FORMAT_HTML)
    html = (await world.stub.GetReport(page, metadata=world.metadata())).document.decode()
    assert html.lstrip().lower().startswith("<!doctype html>")
    unknown = pb.GetReportRequest(report_id=uuid7())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.stub.GetReport(unknown, metadata=world.metadata())
    assert unwrap(refused.value).reason == "NO_SUCH_REPORT"


async def test_reports_are_listed_newest_first_in_pages(world: World) -> None:
    for _ in range(2):
        await world.evaluate("3")
    seen: list[str] = []
    token = ""
    while True:
        request = pb.ListReportsRequest(page_size=4, page_token=token)
        answer = await world.stub.ListReports(request, metadata=world.metadata())
        seen += [summary.report_id for summary in answer.reports]
        token = answer.next_page_token
        if not token:
            break
    # Three figures and the stage that composes them, twice.
    assert len(seen) == 8
    assert seen == sorted(seen, reverse=True)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.stub.ListReports(pb.ListReportsRequest(page_token="?"), metadata=world.metadata())
    assert unwrap(refused.value).reason == "BAD_PAGE_TOKEN"


async def test_gates_are_listed_with_their_stages_and_last_report(world: World) -> None:
    await world.evaluate("2")
    gates: list[pb.Gate] = []
    token = ""
    while not gates or token:
        request = pb.ListGatesRequest(page_size=5, page_token=token)
        answer = await world.stub.ListGates(request, metadata=world.metadata())
        gates += answer.gates
        token = answer.next_page_token
    assert len(gates) == 11
    with_report = {gate.report_name: list(gate.stages) for gate in gates if gate.HasField("last_report")}
    assert with_report == {"NotificationReliabilityReport_v1": ["2", "ALL"]}




def heads_of(chain_id: str, *sequences: int) -> list[LogHeadAdvanced]:
    return [LogHeadAdvanced(chain_id=chain_id, sequence=n, head_hash=bytes(31) + bytes([n])) for n in sequences]


async def listed(world: World, **values: Any) -> tuple[list[tuple[str, int]], str, bytes]:
    token = world.issuer.issue("auditor-1", ROLE_AUDITOR, PURPOSE_AUDIT, "gate", 60)
    metadata = [("authorization", f"Bearer {token}")]
    answer = await world.stub.ListLogHeads(pb.ListLogHeadsRequest(**values), metadata=metadata)
    return [(head.chain_id, head.sequence) for head in answer.heads], answer.next_page_token, answer.document


async def test_every_head_is_kept_and_the_last_of_each_chain_is_listed(world: World) -> None:
    await world.feed("case", [*heads_of("c", 1, 3, 2), *heads_of("d", 5)])
    await world.feed("case", heads_of("c", 1))
    assert [("c", 3), ("d", 5)] == (await listed(world))[0]
    first, token, _ = await listed(world, page_size=1)
    assert ([("c", 3)], [("d", 5)]) == (first, (await listed(world, page_size=1, page_token=token))[0])
    first, token, _ = await listed(world, chain_id="c", page_size=2)
    assert [("c", 1), ("c", 2)] == first
    assert ([("c", 3)], "") == (await listed(world, chain_id="c", page_size=2, page_token=token))[:2]


async def test_a_fork_of_the_log_leaves_both_heads(world: World) -> None:
    forked = LogHeadAdvanced(chain_id="c", sequence=2, head_hash=bytes([9] * 32))
    await world.feed("case", [*heads_of("c", 2), forked])
    assert [("c", 2), ("c", 2)] == (await listed(world, chain_id="c"))[0]


async def test_a_page_of_heads_is_signed_with_a_key_that_signs_nothing_else(world: World, tmp_path: Path) -> None:
    await world.feed("case", heads_of("c", 4))
    _, _, document = await listed(world)
    page = json.loads(document)
    key, role = (tmp_path / "public" / "gate-heads.pub").read_text().split()
    said = json.dumps(page["statement"], sort_keys=True, separators=(",", ":")).encode()
    VerifyKey(bytes.fromhex(key)).verify(said, bytes.fromhex(page["signature"]))
    assert ("ROLE_UNSPECIFIED", "jikimi-heads/1") == (role, page["statement"]["format"])
    expected = [{"chain_id": "c", "sequence": 4, "head_hash": (bytes(31) + b"\x04").hex()}]
    assert expected == page["statement"]["heads"]


async def test_the_gate_answers_an_erasure_because_it_holds_nothing_of_anybody(world: World) -> None:
    await world.feed("case", [SubscriberErasureRequested(subscriber_id=uuid7())])
    async with world.database.begin() as session:
        assert list(await session.scalars(select(OUTBOX.c.event))) == ["erasure_completed"]


async def test_the_migrations_make_exactly_the_tables_of_the_code(world: World) -> None:
    async with world.database.engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(MigrationContext.configure(sync), metadata())
        )
    assert [change for change in found if "alembic_version" not in str(change)] == []


# --- UserActionOutcomeReport ---


def warning(check_id: str, moment: datetime, severity: Any, own_faces: int = 0, *kinds: Any) -> LogRecord:
    log = PreUploadWarningLog(upload_check_id=check_id, severity=severity, own_faces=own_faces, kinds=kinds)
    return LogRecord(record_id=uuid7(), occur_time=stamp(moment), pre_upload_warning_log=log)


def choice(check_id: str, moment: datetime, word: str) -> LogRecord:
    log = UserActionOutcomeLog(upload_check_id=check_id, choice=word)
    return LogRecord(record_id=uuid7(), occur_time=stamp(moment), user_action_outcome_log=log)


async def test_what_subscribers_chose_is_counted_by_kind_and_severity(world: World) -> None:
    day = timedelta(days=1)
    before, inside, end = START - 3 * day, START - day, START
    high, medium = UPLOAD_SEVERITY_HIGH, UPLOAD_SEVERITY_MEDIUM
    warnings = [
        warning("face", inside, medium, 1),
        warning("both", inside, high, 1, IDENTIFIER_KIND_MOBILE_PHONE),
        warning("phone", inside, high, 0, IDENTIFIER_KIND_MOBILE_PHONE),
        warning("silent", inside, high, 0, IDENTIFIER_KIND_MOBILE_PHONE),
        warning("waiting", inside, medium, 1),
        warning("clean", inside, UPLOAD_SEVERITY_UNSPECIFIED),
        warning("long ago", before, high, 1),
        warning("next period", end, high, 1),
    ]
    words = {"face": "BLUR", "both": "CANCEL", "phone": "PROCEED", "silent": "NO_ANSWER", "long ago": "BLUR"}
    # An answer may come after the period; it belongs to its warning all the same.
    chosen = [choice(check_id, end + timedelta(hours=1), word) for check_id, word in words.items()]
    await world.feed("detector", [*warnings, *chosen])
    request = pb.ReportUserActionsRequest(start_time=stamp(inside - day / 2), end_time=stamp(end))
    report = await world.stub.ReportUserActions(request, metadata=world.metadata())
    assert (5, 1, 1, 1, 1, 1) == numbers(report.total)
    rows = {(row.dimension, row.name): numbers(row) for row in report.rows}
    assert {
        ("kind", "FACE_OWN"): (3, 1, 1, 0, 0, 1),
        ("kind", "MOBILE_PHONE"): (3, 0, 1, 1, 1, 0),
        ("severity", "HIGH"): (3, 0, 1, 1, 1, 0),
        ("severity", "MEDIUM"): (2, 1, 0, 0, 0, 1),
    } == rows


def numbers(counts: pb.UserActionCounts) -> tuple[int, ...]:
    return (counts.shown, counts.blurred, counts.cancelled, counts.went_on, counts.no_answer, counts.open)


@pytest.mark.parametrize("days", [0, -1, 400])
async def test_a_period_that_is_none_is_refused(world: World, days: int) -> None:
    request = pb.ReportUserActionsRequest(start_time=stamp(START), end_time=stamp(START + timedelta(days=days)))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.stub.ReportUserActions(request, metadata=world.metadata())
    assert "PERIOD_MALFORMED" == unwrap(refused.value).reason


# --- overrides by two people ---


@dataclass
class TwoPeople:
    """Those who approve, as the approval service stands for them."""

    signer: FileSignature
    clock: ManualClock

    def grant(self, wanted: pb.ReleaseOverride, kind: str = "GATE_OVERRIDE") -> bytes:
        body = wanted.SerializeToString(deterministic=True)
        now = self.clock.now()
        made = Grant(
            uuid7(), kind, sha256(body).digest(), "a" * 16, ("b" * 16, "c" * 16), now, now + timedelta(hours=1)
        )
        return sign_grant(made, "gate", self.signer)


class FileSignature:
    """The key that signs grants, made in a folder."""

    key_id = GRANT_KEY

    def __init__(self, folder: Path) -> None:
        create_key_pair(folder / "private", folder / "public", GRANT_KEY, [ROLE_UNSPECIFIED])
        seed = (folder / "private" / f"{GRANT_KEY}.key").read_text(encoding="ascii").split()[1]
        self._key = SigningKey(bytes.fromhex(seed))

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content).signature


@pytest.fixture
async def undecided(database: str, tmp_path: Path) -> AsyncIterator[tuple[World, TwoPeople]]:
    """A gate whose stage 1 rests on the latency alone, and two people who may override it."""
    gates = load_gates()
    stage = Stage("1", ("CaseLatencyReport_v1",), (), ())
    async for made in _world(database, tmp_path, gates=replace(gates, stages={**gates.stages, "1": stage})):
        yield made, TwoPeople(FileSignature(tmp_path), made.clock)


def wanted_for(decision: pb.ReleaseDecision, **changes: str) -> pb.ReleaseOverride:
    values = {"decision_id": decision.decision_id, "release": decision.release, "stage": decision.stage}
    return pb.ReleaseOverride(**{**values, "reason": "FEW_EVENTS_YET", **changes})


async def override(world: World, wanted: pb.ReleaseOverride, grant: bytes, request_id: str = "") -> Any:
    request = pb.OverrideReleaseRequest(override=wanted, grant=grant, request_id=request_id or uuid7())
    return (await world.stub.OverrideRelease(request, metadata=world.metadata())).decision


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return unwrap(caught.value).reason


async def test_two_people_override_what_is_inconclusive_and_every_later_report_prints_it(
    undecided: tuple[World, TwoPeople],
) -> None:
    world, people = undecided
    await world.run("REGRESSION")
    before = await world.evaluate("1")
    assert (pb.OUTCOME_INCONCLUSIVE, False) == (before.outcome, before.may_ship)
    wanted = wanted_for(before)
    grant = people.grant(wanted)
    one = await override(world, wanted, grant, "o")
    assert one == await override(world, wanted, grant, "o")
    assert (pb.OUTCOME_INCONCLUSIVE, True) == (one.outcome, one.may_ship)
    assert ["b" * 16, "c" * 16] == list(one.override.approver_refs)
    later = await world.evaluate("1")
    assert (False, False) == (later.may_ship, later.HasField("override"))
    document = await world.document(later.reports[0])
    assert SCHEMA(document)
    assert [(before.decision_id, "FEW_EVENTS_YET")] == [(o["decision_id"], o["reason"]) for o in document["overrides"]]
    page = await world.stub.GetReport(
        pb.GetReportRequest(report_id=later.reports[0].report_id, format=pb.REPORT_FORMAT_HTML),
        metadata=world.metadata(),
    )
    assert "FEW_EVENTS_YET" in page.document.decode()
    assert [] == (await world.document(before.reports[0]))["overrides"]
    async with world.database.begin() as session:
        payloads = await session.scalars(select(OUTBOX.c.payload).where(OUTBOX.c.event == "recorded"))
        used = [r.approval_log for p in payloads if (r := LogRecord.FromString(p)).HasField("approval_log")]
    assert ["USED"] == [log.action for log in used]


async def test_a_grant_overrides_one_decision_once(undecided: tuple[World, TwoPeople]) -> None:
    world, people = undecided
    await world.run("REGRESSION")
    first = await world.evaluate("1")
    grant = people.grant(wanted_for(first))
    second = await world.evaluate("1")
    assert "GRANT_BODY_MISMATCH" == await reason_of(override(world, wanted_for(second), grant))
    assert "NOT_THE_LATEST" == await reason_of(override(world, wanted_for(first), grant))
    fresh = people.grant(wanted_for(second))
    await override(world, wanted_for(second), fresh)
    assert "OVERRIDDEN_BEFORE" == await reason_of(override(world, wanted_for(second), fresh))
    world.clock.advance(timedelta(hours=2))
    assert "GRANT_EXPIRED" == await reason_of(override(world, wanted_for(second), fresh))


async def test_what_failed_or_cannot_be_measured_is_never_overridden(undecided: tuple[World, TwoPeople]) -> None:
    world, people = undecided
    await world.run("REGRESSION", b"<testsuite><testcase><failure/></testcase></testsuite>")
    for stage in ("1", "ALL"):
        decision = await world.evaluate(stage)
        assert decision.outcome in (pb.OUTCOME_FAILED, pb.OUTCOME_ERROR)
        wanted = wanted_for(decision)
        assert "NOT_INCONCLUSIVE" == await reason_of(override(world, wanted, people.grant(wanted)))


async def test_an_override_without_a_right_grant_is_refused(undecided: tuple[World, TwoPeople]) -> None:
    world, people = undecided
    await world.run("REGRESSION")
    wanted = wanted_for(await world.evaluate("1"))
    assert "GRANT_KIND_MISMATCH" == await reason_of(override(world, wanted, people.grant(wanted, "THRESHOLD")))
    assert "GRANT_KEY_UNKNOWN" == await reason_of(override(world, wanted, b""))
    elsewhere = wanted_for(await world.evaluate("1"), release="2.0")
    assert "DECISION_DIFFERS" == await reason_of(override(world, elsewhere, people.grant(elsewhere)))
# --- LeakSignalSummaryReport ---


def leak(ref: str, moment: datetime, band: Any, source: Any, watched: int = 0, nobody: int = 0) -> LogRecord:
    log = MatchDecisionLog(signal_ref=ref.encode(), band=band, source_type=source, channel_group="overseas")
    for at in range(watched):
        log.pii_pattern_match_log.hits.add(kind=IDENTIFIER_KIND_MOBILE_PHONE, start=at, end=at + 1, watched=True)
    log.pii_pattern_match_log.hits.add(kind=IDENTIFIER_KIND_MOBILE_PHONE, start=99, end=100)
    if nobody:
        log.unowned_hits.add(kind=IDENTIFIER_KIND_MOBILE_PHONE, count=nobody)
    return LogRecord(record_id=uuid7(), decision_id=uuid7(), occur_time=stamp(moment), match_decision_log=log)


async def test_leak_signals_are_summed_up_from_the_records_of_the_period(world: World) -> None:
    day = timedelta(days=1)
    inside, end = START - day, START
    dark, web = SOURCE_TYPE_DARK_WEB, SOURCE_TYPE_WEB
    refused = SignalIntakeLog(reason="CHANNEL_BLOCKED", channel_group="overseas")
    accepted_before = SignalIntakeLog(accepted=True, duplicate=True, channel_group="overseas")
    await world.feed(
        "detector",
        [
            leak("two subscribers", inside, BAND_MATCH, dark, watched=2, nobody=3),
            leak("two subscribers", inside, BAND_REVIEW, dark, watched=1),
            leak("a face", inside, BAND_REVIEW, web),
            leak("nobody", inside, BAND_NONE, web, nobody=1),
            leak("next period", end, BAND_NONE, web, nobody=50),
            leak("long ago", inside - 9 * day, BAND_MATCH, web, watched=50),
            LogRecord(record_id=uuid7(), occur_time=stamp(inside), signal_intake_log=refused),
            LogRecord(record_id=uuid7(), occur_time=stamp(inside), signal_intake_log=accepted_before),
        ],
    )
    request = leak_signals_pb2.ReportLeakSignalsRequest(start_time=stamp(inside - day), end_time=stamp(end), page=True)
    report = await world.stub.ReportLeakSignals(request, metadata=world.metadata())
    assert (3, 2, 1, 1, 1, 1, 2, 4) == leak_numbers(report.total)
    assert {
        ("source_type", "WEB"): (2, 1, 0, 1, 1, 0, 0, 1),
        ("source_type", "DARK_WEB"): (1, 1, 1, 0, 0, 0, 2, 3),
        ("channel_group", "overseas"): (3, 2, 1, 1, 1, 1, 2, 4),
        ("kind", "MOBILE_PHONE"): (2, 2, 1, 0, 1, 0, 2, 4),
        ("refusal", "CHANNEL_BLOCKED"): (0, 0, 0, 0, 0, 1, 0, 0),
    } == {(row.dimension, row.name): leak_numbers(row) for row in report.rows}
    assert ["detector/0=8"] == list(report.cut_off)
    assert "공개된 다크웹" in report.page.decode()


def leak_numbers(counts: leak_signals_pb2.LeakSignalCounts) -> tuple[int, ...]:
    became = (counts.matched, counts.in_review, counts.dropped, counts.refused)
    return (counts.signals, counts.with_data, *became, counts.hits_of_subscribers, counts.hits_of_nobody)


async def test_a_leak_report_without_a_period_is_refused(world: World) -> None:
    request = leak_signals_pb2.ReportLeakSignalsRequest(start_time=stamp(START))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.stub.ReportLeakSignals(request, metadata=world.metadata())
    assert "PERIOD_MALFORMED" == unwrap(refused.value).reason
