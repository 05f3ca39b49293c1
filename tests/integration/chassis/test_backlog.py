"""Is what waits in a service seen, also where nothing moves?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, text

from misuse.case.v1.events_pb2 import CaseOpened
from services.chassis.backlog import Backlog
from services.chassis.bus import CURSOR
from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.due import schedule
from services.chassis.outbox import OUTBOX_HEAD, UNPUBLISHED, Outbox
from services.chassis.tasks import end
from tests.metrics_page import value

START = datetime(2026, 1, 1, tzinfo=UTC)


async def test_events_that_nobody_publishes_are_seen(database: Database) -> None:
    outbox = Outbox("case", 2, b"pepper" * 8)
    async with database.begin() as session:
        for number in range(3):
            outbox.event(session, f"s{number}", CaseOpened(case_id=f"c{number}"))
        await session.execute(text("UPDATE outbox SET create_time = create_time - interval '1 hour'"))
        await session.execute(insert(OUTBOX_HEAD).values(partition=0, position=9, published=7))
    async with database.begin() as session:
        await session.execute(text("UPDATE outbox SET create_time = create_time - interval '1 hour'"))
    await Backlog(database, ManualClock(START), []).count()
    assert 5 == value("jikimi_outbox_events")
    assert 7 == value("jikimi_outbox_position", partition="0")
    assert 3600 <= (value("jikimi_outbox_oldest_seconds") or 0)


async def test_due_work_that_nobody_does_is_seen_and_gone_when_done(database: Database) -> None:
    async with database.begin() as session:
        await schedule(session, "PACK_TRIAL", "one", START - timedelta(minutes=5))
        await schedule(session, "PACK_TRIAL", "two", START + timedelta(minutes=5))
    backlog = Backlog(database, ManualClock(START), [])
    await backlog.count()
    assert (1, 300) == (
        value("jikimi_due_overdue", kind="PACK_TRIAL"), value("jikimi_due_oldest_seconds", kind="PACK_TRIAL"),
    )
    async with database.begin() as session:
        await session.execute(text("DELETE FROM due"))
    await backlog.count()
    assert (0, 0) == (
        value("jikimi_due_overdue", kind="PACK_TRIAL"), value("jikimi_due_oldest_seconds", kind="PACK_TRIAL"),
    )


async def test_cursors_of_publishers_that_nobody_follows_any_more_are_not_shown(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(
            insert(CURSOR).values(publisher="gone", partition=0, position=5, stream_id="", stream_seq=0)
        )
    await Backlog(database, ManualClock(START), []).count()
    assert value("jikimi_consumer_position", publisher="gone", partition="0") is None


async def test_a_database_that_is_away_does_not_end_it(database: Database) -> None:
    counted = asyncio.Event()

    async def look(*_: object) -> None:
        counted.set()
        raise ConnectionError

    backlog = Backlog(database, ManualClock(START), [], [look], every_seconds=0.01)
    task = asyncio.create_task(backlog.run())
    before = value("jikimi_backlog_failed_total") or 0
    async with asyncio.timeout(60):
        while (value("jikimi_backlog_failed_total") or 0) < before + 2:
            await counted.wait()
            await asyncio.sleep(0.01)
    assert not task.done()
    await end(task)


async def test_what_is_published_already_is_not_read_again_to_find_what_is_not(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(text(
            "INSERT INTO outbox (partition, event_id, event, entity_ref, payload, traceparent, create_time, position)"
            " SELECT n % 8, 'e' || n, 'case_opened', 'r', '', '', now(), n / 8 FROM generate_series(8, 20007) n"
        ))
        heads = [{"partition": number, "position": 2500, "published": 2499} for number in range(8)]
        await session.execute(insert(OUTBOX_HEAD), heads)
    async with database.begin() as session:
        await session.execute(text("ANALYZE outbox"))
        found = (await session.execute(UNPUBLISHED, {"share": 100})).all()
        plan = (await session.execute(text(f"EXPLAIN {UNPUBLISHED.text}"), {"share": 100})).scalars().all()
    assert [(number, 2500) for number in range(8)] == [(row.partition, row.position) for row in found]
    assert [] == [line for line in plan if "Seq Scan on outbox w" in line]
