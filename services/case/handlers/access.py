"""How do readings of every service become one log, and how is that log looked through?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from misuse.common.v1.reading_pb2 import PersonalDataRead, ReadOf
from services.case import records
from services.case.domain.access import LISTED_AT_MOST, AccessEntry, AccessRules, Json, review
from services.case.ports import PURGE_ACCESS, Unit, Units
from services.chassis.ids import uuid7

LOG = "access-log"
"""The entity of the due row that purges."""
SUBSCRIBER = "subscriber_id"
_OFTEN = timedelta(days=1)


@dataclass(frozen=True)
class AccessKeeping:
    """Keeps the access log."""

    units: Units
    rules: AccessRules
    now: Callable[[], datetime]

    async def take_in(self, unit: Unit, readings: Sequence[PersonalDataRead]) -> None:
        """Adds what services told: one entry for each thing that a reading named, or one where it named nothing."""
        things = {(thing.field, thing.id) for reading in readings for thing in reading.of}
        owners = await unit.access.owners(things)
        entries = []
        for reading in readings:
            for thing in reading.of or (ReadOf(),):
                owner = owners.get((thing.field, thing.id))
                entries.append(_entry(reading, thing, owner, unit.reference(reading.actor)))
        await unit.access.add(entries)
        await unit.remind(PURGE_ACCESS, {LOG: (self.now() + _OFTEN, "")})

    async def purge_when_due(self) -> None:
        """What a due row does, once a day while anything is read: deletes what was kept long enough."""
        now = self.now()
        async with self.units() as unit:
            gone = await unit.access.purge(now - self.rules.keep)
            if gone:
                purged = records.purge("ACCESS_LOG", LOG, now, self.rules.version, now)
                unit.record(LOG, purged)
            await unit.remind(PURGE_ACCESS, {LOG: (now + _OFTEN, "")})

    async def report(self, month: str) -> Json:
        """The review of a month. Raises InvalidInput MONTH_MALFORMED."""
        now = self.now()
        start, end = self.rules.month(month, now)
        async with self.units() as unit:
            usage = await unit.access.usage(start, end)
            people = await unit.access.people(start, end)
            downloads = await unit.access.downloads(start, end, self.rules.downloads, 10 * LISTED_AT_MOST)
        return review(month, usage, people, downloads, self.rules, now)


def _entry(reading: PersonalDataRead, thing: ReadOf, owner: str | None, actor_ref: str) -> AccessEntry:
    return AccessEntry(
        entry_id=uuid7(),
        reading_id=reading.reading_id[:36],
        subscriber_id=owner,
        method=reading.method[:128],
        classes=tuple(reading.classes),
        role=reading.actor_role,
        actor=reading.actor[:64],
        actor_ref=actor_ref,
        purpose=reading.purpose,
        origin=reading.origin[:16],
        field=thing.field[:64],
        # Whose it is stands in a column of its own, from where an erasure takes it.
        thing_id="" if thing.field == SUBSCRIBER else thing.id[:64],
        reason=reading.reason[:64],
        occur_time=reading.occur_time.ToDatetime(UTC),
    )
