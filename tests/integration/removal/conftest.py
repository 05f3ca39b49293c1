"""What tests of removal ask for: a migrated database, a platform, the service over loopback."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.chassis.migration import migrate
from services.console.embedded import Postgres
from services.removal.__main__ import MIGRATIONS
from services.removal.adapters.ways import Sending
from tests.integration.removal.world import Running, World
from tests.simulators.platform import PlatformSimulator


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformSimulator]:
    """A platform that answers in a moment, also when it hangs."""
    with PlatformSimulator(tmp_path / "platform", hang_s=0.2) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def migrated(postgres: Postgres) -> Iterator[str]:
    """URL of one migrated database, which every test empties: migrating takes longer than a test."""
    name = f"test_{uuid.uuid4().hex}"
    postgres.sql(f'CREATE DATABASE "{name}" OWNER "removal" TEMPLATE template0;')
    url = postgres.url("removal", name)
    asyncio.run(migrate(url, MIGRATIONS))
    yield url
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE);')


@pytest.fixture
async def world(migrated: str, tmp_path: Path, platform: PlatformSimulator) -> AsyncIterator[World]:
    """The service as it runs, sending switched on."""
    async with Running(migrated, tmp_path, platform, Sending(on=True, redirects=platform.endpoints())) as made:
        yield made
