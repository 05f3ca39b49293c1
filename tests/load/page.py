"""How does the result of a load look to a person? One HTML file, nothing from elsewhere, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tests.load.knee import Knee
from tests.load.run import Loaded

WIDTH, HEIGHT = 720, 220
_POINTS = 240
_QUEUES = 6


def write_load(file: Path, loaded: Loaded, document: dict[str, Any]) -> None:
    """The page of one load."""
    latencies = [value for value in loaded.raw.latencies_ms if math.isfinite(value)]
    longest = max(10.0, document["bound_ms"], *latencies[-1:])
    queues = sorted(loaded.watched.most().items(), key=lambda pair: -pair[1])[:_QUEUES]
    _write(
        file,
        "load.html.j2",
        document=document,
        ecdf=_ecdf(latencies, len(loaded.raw.latencies_ms), longest),
        ticks=_ticks(longest) if latencies else [],
        bound=_x(document["bound_ms"], longest) if latencies else None,
        queues=[(name, most, _line([(at, seen.get(name, 0)) for at, seen in loaded.watched.queues])) for name, most in
                queues if most],
        cores=sorted(document["cores"].items(), key=lambda pair: -pair[1]),
    )


def write_knee(file: Path, found: Knee, facts: dict[str, object]) -> None:
    """The page of a search for the knee."""
    _write(file, "knee.html.j2", knee=asdict(found), saturated=found.saturated, facts=facts)


def _write(file: Path, template: str, **values: Any) -> None:
    loader = FileSystemLoader(Path(__file__).with_name("templates"))
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    page = environment.get_template(template).render(width=WIDTH, height=HEIGHT, **values)
    file.write_text(page, encoding="utf-8")


def _x(value: float, longest: float) -> float:
    """Place of a time on the axis, which is logarithmic from 1 ms to the longest, the bound included."""
    return round(min(1.0, math.log10(max(1.0, value)) / math.log10(longest)) * WIDTH, 1)


def _ecdf(ordered: Sequence[float], of: int, longest: float) -> str:
    """Points of the distribution: the share of all, infinite ones included, that is not above a time."""
    if not ordered:
        return ""
    step = max(1, len(ordered) // _POINTS)
    ranks = [*range(0, len(ordered), step), len(ordered) - 1]
    return " ".join(f"{_x(ordered[rank], longest)},{round(HEIGHT * (1 - (rank + 1) / of), 1)}" for rank in ranks)


def _ticks(longest: float) -> list[tuple[float, str]]:
    marks = [10**power for power in range(0, 8) if 10**power <= longest]
    return [(_x(mark, longest), f"{mark} ms" if mark < 1000 else f"{mark // 1000} s") for mark in marks]


def _line(points: Sequence[tuple[float, int]]) -> str:
    if not points:
        return ""
    last, most = max(at for at, _ in points) or 1.0, max(count for _, count in points) or 1
    return " ".join(f"{round(at / last * WIDTH, 1)},{round(40 * (1 - count / most), 1)}" for at, count in points)
