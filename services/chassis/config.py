"""What was this process told by its environment?

Read once, at start, by the service's `__main__`. Everything else receives values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

MIB = 1024 * 1024
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_IPV4 = re.compile(r"\d{1,3}(\.\d{1,3}){3}:\d{1,5}")
_PEER = "JIKIMI_PEER_"


class ConfigError(Exception):
    """A variable is missing or wrong. Names the variable and the reason, never its value."""

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable}: {reason}")
        self.variable = variable
        self.reason = reason


@dataclass(frozen=True)
class Config:
    """The process's surroundings. Secrets (`database_url`, `nats_url`) stay out of `repr` and `printable`."""

    service: str
    """Name of this service, lower case."""
    home: Path
    """Folder of this system's state."""
    listen: str = "127.0.0.1:0"
    """host:port of the gRPC server; port 0 lets the kernel choose."""
    database_url: str = field(default="", repr=False)
    """postgresql+asyncpg://…"""
    nats_url: str = field(default="", repr=False)
    """nats://user:password@host:port"""
    keys_dir: Path = Path("keys")
    """Where this service's data keys lie, outside the database and its backups."""
    master_key_file: Path = Path("master.key")
    """Key that wraps the data keys."""
    token_keys_dir: Path = Path("tokens/public")
    """Public keys of token issuers, `<key_id>.pub`."""
    service_key_file: Path = Path("tokens/private/service.key")
    """Private key with which this service signs its own calls."""
    profile: str = "production"
    """production, or test (allows the movable clock)."""
    clock_file: Path | None = None
    """Seconds by which business time is moved; test profile only."""
    partitions: int = 4
    """Partitions of the event streams; the same number everywhere."""
    peers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Service name → host:port; of several instances with IPv4 addresses, parted by commas."""
    otlp_endpoint: str = ""
    """Where traces go (host:port or http URL); empty turns them off."""
    metrics_port: int = 0
    """Port of the Prometheus page; 0 turns it off."""
    metrics_host: str = "127.0.0.1"
    """Address of the Prometheus page."""
    models_dir: Path = Path("models")
    """Where the model files lie."""
    rules_dir: Path | None = None
    """Versioned rules (thresholds, merge rules, policies); None means those shipped with the service."""
    max_message_bytes: int = 4 * MIB
    """Largest gRPC message that this server accepts."""
    max_concurrent_rpcs: int = 4096
    """Calls and streams served at once; beyond it callers get RESOURCE_EXHAUSTED."""
    unary_seconds: float = 30.0
    """Longest answer to a single call whose caller set no deadline."""
    drain_seconds: float = 10.0
    """How long a stop waits for calls in flight."""
    tls_dir: Path | None = None
    """Folder of tls.crt, tls.key, ca.crt for calls, peers and the broker; None: in the clear."""
    probe_listen: str = ""
    """host:port where health alone answers in the clear, for probes that speak no TLS; empty: nowhere."""
    stream_replicas: int = 1
    """Brokers that keep a copy of a stream that this service makes."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, *, max_message_bytes: int = 4 * MIB) -> Config:
        """Reads the JIKIMI_ variables; `max_message_bytes` is the service's default. Raises ConfigError."""
        home = Path(_required(environ, "JIKIMI_HOME"))
        service = _required(environ, "JIKIMI_SERVICE", _service_name)
        profile = setting(environ, "JIKIMI_PROFILE", "production", _profile)
        return cls(
            service=service,
            home=home,
            listen=setting(environ, "JIKIMI_LISTEN", "127.0.0.1:0", _address),
            database_url=_required(environ, "JIKIMI_DATABASE_URL", _url("postgresql+asyncpg")),
            nats_url=_required(environ, "JIKIMI_NATS_URL", _url("nats", "tls")),
            keys_dir=setting(environ, "JIKIMI_KEYS_DIR", home / "keys" / service, Path),
            master_key_file=setting(environ, "JIKIMI_MASTER_KEY_FILE", home / "keys" / "master.key", Path),
            token_keys_dir=setting(environ, "JIKIMI_TOKEN_KEYS_DIR", home / "tokens" / "public", Path),
            service_key_file=setting(
                environ, "JIKIMI_SERVICE_KEY_FILE", home / "tokens" / "private" / f"{service}.key", Path
            ),
            profile=profile,
            clock_file=_clock_file(environ, profile),
            partitions=setting(environ, "JIKIMI_PARTITIONS", 4, integer(1, 256)),
            peers=_peers(environ),
            otlp_endpoint=setting(environ, "JIKIMI_OTLP_ENDPOINT", "", str),
            metrics_port=setting(environ, "JIKIMI_METRICS_PORT", 0, integer(0, 65_535)),
            metrics_host=setting(environ, "JIKIMI_METRICS_HOST", "127.0.0.1", str),
            models_dir=setting(environ, "JIKIMI_MODELS_DIR", home / "models", Path),
            rules_dir=setting(environ, "JIKIMI_RULES_DIR", None, Path),
            max_message_bytes=setting(
                environ, "JIKIMI_MAX_MESSAGE_BYTES", max_message_bytes, integer(64 * 1024, 256 * MIB)
            ),
            max_concurrent_rpcs=setting(environ, "JIKIMI_MAX_CONCURRENT_RPCS", 4096, integer(8, 100_000)),
            unary_seconds=setting(environ, "JIKIMI_UNARY_SECONDS", 30.0, _seconds),
            drain_seconds=setting(environ, "JIKIMI_DRAIN_SECONDS", 10.0, _seconds),
            tls_dir=setting(environ, "JIKIMI_TLS_DIR", None, Path),
            probe_listen=setting(environ, "JIKIMI_PROBE_LISTEN", "", _address),
            stream_replicas=setting(environ, "JIKIMI_STREAM_REPLICAS", 1, integer(1, 5)),
        )

    def printable(self) -> dict[str, str]:
        """Every field as text, for the line at start; secrets as set or unset."""
        shown = {f.name: str(getattr(self, f.name)) for f in fields(self) if f.repr}
        hidden = {f.name: "set" if getattr(self, f.name) else "unset" for f in fields(self) if not f.repr}
        shown["peers"] = " ".join(f"{name}={address}" for name, address in sorted(self.peers.items()))
        return shown | hidden


def setting(environ: Mapping[str, str], name: str, default: T, parse: Callable[[str], T]) -> T:
    """One variable, parsed; `default` when unset or empty. A ValueError becomes a ConfigError."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as error:
        # Only reasons made in this codebase are safe to show: a parser's own words may quote the value.
        reason = str(error) if isinstance(error, _RefusedError) else "cannot be read"
        raise ConfigError(name, reason) from None


class _RefusedError(ValueError):
    """A value that a parser of this module refuses, with words that do not quote it."""


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser for whole numbers from `low` to `high`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text) or not low <= int(text) <= high:
            raise _RefusedError(f"is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _required(environ: Mapping[str, str], name: str, parse: Callable[[str], str] = str) -> str:
    value = setting(environ, name, "", parse)
    if not value:
        raise ConfigError(name, "is not set")
    return value


def _service_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise _RefusedError("is not a service name (lower case letters, digits, _)")
    return text


def _profile(text: str) -> str:
    if text not in {"production", "test"}:
        raise _RefusedError("is neither production nor test")
    return text


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[2]) > 65_535:
        raise _RefusedError("is not host:port")
    return text


def _addresses(text: str) -> str:
    """One address of any form (a DNS name may stand for many), or IPv4 addresses parted by commas."""
    several = text.split(",")
    if len(several) > 1 and not all(_IPV4.fullmatch(_address(each)) for each in several):
        raise _RefusedError("is neither host:port nor IPv4 addresses with ports, parted by commas")
    return _address(text) if len(several) == 1 else text


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if urlsplit(text).scheme not in schemes:
            raise _RefusedError(f"does not start with {schemes[0]}://")
        return text

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 600:
        raise _RefusedError("is not between 0 and 600 seconds")
    return value


def _clock_file(environ: Mapping[str, str], profile: str) -> Path | None:
    file = setting(environ, "JIKIMI_CLOCK_FILE", None, Path)
    if file is not None and profile != "test":
        raise ConfigError("JIKIMI_CLOCK_FILE", "is allowed in the test profile only")
    return file


def _peers(environ: Mapping[str, str]) -> Mapping[str, str]:
    names = sorted(name for name in environ if name.startswith(_PEER) and environ[name])
    return MappingProxyType(
        {name.removeprefix(_PEER).lower(): setting(environ, name, "", _addresses) for name in names}
    )
