"""Does a running system hold together: is the bus at its end, is every record logged once, do all logs verify?

The databases are read as administrator, not through the services: what is checked is what they rely on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.chassis.bus import SKIP_EVENTS, SKIP_SECONDS
from services.chassis.keys import FileKeyStore
from services.console.embedded import Postgres
from services.console.home import SERVICES, Home

CURSORS = "SELECT publisher, partition, position FROM bus_cursor ORDER BY 1, 2"
HEADS = "SELECT partition, position FROM outbox_head"
UNSENT = (
    "SELECT (SELECT count(*) FROM outbox WHERE position IS NULL)"
    " + (SELECT coalesce(sum(position - published), 0) FROM outbox_head)"
)
DEAD = "SELECT count(*) FROM dead_letter"
Place = tuple[str, str, int]
"""Consumer, publisher, partition."""


@dataclass
class Standing:
    """How publishers and consumers stand."""

    unsent: int = 0
    """Events that the broker does not have yet."""
    dead_letters: int = 0
    partitions: int = 0
    """Of the event streams."""
    heads: dict[tuple[str, int], int] = field(default_factory=dict)
    """(publisher, partition) → last position."""
    cursors: dict[Place, int] = field(default_factory=dict)

    @property
    def ahead(self) -> list[Place]:
        """Cursors beyond their publisher's head: events of a time that is gone were applied."""
        return [place for place, reached in self.cursors.items() if reached > self.heads.get(place[1:], 0)]

    def behind(self, heads: Mapping[tuple[str, int], int]) -> dict[Place, int]:
        """Events that lie between cursors and heads."""
        lags = {place: heads.get(place[1:], 0) - reached for place, reached in self.cursors.items()}
        return {place: lag for place, lag in lags.items() if lag > 0}

    def may_skip(self, place: Place) -> bool:
        """Whether this is a lane of domain events, the lower half of a publisher's partitions: a cursor may lie a
        little behind where only such passed as nobody uses there. Records are all used."""
        return place[2] < self.partitions


def look(home: Home) -> Standing:
    """How things stand now."""
    found, postgres = Standing(), Postgres(home)
    # Cursors first: read the other way round a cursor might seem to be ahead of its head.
    for service in SERVICES:
        for publisher, partition, position in _rows(postgres, service, CURSORS):
            found.cursors[service, publisher, int(partition)] = int(position)
    for service in SERVICES:
        for partition, position in _rows(postgres, service, HEADS):
            found.heads[service, int(partition)] = int(position)
        found.unsent += int(_rows(postgres, service, UNSENT)[0][0])
        found.dead_letters += int(_rows(postgres, service, DEAD)[0][0])
    found.partitions = (1 + max((number for _, number in found.heads), default=-1)) // 2
    return found


def wait_until_caught_up(home: Home, seconds: float) -> tuple[Standing, dict[Place, int]]:
    """Waits until every consumer has got as far as its publisher is now; what is published meanwhile does not count.
    Returns the last look, and how far behind that mark consumers still are when the time is over."""
    deadline = time.monotonic() + seconds
    now = look(home)
    mark, moved = dict(now.heads), dict.fromkeys(now.cursors, time.monotonic())
    while True:
        behind = {place: lag for place, lag in now.behind(mark).items() if not _only_skipped(now, place, lag, moved)}
        if not behind or time.monotonic() > deadline:
            return now, behind
        time.sleep(0.5)
        before, now = now, look(home)
        for place, reached in now.cursors.items():
            if before.cursors.get(place) != reached:
                moved[place] = time.monotonic()


def _only_skipped(now: Standing, place: Place, lag: int, moved: Mapping[Place, float]) -> bool:
    still = time.monotonic() - moved.get(place, time.monotonic())
    return now.may_skip(place) and lag < SKIP_EVENTS and still > SKIP_SECONDS + 1.0


def erased_and_back(home: Home) -> list[str]:
    """Subscribers who are in the data although a tombstone says that they were erased: a backup brought their rows
    back, unreadable, and they are to be erased again."""
    rows = _rows(Postgres(home), "case", "SELECT subscriber_id FROM subscriber ORDER BY 1")
    stores = [_store(home, service) for service in SERVICES]
    return [subscriber for (subscriber,) in rows if any(store.destroyed(subscriber) for store in stores)]


def _store(home: Home, service: str) -> FileKeyStore:
    return FileKeyStore(home.keys(service), home.path / "keys" / f"{service}.master")


def _rows(postgres: Postgres, service: str, query: str) -> Sequence[list[str]]:
    return [line.split("|") for line in postgres.sql(f"{query};", service).splitlines()]
