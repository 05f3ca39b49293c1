"""How does a service call another?

`Peers.stub(...)` gives a generated stub whose calls carry this service's own token, the trace, a deadline,
and are repeated only when the peer was UNAVAILABLE. What comes back wrong is an `AioRpcError`; `unwrap` makes
it the `ServiceError` that the peer raised.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import grpc
import grpc.aio
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # no stubs
from grpc_status import rpc_status

from misuse.common.v1.access_pb2 import Purpose, Role
from services.chassis.config import MIB, Config
from services.chassis.errors import BY_STATUS, Internal, ServiceError
from services.chassis.telemetry import inject_traceparent
from services.chassis.tls import open_channel
from services.chassis.tokens import Issuer

Stub = TypeVar("Stub")

CALL_SECONDS = 10.0
"""Deadline of a single call whose caller names none."""
TOKEN_SECONDS = 600.0
"""Life of the tokens that a service signs for itself; renewed at half."""
MAX_ANSWER_BYTES = 24 * MIB
"""Largest message that is taken from a peer."""

_RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [{"name": [{}], "retryPolicy": _RETRY}],
        "loadBalancingConfig": [{"round_robin": {}}],
        # Watches grpc.health.v1 of each instance (gRFC A17): one that says that it ends is asked no more. Without that
        # a call that meets the closing door is CANCELLED, which nobody may retry.
        "healthCheckConfig": {"serviceName": ""},
    }
)
CHANNEL_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
)


def target_of(addresses: str) -> str:
    """What gRPC is to connect to: every instance, calls in turn. A name is resolved to all of its addresses."""
    return f"ipv4:{addresses}" if "," in addresses else addresses


class Peers:
    """The other services, as this one sees them. One channel a peer, opened at the first call."""

    def __init__(self, config: Config, issuer: Callable[[], Issuer]) -> None:
        """`issuer` is asked before each call, since keys change while services run."""
        self._config = config
        self._issuer = issuer
        self._role = Role.Value(f"ROLE_SERVICE_{config.service.upper()}")
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._tokens: dict[tuple[str, Purpose.ValueType], tuple[str, float, Issuer]] = {}

    def stub(
        self, service: str, stub_class: Callable[[grpc.aio.Channel], Stub], purpose: Purpose.ValueType
    ) -> Stub:
        """A generated stub (`CaseServiceStub`) of a service named in the configuration. Raises KeyError for
        others.
        """
        channel = self._channel(service)
        signed = _SignedChannel(channel, lambda: self._metadata(service, purpose))
        # A stub asks its channel for the four kinds of call and nothing else.
        return stub_class(cast(grpc.aio.Channel, signed))

    async def close(self) -> None:
        """Ends all channels."""
        for channel in self._channels.values():
            await channel.close()

    def _channel(self, service: str) -> grpc.aio.Channel:
        if service not in self._channels:
            target = target_of(self._config.peers[service])
            self._channels[service] = open_channel(target, self._config.tls_dir, CHANNEL_OPTIONS)
        return self._channels[service]

    def _metadata(self, service: str, purpose: Purpose.ValueType) -> list[tuple[str, str]]:
        metadata = [("authorization", f"Bearer {self._token(service, purpose)}")]
        traceparent = inject_traceparent()
        return [*metadata, ("traceparent", traceparent)] if traceparent else metadata

    def _token(self, service: str, purpose: Purpose.ValueType) -> str:
        issuer, now = self._issuer(), time.monotonic()
        token, renew, signed_by = self._tokens.get((service, purpose), ("", 0.0, None))
        if now >= renew or signed_by is not issuer:
            subject = f"service:{self._config.service}"
            token = issuer.issue(subject, self._role, purpose, service, TOKEN_SECONDS)
            self._tokens[service, purpose] = (token, now + TOKEN_SECONDS / 2, issuer)
        return token


class _SignedChannel:
    """A channel whose calls carry metadata made when they start, and a deadline where they end by themselves.

    Client interceptors would do the same for about twice the cost of a trivial call.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: Callable[[], list[tuple[str, str]]]) -> None:
        self._channel = channel
        self._metadata = metadata

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """One request, one answer."""
        return self._signed(self._channel.unary_unary(*args, **kwargs), CALL_SECONDS)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """One request, many answers."""
        return self._signed(self._channel.unary_stream(*args, **kwargs), None)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """Many requests, one answer."""
        return self._signed(self._channel.stream_unary(*args, **kwargs), None)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """Many requests, many answers."""
        return self._signed(self._channel.stream_stream(*args, **kwargs), None)

    def _signed(self, call: Any, seconds: float | None) -> Callable[..., Any]:
        def signed(*args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
            metadata = [*self._metadata(), *(kwargs.pop("metadata", None) or ())]
            return call(*args, timeout=seconds if timeout is None else timeout, metadata=metadata, **kwargs)

        return signed


def unwrap(error: grpc.aio.AioRpcError) -> ServiceError:
    """The `ServiceError` that the peer raised, as far as its status tells; Internal for what no service
    raises.
    """
    kind = BY_STATUS.get(error.code().name, Internal)
    reason, metadata = error.code().name, {}
    violations: list[tuple[str, str]] = []
    retry_after_ms: int | None = None
    # An AioRpcError has the three methods of a call that are read here.
    status = rpc_status.from_call(cast(grpc.Call, error))
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            violations = [(v.field, v.description) for v in bad.field_violations]
        elif detail.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR):
            failure = error_details_pb2.PreconditionFailure.FromString(detail.value)
            violations = [(v.subject, v.type) for v in failure.violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry_after_ms = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds()
    message = status.message if status else "The peer's answer says no more."
    return kind(reason, message, metadata=metadata, violations=violations, retry_after_ms=retry_after_ms)
