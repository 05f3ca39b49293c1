"""How are erasures stored, and how does everything about a subscriber leave the tables?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.cases import case_of
from services.case.adapters.tables import (
    ACCESS_ENTRY,
    CASE,
    ERASURE,
    LOG_CHAIN,
    REVIEW_ITEM,
    REVIEW_LABEL,
    RIGHTS_REQUEST,
    SUBSCRIBER,
    Base,
    among,
)
from services.case.domain.cases import Case
from services.case.domain.erasure import Erasure
from services.case.domain.words import CaseState, Resolution, Verdict
from services.chassis.due import DUE
from services.chassis.idempotency import request_memory_table

_MEMORY = request_memory_table(Base.metadata)
_KEPT = frozenset({ACCESS_ENTRY.name, CASE.name, ERASURE.name, RIGHTS_REQUEST.name, SUBSCRIBER.name})
"""Cases and the access log change hands, requests forget whose they are, an erasure names its subscriber until it is
complete, whose own row goes last."""


def personal_tables() -> Sequence[Table]:
    """Tables whose rows about a subscriber go: all that name one, so that a new table cannot be forgotten."""
    tables = reversed(Base.metadata.sorted_tables)
    return [table for table in tables if "subscriber_id" in table.c and table.name not in _KEPT]


class SqlErasures:
    """The `ErasureStore` over one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, erasure: Erasure) -> None:
        """See `ErasureStore`."""
        await self._session.execute(insert(ERASURE).values(_row(erasure)))

    async def update(self, erasure: Erasure) -> None:
        """See `ErasureStore`."""
        statement = update(ERASURE).where(ERASURE.c.erasure_id == erasure.erasure_id)
        await self._session.execute(statement.values(_row(erasure)))

    async def get(self, erasure_id: str) -> Erasure | None:
        """See `ErasureStore`."""
        return await self._one(ERASURE.c.erasure_id == erasure_id)

    async def lock(self, erasure_id: str) -> Erasure | None:
        """See `ErasureStore`."""
        return await self._one(ERASURE.c.erasure_id == erasure_id, lock=True)

    async def of_subscriber(self, subscriber_id: str) -> Erasure | None:
        """See `ErasureStore`."""
        return await self._one(ERASURE.c.subscriber_id == subscriber_id)

    async def lock_of(self, subscriber_id: str) -> Erasure | None:
        """See `ErasureStore`."""
        return await self._one(ERASURE.c.subscriber_id == subscriber_id, lock=True)

    async def _one(self, which: ColumnElement[bool], *, lock: bool = False) -> Erasure | None:
        query = select(ERASURE).where(which)
        row = (await self._session.execute(query.with_for_update() if lock else query)).one_or_none()
        return _erasure(row) if row else None

    async def page(self, size: int, before: tuple[datetime, str] | None) -> Sequence[Erasure]:
        """See `ErasureStore`."""
        order = (ERASURE.c.request_time, ERASURE.c.erasure_id)
        query = select(ERASURE).order_by(*(column.desc() for column in order)).limit(size)
        if before is not None:
            query = query.where(tuple_(*order) < before)
        return [_erasure(row) for row in await self._session.execute(query)]

    async def purge_cases(
        self, subscriber_id: str, new_owner: str, now: datetime
    ) -> Sequence[tuple[Case, CaseState]]:
        """See `ErasureStore`."""
        query = select(CASE).where(CASE.c.subscriber_id == subscriber_id).order_by(CASE.c.case_id).with_for_update()
        cases = [case_of(row) for row in await self._session.execute(query)]
        statement = update(CASE).where(CASE.c.subscriber_id == subscriber_id)
        changed = {
            "subscriber_id": new_owner,
            "state": CaseState.PURGED.value,
            "channel_groups": [],
            "verdict": Verdict.UNSPECIFIED.value,
            "due_time": None,
            "merged_from_state": None,
            "merged_from_resolution": Resolution.UNSPECIFIED.value,
            "update_time": now,
            "version": CASE.c.version + 1,
        }
        await self._session.execute(statement.values(changed))
        # The law wants the access log kept; it says of nobody now.
        read = update(ACCESS_ENTRY).where(ACCESS_ENTRY.c.subscriber_id == subscriber_id)
        await self._session.execute(read.values(subscriber_id=new_owner))
        await self._session.execute(delete(DUE).where(among(DUE.c.entity_id, [case.case_id for case in cases])))
        purged = []
        for case in cases:
            before, case.state = case.state, CaseState.PURGED
            case.touch(now)
            purged.append((case, before))
        return purged

    async def hand_over_chains(self, subscriber_id: str, new_owner: str) -> None:
        """See `ErasureStore`."""
        mine = select(LOG_CHAIN.c.chain_id).where(LOG_CHAIN.c.key_owner == subscriber_id)
        # Locked in the order in which whoever appends locks them.
        ids = list(await self._session.scalars(mine.order_by(LOG_CHAIN.c.chain_id).with_for_update()))
        if ids:
            statement = update(LOG_CHAIN).where(among(LOG_CHAIN.c.chain_id, ids))
            await self._session.execute(statement.values(key_owner=new_owner))

    async def delete_rows(self, subscriber_id: str) -> None:
        """See `ErasureStore`."""
        items = select(REVIEW_ITEM.c.review_item_id).where(REVIEW_ITEM.c.subscriber_id == subscriber_id)
        await self._session.execute(delete(REVIEW_LABEL).where(REVIEW_LABEL.c.review_item_id.in_(items)))
        for table in personal_tables():
            await self._session.execute(delete(table).where(table.c.subscriber_id == subscriber_id))
        # A registration that is sent again is known as done, and finds nobody.
        done = update(_MEMORY).where(_MEMORY.c.resource_id == subscriber_id)
        await self._session.execute(done.values(resource_id=""))

    async def delete_subscriber(self, subscriber_id: str) -> None:
        """See `ErasureStore`."""
        await self._session.execute(delete(SUBSCRIBER).where(SUBSCRIBER.c.subscriber_id == subscriber_id))


def _row(erasure: Erasure) -> dict[str, Any]:
    return asdict(erasure) | {"waiting_for": list(erasure.waiting_for)}


def _erasure(row: Any) -> Erasure:
    values = row._asdict()
    return Erasure(**{**values, "waiting_for": tuple(row.waiting_for)})
