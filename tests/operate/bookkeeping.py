"""Is every event of a system applied once? Read from the databases and decoded here, whatever services count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from misuse.detector.v1.events_pb2 import SignalMatched
from misuse.log.v1.record_pb2 import LogRecord
from services.console.home import SERVICES
from tests.scenario.system import System

PAGE = 20_000


@dataclass(frozen=True)
class Books:
    """What publishers say and what consumers have."""

    matches: int
    """SignalMatched in the detector's outbox, about people who are not being erased."""
    sightings: int
    decisions: int
    """Distinct decisions among the sightings."""
    cases: int
    published: Counter[str]
    """Record ids of all outboxes."""
    kept: Counter[str]
    """Record ids that the gate has."""
    logged: Counter[tuple[str, str]]
    """(record id, chain) in the case log: a decision may stand in its day's chain and, later, in its case's."""

    @property
    def lost(self) -> dict[str, int]:
        """Matches without a sighting, records that a publisher has and the gate or the case log has not."""
        found = {
            "sightings": self.matches - self.decisions,
            "gate": len(self.published.keys() - self.kept.keys()),
            "case_log": len(self.published.keys() - self._logged_ids),
        }
        return {where: count for where, count in found.items() if count}

    @property
    def doubled(self) -> int:
        """Records and sightings that are there more than once."""
        books: tuple[Counter[Any], ...] = (self.published, self.kept, self.logged)
        return sum(book.total() - len(book) for book in books) + self.sightings - self.decisions

    @property
    def invented(self) -> int:
        """Records that somebody has and no publisher knows: events of a time that was undone."""
        return len((self.kept.keys() | self._logged_ids) - self.published.keys())

    @property
    def _logged_ids(self) -> set[str]:
        return {record_id for record_id, _ in self.logged}


def read_books(system: System) -> Books:
    """Reads everything."""
    published = Counter[str]()
    for service in SERVICES:
        published.update(_records(system, service))
    return Books(
        matches=_matches(system),
        sightings=_count(system, "case", "SELECT count(*) FROM sighting"),
        decisions=_count(system, "case", "SELECT count(DISTINCT decision_id) FROM sighting"),
        cases=_count(system, "case", 'SELECT count(*) FROM "case"'),
        published=published,
        kept=Counter(system.sql("gate", "SELECT record_id FROM log_record;").split()),
        logged=Counter(
            (record_id, chain_id)
            for record_id, chain_id in _rows(system, "case", "SELECT record_id, chain_id FROM log_entry")
        ),
    )


def _records(system: System, service: str) -> list[str]:
    return [LogRecord.FromString(payload).record_id for payload in _payloads(system, service, "recorded")]


def _matches(system: System) -> int:
    erased = {row[0] for row in _rows(system, "case", "SELECT subscriber_id FROM erasure")}
    found = [SignalMatched.FromString(payload) for payload in _payloads(system, "detector", "signal_matched")]
    return sum(matched.facts.subscriber_id not in erased for matched in found)


def _payloads(system: System, service: str, event: str) -> Iterator[bytes]:
    after, rows = 0, [["", ""]]
    while rows:
        rows = _rows(
            system,
            service,
            "SELECT seq, encode(payload, 'hex') FROM outbox "
            f"WHERE event = '{event}' AND seq > {after} ORDER BY seq LIMIT {PAGE}",
        )
        yield from (bytes.fromhex(payload) for _, payload in rows)
        after = int(rows[-1][0]) if rows else 0


def _rows(system: System, service: str, query: str) -> list[list[str]]:
    return [line.split("|") for line in system.sql(service, f"{query};").splitlines()]


def _count(system: System, service: str, query: str) -> int:
    return int(system.sql(service, f"{query};"))
