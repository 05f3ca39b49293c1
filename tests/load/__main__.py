"""How does one load the system and learn what it bears? `make load`, `make load FIND=1`.

    python -m tests.load [--find] [--rate R] [--mix all|texts] [--shape steady|ramp|burst|soak] [--matches N]
        [--seconds S] [--bound-ms MS] [--ui] [--workers N] [--junit FILE] [--json] [--profile FOLDER]

Exit status: the gate's word about CaseLatencyReport_v1 (0 passed, 1 failed, 2 inconclusive, 3 error); 1 also where
something was lost or P95 is above the bound; 4 where the load could not be made.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.console.gate_commands import STATUS
from tests.load import knee, page, profile
from tests.load.judge import Verdict, judge, run_regression
from tests.load.mix import MIXES
from tests.load.raw import nearest_rank, write_events
from tests.load.run import CannotLoad, Loaded, Stage, cost_per_million, machine_facts, milliseconds_each
from tests.load.shapes import SHAPES
from tests.scenario.system import ROOT, System, running_system

OUT = ROOT / "var" / "load"
MATCHES = 10_000
PEOPLE_SHARE = 0.2
"""People for each wanted match: each one's first naming opens a case, so that four matches in five are reposts."""
FIND_PEOPLE, FIND_START = 600, 60.0
CANNOT = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    options = _options(arguments)
    say = Console(highlight=False, stderr=options.json, width=None if sys.stdout.isatty() else 160)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    try:
        rate = options.rate
        if options.find or rate is None:
            kept = None if options.find else knee.known_rate(out / "knee.json", options.mix)
            if kept is None:
                kept = _find(options, say).rate
            rate = knee.SHARE * kept
        if options.find:
            return 0 if rate else STATUS["FAILED"]
        if not rate:
            raise CannotLoad("No rate held, not even the lowest.")
        return _load(options, rate, say)
    except CannotLoad as error:
        say.print(f"The load could not be made: {error}")
        return CANNOT


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load")
    parser.add_argument("--find", action="store_true", help="raise the rate until P95 breaks the bound")
    parser.add_argument("--rate", type=float, help="arrivals a second; by default 70 %% of the knee")
    parser.add_argument("--mix", choices=sorted(MIXES), default="all")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="steady")
    parser.add_argument("--matches", type=int, default=MATCHES, help="until so many are through")
    parser.add_argument("--seconds", type=float, help="for so long, however many matches that makes")
    parser.add_argument("--people", type=int, help="enrolled before it starts")
    parser.add_argument("--bound-ms", type=float, default=knee.BOUND_MS, help="of P95")
    parser.add_argument("--start", type=float, default=FIND_START, help="first rate of --find")
    parser.add_argument("--step-seconds", type=float, default=knee.STEP_SECONDS, help="of --find")
    parser.add_argument("--ui", action="store_true", help="Locust's web page on 127.0.0.1")
    parser.add_argument("--workers", type=int, default=0, help="Locust workers beside a master; 0: one process")
    parser.add_argument("--junit", type=Path, help="run of the regression tests; by default this tree's, run now")
    parser.add_argument("--profile", type=Path, help="folder for what each service spent its processor time on")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on standard output")
    parser.add_argument("--out", type=Path, default=OUT)
    return parser.parse_args(arguments)


def _find(options: argparse.Namespace, say: Console) -> knee.Knee:
    facts = machine_facts()
    with running_system(**_settings(options)) as system:
        found = asyncio.run(_raise_rate(system, options, say))
    file = options.out / "knee.json"
    knee.save(file, found, facts)
    page.write_knee(options.out / "knee.html", found, facts)
    say.print(_knee_table(found))
    say.print(f"Knee: {found.rate:g} arrivals a second ({options.mix}); above it: {found.saturated}")
    say.print(f"kept in {file}; page {options.out / 'knee.html'}")
    if options.json:
        print(file.read_text(encoding="utf-8"))
    return found


async def _raise_rate(system: System, options: argparse.Namespace, say: Console) -> knee.Knee:
    stage = await _stage(system, options.people or FIND_PEOPLE, options, say)
    # What comes first pays for caches and plans that are empty.
    await stage.put(stage.plan(options.mix, "steady", options.start / 2, 10.0))

    async def put(rate: float) -> Loaded:
        return await stage.put(stage.plan(options.mix, "steady", rate, options.step_seconds))

    def tell(step: knee.Step) -> None:
        word = "held" if step.held else "broke"
        say.print(f"  {step.came:g}/s of {step.wanted:g}/s: P95 {step.p95_ms:.0f} ms, {word}; {step.saturated}")

    return await knee.find(put, options.mix, options.start, options.bound_ms, tell)


def _load(options: argparse.Namespace, rate: float, say: Console) -> int:
    facts = machine_facts()
    junit = options.junit or run_regression(options.out / "regression.xml")
    with running_system(**_settings(options)) as system:
        loaded, verdict = asyncio.run(_one_load(system, options, rate, junit, say))
    write_events(options.out / "events.jsonl", loaded.raw.events)
    document = result_of(loaded, verdict, options.bound_ms, facts)
    (options.out / "load.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page.write_load(options.out / "load.html", loaded, document)
    say.print(_load_table(document))
    for fault in document["faults"]:
        say.print(f"  [bold]{fault}[/]")
    if options.profile:
        say.print(profile.text_of(options.profile))
    say.print(f"result {options.out / 'load.json'}, page load.html, events events.jsonl, report {verdict.files[-1]}")
    if options.json:
        print(json.dumps(document, ensure_ascii=False))
    return status_of(document, verdict)


async def _one_load(
    system: System, options: argparse.Namespace, rate: float, junit: Path | None, say: Console
) -> tuple[Loaded, Verdict]:
    people = options.people or max(20, round(PEOPLE_SHARE * options.matches))
    stage = await _stage(system, people, options, say)
    if options.seconds:
        plan = stage.plan(options.mix, options.shape, rate, options.seconds)
    else:
        plan = stage.plan_for(options.matches, options.mix, options.shape, rate)
    say.print(f"{plan.rate:.0f} arrivals a second ({plan.shape}, {plan.mix}) for {plan.seconds:.0f} s")
    if options.profile:
        profile.begin(system.status())
    loaded = await stage.put(plan)
    return loaded, await judge(system, f"load-{plan.run}", loaded.raw, junit, options.out / "report")


async def _stage(system: System, people: int, options: argparse.Namespace, say: Console) -> Stage:
    return await Stage.prepare(system, people, options.out, say.print, ui=int(options.ui), workers=options.workers)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Texts in pictures are measured by `make bench-ocr`."""
    return {"ocr": "off"} | (profile.settings(options.profile) if options.profile else {})


def result_of(loaded: Loaded, verdict: Verdict, bound_ms: float, facts: dict[str, object]) -> dict[str, Any]:
    """The whole result as one JSON document; an infinite time is null."""
    latencies = loaded.raw.latencies_ms
    lost = loaded.lost()
    if not verdict.agrees:
        lost.append(
            f"the gate says {verdict.value_ms} ms of {verdict.size}, "
            f"the independent calculation {verdict.own_value_ms} ms of {verdict.own_size}"
        )
    if loaded.p95_ms > bound_ms:
        lost.append(f"P95 is {loaded.p95_ms:.0f} ms, above {bound_ms:.0f} ms")
    return {
        "machine": facts,
        "plan": {name: getattr(loaded.plan, name) for name in ("run", "mix", "shape", "rate", "seconds")},
        "came_per_second": round(loaded.rate, 1),
        "arrivals": len(loaded.arrivals),
        "outcomes": {kind: dict(found) for kind, found in sorted(loaded.outcomes().items())},
        "accepted": loaded.accepted,
        "decided": len(loaded.raw.decided_signals),
        "matches": len(latencies),
        "opened": sum(event.transition == "OPENED" for event in loaded.raw.events),
        "dead_letters": loaded.dead_letters,
        "latency_ms": {
            f"p{percent}": _finite(nearest_rank(latencies, percent) if latencies else float("inf"))
            for percent in (50, 90, 95, 99, 100)
        },
        "bound_ms": bound_ms,
        "drained_s": _finite(round(loaded.drained_s, 1)),
        "gate": {
            "report": verdict.document["report_id"],
            "outcome": verdict.outcome,
            "figure_outcome": verdict.figure_outcome,
            "reasons": list(verdict.reasons),
            "value_ms": verdict.value_ms,
            "size": verdict.size,
            "required": verdict.required,
            "independent_value_ms": verdict.own_value_ms,
            "independent_size": verdict.own_size,
            "agrees": verdict.agrees,
        },
        "still_waiting": dict(loaded.overdue),
        "saturated": loaded.watched.saturated(),
        "cores": {name: round(used, 2) for name, used in loaded.watched.cores.items()},
        "longest_queues": {name: most for name, most in loaded.watched.most().items() if most},
        "database_waits": dict(loaded.watched.waits.most_common(8)),
        "cpu_ms_per_arrival": milliseconds_each(loaded),
        "per_million": cost_per_million(loaded),
        "faults": lost,
    }


def status_of(document: dict[str, Any], verdict: Verdict) -> int:
    """The gate's status; FAILED where something was lost or too slow, whatever the gate says."""
    if verdict.status in (STATUS["ERROR"], STATUS["FAILED"]):
        return verdict.status
    return STATUS["FAILED"] if document["faults"] else verdict.status


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value


def _load_table(document: dict[str, Any]) -> Table:
    gate, latency = document["gate"], document["latency_ms"]
    table = Table("what", "figure", title="Load", title_justify="left", min_width=72)
    times = ", ".join(f"{name} {_ms(latency[name])}" for name in ("p50", "p95", "p99", "p100"))
    wanted = f"{document['plan']['rate']:.0f}"
    rows = {
        "arrivals": f"{document['arrivals']} at {document['came_per_second']}/s (wanted {wanted})",
        "signals accepted / decided": f"{document['accepted']} / {document['decided']}",
        "matches, of these cases opened": f"{document['matches']}, {document['opened']}",
        "discovery → case": times,
        "gate": f"{gate['outcome']} {' '.join(gate['reasons'])} P95 {_ms(gate['value_ms'])}, n {gate['size']}"
        f" of {gate['required']}",
        "independent calculation": f"P95 {_ms(gate['independent_value_ms'])}, n {gate['independent_size']}: "
        + ("equal" if gate["agrees"] else "DIFFERENT"),
        "all recorded after": f"{document['drained_s']} s",
        "still waiting (evidence, removals)": document["still_waiting"] or "nothing",
        "short": document["saturated"],
        "processor ms an arrival": ", ".join(f"{k} {v:g}" for k, v in document["cpu_ms_per_arrival"].items()),
        "a million arrivals": ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in document["per_million"].items()),
    }
    for what, figure in rows.items():
        table.add_row(what, str(figure))
    return table


def _ms(value: float | None) -> str:
    return "∞" if value is None else f"{value:.0f} ms"


def _knee_table(found: knee.Knee) -> Table:
    table = Table(
        "wanted/s", "came/s", "P50 ms", "P95 ms", "", "longest queue", "what was short", "core-h", "DB GB", "WAL GB",
        title=f"Knee at P95 ≤ {found.bound_ms:g} ms; costs per million arrivals", title_justify="left",
    )
    for step in sorted(found.steps, key=lambda each: each.wanted):
        queue = max(step.queues.items(), key=lambda pair: pair[1], default=("", 0))
        cost = asdict(step)["cost"]
        table.add_row(
            f"{step.wanted:g}", f"{step.came:g}", f"{step.p50_ms:.0f}", f"{step.p95_ms:.0f}",
            "held" if step.held else "broke", f"{queue[0]} {queue[1]}", step.saturated,
            *(f"{cost[name]:g}" for name in ("core_hours", "database_gb", "wal_gb")),
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
