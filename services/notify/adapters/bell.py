"""How a stream learns that its device has something to take, whichever replica made it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from services.chassis.telemetry import logger
from services.notify.adapters.store import CHANNEL

log = logger(__name__)


class PostgresBell:
    """Listens to PostgreSQL, which tells after a commit, and wakes the streams of this process.

    While the connection is down streams look by themselves at the interval of the delivery rules.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def listen(self, device_key: str) -> Iterator[asyncio.Event]:
        """See ports.Bell."""
        event = asyncio.Event()
        self._listeners[device_key].add(event)
        try:
            yield event
        finally:
            self._listeners[device_key].discard(event)
            if not self._listeners[device_key]:
                del self._listeners[device_key]

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
            for event in self._listeners.get(device_key, ()):
                event.set()
