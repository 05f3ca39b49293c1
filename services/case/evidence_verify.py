"""Is this evidence pack what `case` packed, to the last byte? Needs no server.

`python -m services.case evidence verify FILE --public-key FOLDER_OR_FILE`
"""

from __future__ import annotations

import hashlib
import hmac
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.case.domain.evidence import (
    FORMAT,
    MANIFEST,
    MAX_ARCHIVE_BYTES,
    SIGNATURE,
    Json,
    canonical,
    read_json,
)

_FILES_AT_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `faults` name a place and a reason: NOT_AN_ARCHIVE, TOO_LARGE, MANIFEST_MISSING,
    MANIFEST_MALFORMED, MANIFEST_NOT_CANONICAL, SIGNATURE_MALFORMED, KEY_UNKNOWN, SIGNATURE_INVALID,
    FILE_MISSING, FILE_ADDED, FILE_TWICE, SIZE_DIFFERS, HASH_DIFFERS, UNREADABLE.
    """

    case_id: str
    pack_id: str
    version: int
    items: int
    files: int
    manifest_sha256: str
    faults: tuple[tuple[str, str], ...]

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(path: Path, public_keys: Path) -> Verification:
    """Checks an archive against the public keys (`<key id>.pub`, a folder or one file). Raises OSError only."""
    try:
        with zipfile.ZipFile(path) as archive:
            files, faults = _read(archive)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return _nothing("NOT_AN_ARCHIVE")
    if MANIFEST not in files:
        return _nothing(*(reason for _, reason in faults), "MANIFEST_MISSING")
    return _check(files, faults, public_keys)


def _nothing(*reasons: str) -> Verification:
    return Verification("", "", 0, 0, 0, "", tuple(("", reason) for reason in reasons))


def _read(archive: zipfile.ZipFile) -> tuple[dict[str, bytes], list[tuple[str, str]]]:
    infos = archive.infolist()
    if len(infos) > _FILES_AT_MOST or sum(info.file_size for info in infos) > MAX_ARCHIVE_BYTES:
        return {}, [("", "TOO_LARGE")]
    files: dict[str, bytes] = {}
    faults: list[tuple[str, str]] = []
    for info in infos:
        if info.filename in files:
            faults.append((info.filename, "FILE_TWICE"))
        try:
            if info.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile("packs are stored, not compressed")
            files[info.filename] = archive.read(info)
        except (zipfile.BadZipFile, EOFError):
            faults.append((info.filename, "UNREADABLE"))
            files.setdefault(info.filename, b"")
    return files, faults


def _check(files: Mapping[str, bytes], faults: list[tuple[str, str]], public_keys: Path) -> Verification:
    content = files[MANIFEST]
    digest = hashlib.sha256(content).hexdigest()
    try:
        manifest = read_json(content)
        listed = _listed(manifest)
        assert isinstance(manifest, dict)  # _listed has looked
        if canonical(manifest) != content:
            faults.append((MANIFEST, "MANIFEST_NOT_CANONICAL"))
        head = (str(manifest["case_id"]), str(manifest["pack_id"]), int(str(manifest["version"])))
        items = len(_objects(manifest["items"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Verification("", "", 0, 0, 0, digest, (*faults, (MANIFEST, "MANIFEST_MALFORMED")))
    faults += _signature_faults(content, str(manifest.get("key_id")), files.get(SIGNATURE, b""), public_keys)
    faults += _file_faults(files, listed)
    return Verification(*head, items, len(listed), digest, tuple(faults))


def _listed(manifest: Json) -> dict[str, tuple[str, int]]:
    """Path → (SHA-256, size) of every file that the manifest names. Raises ValueError, KeyError."""
    if not isinstance(manifest, dict) or manifest["format"] != FORMAT:
        raise ValueError("not a manifest of this format")
    listed: dict[str, tuple[str, int]] = {}
    for item in _objects(manifest["items"]):
        for file in _objects(item["files"]):
            path, size = str(file["path"]), file["size_bytes"]
            if path in listed or not isinstance(size, int):
                raise ValueError("a file is named twice or has no size")
            listed[path] = (str(file["sha256"]), size)
    return listed


def _objects(value: Json) -> list[dict[str, Json]]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    objects = [item for item in value if isinstance(item, dict)]
    if len(objects) != len(value):
        raise ValueError("not a list of objects")
    return objects


def _signature_faults(
    manifest: bytes, key_id: str, signature: bytes, public_keys: Path
) -> list[tuple[str, str]]:
    try:
        said = read_json(signature)
        if not isinstance(said, dict) or said["algorithm"] != "Ed25519" or said["key_id"] != key_id:
            raise ValueError("not a signature of this manifest")
        value = bytes.fromhex(str(said["signature"]))
    except (ValueError, KeyError, RecursionError):
        return [(SIGNATURE, "SIGNATURE_MALFORMED")]
    key = _public_key(public_keys, key_id)
    if key is None:
        return [(SIGNATURE, "KEY_UNKNOWN")]
    try:
        key.verify(manifest, value)
    except (BadSignatureError, ValueError):
        return [(SIGNATURE, "SIGNATURE_INVALID")]
    return []


def _public_key(place: Path, key_id: str) -> VerifyKey | None:
    files = sorted(place.glob("*.pub")) if place.is_dir() else [place]
    file = next((file for file in files if file.stem == key_id), None)
    if file is None:
        return None
    try:
        key, *roles = file.read_text(encoding="ascii").split()
        # A key that signs actors of a role signs no evidence, whatever service holds it.
        return None if set(roles) - {"ROLE_UNSPECIFIED"} else VerifyKey(bytes.fromhex(key))
    except (ValueError, TypeError):
        return None


def _file_faults(files: Mapping[str, bytes], listed: Mapping[str, tuple[str, int]]) -> list[tuple[str, str]]:
    faults = [(path, "FILE_MISSING") for path in listed if path not in files]
    faults += [(path, "FILE_ADDED") for path in files if path not in {*listed, MANIFEST, SIGNATURE}]
    for path, (sha256, size) in listed.items():
        content = files.get(path)
        if content is None:
            continue
        if len(content) != size:
            faults.append((path, "SIZE_DIFFERS"))
        elif not hmac.compare_digest(hashlib.sha256(content).hexdigest(), sha256):
            faults.append((path, "HASH_DIFFERS"))
    return faults
