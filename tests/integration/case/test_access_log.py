"""Does the access log say who read what, before they have it, and to whom does it say so?"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
from sqlalchemy import select

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import case_service_pb2_grpc, privacy_service_pb2, privacy_service_pb2_grpc
from misuse.common.v1.access_pb2 import (
    DATA_CLASS_CASE,
    DATA_CLASS_EVIDENCE,
    PURPOSE_RIGHTS,
    ROLE_OPERATOR,
    ROLE_PRIVACY_OFFICER,
    ROLE_SUBSCRIBER,
)
from misuse.common.v1.reading_pb2 import PersonalDataRead
from services.chassis.bus import Event
from services.chassis.config import Config
from services.chassis.ids import uuid7
from services.chassis.outbox import OUTBOX
from services.chassis.reads import OutboxReadings, Reading
from services.chassis.server import build_server
from services.chassis.tokens import Actor
from tests.integration.case.world import Metadata, World, refused

METHOD = "misuse.case.v1.CaseService/"


@asynccontextmanager
async def noting(world: World, readings: Any = None) -> AsyncIterator[grpc.aio.Channel]:
    """The service behind a guard that notes readings, as it runs in production."""
    outbox = world.service.units.outbox
    config = Config(service="case", home=world.home, token_keys_dir=world.home / "public")
    noted = readings or OutboxReadings(world.database, outbox, world.clock)
    server, port = build_server(config, world.service.register, noted)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def told(world: World) -> list[PersonalDataRead]:
    """Readings that were published."""
    async with world.database.begin() as session:
        query = select(OUTBOX.c.payload).where(OUTBOX.c.event == "personal_data_read").order_by(OUTBOX.c.seq)
        return [PersonalDataRead.FromString(payload) for payload in await session.scalars(query)]


async def keep(world: World, *readings: PersonalDataRead) -> None:
    """Brings readings into the log."""
    handler = world.service.following.readings(world.service.access)[PersonalDataRead]
    events = [Event("case", 0, number, uuid7(), "", each) for number, each in enumerate(readings, 1)]
    async with world.database.begin() as session:
        await handler(session, events)


def officer(world: World) -> Metadata:
    return world.signed(ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS, "officer-1")


async def entries(world: World, metadata: Metadata, subscriber_id: str = "") -> list[Any]:
    stub: Any = privacy_service_pb2_grpc.PrivacyServiceStub(world.channel)
    request = privacy_service_pb2.ListAccessLogRequest(subscriber_id=subscriber_id)
    return list((await stub.ListAccessLog(request, metadata=metadata)).entries)


async def report(world: World, month: str, html: bool = False) -> bytes:
    stub: Any = privacy_service_pb2_grpc.PrivacyServiceStub(world.channel)
    request = privacy_service_pb2.ReportAccessRequest(
        month=month, format=privacy_service_pb2.ACCESS_REPORT_FORMAT_HTML if html else 0
    )
    return bytes((await stub.ReportAccess(request, metadata=officer(world))).document)


def reading(person: str, moment: datetime, actor: str = "op-1", method: str = "GetCase", reason: str = "") -> Any:
    made = PersonalDataRead(
        reading_id=uuid7(), method=METHOD + method, classes=[DATA_CLASS_CASE], actor_role=ROLE_OPERATOR, actor=actor,
        purpose=5, origin="PRIVATE", reason=reason,
    )
    made.of.add(field="subscriber_id", id=person)
    made.occur_time.FromDatetime(moment)
    return made


async def test_a_subscriber_sees_who_looked_and_staff_ids_are_for_the_reviewers(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person))
    await world.work()
    async with noting(world) as channel:
        stub: Any = case_service_pb2_grpc.CaseServiceStub(channel)
        [case] = (await stub.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
        await stub.GetCase(pb.GetCaseRequest(case_id=case.case_id), metadata=world.subscriber(person))
        pack = pb.GetEvidencePackRequest(case_id=case.case_id, reason="COURT_ORDER")
        chunks = [chunk async for chunk in stub.GetEvidencePack(pack, metadata=world.operator)]
        assert chunks
    listed, packed = await told(world)
    assert [("subscriber_id", person)] == [(thing.field, thing.id) for thing in listed.of]
    assert [("case_id", case.case_id)] == [(thing.field, thing.id) for thing in packed.of]
    assert ("", "COURT_ORDER") == (listed.reason, packed.reason)
    await keep(world, listed, packed)
    mine = await entries(world, world.signed(ROLE_SUBSCRIBER, PURPOSE_RIGHTS, person), person)
    assert [METHOD + "GetEvidencePack", METHOD + "ListCases"] == [entry.method for entry in mine]
    assert [[DATA_CLASS_EVIDENCE], [DATA_CLASS_CASE]] == [list(entry.classes) for entry in mine]
    assert {(ROLE_OPERATOR, "LOOPBACK", "")} == {(entry.role, entry.origin, entry.actor) for entry in mine}
    assert {16} == {len(entry.actor_ref) for entry in mine}
    assert {"staff-1"} == {entry.actor for entry in await entries(world, officer(world))}
    with refused("NOT_OWN_SUBJECT"):
        await entries(world, world.signed(ROLE_SUBSCRIBER, PURPOSE_RIGHTS, person), "")


async def test_an_answer_that_cannot_be_noted_is_not_given(world: World) -> None:
    class Broken:
        async def note(self, actor: Actor, reading: Reading) -> None:
            raise ConnectionResetError

    person = await world.person()
    await world.match(world.facts(person))
    await world.work()
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    async with noting(world, Broken()) as channel:
        stub: Any = case_service_pb2_grpc.CaseServiceStub(channel)
        with refused("STORE_UNAVAILABLE"):
            await stub.GetCase(pb.GetCaseRequest(case_id=case.case_id), metadata=world.operator)
        with refused("STORE_UNAVAILABLE"):
            pack = pb.GetEvidencePackRequest(case_id=case.case_id)
            async for _ in stub.GetEvidencePack(pack, metadata=world.operator):
                raise AssertionError("a chunk left before it was noted")
        assert await stub.GetCase(pb.GetCaseRequest(case_id=case.case_id), metadata=world.subscriber(person))


async def test_what_was_kept_long_enough_goes(world: World) -> None:
    person, now = await world.person(), world.clock.now()
    await keep(world, reading(person, now), reading(person, now + timedelta(days=10)))
    world.clock.advance(world.service.access.rules.keep + timedelta(days=1))
    await world.work()
    assert 1 == len(await entries(world, officer(world)))
    purged = [record.purge_log.item_kind for record in await world.records()]
    assert ["ACCESS_LOG"] == [kind for kind in purged if kind]


async def test_the_review_of_a_month_names_what_somebody_must_look_at(world: World) -> None:
    monday_noon, sunday = datetime(2026, 3, 2, 3, tzinfo=UTC), datetime(2026, 3, 1, 3, tzinfo=UTC)
    many = [reading(uuid7(), monday_noon, "greedy") for _ in range(60)]
    few = [reading(uuid7(), monday_noon, name) for name in ("one", "two")]
    late = [reading(uuid7(), sunday, "night")]
    taken = [reading(uuid7(), monday_noon, "two", "GetEvidencePack", why) for why in ("", "COURT_ORDER")]
    other_month = [reading(uuid7(), datetime(2026, 2, 27, 3, tzinfo=UTC), "before")]
    await keep(world, *many, *few, *late, *taken, *other_month)
    found = json.loads(await report(world, "2026-03"))
    assert (65, 4) == (found["readings"], found["readers"])
    assert [(60, "OPERATOR")] == [(row["people"], row["role"]) for row in found["unusual_volume"]]
    assert [1] == [row["readings"] for row in found["outside_working_hours"]]
    assert (2, 1) == (found["downloads_in_all"], found["downloads_without_reason"])
    assert ["", "COURT_ORDER"] == sorted(row["reason"] for row in found["downloads"])
    assert {("GetCase", 63), ("GetEvidencePack", 2)} == {
        (row["method"], row["readings"]) for row in found["by_role_and_purpose"]
    }
    page = (await report(world, "2026-03", html=True)).decode()
    assert "COURT_ORDER" in page and "개인정보 접근 기록 점검" in page
    for month in ("2026-13", "March", "2031-01", ""):
        with refused("MONTH_MALFORMED"):
            await report(world, month)


async def test_after_an_erasure_the_log_says_what_was_read_and_no_longer_of_whom(world: World) -> None:
    person = await world.person()
    await keep(world, reading(person, world.clock.now()))
    stub: Any = privacy_service_pb2_grpc.PrivacyServiceStub(world.channel)
    request = privacy_service_pb2.EraseSubscriberRequest(subscriber_id=person, request_id="e")
    await stub.EraseSubscriber(request, metadata=officer(world))
    await world.work()
    await keep(world, reading(person, world.clock.now()))
    assert 2 == len(await entries(world, officer(world)))
    assert [] == await entries(world, officer(world), person)
    rows = await world.sql("SELECT subscriber_id FROM access_entry")
    assert person not in str(rows)
