"""Do the migrations make the tables that the code expects?"""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from services.case.adapters.tables import Base
from services.chassis.database import Database


async def test_the_migrations_end_where_the_tables_are(case_database: str) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)

    database = Database(case_database)
    async with database.engine.connect() as connection:
        found = await connection.run_sync(differences)
    await database.close()
    assert [] == found
