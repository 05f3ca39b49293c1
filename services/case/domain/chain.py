"""How does the case log show that nobody changed it?

Entries of a chain are numbered from 1; each holds the hash of the one before. The hash covers ciphertext, so
destroying a key leaves the chain whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NO_HASH = bytes(32)
"""What stands before the first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, as far as the chain is concerned."""

    sequence: int
    previous_hash: bytes
    ciphertext: bytes
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends; (0, NO_HASH) for an empty one."""

    sequence: int = 0
    head_hash: bytes = NO_HASH


@dataclass(frozen=True, slots=True)
class Fault:
    """A place where a chain breaks: HASH_DIFFERS, GAP, HEAD_DIFFERS or TRUNCATED."""

    sequence: int
    reason: str


def entry_hash(sequence: int, previous_hash: bytes, ciphertext: bytes) -> bytes:
    """SHA-256 over sequence (8 bytes, big endian), previous hash (32 bytes) and ciphertext."""
    return hashlib.sha256(sequence.to_bytes(8, "big") + previous_hash + ciphertext).digest()


def append(head: Head, ciphertext: bytes) -> Entry:
    """The entry that follows `head`."""
    sequence = head.sequence + 1
    digest = entry_hash(sequence, head.head_hash, ciphertext)
    return Entry(sequence, head.head_hash, ciphertext, digest)


def verify(start: Head, entries: Iterable[Entry]) -> tuple[Head, list[Fault]]:
    """Recomputes the entries that follow `start`, in their stored order. Returns where they end and what is
    wrong; goes on behind a fault with what is stored.
    """
    faults: list[Fault] = []
    for entry in entries:
        if entry.sequence != start.sequence + 1:
            faults.append(Fault(start.sequence + 1, "GAP"))
        elif entry.previous_hash != start.head_hash:
            faults.append(Fault(entry.sequence, "HASH_DIFFERS"))
        if entry.entry_hash != entry_hash(entry.sequence, entry.previous_hash, entry.ciphertext):
            faults.append(Fault(entry.sequence, "HASH_DIFFERS"))
        start = Head(entry.sequence, entry.entry_hash)
    return start, faults


def compare_head(reached: Head, stored: Head) -> Sequence[Fault]:
    """What the head row says against what the entries say."""
    if reached.sequence < stored.sequence:
        return [Fault(reached.sequence + 1, "TRUNCATED")]
    if reached != stored:
        return [Fault(reached.sequence, "HEAD_DIFFERS")]
    return []
