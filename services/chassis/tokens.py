"""Who is calling, and how is that proved?

A token is `base64url(claims) "." base64url(signature)`, sent as `authorization: Bearer <token>`. The claims
are an `ActorClaims` message; the signature is Ed25519 (RFC 8032) over exactly the bytes that were sent.
Tokens use real time and never the movable clock.

Key files: `<private dir>/<name>.key` holds `<key id> <seed, hex>`; `<public dir>/<key id>.pub` holds the
public key in hex, followed by the names of the roles it may sign, one a line; without names it may sign every
role. A service's key signs that service's role alone, so a stolen one mints no subscribers.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from google.protobuf.message import DecodeError
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from misuse.common.v1.access_pb2 import ROLE_DEVICE, Purpose, Role
from misuse.common.v1.actor_pb2 import ActorClaims
from services.chassis.errors import Unauthenticated
from services.chassis.files import replace_file, write_once

MAX_TTL = timedelta(hours=12)
"""Longest life of a token; a longer one is refused even when properly signed."""
SKEW = timedelta(seconds=30)
"""How far the clocks of issuer and verifier may differ."""
MAX_TOKEN_CHARS = 2048
"""Longest token that is looked at."""

_CACHE_SIZE = 4096
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUBJECT = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who calls, as a verified token says."""

    subject: str
    """Subscriber id for subscribers and devices; otherwise an opaque staff or service id."""
    role: Role.ValueType
    purpose: Purpose.ValueType
    audience: str
    """The service the token is for."""
    device_id: str
    """The device of a device token; empty otherwise."""
    expire_time: datetime
    issue_time: datetime


_actor: ContextVar[Actor | None] = ContextVar("actor", default=None)


def current_actor() -> Actor:
    """The caller of the RPC that runs now. Raises Unauthenticated outside of one."""
    actor = _actor.get()
    if actor is None:
        raise Unauthenticated("TOKEN_MISSING", "The call carries no actor token.")
    return actor


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Makes `actor` the current one inside the block; for the interceptor and for tests of handlers."""
    previous = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(previous)


class Issuer:
    """Signs tokens with one private key."""

    def __init__(self, key_id: str, seed: bytes) -> None:
        self.key_id = _checked_key_id(key_id)
        self._key = SigningKey(seed)

    @classmethod
    def from_file(cls, file: Path) -> Issuer:
        """Reads a private key file. Raises ValueError when it is not one."""
        key_id, _, seed = file.read_text(encoding="ascii").strip().partition(" ")
        return cls(key_id, _from_hex(seed))

    def issue(
        self,
        subject: str,
        role: Role.ValueType,
        purpose: Purpose.ValueType,
        audience: str,
        ttl_s: float,
        device_id: str = "",
    ) -> str:
        """A token that lives `ttl_s` seconds from now, at most 12 hours.

        Raises ValueError for claims that no verifier accepts.
        """
        now = datetime.now(UTC)
        claims = ActorClaims(
            key_id=self.key_id,
            subject=subject,
            role=role,
            purpose=purpose,
            audience=audience,
            device_id=device_id,
        )
        claims.issue_time.FromDatetime(now)
        claims.expire_time.FromDatetime(now + timedelta(seconds=ttl_s))
        if ttl_s > MAX_TTL.total_seconds() or not _sensible(claims):
            raise ValueError("no verifier would accept these claims")
        return self.sign(claims)

    def sign(self, claims: ActorClaims) -> str:
        """Signs claims as they are; `issue` is the way that checks them."""
        body = claims.SerializeToString(deterministic=True)
        return f"{_encode(body)}.{_encode(self._key.sign(body).signature)}"


class IssuerFile:
    """Signs tokens with the key that a private key file holds now: a look at its time before each."""

    def __init__(self, file: Path) -> None:
        """Raises OSError, ValueError for a file that is not a key."""
        self._file = file
        self._stamp = self._look()
        self._issuer = Issuer.from_file(file)

    def current(self) -> Issuer:
        """The issuer of now; the same object until the file changes."""
        stamp = self._look()
        if stamp != self._stamp:
            self._issuer, self._stamp = Issuer.from_file(self._file), stamp
        return self._issuer

    def _look(self) -> tuple[int, int]:
        status = self._file.stat()
        return status.st_ino, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class _PublicKey:
    key: VerifyKey
    roles: frozenset[int]


class Verifier:
    """Checks tokens against the public keys of a folder, which it reads again when the folder changes."""

    def __init__(self, public_keys_dir: Path, reload_seconds: float = 5.0) -> None:
        self._dir = public_keys_dir
        self._reload_seconds = reload_seconds
        self._keys: dict[str, _PublicKey] = {}
        self._stamp = -1
        self._next_look = 0.0
        self._cache: OrderedDict[str, Actor] = OrderedDict()

    def verify(self, token: str, audience: str, now: datetime) -> Actor:
        """The actor that `token` proves. `now` is real time. Raises Unauthenticated with the reason."""
        self._look_for_new_keys()
        actor = self._cache.get(token)
        if actor is None:
            actor = self._open(token)
            self._remember(token, actor)
        else:
            self._cache.move_to_end(token)
        _check_time(actor, now)
        if actor.audience != audience:
            raise _refusal("TOKEN_AUDIENCE_MISMATCH", "The token is for another service.")
        return actor

    def _open(self, token: str) -> Actor:
        body, signature, claims = _parse(token)
        public = self._keys.get(claims.key_id)
        if public is None:
            # A key that was made a moment ago: one look at the folder's time, whatever the interval.
            self._next_look = 0.0
            self._look_for_new_keys()
            public = self._keys.get(claims.key_id)
        if public is None:
            raise _refusal("TOKEN_KEY_UNKNOWN", "The token's key is not known here.")
        try:
            public.key.verify(body, signature)
        except (BadSignatureError, ValueError):
            raise _refusal("TOKEN_SIGNATURE_INVALID", "The token's signature is wrong.") from None
        if public.roles and claims.role not in public.roles:
            raise _refusal("TOKEN_ROLE_NOT_SIGNABLE", "The token's key may not sign this role.")
        if not _sensible(claims):
            raise _refusal("TOKEN_MALFORMED", "The token cannot be read.")
        return _actor_of(claims)

    def _remember(self, token: str, actor: Actor) -> None:
        self._cache[token] = actor
        if len(self._cache) > _CACHE_SIZE:
            self._cache.popitem(last=False)

    def _look_for_new_keys(self) -> None:
        moment = time.monotonic()
        if moment < self._next_look:
            return
        self._next_look = moment + self._reload_seconds
        stamp = self._dir.stat().st_mtime_ns if self._dir.is_dir() else 0
        if stamp != self._stamp:
            self._keys = {file.stem: _read_public(file) for file in sorted(self._dir.glob("*.pub"))}
            self._cache.clear()
            self._stamp = stamp


def create_key_pair(
    private_dir: Path, public_dir: Path, key_id: str, roles: Sequence[Role.ValueType] = ()
) -> Issuer:
    """Makes `<private_dir>/<key_id>.key` (mode 0600) and `<public_dir>/<key_id>.pub`; keeps an existing key.

    `roles` are those the key may sign; none means every role.
    """
    private = private_dir / f"{_checked_key_id(key_id)}.key"
    for folder in (private_dir, public_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not private.exists():
        write_once(private, f"{key_id} {SigningKey.generate().encode().hex()}\n".encode())
    issuer = Issuer.from_file(private)
    lines = [issuer._key.verify_key.encode().hex(), *(Role.Name(role) for role in roles)]
    public = public_dir / f"{issuer.key_id}.pub"
    text = "\n".join(lines) + "\n"
    if not public.exists() or public.read_text(encoding="ascii") != text:
        replace_file(public, text.encode())
    return issuer


def _parse(token: str) -> tuple[bytes, bytes, ActorClaims]:
    malformed = _refusal("TOKEN_MALFORMED", "The token cannot be read.")
    if not token:
        raise _refusal("TOKEN_MISSING", "The call carries no actor token.")
    if len(token) > MAX_TOKEN_CHARS:
        raise malformed
    try:
        body, signature = (_decode(part) for part in token.split("."))
        return body, signature, ActorClaims.FromString(body)
    except (ValueError, binascii.Error, DecodeError):
        raise malformed from None


def _sensible(claims: ActorClaims) -> bool:
    """Whether a correctly signed token says things that can be true."""
    return (
        bool(_SUBJECT.fullmatch(claims.subject))
        and claims.role in Role.values()[1:]
        and claims.purpose in Purpose.values()[1:]
        and bool(claims.audience)
        and len(claims.device_id) <= 64
        and bool(claims.device_id) == (claims.role == ROLE_DEVICE)
        and claims.HasField("issue_time")
        and claims.HasField("expire_time")
        and all(0 <= stamp.seconds < 1 << 33 for stamp in (claims.issue_time, claims.expire_time))
        and all(0 <= stamp.nanos < 1_000_000_000 for stamp in (claims.issue_time, claims.expire_time))
    )


def _actor_of(claims: ActorClaims) -> Actor:
    return Actor(
        subject=claims.subject,
        role=claims.role,
        purpose=claims.purpose,
        audience=claims.audience,
        device_id=claims.device_id,
        expire_time=claims.expire_time.ToDatetime(UTC),
        issue_time=claims.issue_time.ToDatetime(UTC),
    )


def _check_time(actor: Actor, now: datetime) -> None:
    if actor.expire_time - actor.issue_time > MAX_TTL:
        raise _refusal("TOKEN_TTL_TOO_LONG", "The token lives longer than 12 hours.")
    if now >= actor.expire_time + SKEW:
        raise _refusal("TOKEN_EXPIRED", "The token has expired.")
    if now < actor.issue_time - SKEW:
        raise _refusal("TOKEN_NOT_YET_VALID", "The token is dated in the future.")


def _refusal(reason: str, message: str) -> Unauthenticated:
    return Unauthenticated(reason, message)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _decode(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)


def _checked_key_id(key_id: str) -> str:
    if not _KEY_ID.fullmatch(key_id):
        raise ValueError("a key id is 1 to 64 letters, digits, dots, underscores or hyphens")
    return key_id


def _from_hex(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("a key file does not hold a key of 32 bytes in hex")
    return key


def _read_public(file: Path) -> _PublicKey:
    key, *roles = file.read_text(encoding="ascii").split()
    return _PublicKey(VerifyKey(_from_hex(key)), frozenset(Role.Value(role) for role in roles))
