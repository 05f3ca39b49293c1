"""What tests of removal ask for: a migrated database, a platform, the service over loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.removal.adapters.ways import Sending
from tests.integration.removal.world import Running, World
from tests.simulators.platform import PlatformSimulator


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformSimulator]:
    """A platform that answers in a moment, also when it hangs."""
    with PlatformSimulator(tmp_path / "platform", hang_s=0.2) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def migrated(migrated_url: Callable[[str], str]) -> str:
    """URL of a migrated database, which `Running` empties."""
    return migrated_url("removal")


@pytest.fixture
async def world(migrated: str, tmp_path: Path, platform: PlatformSimulator) -> AsyncIterator[World]:
    """The service as it runs, sending switched on."""
    async with Running(migrated, tmp_path, platform, Sending(on=True, redirects=platform.endpoints())) as made:
        yield made
