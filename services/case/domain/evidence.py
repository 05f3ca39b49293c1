"""What is an evidence pack?

A ZIP that anybody can check offline: `manifest.json` (RFC 8785 canonical JSON) names every file with its size
and SHA-256, the chain of custody, and what was left out because the archive was full; `manifest.sig` is an
Ed25519 signature over exactly the manifest's bytes. The same content gives the same bytes: files are stored in
order, uncompressed, with a fixed date.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import rfc8785

FORMAT = "jikimi-evidence/1"
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_ARCHIVE_BYTES = 64 * 1024 * 1024
"""Largest archive that is built or looked at; also the most that removal takes."""
_ZIP_ENTRY_BYTES = 30 + 46
"""What a stored file adds to a ZIP beside its content and twice its name (APPNOTE 4.3.7, 4.3.12)."""
_MANIFEST_BYTES = 2048
"""More than the manifest without its items, the signature and the end of the archive take."""
_DATE = (1980, 1, 1, 0, 0, 0)

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Item:
    """One sighting's evidence."""

    sighting_id: str
    decision_id: str
    case_id: str
    kind: str
    channel: str
    channel_group: str
    rule: str
    discover_time: datetime
    files: Mapping[str, bytes] = field(repr=False)
    """File name → content, such as capture.json."""
    missing: tuple[str, ...] = ()
    """Required fields that are not there."""
    fetch_time: datetime | None = None
    capture_sha256: bytes = b""


@dataclass(frozen=True, slots=True)
class Pack:
    """What a pack is about."""

    pack_id: str
    case_id: str
    version: int
    create_time: datetime
    rule_version: str
    key_id: str
    merged_case_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """A finished pack."""

    archive: bytes = field(repr=False)
    manifest_sha256: bytes


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes into a pack, and what is only named in its manifest because the archive would grow too large."""

    packed: Sequence[Item]
    omitted: Sequence[Item]


def canonical(value: Json) -> bytes:
    """RFC 8785 bytes of a JSON value."""
    return rfc8785.dumps(value)


def choose(pack: Pack, newest_first: Sequence[Item], most_bytes: int = MAX_ARCHIVE_BYTES) -> Choice:
    """Takes items, the newest first, until the next one would make the archive larger than `most_bytes`."""
    room = most_bytes - _MANIFEST_BYTES - sum(len(case_id) + 3 for case_id in pack.merged_case_ids)
    # Every item is named, whether it is packed or not.
    room -= sum(len(canonical(_item(item))) + 1 for item in newest_first)
    for number, item in enumerate(newest_first):
        room -= _packed_bytes(pack, item)
        if room < 0:
            return Choice(newest_first[:number], newest_first[number:])
    return Choice(newest_first, ())


def _packed_bytes(pack: Pack, item: Item) -> int:
    files = sum(
        len(content) + 2 * len(path_of(item.sighting_id, name)) + _ZIP_ENTRY_BYTES
        for name, content in item.files.items()
    )
    return files + sum(len(canonical(entry)) + 1 for entry in _custody(pack, item))


def build(pack: Pack, choice: Choice, sign: Callable[[bytes], bytes]) -> Built:
    """Builds the archive; items in the order of their ids, whatever order they come in."""
    ordered = sorted(choice.packed, key=lambda item: item.sighting_id)
    manifest = canonical(_manifest(pack, ordered, sorted(choice.omitted, key=lambda item: item.sighting_id)))
    signature: Json = {"algorithm": "Ed25519", "key_id": pack.key_id, "signature": sign(manifest).hex()}
    files = {MANIFEST: manifest, SIGNATURE: canonical(signature)}
    for item in ordered:
        files |= {path_of(item.sighting_id, name): item.files[name] for name in sorted(item.files)}
    return Built(_zip(files), hashlib.sha256(manifest).digest())


def manifest_alone(archive: bytes) -> bytes:
    """What is left of a superseded pack: the same manifest, with the hash of every file, and its signature."""
    with zipfile.ZipFile(io.BytesIO(archive)) as whole:
        return _zip({name: whole.read(name) for name in (MANIFEST, SIGNATURE)})


def path_of(sighting_id: str, name: str) -> str:
    """Where a file of a sighting lies in the archive."""
    return f"items/{sighting_id}/{name}"


def missing_fields(capture: Mapping[str, Json], has_decision: bool, required: Sequence[str]) -> tuple[str, ...]:
    """Required fields that the evidence lacks."""
    there = {name for name, value in capture.items() if value} | ({"decision"} if has_decision else set())
    return tuple(name for name in required if name not in there)


def iso(moment: datetime) -> str:
    """A time in a manifest: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _manifest(pack: Pack, items: Sequence[Item], omitted: Sequence[Item]) -> Json:
    return {
        "format": FORMAT,
        "pack_id": pack.pack_id,
        "case_id": pack.case_id,
        "merged_case_ids": [*sorted(pack.merged_case_ids)],
        "version": pack.version,
        "create_time": iso(pack.create_time),
        "rule_version": pack.rule_version,
        "key_id": pack.key_id,
        "items": [_item(item) for item in items],
        "omitted": [_item(item) for item in omitted],
        "custody": [entry for item in items for entry in _custody(pack, item)],
    }


def _item(item: Item) -> Json:
    files: list[Json] = [
        {
            "path": path_of(item.sighting_id, name),
            "sha256": hashlib.sha256(item.files[name]).hexdigest(),
            "size_bytes": len(item.files[name]),
        }
        for name in sorted(item.files)
    ]
    return {
        "sighting_id": item.sighting_id,
        "decision_id": item.decision_id,
        "case_id": item.case_id,
        "kind": item.kind,
        "channel": item.channel,
        "channel_group": item.channel_group,
        "rule": item.rule,
        "discover_time": iso(item.discover_time),
        "files": files,
        "missing": list(item.missing),
    }


def _custody(pack: Pack, item: Item) -> list[Json]:
    """Who had the evidence of one sighting, when, why, and what its hash was."""
    who: dict[str, Json] = {"sighting_id": item.sighting_id, "who": "service:case"}
    entries: list[Json] = []
    if item.fetch_time is not None and item.capture_sha256:
        entries.append(
            who
            | {
                "time": iso(item.fetch_time),
                "action": "FETCHED",
                "why": "taken over from the detector",
                "sha256": item.capture_sha256.hex(),
            }
        )
    digest = hashlib.sha256(b"".join(item.files[name] for name in sorted(item.files))).hexdigest()
    entries.append(
        who
        | {
            "time": iso(pack.create_time),
            "action": "PACKED",
            "why": f"evidence pack version {pack.version}",
            "sha256": digest,
        }
    )
    return entries


def _zip(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)
    return out.getvalue()


def read_json(content: bytes) -> Json:
    """A JSON value. Raises ValueError for what is not JSON in UTF-8, or names a key twice."""

    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key stands twice")
        return value

    value: Json = json.loads(content.decode("utf-8"), object_pairs_hook=once)
    return value
