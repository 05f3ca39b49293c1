"""How fast is it on this machine? `make bench`: pictures, texts and matches a second through one whole system.

    python -m tests.bench [--json FILE] [--runs N] [--only pictures|texts|matches|faces|gallery|cases|dedup|notify]
        [--devices N] [--notices N] [--profile FOLDER]

Every figure comes with its sample, its runs, and with who used the processors meanwhile. Targets: a picture through
the system costs at most 1/0.7 of a picture through the bare models; 1,000 matches a second become sightings.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.console import commands
from services.console.client import connections
from services.console.demo.corpus import shipped
from services.console.provider import TestProvider
from tests.bench import cases, dedup, faces, gallery, load, notices
from tests.bench.bare import Bare, decoded
from tests.bench.machine import CORES, Meter
from tests.scenario.system import ROOT, System, running_system

PICTURES = ROOT / ".cache" / "pictures"
MODELS = Path(os.environ.get("JIKIMI_MODELS_DIR") or ROOT / ".cache" / "models")
PICTURE_TIMES = 6
TEXTS = 6_000
MATCHES, REPOSTS, SUBSCRIBERS = 5_000, 0.8, 80
ENROLLED = ("obama", "biden")
MAIL = "bench.person@example.com"
REST_SECONDS = 10.0
QUIET_CORES, QUIET_SECONDS = 0.5, 120.0


@dataclass
class Figure:
    """One result: the median of its runs."""

    name: str
    unit: str
    sample: str
    values: list[float] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    target: float | None = None
    at_most: bool = False
    """Whether the target is an upper bound."""

    @property
    def value(self) -> float:
        """The median run."""
        return round(statistics.median(self.values), 3)

    @property
    def verdict(self) -> str:
        """Whether the target is met; empty without one."""
        if self.target is None:
            return ""
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return f"{'meets' if met else 'MISSES'} {self.target:g}"


@dataclass(frozen=True)
class Measured:
    """One run."""

    rate: float
    """A second of wall time."""
    count: int
    meter: Meter

    @property
    def per_second(self) -> float:
        """A second of processor time that the system, or the bare models, used."""
        return self.count / self.meter.own_seconds


@dataclass
class Bench:
    """One benchmark of one running system."""

    system: System
    runs: int
    say: Console
    figures: list[Figure] = field(default_factory=list)

    async def rest(self) -> None:
        """What the system costs while nothing happens."""
        figure = self._figure("processor use at rest", " cores", f"{REST_SECONDS:g} s without a call")
        for _ in range(self.runs):
            await self._quiet()
            with Meter(self._programs()) as meter:
                await asyncio.sleep(REST_SECONDS)
            self._note(figure, meter.own_seconds / meter.wall_s, meter)

    async def pictures(self) -> None:
        """The system beside the bare models, turn by turn, so that both meet the same neighbours."""
        files = load.pictures_of(shipped(PICTURES, "bench"), PICTURE_TIMES)
        portraits = [(PICTURES / f"{name}.jpg").read_bytes() for name in ENROLLED]
        bare = await asyncio.to_thread(Bare.open, MODELS, portraits)
        read = {data: decoded(data) for data in set(files)}
        pixels = [read[data] for data in files]
        await asyncio.to_thread(bare.models_only, pixels[:32])
        count = len(files)
        sample = f"{count} pictures of the demo, one in fifty shows somebody enrolled"
        models = self._figure("pictures, bare models", "/s", sample)
        reading = self._figure("pictures, bare pipeline", "/s", sample)
        through = self._figure("pictures through the system", "/s", sample)
        ratio = self._figure("through the system ÷ bare models", "", sample, target=0.7)
        whole_way = self._figure("through the system ÷ bare pipeline", "", sample, target=0.8)
        effort = self._figure("the same by processor seconds", "", sample)
        for _ in range(self.runs):
            await self._quiet()
            first = await self._bare(models, count, lambda: bare.models_only(pixels))
            before = await self._bare(reading, count, lambda: bare.pipeline(files))
            signals = load.picture_signals(files)
            whole = await self._run(through, count, load.submit(self.system, signals))
            await self._quiet()
            second = await self._bare(models, count, lambda: bare.models_only(pixels))
            after = await self._bare(reading, count, lambda: bare.pipeline(files))
            self._note(ratio, whole.rate / statistics.mean((first.rate, second.rate)), whole.meter)
            self._note(whole_way, whole.rate / statistics.mean((before.rate, after.rate)), whole.meter)
            self._note(effort, whole.per_second / statistics.mean((before.per_second, after.per_second)), whole.meter)

    async def texts(self) -> None:
        """Texts, a fiftieth of them about the person enrolled."""
        figure = self._figure("texts through the system", "/s", f"{TEXTS} posts, 2 % matches")
        for _ in range(self.runs):
            await self._quiet()
            await self._run(figure, TEXTS, load.submit(self.system, load.text_signals(TEXTS, MAIL)))

    async def matches(self) -> None:
        """Matches to sightings in `case`: its consumer alone, from the broker on; then in the whole system, from the
        detector's outbox on, with notices, records and evidence at work."""
        sample = f"{MATCHES} matches with records, {REPOSTS:.0%} reposts, {SUBSCRIBERS} subscribers"
        alone = self._figure("match → case, the others stand still", "/s", sample, target=1000)
        logged = self._figure("match → case log, three records each", "/s", sample)
        among = self._figure("match → case, the whole system at work", "/s", sample)
        people = await self._subscribers()
        for _ in range(self.runs):
            await self._quiet()
            try:
                go = await load.waiting_matches(self.system, people, MATCHES, REPOSTS)
                entries = await load.log_length(self.system)
                first = await self._run(alone, MATCHES, go())
                # A match leaves its decision, its sighting and, mostly, its merge.
                with Meter(self._programs()) as meter:
                    await load.logged(self.system, entries + round((2 + REPOSTS) * MATCHES))
                self._note(logged, MATCHES / (MATCHES / first.rate + meter.wall_s), meter)
            finally:
                load.go_on(self.system)
            await self._quiet()
            await self._run(among, MATCHES, load.matches(self.system, people, MATCHES, REPOSTS))

    async def _bare(self, figure: Figure, count: int, work: Callable[[], float]) -> Measured:
        with Meter({}) as meter:
            rate = await asyncio.to_thread(work)
        self._note(figure, rate, meter)
        return Measured(rate, count, meter)

    async def _run(self, figure: Figure, count: int, work: Awaitable[object]) -> Measured:
        with Meter(self._programs()) as meter:
            await work
        self._note(figure, count / meter.wall_s, meter)
        return Measured(count / meter.wall_s, count, meter)

    def _note(self, figure: Figure, value: float, meter: Meter) -> None:
        figure.values.append(value)
        figure.limits.append(meter.limit())
        figure.loads.append(round(os.getloadavg()[0], 1))
        self.say.print(f"  {figure.name}: {value:.3g}{figure.unit}  ({meter.limit()})")

    def _figure(self, name: str, unit: str, sample: str, target: float | None = None) -> Figure:
        self.figures.append(Figure(name, unit, sample, target=target))
        return self.figures[-1]

    def _programs(self) -> dict[str, int]:
        return {name: child["pid"] for name, child in self.system.status()["children"].items()}

    async def _quiet(self) -> None:
        """Waits until the system has worked off what the last run left: evidence, notices, records."""
        deadline = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < deadline:
            with Meter(self._programs()) as meter:
                await asyncio.sleep(1.0)
            if sum(meter.cores[name] for name in meter.programs) < QUIET_CORES:
                return
        self.say.print("  the system did not come to rest; what follows shares the processors with its work")

    async def enrol(self) -> None:
        """Two faces and one address."""
        async with connections(self.system.home) as services:
            provider = TestProvider(self.system.home)
            for name in ENROLLED:
                person = await commands.register(services, name, "", "en")
                await commands.enrol(services, provider, person, [(PICTURES / f"{name}.jpg").read_bytes()])
            person = await commands.register(services, "Bench Person", MAIL, "en")
            await commands.watch(services, provider, person, commands.KINDS["email"], MAIL)

    async def _subscribers(self) -> list[str]:
        async with connections(self.system.home) as services:
            some = [commands.register(services, f"Bench {n}", "", "ko") for n in range(SUBSCRIBERS)]
            return list(await asyncio.gather(*some))


def show(say: Console, figures: Sequence[Figure]) -> None:
    """The table at the end."""
    table = Table("what", "median", "runs", "target", "sample", "limit of the median run", title_justify="left")
    for figure in figures:
        middle = sorted(range(len(figure.values)), key=figure.values.__getitem__)[(len(figure.values) - 1) // 2]
        runs = " ".join(f"{value:.3g}" for value in figure.values)
        table.add_row(
            figure.name,
            f"{figure.value:.3g}{figure.unit}",
            runs,
            figure.verdict,
            figure.sample,
            f"{figure.limits[middle]}; load {figure.loads[middle]}",
        )
    say.print(table)


async def measure(system: System, runs: int, only: str, say: Console) -> list[Figure]:
    """All parts, or one."""
    bench = Bench(system, runs, say)
    await bench.enrol()
    await bench.rest()
    for name, part in (("pictures", bench.pictures), ("texts", bench.texts), ("matches", bench.matches)):
        if only in ("", name):
            say.print(f"[bold]{name}[/]")
            await part()
    return bench.figures


def of_faces(runs: int, say: Console) -> list[Figure]:
    """The bare way of one face on one core."""
    found = []
    for result in faces.measure(MODELS, PICTURES, runs, say.print):
        figure = Figure(result.name, result.unit, result.sample, list(result.values), target=result.target)
        figure.limits = ["processors: one core, its own seconds"] * len(result.values)
        figure.loads = [round(os.getloadavg()[0], 1)] * len(result.values)
        found.append(figure)
    return found


def of_gallery(runs: int, say: Console) -> list[Figure]:
    """The index of templates, with a PostgreSQL of its own for the rebuild."""
    return _figures(runs, say, gallery.measure)


def of_cases(runs: int, say: Console) -> list[Figure]:
    """Lists, search and counts of many cases, with a PostgreSQL of its own."""
    return _figures(runs, say, cases.measure)


def _figures(runs: int, say: Console, measure: Callable[[int, gallery.Say], Sequence[gallery.Result]]) -> list[Figure]:
    found = []
    with Meter({}) as meter:
        results = measure(runs, say.print)
    for each in results:
        figure = Figure(each.name, each.unit, each.sample, each.values, target=each.target, at_most=each.at_most)
        figure.limits = [meter.limit()] * len(each.values)
        figure.loads = [round(os.getloadavg()[0], 1)] * len(each.values)
        found.append(figure)
    return found


def of_notices(runs: int, say: Console, *, devices: int, number: int, profile: Path | None) -> list[Figure]:
    """Notices to a swarm of devices, with servers of its own."""
    sample = f"{number} notices to {devices} devices, 10 % away, 2 % invalid tokens, 5 % of pushes fail"
    rate = Figure("notices acknowledged by live devices", "", sample, target=0.999)
    wrong = Figure("notices told twice or out of order", "", sample, target=0, at_most=True)
    speed = Figure("notices delivered and acknowledged", "/s", sample, target=1500)
    effort = Figure("the same by processor seconds of service, database, broker", "/s", sample)
    growth = Figure("memory of notify at the end ÷ half way", "", sample, target=1.1, at_most=True)
    for _ in range(runs):
        found = notices.measure(devices, number, say.print, profile=profile)
        values = (
            (rate, found.rate),
            (wrong, float(found.told_twice + found.out_of_order)),
            (speed, found.per_second),
            (effort, found.per_own_second),
            (growth, found.rss_mib[2] / found.rss_mib[1]),
        )
        for figure, value in values:
            figure.values.append(value)
            figure.limits.append(found.meter.limit())
            figure.loads.append(round(os.getloadavg()[0], 1))
    return [figure for figure, _ in values]


def of_dedup(runs: int, say: Console) -> list[Figure]:
    """A new content against a subscriber's earlier ones."""
    found = []
    for each in dedup.measure(runs, say.print):
        figure = Figure(each.name, each.unit, each.sample, each.values, target=each.target, at_most=each.at_most)
        figure.limits = ["processors: its own seconds"] * len(each.values)
        figure.loads = [round(os.getloadavg()[0], 1)] * len(each.values)
        found.append(figure)
    return found


WITHOUT_SYSTEM: Mapping[str, Callable[[int, Console], list[Figure]]] = {
    "faces": of_faces,
    "gallery": of_gallery,
    "cases": of_cases,
    "dedup": of_dedup,
}
"""Parts that start no services; each is run by its name alone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 whatever the figures are: a benchmark is not a test."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "bench.json")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=("pictures", "texts", "matches", *WITHOUT_SYSTEM, "notify"), default="")
    parser.add_argument("--devices", type=int, default=5_000, help="of notify")
    parser.add_argument("--notices", type=int, default=20_000, help="of notify")
    parser.add_argument("--profile", type=Path, help="of notify: folder for what the service spent processor time on")
    options = parser.parse_args(arguments)
    say = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    if options.only == "notify":
        sizes = {"devices": options.devices, "number": options.notices}
        figures = of_notices(options.runs, say, **sizes, profile=options.profile)
    elif options.only in WITHOUT_SYSTEM:
        figures = WITHOUT_SYSTEM[options.only](options.runs, say)
    else:
        # Texts in pictures are measured by `make bench-ocr`; the bare pipeline beside the system reads none.
        with running_system(ocr="off") as system:
            say.print(f"A whole system on {CORES} cores; load before it {os.getloadavg()[0]:.1f}.")
            figures = asyncio.run(measure(system, options.runs, options.only, say))
    show(say, figures)
    document = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": CORES,
        "figures": [{**asdict(figure), "value": figure.value, "verdict": figure.verdict} for figure in figures],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say.print(f"figures  {options.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
