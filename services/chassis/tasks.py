"""How is a task ended that runs for ever?"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_SECONDS = 2.0


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
