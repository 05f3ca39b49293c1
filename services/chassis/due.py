"""What has to be done later, and who does it?

A due row names a kind of work and an entity; there is at most one per pair. Workers take rows whose time has
come by the injected clock, run the handler, and delete the row unless it was scheduled again meanwhile. Handlers
run at least once and must be idempotent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    delete,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis import dead_letters, straight
from services.chassis.clock import Clock
from services.chassis.database import TABLES, Database, Rows, is_transient, wake_after_commit, write_together
from services.chassis.metrics import counter, histogram
from services.chassis.shown import Scalar
from services.chassis.tasks import end
from services.chassis.telemetry import inject_traceparent, logger, span_from
from services.chassis.together import Piece, Together
from services.chassis.tracing import LONGEST_WAIT_SECONDS

log = logger(__name__)

DUE_SECONDS = histogram("jikimi_due_seconds", "How long does due work take, by kind?", "kind")
DUE_LATE = histogram("jikimi_due_late_seconds", "How much later than its time is due work begun, by kind?", "kind")
DUE_FAILED = counter("jikimi_due_failed_total", "Which due work fails, by kind and reason?", "kind", "reason")

LEASE = timedelta(seconds=20)
"""A row whose worker died is taken again after this; in real time, not by the movable clock."""
TAKE = 16
MAX_ATTEMPTS = 12
"""Failures of a job before it goes to the dead letters. Transient ones (a peer or the database is away) do not count:
an outage of hours must not put work aside that will succeed when it ends."""
BACKOFF_SECONDS = 30.0

DUE = Table(
    "due",
    TABLES,
    Column("kind", Text, primary_key=True, comment="what is to be done"),
    Column("entity_id", Text, primary_key=True, comment="to what"),
    Column("due_time", DateTime(timezone=True), nullable=False, comment="business time from which it is due"),
    Column("generation", BigInteger, nullable=False, comment="rises with every scheduling"),
    Column("attempts", Integer, nullable=False, comment="failures so far"),
    Column("retry_time", DateTime(timezone=True), comment="real time before which it is not tried again"),
    Column("lease_until", DateTime(timezone=True), comment="real time until which a worker holds it"),
    Column("traceparent", Text, nullable=False, comment="W3C trace context of the cause; may be empty"),
    Index("ix_due_time", "kind", "due_time"),
)


@dataclass(frozen=True)
class DueItem:
    """A row that has become due."""

    kind: str
    entity_id: str
    due_time: datetime
    generation: int
    attempts: int
    traceparent: str


DueHandler = Callable[[DueItem], Awaitable[None]]
# Text, for they run all the time in every service: building and caching them anew would cost more than the queries.
# Neither waits for the disk: a lease that is lost with the database server has left its row free, and a row whose end
# is lost is run once more, which handlers bear.
_TAKE = text(
    f"""
    WITH free AS (
        SELECT kind, entity_id FROM {DUE.name}
        WHERE kind = ANY(CAST(:kinds AS text[])) AND due_time <= :now
          AND (lease_until IS NULL OR lease_until < :real) AND (retry_time IS NULL OR retry_time <= :real)
        ORDER BY due_time
        LIMIT :most
        FOR UPDATE SKIP LOCKED
    )
    UPDATE {DUE.name} AS d SET lease_until = :until FROM free, set_config('synchronous_commit', 'off', true)
    WHERE d.kind = free.kind AND d.entity_id = free.entity_id
    RETURNING d.kind, d.entity_id, d.due_time, d.generation, d.attempts, d.traceparent
    """
)
_DONE = text(
    f"""
    DELETE FROM {DUE.name} AS d
    USING unnest(CAST(:kinds AS text[]), CAST(:entities AS text[]), CAST(:generations AS bigint[]))
        AS done (kind, entity_id, generation), set_config('synchronous_commit', 'off', true)
    WHERE d.kind = done.kind AND d.entity_id = done.entity_id AND d.lease_until IS NOT NULL
      AND d.generation = done.generation
    RETURNING d.kind, d.entity_id
    """
)
_AGAIN = text(
    f"""
    UPDATE {DUE.name} AS d SET lease_until = NULL
    FROM unnest(CAST(:kinds AS text[]), CAST(:entities AS text[])) AS again (kind, entity_id)
    WHERE d.kind = again.kind AND d.entity_id = again.entity_id AND d.lease_until IS NOT NULL
    """
)
_CANCEL = text(f"DELETE FROM {DUE.name} WHERE kind = :kind AND entity_id = ANY(CAST(:entities AS text[]))")
# The new time while a handler runs, for the old one is then being dealt with: a handler may schedule its own row for
# later.
_RESCHEDULE = f"""
    (kind, entity_id) DO UPDATE SET
        due_time = CASE WHEN {DUE.name}.lease_until IS NOT NULL THEN excluded.due_time
                   ELSE least({DUE.name}.due_time, excluded.due_time) END,
        generation = {DUE.name}.generation + 1,
        attempts = 0,
        retry_time = NULL
"""


async def schedule(
    session: AsyncSession, kind: str, entity_id: str, due_time: datetime, *, traceparent: str | None = None
) -> None:
    """Schedules work; where it is scheduled already, the earlier time holds. A handler that runs at this moment
    is run once more afterwards."""
    trace = inject_traceparent() if traceparent is None else traceparent
    await schedule_many(session, {(kind, entity_id): (due_time, trace)})


async def schedule_many(session: AsyncSession, rows: Mapping[tuple[str, str], tuple[datetime, str]]) -> None:
    """`schedule` for many rows in one statement: (kind, entity id) → (due time, traceparent)."""
    await write_together(session, [scheduled(session, rows)])


def scheduled(session: AsyncSession, rows: Mapping[tuple[str, str], tuple[datetime, str]]) -> Rows:
    """The rows that `schedule_many` writes, for one who writes them together with others; `session` wakes those who do
    this work once it has committed."""
    for kind in {kind for kind, _ in rows}:
        wake_after_commit(session, _topic(kind))
    values = [
        {"kind": k, "entity_id": e, "due_time": t, "generation": 1, "attempts": 0, "traceparent": trace}
        for (k, e), (t, trace) in sorted(rows.items())
    ]
    return Rows(DUE, values, _RESCHEDULE)


async def cancel(session: AsyncSession, kind: str, *entity_ids: str) -> None:
    """Takes scheduled work of one kind back; harmless where there is none."""
    await session.execute(_CANCEL, {"kind": kind, "entities": list(entity_ids)})


class DueWorker:
    """Runs what is due."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        handlers: Mapping[str, DueHandler],
        *,
        poll_ms: int = 1000,
        parallel: int = 4,
        lease: timedelta = LEASE,
    ) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock
        self._handlers = dict(handlers)
        self._poll = poll_ms / 1000
        self._parallel = asyncio.Semaphore(parallel)
        self._places = parallel
        self._wakeup = database.wakeup(*map(_topic, handlers))
        self._ends: Together[DueItem] = Together()

    async def run(self) -> None:
        """Works until cancelled. Whoever takes long holds up nobody but the place that it has."""
        held: set[DueItem] = set()
        try:
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(self._keep(held))
                try:
                    while True:
                        await self._fill(group, held)
                finally:
                    await end(keeping)
        except ExceptionGroup as failed:
            # One that is no trouble on the way ends the worker, as it would without the group.
            raise failed.exceptions[0] from None

    async def _fill(self, group: asyncio.TaskGroup, held: set[DueItem]) -> None:
        """Takes what is due once a place is free, or waits until there may be something."""
        self._wakeup.clear()
        room = max(TAKE, self._places) - len(held)
        if len(held) < self._places:
            try:
                items = await self._take(room)
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("due_rows_unreachable", error=type(error).__name__)
                await asyncio.sleep(1.0)
                return
            for item in items:
                held.add(item)
                group.create_task(self._run_one(item)).add_done_callback(partial(self._ended, held, item))
            if len(items) == room:
                return
        try:
            async with asyncio.timeout(self._poll):
                await self._wakeup.wait()
        except TimeoutError:
            return

    def _ended(self, held: set[DueItem], item: DueItem, _: asyncio.Task[None]) -> None:
        held.discard(item)
        if len(held) == self._places - 1:
            # All places were busy until now, and more may be due.
            self._wakeup.set()

    async def _take(self, most: int = TAKE) -> list[DueItem]:
        real = datetime.now(UTC)
        values = {
            "kinds": list(self._handlers),
            "now": self._clock.now(),
            "real": real,
            "until": real + self._lease,
            "most": most,
        }
        # Not Database.begin(): a commit that only took a lease must not wake this loop again.
        async with self._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            rows: Sequence[Any] = (await straight.execute(connection, _TAKE, values)).all()
        return [DueItem(*row) for row in rows]

    async def _keep(self, items: set[DueItem]) -> None:
        """Keeps the leases of what runs, and of what still waits for its place."""
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            if not items:
                continue
            mine = [(item.kind, item.entity_id, item.generation) for item in items]
            held = tuple_(DUE.c.kind, DUE.c.entity_id, DUE.c.generation).in_(mine) & DUE.c.lease_until.is_not(None)
            try:
                async with AsyncSession(self._database.engine) as session, session.begin():
                    await session.execute(update(DUE).where(held).values(lease_until=datetime.now(UTC) + self._lease))
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("due_leases_not_kept", error=type(error).__name__)

    async def _run_one(self, item: DueItem) -> None:
        async with self._parallel:
            try:
                await self._run_handler(item)
            except Exception as error:
                if not is_transient(error):
                    raise
                # The row stays leased and is taken again when the lease has run out.
                log.warning("due_row_unreachable", kind=item.kind, error=type(error).__name__)

    async def _run_handler(self, item: DueItem) -> None:
        late = max(0.0, (self._clock.now() - item.due_time).total_seconds())
        DUE_LATE.observe(late, item.kind)
        about: dict[str, Scalar] = {"entity_id": item.entity_id, "late_ms": round(late * 1000)}
        # The clock of business may be moved, that of spans is not: what is very late by the one was moved.
        ready_at = time.time() - late if late < LONGEST_WAIT_SECONDS else None
        try:
            with (
                span_from(item.traceparent, f"due {item.kind.lower()}", about, ready_at=ready_at),
                DUE_SECONDS.timed(item.kind),
            ):
                await self._handlers[item.kind](item)
        except Exception as error:
            await self._failed(item, error)
        else:
            await self._ends(item, self._done)

    async def _done(self, items: Sequence[Piece[DueItem]], _: bool) -> Sequence[bool]:
        """Deletes rows whose work is done; False for one that stays, for it was scheduled again meanwhile."""
        ended = [piece.item for piece in items]
        rows = {
            "kinds": [item.kind for item in ended],
            "entities": [item.entity_id for item in ended],
            "generations": [item.generation for item in ended],
        }
        async with self._database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            deleted = {(row.kind, row.entity_id) for row in await straight.execute(connection, _DONE, rows)}
            again = [item for item in ended if (item.kind, item.entity_id) not in deleted]
            if again:
                kinds, entities = [item.kind for item in again], [item.entity_id for item in again]
                await straight.execute(connection, _AGAIN, {"kinds": kinds, "entities": entities})
        if again:
            self._wakeup.set()
        return [item not in again for item in ended]

    async def _failed(self, item: DueItem, error: Exception) -> None:
        reason = dead_letters.reason_of(error)
        transient = is_transient(error)
        attempts = min(item.attempts + 1, MAX_ATTEMPTS - 1) if transient else item.attempts + 1
        DUE_FAILED.add(item.kind, reason)
        log.warning("due_job_failed", kind=item.kind, attempt=attempts, reason=reason, error=error)
        async with self._database.begin() as session:
            if attempts >= MAX_ATTEMPTS:
                dead_letters.put_job(session, item.kind, item.entity_id, reason, item.traceparent)
                await session.execute(delete(DUE).where(_same(item), DUE.c.generation == item.generation))
                return
            pause = timedelta(seconds=min(0.1 * 2**attempts, BACKOFF_SECONDS))
            await session.execute(
                update(DUE)
                .where(_same(item))
                .values(attempts=attempts, retry_time=datetime.now(UTC) + pause, lease_until=None)
            )


def _same(item: DueItem) -> ColumnElement[bool]:
    # A row without a lease is another one: the work was cancelled and scheduled anew while it ran.
    return (DUE.c.kind == item.kind) & (DUE.c.entity_id == item.entity_id) & DUE.c.lease_until.is_not(None)


def _topic(kind: str) -> str:
    """What wakes those who do this kind of work."""
    return f"{DUE.name}:{kind}"
