"""Is a repeated request recognised, whoever else does the same at once?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import MetaData, select

from misuse.ops.v1.ops_pb2 import ListDeadLettersRequest
from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.errors import AlreadyExists, InvalidInput
from services.chassis.idempotency import RequestMemory, request_memory_table

METHOD = "/misuse.ops.v1.OpsService/ListDeadLetters"
REQUEST = ListDeadLettersRequest(page_size=1)
OTHER = ListDeadLettersRequest(page_size=2)


@pytest.fixture
async def db(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    database = Database(database_url("case"))
    metadata = MetaData()
    request_memory_table(metadata)
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield database
    await database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def memory(clock: ManualClock) -> RequestMemory:
    return RequestMemory(bytes(32), clock)


async def do(
    db: Database,
    memory: RequestMemory,
    resource_id: str,
    request: ListDeadLettersRequest = REQUEST,
    caller: str = "app",
    request_id: str = "r-1",
) -> str:
    """What a handler does: look, act, remember."""
    async with db.begin() as session:
        done = await memory.recall(session, caller, METHOD, request_id, request)
        if done is not None:
            return done
        await memory.remember(session, caller, METHOD, request_id, request, resource_id)
        return resource_id


async def test_a_repeat_gets_the_first_resource(db: Database, memory: RequestMemory) -> None:
    assert await do(db, memory, "first") == "first"
    assert await do(db, memory, "second") == "first"


async def test_another_caller_or_another_id_is_another_request(db: Database, memory: RequestMemory) -> None:
    assert await do(db, memory, "a") == "a"
    assert await do(db, memory, "b", caller="desk") == "b"
    assert await do(db, memory, "c", request_id="r-2") == "c"


async def test_the_same_id_with_another_body_is_refused(db: Database, memory: RequestMemory) -> None:
    await do(db, memory, "first")
    with pytest.raises(AlreadyExists) as caught:
        await do(db, memory, "second", request=OTHER)
    assert caught.value.reason == "REQUEST_ID_REUSED"


async def test_a_request_that_failed_is_not_remembered(db: Database, memory: RequestMemory) -> None:
    with pytest.raises(RuntimeError):
        async with db.begin() as session:
            await memory.remember(session, "app", METHOD, "r-1", REQUEST, "lost")
            raise RuntimeError
    assert await do(db, memory, "found", request=OTHER) == "found"


async def test_equal_requests_at_once_are_done_once(db: Database, memory: RequestMemory) -> None:
    answers = await asyncio.gather(*(do(db, memory, f"resource-{number}") for number in range(8)))
    assert len(set(answers)) == 1


async def test_after_seven_days_it_is_forgotten(
    db: Database, memory: RequestMemory, clock: ManualClock
) -> None:
    await do(db, memory, "first")
    clock.advance(timedelta(days=7))
    assert await do(db, memory, "second", request=OTHER) == "second"
    clock.advance(timedelta(days=7))
    async with db.begin() as session:
        await memory.purge(session)
        left = await session.execute(select(request_memory_table(MetaData()).c.resource_id))
        assert left.all() == []


async def test_the_table_holds_no_caller_and_no_request(db: Database, memory: RequestMemory) -> None:
    await do(db, memory, "resource-1", caller="subscriber-77", request_id="request-88")
    async with db.begin() as session:
        (row,) = (await session.execute(select(request_memory_table(MetaData())))).all()
    assert b"subscriber-77" not in row.request_key + row.fingerprint
    assert row.resource_id == "resource-1"


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "한글"])
async def test_a_request_id_has_bounds(db: Database, memory: RequestMemory, request_id: str) -> None:
    with pytest.raises(InvalidInput):
        await do(db, memory, "first", request_id=request_id)
