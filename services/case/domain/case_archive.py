"""What is a case as one archive that anybody can check, and what does its log say?

A signed archive (`domain/archive.py`):

    case.json            the case, its sightings, aliases, guidance, who touched its evidence
    log/<chain>.jsonl    each entry with its hashes, its ciphertext (base64) and, where it opens, the record as JSON
    packs/<case>-v<n>.zip   evidence packs, each a signed archive of its own
    heads/<n>.json       heads of the log as the gate has signed them: what the log is held against

The hash of an entry covers its ciphertext, so the chain is recomputed from the file; that a record is what its
ciphertext holds is what `case` signs for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.case.domain.archive import Json, Sign, Signed, canonical, listing, read_json, root_over, signed
from services.case.domain.chain import Entry, Fault, Head, bear_witness, first_of, verify
from services.case.domain.custody import iso

FORMAT = "jikimi-case/1"
HEADS_FORMAT = "jikimi-heads/1"
MAX_EXPORT_BYTES = 160 * 1024 * 1024
"""Largest export that is made or looked at: two packs of the largest size with room for a log."""
LOG, PACKS, HEADS = "log/", "packs/", "heads/"
FAULTS_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class Export:
    """What an export is."""

    export_id: str
    case_id: str
    create_time: datetime
    rule_version: str
    key_id: str
    reason: str
    """Why it was asked for, in the words of who asked."""
    left_out: Sequence[str] = ()
    """Packs that had no room, by path and SHA-256 of their manifests."""


@dataclass(frozen=True, slots=True)
class LogReach:
    """What the log of an export says."""

    chains: int
    entries: int
    purged: int
    """Entries of which only the hash is left."""
    witnessed: int
    """Entries up to the last head that agrees: for these the gate speaks, for later ones only the chain itself."""
    faults: tuple[tuple[str, str, str, str], ...] = ()
    """(place, reason, expected, actual)."""


def build_export(export: Export, files: Mapping[str, bytes], sign: Sign) -> Signed:
    """Signs the export of these files."""
    listed = listing(files)
    manifest: Json = {
        "format": FORMAT,
        "pack_id": export.export_id,
        "case_id": export.case_id,
        "version": 1,
        "create_time": iso(export.create_time),
        "rule_version": export.rule_version,
        "key_id": export.key_id,
        "reason": export.reason,
        "files": listed,
        "items": [],
        "left_out": [*export.left_out],
        "merkle_root": root_over(listed).hex(),
        "custody": [],
    }
    return signed(manifest, {path: files[path] for path in sorted(files)}, export.key_id, sign)


def log_line(entry: Entry, record: Json) -> bytes:
    """One line of `log/<chain>.jsonl`; `record` is None where the key is destroyed."""
    return canonical(
        {
            "sequence": entry.sequence,
            "previous_hash": entry.previous_hash.hex(),
            "entry_hash": entry.entry_hash.hex(),
            "ciphertext": base64.b64encode(entry.ciphertext).decode(),
            "record": record,
        }
    )


def check_log(files: Mapping[str, bytes], heads: Iterable[Mapping[str, Json]]) -> LogReach:
    """Recomputes the chains of an export and holds them against the heads."""
    kept: dict[str, list[Head]] = {}
    for each in heads:
        kept.setdefault(str(each.get("chain_id")), []).append(_head(each))
    faults: list[tuple[str, str, str, str]] = []
    chains = entries = purged = witnessed = 0
    for path in sorted(path for path in files if path.startswith(LOG)):
        chain_id = path.removeprefix(LOG).removesuffix(".jsonl")
        try:
            lines = [_entry(line) for line in files[path].splitlines()]
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            faults.append((path, "UNREADABLE", "", ""))
            continue
        reached, found = verify(Head(), lines, purged=True)
        said = bear_witness(reached, {line.sequence: line.entry_hash for line in lines}, kept.pop(chain_id, ()))
        faults += [_told(path, fault) for fault in first_of([*found, *said.faults])]
        chains, entries = chains + 1, entries + len(lines)
        purged += sum(not line.ciphertext for line in lines)
        witnessed += said.speaks_until
    faults += [(f"{LOG}{chain_id}.jsonl", "FILE_MISSING", "", "") for chain_id in sorted(kept)]
    return LogReach(chains, entries, purged, witnessed, tuple(faults[:FAULTS_AT_MOST]))


def _told(path: str, fault: Fault) -> tuple[str, str, str, str]:
    place = f"{path}#{fault.sequence}" + (f"-{fault.until}" if fault.until > fault.sequence else "")
    return place, fault.reason, fault.expected.hex(), fault.actual.hex()


def _entry(line: bytes) -> Entry:
    value = read_json(line)
    if not isinstance(value, dict):
        raise ValueError("not an entry")
    sequence = value["sequence"]
    if not isinstance(sequence, int) or not 0 < sequence < 1 << 53:
        raise ValueError("not a number of an entry")
    hashes = [bytes.fromhex(str(value[name])) for name in ("previous_hash", "entry_hash")]
    ciphertext = base64.b64decode(str(value["ciphertext"]), validate=True)
    return Entry(sequence, hashes[0], ciphertext, hashes[1])


def _head(value: Mapping[str, Json]) -> Head:
    sequence, digest = value.get("sequence"), str(value.get("head_hash", ""))
    try:
        return Head(sequence if isinstance(sequence, int) else 0, bytes.fromhex(digest))
    except ValueError:
        return Head(sequence if isinstance(sequence, int) else 0, b"")
