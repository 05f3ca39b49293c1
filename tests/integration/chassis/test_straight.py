"""Is a text on the short way to the driver what it would be on the long one?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import ARRAY, JSON, bindparam, text
from sqlalchemy.exc import DBAPIError, IntegrityError, NotSupportedError

from services.chassis.database import Database, is_transient

KEEP = text("INSERT INTO thing (name) VALUES (:name) RETURNING name, length(name) AS size")
COUNT = text("SELECT count(*) FROM thing")


@pytest.fixture
async def database(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    database = Database(database_url("case"))
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE thing (name text PRIMARY KEY)"))
    yield database
    await database.close()


async def test_a_result_is_read_like_any_other(database: Database) -> None:
    async with database.begin() as session:
        row = (await session.execute(KEEP, {"name": "four"})).one()
        assert ("four", 4) == (row.name, row.size) == tuple(row)
        assert {"name": "four", "size": 4} == dict(row._mapping)
        assert 1 == await session.scalar(COUNT)
        assert ["four"] == (await session.scalars(text("SELECT name FROM thing"))).all()
        assert (await session.execute(text("SELECT 1 WHERE false"))).one_or_none() is None
        deleted = await session.execute(text("DELETE FROM thing WHERE name = 'none'"))
        assert ([], False) == (deleted.all(), deleted.returns_rows)


async def test_a_parameter_may_come_twice_and_may_say_its_type(database: Database) -> None:
    query = text("SELECT CAST(:a AS text) || CAST(:a AS text) AS twice, CAST(:b AS jsonb[])::text AS documents")
    typed = query.bindparams(bindparam("b", type_=ARRAY(JSON)))
    async with database.begin() as session:
        row = (await session.execute(typed, {"a": "x", "b": [{"k": "v"}, None]})).one()
    assert ("xx", r'{"{\"k\": \"v\"}",NULL}') == tuple(row) or ("xx", r'{"{\"k\": \"v\"}","null"}') == tuple(row)


async def test_a_text_may_bring_its_values(database: Database) -> None:
    async with database.begin() as session:
        bound = text("SELECT CAST(:a AS text) AS one").bindparams(a="x")
        assert "x" == await session.scalar(bound)
        assert ["x"] == (await session.scalars(bound)).all()
        assert ("x",) == tuple((await session.execute(bound)).one())


async def test_it_commits_and_rolls_back_with_its_transaction(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(KEEP, {"name": "kept"})
    with pytest.raises(RuntimeError):
        async with database.begin() as session:
            await session.execute(KEEP, {"name": "lost"})
            raise RuntimeError
    async with database.begin() as session:
        assert 1 == await session.scalar(COUNT)


async def test_an_error_is_the_one_of_the_long_way(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(KEEP, {"name": "once"})
    with pytest.raises(IntegrityError) as caught:
        async with database.begin() as session:
            await session.execute(KEEP, {"name": "once"})
    assert "23505" == getattr(caught.value.orig, "sqlstate", None)
    assert not is_transient(caught.value)
    assert "parameters: " not in str(caught.value)


async def test_a_connection_that_broke_is_a_passing_trouble_and_is_put_away(database: Database) -> None:
    with pytest.raises(DBAPIError) as caught:
        async with database.begin() as session:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert is_transient(caught.value)
    async with database.begin() as session:
        assert 0 == await session.scalar(COUNT)


async def test_what_was_prepared_for_a_table_that_has_changed_is_prepared_anew(database: Database) -> None:
    query = text("SELECT * FROM thing")
    async with database.begin() as session:
        await session.execute(KEEP, {"name": "one"})
        assert [("one",)] == (await session.execute(query)).all()
    async with database.begin() as session:
        await session.execute(text("ALTER TABLE thing ADD COLUMN size int"))
    with pytest.raises(NotSupportedError) as caught:
        async with database.begin() as session:
            await session.execute(query)
    assert is_transient(caught.value)
    async with database.begin() as session:
        assert [("one", None)] == (await session.execute(query)).all()


async def test_whoever_is_called_off_leaves_no_connection_in_use(database: Database) -> None:
    async def sleep() -> None:
        async with database.begin() as session:
            await session.execute(KEEP, {"name": "half"})
            await session.execute(text("SELECT pg_sleep(60)"))

    for _ in range(20):
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with database.begin() as session:
        assert 0 == await session.scalar(COUNT)
