"""One migrated database of each service for a whole session: making one takes longer than a test, emptying one takes a
few milliseconds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.chassis.database import Database
from services.chassis.migration import migrate
from services.console.embedded import Postgres

ROOT = Path(__file__).parents[2]
_RESTART = text(
    "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences"
    " WHERE last_value IS NOT NULL"
)


def migrated_databases(postgres: Postgres) -> Callable[[str], str]:
    """`url = migrated_databases(postgres); url("case")` is the URL of that service's database; it goes with the
    cluster."""

    @cache
    def url(service: str) -> str:
        name = f"test_{service}_{uuid.uuid4().hex}"
        postgres.sql(f'CREATE DATABASE "{name}" OWNER "{service}" TEMPLATE template0;')
        made = postgres.url(service, name)
        # In a thread, because the loop of the tests must stay the one of this thread.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, migrate(made, ROOT / "services" / service / "migrations")).result()
        return made

    return url


def connected(url: str) -> Database:
    """The database at an address, for a test that closes it. What was compiled of its statements for one test serves
    the next."""
    database = Database(url)
    database.engine = _engine(url)
    return database


@cache
def _engine(url: str) -> AsyncEngine:
    return Database(url).engine


async def empty(database: Database, tables: Iterable[Table]) -> None:
    """Leaves these tables as a migration makes them. Only those that have rows are emptied: to PostgreSQL emptying is
    making the files anew."""
    async with database.begin() as session:
        looks = (f"SELECT '\"{table.name}\"' WHERE EXISTS (SELECT FROM \"{table.name}\")" for table in tables)
        if used := list(await session.scalars(text(" UNION ALL ".join(looks)))):
            await session.execute(text(f"TRUNCATE {', '.join(used)} CASCADE"))
        await session.execute(_RESTART)
