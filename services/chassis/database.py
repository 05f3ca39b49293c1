"""How does a service open a transaction, and what happens when it commits?

`Database.begin()` is the only way to a session: state, log records and events that were added inside it are
written together, and whoever waits for new rows in this process (relay, due worker) is woken after the commit.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import ARRAY, JSON, MetaData, String, Table, Text, TextClause, bindparam, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeEngine

from services.chassis.errors import Aborted, DeadlineExceeded, Unavailable
from services.chassis.straight import StraightSession

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

TABLES = MetaData(naming_convention=NAMING)
"""The chassis' own tables, defined beside the code that uses them; `chassis_tables` copies them to a service."""

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call] # the class is untyped
_PENDING = "jikimi.pending_rows"
_TOPICS = "jikimi.topics"
_Shape = tuple[Table, tuple[str, ...], str, str]
"""Table, columns, ON CONFLICT, key: see Rows."""
_RETRY_STATES = frozenset({"40001", "40P01", "55P03", "57P01", "57P02", "57P03", "53300", "53100"})
"""serialization, deadlock, lock timeout, server shutdown or start, too many connections, disk full."""


def new_base() -> type[DeclarativeBase]:
    """A declarative base of a service, with the chassis' naming of constraints."""

    class Base(DeclarativeBase):
        metadata = MetaData(naming_convention=NAMING)

    return Base


def chassis_tables(metadata: MetaData) -> None:
    """Copies the chassis' tables into a service's metadata, so that its migrations contain them."""
    # Imported for their tables: the modules register them in TABLES when loaded, and they import this one.
    from services.chassis import bus, dead_letters, due, outbox  # noqa: F401
    from services.chassis.idempotency import request_memory_table

    request_memory_table(metadata)
    for table in TABLES.sorted_tables:
        if table.name not in metadata.tables:
            table.to_metadata(metadata)


def table_of(row: type[DeclarativeBase]) -> Table:
    """The Core table of a row class: bulk statements need no objects."""
    found = row.__table__
    assert isinstance(found, Table)
    return found


class Database:
    """One service's database."""

    def __init__(self, url: str, *, pool_size: int = 12) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=4,
            pool_pre_ping=False,
            pool_recycle=1800,
            # The connection used last knows its statements and their plans: few are kept warm instead of all by turns.
            pool_use_lifo=True,
        )
        self._waiting: dict[str, list[asyncio.Event]] = {}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed at the end, rolled back on any exception."""
        async with StraightSession(self.engine, expire_on_commit=False, autoflush=False) as session, session.begin():
            yield session
            await _write_pending(session)
            topics: set[str] = session.info.pop(_TOPICS, set())
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    async def ping(self) -> None:
        """Asks for nothing. Raises the driver's error where the database does not answer."""
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    @asynccontextmanager
    async def lock_holder(self) -> AsyncIterator[AsyncConnection]:
        """A connection for advisory locks of the session: it is closed at the end, never pooled again, so that
        the locks go with it. Each statement on it is a transaction of its own."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            try:
                yield connection
            finally:
                await connection.invalidate()

    def wakeup(self, *topics: str) -> asyncio.Event:
        """An event that is set after every commit of this process that named a topic of these; the waiter clears it."""
        event = asyncio.Event()
        for topic in topics:
            self._waiting.setdefault(topic, []).append(event)
        return event

    async def close(self) -> None:
        """Closes all connections."""
        await self.engine.dispose()


def add_later(session: AsyncSession, table: Table, row: dict[str, Any]) -> None:
    """Adds a row that is written in bulk just before the transaction commits."""
    session.info.setdefault(_PENDING, {}).setdefault(table, []).append(row)
    wake_after_commit(session, table.name)


def wake_after_commit(session: AsyncSession, topic: str) -> None:
    """Wakes whoever waits for a topic, once the transaction has committed."""
    session.info.setdefault(_TOPICS, set()).add(topic)


async def _write_pending(session: AsyncSession) -> None:
    await session.flush()
    await write_together(session, ())


@dataclass(frozen=True)
class Rows:
    """Rows of one table that are to be written. All have the columns of the first."""

    table: Table
    rows: Sequence[Mapping[str, Any]]
    on_conflict: str = ""
    """The SQL after ON CONFLICT, of rows that are inserted."""
    key: str = ""
    """A column: the rows that have these keys are updated; empty: the rows are inserted. No key may come twice."""

    @property
    def shape(self) -> _Shape:
        """What the statement depends on."""
        return self.table, tuple(self.rows[0]), self.on_conflict, self.key


async def write_together(session: AsyncSession, parts: Sequence[Rows]) -> None:
    """Writes rows of several tables, and what was added for later, with one statement: a statement costs more than what
    it writes. No row may come twice in `parts`; what refers to rows of another part is checked at the end."""
    pending: dict[Table, list[dict[str, Any]]] = session.info.pop(_PENDING, {})
    named = {part.table for part in parts}
    later = [Rows(table, rows) for table, rows in pending.items()]
    first = (*parts, *(part for part in later if part.table not in named))
    await _write(session, [part for part in first if part.rows])
    await _write(session, [part for part in later if part.table in named])


async def _write(session: AsyncSession, parts: Sequence[Rows]) -> None:
    if not parts:
        return
    values: dict[str, Any] = {}
    for number, part in enumerate(parts):
        table, columns, _, _ = part.shape
        values |= _columns_of(table, columns, part.rows, _prefix(number))
    await session.execute(_statement(tuple(part.shape for part in parts)), values)


async def insert_rows(
    session: AsyncSession, table: Table, rows: Sequence[Mapping[str, Any]], on_conflict: str = ""
) -> None:
    """Inserts rows in their order with one statement, however many they are: a column is one array parameter, which
    costs a fraction of binding and executing row by row. All rows have the columns of the first. `on_conflict` is
    the SQL after ON CONFLICT."""
    if rows:
        await _write(session, [Rows(table, rows, on_conflict)])


async def update_rows(session: AsyncSession, table: Table, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Updates the rows that have the keys with one statement. All rows have the columns of the first, `key` among
    them; no key may come twice."""
    if rows:
        await _write(session, [Rows(table, rows, key=key)])


def _columns_of(
    table: Table, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], prefix: str
) -> dict[str, Any]:
    return {prefix + name: _parameter(table, name, [row[name] for row in rows]) for name in columns}


def _parameter(table: Table, name: str, values: list[Any]) -> Any:
    # An array of arrays must be rectangular: what is an array itself travels as JSON.
    if isinstance(table.c[name].type, ARRAY):
        values = [json.dumps(item) for item in values]
    return _literal(values) if _is_text(table, name) else values


def _literal(texts: list[str | None]) -> str:
    """Texts as PostgreSQL writes an array. The driver would look at each of them three times; this goes over all of
    them at once. Raises ValueError for a text that PostgreSQL cannot hold."""
    if None in texts:
        return "{" + ",".join("NULL" if text is None else _literal([text])[1:-1] for text in texts) + "}"
    # A NUL parts them: no text in the database may hold one.
    joined = "\0".join(cast("list[str]", texts))
    if joined.count("\0") != len(texts) - 1:
        raise ValueError("a text holds a NUL")
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'


def _prefix(number: int) -> str:
    """What keeps the parameters of the parts of one statement apart."""
    return f"w{number}_" if number else ""


# There are as many statements as places in the code that write in bulk, times what they may happen to write.


@lru_cache(maxsize=1024)
def _statement(shapes: tuple[_Shape, ...]) -> TextClause:
    """The statement that writes these parts: the last one is its own, those before are its WITH."""
    words = [_words(shape, _prefix(number)) for number, shape in enumerate(shapes)]
    before = ", ".join(f"w{number} AS ({each})" for number, each in enumerate(words[:-1]))
    # The words say the type of each parameter, and the driver writes its items as they are; all but documents.
    types = {
        _prefix(number) + name: ARRAY(kind, dimensions=1)
        for number, (table, columns, _, _) in enumerate(shapes)
        for name in columns
        if isinstance(kind := table.c[name].type, JSON)
    }
    statement = text(f"WITH {before} {words[-1]}" if before else words[-1])
    return statement.bindparams(*(bindparam(name, type_=kind) for name, kind in types.items()))


def _words(shape: _Shape, prefix: str) -> str:
    table, columns, on_conflict, key = shape
    source, values = _unnested(table, columns, prefix)
    if key:
        changes = ", ".join(f"{_quote(name)} = {value}" for name, value in values.items() if name != key)
        return f"UPDATE {_quote(table.name)} AS t SET {changes} FROM {source} WHERE t.{_quote(key)} = v.{_quote(key)}"
    words = f"INSERT INTO {_quote(table.name)} ({', '.join(map(_quote, columns))}) SELECT {', '.join(values.values())}"
    conflict = f" ON CONFLICT {on_conflict}" if on_conflict else ""
    return f"{words} FROM {source} ORDER BY v.nth{conflict}"


def _unnested(table: Table, columns: Sequence[str], prefix: str) -> tuple[str, Mapping[str, str]]:
    """(a relation v of the parameters, column → its value in v)."""
    values = {name: f"v.{_quote(name)}" for name in columns}
    for name in columns:
        if isinstance(kind := table.c[name].type, ARRAY):
            items = f"ARRAY(SELECT jsonb_array_elements_text(CAST({values[name]} AS jsonb)))"
            values[name] = f"CAST({items} AS {kind.compile(_DIALECT)})"
    given = []
    for name in columns:
        parameter = f"CAST(:{prefix}{name} AS text)" if _is_text(table, name) else f":{prefix}{name}"
        given.append(f"CAST({parameter} AS {_item_type(table, name).compile(_DIALECT)}[])")
    return f"unnest({', '.join(given)}) WITH ORDINALITY AS v ({', '.join(map(_quote, columns))}, nth)", values


def _item_type(table: Table, name: str) -> TypeEngine[Any]:
    kind = table.c[name].type
    return Text() if isinstance(kind, ARRAY) else kind


def _is_text(table: Table, name: str) -> bool:
    """Whether the items of its parameter are texts."""
    return isinstance(_item_type(table, name), String)


def _quote(name: str) -> str:
    return _DIALECT.identifier_preparer.quote(name)


def is_transient(error: BaseException) -> bool:
    """True where trying the same again may help: the connection broke, a deadlock, a peer was unavailable, a table has
    changed since the statement was prepared."""
    if isinstance(error, Unavailable | Aborted | DeadlineExceeded | TimeoutError | OSError | PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        return (
            error.connection_invalidated
            or state in _RETRY_STATES
            or isinstance(error, InterfaceError)
            or isinstance(error.orig, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError)
            or (isinstance(error, OperationalError) and state is None)
        )
    return False
