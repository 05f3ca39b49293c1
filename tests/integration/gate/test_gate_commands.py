"""Does `jikimi gate` judge, explain, compare and save against a real gate, told by its environment alone?"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE, ROLE_RELEASE_MANAGER
from services.chassis.clock import ManualClock
from services.console.__main__ import _parser
from services.console.home import Home
from tests.integration.gate.loopback import Loopback, loopback

START = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)
JUNIT = "<testsuite><testcase/><testcase/></testsuite>"


@dataclass
class Desk:
    """A person or a job at the command line."""

    world: Loopback
    folder: Path
    read: pytest.CaptureFixture[str]

    async def type(self, *words: str) -> tuple[int, str]:
        """Runs a command; its exit status and what it printed."""
        options = _parser().parse_args(["gate", *words])
        self.read.readouterr()
        status: int = await options.run(Home(self.folder / "home"), options)
        return status, self.read.readouterr().out

    async def facts(self, *words: str) -> tuple[int, Any]:
        """The same with --json."""
        status, text = await self.type(*words, "--json")
        return status, json.loads(text)


@pytest.fixture
async def desk(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Desk]:
    """Somebody who knows the gate's address and holds a release manager's token, and nothing else."""
    async with loopback(database, tmp_path, ManualClock(START)) as world:
        token = tmp_path / "token"
        token.write_text(world.issuer.issue("job", ROLE_RELEASE_MANAGER, PURPOSE_RELEASE, "gate", 600))
        monkeypatch.setenv("JIKIMI_PEER_GATE", f"127.0.0.1:{world.port}")
        monkeypatch.setenv("JIKIMI_TOKEN_FILE", str(token))
        yield Desk(world, tmp_path, capsys)


async def test_a_judgement_is_saved_with_its_pages_its_signature_and_as_junit(desk: Desk) -> None:
    out, file = desk.folder / "out", desk.folder / "gate.xml"
    status, decision = await desk.facts("run", "1.0", "--stage", "3", "--out", str(out), "--junit", str(file))
    statuses = {"PASSED": 0, "FAILED": 1, "INCONCLUSIVE": 2, "ERROR": 3}
    assert statuses[decision["outcome"].removeprefix("OUTCOME_")] == status
    assert {"RemovalOpsKPIReport_v1.html", "RemovalOpsKPIReport_v1.json", "decision.json", "index.html"} <= {
        each.name for each in out.iterdir()
    }
    names = [case.get("name") for case in ElementTree.parse(file).getroot()]
    assert ["RemovalSuccessRateReport_v1", "PlatformTTRReport_v1", "RepostRecurrenceReport_v1"] == names[:3]
    assert "RemovalOpsKPIReport_v1" == names[3]


async def test_a_decision_is_explained_and_its_signature_checked(desk: Desk) -> None:
    await desk.type("run", "1.0", "--stage", "2")
    keys = str(desk.folder / "public")
    status, text = await desk.type("explain", "1.0", "--stage", "2", "--public-key", keys)
    assert 2 == status
    assert "may not ship" in text
    assert "signature: holds, with 2 reports (gate-decisions)" in text
    assert "docs/runbooks/gates.md#mend-the-resend-policy" in text
    assert "jikimi gate record 1.0 POLICY COMMIT FILE" in text
    (desk.folder / "public" / "gate-decisions.pub").write_text(f"{'0' * 64} ROLE_UNSPECIFIED")
    status, facts = await desk.facts("explain", "1.0", "--public-key", keys)
    assert (3, False) == (status, facts["signature"]["holds"])


async def test_two_releases_are_compared(desk: Desk) -> None:
    junit = desk.folder / "junit.xml"
    junit.write_text(JUNIT)
    for kind in ("POLICY", "ROLLBACK"):
        assert 0 == (await desk.type("record", "1.0", kind, "0123abc", str(junit)))[0]
    await desk.type("run", "1.0", "--stage", "2")
    await desk.type("run", "1.1", "--stage", "2")
    status, facts = await desk.facts("diff", "1.0", "1.1")
    changes = {(change["report"], change["what"]): (change["before"], change["after"]) for change in facts["changes"]}
    assert ("PASSED 2/0/0", "INCONCLUSIVE 0/0/0") == changes["SignalStageReport_v1", "tests POLICY"]
    assert 0 == status
    assert [] == (await desk.facts("diff", "1.0", "1.0"))[1]["changes"]


async def test_a_test_run_that_failed_or_was_empty_says_so(desk: Desk) -> None:
    junit = desk.folder / "junit.xml"
    junit.write_text("<testsuite><testcase><failure/></testcase></testsuite>")
    assert 1 == (await desk.type("record", "1.0", "SCENARIO", "0123abc", str(junit)))[0]
    junit.write_text("<testsuite/>")
    assert 2 == (await desk.type("record", "1.0", "SCENARIO", "0123abc", str(junit)))[0]


async def test_the_index_is_saved_with_the_last_report_of_every_gate(desk: Desk) -> None:
    await desk.type("run", "1.0", "--stage", "1")
    await desk.type("run", "1.0", "--stage", "2")
    _, facts = await desk.facts("open", "--out", str(desk.folder / "pages"))
    index = Path(facts["index"])
    pages = {each.stem for each in index.parent.glob("*.html")}
    assert {"index", "FaceMatchEvalReport_v1", "FaceStageReport_v1", "NotificationReliabilityReport_v1"} <= pages
    linked = {part.partition('"')[0] for part in index.read_text().split('href="')[1:]}
    assert linked == {f"{name}.html" for name in pages - {"index"}}


async def test_the_register_is_listed_and_changed(desk: Desk) -> None:
    assert 0 == (await desk.type("dependency", "list"))[0]
    _, [changed] = await desk.facts("dependency", "set", "secrets", "LOST", "KEY_LEAKED")
    assert ("LOST", "KEY_LEAKED", "security officer") == (changed["state"], changed["reason"], changed["owner"])
    assert 1 == (await desk.type("dependency", "list"))[0]


@pytest.mark.slow
async def test_a_gate_that_does_not_answer_is_an_error_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.b.c")
    # Port 1 of the loopback network: nobody listens there.
    environment = {**os.environ, "JIKIMI_PEER_GATE": "127.0.0.1:1", "JIKIMI_TOKEN_FILE": str(tmp_path / "token")}
    words = [sys.executable, "-m", "services.console", "gate", "run", "1.0"]
    program = await asyncio.create_subprocess_exec(*words, env=environment, stderr=asyncio.subprocess.PIPE)
    _, told = await program.communicate()
    assert (3, True) == (program.returncode, b"does not answer" in told)
