"""Is a due row never lost and never run twice at once, whatever happens while it runs?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.due import DUE, DueItem, DueWorker, cancel, schedule
from services.chassis.tasks import end
from services.console.embedded import Postgres

pytestmark = pytest.mark.slow

START = datetime(2026, 1, 1, tzinfo=UTC)


async def _left(database: Database) -> int:
    async with database.begin() as session:
        return await session.scalar(select(func.count()).select_from(DUE)) or 0


async def test_work_put_off_while_it_runs_is_not_lost(database: Database) -> None:
    async def handler(item: DueItem) -> None:
        async with database.begin() as session:
            await cancel(session, "PACK", item.entity_id)
            await schedule(session, "PACK", item.entity_id, START + timedelta(hours=1))

    async with database.begin() as session:
        await schedule(session, "PACK", "a", START)
    worker = asyncio.ensure_future(DueWorker(database, ManualClock(START), {"PACK": handler}, poll_ms=20).run())
    await asyncio.sleep(0.5)
    await end(worker)
    assert await _left(database) == 1


async def test_a_worker_survives_connections_that_broke_while_its_handler_ran(
    database: Database, postgres: Postgres
) -> None:
    done = list[str]()

    async def handler(item: DueItem) -> None:
        done.append(item.entity_id)
        name = database.engine.url.database
        postgres.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}';")

    async with database.begin() as session:
        await schedule(session, "PACK", "a", START)
    worker = asyncio.ensure_future(DueWorker(database, ManualClock(START), {"PACK": handler}, poll_ms=20).run())
    await asyncio.sleep(1.5)
    ended = worker.done()
    await end(worker)
    assert done[:1] == ["a"]
    assert not ended


async def test_a_handler_that_outlasts_the_lease_runs_alone(database: Database) -> None:
    runs = list[str]()

    async def handler(item: DueItem) -> None:
        runs.append(item.entity_id)
        await asyncio.sleep(1.5)

    async with database.begin() as session:
        await schedule(session, "PACK", "a", START)
    lease = timedelta(seconds=0.6)
    workers = [
        asyncio.ensure_future(
            DueWorker(database, ManualClock(START), {"PACK": handler}, poll_ms=20, lease=lease).run()
        )
        for _ in range(2)
    ]
    await asyncio.sleep(2.2)
    for worker in workers:
        await end(worker)
    assert runs == ["a"]
    assert await _left(database) == 0
