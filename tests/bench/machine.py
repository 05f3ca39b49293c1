"""Who used the processors while something was measured?"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))


def _by_program(leaders: Mapping[str, int]) -> dict[str, float]:
    """Processor seconds of each program's living processes: its leader and all that descend from it. PostgreSQL's
    processes are sessions of their own."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(folder.name)] = int(fields[1])
            seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICK
    names = {pid: name for name, pid in leaders.items()}
    total = dict.fromkeys(leaders, 0.0)
    for pid in seconds:
        above = pid
        while above not in names and above in parents:
            above = parents[above]
        if above in names:
            total[names[above]] += seconds[pid]
    return total


def _busy() -> float:
    """Processor seconds that the whole machine has worked."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / TICK


@dataclass
class Meter:
    """Measures a stretch: wall time, and the cores that each program and everybody else used (1.0 is one core)."""

    programs: Mapping[str, int]
    """Name → number of the program's first process."""
    wall_s: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Meter:
        self._started, self._before, self._machine = time.monotonic(), _by_program(self.programs), _busy()
        self._own = time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.wall_s = time.monotonic() - self._started
        now, machine = _by_program(self.programs), _busy() - self._machine
        used = {name: max(0.0, now[name] - self._before[name]) for name in self.programs}
        used["client"] = time.process_time() - self._own
        used["others"] = max(0.0, machine - sum(used.values()))
        self.cores = {name: round(seconds / self.wall_s, 3) for name, seconds in used.items()}

    @property
    def own_seconds(self) -> float:
        """Processor seconds of the programs and of this process: what neighbours do does not change them much."""
        return self.wall_s * sum(cores for name, cores in self.cores.items() if name != "others")

    def limit(self) -> str:
        """What held the result down, as far as processor time says."""
        shares = sorted(self.cores.items(), key=lambda pair: -pair[1])
        busiest = ", ".join(f"{name} {cores:.2f}" for name, cores in shares[:4] if cores >= 0.05)
        total = sum(self.cores.values())
        kind = "processors" if total >= 0.9 * CORES else "waiting (disk, round trips) more than processors"
        return f"{kind}: {total:.2f} of {CORES} cores; {busiest}"
