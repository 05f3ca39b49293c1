"""What do a push gateway, an SMS gateway and a mailbox answer? On loopback, and they can be told to misbehave.

Everything that arrives is kept in order. Failures are counted, not drawn: every n-th message fails, so that a run can
be made again.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.chassis.tasks import end

HOST = "127.0.0.1"
LARGEST_BODY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Pushed:
    """A message that the gateway was given, and what it answered."""

    token: str
    os: str
    payload: bytes
    answer: str


@dataclass
class Ways:
    """The three of them. Use as a context manager; the attributes may be changed while it runs."""

    fail_every: int = 0
    """Every so many-th pushed message is answered "again"; 0 for none."""
    gone: Callable[[str], bool] = lambda token: False
    """Tokens that no device holds any more."""
    on_push: Callable[[str, bytes], None] = lambda token, payload: None
    """Told of each message that is taken: what a provider would carry to the device."""
    status: dict[str, int] = field(default_factory=dict)
    """Path ("/push", "/sms") → status to answer with instead."""
    refuse_mail: str = ""
    """SMTP answer to every recipient; empty takes mail."""
    pushed: list[Pushed] = field(default_factory=list)
    keep: bool = True
    """Whether what was pushed is kept."""
    texts: list[dict[str, Any]] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    """Everything that came over the wire, head and body, where `keep` says so."""
    _count: int = 0

    def __enter__(self) -> Ways:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.http_port, self.smtp_port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @property
    def push_hook(self) -> str:
        """URL of the push gateway."""
        return f"http://{HOST}:{self.http_port}/push"

    @property
    def sms_gateway(self) -> str:
        """URL of the SMS gateway."""
        return f"http://{HOST}:{self.http_port}/sms"

    @property
    def relay(self) -> str:
        """host:port of the mail server."""
        return f"{HOST}:{self.smtp_port}"

    async def _listen(self) -> tuple[int, int]:
        handler = _Mailbox(self)
        self._http = await asyncio.start_server(self._serve, HOST, 0)
        self._smtp = await self._loop.create_server(
            lambda: SMTP(handler, hostname="simulator.invalid", enable_SMTPUTF8=True, loop=self._loop), HOST, 0
        )
        return self._http.sockets[0].getsockname()[1], self._smtp.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._http.close()
        self._smtp.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await end(*others)
        # Closed transports go at the loop's next turns.
        await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after another; the smallest HTTP/1.1 that a client of ours needs."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                body = await reader.readexactly(min(int(headers.get("content-length", "0")), LARGEST_BODY))
                if self.keep:
                    self.raw.append(head + body)
                status, answer = self._answer(lines[0].split(" ")[1], headers, json.loads(body))
                content = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    def _answer(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, object]:
        if path in self.status:
            return self.status[path], {}
        if path == "/push":
            return 200, {"results": [self._push(message) for message in body["messages"]]}
        if headers["idempotency-key"] not in {each["key"] for each in self.texts}:
            self.texts.append({"key": headers["idempotency-key"], **body})
        return 202, {}

    def _push(self, message: Mapping[str, str]) -> str:
        self._count += 1
        answer = "taken"
        if self.gone(message["token"]):
            answer = "gone"
        elif self.fail_every and self._count % self.fail_every == 0:
            answer = "again"
        payload = base64.b64decode(message["payload"])
        if self.keep:
            self.pushed.append(Pushed(message["token"], message["os"], payload, answer))
        if answer == "taken":
            self.on_push(message["token"], payload)
        return answer


class _Mailbox:
    """What aiosmtpd asks for every mail."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._ways.refuse_mail:
            return self._ways.refuse_mail
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        mail = message_from_bytes(content, policy=default_policy)
        assert isinstance(mail, EmailMessage)
        self._ways.mails.append(mail)
        self._ways.raw.append(f"{envelope.mail_from} {envelope.rcpt_tos}\n".encode() + content)
        return "250 OK"
