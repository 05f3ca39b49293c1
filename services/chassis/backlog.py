"""What has piled up in this service, and how busy is the process?

Every few seconds each replica counts what waits in its service's tables, with bounded statements, and shows it as
gauges. So a backlog is seen even where nothing moves any more, which no counter would tell. Replicas of one service
show the same figures of its database: queries take the greatest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from services.chassis.bus import Consumer
from services.chassis.clock import Clock
from services.chassis.database import Database, is_transient
from services.chassis.metrics import counter, gauge, histogram
from services.chassis.telemetry import logger

log = logger(__name__)

EVERY_SECONDS = 10.0
STATEMENT_MS = 2_000
MOST_DUE = 10_000
"""Overdue rows of one kind that are counted; more are shown as so many."""
LOOP_SECONDS = 0.25
LOOP_EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

OUTBOX = gauge("jikimi_outbox_events", "How many events wait in the outbox to be published?")
OUTBOX_AGE = gauge("jikimi_outbox_oldest_seconds", "How long has the oldest event of the outbox waited?")
OUTBOX_POSITION = gauge("jikimi_outbox_position", "Up to which position has this service published?", "partition")
CONSUMER_POSITION = gauge(
    "jikimi_consumer_position",
    "Up to which position has this service dealt with what a publisher published?",
    "publisher",
    "partition",
)
DEAD_LETTERS = gauge("jikimi_dead_letters", "How many events were put aside, how many wait behind them?", "state")
DUE = gauge("jikimi_due_overdue", "How much due work waits although its time has come, by kind?", "kind")
DUE_AGE = gauge("jikimi_due_oldest_seconds", "How late is the latest of the due work, by kind?", "kind")
POOL = gauge("jikimi_pool_connections", "How many database connections are in use, of how many there may be?", "state")
LOOP_LAG = histogram("jikimi_loop_lag_seconds", "How late does the event loop come to its work?", edges=LOOP_EDGES_S)
FAILED = counter("jikimi_backlog_failed_total", "How often could the backlog not be counted?")

Look = Callable[[AsyncConnection, datetime], Awaitable[None]]
"""Counts something in a service's tables and sets its gauges; `now` is business time."""

_OUTBOX = text(
    """
    SELECT (SELECT count(*) FROM (SELECT 1 FROM outbox WHERE position IS NULL LIMIT :most) AS w)
             + (SELECT coalesce(sum(position - published), 0) FROM outbox_head) AS waiting,
           (SELECT extract(epoch FROM :real - min(t)) FROM (
                (SELECT create_time AS t FROM outbox WHERE position IS NULL ORDER BY seq LIMIT 1)
                UNION ALL
                SELECT o.create_time FROM outbox_head h JOIN outbox o
                  ON o.partition = h.partition AND o.position = h.published + 1) AS oldest) AS age
    """
)
_HEADS = text("SELECT partition, published FROM outbox_head")
_CURSORS = text("SELECT publisher, partition, position FROM bus_cursor")
_DEAD = text("SELECT count(*) FILTER (WHERE NOT parked), count(*) FILTER (WHERE parked) FROM dead_letter")
_DUE = text(
    """
    SELECT k.kind, d.overdue, d.oldest FROM (SELECT DISTINCT kind FROM due) AS k, LATERAL (
        SELECT count(*) AS overdue, extract(epoch FROM :now - min(due_time)) AS oldest
        FROM (SELECT due_time FROM due WHERE kind = k.kind AND due_time <= :now ORDER BY due_time LIMIT :most) AS few
    ) AS d
    """
)


@dataclass
class Backlog:
    """Counts what waits in one service."""

    database: Database
    clock: Clock
    consumers: Sequence[Consumer]
    looks: Sequence[Look] = ()
    every_seconds: float = EVERY_SECONDS
    _kinds: set[str] = field(default_factory=set, init=False)

    async def run(self) -> None:
        """Counts until cancelled. A database that is away is no reason to stop."""
        self._show_pool()
        while True:
            try:
                await self.count()
            except Exception as error:
                if not is_transient(error):
                    raise
                FAILED.add()
                log.warning("backlog_not_counted", error=type(error).__name__)
            await asyncio.sleep(self.every_seconds)

    async def count(self) -> None:
        """One round."""
        async with self.database.engine.connect() as connection, connection.begin():
            await connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_MS}"))
            await self._chassis(connection)
            for look in self.looks:
                await look(connection, self.clock.now())

    async def watch_loop(self) -> None:
        """Measures by how much the event loop is late, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(LOOP_SECONDS)
            LOOP_LAG.observe(max(0.0, loop.time() - asked - LOOP_SECONDS))

    async def _chassis(self, connection: AsyncConnection) -> None:
        waiting, age = (await connection.execute(_OUTBOX, {"most": MOST_DUE, "real": datetime.now(UTC)})).one()
        OUTBOX.set(float(waiting))
        OUTBOX_AGE.set(max(0.0, float(age or 0)))
        for partition, published in await connection.execute(_HEADS):
            OUTBOX_POSITION.set(published, str(partition))
        await self._positions(connection)
        rejected, parked = (await connection.execute(_DEAD)).one()
        DEAD_LETTERS.set(rejected, "rejected")
        DEAD_LETTERS.set(parked, "parked")
        await self._due(connection)

    async def _positions(self, connection: AsyncConnection) -> None:
        """A reader is ahead of its stored cursor where only events passed that nobody uses."""
        read = {(consumer.publisher, each) for consumer in self.consumers for each in consumer.partitions}
        at = {(row.publisher, row.partition): row.position for row in await connection.execute(_CURSORS)}
        for consumer in self.consumers:
            for partition, position in consumer.positions().items():
                key = (consumer.publisher, partition)
                at[key] = max(at.get(key, 0), position)
        for (publisher, partition), position in at.items():
            if (publisher, partition) in read:
                CONSUMER_POSITION.set(position, publisher, str(partition))

    async def _due(self, connection: AsyncConnection) -> None:
        rows = (await connection.execute(_DUE, {"now": self.clock.now(), "most": MOST_DUE})).all()
        found = {row.kind: (row.overdue, max(0.0, float(row.oldest or 0))) for row in rows}
        self._kinds |= found.keys()
        for kind in self._kinds:
            overdue, oldest = found.get(kind, (0, 0.0))
            DUE.set(overdue, kind)
            DUE_AGE.set(oldest, kind)

    def _show_pool(self) -> None:
        pool = self.database.engine.pool
        if isinstance(pool, QueuePool):
            POOL.follow(pool.checkedout, "used")
            POOL.follow(lambda: pool.size() + pool._max_overflow, "most")
