"""What every test of notify may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.ids import uuid7
from services.chassis.migration import migrate
from services.console.embedded import Postgres
from services.notify.__main__ import MIGRATIONS
from services.notify.adapters.rules import load_delivery_rules
from tests.integration.notify.world import World, serving


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> Iterator[str]:
    """One migrated database for the module; `empty` clears it between tests."""
    name = f"test_notify_{uuid7()}"
    postgres.sql(f'CREATE DATABASE "{name}" OWNER "notify" TEMPLATE template0;')
    url = postgres.url("notify", name)
    # In a thread, because the loop of the tests must stay the one of this thread.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, migrate(url, MIGRATIONS)).result()
    yield url
    postgres.sql(f'DROP DATABASE "{name}" WITH (FORCE);')


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The service on an empty database."""
    async with serving(database, tmp_path, load_delivery_rules(None, "test")) as made:
        yield made


@pytest.fixture
async def narrow_world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """The same with at most two notifications in flight."""
    rules = replace(load_delivery_rules(None, "test"), max_in_flight=2)
    async with serving(database, tmp_path, rules) as made:
        yield made
