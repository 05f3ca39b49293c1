"""How do platforms tell us of a request by web hook?

POST /replies/<platform> with a JSON object (message_id, your_reference, reference, status, reason, text), signed with
the secret that was agreed with the platform: `X-Jikimi-Signature` is the hex HMAC-SHA256 of platform, `X-Jikimi-Time`
(Unix seconds) and body, joined by line feeds. Answers: 202 taken, 400 malformed, 401 not signed or too old, 404 about
no request of ours, 413 too large, 429 too many about one request. One request a connection; everything is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeAlias

import h11

from services.chassis.database import is_transient
from services.chassis.telemetry import logger
from services.removal.domain.replies import LONGEST_TEXT, Outcome, Reply

log = logger(__name__)

LARGEST_BODY: Final = 64 * 1024
"""Bytes of a reply that are taken."""
SECONDS: Final = 10.0
"""How long a whole exchange may take."""
FRESH_S: Final = 300.0
"""How old, or early, a signature may be."""
MOST_AT_ONCE: Final = 32
_PREFIX = "/replies/"

Receive: TypeAlias = Callable[[Reply], Awaitable[Outcome]]


class ReplyHook:
    """Serves the hook on one address."""

    def __init__(self, secrets: Mapping[str, str], receive: Receive, now: Callable[[], float] = time.time) -> None:
        """`secrets`: platform → its secret. `now` is real time: a signature's age has nothing to do with business."""
        self._secrets = dict(secrets)
        self._receive = receive
        self._now = now
        self._places = asyncio.Semaphore(MOST_AT_ONCE)

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listens; the caller closes it."""
        return await asyncio.start_server(self._serve, host, port, limit=LARGEST_BODY)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)
        try:
            async with self._places, asyncio.timeout(SECONDS):
                status = await self._exchange(connection, reader)
                _answer(connection, writer, status)
                await writer.drain()
        except (TimeoutError, OSError, h11.LocalProtocolError):
            log.warning("removal_hook_hung_up")
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
                    connection.receive_data(await reader.read(16 * 1024))
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > LARGEST_BODY:
                        return 413
                elif isinstance(event, h11.EndOfMessage) and request is not None:
                    return await self._take(request, bytes(body))
                else:
                    return 400
        except h11.RemoteProtocolError:
            return 400

    async def _take(self, request: h11.Request, body: bytes) -> int:
        target = request.target.decode("ascii", "replace")
        if not target.startswith(_PREFIX):
            return 404
        if request.method != b"POST":
            return 405
        platform = target.removeprefix(_PREFIX)
        headers = {bytes(name): bytes(value) for name, value in request.headers}
        if not self._is_signed(platform, headers.get(b"x-jikimi-time", b""), headers, body):
            return 401
        reply = read_reply(platform, body)
        if reply is None:
            return 400
        try:
            outcome = await self._receive(reply)
        except Exception as error:
            if not is_transient(error):
                log.error("removal_hook_failed", error=error)
                return 500
            return 503
        return {Outcome.UNMATCHED: 404, Outcome.TOO_MANY: 429}.get(outcome, 202)

    def _is_signed(self, platform: str, stamp: bytes, headers: Mapping[bytes, bytes], body: bytes) -> bool:
        secret = self._secrets.get(platform)
        fresh = stamp.isdigit() and len(stamp) < 16 and abs(self._now() - int(stamp)) <= FRESH_S
        if secret is None or not fresh:
            return False
        expected = signature(secret, platform, int(stamp), body)
        return hmac.compare_digest(expected, headers.get(b"x-jikimi-signature", b""))


def signature(secret: str, platform: str, at: int, body: bytes) -> bytes:
    """What a platform puts into `X-Jikimi-Signature`."""
    signed = b"\n".join((platform.encode(), str(at).encode(), body))
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()


def read_reply(platform: str, body: bytes) -> Reply | None:
    """The reply that a body holds; None for one that is malformed."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    message_id = _text(data, "message_id", 998)
    ours, theirs = _text(data, "your_reference", 64), _text(data, "reference", 128)
    if not message_id or not (ours or theirs):
        return None
    return Reply(
        channel="HOOK",
        message_id=message_id,
        text=_text(data, "text", LONGEST_TEXT),
        quoted=(ours,) if ours else (),
        references=(theirs,) if theirs else (),
        status=_text(data, "status", 63),
        reason=_text(data, "reason", 63),
        platform=platform,
    )


def _text(data: Mapping[str, object], name: str, longest: int) -> str:
    value = data.get(name)
    return value if isinstance(value, str) and len(value) <= longest else ""


def _answer(connection: h11.Connection, writer: asyncio.StreamWriter, status: int) -> None:
    headers = [("Content-Length", "0"), ("Connection", "close")]
    for event in (h11.Response(status_code=status, headers=headers, reason=b""), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
