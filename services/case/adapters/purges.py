"""How is the list of purges stored?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.tables import LOG_ENTRY, PURGE_ITEM, among
from services.case.domain.purges import Proof, PurgeItem
from services.chassis.database import insert_rows

_P = PURGE_ITEM.c
_COLUMNS = (_P.entry_id, _P.service, _P.item_kind, _P.item_id, _P.due_time, _P.rule, _P.purge_time, _P.record_id)
_THING = "(service, item_kind, item_id)"
_TABLE = PURGE_ITEM.name


class SqlPurges:
    """The `PurgeStore` over one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def note_due(self, items: Sequence[PurgeItem]) -> None:
        """See `PurgeStore`."""
        earlier = f"{_THING} DO UPDATE SET due_time = least({_TABLE}.due_time, excluded.due_time)"
        await insert_rows(self._session, PURGE_ITEM, _rows(items), earlier)

    async def note_purged(self, items: Sequence[PurgeItem]) -> None:
        """See `PurgeStore`."""
        latest = f"""
            {_THING} DO UPDATE SET purge_time = excluded.purge_time, record_id = excluded.record_id
            WHERE {_TABLE}.purge_time IS NULL OR {_TABLE}.purge_time <= excluded.purge_time
        """
        await insert_rows(self._session, PURGE_ITEM, _rows(items), latest)

    async def page_due(self, size: int, after: tuple[datetime, str] | None) -> Sequence[PurgeItem]:
        """See `PurgeStore`."""
        order = (_P.due_time, _P.entry_id)
        query = select(*_COLUMNS).where(_P.purge_time.is_(None)).order_by(*order).limit(size)
        if after is not None:
            query = query.where(tuple_(*order) > after)
        return [PurgeItem(*row) for row in await self._session.execute(query)]

    async def page_purged(self, size: int, before: tuple[datetime, str] | None) -> Sequence[PurgeItem]:
        """See `PurgeStore`."""
        order = (_P.purge_time, _P.entry_id)
        query = select(*_COLUMNS).where(_P.purge_time.is_not(None))
        if before is not None:
            query = query.where(tuple_(*order) < before)
        query = query.order_by(*(column.desc() for column in order)).limit(size)
        rows = (await self._session.execute(query)).all()
        proofs = await self._proofs([row.record_id for row in rows])
        return [PurgeItem(*row, proof=proofs.get(row.record_id)) for row in rows]

    async def forget(self, before: datetime) -> int:
        """See `PurgeStore`."""
        old = delete(PURGE_ITEM).where(_P.purge_time < before)
        return len((await self._session.execute(old.returning(_P.entry_id))).all())

    async def _proofs(self, record_ids: Sequence[str]) -> dict[str, Proof]:
        """Record → its entry in the log; of several chains the first by name."""
        entry = LOG_ENTRY.c
        query = select(entry.record_id, entry.chain_id, entry.sequence, entry.entry_hash)
        query = query.where(among(entry.record_id, record_ids)).order_by(entry.chain_id.desc())
        rows = await self._session.execute(query)
        return {row.record_id: Proof(row.chain_id, row.sequence, row.entry_hash) for row in rows}


def _rows(items: Sequence[PurgeItem]) -> list[dict[str, Any]]:
    """One row for each thing: a statement that meets one twice is refused. In one order, so that two never wait for
    each other."""
    things = {(item.service, item.item_kind, item.item_id): item for item in items}
    names = [column.name for column in _COLUMNS]
    return [{name: getattr(things[thing], name) for name in names} for thing in sorted(things)]
