"""Is somebody gone after an erasure in which every service was killed once: data, keys, index, and what comes late?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from services.chassis.clock import write_offset
from services.chassis.keys import FileKeyStore
from services.console import commands, upload_commands
from services.console.client import connections
from services.console.home import SERVICES
from services.console.provider import TestProvider
from tests.scenario.doors import Door, signal
from tests.scenario.otlp_sink import OtlpSink, otlp_sink
from tests.scenario.system import ROOT, System, eventually, running_system
from tests.security.canaries import Canary, Finding, Search, search_system

PICTURES = ROOT / ".cache" / "pictures"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PICTURES.exists(), reason="the pictures are not there; `make setup` fetches them"),
]

NAME, PHONE, MAIL = "카나리 윤가람", "010-0000-8264", "canary.heron8264@example.com"
HANDLE, PATH = "heron_handle_8264", "heron-path-8264/very/private"
HOLDERS = ("detector", "case", "removal", "notify")
"""Services that have a key of the subscriber's."""
SETTLED = timedelta(minutes=11)
"""A little longer than the rules let pass between two rounds."""
PATIENCE = 240.0
"""Five services start anew at the same time: on a busy machine that takes minutes."""


@dataclass(frozen=True)
class Erased:
    """A system in which somebody was erased."""

    system: System
    sink: OtlpSink
    door: Door
    subscriber_id: str
    case_id: str
    keys: dict[str, bytes]
    """Service → the data key that it had."""

    def search(self, canaries: list[Canary]) -> set[Finding]:
        """Everything that a canary is found in."""
        return asyncio.run(search_system(self.system.home, Search(canaries), self.sink.raw())).findings


def _store(system: System, service: str) -> FileKeyStore:
    return FileKeyStore(system.home.keys(service), system.home.path / "keys" / f"{service}.master")


async def _enrol(system: System) -> str:
    async with connections(system.home) as services:
        provider = TestProvider(system.home)
        subscriber_id = await commands.register(services, NAME, MAIL, "ko")
        await commands.add_device(services, subscriber_id, "console")
        await commands.mandate(services, subscriber_id, "mandate")
        await commands.watch(services, provider, subscriber_id, commands.KINDS["mobile"], PHONE)
        await commands.watch(services, provider, subscriber_id, commands.KINDS["email"], MAIL)
        await commands.enrol(services, provider, subscriber_id, [(PICTURES / "obama.jpg").read_bytes()])
        await upload_commands.link(services, subscriber_id, "meta", HANDLE)
    return subscriber_id


def _leak(door: Door, signal_id: str) -> None:
    text = f"{NAME} 씨 전화 {PHONE}, 메일 {MAIL}"
    made = signal(signal_id, text=text, source_url=f"https://community.example/{PATH}/{signal_id}")
    assert "SPOOLED" == door.submit(made)
    assert eventually(lambda: door.status(signal_id).state != 1, PATIENCE)


def _at_rest(system: System, subscriber_id: str) -> bool:
    """A case is packed, its request is filed, and the subscriber was told."""
    filed = system.sql("removal", "SELECT count(*) FROM removal_request WHERE state = 'RECEIVED';").strip()
    told = system.sql("notify", f"SELECT count(*) FROM inbox_item WHERE subscriber_id = '{subscriber_id}';").strip()
    packed = system.sql("case", "SELECT count(*) FROM evidence_pack;").strip()
    return all(int(count) > 0 for count in (filed, told, packed))


@pytest.fixture(scope="module")
def erased() -> Iterator[Erased]:
    """Somebody with a case, a request, notices, a face, a linked account, erased while each service died once."""
    with otlp_sink() as sink, running_system(otlp_endpoint=f"127.0.0.1:{sink.port}") as system:
        door = Door(system)
        subscriber_id = asyncio.run(_enrol(system))
        _leak(door, "before")
        assert eventually(lambda: _at_rest(system, subscriber_id), PATIENCE)
        [case] = system.jikimi("case", "list", "--subscriber", subscriber_id)
        keys = {service: _store(system, service).get(subscriber_id) for service in HOLDERS}
        assert all(keys.values())
        system.jikimi("rights", "erase", subscriber_id)
        for service in SERVICES:
            system.kill(service)
        _complete(system)
        found = {service: key for service, key in keys.items() if key is not None}
        yield Erased(system, sink, door, subscriber_id, str(case["caseId"]), found)


def _complete(system: System) -> None:
    """Until everybody has answered both rounds; the time between the two passes at once."""
    waiting = "SELECT count(*) FROM erasure WHERE round = 1;"
    assert eventually(lambda: system.sql("case", waiting).strip() == "0", PATIENCE)
    write_offset(system.home.path / "clock", SETTLED)
    done = "SELECT count(*) FROM erasure WHERE complete_time IS NOT NULL;"
    assert eventually(lambda: system.sql("case", done).strip() == "1", PATIENCE)


def test_no_plaintext_and_no_key_is_left_anywhere(erased: Erased) -> None:
    canaries = [Canary(name, value) for name, value in [("name", NAME), ("phone", PHONE), ("mail", MAIL)]]
    canaries += [Canary("handle", HANDLE), Canary("path", PATH)]
    canaries += [Canary(f"key of {service}", key) for service, key in erased.keys.items()]
    assert set() == erased.search(canaries)
    for service in HOLDERS:
        store = _store(erased.system, service)
        assert (True, None) == (store.destroyed(erased.subscriber_id), store.get(erased.subscriber_id))


def test_no_table_names_the_person_but_what_waits_to_be_forgotten_as_published(erased: Erased) -> None:
    tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' ORDER BY 1;"
    naming = {}
    for service in SERVICES:
        for table in erased.system.sql(service, tables).split():
            query = f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%{erased.subscriber_id}%';"
            naming[f"{service}.{table}"] = int(erased.system.sql(service, query).strip())
    assert len(naming) > 50
    assert {} == {name: count for name, count in naming.items() if count and not name.endswith(".outbox")}
    assert "0" == erased.system.sql("detector", "SELECT count(*) FROM face_template WHERE vectors IS NOT NULL;").strip()


def test_the_log_holds_and_every_answer_is_in(erased: Erased) -> None:
    assert erased.system.jikimi("case", "verify")["valid"]
    entries = erased.system.jikimi("case", "replay", erased.case_id)["entries"]
    transitions = {entry.get("record", {}).get("caseLifecycleLog", {}).get("transition") for entry in entries}
    assert "PURGED" in transitions
    assert "OPENED" not in transitions
    [erasure] = erased.system.jikimi("rights", "erasures")
    assert erasure["completeTime"]
    assert [] == erased.system.jikimi("dlq", "list")


def test_the_same_leak_later_brings_nobody_back_and_a_new_registration_is_a_stranger(erased: Erased) -> None:
    system, cases = erased.system, "SELECT count(*) FROM \"case\";"
    # Proofs that are made now are not old.
    write_offset(system.home.path / "clock", timedelta(0))
    before = system.sql("case", cases)
    _leak(erased.door, "after")
    assert before == system.sql("case", cases)
    again = asyncio.run(_enrol(system))
    assert again != erased.subscriber_id
    _leak(erased.door, "again")
    assert eventually(lambda: [1] == [int(c["sightingCount"]) for c in _cases(system, again)], PATIENCE)
    assert [] == _cases(system, erased.subscriber_id)
    assert [] == system.jikimi("dlq", "list")


def _cases(system: System, subscriber_id: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = system.jikimi("case", "list", "--subscriber", subscriber_id)
    return found
