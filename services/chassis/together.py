"""How do pieces of work that run side by side share one transaction?

Whoever comes while a transaction runs waits, and the first of those who wait takes all of them into the next one: its
begin, its statements, its commit and the disk are paid once. Where that fails, each is done alone, and only the one
that is at fault fails. A piece that is called off while it waits is left out; one that is called off while it leads
leaves the others to the next.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

from services.chassis.telemetry import logger

log = logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

MOST = 16
"""Pieces of one transaction."""
STEADY_PIECES, STEADY_SECONDS = 5, 0.5
"""Where so many came within so long, more are coming: a transaction may let them gather for a moment. The first after a
calm is done at once."""


class Left(Enum):
    """What came of a piece that was not done with the others."""

    LEFT = "LEFT"


LEFT = Left.LEFT
"""It has to be done alone: something that it needs is held by somebody else."""


@dataclass(frozen=True)
class Piece(Generic[T]):
    """What somebody wants done, and as part of what."""

    item: T
    _context: contextvars.Context = field(default_factory=contextvars.copy_context, repr=False)

    async def within(self, work: Coroutine[Any, Any, R]) -> R:
        """Does work as whoever asked for it: what it writes belongs to their trace."""
        return await asyncio.create_task(work, context=self._context)


Do = Callable[[Sequence[Piece[T]], bool], Awaitable[Sequence[R | Left]]]
"""Does pieces in one transaction; returns what came of each, in their order. True: the one piece is alone and may wait
for others; it is never LEFT."""


@dataclass
class _Waiting(Generic[T]):
    piece: Piece[T]
    place: asyncio.Future[Any]


class Together(Generic[T]):
    """One queue of pieces of work of one kind; one transaction at a time."""

    def __init__(
        self,
        *,
        most: int = MOST,
        size: Callable[[T], int] = lambda _: 1,
        moment: float = 0.0,
        patient: bool = False,
    ) -> None:
        """`most`: what a transaction may hold, by the `size` of its pieces; one piece may be larger. `moment`: how long
        pieces that come steadily may gather, seconds. `patient`: those that come after a calm gather too."""
        self._most = most
        self._size = size
        self._moment = moment
        self._patient = patient
        self._waiting: list[_Waiting[T]] = []
        self._turn = asyncio.Lock()
        self._came: deque[float] = deque(maxlen=STEADY_PIECES)

    async def __call__(self, item: T, do: Do[T, R]) -> R:
        """Has it done with whatever waits at the same time; all of one queue are done by the same `do`. Raises what
        it raises when it is done alone."""
        mine = _Waiting(Piece(item), asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._came.append(time.monotonic())
        try:
            async with self._turn:
                if not mine.place.done():
                    await self._lead(do)
            result: R | Left = await mine.place
        finally:
            # Called off, it is not waited for.
            mine.place.cancel()
            self._waiting = [each for each in self._waiting if each is not mine]
        if not isinstance(result, Left):
            return result
        # Outside of its turn: nobody waits for one that has to wait for others.
        (alone,) = await do([mine.piece], True)
        assert not isinstance(alone, Left)
        return alone

    async def _lead(self, do: Do[T, R]) -> None:
        """Does what waits, the own piece among it: turns are given in the order of coming."""
        if self._moment and (self._patient or self._steady):
            await asyncio.sleep(self._moment)
        batch = self._batch()
        found: Sequence[R | Left] = [LEFT] * len(batch)
        try:
            found = await do([each.piece for each in batch], False)
        except Exception as error:
            if len(batch) == 1:
                raise
            # Each is done alone now, and the one at fault tells its own caller.
            log.info("not_done_together", pieces=len(batch), error=type(error).__name__)
        for each, result in zip(batch, found, strict=True):
            if not each.place.done():
                each.place.set_result(result)
        self._waiting = [each for each in self._waiting if not each.place.done()]

    def _batch(self) -> list[_Waiting[T]]:
        """The first of those that wait, as many as a transaction may hold."""
        batch: list[_Waiting[T]] = []
        size = 0
        for each in self._waiting:
            size += self._size(each.piece.item)
            if batch and size > self._most:
                break
            batch.append(each)
        return batch

    @property
    def _steady(self) -> bool:
        return len(self._came) == STEADY_PIECES and time.monotonic() - self._came[0] < STEADY_SECONDS
