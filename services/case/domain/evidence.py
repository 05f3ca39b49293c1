"""What is an evidence pack?

A signed archive (`domain/archive.py`) that anybody can check offline. Its manifest names every file with size and
SHA-256, the Merkle root over them, the pack before, the chain of custody, and what was left out because the archive
was full. Beside the evidence of each sighting (`items/<sighting id>/`) lie `EvidencePackReport.json` and `report.html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from services.case.domain.archive import (
    ENTRY_BYTES,
    SEALS_BYTES,
    Json,
    Sign,
    Signed,
    canonical,
    listed,
    listing,
    root_over,
    signed,
)
from services.case.domain.custody import Touch, iso

FORMAT = "jikimi-evidence/2"
MAX_ARCHIVE_BYTES = 64 * 1024 * 1024
"""Largest pack that is built or looked at; also the most that removal takes."""
_FACTS_BYTES = 8192
"""More than a manifest says of one sighting; what it repeats of a collector's words stands in one of its files."""
REPORT = "EvidencePackReport.json"
PAGE = "report.html"


@dataclass(frozen=True)
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
    custody: tuple[Touch, ...] = ()
    """What happened to it before it was packed."""

    @cached_property
    def placed(self) -> Mapping[str, bytes]:
        """Where its files lie in the archive."""
        return {path_of(self.sighting_id, name): content for name, content in self.files.items()}

    @cached_property
    def listed(self) -> list[Json]:
        """How a manifest names its files."""
        return listing(self.placed)

    @cached_property
    def root(self) -> str:
        """Merkle root over its files, hex."""
        return root_over(self.listed).hex()


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
    previous_sha256: str = ""
    """SHA-256 of the manifest of the version before, hex; empty for the first."""
    touches: Sequence[Touch] = ()
    """What happened to earlier versions as a whole, oldest first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What goes into a pack, and what is only named in its manifest because the archive would grow too large."""

    packed: Sequence[Item]
    omitted: Sequence[Item]


def choose(
    pack: Pack, newest_first: Sequence[Item], documents: Mapping[str, bytes], most_bytes: int = MAX_ARCHIVE_BYTES
) -> Choice:
    """Takes items, the newest first, until the next one would make the archive larger than `most_bytes`. `documents`
    are those of the whole pack; with fewer items they may only become smaller.
    """
    room = most_bytes - SEALS_BYTES - _stored_bytes(documents) - len(canonical(_manifest(pack, (), (), {})))
    # A hash is as long as any other.
    room -= sum(len(canonical(listed(path, b"", len(content)))) + 1 for path, content in documents.items())
    if sum(map(_less_than, newest_first)) <= room:
        return Choice(newest_first, ())
    # Every item is named, whether it is packed or not.
    room -= sum(len(canonical(_item(item))) + 1 for item in newest_first)
    for number, item in enumerate(newest_first):
        room -= _packed_bytes(pack, item)
        if room < 0:
            return Choice(newest_first[:number], newest_first[number:])
    return Choice(newest_first, ())


def _less_than(item: Item) -> int:
    """More than an item takes with its name and its custody, without writing them."""
    return 2 * _stored_bytes(item.placed) + _FACTS_BYTES


def _packed_bytes(pack: Pack, item: Item) -> int:
    custody = sum(len(canonical(touch.as_json())) + 1 for touch in custody_of(pack, item))
    return custody + _stored_bytes(item.placed)


def _stored_bytes(files: Mapping[str, bytes]) -> int:
    return sum(len(content) + 2 * len(path) + ENTRY_BYTES for path, content in files.items())


def build(pack: Pack, choice: Choice, documents: Mapping[str, bytes], sign: Sign) -> Signed:
    """Builds and signs a pack; items in the order of their ids, whatever order they come in."""
    items = sorted(choice.packed, key=lambda item: item.sighting_id)
    manifest = _manifest(pack, items, sorted(choice.omitted, key=lambda item: item.sighting_id), documents)
    files = {name: documents[name] for name in sorted(documents)}
    for item in items:
        files |= {path: item.placed[path] for path in sorted(item.placed)}
    return signed(manifest, files, pack.key_id, sign)


def path_of(sighting_id: str, name: str) -> str:
    """Where a file of a sighting lies in the archive."""
    return f"items/{sighting_id}/{name}"


def missing_fields(capture: Mapping[str, Json], has_decision: bool, required: Sequence[str]) -> tuple[str, ...]:
    """Required fields that the evidence lacks."""
    there = {name for name, value in capture.items() if value} | ({"decision"} if has_decision else set())
    return tuple(name for name in required if name not in there)


def _manifest(
    pack: Pack, items: Sequence[Item], omitted: Sequence[Item], documents: Mapping[str, bytes]
) -> dict[str, Json]:
    files = listing(documents)
    entries = [_item(item) for item in items]
    return {
        "format": FORMAT,
        "pack_id": pack.pack_id,
        "case_id": pack.case_id,
        "merged_case_ids": [*sorted(pack.merged_case_ids)],
        "version": pack.version,
        "previous_sha256": pack.previous_sha256,
        "create_time": iso(pack.create_time),
        "rule_version": pack.rule_version,
        "key_id": pack.key_id,
        "files": files,
        "items": [*entries],
        "omitted": [_item(item) for item in omitted],
        "merkle_root": root_over([*files, *_files_of(entries)]).hex(),
        "custody": [touch.as_json() for touch in [*pack.touches, *_steps(pack, items)]],
    }


def _files_of(entries: Iterable[dict[str, Json]]) -> list[Json]:
    return [file for entry in entries if isinstance(files := entry["files"], list) for file in files]


def _item(item: Item) -> dict[str, Json]:
    return {
        "sighting_id": item.sighting_id,
        "decision_id": item.decision_id,
        "case_id": item.case_id,
        "kind": item.kind,
        "channel": item.channel,
        "channel_group": item.channel_group,
        "rule": item.rule,
        "discover_time": iso(item.discover_time),
        "files": item.listed,
        "missing": list(item.missing),
    }


def _steps(pack: Pack, items: Sequence[Item]) -> list[Touch]:
    return [touch for item in items for touch in custody_of(pack, item)]


def custody_of(pack: Pack, item: Item) -> list[Touch]:
    """What happened to one sighting's evidence, this packing last."""
    packed = Touch(
        action="PACKED",
        time=pack.create_time,
        who="service:case",
        why=f"evidence pack version {pack.version}",
        before=item.custody[-1].after if item.custody else "",
        after=item.root,
        sighting_id=item.sighting_id,
    )
    return [*item.custody, packed]
