"""Does a stage say what it rests on, may a decision be checked without the gate, and is no decision missed?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import fastjsonschema
import grpc.aio
import pytest
import rfc8785
from nacl.signing import VerifyKey

from misuse.gate.v1 import dependencies_pb2 as dependencies
from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.log.v1.record_pb2 import LogRecord, RemovalRequestLog
from services.chassis.broker import Broker
from services.chassis.clock import ManualClock
from services.chassis.ids import uuid7
from services.chassis.outbox import Relay
from services.chassis.rpc import unwrap
from services.chassis.tasks import end
from services.gate.adapters.rules import SHIPPED
from tests.integration.gate.loopback import Loopback, loopback

START = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
SCHEMA = fastjsonschema.compile(json.loads((SHIPPED.parent / "schemas" / "stage_report_v1.json").read_text()))


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[Loopback]:
    """The gate on an empty database."""
    async with loopback(database, tmp_path, ManualClock(START)) as made:
        yield made


async def get(world: Loopback, report_id: str, form: Any = pb.REPORT_FORMAT_JSON) -> bytes:
    request = pb.GetReportRequest(report_id=report_id, format=form)
    answer = await world.stub.GetReport(request, metadata=world.metadata())
    document: bytes = answer.document
    return document


async def stage_document(world: Loopback, decision: pb.ReleaseDecision) -> dict[str, Any]:
    """The report of the decision's own stage."""
    loaded: dict[str, Any] = json.loads(await get(world, decision.stage_reports[-1].report_id))
    assert SCHEMA(loaded)
    return loaded


async def set_dependency(
    world: Loopback, dependency_id: str, state: str, reason: str = "OUTAGE", request_id: str = ""
) -> dependencies.Dependency:
    request = dependencies.SetDependencyRequest(
        dependency_id=dependency_id, state=state, reason=reason, request_id=request_id or uuid7()
    )
    answer = await world.stub.SetDependency(request, metadata=world.metadata())
    dependency: dependencies.Dependency = answer.dependency
    return dependency


async def reason_of(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return unwrap(caught.value).reason


async def test_the_report_of_removals_composes_three_figures_and_the_worst_wins(world: Loopback) -> None:
    await world.feed("removal", [LogRecord(record_id=uuid7(), removal_request_log=RemovalRequestLog(to_state="DRAFT"))])
    decision = await world.evaluate("3")
    assert ["RemovalOpsKPIReport_v1"] == [report.name for report in decision.stage_reports]
    document = await stage_document(world, decision)
    assert ["RemovalSuccessRateReport_v1", "PlatformTTRReport_v1", "RepostRecurrenceReport_v1"] == [
        figure["name"] for figure in document["reports"]
    ]
    assert [report.report_id for report in decision.reports] == [figure["report_id"] for figure in document["reports"]]
    assert (pb.Outcome.Name(decision.outcome)[8:], list(decision.reasons)) == (document["outcome"], document["reasons"])
    assert {"SCENARIO": "INCONCLUSIVE", "ROLLBACK": "INCONCLUSIVE"} == {
        test["kind"]: test["outcome"] for test in document["tests"]
    }
    assert {"RemovalRequestLog": 1, "PlatformTTRReport": 0, "RepostRecurrenceReport": 0} == {
        artefact["name"]: artefact["count"] for artefact in document["artefacts"]
    }
    page = await get(world, decision.stage_reports[-1].report_id, pb.REPORT_FORMAT_HTML)
    assert "RemovalSuccessRateReport_v1.html" in page.decode()


async def test_the_whole_release_reports_every_stage_from_the_same_figures(world: Loopback) -> None:
    decision = await world.evaluate("ALL")
    names = ["FaceStageReport_v1", "SignalStageReport_v1", "RemovalOpsKPIReport_v1", "ReleaseReport_v1"]
    assert names == [report.name for report in decision.stage_reports]
    whole = await stage_document(world, decision)
    assert ["1", "2", "3"] == [stage["stage"] for stage in whole["stages"]]
    removal = json.loads(await get(world, decision.stage_reports[2].report_id))
    of_all = {report.name: report.report_id for report in decision.reports}
    assert {of_all[figure["name"]] for figure in removal["reports"]} == {f["report_id"] for f in removal["reports"]}


async def test_a_report_shows_its_trend(world: Loopback) -> None:
    first = await world.evaluate("2")
    world.clock.advance(timedelta(days=1))
    await world.evaluate("2")
    third = await world.evaluate("2")
    report = json.loads(await get(world, third.reports[0].report_id))
    assert [first.reports[0].report_id] == [past["report_id"] for past in report["trend"]][:1]
    assert 2 == len(report["trend"]) == len((await stage_document(world, third))["trend"])


async def test_a_decision_is_signed_over_its_reports(world: Loopback, tmp_path: Path) -> None:
    decision = await world.evaluate("3")
    signed = json.loads(decision.document)
    key, role = (tmp_path / "public" / "gate-decisions.pub").read_text().split()
    VerifyKey(bytes.fromhex(key)).verify(rfc8785.dumps(signed["statement"]), bytes.fromhex(signed["signature"]))
    assert ("ROLE_UNSPECIFIED", "jikimi-decision/1") == (role, signed["statement"]["format"])
    statement = signed["statement"]
    assert (decision.decision_id, list(decision.reasons)) == (statement["decision_id"], statement["reasons"])
    for entry in statement["reports"]:
        document = json.loads(await get(world, entry["report_id"]))
        assert sha256(rfc8785.dumps(document)).hexdigest() == entry["sha256"]
    again = pb.GetReleaseDecisionRequest(release="1.0", stage="3")
    answer = await world.stub.GetReleaseDecision(again, metadata=world.metadata())
    assert decision == answer.decision


async def test_the_latest_decision_of_a_stage_is_found(world: Loopback) -> None:
    third = await world.evaluate("3")
    await world.evaluate("2")
    request = pb.GetReleaseDecisionRequest(release="1.0", stage="3")
    found = (await world.stub.GetReleaseDecision(request, metadata=world.metadata())).decision
    assert third.decision_id == found.decision_id


async def test_a_lost_dependency_leaves_its_stages_without_a_claim(world: Loopback) -> None:
    changed = await set_dependency(world, "removal-channels", "LOST", "FORM_WITHDRAWN")
    assert ("PARTNER", "LOST", "partner manager") == (changed.kind, changed.state, changed.owner)
    decision = await world.evaluate("3")
    assert "removal-channels: INCONCLUSIVE DEPENDENCY_LOST FORM_WITHDRAWN" in decision.reasons
    document = await stage_document(world, decision)
    [lost] = [each for each in document["dependencies"] if each["state"] != "HOLDS"]
    assert ("removal-channels", "LOST", "2026-03-09T12:00:00+00:00") == (lost["id"], lost["state"], lost["since"])
    assert "PlatformTTRReport_v1" in lost["reports"]
    assert not any("removal-channels" in reason for reason in (await world.evaluate("1")).reasons)


async def test_a_degraded_dependency_is_said_and_takes_nothing_away(world: Loopback) -> None:
    await set_dependency(world, "push-providers", "DEGRADED", "FCM_OUTAGE")
    assert "push-providers: PASSED DEPENDENCY_DEGRADED FCM_OUTAGE" in (await world.evaluate("2")).reasons
    await set_dependency(world, "push-providers", "HOLDS", "FCM_BACK")
    assert not any("push-providers" in reason for reason in (await world.evaluate("2")).reasons)


async def test_a_change_of_a_dependency_is_one_record_however_often_it_is_asked_for(world: Loopback) -> None:
    for _ in range(2):
        await set_dependency(world, "secrets", "DEGRADED", "KEY_ROTATION", request_id="once")
    await set_dependency(world, "secrets", "HOLDS", "KEY_ROTATED")
    await world.log_own_records()
    records = await world.raw("dependency_log")
    moves = [(r.dependency_log.from_state, r.dependency_log.to_state, r.entity_version) for r in records]
    assert [("HOLDS", "DEGRADED", 1), ("DEGRADED", "HOLDS", 2)] == moves
    assert ["PurgeAuditReport_v1"] == list(records[0].dependency_log.degraded_reports)


async def test_dependencies_are_listed_in_pages_and_unknown_ones_refused(world: Loopback) -> None:
    found: list[str] = []
    token = ""
    while not found or token:
        request = dependencies.ListDependenciesRequest(page_size=4, page_token=token)
        answer = await world.stub.ListDependencies(request, metadata=world.metadata())
        found += [each.dependency_id for each in answer.dependencies]
        token = answer.next_page_token
    assert found == sorted(found)
    assert {"platform-templates", "secrets", "face-labels", "search-apis"} <= set(found)
    assert "NO_SUCH_DEPENDENCY" == await reason_of(set_dependency(world, "the-moon", "LOST"))
    assert "STATE_UNKNOWN" == await reason_of(set_dependency(world, "secrets", "FINE"))
    assert "REASON_MALFORMED" == await reason_of(set_dependency(world, "secrets", "LOST", "because"))


async def test_the_index_page_shows_every_gate_with_its_last_outcome(world: Loopback) -> None:
    await world.evaluate("2")
    answer = await world.stub.ListGates(pb.ListGatesRequest(page=True), metadata=world.metadata())
    page = answer.page.decode()
    assert all(gate.report_name in page for gate in answer.gates)
    assert 'href="NotificationReliabilityReport_v1.html"' in page
    assert 'href="CaseLatencyReport_v1.html"' not in page


# --- those who watch ---


@pytest.fixture
async def relayed(world: Loopback, nats_url: str) -> AsyncIterator[Loopback]:
    """The gate with its relay at work, which gives committed rows their positions."""
    broker = Broker(nats_url, "gate")
    await broker.connect()
    relay = asyncio.ensure_future(Relay(world.database, broker, "gate", 4).run())
    yield world
    await end(relay)
    await broker.close()


@asynccontextmanager
async def watching(world: Loopback, token: str = "", release: str = "") -> AsyncIterator[Any]:
    """An open stream, with its first answer taken: the token alone."""
    request = pb.WatchReleasesRequest(resume_token=token, release=release)
    call: Any = world.stub.WatchReleases(request, metadata=world.metadata())
    first = await call.read()
    assert ("", False) == (first.event, first.HasField("decision"))
    try:
        yield call
    finally:
        call.cancel()


async def seen(call: Any, count: int) -> list[pb.WatchReleasesResponse]:
    """The next decisions, tokens alone left out."""
    found: list[pb.WatchReleasesResponse] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            answer = await call.read()
            if answer.event:
                found.append(answer)
    return found


async def test_a_watcher_sees_each_decision_and_goes_on_where_he_left(relayed: Loopback) -> None:
    async with watching(relayed) as call:
        first = await relayed.evaluate("2")
        [told] = await seen(call, 1)
    assert ("EVALUATED", first) == (told.event, told.decision)
    missed = [(await relayed.evaluate(stage)).decision_id for stage in ("3", "1")]
    async with watching(relayed, told.resume_token) as call:
        assert missed == [answer.decision.decision_id for answer in await seen(call, 2)]


async def test_a_token_of_another_system_is_refused(relayed: Loopback) -> None:
    call: Any = relayed.stub.WatchReleases(pb.WatchReleasesRequest(resume_token="AQAA"), metadata=relayed.metadata())
    assert "BAD_RESUME_TOKEN" == await reason_of(call.read())
