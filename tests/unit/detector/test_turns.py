"""In which order the workers of a lane take batches, and when there is a turn at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from services.detector.handlers.deciding import Lane, Turns
from services.detector.ports import SpooledSignal

LANE = Lane(pictures=False, most=4, together=4, gather_seconds=0.1)


def rows(count: int, attempts: int = 0) -> list[SpooledSignal]:
    return [SpooledSignal(b"ref", "key", b"sealed", False, "", at, attempts) for at in range(count)]


async def take(turns: Turns, found: Sequence[SpooledSignal]) -> float:
    """Takes one turn that finds these; how long it came to wait for it, seconds."""
    begun = time.monotonic()
    async with turns.mine():
        turns.took(found)
    return time.monotonic() - begun


async def has_turn(turns: Turns) -> bool:
    """Whether somebody has a turn soon."""
    try:
        async with asyncio.timeout(0.3):
            await take(turns, ())
    except TimeoutError:
        return False
    return True


async def test_what_one_worker_took_no_other_looks_for_until_more_is_spooled():
    wakeup = asyncio.Event()
    turns = Turns(LANE, wakeup)
    await take(turns, rows(3))
    assert not await has_turn(turns)
    wakeup.set()
    assert await has_turn(turns)


async def test_after_a_batch_of_several_the_next_one_gathers_and_after_a_single_signal_it_does_not():
    wakeup = asyncio.Event()
    turns = Turns(LANE, wakeup)
    await take(turns, rows(1))
    wakeup.set()
    assert await take(turns, rows(2)) < LANE.gather_seconds / 2
    wakeup.set()
    assert await take(turns, ()) > LANE.gather_seconds / 2


async def test_a_full_batch_and_one_that_failed_before_leave_something_to_look_for():
    for found in (rows(4), rows(1, attempts=1)):
        turns = Turns(LANE, asyncio.Event())
        await take(turns, found)
        assert await has_turn(turns)


async def test_what_was_given_back_is_looked_for():
    turns = Turns(LANE, asyncio.Event())
    await take(turns, rows(2))
    turns.again()
    assert await has_turn(turns)
