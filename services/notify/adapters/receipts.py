"""How do we learn whether a message to a contact has arrived?

The SMS gateway calls back: POST /receipts/sms with {"key", "status": "delivered" | "failed", "reason"}, `key` being the
`Idempotency-Key` of the message, signed as Standard Webhooks with the secret of the gateways. Answers: 202 taken, 400
malformed, 401 not signed or too old, 404 about no message of ours.

A mail server sends a delivery status notification (RFC 3464) to the address that the mail came from; the relay puts it
into a maildir. Anybody could send such a mail, but only who carried ours knows its key, a UUIDv7: what is told under it
is believed. The key comes back as the envelope id (RFC 3461) or within the Message-ID of the headers that are returned.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from typing import Final, TypeAlias

from services.chassis.posts import Post, Posts
from services.chassis.telemetry import logger
from services.notify.adapters.hooks import signature
from services.notify.domain.delivery import Path
from services.notify.domain.receipts import Receipt

log = logger(__name__)

FRESH_S: Final = 300.0
"""How old, or early, a signature may be (Standard Webhooks)."""
_PLACE = "/receipts/sms"
_KEY = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_MESSAGE_ID = re.compile(rf"^message-id:\s*<({_KEY.pattern})@", re.IGNORECASE | re.MULTILINE)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_STATUS = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_SETTLED: Mapping[str, bool] = {"delivered": True, "failed": False}
"""What ends the waiting. Relayed, expanded and delayed (RFC 3464 §2.3.3) tell of no end."""

Take: TypeAlias = Callable[[Receipt], Awaitable[bool]]
"""Applies a receipt; False for one about no message of ours."""


class ReceiptHook:
    """Takes what the SMS gateway calls back with."""

    def __init__(self, secret: bytes, take: Take, now: Callable[[], float] = time.time) -> None:
        """`now` is real time: a signature's age has nothing to do with business."""
        self._secret = secret
        self._take = take
        self._now = now

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listens; the caller closes it."""
        return await Posts("receipts", self.take).serve(host, port)

    async def run(self, listen: str) -> None:
        """Serves `host:port` until cancelled."""
        await Posts("receipts", self.take).run(listen)

    async def take(self, post: Post) -> int:
        """The status that a post earns."""
        if post.target != _PLACE:
            return 404
        if not self._is_signed(post):
            return 401
        receipt = read_receipt(post.body)
        if receipt is None:
            return 400
        return 202 if await self._take(receipt) else 404

    def _is_signed(self, post: Post) -> bool:
        message_id, stamp, given = (
            post.headers.get(name, b"").decode("ascii", "replace")
            for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature")
        )
        if not (stamp.isdigit() and len(stamp) < 16 and abs(self._now() - int(stamp)) <= FRESH_S):
            return False
        expected = signature(self._secret, message_id, stamp, post.body).encode()
        # Several signatures stand there while a secret is being changed.
        return any(hmac.compare_digest(expected, one.encode()) for one in given.split(" ")[:8])


def read_receipt(body: bytes) -> Receipt | None:
    """The receipt that the gateway's JSON holds; None for one that is malformed."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    key, status, reason = data.get("key"), data.get("status"), data.get("reason", "")
    if not (isinstance(key, str) and _KEY.fullmatch(key) and isinstance(status, str) and status in _SETTLED):
        return None
    known = isinstance(reason, str) and _REASON.fullmatch(reason) is not None
    return Receipt(key, Path.SMS, _SETTLED[status], "" if _SETTLED[status] else reason if known else "NOT_DELIVERED")


async def take_mail(take: Take, content: bytes) -> bool:
    """Takes a mail in; False for one that reports nothing: somebody wrote to us.

    A report names the recipient, so it is never kept, whatever it is about.
    """
    message = message_from_bytes(content)
    if not _reports(message):
        return False
    receipt = read_report(message)
    if receipt is not None and not await take(receipt):
        log.info("mail_report_unmatched")
    return True


def read_report(message: Message) -> Receipt | None:
    """The receipt that a delivery status notification holds; None where it tells of no end, or of nothing of ours."""
    for part in _reports(message):
        blocks = part.get_payload()
        if not isinstance(blocks, list):
            continue
        fields = [block for block in blocks if isinstance(block, Message)]
        action = next((str(block["Action"]).strip().lower() for block in fields if "Action" in block), "")
        key = _key_of(message, fields)
        if key and action in _SETTLED:
            status = " ".join(str(block["Status"]) for block in fields if "Status" in block)
            return Receipt(key, Path.EMAIL, _SETTLED[action], "" if _SETTLED[action] else _reason(status))
    return None


def _reports(message: Message) -> list[Message]:
    return [part for part in message.walk() if part.get_content_type() == "message/delivery-status"][:1]


def _key_of(message: Message, fields: list[Message]) -> str:
    named = (str(block["Original-Envelope-Id"]).strip() for block in fields if "Original-Envelope-Id" in block)
    envelope = next(named, "")
    if _KEY.fullmatch(envelope):
        return envelope
    found = next((match for text in _returned(message) if (match := _MESSAGE_ID.search(text))), None)
    return found[1].lower() if found else ""


def _returned(message: Message) -> Iterator[str]:
    """The headers of our mail that came back, alone or with the whole of it."""
    for part in message.walk():
        if part.get_content_type() == "text/rfc822-headers":
            yield str(part.get_payload())
        elif part.get_content_type() == "message/rfc822" and isinstance(part.get_payload(), list):
            inner = part.get_payload(0)
            yield f"Message-ID: {inner['Message-ID'] if isinstance(inner, Message) else ''}"


def _reason(status: str) -> str:
    """The status code (RFC 3463) as a reason; the server's words may quote the address and are not kept."""
    match = _STATUS.search(status)
    return f"DSN_{match[1]}_{match[2]}_{match[3]}" if match else "NOT_DELIVERED"
