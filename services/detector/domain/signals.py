"""What a signal is, and which are refused at the door."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from services.detector.domain.channels import Channel, ChannelLevel

MOST_ID_CHARACTERS: Final = 64
MOST_URL_CHARACTERS: Final = 2048
MOST_POST_ID_CHARACTERS: Final = 256
MOST_DUMP_CHARACTERS: Final = 128
MOST_PARTS: Final = 16
MOST_TEXT_BYTES: Final = 256 * 1024
MOST_IMAGE_BYTES: Final = 20 * 1024 * 1024
MOST_SIGNAL_BYTES: Final = 22 * 1024 * 1024
MOST_PAIRS: Final = 64
MOST_NAME_CHARACTERS: Final = 64
MOST_VALUE_CHARACTERS: Final = 4096
MOST_REDIRECTS: Final = 10
MOST_HEADERS: Final = 32
MOST_AHEAD: Final = timedelta(minutes=5)
"""How far a collector's clock may run ahead of ours."""

_SIGNAL_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_BAD_URL: Final = re.compile(r"[\x00-\x20\x7f\\]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_TRACKING: Final = re.compile(r"(?:utm_[a-z]+|fbclid|gclid|igshid|igsh|mibextid|ref_src|ref_url|spm)", re.IGNORECASE)


class Refused(Exception):
    """A signal that is not taken in. `reason` is UPPER_SNAKE, `field` the field at fault; nothing is quoted."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a post: text, or the bytes of a picture. Exactly one of both is set."""

    text: str | None = field(default=None, repr=False)
    image: bytes | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """`image` or `text`."""
        return "text" if self.image is None else "image"

    @property
    def size_bytes(self) -> int:
        """Bytes as sent."""
        return len(self.image) if self.image is not None else len((self.text or "").encode())


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and its text."""

    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CaptureFacts:
    """How the content was fetched."""

    http_status: int = 0
    redirects: tuple[str, ...] = field(default=(), repr=False)
    headers: tuple[Pair, ...] = field(default=(), repr=False)
    tls_peer_sha256: bytes = b""
    collector: str = ""
    fetch_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """A post with its parts as a collector found it; enumerations by their numbers in the contract."""

    signal_id: str
    channel: str
    channel_group: str
    source_type: int
    source_url: str = field(repr=False)
    post_id: str = field(repr=False)
    parent_url: str = field(repr=False)
    discover_time: datetime | None
    publish_time: datetime | None
    parts: tuple[Part, ...]
    metadata: tuple[Pair, ...]
    author_hash: bytes = field(repr=False)
    collection_basis: int
    policy_rule_id: str
    capture: CaptureFacts
    sexual_content_reported: bool = False
    account_dump: str = field(default="", repr=False)
    """Name of the account dump that the post is an entry of."""
    scan_id: str = ""
    """Scan that brought it; empty for none."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def images(self) -> tuple[tuple[int, bytes], ...]:
        """(index of the part, bytes) of each picture."""
        return tuple((at, part.image) for at, part in enumerate(self.parts) if part.image is not None)

    def part_hashes(self) -> list[tuple[str, bytes, int]]:
        """(name such as `image.0`, SHA-256, bytes) of each part."""
        contents = [
            (part.kind, part.image if part.image is not None else (part.text or "").encode()) for part in self.parts
        ]
        return [(f"{kind}.{at}", sha256(data).digest(), len(data)) for at, (kind, data) in enumerate(contents)]


CheckImage = Callable[[bytes], str | None]
"""Looks at a picture's header alone: None when it may come in, else the reason (UPPER_SNAKE)."""


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """What may have been collected: a version of rules/collection.yaml, where each field is explained."""

    version: str
    grounds: Mapping[int, frozenset[int]]
    """Source type → collection bases that it allows, both as numbers of the contract."""
    closed_statuses: frozenset[int]

    @classmethod
    def read(cls, data: Any, source_types: Mapping[str, int], bases: Mapping[str, int]) -> CollectionRules:
        """Raises ValueError or KeyError where a name is unknown or a source type is missing."""
        grounds = {
            source_types[name]: frozenset(bases[base] for base in listed) for name, listed in data["grounds"].items()
        }
        statuses = frozenset(int(status) for status in data["closed_statuses"])
        if set(grounds) != set(source_types.values()) - {0} or not all(400 <= status <= 599 for status in statuses):
            raise ValueError("collection.yaml: a source type is missing, or a status is none of a refusal")
        return cls(str(data["version"]), grounds, statuses)


@dataclass(frozen=True, slots=True)
class Door:
    """The rules of the door. Numbers that `collection` does not list, and bases beyond `bases`, we do not know."""

    collection: CollectionRules
    bases: frozenset[int]
    check_image: CheckImage

    def check(self, signal: Signal, channel: Channel | None, now: datetime) -> None:
        """Raises Refused for the first rule that a signal breaks, cheap rules first."""
        if not usable_id(signal.signal_id):
            raise Refused("BAD_SIGNAL_ID", "signal_id")
        self._check_channel(signal, channel)
        self._check_times(signal, now)
        self._check_enums(signal)
        self._check_collection(signal)
        _check_words(signal)
        self._check_parts(signal)

    def _check_channel(self, signal: Signal, channel: Channel | None) -> None:
        if channel is None or (signal.channel_group and signal.channel_group != channel.channel_group):
            raise Refused("UNKNOWN_CHANNEL", "channel" if channel is None else "channel_group")
        if channel.paused or channel.level is ChannelLevel.BLOCKED:
            raise Refused("CHANNEL_PAUSED", "channel")

    def _check_times(self, signal: Signal, now: datetime) -> None:
        if signal.discover_time is None:
            raise Refused("MISSING_DISCOVERY_TIME", "discover_time")
        if signal.discover_time > now + MOST_AHEAD:
            raise Refused("TIME_IN_FUTURE", "discover_time")
        if signal.publish_time is not None and signal.publish_time > now + MOST_AHEAD:
            raise Refused("TIME_IN_FUTURE", "publish_time")

    def _check_enums(self, signal: Signal) -> None:
        if signal.source_type not in self.collection.grounds:
            raise Refused("UNKNOWN_ENUM", "source_type")
        if signal.collection_basis == 0:
            raise Refused("BASIS_MISSING", "collection_basis")
        if signal.collection_basis not in self.bases:
            raise Refused("UNKNOWN_ENUM", "collection_basis")

    def _check_collection(self, signal: Signal) -> None:
        """What nobody may collect is not taken from somebody who did."""
        if signal.collection_basis not in self.collection.grounds[signal.source_type]:
            raise Refused("COLLECTION_REFUSED", "collection_basis")
        if signal.capture.http_status in self.collection.closed_statuses:
            raise Refused("COLLECTION_REFUSED", "capture.http_status")

    def _check_parts(self, signal: Signal) -> None:
        if len(signal.parts) > MOST_PARTS:
            raise Refused("TOO_MANY_PARTS", "parts")
        for part in signal.parts:
            self._check_part(part)
        if not any(part.image or (part.text or "").strip() for part in signal.parts):
            raise Refused("EMPTY_SIGNAL", "parts")
        if signal.size_bytes > MOST_SIGNAL_BYTES:
            raise Refused("SIGNAL_TOO_LARGE", "parts")

    def _check_part(self, part: Part) -> None:
        if part.text is not None and part.size_bytes > MOST_TEXT_BYTES:
            raise Refused("TEXT_TOO_LARGE", "parts.text")
        if part.image is not None:
            if len(part.image) > MOST_IMAGE_BYTES:
                raise Refused("IMAGE_TOO_LARGE", "parts.image")
            if reason := self.check_image(part.image):
                raise Refused(reason, "parts.image")


def usable_id(signal_id: str) -> bool:
    """Whether a signal id is one: 1 to 64 characters of [A-Za-z0-9._:-]."""
    return bool(_SIGNAL_ID.fullmatch(signal_id))


def _check_words(signal: Signal) -> None:
    if len(signal.post_id) > MOST_POST_ID_CHARACTERS:
        raise Refused("TEXT_TOO_LARGE", "post_id")
    if len(signal.account_dump) > MOST_DUMP_CHARACTERS:
        raise Refused("TEXT_TOO_LARGE", "account_dump")
    if len(signal.policy_rule_id) > MOST_ID_CHARACTERS or len(signal.author_hash) > MOST_ID_CHARACTERS:
        raise Refused("TEXT_TOO_LARGE", "policy_rule_id")
    for name, url in (("source_url", signal.source_url), ("parent_url", signal.parent_url)):
        if url and not usable_url(url):
            raise Refused("BAD_URL", name)
    if not signal.source_url:
        raise Refused("BAD_URL", "source_url")
    _check_pairs(signal.metadata, MOST_PAIRS, "metadata")
    facts = signal.capture
    _check_pairs(facts.headers, MOST_HEADERS, "capture.headers")
    if len(facts.redirects) > MOST_REDIRECTS or not all(usable_url(url) for url in facts.redirects):
        raise Refused("BAD_URL", "capture.redirects")
    if len(facts.collector) > MOST_ID_CHARACTERS or len(facts.tls_peer_sha256) not in (0, 32):
        raise Refused("TEXT_TOO_LARGE", "capture")


def _check_pairs(pairs: tuple[Pair, ...], most: int, name: str) -> None:
    if len(pairs) > most:
        raise Refused("TOO_MANY_PAIRS", name)
    if any(len(p.name) > MOST_NAME_CHARACTERS or len(p.value) > MOST_VALUE_CHARACTERS for p in pairs):
        raise Refused("TEXT_TOO_LARGE", name)


def usable_url(url: str) -> bool:
    """Whether this is an http or https address with a host, without log-in, at most 2,048 characters."""
    if len(url) > MOST_URL_CHARACTERS or _BAD_URL.search(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and not parts.username and _port(parts) >= 0
    except ValueError:
        return False


def normalised_url(url: str) -> str:
    """The address as two finders of the same page would both write it (RFC 3986, 6.2).

    Lower-case scheme and host, no `www.` or `m.`, no default port, no fragment, tracking parameters dropped and
    the others sorted, no slash at the end; https and http are one. For comparison only, never for fetching.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.").removeprefix("m.")
    port = f":{_port(parts)}" if _port(parts) else ""
    path = quote(unquote(parts.path), safe="/%:@!$&'()*+,;=-._~").rstrip("/")
    kept = sorted(pair for pair in parts.query.split("&") if pair and not _TRACKING.fullmatch(pair.split("=")[0]))
    return urlunsplit(("https", host + port, path, "&".join(kept), ""))


def _port(parts: SplitResult) -> int:
    """The port where it says something, else 0. Raises ValueError for one out of range."""
    return 0 if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else int(parts.port or 0)


def post_key(signal: Signal) -> tuple[str, str]:
    """What two signals of one post share: channel and post id, or the normalised address where there is none."""
    return (signal.channel, signal.post_id) if signal.post_id else ("url", normalised_url(signal.source_url))
