"""How does a service open a transaction, and what happens when it commits?

`Database.begin()` is the only way to a session: state, log records and events that were added inside it are
written together, and whoever waits for new rows in this process (relay, due worker) is woken after the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData, Table, insert
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from services.chassis.errors import Aborted, DeadlineExceeded, Unavailable

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

TABLES = MetaData(naming_convention=NAMING)
"""The chassis' own tables, defined beside the code that uses them; `chassis_tables` copies them to a service."""

_PENDING = "jikimi.pending_rows"
_TOPICS = "jikimi.topics"
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


class Database:
    """One service's database."""

    def __init__(self, url: str, *, pool_size: int = 12) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url, pool_size=pool_size, max_overflow=4, pool_pre_ping=False, pool_recycle=1800
        )
        self._waiting: dict[str, list[asyncio.Event]] = {}

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """A session in one transaction: committed at the end, rolled back on any exception."""
        async with AsyncSession(self.engine, expire_on_commit=False, autoflush=False) as session, session.begin():
            yield session
            await _write_pending(session)
            topics: set[str] = session.info.pop(_TOPICS, set())
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()

    @asynccontextmanager
    async def lock_holder(self) -> AsyncIterator[AsyncConnection]:
        """A connection for advisory locks of the session: it is closed at the end, never pooled again, so that
        the locks go with it."""
        async with self.engine.connect() as connection:
            try:
                yield connection
            finally:
                await connection.invalidate()

    def wakeup(self, topic: str) -> asyncio.Event:
        """An event that is set after every commit of this process that named the topic; the waiter clears it."""
        event = asyncio.Event()
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
    pending: dict[Table, list[dict[str, Any]]] = session.info.pop(_PENDING, {})
    for table, rows in pending.items():
        await session.execute(insert(table), rows)


def is_transient(error: BaseException) -> bool:
    """True where trying the same again may help: the connection broke, a deadlock, a peer was unavailable."""
    if isinstance(error, Unavailable | Aborted | DeadlineExceeded | TimeoutError | OSError | PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        return (
            error.connection_invalidated
            or state in _RETRY_STATES
            or isinstance(error, InterfaceError)
            or (isinstance(error, OperationalError) and state is None)
        )
    return False
