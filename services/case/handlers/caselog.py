"""How do records become the case log, and how is it checked?

A record goes into the chain of every case it names, or of the case of its decision. Where there is none it goes
into the chain of its publisher's day, and when its decision gets a case (a reviewer says MATCH), the case's
chain takes it over before the record that tells of the case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from misuse.case.v1 import events_pb2
from misuse.log.v1.record_pb2 import LogRecord
from services.case.domain.chain import Fault, Head, append, bear_witness, compare_head, first_of, verify
from services.case.ports import Chain, ChainEntry, Unit
from services.chassis.ids import uuid7

SERVICE_KEY = "service:case-log"
"""Owner of the key of chains that belong to nobody."""
DAY = "day:"
_LINKING = frozenset({"OPENED", "SIGHTED"})
_PAGE = 500


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record as it came in."""

    publisher: str
    record: LogRecord


async def append_records(unit: Unit, arrivals: Sequence[Arrival]) -> None:
    """Adds a batch to its chains: one lock, one insert, one new head per chain."""
    owners, wanted = await _route(unit, arrivals)
    chains = await _of_the_living(unit, owners)
    ids = {record.record_id for records in wanted.values() for record in records}
    known = await unit.log.known(ids)
    entries: list[ChainEntry] = []
    heads: dict[str, Head] = {}
    for chain_id in sorted(wanted):
        chain = chains[chain_id]
        unique = {r.record_id: r for r in wanted[chain_id] if (chain_id, r.record_id) not in known}
        added = _extend(unit, chain, list(unique.values()))
        if added:
            entries += added
            heads[chain_id] = Head(added[-1].entry.sequence, added[-1].entry.entry_hash)
    for chain_id, head in heads.items():
        event = events_pb2.LogHeadAdvanced(
            chain_id=chain_id, sequence=head.sequence, head_hash=head.head_hash
        )
        # Of one chain, so in one order; and beside the other events of the subscriber.
        unit.tell(chain_id if chain_id.startswith(DAY) else chains[chain_id].key_owner, event)
    await unit.log.append(entries, heads)


async def _of_the_living(unit: Unit, owners: Mapping[str, str]) -> Mapping[str, Chain]:
    """The chains, locked. One whose owner's key is gone already goes over to nobody first: after a restore the key
    store knows of an erasure before the database does, and what happened must be logged all the same."""
    chains = await unit.log.lock(owners)
    gone = sorted(owner for owner in {chain.key_owner for chain in chains.values()} if unit.key_destroyed(owner))
    for owner in gone:
        await unit.erasures.hand_over_chains(owner, uuid7())
    return await unit.log.lock(owners) if gone else chains


async def _route(
    unit: Unit, arrivals: Sequence[Arrival]
) -> tuple[dict[str, str], dict[str, list[LogRecord]]]:
    """(chain → key owner, chain → records in order)."""
    records = [arrival.record for arrival in arrivals]
    cases = dict(await unit.cases.owners({case_id for record in records for case_id in record.case_ids}))
    links = await unit.cases.linked({r.decision_id for r in records if r.decision_id and not r.case_ids})
    taken_over = await _taken_over(unit, records)
    owners: dict[str, str] = {}
    wanted: dict[str, list[LogRecord]] = defaultdict(list)
    for arrival in arrivals:
        record = arrival.record
        chain_ids = [case_id for case_id in record.case_ids if case_id in cases]
        link = links.get(record.decision_id)
        if not chain_ids and link is not None:
            chain_ids, cases[link.root_case_id] = [link.root_case_id], link.subscriber_id
        for chain_id in chain_ids:
            owners[chain_id] = cases[chain_id]
            wanted[chain_id] += [*taken_over.get(record.record_id, ()), record]
        if not chain_ids:
            day = _day_chain(arrival)
            owners[day] = SERVICE_KEY
            wanted[day].append(record)
    return owners, wanted


async def _taken_over(unit: Unit, records: Sequence[LogRecord]) -> Mapping[str, list[LogRecord]]:
    """Record that links a decision to its case → earlier records of that decision without a case."""
    linking = {
        record.decision_id: record.record_id
        for record in records
        if record.decision_id and record.case_lifecycle_log.transition in _LINKING
    }
    found: dict[str, list[LogRecord]] = defaultdict(list)
    for waiting in await unit.log.waiting(linking) if linking else ():
        found[linking[waiting.decision_id]].append(waiting.record)
    return found


def _day_chain(arrival: Arrival) -> str:
    day = arrival.record.occur_time.ToDatetime().date().isoformat()
    return f"{DAY}{arrival.publisher}:{day}"


def _extend(unit: Unit, chain: Chain, records: Sequence[LogRecord]) -> list[ChainEntry]:
    head, entries = chain.head, []
    belongs_to_day = chain.chain_id.startswith(DAY)
    for record in records:
        plaintext = record.SerializeToString(deterministic=True)
        place = f"log_entry/{chain.chain_id}/{head.sequence + 1}/ciphertext"
        entry = append(head, unit.seal(chain.key_owner, plaintext, place))
        decision_id = (record.decision_id or None) if belongs_to_day else None
        entries.append(ChainEntry(chain.chain_id, record.record_id, decision_id, entry))
        head = Head(entry.sequence, entry.entry_hash)
    return entries


@dataclass(frozen=True, slots=True)
class Span:
    """Which chains are looked at: one, or those behind `after` up to `until` (empty: from the first, to the last)."""

    chain_id: str = ""
    after: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was looked at and what is wrong with it."""

    chains: int
    entries: int
    faults: tuple[tuple[str, Fault], ...]
    head: Head
    """Head of the chain that was named; empty when none was."""
    witnessed: int = 0
    """Entries for which heads kept elsewhere speak."""
    purged: int = 0
    """Entries of which only the hash is left."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """One chain after it was looked at."""

    entries: int
    purged: int
    witnessed: int
    faults: Sequence[Fault]
    head: Head


FAULTS_AT_MOST = 100


async def verify_log(unit: Unit, span: Span, heads: Sequence[tuple[str, Head]] = ()) -> Verified:
    """Recomputes the chains of a span and holds them against heads that are kept elsewhere. What was rewritten with all
    hashes that follow shows against those alone.
    """
    kept: dict[str, list[Head]] = defaultdict(list)
    for chain_id, head in heads:
        kept[chain_id].append(head)
    chains = entries = purged = witnessed = 0
    faults: list[tuple[str, Fault]] = []
    last = Head()
    async for chain in _chains(unit, span):
        looked = await _look(unit, chain, kept.pop(chain.chain_id, []))
        chains, entries, purged = chains + 1, entries + looked.entries, purged + looked.purged
        witnessed += looked.witnessed
        faults += [(chain.chain_id, fault) for fault in looked.faults]
        last = looked.head
    faults += [(gone, Fault(1, "TRUNCATED", last_of(those).head_hash)) for gone, those in kept.items()]
    head = last if span.chain_id else Head()
    return Verified(chains, entries, tuple(faults[:FAULTS_AT_MOST]), head, witnessed, purged)


def last_of(heads: Sequence[Head]) -> Head:
    """The furthest of them."""
    return max(heads, key=lambda head: head.sequence)


async def _chains(unit: Unit, span: Span) -> AsyncIterator[Chain]:
    if span.chain_id:
        yield await unit.log.chain(span.chain_id)
        return
    after = span.after
    while page := await unit.log.chains(after, span.until, _PAGE):
        for chain in page:
            yield chain
        after = page[-1].chain_id


async def _look(unit: Unit, chain: Chain, kept: Sequence[Head]) -> _Looked:
    """Entries first, then the head row again: what was appended meanwhile is read too, so that a chain that grows is
    not taken for a broken one.
    """
    purged = unit.key_destroyed(chain.key_owner)
    wanted = {head.sequence for head in kept}
    reached, number, blank = Head(), 0, 0
    faults: list[Fault] = []
    hashes: dict[int, bytes] = {}

    def take(page: Sequence[ChainEntry]) -> None:
        nonlocal reached, number, blank, faults
        reached, found = verify(reached, [item.entry for item in page], purged=purged)
        faults, number = faults + found, number + len(page)
        blank += sum(not item.entry.ciphertext for item in page)
        hashes.update((e.entry.sequence, e.entry.entry_hash) for e in page if e.entry.sequence in wanted)

    while page := await unit.log.entries(chain.chain_id, reached.sequence, _PAGE):
        take(page)
    stored = (await unit.log.chain(chain.chain_id)).head
    if stored.sequence > reached.sequence:
        take(await unit.log.entries(chain.chain_id, reached.sequence, stored.sequence - reached.sequence))
    said = bear_witness(reached, hashes, kept)
    everything = first_of([*faults, *compare_head(reached, stored), *said.faults])
    return _Looked(number, blank, said.speaks_until, everything, stored)
