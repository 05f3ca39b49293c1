"""How does a service's schema reach its head?

Each service keeps Alembic revisions in `services/<name>/migrations`; its `env.py` calls `run_env(metadata)`.
`migrate` upgrades to head under an advisory lock, so that replicas that start together do it once.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK = 0x4A494B49
"""Advisory lock "JIKI": one migration at a time in a database."""


async def migrate(url: str, migrations: Path) -> None:
    """Upgrades the database at `url` (postgresql+asyncpg) to the head revision of the folder `migrations`."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            await connection.commit()
            await connection.run_sync(_upgrade, migrations)
            await connection.commit()
            await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    finally:
        await engine.dispose()


# Alembic is imported where it is used: it takes a tenth of a service's start, and serving needs none of it.


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.config import Config as AlembicConfig

    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def run_env(metadata: MetaData) -> None:
    """What every `migrations/env.py` does: run the revisions on the connection it was handed."""
    from alembic import context

    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
