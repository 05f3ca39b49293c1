"""What every test of notify may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.notify.adapters.rules import load_delivery_rules
from tests.integration.notify.world import World, serving


@pytest.fixture(scope="session")
def database(migrated_url: Callable[[str], str]) -> str:
    """URL of a migrated database; `serving` empties it."""
    return migrated_url("notify")


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
