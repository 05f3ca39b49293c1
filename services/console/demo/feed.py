"""How are signals fed: at which pace, and what became of each at the door?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpclib
from grpclib.exceptions import StreamTerminatedError

from jikimi_client.misuse.detector import v1 as detector_api
from services.console.client import Connections, staff
from services.console.demo.corpus import Item

IN_FLIGHT = 32
CALIBRATION = 8
"""Signals that are sent at full speed to learn the capacity: few, so that they do not make the latency of the run."""
SLOWEST = 1.0
"""Signals a second on a machine that was too busy during the calibration to learn anything from it."""
QUIET_SECONDS = 15.0
TRIES = 60


@dataclass
class Fed:
    """An item and the door's answer; `reason` is empty when it was taken in."""

    item: Item
    reason: str = ""
    duplicate: bool = False
    answered: bool = False
    stamped: bool = False


@dataclass
class Feed:
    """Everything that was fed so far."""

    services: Connections
    fed: list[Fed] = field(default_factory=list)
    rate: float = 0.0
    """Signals a second at which it is fed after calibration."""

    async def calibrate(self, items: Sequence[Item], decided: Callable[[Sequence[Fed]], object]) -> None:
        """Feeds the first items at full speed, waits until they are decided, and takes half of that rate."""
        started = time.monotonic()
        await self.send(items[:CALIBRATION], pause=0.0)
        await decided(self.fed)  # type: ignore[misc] # a coroutine function
        self.rate = max(SLOWEST, CALIBRATION / (time.monotonic() - started) / 2)

    async def send(self, items: Sequence[Item], pause: float) -> None:
        """Sends items over one stream, `pause` seconds apart; after a broken stream goes on with what was not
        answered (a repeat of an accepted one is a duplicate at the door and counts once)."""
        rows = [Fed(item) for item in items]
        self.fed += rows
        for _ in range(TRIES):
            open_rows = [row for row in rows if not row.answered]
            if not open_rows:
                return
            try:
                await self._stream(open_rows, pause)
            except (grpclib.GRPCError, StreamTerminatedError, OSError, TimeoutError):
                await asyncio.sleep(0.5)
        raise TimeoutError("the detector did not answer")

    async def _stream(self, rows: Sequence[Fed], pause: float) -> None:
        stub = self.services.stub(
            "detector", detector_api.SignalServiceStub, staff("COLLECTOR", "COLLECTION"), seconds=None
        )
        window = asyncio.Semaphore(IN_FLIGHT)
        answers = stub.submit_signals(_requests(rows, window, pause))
        for row in rows:
            async with asyncio.timeout(QUIET_SECONDS + pause):
                answer = await anext(answers)
            row.answered = True
            row.reason = answer.refusal.reason if answer.refusal else ""
            row.duplicate = answer.duplicate
            window.release()
        await answers.aclose()  # type: ignore[attr-defined] # betterproto returns an async generator


async def _requests(
    rows: Sequence[Fed], window: asyncio.Semaphore, pause: float
) -> AsyncIterator[detector_api.SubmitSignalsRequest]:
    for row in rows:
        await window.acquire()
        signal = row.item.signal
        if not (row.stamped or row.item.refusal or row.item.duplicate):
            # Found now; what is sent again, because nobody answered or on purpose, was found when it was found.
            signal.discover_time, row.stamped = datetime.now(UTC), True
        yield detector_api.SubmitSignalsRequest(signal=signal)
        await asyncio.sleep(pause)
