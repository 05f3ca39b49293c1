"""What tests against real servers may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import MetaData

from services.chassis.database import Database, chassis_tables

METADATA = MetaData()
chassis_tables(METADATA)


@pytest.fixture
async def database(database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    """An empty database with the tables that every service has, and none of its own."""
    database = Database(database_url("case"))
    async with database.engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    yield database
    await database.close()
