"""Does a system that was destroyed come back whole from a backup that was taken while it worked?

    python -m tests.operate.restore --cases 10000 [--json FILE]

Writes matches into a running system, saves it in the middle of them, erases somebody afterwards, destroys everything,
brings it back, and holds every log and every event against the publishers' books. Prints figures; exit status 1 where
one is not what it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.chassis.keys import FileKeyStore
from services.console import commands
from services.console.client import connections
from services.console.embedded import Postgres
from tests.bench import load
from tests.operate.bookkeeping import read_books
from tests.scenario.system import System, running_system

MATCHES_EACH = 40
HOLDERS = ("case", "notify")
"""Services that have a key of a subscriber who is told of cases."""


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    cases_before: int
    """When the backup began."""
    cases: int
    """After the restore."""
    log_entries: int
    log_faults: int
    lost: dict[str, int]
    doubled: int
    invented: int
    cursors_ahead: int
    dead_letters: int
    erased_is_back: bool
    """Whether somebody erased after the backup has a key again."""
    erased_again: bool
    """Whether the erasure runs again."""
    row_bytes: dict[str, int]
    """service.table → bytes a row, indexes included, of tables that grow with cases."""
    backup_bytes: int
    write_seconds: float
    backup_seconds: float
    restore_seconds: float
    """Up to and with the check."""

    @property
    def faults(self) -> list[str]:
        """Names of what is not as it must be."""
        zero = ("log_faults", "lost", "doubled", "invented", "cursors_ahead", "dead_letters", "erased_is_back")
        return [name for name in zero if getattr(self, name)] + ([] if self.erased_again else ["erased_again"])


def rehearse(system: System, matches: int) -> Figures:
    """The whole play on a fresh system."""
    backup, keys = system.folder / "saved", system.folder / "elsewhere"
    recovery = system.folder / "recovery.key"
    system.jikimi("backup", "key", str(recovery))
    people = asyncio.run(_register(system, max(2, matches // MATCHES_EACH)))
    began = time.monotonic()
    asyncio.run(load.matches(system, people, matches - matches // 4, reposts=0.2))
    written = time.monotonic() - began
    before, made, backup_seconds = asyncio.run(_save_in_mid_flow(system, people, matches // 4, backup, keys))
    # What happens after the backup is lost with the machine, except that an erasure stays one.
    erased = people[0]
    system.jikimi("rights", "erase", erased)
    _await_erasure(system, erased)
    system.jikimi("backup", "tombstones", str(keys))
    destroy(system)
    began = time.monotonic()
    words = ("backup", "restore", str(backup), "--keys", str(keys), "--recovery-key", str(recovery))
    said = json.loads(system.run("services.console", *words, "--json", check=False).stdout.splitlines()[-1])
    restore_seconds = time.monotonic() - began
    books = read_books(system)
    return Figures(
        cases_before=before,
        cases=books.cases,
        log_entries=said["log_entries"],
        log_faults=said["log_faults"],
        lost=books.lost,
        doubled=books.doubled,
        invented=books.invented,
        cursors_ahead=said["cursors_ahead"],
        dead_letters=said["dead_letters"],
        erased_is_back=any(_store(system, service).get(erased) is not None for service in HOLDERS),
        erased_again=system.sql("case", "SELECT count(*) FROM erasure;").strip() == "1",
        row_bytes=_row_bytes(system),
        backup_bytes=made["data_bytes"],
        write_seconds=round(written, 1),
        backup_seconds=round(backup_seconds, 1),
        restore_seconds=round(restore_seconds, 1),
    )


GROWING = {
    "detector": ("outbox",),
    "case": ("case", "sighting", "incident_key", "log_entry", "log_chain", "evidence_pack", "outbox"),
    "notify": ("notification", "inbox_item", "outbox"),
    "removal": ("removal_request", "outbox"),
    "gate": ("log_record", "log_head"),
}


def _row_bytes(system: System) -> dict[str, int]:
    found = {}
    for service, tables in GROWING.items():
        for table in tables:
            query = f"SELECT pg_total_relation_size('\"{table}\"'), (SELECT count(*) FROM \"{table}\");"
            size, rows = (int(value) for value in system.sql(service, query).strip().split("|"))
            if rows:
                found[f"{service}.{table}"] = size // rows
    return found


def destroy(system: System) -> None:
    """Nothing of the home is left: no data, no keys, no broker's store, no ports."""
    system.close()
    system.channels.clear()
    Postgres(system.home).destroy()
    shutil.rmtree(system.home.path)


async def _register(system: System, count: int) -> list[str]:
    async with connections(system.home) as services:
        return [await commands.register(services, f"Bench {number}", "", "ko") for number in range(count)]


async def _save_in_mid_flow(
    system: System, people: Sequence[str], matches: int, backup: Path, keys: Path
) -> tuple[int, dict[str, Any], float]:
    flow = asyncio.create_task(load.matches(system, people, matches, reposts=0.2))
    before = int(await asyncio.to_thread(system.sql, "case", 'SELECT count(*) FROM "case";'))
    began = time.monotonic()
    made = await asyncio.to_thread(system.jikimi, "backup", "create", str(backup), "--keys", str(keys))
    seconds = time.monotonic() - began
    await flow
    return before, made, seconds


def _await_erasure(system: System, subscriber_id: str) -> None:
    deadline = time.monotonic() + 1800  # behind whatever waits on the bus
    while not all(_store(system, service).destroyed(subscriber_id) for service in HOLDERS):
        if time.monotonic() > deadline:
            raise AssertionError("nobody was erased")
        time.sleep(0.2)


def _store(system: System, service: str) -> FileKeyStore:
    return FileKeyStore(system.home.keys(service), system.home.path / "keys" / f"{service}.master")


def main(words: Sequence[str]) -> int:
    """Plays once."""
    parser = argparse.ArgumentParser(prog="python -m tests.operate.restore", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--json", default="", help="file for the figures")
    options = parser.parse_args(words)
    with running_system() as system:
        # By the rules more than half of such matches join a case that is open already.
        figures = rehearse(system, options.cases * 5 // 2)
    text = json.dumps(asdict(figures), indent=1)
    print(text)
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(text, encoding="utf-8")
    print(f"Not as it must be: {', '.join(figures.faults)}" if figures.faults else "Everything came back once.")
    return 1 if figures.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
