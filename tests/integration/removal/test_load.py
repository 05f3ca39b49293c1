"""Does a service that is killed in the middle of its work file everything, and nothing twice?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.removal import run, stage

pytestmark = pytest.mark.slow


async def test_a_kill_in_mid_flight_loses_no_request_and_files_none_twice(
    database_url: Callable[[str], str], nats_url: str, tmp_path: Path
) -> None:
    async with stage(tmp_path, database_url("removal"), nats_url) as made:
        figures = await run(made, requests=60, rate=20.0, kills=1)
    assert (60, 0, 0, []) == (figures.requests, figures.twice, figures.lost, figures.too_fast)
    # A mail that was under way when the service died is for a person; everything else has been filed.
    assert figures.at_platforms >= 60 - figures.states.get("UNCERTAIN", 0)
