"""What would a platform answer? Web forms and a mailbox that take removal requests, and can be told to misbehave.

    python -m tests.simulators.platform --http-port 0 --smtp-port 0 --state DIR [--lies FILE]

Everything that arrives is a line of DIR/http.jsonl or DIR/mail.jsonl; DIR/acknowledgements.jsonl holds the answers
that a platform would mail back; DIR/endpoints.json is what JIKIMI_REMOVAL_ENDPOINTS wants. References are numbered
in the order of arrival; nothing is random. A restart on the same folder goes on where it stopped.

Lies (a JSON object platform → list; each is told once, in order, a last "*" repeats the one before):
forms and API: reject (for want of evidence), reject=REASON, 429, 500, 503, hang, lost_answer, silent, redirect; forms
alone: captcha, login · mail: 450, 550, lost_answer. The API tells how a request stands: RECEIVED, or what it was told.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import hmac
import json
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.policy import default as default_policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.smtp import SMTP, Envelope, Session

from services.chassis.tasks import end

HOST = "127.0.0.1"
FORM_PLATFORMS = ("naver", "kakao", "google", "meta", "x", "tiktok")
API_PLATFORMS = ("partner",)
MAIL_PLATFORMS = ("telegram", "community", "overseas")
LARGEST_BODY = 256 * 1024
_CSRF = b"a simulator has no secrets"


class Mailroom:
    """What the platforms have received, and what they were told to do wrong."""

    def __init__(self, state: Path, lies: Mapping[str, Sequence[str]] | None = None, hang_s: float = 30.0) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._lies = {platform: list(items) for platform, items in (lies or {}).items()}
        self._states: dict[tuple[str, str], str] = {}
        self.hang_s = hang_s
        state.mkdir(parents=True, exist_ok=True)
        self.forms = _lines(state / "http.jsonl")
        self.mails = _lines(state / "mail.jsonl")

    def tell(self, platform: str, *lies: str) -> None:
        """The next answers of a platform."""
        with self._lock:
            self._lies[platform] = list(lies)

    def next_lie(self, platform: str, *, among: Sequence[str] = ()) -> str:
        """The next lie, used up; only if it is one of `among` where that is given. Empty for the truth."""
        with self._lock:
            waiting = self._lies.get(platform, [])
            if not waiting or (among and waiting[0] not in among):
                return ""
            if waiting[1:2] == ["*"]:
                return waiting[0]
            return waiting.pop(0)

    def state(self, platform: str, reference: str, word: str) -> None:
        """What the platform's API says of a request from now on."""
        with self._lock:
            self._states[platform, reference] = word

    def stands(self, platform: str, reference: str) -> str:
        """What the platform's API says of a request; empty for one that it does not know."""
        with self._lock:
            known = any((seen["platform"], seen["reference"]) == (platform, reference) for seen in self.forms)
            return self._states.get((platform, reference), "RECEIVED" if known else "")

    def take_form(self, platform: str, key: str, fields: Mapping[str, str]) -> str:
        """Files a form; the same idempotency key gets the same reference. Returns the reference."""
        with self._lock:
            for seen in self.forms:
                if seen["platform"] == platform and seen["idempotency_key"] == key:
                    return str(seen["reference"])
            reference = f"{platform.upper()}-{self._count(self.forms, platform):04d}"
            entry = {"platform": platform, "idempotency_key": key, "reference": reference, "fields": dict(fields)}
            self._append("http.jsonl", self.forms, entry)
            return reference

    def take_mail(self, platform: str, envelope: Envelope) -> str:
        """Files a mail and writes the acknowledgement that would be mailed back. Returns the reference."""
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        message = message_from_bytes(content, policy=default_policy)
        body = message.get_body(("plain",))
        with self._lock:
            reference = f"{platform.upper()}-{self._count(self.mails, platform):04d}"
            entry = {
                "platform": platform,
                "message_id": str(message["Message-ID"]),
                "from": envelope.mail_from,
                "to": list(envelope.rcpt_tos),
                "subject": str(message["Subject"]),
                "body": body.get_content() if body else "",
                "reference": reference,
            }
            self._append("mail.jsonl", self.mails, entry)
            answer = {"to": envelope.mail_from, "in_reply_to": entry["message_id"], "reference": reference}
            self._append("acknowledgements.jsonl", [], answer)
            return reference

    def _count(self, entries: Sequence[Mapping[str, Any]], platform: str) -> int:
        return 1 + sum(entry["platform"] == platform for entry in entries)

    def _append(self, file: str, entries: list[dict[str, Any]], entry: dict[str, Any]) -> None:
        entries.append(entry)
        with (self._state / file).open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n")


class PlatformSimulator:
    """Forms over HTTP and a mail server, on loopback. Use as a context manager in tests."""

    def __init__(
        self,
        state: Path,
        *,
        http_port: int = 0,
        smtp_port: int = 0,
        lies: Mapping[str, Sequence[str]] | None = None,
        hang_s: float = 30.0,
    ) -> None:
        self.mailroom = Mailroom(state, lies, hang_s)
        self._state = state
        self._http = _FormServer((HOST, http_port), self.mailroom)
        self._loop = asyncio.new_event_loop()
        self._smtp_port = smtp_port
        self._threads = [
            threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True),
            threading.Thread(target=self._loop.run_forever, daemon=True),
        ]

    def __enter__(self) -> PlatformSimulator:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listens and writes endpoints.json."""
        for thread in self._threads:
            thread.start()
        self._mail_server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        self.smtp_port = int(self._mail_server.sockets[0].getsockname()[1])
        (self._state / "endpoints.json").write_text(json.dumps(self.endpoints(), indent=1), encoding="utf-8")

    def stop(self) -> None:
        """Stops listening."""
        self._http.shutdown()
        self._http.server_close()
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        for thread in self._threads:
            thread.join(5)
        self._loop.close()

    @property
    def http_port(self) -> int:
        """Port of the forms."""
        return int(self._http.server_address[1])

    def endpoints(self) -> dict[str, dict[str, str]]:
        """Platform → where its requests go."""
        forms = {name: {"http": f"http://{HOST}:{self.http_port}/{name}/form"} for name in FORM_PLATFORMS}
        forms |= {name: {"http": f"http://{HOST}:{self.http_port}/{name}/requests"} for name in API_PLATFORMS}
        server = f"{HOST}:{self.smtp_port}"
        return forms | {name: {"smtp": server, "to": f"{name}@simulator.invalid"} for name in MAIL_PLATFORMS}

    async def _listen(self) -> asyncio.Server:
        handler = _Mailbox(self.mailroom)
        return await self._loop.create_server(
            lambda: SMTP(handler, hostname="simulator.invalid", enable_SMTPUTF8=True, loop=self._loop),
            HOST,
            self._smtp_port,
        )

    async def _close(self) -> None:
        self._mail_server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await end(*others)


class _Mailbox:
    """What aiosmtpd asks for every mail."""

    def __init__(self, mailroom: Mailroom) -> None:
        self._mailroom = mailroom

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        platform = address.partition("@")[0]
        if platform not in MAIL_PLATFORMS:
            return "550 no such mailbox"
        lie = self._mailroom.next_lie(platform, among=("450", "550"))
        if lie:
            return f"{lie} not now" if lie == "450" else f"{lie} we do not take this"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        platform = envelope.rcpt_tos[0].partition("@")[0]
        reference = self._mailroom.take_mail(platform, envelope)
        if self._mailroom.next_lie(platform, among=("lost_answer",)) and server.transport is not None:
            server.transport.abort()
        return f"250 OK ticket: {reference}"


class _FormServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], mailroom: Mailroom) -> None:
        super().__init__(address, _FormHandler)
        self.mailroom = mailroom

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _FormHandler(BaseHTTPRequestHandler):
    server: _FormServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    wbufsize = -1  # one packet for head and body: two would wait for each other

    def do_GET(self) -> None:
        name, _, rest = urlsplit(self.path).path.strip("/").partition("/")
        if name in API_PLATFORMS:
            word = self.server.mailroom.stands(name, rest.removeprefix("requests/"))
            self._answer(200 if word else 404, {"state": word})
            return
        platform = self._platform()
        if platform is None:
            self._answer(404, {"reason": "NO_SUCH_FORM"})
            return
        lie = self.server.mailroom.next_lie(platform, among=("captcha", "login"))
        if lie == "login":
            self._answer(302, {}, location="/login")
            return
        wall = '<div class="g-recaptcha"></div>' if lie == "captcha" else ""
        page = (
            f'<html><body>{wall}<form method="post" action="/{platform}/form">'
            f'<input type="hidden" name="csrf_token" value="{_token(platform)}">'
            '<input name="content_url"><textarea name="body"></textarea></form></body></html>'
        )
        self._send(200, page.encode(), "text/html; charset=utf-8", cookie=f"session={platform}; HttpOnly")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        body = self.rfile.read(min(length, LARGEST_BODY)).decode("utf-8", "replace")
        fields = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
        if urlsplit(self.path).path.startswith("/control/"):
            self.server.mailroom.tell(self.path.rpartition("/")[2], *fields.get("lies", "").split())
            self._answer(200, {})
            return
        if urlsplit(self.path).path.strip("/") in {f"{name}/requests" for name in API_PLATFORMS}:
            self._file(urlsplit(self.path).path.strip("/").partition("/")[0], _json_fields(body))
            return
        platform = self._platform()
        if platform is None:
            self._answer(404, {"reason": "NO_SUCH_FORM"})
        elif length > LARGEST_BODY:
            self._answer(413, {"reason": "TOO_LARGE"})
        elif not self._is_genuine(platform, fields):
            self._answer(403, {"reason": "CSRF"})
        else:
            self._file(platform, fields)

    def _file(self, platform: str, fields: dict[str, str]) -> None:
        mailroom = self.server.mailroom
        key = self.headers.get("Idempotency-Key", "")
        match mailroom.next_lie(platform):
            case "reject":
                self._answer(422, {"reason": "EVIDENCE_INSUFFICIENT"})
            case rejected if rejected.startswith("reject="):
                self._answer(422, {"reason": rejected.removeprefix("reject=")})
            case "429":
                self._answer(429, {"reason": "TOO_MANY"}, retry_after="1")
            case "500" | "503" as status:
                self._answer(int(status), {"reason": "BROKEN"})
            case "hang":
                time.sleep(mailroom.hang_s)
                self.close_connection = True
            case "lost_answer":
                mailroom.take_form(platform, key, fields)
                self.close_connection = True
            case "silent":
                mailroom.take_form(platform, key, fields)
                self._answer(200, {"status": "ok"})
            case "redirect":
                mailroom.take_form(platform, key, fields)
                self._answer(303, {}, location="/thanks")
            case _:
                self._answer(201, {"reference": mailroom.take_form(platform, key, fields)})

    def _is_genuine(self, platform: str, fields: dict[str, str]) -> bool:
        cookie = self.headers.get("Cookie", "")
        return f"session={platform}" in cookie and fields.pop("csrf_token", "") == _token(platform)

    def _platform(self) -> str | None:
        name, _, rest = urlsplit(self.path).path.strip("/").partition("/")
        return name if name in FORM_PLATFORMS and rest == "form" else None

    def _answer(self, status: int, body: Mapping[str, str], *, location: str = "", retry_after: str = "") -> None:
        extra = {"Location": location, "Retry-After": retry_after}
        self._send(status, json.dumps(body).encode(), "application/json", extra=extra)

    def _send(
        self, status: int, body: bytes, kind: str, *, cookie: str = "", extra: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Set-Cookie": cookie, **(extra or {})}
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: what matters stands in the state folder."""


def _json_fields(body: str) -> dict[str, str]:
    try:
        data = json.loads(body)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in data.items()} if isinstance(data, dict) else {}


def _token(platform: str) -> str:
    return hmac.new(_CSRF, platform.encode(), hashlib.sha256).hexdigest()


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Runs until SIGTERM or SIGINT; prints its ports as JSON when it listens."""
    parser = argparse.ArgumentParser(description="platform simulator")
    parser.add_argument("--http-port", type=int, default=0)
    parser.add_argument("--smtp-port", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--lies", type=Path)
    parser.add_argument("--hang-seconds", type=float, default=30.0)
    asked = parser.parse_args()
    lies = json.loads(asked.lies.read_text(encoding="utf-8")) if asked.lies else None
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with PlatformSimulator(
        asked.state,
        http_port=asked.http_port,
        smtp_port=asked.smtp_port,
        lies=lies,
        hang_s=asked.hang_seconds,
    ) as simulator:
        print(json.dumps({"http_port": simulator.http_port, "smtp_port": simulator.smtp_port}), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
