"""What tests against real servers may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import MetaData

from services.chassis.database import Database, chassis_tables
from services.console.embedded import Postgres
from tests.integration.databases import migrated_databases

METADATA = MetaData()
chassis_tables(METADATA)


@pytest.fixture(scope="session")
def migrated_url(postgres: Postgres) -> Callable[[str], str]:
    """`migrated_url("case")` is the URL of a database with that service's schema, the same for the whole session; tests
    empty it."""
    return migrated_databases(postgres)


@pytest.fixture
async def database(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    """An empty database with the tables that every service has, and none of its own."""
    database = Database(database_url("case"))
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()
