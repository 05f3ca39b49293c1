"""Is due work done once its time has come, and not lost when it is scheduled again meanwhile?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.due import DUE, DueHandler, DueItem, DueWorker, cancel, schedule
from services.chassis.errors import Unavailable
from services.chassis.tasks import end

START = datetime(2026, 1, 1, tzinfo=UTC)


async def _run(database: Database, clock: ManualClock, handler: DueHandler, seconds: float = 0.6) -> None:
    worker = DueWorker(database, clock, {"PACK": handler}, poll_ms=20)
    task = asyncio.ensure_future(worker.run())
    await asyncio.sleep(seconds)
    assert not task.done() or task.exception() is None
    await end(task)


async def _schedule(database: Database, entity: str, due_time: datetime) -> None:
    async with database.begin() as session:
        await schedule(session, "PACK", entity, due_time)


async def _left(database: Database) -> int:
    async with database.begin() as session:
        return await session.scalar(select(func.count()).select_from(DUE)) or 0


async def test_seventy_two_hours_pass_in_milliseconds(database: Database) -> None:
    clock, done = ManualClock(START), list[str]()

    async def handler(item: DueItem) -> None:
        done.append(item.entity_id)

    await _schedule(database, "now", START)
    await _schedule(database, "later", START + timedelta(hours=72))
    await _run(database, clock, handler, 0.3)
    assert done == ["now"]
    clock.advance(timedelta(hours=72))
    await _run(database, clock, handler, 0.3)
    assert done == ["now", "later"]
    assert await _left(database) == 0


async def test_scheduling_twice_is_one_row_at_the_earlier_time(database: Database) -> None:
    await _schedule(database, "a", START + timedelta(hours=2))
    await _schedule(database, "a", START + timedelta(hours=1))
    await _schedule(database, "a", START + timedelta(hours=3))
    async with database.begin() as session:
        rows = (await session.execute(select(DUE.c.due_time))).all()
    assert [row.due_time for row in rows] == [START + timedelta(hours=1)]


async def test_work_scheduled_while_it_runs_is_run_again(database: Database) -> None:
    runs = list[int]()

    async def handler(item: DueItem) -> None:
        runs.append(item.generation)
        if len(runs) == 1:
            await _schedule(database, item.entity_id, START)

    await _schedule(database, "a", START)
    await _run(database, ManualClock(START), handler)
    assert runs == [1, 2]
    assert await _left(database) == 0


@pytest.mark.slow
async def test_a_failed_job_is_tried_again(database: Database) -> None:
    runs = list[int]()

    async def handler(item: DueItem) -> None:
        runs.append(item.attempts)
        if len(runs) < 3:
            raise Unavailable("PEER_AWAY", "The peer is away.")

    await _schedule(database, "a", START)
    await _run(database, ManualClock(START), handler, 1.5)
    assert runs == [0, 1, 2]
    assert await _left(database) == 0


async def test_cancelled_work_is_not_done(database: Database) -> None:
    done = list[str]()

    async def handler(item: DueItem) -> None:
        done.append(item.entity_id)

    await _schedule(database, "a", START)
    async with database.begin() as session:
        await cancel(session, "PACK", "a")
    await _run(database, ManualClock(START), handler, 0.2)
    assert done == []


async def test_work_that_hangs_holds_up_nothing_but_its_own_place(database: Database) -> None:
    hangs, rest = asyncio.Event(), asyncio.Event()
    done = list[str]()

    async def handler(item: DueItem) -> None:
        if item.entity_id == "hangs":
            await hangs.wait()
        done.append(item.entity_id)
        if len(done) == 50:
            rest.set()

    for entity in ("hangs", *map(str, range(50))):
        await _schedule(database, entity, START if entity == "hangs" else START + timedelta(seconds=1))
    clock = ManualClock(START + timedelta(minutes=1))
    task = asyncio.ensure_future(DueWorker(database, clock, {"PACK": handler}, poll_ms=20, parallel=2).run())
    try:
        await asyncio.wait_for(rest.wait(), 60)
        assert "hangs" not in done
    finally:
        hangs.set()
        await end(task)
