"""How is a task ended that runs for ever, and when is it tried again where it was interrupted?"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_SECONDS = 2.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 2.0
CALM_SECONDS = 60.0
"""Longer than any attempt takes to fail: what went on for so long has gone well."""


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancels tasks and waits until all have ended; what they raise is left in them.

    A task that goes on is cancelled again: before Python 3.12 `asyncio.wait_for`, which the clients of NATS and
    PostgreSQL use, drops a cancellation that comes together with its result (python/cpython#86296), and one `cancel`
    would then be waited for in vain.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)
    # Read, so that asyncio does not report an error that nobody asked for.
    for task in tasks:
        if not task.cancelled():
            task.exception()


class Pauses:
    """How long to wait before what was interrupted is tried again: longer each time, and briefly again once it has gone
    well for a while."""

    def __init__(self) -> None:
        self._next = FIRST_PAUSE_SECONDS

    def after(self, seconds: float) -> float:
        """The pause after an attempt that went on for so long, seconds."""
        pause = FIRST_PAUSE_SECONDS if seconds > CALM_SECONDS else self._next
        self._next = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return pause
