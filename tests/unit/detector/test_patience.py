"""Does the re-embedding of templates wait for its embedders, and go on soon after they were away?"""

from __future__ import annotations

import asyncio

import pytest

from services.chassis.errors import Unavailable
from services.detector.__main__ import _patiently

AWAY = Unavailable("EMBEDDER_AWAY", "The embedder gives no vectors at the moment.")


class Rounds:
    """What each round does: None ends well."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self._outcomes = list(outcomes)
        self.done = asyncio.Event()
        self.begun = 0

    async def __call__(self) -> None:
        self.begun += 1
        outcome = self._outcomes.pop(0)
        if not self._outcomes:
            self.done.set()
        if outcome is not None:
            raise outcome


async def run(rounds: Rounds, ready: asyncio.Event) -> None:
    """Until the last outcome was had, with an hour between rounds that end well."""
    work = asyncio.create_task(_patiently(rounds, ready.is_set, every=3600, retry=0.01))
    done = asyncio.create_task(rounds.done.wait())
    async with asyncio.timeout(20):
        await asyncio.wait([work, done], return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    done.cancel()
    results = await asyncio.gather(work, done, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


async def test_nothing_is_begun_before_the_embedders_are_ready() -> None:
    rounds, ready = Rounds(None), asyncio.Event()
    work = asyncio.create_task(run(rounds, ready))
    await asyncio.sleep(0.05)
    assert rounds.begun == 0
    ready.set()
    await work
    assert rounds.begun == 1


async def test_what_broke_off_is_repeated_soon_and_not_after_an_hour() -> None:
    rounds, ready = Rounds(AWAY, AWAY, AWAY, None), asyncio.Event()
    ready.set()
    await run(rounds, ready)
    assert rounds.begun == 4


async def test_a_bug_is_no_reason_to_try_again() -> None:
    rounds, ready = Rounds(ValueError("a bug"), None), asyncio.Event()
    ready.set()
    with pytest.raises(ValueError, match="a bug"):
        await run(rounds, ready)
    assert rounds.begun == 1
