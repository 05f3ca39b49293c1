"""What has this service published, for those who watch its cases?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from misuse.log.v1.record_pb2 import LogRecord
from services.case.ports import Change
from services.chassis.changes import Published, PublishedChanges
from services.chassis.database import Database
from services.chassis.outbox import RECORDED, lanes


class SqlChanges:
    """The `Changes` over the outbox: the lane of records, which tell of every change."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._published = PublishedChanges(database, lanes((LogRecord,), partitions))

    async def heads(self) -> Mapping[int, int]:
        """See `Changes`."""
        return await self._published.heads()

    async def after(self, positions: Mapping[int, int], most: int) -> Sequence[Change]:
        """See `Changes`."""
        found = await self._published.after(positions, most)
        return [Change(each.partition, each.position, _record(each)) for each in found]

    async def wait(self) -> None:
        """See `Changes`."""
        await self._published.wait()


def _record(published: Published) -> LogRecord | None:
    return LogRecord.FromString(published.payload) if published.event == RECORDED else None
