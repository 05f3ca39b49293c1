"""How does a service's schema reach its head?

Each service keeps Alembic revisions in `services/<name>/migrations`; its `env.py` calls `run_env(metadata)`.
`migrate` upgrades to head under an advisory lock, so that replicas that start together do it once. A schema that is
newer than the code is left alone: revisions only expand, so that the release before runs on it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, MetaData, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from services.chassis.telemetry import logger

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

log = logger(__name__)

_LOCK = 0x4A494B49
"""Advisory lock "JIKI": one migration at a time in a database."""


async def migrate(url: str, migrations: Path) -> None:
    """Upgrades the database at `url` (postgresql+asyncpg) to the head revision of the folder `migrations`."""
    await _locked(url, partial(_upgrade, migrations=migrations))


async def roll_back(url: str, migrations: Path, revision: str) -> None:
    """Takes back every revision after `revision`, with what was stored in what they added. Raises Alembic's
    CommandError for a revision that is not there. The code of that revision's release is to be started next."""
    await _locked(url, partial(_downgrade, migrations=migrations, revision=revision))


async def revision_of(url: str) -> str:
    """The revision that a database stands at; empty for a database without a schema."""
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_current)
    finally:
        await engine.dispose()


async def _locked(url: str, work: Callable[[Connection], None]) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
            await connection.commit()
            await connection.run_sync(work)
            await connection.commit()
            await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
    finally:
        await engine.dispose()


# Alembic is imported where it is used: it takes a tenth of a service's start, and serving needs none of it.


def _upgrade(connection: Connection, migrations: Path) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection, migrations)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = _current(connection)
    if current and current not in known:
        log.warning("schema_is_newer", revision=current)
        return
    command.upgrade(config, "head")


def _downgrade(connection: Connection, migrations: Path, revision: str) -> None:
    from alembic import command

    command.downgrade(_config(connection, migrations), revision)


def _config(connection: Connection, migrations: Path) -> AlembicConfig:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str:
    from alembic.runtime.migration import MigrationContext

    current = MigrationContext.configure(connection).get_current_revision() or ""
    connection.commit()
    return current


def run_env(metadata: MetaData) -> None:
    """What every `migrations/env.py` does: run the revisions on the connection it was handed."""
    from alembic import context

    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
