"""What is a signed archive, and which bytes is it made of?

A ZIP (APPNOTE 6.3.10) of which every byte is determined by its members: stored uncompressed, in a fixed order, with a
fixed date, without extra fields and comments. So the same content gives the same bytes, and a change anywhere, in a
header too, shows by comparing the file with what its members would give.

Members in order: `manifest.json` (RFC 8785) names every other file with its size and SHA-256 and the Merkle root over
them; `manifest.sig` is an Ed25519 signature over exactly the manifest's bytes; `manifest.time` is a token that says
when that signature existed; then, where content was put away, the signed statement `superseded.json`; then the files.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import rfc8785

from services.case.domain.merkle import merkle_root

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
TIME = "manifest.time"
SUPERSEDED = "superseded.json"
ENTRY_BYTES = 30 + 46
"""What a member adds to an archive beside its content and twice its name (APPNOTE 4.3.7, 4.3.12)."""
SEALS_BYTES = 2048
"""More than signature, time token, the end of the archive and the headers of the first members take together."""
MEMBERS_AT_MOST = 20_000

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _MADE_BY, _DATE, _MODE = 20, 3 << 8 | 20, 1 << 5 | 1, 0o644 << 16

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Sign: TypeAlias = Callable[[bytes], bytes]
"""Ed25519 (RFC 8032) signature of a content."""


def canonical(value: Json) -> bytes:
    """RFC 8785 bytes of a JSON value. Raises ValueError for what has none."""
    return _PLAIN.encode(value).encode() if _is_plain(value) else rfc8785.dumps(value)


_PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
_LARGEST = 2**53 - 1


def _is_plain(value: Json) -> bool:
    """Whether the standard library writes a value as RFC 8785 does, many times faster: their sorting is the same of
    keys in ASCII, and their numbers are where they are whole."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if isinstance(value, dict):
        return all(type(key) is str and key.isascii() for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return kind is int and isinstance(value, int) and -_LARGEST <= value <= _LARGEST


def read_json(content: bytes) -> Json:
    """A JSON value. Raises ValueError for what is not JSON in UTF-8, or names a key twice."""

    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key stands twice")
        return value

    value: Json = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    return value


def listing(files: Mapping[str, bytes]) -> list[Json]:
    """How a manifest names files: path, SHA-256, size; in the order of their paths."""
    return [listed(path, files[path], len(files[path])) for path in sorted(files)]


def listed(path: str, content: bytes, size: int) -> Json:
    """The entry of one file."""
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": size}


def root_over(listed: Iterable[Json]) -> bytes:
    """RFC 6962 root over the canonical entries of a listing, in their order."""
    return merkle_root([canonical(entry) for entry in listed])


@dataclass(frozen=True, slots=True)
class Signed:
    """A manifest with its signature and the files that it names, in its order; the time token comes last."""

    manifest: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def manifest_sha256(self) -> bytes:
        """What events and records call the archive by."""
        return hashlib.sha256(self.manifest).digest()

    @property
    def imprint(self) -> bytes:
        """SHA-256 of the signature, which a time token is about: it proves when was signed (RFC 3161, appendix A)."""
        return hashlib.sha256(self.signature).digest()

    def finished(self, token: bytes) -> bytes:
        """The archive with its time token."""
        return write({MANIFEST: self.manifest, SIGNATURE: self.signature, TIME: token, **self.files}.items())


def signed(manifest: Json, files: Mapping[str, bytes], key_id: str, sign: Sign) -> Signed:
    """Signs a manifest; `files` in the order in which it names them."""
    content = canonical(manifest)
    signature: Json = {
        "algorithm": "Ed25519",
        "key_id": key_id,
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
        "signature": sign(content).hex(),
    }
    return Signed(content, canonical(signature), files)


def statement(said: dict[str, Json], sign: Sign) -> bytes:
    """A statement with an Ed25519 signature over its canonical bytes, as a file of its own."""
    return canonical({"statement": said, "signature": sign(canonical(said)).hex()})


def contents_put_away(archive: bytes, mark: bytes) -> bytes:
    """What is left of a superseded archive: the same manifest with the hash of every file, its signature and time, and
    the signed mark that says so.
    """
    there = {member.name: member.content for member in walk(archive).members}
    kept = {name: content for name in (MANIFEST, SIGNATURE, TIME) if (content := there.get(name)) is not None}
    return write((kept | {SUPERSEDED: mark}).items())


# --- bytes ---


@dataclass(frozen=True, slots=True)
class Member:
    """A member as it lies in an archive; `content` is None where it is not stored plainly."""

    name: str
    content: bytes | None = field(repr=False)
    offset: int


@dataclass(frozen=True, slots=True)
class Walk:
    """Members from the first byte on, and where reading ended."""

    members: Sequence[Member]
    end: int
    whole: bool
    """Whether the directory follows the last member."""


def write(members: Iterable[tuple[str, bytes]]) -> bytes:
    """The archive of these members. Raises ValueError for a name that is not printable ASCII."""
    body, directory, number = bytearray(), bytearray(), 0
    for name, content in members:
        if not (name.isascii() and name.isprintable()):
            raise ValueError("a member's name is printable ASCII")
        facts = zlib.crc32(content), len(content), len(content), len(name)
        directory += _CENTRAL.pack(
            b"PK\x01\x02", _MADE_BY, _VERSION, 0, 0, 0, _DATE, *facts, 0, 0, 0, 0, _MODE, len(body)
        )
        directory += name.encode()
        body += _LOCAL.pack(b"PK\x03\x04", _VERSION, 0, 0, 0, _DATE, *facts, 0) + name.encode() + content
        number += 1
    end = _END.pack(b"PK\x05\x06", 0, 0, number, number, len(directory), len(body), 0)
    return bytes(body + directory + end)


def walk(archive: bytes) -> Walk:
    """Reads members one behind the other, whatever the directory says; stops at what is no member."""
    members: list[Member] = []
    at = 0
    while archive[at : at + 4] == b"PK\x03\x04" and len(members) < MEMBERS_AT_MOST:
        header = archive[at : at + _LOCAL.size]
        if len(header) < _LOCAL.size:
            break
        _, _, flags, method, _, _, _, stored, size, name_bytes, extra_bytes = _LOCAL.unpack(header)
        start = at + _LOCAL.size + name_bytes + extra_bytes
        if start + stored > len(archive):
            break
        name = archive[at + _LOCAL.size : at + _LOCAL.size + name_bytes].decode("ascii", "backslashreplace")
        plain = not flags and not method and stored == size
        members.append(Member(name, archive[start : start + stored] if plain else None, at))
        at = start + stored
    return Walk(members, at, archive[at : at + 4] == b"PK\x01\x02")
