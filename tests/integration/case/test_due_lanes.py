"""Does somebody's erasure wait behind the evidence of thousands of others?"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from services.case.__main__ import PATIENT, lanes
from services.case.ports import ERASURE, PACK
from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.due import DueItem, DueWorker, schedule
from services.chassis.tasks import end

START = datetime(2026, 1, 1, tzinfo=UTC)


async def test_an_erasure_is_done_while_evidence_waits_to_be_packed(database: Database) -> None:
    packed, erased, never = list[str](), asyncio.Event(), asyncio.Event()

    async def pack(item: DueItem) -> None:
        packed.append(item.entity_id)
        await never.wait()

    async def erase(item: DueItem) -> None:
        erased.set()

    async with database.begin() as session:
        for number in range(40):
            await schedule(session, PACK, f"case {number}", START)
        await schedule(session, ERASURE, "somebody", START)
    workers = [
        asyncio.ensure_future(DueWorker(database, ManualClock(START), lane, poll_ms=20, parallel=1).run())
        for lane in lanes({PACK: pack, ERASURE: erase})
    ]
    await asyncio.wait_for(erased.wait(), 60)
    for worker in workers:
        await end(worker)
    assert len(packed) <= 1


def test_each_kind_of_due_work_is_in_one_lane() -> None:
    async def nothing(item: DueItem) -> None:
        """Not called."""

    patient, prompt = lanes(dict.fromkeys([*PATIENT, ERASURE, "CLOSE"], nothing))
    assert (PATIENT, {ERASURE, "CLOSE"}) == (patient.keys(), prompt.keys())
