"""Is this evidence pack, or this exported case, what `case` made, to the last byte? Needs no server.

`python -m services.case evidence verify FILE --public-key FOLDER_OR_FILE`
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.case.domain import case_archive
from services.case.domain.archive import (
    MANIFEST,
    MEMBERS_AT_MOST,
    SIGNATURE,
    SUPERSEDED,
    TIME,
    Json,
    Walk,
    canonical,
    read_json,
    root_over,
    walk,
    write,
)
from services.case.domain.case_archive import LogReach
from services.case.domain.custody import broken_step
from services.case.domain.evidence import FORMAT
from services.case.domain.timestamps import FORMAT as TIME_FORMAT

FIRST_FORMAT = "jikimi-evidence/1"
"""Packs without Merkle root, time token and report."""
LARGEST_BYTES = case_archive.MAX_EXPORT_BYTES
EVIDENCE_KEYS, TIME_KEYS, HEAD_KEYS = "case-evidence", "case-time", "gate-heads"
"""How the names of keys begin that may sign archives, times and log heads: none of them stands in for another."""
DIRECTORY = "(directory)"
_SIGNATURE = {"algorithm", "key_id", "signature"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong: the file in the archive, what, and what it should be and is.

    NOT_AN_ARCHIVE, TOO_LARGE, MANIFEST_MISSING, MANIFEST_MALFORMED, MANIFEST_NOT_CANONICAL, MERKLE_ROOT_DIFFERS,
    CUSTODY_BROKEN, SIGNATURE_MISSING, SIGNATURE_MALFORMED, SIGNATURE_INVALID, KEY_UNKNOWN, TIME_MISSING,
    TIME_MALFORMED, TIME_OF_ANOTHER, TIME_INVALID, TIME_IMPOSSIBLE, MARK_INVALID, TRUNCATED, FILE_MISSING, FILE_ADDED,
    FILE_TWICE, SIZE_DIFFERS, HASH_DIFFERS, UNREADABLE, ORDER_DIFFERS, BYTES_DIFFER; of a log the reasons of a chain.
    """

    place: str
    reason: str
    expected: str = ""
    actual: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found; `faults` in the order in which an archive is read, so that the first is the first wrong thing."""

    case_id: str = ""
    pack_id: str = ""
    version: int = 0
    items: int = 0
    files: int = 0
    manifest_sha256: str = ""
    faults: tuple[Fault, ...] = ()
    exported: bool = False
    """True for a whole case."""
    superseded: bool = False
    """True where of an old pack only what proves it is left."""
    signed_time: str = ""
    """When it was signed, as the time token says; empty where none could be believed."""
    log: LogReach | None = None
    """What the log of an exported case says, and how far a head kept elsewhere speaks for it."""

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def judged(self) -> bool:
        """False where the only trouble is that a key is not known here."""
        return not self.faults or any(fault.reason != "KEY_UNKNOWN" for fault in self.faults)


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The keys that are believed: `<key id>.pub` files, or folders of them."""

    places: Sequence[Path]

    def find(self, key_id: str, use: str) -> VerifyKey | None:
        """The key of this name, if it may be used so."""
        files = [file for place in self.places for file in (sorted(place.glob("*.pub")) if place.is_dir() else [place])]
        file = next((file for file in files if file.stem == key_id and key_id.startswith(use)), None)
        if file is None:
            return None
        try:
            key, *roles = file.read_text(encoding="ascii").split()
            # A key that signs actors of a role signs no evidence, whatever service holds it.
            return None if set(roles) - {"ROLE_UNSPECIFIED"} else VerifyKey(bytes.fromhex(key))
        except (ValueError, TypeError):
            return None

    def check(self, key_id: str, use: str, content: bytes, signature: bytes, wrong: str) -> str:
        """Empty where the signature is of this key; else KEY_UNKNOWN or `wrong`."""
        key = self.find(key_id, use)
        if key is None:
            return "KEY_UNKNOWN"
        try:
            key.verify(content, signature)
        except (BadSignatureError, ValueError):
            return wrong
        return ""


def verify(path: Path, *public_keys: Path) -> Verification:
    """Checks an archive against public keys (`<key id>.pub` files, or folders of them). Raises OSError only."""
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        return Verification(faults=(Fault("", "TOO_LARGE", f"at most {LARGEST_BYTES}", str(size)),))
    return verify_bytes(path.read_bytes(), PublicKeys(public_keys))


def verify_bytes(content: bytes, keys: PublicKeys) -> Verification:
    """Checks an archive in memory."""
    walked = walk(content)
    if not walked.members:
        place = MANIFEST if content[30 : 30 + len(MANIFEST)] == MANIFEST.encode() else ""
        return Verification(faults=(Fault(place, "TRUNCATED" if place else "NOT_AN_ARCHIVE"),))
    found = _Found(content, walked, {})
    for member in walked.members:
        found.files.setdefault(member.name, member.content)
    if found.files.get(MANIFEST) is None:
        return Verification(faults=(Fault(MANIFEST, "MANIFEST_MISSING"),))
    return _Check(found, keys).run()


@dataclass(frozen=True, slots=True)
class _Found:
    """An archive as it lies there."""

    content: bytes = field(repr=False)
    walked: Walk
    files: dict[str, bytes | None] = field(repr=False)
    """Name → content of the first member of this name; None where it is not stored plainly."""

    def seal(self, name: str) -> dict[str, Json]:
        """A member that is a JSON object in canonical form. Raises ValueError."""
        content = self.files.get(name) or b""
        value = read_json(content)
        if not isinstance(value, dict) or canonical(value) != content:
            raise ValueError("not a canonical object")
        return value


class _Check:
    """One archive being checked."""

    def __init__(self, found: _Found, keys: PublicKeys) -> None:
        self._found = found
        self._keys = keys
        self._bytes = found.files[MANIFEST] or b""
        self._digest = hashlib.sha256(self._bytes).hexdigest()
        self._faults: list[Fault] = []

    def run(self) -> Verification:
        """Everything, in the order of the archive."""
        try:
            manifest = read_json(self._bytes)
            listed = _listed(manifest)
            assert isinstance(manifest, dict)  # _listed has looked
            plain, custody = canonical(manifest), objects(manifest.get("custody", []))
            names = str(manifest["case_id"]), str(manifest["pack_id"]), int(str(manifest["version"]))
            items = len(objects(manifest["items"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            self._signed("")
            self._faults = self._faults or [Fault(MANIFEST, "MANIFEST_MALFORMED")]
            return Verification(manifest_sha256=self._digest, faults=tuple(self._faults))
        self._signed(str(manifest.get("key_id")))
        if plain != self._bytes:
            self._wrong(MANIFEST, "MANIFEST_NOT_CANONICAL")
        if manifest["format"] != FIRST_FORMAT:
            self._manifest(manifest, listed, custody)
        signed_time = "" if manifest["format"] == FIRST_FORMAT else self._time(str(manifest.get("create_time")))
        superseded = SUPERSEDED in self._found.files and self._mark(manifest)
        self._files(listed, superseded)
        self._container(listed, manifest["format"] != FIRST_FORMAT)
        log = None
        if exported := manifest["format"] == case_archive.FORMAT:
            log = self._case(manifest)
        return Verification(
            *names,
            items=items,
            files=len(listed),
            manifest_sha256=self._digest,
            faults=tuple(self._faults),
            exported=exported,
            superseded=superseded,
            signed_time=signed_time,
            log=log,
        )

    def _wrong(self, place: str, reason: str, expected: str = "", actual: str = "") -> None:
        self._faults.append(Fault(place, reason, expected, actual))

    def _signed(self, key_id: str) -> None:
        """The signature; it also names the manifest's hash, so that it can be said which of the two was changed. For a
        manifest that cannot be read (`key_id` empty) only that is looked at.
        """
        if SIGNATURE not in self._found.files:
            self._wrong(SIGNATURE, "SIGNATURE_MISSING")
            return
        try:
            said = self._found.seal(SIGNATURE)
            value = _plain_hex(said["signature"])
            if said["algorithm"] != "Ed25519" or len(value) != 64 or set(said) - {"manifest_sha256"} != _SIGNATURE:
                raise ValueError("not an Ed25519 signature")
        except (ValueError, KeyError, RecursionError):
            self._wrong(SIGNATURE, "SIGNATURE_MALFORMED")
            return
        expected = str(said.get("manifest_sha256") or self._digest)
        wrong = self._keys.check(str(said["key_id"]), EVIDENCE_KEYS, self._bytes, value, "SIGNATURE_INVALID")
        if wrong and expected != self._digest:
            self._wrong(MANIFEST, "HASH_DIFFERS", expected, self._digest)
        elif expected != self._digest:
            self._wrong(SIGNATURE, "SIGNATURE_MALFORMED", self._digest, expected)
        elif key_id and said["key_id"] != key_id:
            self._wrong(SIGNATURE, "SIGNATURE_MALFORMED", key_id, str(said["key_id"]))
        elif key_id and wrong:
            self._wrong(SIGNATURE, wrong)

    def _imprint(self) -> str:
        return hashlib.sha256(self._found.files.get(SIGNATURE) or b"").hexdigest()

    def _manifest(
        self, manifest: dict[str, Json], listed: Mapping[str, tuple[str, int]], custody: Sequence[dict[str, Json]]
    ) -> None:
        """Whether what the manifest says agrees with itself."""
        entries: list[Json] = [
            {"path": path, "sha256": digest, "size_bytes": size} for path, (digest, size) in listed.items()
        ]
        root, said = root_over(entries).hex(), str(manifest.get("merkle_root"))
        if root != said:
            self._wrong(MANIFEST, "MERKLE_ROOT_DIFFERS", said, root)
        if (entry := broken_step(custody)) is not None:
            self._wrong(MANIFEST, "CUSTODY_BROKEN", "", f"{entry.get('action')} of {entry.get('sighting_id')}")

    def _time(self, create_time: str) -> str:
        """When it was signed; empty where the token cannot be believed."""
        if TIME not in self._found.files:
            self._wrong(TIME, "TIME_MISSING")
            return ""
        try:
            token = self._found.seal(TIME)
            said, value = token["statement"], _plain_hex(token["signature"])
            if not isinstance(said, dict) or said["format"] != TIME_FORMAT:
                raise ValueError("not a token of this format")
            key_id, imprint, time = str(said["key_id"]), str(said["message_imprint"]), str(said["time"])
        except (ValueError, KeyError, RecursionError):
            self._wrong(TIME, "TIME_MALFORMED")
            return ""
        if imprint != self._imprint():
            self._wrong(TIME, "TIME_OF_ANOTHER", imprint, self._imprint())
        elif wrong := self._keys.check(key_id, TIME_KEYS, canonical(said), value, "TIME_INVALID"):
            self._wrong(TIME, wrong)
        elif time < create_time:
            self._wrong(TIME, "TIME_IMPOSSIBLE", f"not before {create_time}", time)
        else:
            return time
        return ""

    def _mark(self, manifest: dict[str, Json]) -> bool:
        """Whether `case` itself put the contents away."""
        try:
            mark = self._found.seal(SUPERSEDED)
            said, value = mark["statement"], _plain_hex(mark["signature"])
            if not isinstance(said, dict) or said["manifest_sha256"] != self._digest:
                raise ValueError("of another pack")
        except (ValueError, KeyError, RecursionError):
            self._wrong(SUPERSEDED, "MARK_INVALID")
            return False
        # Marks of before the first change of the key name none: they are of the key of the pack.
        key_id = str(said.get("key_id") or manifest.get("key_id"))
        if wrong := self._keys.check(key_id, EVIDENCE_KEYS, canonical(said), value, "MARK_INVALID"):
            self._wrong(SUPERSEDED, wrong)
        return not wrong

    def _files(self, listed: Mapping[str, tuple[str, int]], superseded: bool) -> None:
        missing = [path for path in listed if path not in self._found.files]
        for path, (digest, size) in listed.items():
            if path in missing:
                cut = path == missing[0] and not self._found.walked.whole
                if not superseded:
                    self._wrong(path, "TRUNCATED" if cut else "FILE_MISSING", digest)
                continue
            content = self._found.files[path]
            if content is None:
                self._wrong(path, "UNREADABLE", digest)
            elif len(content) != size:
                self._wrong(path, "SIZE_DIFFERS", str(size), str(len(content)))
            elif not hmac.compare_digest(actual := hashlib.sha256(content).hexdigest(), digest):
                self._wrong(path, "HASH_DIFFERS", digest, actual)

    def _container(self, listed: Mapping[str, tuple[str, int]], timed: bool) -> None:
        """Whether the archive holds these files alone, in this order, and no byte beside them."""
        seals = [MANIFEST, SIGNATURE, *([TIME] if timed else []), SUPERSEDED]
        names = [member.name for member in self._found.walked.members]
        known = {*seals, *listed}
        for number, name in enumerate(names):
            if name not in known:
                self._wrong(_short(name), "FILE_ADDED")
            elif name in names[:number]:
                self._wrong(name, "FILE_TWICE")
        expected = [name for name in [*seals, *listed] if name in self._found.files]
        actual = [name for name in dict.fromkeys(names) if name in known]
        for should, there in zip(expected, actual, strict=True):
            if should != there:
                self._wrong(there, "ORDER_DIFFERS", should, there)
                break
        contents = [(name, self._found.files[name] or b"") for name in expected]
        self._bytes_as_written(write(contents))

    def _bytes_as_written(self, written: bytes) -> None:
        content = self._found.content
        if content == written or any(fault.reason != "KEY_UNKNOWN" for fault in self._faults):
            return
        at = next((n for n, (a, b) in enumerate(zip(content, written, strict=False)) if a != b), None)
        at = min(len(content), len(written)) if at is None else at
        inside = [member.name for member in self._found.walked.members if member.offset <= at]
        place = DIRECTORY if at >= self._found.walked.end or not inside else inside[-1]
        self._wrong(place, "BYTES_DIFFER", f"{written[at : at + 8].hex()} at {at}", content[at : at + 8].hex())

    def _case(self, manifest: dict[str, Json]) -> LogReach:
        """The packs and the log of an exported case."""
        files = {name: content or b"" for name, content in self._found.files.items()}
        for name in sorted(files):
            if name.startswith(case_archive.PACKS):
                inside = verify_bytes(files[name], self._keys)
                self._faults += [
                    Fault(f"{name}/{fault.place}", fault.reason, fault.expected, fault.actual)
                    for fault in inside.faults
                ]
        heads = list(self._heads(files))
        reach = case_archive.check_log(files, heads)
        self._faults += [Fault(*each) for each in reach.faults]
        return reach

    def _heads(self, files: Mapping[str, bytes]) -> Iterator[Mapping[str, Json]]:
        """Heads that the gate has signed; what it has not signed speaks for nothing."""
        for name in sorted(files):
            if not name.startswith(case_archive.HEADS):
                continue
            try:
                page = self._found.seal(name)
                said, value = page["statement"], _plain_hex(page["signature"])
                if not isinstance(said, dict) or said["format"] != case_archive.HEADS_FORMAT:
                    raise ValueError("not heads of the log")
                entries, key_id = objects(said["heads"]), str(said["key_id"])
            except (ValueError, KeyError, RecursionError):
                self._wrong(name, "SIGNATURE_MALFORMED")
                continue
            if wrong := self._keys.check(key_id, HEAD_KEYS, canonical(said), value, "SIGNATURE_INVALID"):
                self._wrong(name, wrong)
            else:
                yield from entries


def _listed(manifest: Json) -> dict[str, tuple[str, int]]:
    """Path → (SHA-256, size) of every file that the manifest names. Raises ValueError, KeyError."""
    if not isinstance(manifest, dict) or manifest["format"] not in (FIRST_FORMAT, FORMAT, case_archive.FORMAT):
        raise ValueError("not a manifest of a format that is known")
    listed: dict[str, tuple[str, int]] = {}
    entries = [*objects(manifest.get("files", []))]
    for item in objects(manifest["items"]):
        entries += objects(item["files"])
    if len(entries) > MEMBERS_AT_MOST:
        raise ValueError("more files than an archive holds")
    for file in entries:
        path, size = str(file["path"]), file["size_bytes"]
        if path in listed or not isinstance(size, int) or not (path.isascii() and path.isprintable()):
            raise ValueError("a file is named twice, or has no size, or no name of ours")
        listed[path] = (str(file["sha256"]), size)
    return listed


def objects(value: Json) -> Sequence[dict[str, Json]]:
    """A list of objects. Raises ValueError."""
    if not isinstance(value, list):
        raise ValueError("not a list")
    found = [item for item in value if isinstance(item, dict)]
    if len(found) != len(value):
        raise ValueError("not a list of objects")
    return found


def _plain_hex(value: Json) -> bytes:
    """Bytes in lower-case hex: one way to write them. Raises ValueError."""
    content = bytes.fromhex(str(value))
    if content.hex() != value:
        raise ValueError("not plain hex")
    return content


def _short(name: str) -> str:
    return name if len(name) <= 128 else f"{name[:125]}..."
