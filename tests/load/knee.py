"""At which rate does the system stop keeping up? Raises it step by step until P95 breaks a bound."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.load.run import Loaded, cost_per_million

STEP_SECONDS = 30.0
GROWTH = 1.3
REFINEMENTS = 1
"""Further steps between the last rate that held and the first that did not."""
MOST_STEPS = 14
BOUND_MS = 2_000.0
SHARE = 0.7
"""Of the knee: the rate at which `make load` runs."""
SHORT = 0.9
"""A step whose arrivals came at less than this share of the wanted rate was held back by the generator."""


@dataclass(frozen=True)
class Step:
    """One rate that was tried."""

    wanted: float
    came: float
    p95_ms: float
    p50_ms: float
    matches: int
    held: bool
    saturated: str
    queues: dict[str, int]
    cores: dict[str, float]
    waits: dict[str, int]
    drained_s: float
    cost: dict[str, float]


@dataclass(frozen=True)
class Knee:
    """The result: the highest rate that held and what broke above it."""

    mix: str
    bound_ms: float
    rate: float
    """Arrivals a second, as they came, at the highest step that held; 0 where none did."""
    steps: tuple[Step, ...]

    @property
    def saturated(self) -> str:
        """What was short at the lowest rate that did not hold."""
        broken = [step for step in self.steps if not step.held]
        return min(broken, key=lambda step: step.wanted).saturated if broken else "nothing broke"


def step_of(loaded: Loaded, bound_ms: float) -> Step:
    """What one load says about its rate."""
    latencies = loaded.raw.latencies_ms
    came_in_time = loaded.rate >= SHORT * loaded.plan.rate
    return Step(
        wanted=round(loaded.plan.rate, 1),
        came=round(loaded.rate, 1),
        p95_ms=loaded.p95_ms,
        p50_ms=latencies[len(latencies) // 2] if latencies else float("inf"),
        matches=len(latencies),
        held=loaded.p95_ms <= bound_ms and not loaded.lost() and came_in_time,
        saturated=loaded.watched.saturated() if came_in_time else f"the generator: {loaded.watched.saturated()}",
        queues={name: most for name, most in loaded.watched.most().items() if most},
        cores={name: round(used, 2) for name, used in loaded.watched.cores.items()},
        waits=dict(loaded.watched.waits.most_common(6)),
        drained_s=round(loaded.drained_s, 1),
        cost=cost_per_million(loaded),
    )


async def find(
    put: Callable[[float], Awaitable[Loaded]], mix: str, start: float, bound_ms: float, tell: Callable[[Step], None]
) -> Knee:
    """Tries growing rates; then once more between the last that held and the first that did not."""
    steps: list[Step] = []

    async def attempt(rate: float) -> bool:
        steps.append(step_of(await put(rate), bound_ms))
        tell(steps[-1])
        return steps[-1].held

    rate, low, high = start, 0.0, 0.0
    while not high and len(steps) < MOST_STEPS:
        if await attempt(rate):
            low, rate = rate, rate * GROWTH
        else:
            high = rate
    for _ in range(REFINEMENTS if low and high else 0):
        middle = (low + high) / 2
        if await attempt(middle):
            low = middle
        else:
            high = middle
    held = [step.came for step in steps if step.held]
    return Knee(mix, bound_ms, max(held, default=0.0), tuple(steps))


def save(file: Path, knee: Knee, facts: dict[str, object]) -> None:
    """Keeps a knee for the loads that follow."""
    file.parent.mkdir(parents=True, exist_ok=True)
    document = asdict(knee) | {"saturated": knee.saturated, "machine": facts}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def known_rate(file: Path, mix: str) -> float | None:
    """The rate of the knee that was kept for a mix; None where there is none."""
    if not file.exists():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return float(kept["rate"]) if kept["mix"] == mix and kept["rate"] else None
