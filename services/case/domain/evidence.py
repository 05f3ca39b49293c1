"""What is an evidence pack?

A ZIP that anybody can check offline: `manifest.json` (RFC 8785 canonical JSON) names every file with its size
and SHA-256 and the chain of custody; `manifest.sig` is an Ed25519 signature over exactly the manifest's bytes.
The same content gives the same bytes: files are stored in order, uncompressed, with a fixed date.
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
MAX_ARCHIVE_BYTES = 256 * 1024 * 1024
"""Largest archive that is built or looked at."""
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


def canonical(value: Json) -> bytes:
    """RFC 8785 bytes of a JSON value."""
    return rfc8785.dumps(value)


def build(pack: Pack, items: Sequence[Item], sign: Callable[[bytes], bytes]) -> Built:
    """Builds the archive; items in the order of their ids, whatever order they come in."""
    ordered = sorted(items, key=lambda item: item.sighting_id)
    manifest = canonical(_manifest(pack, ordered))
    signature: Json = {"algorithm": "Ed25519", "key_id": pack.key_id, "signature": sign(manifest).hex()}
    files = {MANIFEST: manifest, SIGNATURE: canonical(signature)}
    for item in ordered:
        files |= {path_of(item.sighting_id, name): item.files[name] for name in sorted(item.files)}
    return Built(_zip(files), hashlib.sha256(manifest).digest())


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


def _manifest(pack: Pack, items: Sequence[Item]) -> Json:
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
