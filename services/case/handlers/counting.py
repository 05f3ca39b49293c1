"""How many cases are there, without counting all of them for everybody who asks?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.case.ports import Statistics, Units

FRESH_SECONDS = 5.0
"""Counts of all subscribers serve everybody who asks within this time: counting reads every case."""


@dataclass
class Counting:
    """Counts cases; what is asked for at once is counted once."""

    units: Units
    now: Callable[[], datetime]
    seconds: Callable[[], float] = time.monotonic
    _counted: Statistics | None = None
    _until: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def count(self, subscriber_id: str = "") -> Statistics:
        """Counts of one subscriber, or of all: those may be some seconds old, and say when they were made."""
        if subscriber_id:
            return await self._count(subscriber_id)
        async with self._turn:
            if self._counted is None or self.seconds() >= self._until:
                self._counted = await self._count("")
                self._until = self.seconds() + FRESH_SECONDS
            return self._counted

    async def _count(self, subscriber_id: str) -> Statistics:
        async with self.units() as unit:
            return await unit.cases.statistics(subscriber_id, self.now())
