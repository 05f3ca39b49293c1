"""How are the counts for the public kept?

They are folded out of this service's own log records, which lie in its outbox for fourteen days: what is counted costs
nothing at the time when it happens, and a cursor for each partition, moved in the transaction of the counts, has
everything counted once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import Any, Final

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.log.v1.record_pb2 import LogRecord, RemovalRequestLog
from services.chassis.database import Database, insert_rows, table_of
from services.chassis.outbox import OUTBOX, RECORDED
from services.chassis.telemetry import logger
from services.removal.adapters.tables import TransparencyCountRow, TransparencyCursorRow
from services.removal.domain.transparency import OTHER, Counted, Moved, counted, counted_step
from services.removal.ports import Count

log = logger(__name__)

AT_ONCE: Final = 1000
"""Records of one transaction."""
_COUNT, _CURSOR = table_of(TransparencyCountRow), table_of(TransparencyCursorRow)
_ADD = f"(month, platform, what, reason) DO UPDATE SET number = {_COUNT.name}.number + excluded.number"
_LOCK = text(f"SELECT position FROM {_CURSOR.name} WHERE partition = :partition FOR UPDATE")
_MOVE = text(f"UPDATE {_CURSOR.name} SET position = :position WHERE partition = :partition")
_NEXT = (
    select(OUTBOX.c.position, OUTBOX.c.event, OUTBOX.c.payload)
    .where(OUTBOX.c.partition == bindparam("of"), OUTBOX.c.position > bindparam("after"))
    .order_by(OUTBOX.c.position)
    .limit(AT_ONCE)
)
_Key = tuple[str, str, str, str]


class SqlCounts:
    """See ports.Counts."""

    def __init__(self, database: Database, partitions: int, knows: Callable[[str, str], bool]) -> None:
        """`knows`: whether a platform's template names a reason."""
        self._database = database
        self._partitions = partitions
        self._knows = knows

    async def fold(self) -> None:
        """See ports.Counts."""
        for partition in range(self._partitions, 2 * self._partitions):
            while await self._fold_some(partition) == AT_ONCE:
                pass

    async def list_months(self, first: str, last: str) -> Sequence[Count]:
        """See ports.Counts."""
        query = select(_COUNT).where(_COUNT.c.month >= first, _COUNT.c.month <= last).order_by(*_COUNT.primary_key)
        async with self._database.begin() as session:
            return [Count(*row) for row in await session.execute(query)]

    async def _fold_some(self, partition: int) -> int:
        async with self._database.begin() as session:
            await insert_rows(session, _CURSOR, [{"partition": partition, "position": 0}], "DO NOTHING")
            position = (await session.execute(_LOCK, {"partition": partition})).scalar_one()
            rows = (await session.execute(_NEXT, {"of": partition, "after": position})).all()
            if not rows:
                return 0
            if position and rows[0].position != position + 1:
                # Nobody counted for longer than records are kept here.
                log.error("transparency_gap", partition=partition, missed=rows[0].position - position - 1)
            await self._add(session, Counter(key for row in rows if row.event == RECORDED for key in self._of(row)))
            await session.execute(_MOVE, {"partition": partition, "position": rows[-1].position})
            return len(rows)

    async def _add(self, session: AsyncSession, found: Counter[_Key]) -> None:
        names = ("month", "platform", "what", "reason")
        rows = [dict(zip(names, key, strict=True)) | {"number": number} for key, number in sorted(found.items())]
        await insert_rows(session, _COUNT, rows, _ADD)

    def _of(self, row: Any) -> Iterator[_Key]:
        record = LogRecord.FromString(row.payload)
        month = f"{record.occur_time.ToDatetime(UTC):%Y-%m}"
        body = record.removal_request_log
        for one in _counted(record, body):
            strange = one.what == "REJECTED" and not self._knows(body.platform, one.reason)
            platform = body.platform or record.removal_follow_log.platform
            yield month, platform, one.what, OTHER if strange else one.reason


def _counted(record: LogRecord, body: RemovalRequestLog) -> Sequence[Counted]:
    match record.WhichOneof("body"):
        case "removal_request_log":
            first = body.HasField("receive_time") and body.receive_time == record.occur_time
            return counted(
                Moved(
                    body.from_state, body.to_state, body.attempt, body.episode, body.reason, first, body.groundless
                )
            )
        case "removal_follow_log":
            return counted_step(record.removal_follow_log.step, record.removal_follow_log.outcome)
        case _:
            return ()
