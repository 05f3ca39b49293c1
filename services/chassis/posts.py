"""How does the outside tell a service something over HTTP?

One POST a connection, answered with a status alone. Everything is bounded: the head, the body, the time of an exchange
and how many there are at once. Who may speak, and what is said, is the business of whoever takes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

import h11

from services.chassis.database import is_transient
from services.chassis.telemetry import logger

log = logger(__name__)

LARGEST_BODY: Final = 64 * 1024
"""Bytes of a body that are taken."""
LARGEST_HEAD: Final = 16 * 1024
SECONDS: Final = 10.0
"""How long a whole exchange may take."""
MOST_AT_ONCE: Final = 32


@dataclass(frozen=True)
class Post:
    """What was posted. Nothing of it is proved."""

    target: str
    headers: Mapping[bytes, bytes]
    """Names in lower case."""
    body: bytes


Take: TypeAlias = Callable[[Post], Awaitable[int]]
"""Takes a post in; the status to answer with. 413, 405 and 400 for what is no post are answered before."""


class Posts:
    """Takes posts on one address."""

    def __init__(self, name: str, take: Take) -> None:
        """`name` stands in the log. What `take` raises is answered with 503 where trying again may help, else 500."""
        self._name = name
        self._take = take
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listens; the caller closes it."""
        return await asyncio.start_server(self._serve, host, port, limit=LARGEST_BODY)

    async def run(self, listen: str) -> None:
        """Serves `host:port` until cancelled."""
        host, _, port = listen.rpartition(":")
        async with await self.serve(host, int(port)) as server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
        try:
            async with self._places, asyncio.timeout(SECONDS):
                status = await self._exchange(connection, reader)
                _answer(connection, writer, status)
                await writer.drain()
        except (TimeoutError, OSError, h11.LocalProtocolError):
            log.warning("post_hung_up", door=self._name)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, connection: h11.Connection, reader: asyncio.StreamReader) -> int:
        """The status that the request earns."""
        request: h11.Request | None = None
        body = bytearray()
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(LARGEST_HEAD))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > LARGEST_BODY:
                        return 413
                elif isinstance(event, h11.EndOfMessage) and request is not None:
                    return await self._answered(request, bytes(body))
                else:
                    return 400
        except h11.RemoteProtocolError:
            return 400

    async def _answered(self, request: h11.Request, body: bytes) -> int:
        if request.method != b"POST":
            return 405
        headers = {bytes(name): bytes(value) for name, value in request.headers}
        try:
            return await self._take(Post(request.target.decode("ascii", "replace"), headers, body))
        except Exception as error:
            if is_transient(error):
                return 503
            log.error("post_failed", door=self._name, error=error)
            return 500


def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, status: int) -> None:
    headers = [("Content-Length", "0"), ("Connection", "close")]
    for event in (h11.Response(status_code=status, headers=headers, reason=b""), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
