"""Where does a connection really go? Names are resolved here, every answer is checked, and so is the socket."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

import httpcore

from services.chassis.fetch.rules import Address, FetchRules

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as text. Raises OSError."""


class Refused(Exception):
    """An address that may not be connected to; `rule_id` says why."""

    def __init__(self, rule_id: str) -> None:
        super().__init__(rule_id)
        self.rule_id = rule_id


def checked_url(url: str, rules: FetchRules) -> SplitResult:
    """The parts of an address that may be asked for. Raises Refused.

    Whatever parsers read differently is refused: user names, backslashes, control characters, odd ports.
    """
    if len(url) > rules.max_url_length:
        raise Refused("URL_TOO_LONG")
    if any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url) or "\\" in url:
        raise Refused("URL_MALFORMED")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("URL_MALFORMED") from None
    if parts.scheme not in rules.schemes:
        raise Refused("URL_SCHEME")
    if parts.username is not None or parts.password is not None:
        raise Refused("URL_USERINFO")
    if not parts.hostname or "%" in parts.hostname:
        raise Refused("URL_MALFORMED")
    if (port or default_port(parts)) not in rules.ports:
        raise Refused("URL_PORT")
    return parts


def default_port(parts: SplitResult) -> int:
    """The port of a scheme."""
    return 443 if parts.scheme == "https" else 80


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, as the system resolves it."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in found]


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Opens connections to public addresses alone.

    It resolves the name itself and connects to the address it has checked, so that a name cannot change between the
    two (DNS rebinding); one answer that is not public refuses the name. What the socket says it is connected to is
    checked once more.
    """

    def __init__(self, rules: FetchRules, resolver: Resolve = resolve) -> None:
        self._rules = rules
        self._resolve = resolver
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises Refused for an address that is not public, httpcore.ConnectError where nothing answers."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("the name cannot be resolved") from None
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name is not resolved in time") from None
        if not addresses:
            raise httpcore.ConnectError("the name has no address")
        for address in addresses:
            self._check(address)
        stream = await self._sockets.connect_tcp(addresses[0], port, timeout, local_address, socket_options)
        peer = stream.get_extra_info("server_addr")
        try:
            self._check(str(peer[0]) if peer else "")
        except Refused:
            await stream.aclose()
            raise
        return stream

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise Refused("ADDRESS_NOT_PUBLIC")

    async def sleep(self, seconds: float) -> None:
        """Waits."""
        await asyncio.sleep(seconds)

    def _check(self, text: str) -> None:
        try:
            address: Address = ipaddress.ip_address(text)
        except ValueError:
            raise Refused("ADDRESS_NOT_PUBLIC") from None
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            raise Refused("ADDRESS_NOT_PUBLIC")
        if not self._rules.is_public(address):
            raise Refused("ADDRESS_NOT_PUBLIC")
