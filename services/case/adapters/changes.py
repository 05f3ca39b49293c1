"""What has this service published, for those who watch its cases? The outbox keeps it for two weeks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from sqlalchemy import select, text

from misuse.log.v1.record_pb2 import LogRecord
from services.case.ports import Change
from services.chassis.database import Database
from services.chassis.errors import OutOfRange
from services.chassis.outbox import OUTBOX_HEAD, RECORDED, lanes

_PAUSE_S = 0.5
"""Between two looks, unless something is committed here before."""
_SETTLE_S = 0.05
"""From a commit to the position that the relay gives it, mostly."""

# Positions of a partition have no gaps, and a row that commits late gets a late one: who has read up to a position
# has missed nothing.
_AFTER = text(
    """
    SELECT n.partition, n.position AS seen, h.position AS head, o.position, o.event, o.payload
    FROM unnest(CAST(:partitions AS int[]), CAST(:positions AS bigint[])) AS n(partition, position)
    LEFT JOIN outbox_head h ON h.partition = n.partition
    LEFT JOIN LATERAL (
        SELECT position, event, payload FROM outbox
        WHERE partition = n.partition AND position > n.position
        ORDER BY position LIMIT :most
    ) o ON true
    ORDER BY n.partition, o.position
    """
)


class SqlChanges:
    """The `Changes` over the outbox: the lane of records, which tell of every change."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._database = database
        self._lane = lanes((LogRecord,), partitions)
        self._committed = database.wakeup("outbox")

    async def heads(self) -> Mapping[int, int]:
        """See `Changes`."""
        async with self._database.begin() as session:
            rows = await session.execute(select(OUTBOX_HEAD.c.partition, OUTBOX_HEAD.c.position))
            found = {row.partition: row.position for row in rows}
        return {partition: found.get(partition, 0) for partition in self._lane}

    async def after(self, positions: Mapping[int, int], most: int) -> Sequence[Change]:
        """See `Changes`."""
        values = {"partitions": list(positions), "positions": list(positions.values()), "most": most}
        async with self._database.begin() as session:
            rows = (await session.execute(_AFTER, values)).all()
        expected = {partition: position + 1 for partition, position in positions.items()}
        found = []
        for row in rows:
            if row.position is None:
                if row.seen != (row.head or 0):
                    raise _gone()
                continue
            if row.position != expected[row.partition]:
                raise _gone()
            expected[row.partition] += 1
            record = LogRecord.FromString(row.payload) if row.event == RECORDED else None
            found.append(Change(row.partition, row.position, record))
        return found

    async def wait(self) -> None:
        """See `Changes`."""
        self._committed.clear()
        try:
            async with asyncio.timeout(_PAUSE_S):
                await self._committed.wait()
                await asyncio.sleep(_SETTLE_S)
        except TimeoutError:
            return


def _gone() -> OutOfRange:
    return OutOfRange("POSITION_NO_LONGER_KEPT", "The changes after this token are no longer kept.")
