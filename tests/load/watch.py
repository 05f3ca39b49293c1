"""What was short while the load ran? Queues, processors of each program and waits of the database, second by second."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import asyncpg

from services.console.home import SERVICES, Home
from tests.bench.machine import CORES, Meter

LOOK_SECONDS = 1.0
BUSY = 0.9
"""Share of the processors from which on they are what is short."""
GROWS = 1.5
"""A queue whose last third is so many times its first third has grown."""

_UNSTAMPED = "SELECT count(*) FROM outbox WHERE position IS NULL"
_UNPUBLISHED = "SELECT coalesce(sum(position - published), 0) FROM outbox_head"
_HEADS = "SELECT partition, published FROM outbox_head"
_CURSORS = "SELECT publisher, partition, position FROM bus_cursor"
_SPOOL = "SELECT count(*) FROM spool"
_OVERDUE = "SELECT count(*) FROM due WHERE due_time <= now()"
_UNCOMMITTED = (
    "SELECT count(*) FROM log_record d WHERE d.type = 'match_decision_log' AND d.facet = 'MATCH' AND d.occur_time >= $1"
    " AND NOT EXISTS (SELECT FROM log_record c WHERE c.type = 'case_lifecycle_log' AND c.decision_id = d.decision_id"
    " AND c.facet IN ('OPENED', 'SIGHTED', 'REOPENED', 'DROPPED'))"
)
_WAITS = (
    "SELECT coalesce(wait_event_type, 'CPU') || '/' || coalesce(wait_event, 'running'), count(*) FROM pg_stat_activity"
    " WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend' GROUP BY 1"
)
_WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
_SIZES = "SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname = ANY($1)"


class Databases:
    """Connections of an administrator to the databases of all services."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._open: dict[str, Any] = {}

    async def __aenter__(self) -> Databases:
        password, port = self._home.secret("postgres-admin"), self._home.ports()["postgres"]
        for service in SERVICES:
            self._open[service] = await asyncpg.connect(
                host="127.0.0.1", port=port, user="admin", password=password, database=service
            )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for connection in self._open.values():
            await connection.close()

    async def value(self, service: str, query: str, *arguments: object) -> Any:
        """One value."""
        return await self._open[service].fetchval(query, *arguments)

    async def rows(self, service: str, query: str, *arguments: object) -> Sequence[Any]:
        """All rows."""
        found: Sequence[Any] = await self._open[service].fetch(query, *arguments)
        return found

    async def queues(self) -> dict[str, int]:
        """How much waits at each place: the spool, outboxes not yet stamped or published, events behind a cursor."""
        found = {"spool": int(await self.value("detector", _SPOOL))}
        heads: dict[tuple[str, int], int] = {}
        for service in SERVICES:
            waiting = int(await self.value(service, _UNSTAMPED)) + int(await self.value(service, _UNPUBLISHED))
            found[f"{service} outbox"] = waiting
            heads |= {(service, row[0]): row[1] for row in await self.rows(service, _HEADS)}
        lanes = Counter(service for service, _ in heads)
        for service in SERVICES:
            behind: Counter[str] = Counter()
            for publisher, partition, position in await self.rows(service, _CURSORS):
                # Events that nobody uses are passed without a note of it, so only the lanes of records tell to one.
                if service != "gate" or partition >= lanes[publisher] // 2:
                    behind[publisher] += max(0, heads.get((publisher, partition), 0) - position)
            for publisher, count in behind.items():
                found[f"{publisher} → {service}"] = count
        return found

    async def decided(self) -> Mapping[int, int] | None:
        """Once the spool is empty and all of the detector's records are published: where each of its lanes ends."""
        queues = await self.queues()
        if queues["spool"] or queues["detector outbox"]:
            return None
        lanes = {row[0]: row[1] for row in await self.rows("detector", _HEADS)}
        return {lane: position for lane, position in lanes.items() if lane >= len(lanes) // 2}

    async def at_the_gate(self, ends: Mapping[int, int]) -> bool:
        """Whether the gate has every record of the detector up to there."""
        cursors = {row[1]: row[2] for row in await self.rows("gate", _CURSORS) if row[0] == "detector"}
        return all(cursors.get(lane, 0) >= position for lane, position in ends.items())

    async def uncommitted(self, since: datetime) -> int:
        """MATCH decisions that the gate knows, and no commit of a case or sighting of them."""
        return int(await self.value("gate", _UNCOMMITTED, since))

    async def overdue(self) -> dict[str, int]:
        """Evidence to be packed and removals to be prepared, sent or looked at, that wait for their turn."""
        found = {service: int(await self.value(service, _OVERDUE)) for service in ("case", "removal")}
        return {service: count for service, count in found.items() if count}

    async def dead_letters(self) -> int:
        """Events and jobs that were put aside, everywhere."""
        return sum([int(await self.value(service, "SELECT count(*) FROM dead_letter")) for service in SERVICES])

    async def disk(self) -> tuple[int, int]:
        """(bytes of the databases, bytes of WAL written so far)."""
        size = await self.value("detector", _SIZES, list(SERVICES))
        return int(size), int(await self.value("detector", _WAL))

    async def waits(self) -> Mapping[str, int]:
        """What active sessions are waiting for now; CPU/running where for nothing."""
        return {row[0]: row[1] for row in await self.rows("detector", _WAITS)}


@dataclass
class Watched:
    """What was seen during one load."""

    cores: dict[str, float] = field(default_factory=dict)
    """Program → processors used on average; "generator", "others" and "client" (this process) too."""
    queues: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """(second, place → waiting)."""
    waits: Counter[str] = field(default_factory=Counter)
    """Active sessions of the database by what they waited for, summed over all looks."""
    seconds: float = 0.0
    own_seconds: float = 0.0
    """Processor seconds of the system: services, database, broker."""
    disk_bytes: int = 0
    wal_bytes: int = 0
    broker_bytes: int = 0

    def most(self) -> dict[str, int]:
        """The longest that each queue was."""
        found: dict[str, int] = {}
        for _, queues in self.queues:
            for name, count in queues.items():
                found[name] = max(found.get(name, 0), count)
        return found

    def growing(self) -> list[str]:
        """Queues that grew from the first to the last third, the longest first."""
        third = len(self.queues) // 3
        if not third:
            return []
        first, last = self.queues[:third], self.queues[-third:]
        mean = {name: (_mean(first, name), _mean(last, name)) for name in self.most()}
        grown = [name for name, (before, after) in mean.items() if after > GROWS * before + 100]
        return sorted(grown, key=lambda name: -mean[name][1])

    @property
    def total(self) -> float:
        """Processors busy, of whoever."""
        return sum(self.cores.values())

    def saturated(self) -> str:
        """What was short, with what shows it."""
        shares = sorted(((name, used) for name, used in self.cores.items()), key=lambda pair: -pair[1])
        busiest = ", ".join(f"{name} {used:.2f}" for name, used in shares[:4])
        grew = self.growing()
        queue = f"; grew: {', '.join(grew[:3])}" if grew else "; no queue grew"
        if self.total >= BUSY * CORES:
            return f"processors: {self.total:.2f} of {CORES} ({busiest}){queue}"
        single = [name for name, used in shares if used >= BUSY and name not in ("postgres", "others")]
        if single:
            return f"one processor of {single[0]}: {self.cores[single[0]]:.2f} ({busiest}){queue}"
        waiting = [(name, n) for name, n in self.waits.most_common() if not name.startswith(("CPU", "Client"))]
        if waiting:
            return f"database, waiting for {waiting[0][0]} ({waiting[0][1]} of {self.waits.total()} looks){queue}"
        return f"nothing: {self.total:.2f} of {CORES} processors ({busiest}){queue}"


def _mean(looks: Sequence[tuple[float, dict[str, int]]], name: str) -> float:
    return sum(queues.get(name, 0) for _, queues in looks) / len(looks)


class Watch:
    """Looks while a block runs; `found` is complete afterwards."""

    def __init__(self, home: Home, programs: Mapping[str, int], *, looks: bool = True) -> None:
        """`programs`: name → first process. Without `looks` only what is used up is measured."""
        self._home = home
        self._programs = dict(programs)
        self._looks = looks
        self.found = Watched()

    async def __aenter__(self) -> Watch:
        self._databases = await Databases(self._home).__aenter__()
        self._before = await self._databases.disk()
        self._broker = _bytes_below(self._home.path / "nats")
        self._started = time.monotonic()
        self._meter = Meter(self._programs).__enter__()
        self._looking = asyncio.create_task(self._look()) if self._looks else None
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._meter.__exit__()
        found = self.found
        found.seconds = time.monotonic() - self._started
        found.cores = dict(self._meter.cores)
        outside = ("generator", "client", "others")
        found.own_seconds = found.seconds * sum(used for name, used in found.cores.items() if name not in outside)
        size, wal = await self._databases.disk()
        found.disk_bytes, found.wal_bytes = size - self._before[0], wal - self._before[1]
        found.broker_bytes = _bytes_below(self._home.path / "nats") - self._broker
        await self._databases.__aexit__(None, None, None)

    async def _look(self) -> None:
        while True:
            self.found.waits.update(await self._databases.waits())
            self.found.queues.append((time.monotonic() - self._started, await self._databases.queues()))
            await asyncio.sleep(LOOK_SECONDS)


def _bytes_below(folder: Path) -> int:
    sizes = []
    # Folders come and go meanwhile, as those of atomic batches: what is gone has no size.
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                sizes.append((Path(place) / name).lstat().st_size)
    return sum(sizes)
