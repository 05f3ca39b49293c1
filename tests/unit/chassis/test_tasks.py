"""Does a task end that loses a cancellation, and is one that was interrupted tried again soon?"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from services.chassis.tasks import CALM_SECONDS, LONGEST_PAUSE_SECONDS, Pauses, end


async def _loses(cancellations: int) -> None:
    """Runs for ever and drops the first cancellations, as a call of `asyncio.wait_for` may."""
    for _ in range(cancellations):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


@pytest.mark.slow
async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    task = asyncio.create_task(_loses(1))
    await asyncio.sleep(0)
    await end(task)
    assert task.cancelled()


async def test_what_a_task_raised_is_left_in_it() -> None:
    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await end(task)
    assert isinstance(task.exception(), ValueError)


async def test_nothing_to_end_is_no_fault() -> None:
    await end()


def test_pauses_grow_until_it_has_gone_well_for_a_while() -> None:
    pauses = Pauses()
    found = [pauses.after(0.0) for _ in range(10)]
    assert sorted(found) == found
    assert LONGEST_PAUSE_SECONDS == found[-1] == pauses.after(CALM_SECONDS / 2)
    assert found[:3] == [pauses.after(CALM_SECONDS + 1), pauses.after(0.0), pauses.after(0.0)]
