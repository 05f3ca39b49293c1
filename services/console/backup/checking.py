"""Does a running system hold together: is the bus at its end, is every record logged once, do all logs verify?

The databases are read as administrator, not through the services: what is checked is what they rely on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
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
    """What was found."""

    unsent: int = 0
    """Events that the broker does not have yet."""
    dead_letters: int = 0
    lag: dict[Place, int] = field(default_factory=dict)
    """Events between a cursor and its publisher's head, where there are any."""
    partitions: int = 0
    """Of the event streams."""
    ahead: list[Place] = field(default_factory=list)
    """Cursors beyond their publisher's head: events of a time that is gone were applied."""

    @property
    def settled(self) -> bool:
        """Whether nothing is under way. Among domain events a cursor may lie a little behind, where only such passed as
        nobody uses there; records are all used."""
        return not self.unsent and all(lag < self._allowed(place) for place, lag in self.lag.items())

    def _allowed(self, place: Place) -> int:
        # The lower half of a publisher's partitions holds domain events.
        return SKIP_EVENTS if place[2] < self.partitions else 1


def look(home: Home) -> Standing:
    """How publishers and consumers stand now."""
    found, postgres = Standing(), Postgres(home)
    cursors: dict[Place, int] = {}
    heads: dict[tuple[str, int], int] = {}
    # Cursors first: read the other way round a cursor might seem to be ahead of its head.
    for service in SERVICES:
        for publisher, partition, position in _rows(postgres, service, CURSORS):
            cursors[service, publisher, int(partition)] = int(position)
    for service in SERVICES:
        for partition, position in _rows(postgres, service, HEADS):
            heads[service, int(partition)] = int(position)
        found.partitions = max(found.partitions, (1 + max((number for _, number in heads), default=-1)) // 2)
        found.unsent += int(_rows(postgres, service, UNSENT)[0][0])
        found.dead_letters += int(_rows(postgres, service, DEAD)[0][0])
    for place, reached in cursors.items():
        behind = heads.get(place[1:], 0) - reached
        if behind > 0:
            found.lag[place] = behind
        elif behind < 0:
            found.ahead.append(place)
    return found


def wait_until_settled(home: Home, seconds: float) -> Standing:
    """Looks until nothing moves any more for longer than a consumer may pass events without noting it, or the time is
    over; returns the last look."""
    deadline = time.monotonic() + seconds
    before, since = look(home), time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now = look(home)
        if now != before or not now.settled:
            before, since = now, time.monotonic()
        elif not now.lag or time.monotonic() - since > SKIP_SECONDS + 1.0:
            return now
    return before


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
