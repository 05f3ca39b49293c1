"""Whether the migrations make the tables that the code expects."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from services.detector.adapters.tables import Base


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


async def test_migrations_make_the_tables_of_the_code(migrated):
    engine = create_async_engine(migrated, poolclass=NullPool)
    async with engine.connect() as connection:
        assert [] == await connection.run_sync(differences)
    await engine.dispose()
