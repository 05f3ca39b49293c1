"""What does the demo count when something dies in its middle? One run on a fresh home, with faults or without.

    python -m tests.chaos.run                  a run without faults
    python -m tests.chaos.run kill:case stream:DETECTOR

Prints the figures as JSON. The faults happen one after another, spread over the feeding of the signals.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
from rich.console import Console

from services.console.demo.__main__ import Demo
from services.console.demo.corpus import Corpus, shipped
from services.console.embedded import Nats
from tests.scenario.system import ROOT, System, running_system

COMPARED = (
    "cases_opened",
    "cases_by_kind",
    "merged",
    "false_cases",
    "missed",
    "notifications_acked",
    "evidence_packs_verified",
    "removal_requests",
)
"""Figures that no fault may change."""
PICTURES = ROOT / ".cache" / "pictures"


@dataclass(frozen=True)
class Fault:
    """`kill:<program>` (kill -9) or `stream:<NAME>` (its deletion)."""

    kind: str
    target: str

    @classmethod
    def read(cls, text: str) -> Fault:
        """Raises ValueError for what is no fault."""
        kind, _, target = text.partition(":")
        if kind not in {"kill", "stream"} or not target:
            raise ValueError(f"{text} is no fault")
        return cls(kind, target)

    async def happen(self, system: System) -> None:
        """Makes it happen now."""
        if self.kind == "kill":
            await asyncio.to_thread(system.kill, self.target)
            return
        connection = await nats.connect(Nats(system.home).url("ops"))
        await connection.jetstream().delete_stream(self.target)
        await connection.close()


@dataclass(frozen=True)
class Played:
    """What a run came to."""

    summary: dict[str, Any]
    words: str
    """What the demo said."""

    @property
    def figures(self) -> dict[str, Any]:
        """What is compared between runs."""
        return {name: self.summary[name] for name in COMPARED}


def play(faults: Sequence[Fault], log: Path | None = None) -> Played:
    """Plays the shipped corpus on a fresh home; every fault happens once while signals are fed."""
    with running_system() as system:
        log = log or system.folder / "demo.log"
        with log.open("w", encoding="utf-8") as out:
            demo = Demo(system.home, system.folder / "demo", "chaos", Console(file=out, width=160))
            summary = asyncio.run(_played(demo, shipped(PICTURES, "chaos"), system, faults))
        summary["restarts"] = {name: child["restarts"] for name, child in system.status()["children"].items()}
        return Played(summary, log.read_text(encoding="utf-8"))


async def _played(demo: Demo, corpus: Corpus, system: System, faults: Sequence[Fault]) -> dict[str, Any]:
    signals = sum(not item.refusal and not item.duplicate for item in corpus.items)
    trouble = asyncio.create_task(_make_trouble(system, faults, signals))
    try:
        summary = await demo.play(corpus)
        if not trouble.done():
            raise AssertionError("the demo was over before all faults had happened")
        trouble.result()
        return summary
    finally:
        trouble.cancel()


async def _make_trouble(system: System, faults: Sequence[Fault], signals: int) -> None:
    """The faults at equal distances over the signals taken in."""
    for number, fault in enumerate(faults, start=1):
        await _taken_in(system, signals * number // (len(faults) + 1))
        await fault.happen(system)
        print(f"{time.strftime('%H:%M:%S')} {fault.kind} {fault.target}", file=sys.stderr)


async def _taken_in(system: System, count: int) -> None:
    while True:
        try:
            if int(await asyncio.to_thread(system.sql, "detector", "SELECT count(*) FROM signal_memory;")) >= count:
                return
        except Exception as error:  # the database may be the one that was killed
            print(f"cannot count: {type(error).__name__}", file=sys.stderr)
        await asyncio.sleep(0.25)


def main(words: Sequence[str]) -> int:
    """Runs once; 0 whatever the figures are."""
    played = play([Fault.read(word) for word in words])
    print(played.words, file=sys.stderr)
    print(json.dumps(played.summary, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
