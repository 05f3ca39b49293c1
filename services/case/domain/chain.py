"""How does the case log show that nobody changed it?

Entries of a chain are numbered from 1; each holds the hash of the one before. The hash covers ciphertext, so
destroying a key leaves the chain whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    """A place where a chain breaks.

    HASH_DIFFERS: the entry is not what its hash says. GAP: it is missing. REPLACED: it holds in itself, but the next
    one follows another. PAYLOAD_MISSING: its content is gone although its key is not destroyed. TRUNCATED: the chain
    ends before it. HEAD_DIFFERS: the head row says otherwise. REWRITTEN: a head kept elsewhere says otherwise; one of
    the entries from here to `until` was changed, with all hashes that follow.
    """

    sequence: int
    reason: str
    expected: bytes = b""
    actual: bytes = b""
    until: int = 0
    """Last entry that may be meant; 0 where it is `sequence` alone."""


def entry_hash(sequence: int, previous_hash: bytes, ciphertext: bytes) -> bytes:
    """SHA-256 over sequence (8 bytes, big endian), previous hash (32 bytes) and ciphertext."""
    return hashlib.sha256(sequence.to_bytes(8, "big", signed=True) + previous_hash + ciphertext).digest()


def append(head: Head, ciphertext: bytes) -> Entry:
    """The entry that follows `head`."""
    sequence = head.sequence + 1
    digest = entry_hash(sequence, head.head_hash, ciphertext)
    return Entry(sequence, head.head_hash, ciphertext, digest)


def verify(start: Head, entries: Iterable[Entry], *, purged: bool = False) -> tuple[Head, list[Fault]]:
    """Recomputes the entries that follow `start`, in their stored order. Returns where they end and what is wrong;
    goes on behind a fault with what is stored.

    Where the owner's key was destroyed (`purged`), an entry may have lost its ciphertext: its hash then stands as it
    is, and the entry after it, or a head, says whether it is the right one.
    """
    faults: list[Fault] = []
    for entry in entries:
        own = _fault_of(entry, purged)
        if entry.sequence != start.sequence + 1:
            faults.append(Fault(start.sequence + 1, "GAP"))
        elif own is None and entry.previous_hash != start.head_hash:
            faults += _replaced(start, entry, faults)
        if own is not None:
            faults.append(own)
        start = Head(entry.sequence, entry.entry_hash)
    return start, faults


def _fault_of(entry: Entry, purged: bool) -> Fault | None:
    if not entry.ciphertext:
        return None if purged else Fault(entry.sequence, "PAYLOAD_MISSING")
    actual = entry_hash(entry.sequence, entry.previous_hash, entry.ciphertext)
    return None if actual == entry.entry_hash else Fault(entry.sequence, "HASH_DIFFERS", entry.entry_hash, actual)


def _replaced(start: Head, entry: Entry, faults: Sequence[Fault]) -> list[Fault]:
    """The entry holds in itself and follows another one than is stored: that one is not the one that was."""
    if start.sequence == 0:
        return [Fault(entry.sequence, "HASH_DIFFERS", NO_HASH, entry.previous_hash)]
    if faults and faults[-1].sequence == start.sequence:
        return []
    return [Fault(start.sequence, "REPLACED", entry.previous_hash, start.head_hash)]


def compare_head(reached: Head, stored: Head) -> Sequence[Fault]:
    """What the head row says against what the entries say."""
    if reached.sequence < stored.sequence:
        return [Fault(reached.sequence + 1, "TRUNCATED", stored.head_hash)]
    if reached != stored:
        place = max(1, min(reached.sequence, stored.sequence + 1))
        return [Fault(place, "HEAD_DIFFERS", stored.head_hash, reached.head_hash)]
    return []


@dataclass(frozen=True, slots=True)
class Witness:
    """What heads kept elsewhere say of a chain."""

    speaks_until: int
    """Entries up to here are those that were there when the last head that agrees was kept."""
    faults: tuple[Fault, ...] = ()


def bear_witness(reached: Head, hashes: Mapping[int, bytes], heads: Iterable[Head]) -> Witness:
    """Compares a chain with heads kept elsewhere. `hashes` are the entries' own at the heads' sequences. With every
    head that ever was, the first one that disagrees narrows the change down to the entries of one batch.
    """
    good = 0
    for head in sorted(heads, key=lambda head: head.sequence):
        if head.sequence > reached.sequence:
            return Witness(good, (Fault(reached.sequence + 1, "TRUNCATED", head.head_hash, until=head.sequence),))
        actual = hashes.get(head.sequence, b"")
        if actual != head.head_hash:
            return Witness(good, (Fault(good + 1, "REWRITTEN", head.head_hash, actual, head.sequence),))
        good = head.sequence
    return Witness(good)


def first_of(faults: Iterable[Fault]) -> list[Fault]:
    """The faults of one chain in the order of their places, so that the first is the first bad place."""
    return sorted(faults, key=lambda fault: fault.sequence)
