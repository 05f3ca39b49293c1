"""How a stream learns that its device has something to take, whichever replica made it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import asyncpg

from services.chassis.telemetry import logger
from services.notify.adapters.deliveries import CHANNEL

log = logger(__name__)


class PostgresBell:
    """Listens to PostgreSQL, which tells after a commit, and collects the devices of this process that were woken.

    While the connection is down all are looked at, at the interval of the delivery rules.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._listened: Counter[str] = Counter()
        """How many streams each device has here."""
        self._woken: set[str] = set()
        self._ringing = asyncio.Event()

    @contextmanager
    def listen(self, device_key: str) -> Iterator[None]:
        """See ports.Bell. A device that begins to be listened to counts as woken: something may wait for it."""
        self._listened[device_key] += 1
        self._wake(device_key)
        try:
            yield
        finally:
            self._listened[device_key] -= 1
            if not self._listened[device_key]:
                del self._listened[device_key]

    async def rung(self, seconds: float) -> Set[str]:
        """See ports.Bell."""
        try:
            async with asyncio.timeout(seconds):
                await self._ringing.wait()
        except TimeoutError:
            return set(self._listened) if seconds else set()
        self._ringing.clear()
        woken, self._woken = self._woken, set()
        return woken

    async def run(self) -> None:
        """Listens until cancelled; a lost connection is made anew."""
        while True:
            try:
                await self._listen()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.warning("bell_interrupted", error=error)
            await asyncio.sleep(0.5)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=5)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            await connection.add_listener(CHANNEL, self._ring)
            await lost.wait()
        finally:
            await connection.close(timeout=2)

    def _ring(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        for device_key in str(payload).split("\n"):
            if device_key in self._listened:
                self._wake(device_key)

    def _wake(self, device_key: str) -> None:
        self._woken.add(device_key)
        self._ringing.set()
