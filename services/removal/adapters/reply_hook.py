"""How do platforms tell us of a request by web hook?

POST /replies/<platform> with a JSON object (message_id, your_reference, reference, status, reason, text), signed with
the secret that was agreed with the platform: `X-Jikimi-Signature` is the hex HMAC-SHA256 of platform, `X-Jikimi-Time`
(Unix seconds) and body, joined by line feeds. Answers: 202 taken, 400 malformed, 401 not signed or too old, 404 about
no request of ours, 413 too large, 429 too many about one request.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from services.chassis.posts import Post, Posts
from services.removal.domain.replies import LONGEST_TEXT, Outcome, Reply

FRESH_S: Final = 300.0
"""How old, or early, a signature may be."""
_PREFIX = "/replies/"

Receive: TypeAlias = Callable[[Reply], Awaitable[Outcome]]


class ReplyHook:
    """Serves the hook on one address."""

    def __init__(self, secrets: Mapping[str, str], receive: Receive, now: Callable[[], float] = time.time) -> None:
        """`secrets`: platform → its secret. `now` is real time: a signature's age has nothing to do with business."""
        self._secrets = dict(secrets)
        self._receive = receive
        self._now = now

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listens; the caller closes it."""
        return await Posts("replies", self.take).serve(host, port)

    async def run(self, listen: str) -> None:
        """Serves `host:port` until cancelled."""
        await Posts("replies", self.take).run(listen)

    async def take(self, post: Post) -> int:
        """The status that a post earns."""
        if not post.target.startswith(_PREFIX):
            return 404
        platform = post.target.removeprefix(_PREFIX)
        if not self._is_signed(platform, post.headers.get(b"x-jikimi-time", b""), post.headers, post.body):
            return 401
        reply = read_reply(platform, post.body)
        if reply is None:
            return 400
        outcome = await self._receive(reply)
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
