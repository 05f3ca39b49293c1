"""On what was processor time spent? Reads what the sampler wrote and names the largest costs with file and line."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.console.home import SERVICES
from tests.scenario.system import ROOT

SAMPLER = Path(__file__).with_name("sampler")
INTERVAL_MS = 4.0
MOST = 25
_EVERYWHERE = frozenset({"<module>", "main", "run", "background"})
_OURS = (f"{ROOT}/services/",)


def settings(folder: Path) -> dict[str, Any]:
    """What a system needs to be sampled."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"site": SAMPLER, "samples": str(folder.absolute())}


def environment(folder: Path, pythonpath: str) -> dict[str, str]:
    """What one service of its own needs to be sampled; `pythonpath` is its PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    return {"PYTHONPATH": os.pathsep.join((str(SAMPLER), pythonpath)), "JIKIMI_SAMPLES": str(folder.absolute())}


def begin(status: Mapping[str, Any]) -> None:
    """Forgets what was seen before: enrolment is not the load."""
    for service in SERVICES:
        forget(status["children"][service]["pid"])


def forget(pid: int) -> None:
    """Forgets what was seen of one process."""
    os.kill(pid, signal.SIGUSR2)


def stacks_of(folder: Path, service: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(times seen, stack, innermost first) of all processes of a service."""
    for file in folder.glob(f"{service}.*.json"):
        for count, *stack in json.loads(file.read_text()):
            yield count, tuple(stack)


def costs(folder: Path, service: str) -> tuple[int, Counter[str], Counter[str]]:
    """(samples, functions of the project by what they and all below them cost, innermost frames by their own cost).
    A function is shown with the line of it that was seen most; frames that every stack has are left out."""
    total, inclusive, leaves = 0, Counter[str](), Counter[str]()
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    for count, stack in stacks_of(folder, service):
        total += count
        leaves[_short(stack[0])] += count
        for frame in {frame for frame in stack if frame.startswith(_OURS)}:
            place, _, name = _short(frame).rpartition(" ")
            file, _, line = place.rpartition(":")
            lines[f"{file} {name}"][line] += count
        for function in {_function(frame) for frame in stack if frame.startswith(_OURS)}:
            inclusive[function] += count
    named = Counter[str]()
    for function, count in inclusive.items():
        file, _, name = function.rpartition(" ")
        [(line, _)] = lines[function].most_common(1)
        if name not in _EVERYWHERE:
            named[f"{file}:{line} {name}"] = count
    return total, named, leaves


def text_of(folder: Path) -> str:
    """The largest costs of every service, in processor seconds and shares."""
    lines = []
    for service in SERVICES:
        total, inclusive, leaves = costs(folder, service)
        if not total:
            continue
        lines.append(f"{service}: {total * INTERVAL_MS / 1000:.1f} s of a processor")
        for title, counted in (("functions of the project, with all below", inclusive), ("innermost", leaves)):
            lines.append(f"  {title}")
            lines += [f"  {100 * n / total:5.1f} %  {frame}" for frame, n in counted.most_common(MOST)]
    return "\n".join(lines)


def _function(frame: str) -> str:
    place, _, name = _short(frame).rpartition(" ")
    return f"{place.rpartition(':')[0]} {name}"


def _short(frame: str) -> str:
    return frame.replace(f"{ROOT}/", "").split("site-packages/")[-1]


if __name__ == "__main__":
    print(text_of(Path(sys.argv[1])))
