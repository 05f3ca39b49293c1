"""Do bulk writes store what rows say, whatever a column holds, in the order they were given?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSON

from services.chassis.database import Database, Rows, add_later, insert_rows, update_rows, write_together

METADATA = MetaData()
ROWS = Table(
    "order",  # a reserved word, as "case" is
    METADATA,
    Column("seq", BigInteger, Identity(), primary_key=True),
    Column("name", Text, unique=True),
    Column("words", ARRAY(Text)),
    Column("numbers", ARRAY(SmallInteger)),
    Column("data", LargeBinary),
    Column("at", DateTime(timezone=True)),
    Column("document", JSON),
)
LINES = Table(
    "line",
    METADATA,
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("text", Text),
    Column("name", Text, ForeignKey("order.name")),
)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ODD_WORDS = ["", "a,b", '"{}"', "NULL", "back\\slash", "김하나", ":name", "%(name)s", "::"]


def row(name: str, **values: Any) -> dict[str, Any]:
    usual = {"words": [], "numbers": [], "data": None, "at": NOW, "document": {"b": [1], "a": None}}
    return {"name": name} | usual | values


@pytest.fixture
async def database(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    database = Database(database_url("case"))
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()


async def stored(database: Database) -> list[dict[str, Any]]:
    async with database.begin() as session:
        found = (await session.execute(select(ROWS).order_by(ROWS.c.seq))).mappings()
        return [{name: value for name, value in one.items() if name != "seq"} for one in found]


async def test_what_was_inserted_is_what_is_read_in_order(database: Database) -> None:
    rows = [
        row("plain"),
        row("odd", words=ODD_WORDS, numbers=[3, -1, 32767], data=b"\x00\xff'\\"),
        row("later", at=NOW + timedelta(microseconds=1)),
        *(row(f"many {n}", words=[str(n)] * (n % 3)) for n in range(500)),
    ]
    async with database.begin() as session:
        await insert_rows(session, ROWS, rows)
    assert rows == await stored(database)


@pytest.mark.parametrize("texts", [ODD_WORDS, [*ODD_WORDS, None, "{NULL}"]])
async def test_a_text_is_stored_as_it_is(database: Database, texts: list[str | None]) -> None:
    async with database.begin() as session:
        await insert_rows(session, LINES, [{"text": text} for text in texts])
    async with database.begin() as session:
        assert texts == list(await session.scalars(select(LINES.c.text).order_by(LINES.c.number)))


async def test_a_text_that_the_database_cannot_hold_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="NUL"):
        async with database.begin() as session:
            await insert_rows(session, LINES, [{"text": "one"}, {"text": "t\0wo"}])


async def test_no_rows_are_no_statement(database: Database) -> None:
    async with database.begin() as session:
        await insert_rows(session, ROWS, [])
        await update_rows(session, ROWS, "name", [])
    assert [] == await stored(database)


async def test_a_conflict_does_what_the_caller_says(database: Database) -> None:
    async with database.begin() as session:
        await insert_rows(session, ROWS, [row("one", data=b"old")])
        await insert_rows(session, ROWS, [row("one", data=b"new"), row("two")], "DO NOTHING")
    assert [b"old", None] == [one["data"] for one in await stored(database)]
    async with database.begin() as session:
        await insert_rows(session, ROWS, [row("one", data=b"new")], "(name) DO UPDATE SET data = excluded.data")
    assert [b"new", None] == [one["data"] for one in await stored(database)]


async def test_an_update_changes_the_named_columns_of_the_named_rows(database: Database) -> None:
    async with database.begin() as session:
        await insert_rows(session, ROWS, [row("one", data=b"1"), row("two", data=b"2"), row("three", data=b"3")])
        changes = [
            {"name": "three", "words": ODD_WORDS, "numbers": [7]},
            {"name": "one", "words": [], "numbers": [1, 2]},
            {"name": "nobody", "words": [], "numbers": []},
        ]
        await update_rows(session, ROWS, "name", changes)
    expected = [
        row("one", data=b"1", numbers=[1, 2]),
        row("two", data=b"2"),
        row("three", data=b"3", words=ODD_WORDS, numbers=[7]),
    ]
    assert expected == sorted(await stored(database), key=lambda one: ["one", "two", "three"].index(one["name"]))


async def test_rows_of_several_tables_are_written_with_one_statement(database: Database) -> None:
    async with database.begin() as session:
        await insert_rows(session, ROWS, [row("old")])
    async with database.begin() as session:
        add_later(session, LINES, {"text": "later"})
        await write_together(
            session,
            [Rows(ROWS, [row("new", words=ODD_WORDS), row("old")], "(name) DO UPDATE SET words = ARRAY['again']")],
        )
        # The server numbers the commands of a transaction; all rows, the old one too, have the version of the same.
        commands = text('SELECT cmin::text FROM "order" UNION SELECT cmin::text FROM line')
        assert 1 == len((await session.scalars(commands)).all())
    async with database.begin() as session:
        assert ["later"] == list((await session.execute(select(LINES.c.text))).scalars())
    assert [("old", ["again"]), ("new", ODD_WORDS)] == [(one["name"], one["words"]) for one in await stored(database)]


async def test_what_refers_to_a_row_of_the_same_statement_is_accepted(database: Database) -> None:
    async with database.begin() as session:
        lines = Rows(LINES, [{"text": "hello", "name": "parent"}])
        await write_together(session, [lines, Rows(ROWS, [row("parent")])])
    assert ["parent"] == [one["name"] for one in await stored(database)]


async def test_a_table_that_is_written_now_and_later_is_written_twice(database: Database) -> None:
    async with database.begin() as session:
        add_later(session, LINES, {"text": "second"})
        await write_together(session, [Rows(LINES, [{"text": "first"}])])
    async with database.begin() as session:
        query = select(LINES.c.text).order_by(LINES.c.number)
        assert ["first", "second"] == list((await session.execute(query)).scalars())
