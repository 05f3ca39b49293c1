"""How do people's tools call the services?

Through the typed client package (betterproto over grpclib), with tokens that the home's issuer signs: another
implementation of the contract than the services' own, so each use is a test of interoperability.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpclib
from betterproto import ServiceStub
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # no stubs
from grpclib.client import Channel
from grpclib.config import Configuration

from misuse.common.v1.access_pb2 import Purpose, Role
from services.chassis.tokens import Issuer
from services.console.home import Home, HomeUnusable
from services.console.remote import Remote

T = TypeVar("T")
Stub = TypeVar("Stub", bound=ServiceStub)

CALL_SECONDS = 30.0
MESSAGE_BYTES = 24 * 1024 * 1024


@dataclass(frozen=True)
class Caller:
    """Who calls, as what, and why."""

    subject: str
    role: Role.ValueType
    purpose: Purpose.ValueType
    device_id: str = ""


def staff(role: str, purpose: str, subject: str = "console") -> Caller:
    """A member of staff, by the names of role and purpose without their prefix: `staff("OPERATOR", "AUDIT")`."""
    return Caller(subject, Role.Value(f"ROLE_{role}"), Purpose.Value(f"PURPOSE_{purpose}"))


def subscriber(subscriber_id: str, purpose: str = "PROTECTION") -> Caller:
    """A subscriber, reaching their own data only."""
    return Caller(subscriber_id, Role.ROLE_SUBSCRIBER, Purpose.Value(f"PURPOSE_{purpose}"))


def device(subscriber_id: str, device_id: str) -> Caller:
    """A subscriber's device."""
    return Caller(subscriber_id, Role.ROLE_DEVICE, Purpose.PURPOSE_NOTIFICATION, device_id)


class Connections:
    """Channels to the services of one home, opened when first used."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._channels: dict[str, Channel] = {}
        self._remote = Remote.from_env()
        self._issuer = None if self._remote.token else _issuer(home)

    def stub(
        self, service: str, stub_class: type[Stub], caller: Caller, *, seconds: float | None = CALL_SECONDS
    ) -> Stub:
        """A typed stub whose calls carry the caller's token (valid for 12 hours)."""
        token = self._remote.token
        if self._issuer is not None:
            token = self._issuer.issue(caller.subject, caller.role, caller.purpose, service, 43_000, caller.device_id)
        return stub_class(self._channel(service), timeout=seconds, metadata={"authorization": f"Bearer {token}"})

    def _channel(self, service: str) -> Channel:
        if service not in self._channels:
            host, port = self._remote.peers.get(service) or ("127.0.0.1", self._home.ports()[service])
            window = Configuration(http2_connection_window_size=MESSAGE_BYTES, http2_stream_window_size=MESSAGE_BYTES)
            self._channels[service] = Channel(host, port, ssl=self._remote.tls, config=window)
        return self._channels[service]

    def close(self) -> None:
        """Closes all channels."""
        for channel in self._channels.values():
            channel.close()


def _issuer(home: Home) -> Issuer:
    try:
        return Issuer.from_file(home.path / "tokens" / "private" / "issuer.key")
    except FileNotFoundError:
        raise HomeUnusable(f"Nothing was ever started in {home.path}; try `make up`.") from None


@asynccontextmanager
async def connections(home: Home) -> AsyncIterator[Connections]:
    """Connections that are closed at the end."""
    opened = Connections(home)
    try:
        yield opened
    finally:
        opened.close()


def reason_of(error: grpclib.GRPCError) -> str:
    """The UPPER_SNAKE reason of a refusal; the status' name where a peer gave none."""
    details: list[Any] = error.details if isinstance(error.details, list) else []
    for detail in details:
        if isinstance(detail, error_details_pb2.ErrorInfo):
            return str(detail.reason)
    return error.status.name


async def once_consented(call: Callable[[], Awaitable[T]]) -> T:
    """A consent travels to the detector as an event: within a moment of recording it the detector may not know."""
    for _ in range(100):
        try:
            return await call()
        except grpclib.GRPCError as error:
            if reason_of(error) not in {"CONSENT_MISSING", "SUBSCRIBER_UNKNOWN"}:
                raise
            await asyncio.sleep(0.1)
    return await call()
