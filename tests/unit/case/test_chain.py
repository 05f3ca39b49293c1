"""Does the chain say where it was changed, and how far a head that is kept elsewhere speaks?"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from services.case.domain.archive import canonical
from services.case.domain.case_archive import LogReach, check_log, log_line
from services.case.domain.chain import Entry, Fault, Head, append, bear_witness, compare_head, first_of, verify

Chain = list[Entry]


def chain_of(length: int, start: Head | None = None, label: str = "record") -> Chain:
    head, entries = start or Head(), []
    for number in range(length):
        entry = append(head, f"{label} {number}".encode())
        entries.append(entry)
        head = Head(entry.sequence, entry.entry_hash)
    return entries


def head_of(chain: Chain, sequence: int = 0) -> Head:
    entry = chain[(sequence or len(chain)) - 1]
    return Head(entry.sequence, entry.entry_hash)


def first_fault(chain: Chain, kept: list[Head], stored: Head | None = None) -> Fault | None:
    reached, faults = verify(Head(), chain)
    hashes = {entry.sequence: entry.entry_hash for entry in chain}
    said = bear_witness(reached, hashes, kept)
    everything = first_of([*faults, *compare_head(reached, stored or reached), *said.faults])
    return everything[0] if everything else None


def test_an_untouched_chain_has_no_fault() -> None:
    chain = chain_of(6)
    assert None is first_fault(chain, [head_of(chain, 2), head_of(chain)], head_of(chain))


def flip(chain: Chain, at: int) -> Chain:
    changed = bytearray(chain[at].ciphertext)
    changed[0] ^= 1
    return [*chain[:at], replace(chain[at], ciphertext=bytes(changed)), *chain[at + 1 :]]


def delete(chain: Chain, at: int) -> Chain:
    return [*chain[:at], *chain[at + 1 :]]


def swap(chain: Chain, at: int) -> Chain:
    """Two rows change places: they keep what they hold and get each other's number."""
    one, other = chain[at], chain[at + 1]
    swapped = [replace(other, sequence=one.sequence), replace(one, sequence=other.sequence)]
    return [*chain[:at], *swapped, *chain[at + 2 :]]


def replaced_row(chain: Chain, at: int) -> Chain:
    """A whole row is replaced and its own hash computed anew."""
    before = Head(chain[at].sequence - 1, chain[at].previous_hash)
    return [*chain[:at], append(before, b"another"), *chain[at + 1 :]]


def blank(chain: Chain, at: int) -> Chain:
    return [*chain[:at], replace(chain[at], ciphertext=b""), *chain[at + 1 :]]


def new_hash(chain: Chain, at: int) -> Chain:
    return [*chain[:at], replace(chain[at], entry_hash=bytes(32)), *chain[at + 1 :]]


def other_previous(chain: Chain, at: int) -> Chain:
    return [*chain[:at], replace(chain[at], previous_hash=bytes(31) + b"1"), *chain[at + 1 :]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip, "HASH_DIFFERS"),
        (delete, "GAP"),
        (swap, "HASH_DIFFERS"),
        (replaced_row, "REPLACED"),
        (blank, "PAYLOAD_MISSING"),
        (new_hash, "HASH_DIFFERS"),
        (other_previous, "HASH_DIFFERS"),
    ],
)
def test_the_first_bad_place_is_named(change: Callable[[Chain, int], Chain], reason: str) -> None:
    chain = chain_of(8)
    fault = first_fault(change(chain, 3), [head_of(chain)], head_of(chain))
    assert fault is not None
    assert (4, reason) == (fault.sequence, fault.reason)


def rewritten_from(chain: Chain, at: int) -> Chain:
    """Everything from here on is written anew with right hashes: the chain holds in itself."""
    start = head_of(chain, at) if at else Head()
    return [*chain[:at], *chain_of(len(chain) - at, start, "forged")]


def test_a_chain_that_was_rewritten_as_a_whole_shows_against_heads_kept_elsewhere() -> None:
    chain = chain_of(9)
    forged = rewritten_from(chain, 4)
    assert None is first_fault(forged, [])
    fault = first_fault(forged, [head_of(chain, 3), head_of(chain, 6), head_of(chain, 9)])
    assert fault is not None
    assert (4, "REWRITTEN", 6) == (fault.sequence, fault.reason, fault.until)
    assert (head_of(chain, 6).head_hash, head_of(forged, 6).head_hash) == (fault.expected, fault.actual)


def test_a_chain_that_ends_early_shows_against_a_head_kept_elsewhere() -> None:
    chain = chain_of(5)
    fault = first_fault(chain[:3], [head_of(chain)], head_of(chain, 3))
    assert fault is not None
    assert (4, "TRUNCATED", 5) == (fault.sequence, fault.reason, fault.until)


def test_a_witness_says_up_to_where_it_speaks() -> None:
    chain = chain_of(7)
    hashes = {entry.sequence: entry.entry_hash for entry in chain}
    assert 4 == bear_witness(head_of(chain), hashes, [head_of(chain, 2), head_of(chain, 4)]).speaks_until
    assert 0 == bear_witness(head_of(chain), hashes, []).speaks_until


def test_a_purged_chain_stays_valid_and_still_shows_a_change() -> None:
    chain = chain_of(6)
    purged = [replace(entry, ciphertext=b"") for entry in chain]
    assert (head_of(chain), []) == verify(Head(), purged, purged=True)
    hashes = {entry.sequence: entry.entry_hash for entry in purged}
    assert () == bear_witness(head_of(chain), hashes, [head_of(chain)]).faults
    changed = [*purged[:2], replace(purged[2], entry_hash=bytes(32)), *purged[3:]]
    assert [Fault(3, "REPLACED", purged[2].entry_hash, bytes(32))] == verify(Head(), changed, purged=True)[1]


# --- 1,000 random ones ---


def random_change(chain: Chain, rng: random.Random) -> tuple[str, Chain, int]:
    """(kind, changed chain, index of the first entry that is not as it was)."""
    kind = rng.choice(["flip", "delete", "swap", "insert", "truncate", "row", "rewrite", "blank", "hash", "previous"])
    at = rng.randrange(len(chain) - 1)
    match kind:
        case "flip":
            where = rng.randrange(len(chain[at].ciphertext))
            changed = bytearray(chain[at].ciphertext)
            changed[where] ^= 1 << rng.randrange(8)
            return kind, [*chain[:at], replace(chain[at], ciphertext=bytes(changed)), *chain[at + 1 :]], at
        case "delete":
            return kind, delete(chain, at), at
        case "swap":
            return kind, swap(chain, at), at
        case "insert":
            before = head_of(chain, at) if at else Head()
            moved = [replace(entry, sequence=entry.sequence + 1) for entry in chain[at:]]
            return kind, [*chain[:at], append(before, b"slipped in"), *moved], at
        case "truncate":
            return kind, chain[:at], at
        case "row":
            return kind, replaced_row(chain, at), at
        case "rewrite":
            return kind, rewritten_from(chain, at), at
        case "blank":
            return kind, blank(chain, at), at
        case "hash":
            return kind, new_hash(chain, at), at
        case _:
            return kind, other_previous(chain, at), at


@pytest.mark.slow
def test_a_thousand_random_changes_before_the_last_head_are_found_where_they_are() -> None:
    rng = random.Random(20260302)
    missed, elsewhere = [], []
    for number in range(1_000):
        chain = chain_of(rng.randrange(2, 40))
        # A head for each batch, the last one at the end: what lies behind it nobody else can speak for.
        batches = sorted({rng.randrange(1, len(chain) + 1) for _ in range(4)} | {len(chain)})
        kept = [head_of(chain, sequence) for sequence in batches]
        kind, changed, at = random_change(chain, rng)
        # Whoever can write rows can write the head row too.
        stored = head_of(changed) if changed and rng.random() < 0.5 else head_of(chain)
        fault = first_fault(changed, kept, stored)
        if fault is None:
            missed.append((number, kind))
        elif not fault.sequence <= at + 1 <= max(fault.until, fault.sequence):
            elsewhere.append((number, kind, at + 1, fault))
    assert ([], []) == (missed, elsewhere)


# --- in an export ---


def exported(chain: Chain) -> Mapping[str, bytes]:
    return {"log/c.jsonl": b"\n".join(log_line(entry, {"record_id": "r"}) for entry in chain)}


def as_json(head: Head) -> dict[str, object]:
    return {"chain_id": "c", "sequence": head.sequence, "head_hash": head.head_hash.hex()}


def test_the_log_of_an_export_is_recomputed_and_held_against_heads() -> None:
    chain = chain_of(5)
    expected = LogReach(chains=1, entries=5, purged=0, witnessed=3)
    assert expected == check_log(exported(chain), [as_json(head_of(chain, 3))])  # type: ignore[list-item] # JSON values
    found = check_log(exported(flip(chain, 1)), [])
    assert [("log/c.jsonl#2", "HASH_DIFFERS")] == [(place, reason) for place, reason, _, _ in found.faults]
    rewritten = check_log(exported(rewritten_from(chain, 2)), [as_json(head_of(chain))])  # type: ignore[list-item] # as above
    assert [("log/c.jsonl#1-5", "REWRITTEN")] == [(place, reason) for place, reason, _, _ in rewritten.faults]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b'{"sequence":"1"}',
        b'{"sequence":1e400}',
        canonical({"sequence": 1, "previous_hash": "", "entry_hash": "", "ciphertext": "!"}),
        canonical({"sequence": -1, "previous_hash": "", "entry_hash": "", "ciphertext": ""}),
    ],
)
def test_a_log_that_cannot_be_read_is_named(line: bytes) -> None:
    found = check_log({"log/c.jsonl": line}, [])
    assert [("log/c.jsonl", "UNREADABLE")] == [(place, reason) for place, reason, _, _ in found.faults]


def test_an_entry_in_an_export_holds_what_its_hash_covers() -> None:
    [entry] = chain_of(1)
    assert base64.b64encode(entry.ciphertext) in log_line(entry, None)
