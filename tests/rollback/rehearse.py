"""Can a loaded system go to this release, write, go back, and forth again, without losing anything?

    python -m tests.rollback.rehearse [--matches 200] [--record RELEASE] [--out var/rollback]

The release before is the newest tag; where there is none, the newest ancestor whose revisions differ. It runs from a
worktree of its own. The play: it serves and is loaded; this release takes over its home and writes; every revision that
it does not know is taken back and it serves again; this release takes over once more. After every step the books are
read, and the gate judges before the step back and after the step forth. The result is a JUnit file, as `RecordTestRun`
takes it for kind ROLLBACK, and a record of which commits were rehearsed. Exit status 1 where a step failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from services.console import commands, gate_commands
from services.console.client import connections
from services.console.embedded import Postgres
from services.console.home import SERVICES, Home
from services.gate.adapters.rules import load_gates
from tests.bench import load
from tests.operate.bookkeeping import Books, read_books
from tests.rollback.releases import Release, lay_out, record, remove, run, today
from tests.scenario.system import ROOT, System
from tests.simulators.platform import PlatformSimulator

JUDGED = "CaseLatencyReport_v1"
RELEASE = "rehearsal"
"""As which the gate judges what runs here."""


@dataclass
class Rehearsal:
    """The play on one home."""

    before: Release
    today: Release
    system: System
    matches: int
    cases: list[tuple[str, float, str]] = field(default_factory=list)
    """(step, seconds, what was wrong)."""

    def run(self) -> bool:
        """Every step up to the first that fails."""
        books: list[Books] = []
        verdicts: list[tuple[str, int]] = []
        people: list[str] = []
        steps: list[tuple[str, Callable[[], str]]] = [
            ("release before serves", lambda: self._up(self.before)),
            ("release before takes load", lambda: self._load(people, books)),
            ("this release takes over", lambda: self._down(self.before) or self._up(self.today)),
            ("nothing is lost by the upgrade", lambda: self._kept(books)),
            ("this release takes load", lambda: self._load(people, books)),
            ("gate judges before the step back", lambda: self._judge(verdicts)),
            ("code and schema go back", lambda: self._down(self.today) or self._back() or self._up(self.before)),
            ("nothing is lost by the rollback", lambda: self._kept(books)),
            ("release before writes again", self._write_again),
            ("this release takes over again", lambda: self._down(self.before) or self._up(self.today)),
            ("nothing is lost by the second upgrade", lambda: self._kept(books)),
            ("gate recomputes what it said", lambda: self._judge_again(verdicts)),
            *((f"failure action: {' '.join(words)}", partial(self._act, words)) for words in failure_actions()),
        ]
        for name, step in steps:
            began = time.monotonic()
            try:
                wrong = step()
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"[:2000]
            self.cases.append((name, time.monotonic() - began, wrong))
            print(f"{'FAILED' if wrong else 'passed'}  {name}  {wrong[:300]}", flush=True)
            if wrong:
                return False
        return True

    def _run(self, release: Release, *words: str) -> str:
        return run(release, self.system.environment, *words)

    def _up(self, release: Release) -> str:
        return self._run(release, "services.console.supervisor", "up")

    def _down(self, release: Release) -> str:
        return self._run(release, "services.console.supervisor", "down")

    def _back(self) -> str:
        wanted, today = self.before.revisions(), self.today.revisions()
        for service in SERVICES:
            if wanted[service] != today[service]:
                wrong = self._run(self.today, "services.console", "schema", "back", service, wanted[service])
                if wrong:
                    return wrong
        return ""

    def _load(self, people: list[str], books: list[Books]) -> str:
        if not people:
            people += asyncio.run(self._register())
        asyncio.run(load.matches(self.system, people, self.matches, reposts=0.2))
        found = read_books(self.system)
        books.append(found)
        return f"lost {found.lost}, doubled {found.doubled}" if found.lost or found.doubled else ""

    async def _register(self) -> list[str]:
        async with connections(self.system.home) as services:
            return [await commands.register(services, f"Rehearsal {number}", "", "ko") for number in range(10)]

    def _kept(self, books: Sequence[Books]) -> str:
        """What the release before this step knew is known now."""
        then, now = books[-1], read_books(self.system)
        gone = len(then.published.keys() - now.kept.keys())
        short = [name for name in ("cases", "sightings", "matches") if getattr(now, name) < getattr(then, name)]
        bad = {"records": gone, "lost": now.lost, "doubled": now.doubled, "fewer": short}
        return "" if not any(bad.values()) else str(bad)

    def _write_again(self) -> str:
        asyncio.run(self._register())
        return ""

    def _judge(self, verdicts: list[tuple[str, int]]) -> str:
        verdicts.append(self._verdict())
        return ""

    def _judge_again(self, verdicts: Sequence[tuple[str, int]]) -> str:
        """The same rows give the same value."""
        again = self._verdict()
        return "" if again == verdicts[-1] else f"{verdicts[-1]} became {again}"

    def _act(self, words: Sequence[str]) -> str:
        """A verdict is an answer too, whatever its exit status: what counts is that something was said."""
        command = [sys.executable, "-m", "services.console", *words, "--json"]
        environment = self.today.environment(dict(self.system.environment))
        done = subprocess.run(
            command, cwd=self.today.root, env=environment, check=False, stdin=subprocess.DEVNULL, capture_output=True
        )
        try:
            json.loads(done.stdout)
        except ValueError:
            return (done.stderr + done.stdout)[-1500:].decode(errors="replace")
        return ""

    def _verdict(self) -> tuple[str, int]:
        asyncio.run(self._evaluate())
        query = f"SELECT value_text, sample_size FROM report WHERE name = '{JUDGED}' ORDER BY report_id DESC LIMIT 1;"
        value, size = self.system.sql("gate", query).strip().rsplit("|", 1)
        return value, int(size)

    async def _evaluate(self) -> None:
        async with connections(self.system.home) as services:
            await gate_commands.judge(services, RELEASE, "ALL")


def failure_actions() -> list[list[str]]:
    """What the gates name as commands of `jikimi` that a rehearsal may run on a failure, each once."""
    gates = load_gates()
    found = [action for kpi in gates.kpis.values() for action in kpi.on_failure if action.rehearsed]
    filled = [tuple(word.format(release=RELEASE) for word in action.command) for action in found]
    return [list(words) for words in dict.fromkeys(filled)]


def junit(cases: Sequence[tuple[str, float, str]]) -> bytes:
    """The steps as a JUnit document."""
    failures = sum(bool(wrong) for _, _, wrong in cases)
    suite = ElementTree.Element("testsuite", name="rollback", tests=str(len(cases)), failures=str(failures))
    for name, seconds, wrong in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="rollback", name=name, time=f"{seconds:.1f}")
        if wrong:
            ElementTree.SubElement(case, "failure", message=wrong[:500])
    document: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document


def rehearse(matches: int) -> tuple[Rehearsal, bool]:
    """Plays on a fresh home and leaves nothing but the result."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-rollback-"))
    folder.chmod(0o711)
    before = lay_out(ROOT / "var" / "rehearsal" / "before")
    this = today()
    try:
        with PlatformSimulator(folder / "platforms") as simulator:
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("JIKIMI_")}
            system = System(
                folder, {**inherited, "JIKIMI_HOME": str(folder / "home"), "JIKIMI_PROFILE": "test"}, simulator
            )
            played = Rehearsal(before, this, system, matches)
            try:
                return played, played.run()
            finally:
                played._down(this)
    finally:
        Postgres(Home(folder / "home")).destroy()
        shutil.rmtree(folder, ignore_errors=True)
        remove(before)


def main(words: Sequence[str]) -> int:
    """Plays once."""
    parser = argparse.ArgumentParser(prog="python -m tests.rollback.rehearse", description=__doc__)
    parser.add_argument("--matches", type=int, default=200, help="before the upgrade, and again after it")
    parser.add_argument("--out", default="var/rollback")
    parser.add_argument("--record", default="", metavar="RELEASE", help="tell the gate of the system of JIKIMI_HOME")
    options = parser.parse_args(words)
    played, good = rehearse(options.matches)
    document = junit(played.cases)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "junit.xml").write_bytes(document)
    written: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "before": {"what": played.before.name, "commit": played.before.commit},
        "today": {"commit": played.today.commit, "revisions": played.today.revisions()},
        "passed": good,
        "steps": [{"name": name, "seconds": round(took, 1), "wrong": wrong} for name, took, wrong in played.cases],
    }
    (out / "rehearsal.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    print(f"{'Rehearsed' if good else 'Not passed'}: {out / 'junit.xml'}, {out / 'rehearsal.json'}")
    if options.record:
        asyncio.run(record("ROLLBACK", options.record, played.today.commit, document))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
