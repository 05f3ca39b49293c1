"""How is the outside told over HTTP: the push hook and the SMS gateway?

Both are signed as Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature "v1,…": HMAC-SHA256 over
"id.timestamp.body"). Redirects are not followed, answers are read up to a bound.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
from nacl.public import PublicKey, SealedBox

from services.chassis.ids import uuid7
from services.notify.ports import Message, MessageAnswer, Push, Pushed

PAYLOAD_BYTES: Final = 1024
"""Of everything that is pushed, whatever it says: nobody learns from its size. FCM, APNs and Web Push take 4,096."""
SEALING_BYTES: Final = 48
"""Ephemeral key and tag that a sealed box adds (libsodium, crypto_box_SEALBYTES)."""
MESSAGES_A_CALL: Final = 100
CALLS_AT_ONCE: Final = 4
LARGEST_ANSWER: Final = 64 * 1024
SECONDS: Final = httpx.Timeout(10.0, connect=5.0)
_AGAIN = frozenset({408, 425, 429})
_RESULTS: Mapping[object, Pushed] = {
    "taken": Pushed(),
    "gone": Pushed("TOKEN_GONE", gone=True),
    "again": Pushed("PROVIDER_BUSY"),
    "refused": Pushed("PROVIDER_REFUSED"),
}


class Hook:
    """One address that takes signed JSON."""

    def __init__(self, url: str, secret: bytes) -> None:
        """`secret` signs; empty where the receiver does not ask for it."""
        self._url = url
        self._secret = secret
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return "Hook()"

    async def post(self, message_id: str, body: Mapping[str, Any]) -> tuple[int, bytes] | str:
        """(status, start of the answer), or why there is none."""
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            client = self._connected()
            headers = self._headers(message_id, content)
            request = client.build_request("POST", self._url, content=content, headers=headers)
            response = await client.send(request, stream=True)
            try:
                return response.status_code, await _start_of(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException:
            return "TIMEOUT"
        except httpx.HTTPError:
            return "CONNECTION_FAILED"

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            trust = ssl.create_default_context() if self._url.startswith("https:") else False
            self._client = httpx.AsyncClient(verify=trust, timeout=SECONDS, follow_redirects=False, trust_env=False)
        return self._client

    def _headers(self, message_id: str, content: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "webhook-id": message_id, "Idempotency-Key": message_id}
        if self._secret:
            # Real time: the receiver refuses what is old by its own clock.
            headers["webhook-timestamp"] = stamp = str(int(time.time()))
            headers["webhook-signature"] = signature(self._secret, message_id, stamp, content)
        return headers


def signature(secret: bytes, message_id: str, stamp: str, content: bytes) -> str:
    """Standard Webhooks, symmetric: "v1,base64"."""
    signed = f"{message_id}.{stamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


async def _start_of(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes(16 * 1024):
        body += chunk
        if len(body) > LARGEST_ANSWER:
            break
    return bytes(body[:LARGEST_ANSWER])


class PushHook:
    """Wakes devices through the operator's push gateway: many messages a call, an answer for each. See ports.Pusher."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    def can_reach(self, os: str) -> bool:
        """See Pusher: the gateway knows the providers of all platforms."""
        return True

    async def push(self, pushes: Sequence[Push]) -> Sequence[Pushed]:
        """See Pusher."""
        parts = [pushes[start : start + MESSAGES_A_CALL] for start in range(0, len(pushes), MESSAGES_A_CALL)]
        answers = await asyncio.gather(*(self._call(part) for part in parts))
        return [answer for part in answers for answer in part]

    async def _call(self, pushes: Sequence[Push]) -> Sequence[Pushed]:
        messages = [
            {"token": each.token, "os": each.os, "payload": base64.b64encode(payload(each)).decode()} for each in pushes
        ]
        async with self._calls:
            answer = await self._hook.post(uuid7(), {"messages": messages})
        if isinstance(answer, str):
            return [Pushed(answer)] * len(pushes)
        status, body = answer
        return _results(body, len(pushes)) if status == 200 else [Pushed(f"HTTP_{status}")] * len(pushes)


def payload(push: Push) -> bytes:
    """What the device gets: an opaque id and a neutral text, padded with blanks; sealed where the device has a key.
    Always PAYLOAD_BYTES long. Raises ValueError for a text that does not fit."""
    size = PAYLOAD_BYTES - (SEALING_BYTES if push.public_key else 0)
    content = {"id": push.notification_id, "title": push.words.title, "body": push.words.body}
    plain = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if len(plain) > size:
        raise ValueError("a text is too long to be pushed")
    padded = plain.ljust(size)
    return bytes(SealedBox(PublicKey(push.public_key)).encrypt(padded)) if push.public_key else padded


def _results(body: bytes, number: int) -> Sequence[Pushed]:
    try:
        results = json.loads(body)["results"]
    except (ValueError, KeyError, TypeError):
        results = None
    if not isinstance(results, list) or len(results) != number:
        return [Pushed("ANSWER_MALFORMED")] * number
    unknown = Pushed("ANSWER_MALFORMED")
    return [_RESULTS.get(each, unknown) if isinstance(each, str) else unknown for each in results]


class NoPush:
    """Where no gateway is configured: devices stream. See ports.Pusher."""

    def can_reach(self, os: str) -> bool:
        """See Pusher."""
        return False

    async def push(self, pushes: Sequence[Push]) -> Sequence[Pushed]:
        """See Pusher."""
        return [Pushed("NO_GATEWAY")] * len(pushes)


class SmsGateway:
    """Sends text messages. See ports.Messenger."""

    def __init__(self, hook: Hook, sender: str, discreet_sender: str) -> None:
        self._hook = hook
        self._senders = {False: sender, True: discreet_sender}

    async def send(self, message: Message) -> MessageAnswer:
        """See Messenger; the gateway knows a repeat by its Idempotency-Key."""
        body = {"to": message.to, "from": self._senders[message.discreet], "text": message.words.body}
        answer = await self._hook.post(message.key, body)
        if isinstance(answer, str):
            return MessageAnswer(answer, again=True)
        status, _ = answer
        if 200 <= status < 300:
            return MessageAnswer()
        return MessageAnswer(f"HTTP_{status}", again=status in _AGAIN or status >= 500)
