"""Does the command line tell the story of a case, hold its log against the gate's heads, and export it checkable?

Two real services over loopback, called by the console's own client: another implementation of the contract.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from misuse.case.v1.events_pb2 import LogHeadAdvanced
from services.case.evidence_verify import verify
from services.chassis.bus import Event
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import pepper
from services.chassis.outbox import Outbox
from services.chassis.server import build_server
from services.console import case_commands, commands
from services.console.__main__ import _parser
from services.console.client import connections
from services.console.home import Home
from services.gate.__main__ import Gate, wire
from services.gate.adapters.rules import load_gates
from services.gate.adapters.tables import metadata
from tests.integration.case.test_case_log import kept_heads, one_case, rewrite
from tests.integration.case.test_export import leaked
from tests.integration.case.world import START, World
from tests.integration.databases import connected, empty


@dataclass(frozen=True)
class TwoServices(Home):
    """A home in which `case` and `gate` alone listen."""

    listening: tuple[tuple[str, int], ...] = ()

    def addresses(self, service: str) -> list[str]:
        return [f"127.0.0.1:{dict(self.listening)[service]}"]


@dataclass
class Console:
    """What a person has before them."""

    home: Home
    world: World
    gate: Gate
    gate_database: Database

    async def heard(self) -> None:
        """The gate hears of every head that was published."""
        heads = [
            LogHeadAdvanced(chain_id=head.chain_id, sequence=head.sequence, head_hash=head.head_hash)
            for head in await kept_heads(self.world)
        ]
        events = [Event("case", 0, number, uuid7(), "", head) for number, head in enumerate(heads, 1)]
        async with self.gate_database.begin() as session:
            await self.gate.intake.handlers_of("case")[LogHeadAdvanced](session, events)

    async def __call__(self, *words: str) -> int:
        """Runs one command."""
        options: argparse.Namespace = _parser().parse_args(words)
        run: commands.Command = options.run
        return await run(self.home, options)


@pytest.fixture
async def console(
    world: World, migrated_url: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[Console]:
    url = migrated_url("gate")
    config = Config(
        service="gate", home=tmp_path, database_url=url, keys_dir=tmp_path / "gate-keys", profile="test",
        token_keys_dir=tmp_path / "public", service_key_file=tmp_path / "private" / "gate.key",
    )  # fmt: skip
    database, clock = connected(url), ManualClock(START)
    await empty(database, metadata().sorted_tables)
    gate = wire(config, database, Outbox("gate", 4, pepper(config.keys_dir, "outbox")), clock, load_gates(), "1")
    server, port = build_server(config, gate.register)
    await server.start()
    tokens = tmp_path / "tokens"
    shutil.copytree(tmp_path / "private", tokens / "private")
    shutil.copytree(tmp_path / "public", tokens / "public")
    shutil.copy(tokens / "private" / "test.key", tokens / "private" / "issuer.key")
    home = TwoServices(tmp_path, (("case", world.port), ("gate", port)))
    yield Console(home, world, gate, database)
    await server.stop(None)
    await database.close()


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


async def test_a_log_that_nobody_else_speaks_for_is_said_to_be_so(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    case_id, _ = await one_case(console.world)
    assert case_commands.SPEAKS_FOR_NOTHING == await console("case", "verify", case_id)
    assert "speak for 0 entries.\nThe 4 later ones hold among themselves only." in capsys.readouterr().out
    await console.heard()
    assert 0 == await console("case", "verify", case_id, "--json")
    assert {"valid": True, "entries": 4, "witnessed_entries": 4}.items() <= said(capsys).items()


@pytest.mark.slow
async def test_every_chain_is_held_against_the_gate_and_a_rewritten_one_is_named(
    console: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    case_id, _ = await one_case(console.world)
    await console.heard()
    assert 0 == await console("case", "verify")
    assert "The log holds: 3 chains" in capsys.readouterr().out
    async with connections(console.home) as services:
        whole, in_pages = await case_commands.check_all(services), await case_commands.check_all(services, 1)
    assert whole == in_pages
    assert whole.entries == whole.witnessed
    await rewrite(console.world, case_id, 4)
    assert 1 == await console("case", "verify")
    assert f"first wrong: {case_id} #" in capsys.readouterr().out


@pytest.mark.slow
async def test_a_case_is_told_as_a_story_and_as_a_page(
    console: Console, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    case_id, _ = await one_case(console.world)
    await console.heard()
    page = tmp_path / "story.html"
    assert 0 == await console("case", "replay", case_id)
    shown = capsys.readouterr().out
    for words in ("The case was opened", "Evidence was packed", "Action was started", "The log holds"):
        assert words in shown
    assert 0 == await console("case", "replay", case_id, "--html", str(page))
    text = page.read_text()
    for words in ("사건이 열렸습니다", "The case was opened", "default-src 'none'", "4 / 4", "기록이 온전합니다"):
        assert words in text
    capsys.readouterr()
    assert 0 == await console("case", "replay", case_id, "--json")
    entries = said(capsys)["entries"]
    assert isinstance(entries, list)
    assert 4 == len(entries)


@pytest.mark.slow
async def test_an_export_is_checked_without_any_server(
    console: Console, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    case_id, _ = await one_case(console.world)
    await console.heard()
    file = tmp_path / "case.zip"
    assert 0 == await console("case", "export", case_id, "-o", str(file), "--reason", "court file 12", "--json")
    assert file.stat().st_size == said(capsys)["bytes"]
    found = verify(file, tmp_path / "public")
    assert found.log is not None
    assert ((), 4, 4) == (found.faults, found.log.entries, found.log.witnessed)


async def test_guidance_is_shown_and_answered(console: Console, capsys: pytest.CaptureFixture[str]) -> None:
    _, case = await leaked(console.world)
    assert 0 == await console("case", "guidance", case.case_id, "--json")
    shown: Sequence[dict[str, str]] = json.loads(capsys.readouterr().out)
    assert "kisa-118" in [path["pathId"] for path in shown]
    assert 0 == await console("case", "guidance", case.case_id, "kisa-118", "not-helped", "--json")
    [answered] = json.loads(capsys.readouterr().out)
    assert "NOT_HELPED" == answered["outcome"]
