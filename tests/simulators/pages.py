"""What would the pages look like that somebody asks to take down? A site whose pages can be told to go.

A page is there until it is told otherwise: gone (404), dead (410), legal (451), soft (200 with the words of a missing
page), blinded (200 with those of a temporary block), wall (200 with a log-in), login (401), changed (200, other
words), broken (500), hidden (nobody may fetch it), busy (the fetch policy puts it off). Every page shows another
counter and advertisement at each visit, as living pages do.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx

from services.removal.domain.sight import Decision, Sight

HOST = "127.0.0.1"
_STATUS = {"gone": 404, "dead": 410, "legal": 451, "login": 401, "broken": 500}
_POST = " ".join(f"문장 {number} 오늘 찍은 사진입니다 everybody smiled at picture {number}" for number in range(40))
_OTHER = " ".join(f"전혀 다른 이야기 {number} a recipe for soup with {number} onions and salt" for number in range(40))


class Pages:
    """The site, on loopback, and a watcher that sees it. Use as a context manager."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.visits: Counter[str] = Counter()

    def __enter__(self) -> Pages:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def port(self) -> int:
        """Where the site listens."""
        return int(self._server.server_address[1])

    def tell(self, address: str, state: str) -> None:
        """What the page of an address does from now on; "there" puts the content back."""
        self._told[_path(address)] = state

    def state(self, path: str) -> str:
        """What a page does."""
        return self._told.get(path, "there")

    async def look(self, address: str) -> Sight:
        """See services.removal.ports.Watcher: over real HTTP, whatever host the address names."""
        path = _path(address)
        match self.state(path):
            case "hidden":
                return Sight(Decision.REFUSE, "robots-1")
            case "busy":
                return Sight(Decision.DEFER, "budget-1", retry_after=timedelta(minutes=10))
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            answer = await client.get(f"http://{HOST}:{self.port}{path}")
        return Sight(
            Decision.ALLOW,
            "open-1",
            status=answer.status_code,
            body_sha256=hashlib.sha256(answer.content).digest(),
            body=answer.content,
            media_type=answer.headers.get("Content-Type", ""),
        )

    def page(self, path: str) -> tuple[int, str]:
        """Status and HTML of a page."""
        state = self.state(path)
        self.visits[path] += 1
        words = {
            "soft": "<title>안내</title><p>삭제되었거나 존재하지 않는 게시물입니다.</p>",
            "blinded": "<title>안내</title><p>권리침해 신고로 임시조치된 게시물입니다.</p>",
            "wall": "<title>로그인</title><p>로그인이 필요한 서비스입니다.</p>",
            "changed": f"<title>글</title><p>{_OTHER}</p>",
        }.get(state, f"<title>글</title><p>{_POST}</p><img src='/images/face.jpg'>")
        count = self.visits[path]
        living = f"<p>방문자 {count}명 · 광고 {count * 7}</p><script>{count}</script>"
        return _STATUS.get(state, 200), f"<html><body>{words}{living}</body></html>"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, pages: Pages) -> None:
        super().__init__((HOST, 0), _Handler)
        self.pages = pages

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 10
    wbufsize = -1

    def do_GET(self) -> None:
        status, page = self.server.pages.page(self.path)
        body = page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _path(address: str) -> str:
    parts = urlsplit(address)
    return parts.path + (f"?{parts.query}" if parts.query else "")
