"""What every test of the gate may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def database(migrated_url: Callable[[str], str]) -> str:
    """URL of a migrated database, which every world empties."""
    return migrated_url("gate")
