"""How is a page fetched: politely, boundedly, from the public internet alone?"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import SplitResult, urljoin, urlunsplit

import httpcore

from services.chassis.fetch.addresses import PublicOnly, Refused, Resolve, checked_url, default_port, resolve
from services.chassis.fetch.budget import Budget
from services.chassis.fetch.decision import Decision, Fetched, Verdict
from services.chassis.fetch.robots import Robots, RobotsFile
from services.chassis.fetch.rules import FetchRules
from services.chassis.fetch.walls import wall_of_address, wall_of_page, wall_of_status

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRY_MS: Final = 60_000


@dataclass(frozen=True)
class _Answer:
    status: int
    content_type: str
    location: str
    body: bytes


class Fetcher:
    """Fetches by the policy: robots.txt, walls, budget, bounds, public addresses. Sends GET alone, no cookies, runs no
    scripts, says who it is. An async context manager; safe for many tasks of one loop.
    """

    def __init__(
        self,
        rules: FetchRules,
        *,
        resolver: Resolve = resolve,
        now_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._robots = Robots(rules, self._robots_file, now_ms)
        self._budget = Budget(rules, now_ms)
        self._room = asyncio.Semaphore(rules.max_in_flight)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or ssl.create_default_context(),
            max_connections=rules.max_in_flight,
            max_keepalive_connections=0,  # one request, one checked connection
            network_backend=PublicOnly(rules, resolver),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def decide(self, url: str) -> Decision:
        """Whether the address may be fetched now, by its form and by robots.txt; spends nothing of the budget."""
        try:
            async with self._room:
                return (await self._robots.decide(_origin(checked_url(url, self._rules)), url))[0]
        except Refused as refusal:
            return self._refuse(refusal.rule_id)

    async def fetch(self, url: str) -> Fetched:
        """What is there. Never raises for what a stranger's server does: the decision says it, with the rule's id.

        Statuses that say the page is gone (404, 410) come back with ALLOW: that nothing is there is the answer.
        """
        try:
            async with self._room, asyncio.timeout(self._rules.total_ms / 1000):
                return await self._follow(url)
        except Refused as refusal:
            return Fetched(self._refuse(refusal.rule_id))
        except TimeoutError:
            return Fetched(self._later("TIMEOUT"))
        except (httpcore.TimeoutException, httpcore.NetworkError):
            return Fetched(self._later("UNREACHABLE"))
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Fetched(self._later("NO_HTTP"))

    async def _follow(self, url: str) -> Fetched:
        for hops in range(self._rules.max_redirects + 1):
            parts = checked_url(url, self._rules)
            decision, delay = await self._robots.decide(_origin(parts), url)
            if decision.allowed:
                decision = self._budget.spend(parts.netloc, delay)
            if not decision.allowed:
                return Fetched(decision, url, hops=hops)
            answer = await self._get(parts, self._rules.max_body_bytes)
            if answer.status not in _REDIRECTS:
                return self._judge(url, answer, hops)
            url = _joined(url, answer.location)
            if (rule := wall_of_address(self._rules.walls, url)) is not None:
                return Fetched(self._refuse(rule), status=answer.status, hops=hops + 1)
        raise Refused("TOO_MANY_REDIRECTS")

    def _judge(self, url: str, answer: _Answer, hops: int) -> Fetched:
        walls = self._rules.walls
        rule = wall_of_status(walls, answer.status) or wall_of_page(walls, answer.content_type, answer.body)
        if rule is not None:
            return Fetched(self._refuse(rule), url, answer.status, answer.content_type, hops=hops)
        if answer.status == 429 or answer.status >= 500:
            return Fetched(self._later("HOST_BUSY"), url, answer.status, answer.content_type, hops=hops)
        allowed = Decision(Verdict.ALLOW, "FETCHED", self._rules.version)
        return Fetched(allowed, url, answer.status, answer.content_type, answer.body, hops)

    async def _robots_file(self, origin: str) -> RobotsFile:
        """robots.txt of an origin, its redirects followed; what cannot be had is status 0."""
        url = f"{origin}/robots.txt"
        try:
            async with asyncio.timeout(self._rules.total_ms / 1000):
                for _ in range(self._rules.max_redirects + 1):
                    parts = checked_url(url, self._rules)
                    answer = await self._get(parts, self._rules.robots.max_bytes, robots=True)
                    if answer.status not in _REDIRECTS:
                        return RobotsFile(answer.status, answer.body)
                    url = _joined(url, answer.location)
        except (Refused, TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            return RobotsFile(0)
        return RobotsFile(0)

    async def _get(self, parts: SplitResult, most_bytes: int, *, robots: bool = False) -> _Answer:
        """One GET. A body is read up to `most_bytes`; more raises Refused. Of a robots.txt the rest is left, and
        whatever type it claims to be of is read.
        """
        host = _ascii_host(parts)
        port = parts.port or default_port(parts)
        named = host if port == default_port(parts) else f"{host}:{port}"
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=parts.scheme, host=host.strip("[]"), port=port, target=_quoted(target)),
            headers={
                "Host": named,
                "User-Agent": self._rules.user_agent,
                "Accept": ", ".join(sorted(self._rules.content_types)),
                "Accept-Encoding": "identity",
                "Connection": "close",
            },
            extensions={
                "timeout": {
                    "connect": self._rules.connect_ms / 1000,
                    "read": self._rules.read_ms / 1000,
                    "write": self._rules.read_ms / 1000,
                    "pool": self._rules.total_ms / 1000,
                }
            },
        )
        response = await self._pool.handle_async_request(request)
        try:
            headers = {name.lower(): value for name, value in reversed(response.headers)}
            content_type = _media_type(headers.get(b"content-type", b""))
            location = headers.get(b"location", b"").decode("latin-1")
            if response.status in _REDIRECTS or not 200 <= response.status < 300:
                # The words of an error page are nobody's business, and a wall shows in the status.
                return _Answer(response.status, content_type, location, b"")
            if headers.get(b"content-encoding", b"identity").strip().lower() not in {b"", b"identity"}:
                raise Refused("ENCODING_NOT_ASKED_FOR")
            if not robots and content_type not in self._rules.content_types:
                raise Refused("TYPE_NOT_WANTED")
            return _Answer(response.status, content_type, location, await _body(response, most_bytes, cut=robots))
        finally:
            await response.aclose()

    def _refuse(self, rule_id: str) -> Decision:
        return Decision(Verdict.REFUSE, rule_id, self._rules.version)

    def _later(self, rule_id: str) -> Decision:
        return Decision(Verdict.DEFER, rule_id, self._rules.version, _RETRY_MS)


async def _body(response: httpcore.Response, most_bytes: int, *, cut: bool) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > most_bytes:
            if cut:
                return bytes(body[:most_bytes])
            raise Refused("BODY_TOO_LARGE")
    return bytes(body)


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise Refused("URL_MALFORMED") from None


def _origin(parts: SplitResult) -> str:
    port = parts.port or default_port(parts)
    named = _ascii_host(parts) if port == default_port(parts) else f"{_ascii_host(parts)}:{port}"
    return f"{parts.scheme}://{named}"


def _ascii_host(parts: SplitResult) -> str:
    """The host as it goes on the wire (IDNA 2003 by the standard library; it refuses what it cannot read)."""
    host = parts.hostname or ""
    if ":" in host:
        return f"[{host}]"
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise Refused("URL_MALFORMED") from None


def _quoted(target: str) -> bytes:
    """Path and query with what is not ASCII percent-encoded as UTF-8 (RFC 3987, 3.1)."""
    return b"".join(
        character.encode() if ord(character) < 0x80 else b"".join(b"%%%02X" % byte for byte in character.encode())
        for character in target
    )


def _media_type(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()
