"""Does any way to a person, any log line, event or record say a name, address, platform, kind or number?"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from misuse.common.v1.signal_pb2 import CASE_KIND_FACE
from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.removal.v1 import events_pb2 as removal_events
from misuse.removal.v1 import removal_service_pb2
from services.chassis.ids import uuid7
from services.chassis.outbox import OUTBOX
from services.chassis.telemetry import JsonLine
from services.notify.adapters.rules import load_delivery_rules
from services.notify.adapters.ways import Ways as Config
from tests.integration.notify.test_ways import name_contact, prefer, until, woken
from tests.integration.notify.world import World, opened, serving, within
from tests.security.canaries import Canary, Search
from tests.simulators.ways import Ways

NUMBER, MAIL, TOKEN, DEVICE = "+821055501234", "canary.person@example.com", "canary-token-9f2c", "canary-phone-77"
PLATFORM, GROUP = "canary-platform", "CANARY-GROUP"
CANARIES = [
    Canary("number", NUMBER),
    Canary("mail", MAIL),
    Canary("token", TOKEN),
    Canary("device", DEVICE),
    Canary("platform", PLATFORM),
    Canary("channel group", GROUP),
    Canary("kind, Korean", "얼굴 사진"),
    Canary("kind, English", "face photo"),
]
ROWS = text(
    "SELECT n::text FROM notification n UNION ALL SELECT f::text FROM fall_back f UNION ALL SELECT d::text FROM due d"
)


@pytest.fixture
def ways() -> Iterator[Ways]:
    """All ways, simulated."""
    with Ways() as simulated:
        yield simulated


async def told_by_every_way(world: World, ways: Ways, language: str, *, discreet: bool) -> list[tuple[str, bytes]]:
    """(place, bytes) of everything that strangers may see of two notices."""
    person = await world.person(language=language)
    await woken(world, person, TOKEN, device_id=DEVICE)
    await prefer(world, person, language=language, discreet=discreet)
    await name_contact(world, person, pb.NOTICE_PATH_SMS, NUMBER)
    await name_contact(world, person, pb.NOTICE_PATH_EMAIL, MAIL)
    case_id = uuid7()
    event = opened(person, case_id)
    event.kind, event.channel_group = CASE_KIND_FACE, GROUP
    facts = removal_events.RemovalFacts(
        removal_request_id=uuid7(), subscriber_id=person, case_ids=[case_id], platform=PLATFORM,
        episode=1, attempt=1, state=removal_service_pb2.REMOVAL_STATE_REMOVED,
    )
    await world.feed(event, removal_events.RemovalCompleted(facts=facts))
    world.clock.advance(timedelta(seconds=2))
    await until(ways.pushed)
    ways.status["/sms"] = 400  # one notice goes by mail, the other by text message
    world.clock.advance(timedelta(minutes=6))
    await until(ways.mails)
    del ways.status["/sms"]
    await name_contact(world, person, pb.NOTICE_PATH_SMS, "+821055509999")
    await until(ways.texts)
    seen = [("push", each.payload) for each in ways.pushed]
    seen += [("text message", str((each["from"], each["text"])).encode()) for each in ways.texts]
    for mail in ways.mails:
        body = mail.get_body(("plain",))
        del mail["To"]
        assert body is not None
        seen += [("mail", bytes(mail)), ("mail", str(mail["Subject"]).encode()), ("mail", body.get_content().encode())]
    async with world.stream(person, DEVICE) as stream:
        shown = (await within(20, anext(stream))).notification
    inbox = await world.inbox(person)
    assert PLATFORM in str(inbox) and GROUP in str(inbox)
    return [*seen, ("stream", f"{shown.title} {shown.body}".encode())]


@pytest.mark.parametrize(("language", "discreet"), [("ko", False), ("en", True)])
async def test_no_way_and_no_line_names_what_it_is_about(
    database: str, tmp_path: Path, ways: Ways, caplog: pytest.LogCaptureFixture, language: str, discreet: bool
) -> None:
    caplog.set_level(logging.DEBUG, "services")
    search = Search(CANARIES)
    rules = replace(load_delivery_rules(None, "test"), message_tries=1)
    config = Config(push_hook=ways.push_hook, sms_gateway=ways.sms_gateway, relay=ways.relay)
    async with serving(database, tmp_path, rules, config) as world:
        seen = await told_by_every_way(world, ways, language, discreet=discreet)
        async with world.database.begin() as session:
            outbox = [bytes(row) for row in await session.scalars(select(OUTBOX.c.payload))]
            stored = [row[0].encode() for row in await session.execute(ROWS)]
    logged = [JsonLine("notify").format(record).encode() for record in caplog.records]
    assert {"push", "text message", "mail", "stream"} == {place for place, _ in seen}
    kept = [("outbox", each) for each in outbox] + [("row", each) for each in stored]
    for place, data in (*seen, *kept, *(("log", each) for each in logged)):
        assert set() == search.names_in(data), place


def test_the_search_finds_each_of_them() -> None:
    """The control."""
    search = Search(CANARIES)
    for canary in CANARIES:
        assert {canary.name} <= search.names_in(str(canary.value).encode())
