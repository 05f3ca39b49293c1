"""How is one load put on a running system, and what does it come to? Generates, waits until all is recorded, reads."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.machine import CORES
from tests.load import population
from tests.load.mix import SIGNALS, match_share
from tests.load.plan import PLAN, RESULTS, Person, Plan
from tests.load.raw import Raw, nearest_rank, read
from tests.load.watch import Databases, Watch, Watched
from tests.scenario.system import ROOT, System

LOCUST = ROOT / ".load" / "bin" / "locust"
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
WARM_SECONDS = 3.0
"""What Locust takes to start; the watching of what is short begins after it."""
DRAIN_SECONDS = 240.0
CALM_LOOKS = 3
"""Looks in a row that find nothing waiting, after which everything is recorded."""
WEB_PORT = 8089
_RECORDS = (
    "SELECT payload FROM log_record WHERE type IN ('match_decision_log', 'case_lifecycle_log', 'signal_intake_log')"
    " AND occur_time >= $1"
)
_SIGNAL_KINDS = frozenset(kind.value for kind in SIGNALS)

Say = Callable[[str], None]


class CannotLoad(Exception):
    """The load could not be made; the text says why."""


@dataclass(frozen=True)
class Arrival:
    """An arrival as the generator saw it; `took_s` from the moment it was due."""

    kind: str
    signal_id: str
    due: float
    took_s: float
    outcome: str


@dataclass
class Loaded:
    """What one load came to."""

    plan: Plan
    arrivals: Sequence[Arrival]
    raw: Raw
    watched: Watched
    """While the load was on."""
    used: Watched
    """From its start until everything was recorded."""
    drained_s: float
    """From the last arrival until everything was recorded; infinite where it never was."""
    dead_letters: int
    sightings: int
    """Decisions that `case` itself knows to have a case."""
    faults: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first arrival to the last."""
        due = [arrival.due for arrival in self.arrivals]
        return max(due) - min(due) if due else 0.0

    @property
    def rate(self) -> float:
        """Arrivals a second, as they came."""
        return len(self.arrivals) / self.seconds if self.seconds else 0.0

    @property
    def p95_ms(self) -> float:
        """Discovery to commit of case or sighting, nearest rank over the raw records; infinite without any."""
        latencies = self.raw.latencies_ms
        return nearest_rank(latencies, 95) if latencies else float("inf")

    @property
    def accepted(self) -> int:
        """Signals that the door took in for the first time."""
        return len({a.signal_id for a in self.arrivals if a.kind in _SIGNAL_KINDS and a.outcome == "OK"})

    def outcomes(self) -> dict[str, Counter[str]]:
        """Kind → outcome → how many."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for arrival in self.arrivals:
            found[arrival.kind][arrival.outcome] += 1
        return dict(found)

    def lost(self) -> list[str]:
        """What does not add up; empty where nothing was lost."""
        matched = [event for event in self.raw.events if event.transition != "DROPPED"]
        committed = [event for event in matched if event.committed is not None]
        said = [
            (self.accepted, len(self.raw.decided_signals), "signals accepted, signals decided"),
            (len(matched), len(committed), "MATCH decisions, cases and sightings in the records"),
            (len(matched), self.sightings, "MATCH decisions, sightings that `case` keeps"),
            (0, self.dead_letters, "dead letters"),
        ]
        wrong = [f"{what}: {expected} and {found}" for expected, found, what in said if expected != found]
        unsent = sum(a.outcome == "NOT_SENT" for a in self.arrivals)
        failed = sum(a.outcome.startswith("FAILED") for a in self.arrivals)
        wrong += [f"{unsent} arrivals were never sent: the generator was short"] if unsent else []
        wrong += [f"{failed} calls failed"] if failed else []
        return wrong + self.faults


@dataclass
class Stage:
    """A running system with people on it, on which loads are put one after another."""

    system: System
    people: Sequence[Person]
    pictures: Mapping[str, tuple[str, ...]]
    folder: Path
    say: Say
    ui: bool = False
    workers: int = 0

    @classmethod
    async def prepare(cls, system: System, people: int, folder: Path, say: Say, **how: int) -> Stage:
        """Enrols people and makes the pictures."""
        pictures = population.small_pictures(system.folder / "pictures")
        started = time.monotonic()
        enrolled = await population.populate(system, people, say)
        say(f"{people} people enrolled in {time.monotonic() - started:.0f} s")
        return cls(system, enrolled, pictures, folder, say, ui=bool(how.get("ui")), workers=how.get("workers", 0))

    def plan(self, mix: str, shape: str, rate: float, seconds: float) -> Plan:
        """A load on this system."""
        ports = self.system.home.ports()
        return Plan(
            run=secrets.token_hex(4),
            targets={service: f"127.0.0.1:{ports[service]}" for service in ("detector", "case", "notify")},
            tokens=population.tokens_of(self.system),
            people=tuple(self.people),
            texts=population.TEXTS,
            pictures=self.pictures,
            mix=mix,
            shape=shape,
            rate=rate,
            seconds=seconds,
            seed=int.from_bytes(secrets.token_bytes(4), "big"),
        )

    def plan_for(self, matches: int, mix: str, shape: str, rate: float) -> Plan:
        """A load that lasts until so many matches are through, with what chance may take away."""
        wanted = matches + 3 * matches**0.5 + 10
        return self.plan(mix, shape, rate, wanted / (match_share(mix) * rate))

    async def put(self, plan: Plan) -> Loaded:
        """Puts a load on the system and waits until everything of it is recorded. Raises CannotLoad."""
        since = datetime.now(UTC)
        results = self.folder / f"arrivals-{plan.run}"
        async with Databases(self.system.home) as databases:
            before = await databases.value("case", "SELECT count(*) FROM sighting")
            letters = await databases.dead_letters()
            async with Watch(self.system.home, self._programs(), looks=False) as whole:
                watched = await self._generate(plan, results)
                ended = time.monotonic()
                recorded = await self._recorded(databases)
            drained = time.monotonic() - ended if recorded else float("inf")
            rows = await databases.rows("gate", _RECORDS, since)
            sightings = await databases.value("case", "SELECT count(*) FROM sighting") - before
            letters = await databases.dead_letters() - letters
        arrivals = _arrivals_in(results)
        raw = read(bytes(row[0]) for row in rows)
        loaded = Loaded(plan, arrivals, raw, watched, whole.found, drained, letters, sightings)
        if not recorded:
            loaded.faults.append(f"not everything was recorded within {DRAIN_SECONDS:g} s")
        return loaded

    def _programs(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.system.status()["children"].items()}

    async def _generate(self, plan: Plan, results: Path) -> Watched:
        file = self.system.folder / "plan.json"
        plan.save(file)
        generators = self._start(file, results)
        try:
            await asyncio.sleep(WARM_SECONDS)
            programs = self._programs() | {name: process.pid for name, process in generators.items()}
            async with Watch(self.system.home, programs) as watch:
                await asyncio.sleep(max(1.0, plan.seconds - WARM_SECONDS))
            for name, process in generators.items():
                status = await asyncio.to_thread(process.wait, plan.seconds + 300)
                # 1: Locust's word for calls that failed; they are counted and judged here.
                if status not in (0, 1):
                    raise CannotLoad(f"{name} ended with {status}; see {self.folder / f'{name}.log'}")
        finally:
            for process in generators.values():
                if process.poll() is None:
                    process.kill()
            file.unlink()
        return replace(watch.found)

    def _start(self, plan: Path, results: Path) -> dict[str, subprocess.Popen[bytes]]:
        if not LOCUST.exists():
            raise CannotLoad("Locust is not installed: `make load` does that.")
        command = [str(LOCUST), "-f", str(LOCUSTFILE), "--loglevel", "WARNING"]
        view = (
            ["--web-host", "127.0.0.1", "--web-port", str(WEB_PORT), "--autostart", "--autoquit", "3"]
            if self.ui
            else ["--headless", "--only-summary"]
        )
        if self.ui:
            self.say(f"Locust shows the load on http://127.0.0.1:{WEB_PORT}")
        if not self.workers:
            return {"generator": self._spawn("generator", [*command, *view], plan, results)}
        master = ["--master", "--master-bind-host", "127.0.0.1", "--expect-workers", str(self.workers)]
        started = {"generator": self._spawn("generator", [*command, *view, *master], plan, results)}
        for number in range(1, self.workers + 1):
            name = f"generator-{number}"
            started[name] = self._spawn(name, [*command, "--worker", "--master-host", "127.0.0.1"], plan, results)
        return started

    def _spawn(self, name: str, command: Sequence[str], plan: Path, results: Path) -> subprocess.Popen[bytes]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("JIKIMI_")}
        environment = kept | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'protos' / 'gen'}",
            PLAN: str(plan),
            RESULTS: str(results),
        }
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def _recorded(self, databases: Databases) -> bool:
        """Waits until nothing is on its way to the gate any more; False where that never is."""
        calm, deadline = 0, time.monotonic() + DRAIN_SECONDS
        while calm < CALM_LOOKS:
            calm = calm + 1 if await databases.recorded() else 0
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.5)
        return True


def _arrivals_in(folder: Path) -> list[Arrival]:
    found = []
    for file in sorted(folder.glob("arrivals-*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            found += [Arrival(*json.loads(line)) for line in lines]
    return found


def cost_per_million(loaded: Loaded) -> dict[str, float]:
    """What a million arrivals of this mix use up: core-hours of the system (the generator is not part of it),
    gigabytes of databases, of write-ahead log, of the broker's store."""
    share = 1e6 / max(1, len(loaded.arrivals))
    used = loaded.used
    return {
        "core_hours": round(used.own_seconds * share / 3600, 3),
        "database_gb": round(used.disk_bytes * share / 1e9, 3),
        "wal_gb": round(used.wal_bytes * share / 1e9, 3),
        "broker_gb": round(used.broker_bytes * share / 1e9, 3),
    }


def milliseconds_each(loaded: Loaded) -> dict[str, float]:
    """Processor milliseconds of each program per arrival, from the start until everything was recorded."""
    used, count = loaded.used, max(1, len(loaded.arrivals))
    return {
        name: round(1000 * cores * used.seconds / count, 2)
        for name, cores in used.cores.items()
        if name not in ("client", "others")
    }


def machine_facts() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": CORES,
        "load_before": round(os.getloadavg()[0], 2),
        "python": sys.version.split()[0],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
