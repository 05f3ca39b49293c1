"""How is the access log stored?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import Purpose, Role
from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import (
    ACCESS_ENTRY,
    CASE,
    CASE_REMOVAL,
    REVIEW_ITEM,
    RIGHTS_REQUEST,
    SIGHTING,
    among,
)
from services.case.domain.access import AccessEntry, Download, Usage
from services.chassis.database import insert_rows

SERVICE_KEY = "service:access-log"
"""Owner of the key that seals staff ids."""
SUBSCRIBER = "subscriber_id"
CASES = frozenset({"case_id", "case_ids", "root_case_id", "merged_case_id"})
DECISION, REMOVAL, RIGHTS = "decision_id", "removal_request_id", "rights_request_id"

# A method's last word is what rules name it by.
_SHORT = func.split_part(ACCESS_ENTRY.c.method, "/", 2)
_HOUR = func.date_trunc(text("'hour'"), ACCESS_ENTRY.c.occur_time, text("'UTC'"))


class SqlAccess:
    """The `AccessStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def owners(self, things: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """See `AccessStore`."""
        found = {thing: thing[1] for thing in things if thing[0] == SUBSCRIBER and len(thing[1]) == 36}
        cases = await self._pairs(
            select(CASE.c.case_id, CASE.c.subscriber_id).where(among(CASE.c.case_id, _ids(things, CASES)))
        )
        decisions = _ids(things, {DECISION})
        decided = await self._pairs(
            select(REVIEW_ITEM.c.decision_id, REVIEW_ITEM.c.subscriber_id).where(
                among(REVIEW_ITEM.c.decision_id, decisions)
            )
        ) | await self._pairs(
            select(SIGHTING.c.decision_id, SIGHTING.c.subscriber_id).where(among(SIGHTING.c.decision_id, decisions))
        )
        filed = await self._pairs(
            select(CASE_REMOVAL.c.removal_request_id, CASE.c.subscriber_id)
            .join(CASE, CASE.c.case_id == CASE_REMOVAL.c.case_id)
            .where(among(CASE_REMOVAL.c.removal_request_id, _ids(things, {REMOVAL})))
        )
        asked = await self._pairs(
            select(RIGHTS_REQUEST.c.rights_request_id, RIGHTS_REQUEST.c.subscriber_id).where(
                among(RIGHTS_REQUEST.c.rights_request_id, _ids(things, {RIGHTS})),
                RIGHTS_REQUEST.c.subscriber_id.is_not(None),
            )
        )
        for names, known in ((CASES, cases), ({DECISION}, decided), ({REMOVAL}, filed), ({RIGHTS}, asked)):
            found |= {thing: known[thing[1]] for thing in things if thing[0] in names and thing[1] in known}
        # A reading that is told of late does not name somebody again who was erased.
        gone = {person for person in set(found.values()) if self._sealing.destroyed(person)}
        return {thing: person for thing, person in found.items() if person not in gone}

    async def _pairs(self, query: Any) -> dict[str, str]:
        return {row[0]: row[1] for row in await self._session.execute(query)}

    async def add(self, entries: Sequence[AccessEntry]) -> None:
        """See `AccessStore`."""
        await insert_rows(self._session, ACCESS_ENTRY, [self._row(entry) for entry in entries])

    async def page(
        self, subscriber_id: str, size: int, before: tuple[datetime, str] | None
    ) -> Sequence[AccessEntry]:
        """See `AccessStore`."""
        order = (ACCESS_ENTRY.c.occur_time, ACCESS_ENTRY.c.entry_id)
        query = select(ACCESS_ENTRY).order_by(*(column.desc() for column in order)).limit(size)
        if subscriber_id:
            query = query.where(ACCESS_ENTRY.c.subscriber_id == subscriber_id)
        if before is not None:
            query = query.where(tuple_(*order) < before)
        return [self._entry(row) for row in await self._session.execute(query)]

    async def usage(self, start: datetime, end: datetime) -> Sequence[Usage]:
        """See `AccessStore`."""
        row = ACCESS_ENTRY.c
        group = (row.role, row.purpose, _SHORT.label("short"), row.actor_ref, _HOUR.label("hour"))
        query = select(*group, func.count(row.reading_id.distinct())).where(*_within(start, end)).group_by(*group)
        return [
            Usage(_role(r[0]), _purpose(r[1]), r[2], r[3], r[4].astimezone(UTC), r[5])
            for r in await self._session.execute(query)
        ]

    async def people(self, start: datetime, end: datetime) -> Mapping[tuple[str, str], int]:
        """See `AccessStore`."""
        row = ACCESS_ENTRY.c
        query = (
            select(row.role, row.actor_ref, func.count(row.subscriber_id.distinct()))
            .where(*_within(start, end))
            .group_by(row.role, row.actor_ref)
        )
        return {(_role(r[0]), r[1]): r[2] for r in await self._session.execute(query)}

    async def downloads(
        self, start: datetime, end: datetime, methods: Collection[str], most: int
    ) -> Sequence[Download]:
        """See `AccessStore`."""
        row = ACCESS_ENTRY.c
        columns = (row.occur_time, row.role, row.purpose, _SHORT.label("short"), row.actor_ref, row.reason)
        query = (
            select(row.reading_id, *columns)
            .distinct()
            .where(*_within(start, end), among(_SHORT, methods))
            .order_by(row.occur_time, row.reading_id)
            .limit(most)
        )
        return [
            Download(r[1], _role(r[2]), _purpose(r[3]), r[4], r[5], r[6]) for r in await self._session.execute(query)
        ]

    async def purge(self, before: datetime) -> int:
        """See `AccessStore`."""
        old = delete(ACCESS_ENTRY).where(ACCESS_ENTRY.c.occur_time < before)
        return len((await self._session.execute(old.returning(ACCESS_ENTRY.c.entry_id))).all())

    def _row(self, entry: AccessEntry) -> dict[str, Any]:
        values = asdict(entry) | {"classes": list(entry.classes)}
        values["sealed_actor"] = self._sealing.seal(SERVICE_KEY, values.pop("actor").encode(), _place(entry.entry_id))
        return values

    def _entry(self, row: Any) -> AccessEntry:
        values = row._asdict()
        sealed = values.pop("sealed_actor")
        actor = self._sealing.open(SERVICE_KEY, sealed, _place(row.entry_id)) or b""
        return AccessEntry(**{**values, "classes": tuple(row.classes), "actor": actor.decode()})


def _place(entry_id: str) -> str:
    return f"access_entry/{entry_id}/sealed_actor"


def _ids(things: Collection[tuple[str, str]], names: Collection[str]) -> list[str]:
    return sorted({value for name, value in things if name in names})


def _within(start: datetime, end: datetime) -> tuple[Any, Any]:
    return ACCESS_ENTRY.c.occur_time >= start, ACCESS_ENTRY.c.occur_time < end


def _role(number: int) -> str:
    return Role.Name(Role.ValueType(number)).removeprefix("ROLE_")


def _purpose(number: int) -> str:
    return Purpose.Name(Purpose.ValueType(number)).removeprefix("PURPOSE_")
