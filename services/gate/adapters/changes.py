"""What has this service published, for those who watch its decisions?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from misuse.log.v1.record_pb2 import LogRecord
from services.chassis.changes import Published, PublishedChanges
from services.chassis.database import Database
from services.chassis.outbox import RECORDED, lanes
from services.gate.ports import DecisionChange


class SqlDecisionChanges:
    """See ports.Changes: the lane of records, which tell of every decision and every override."""

    def __init__(self, database: Database, partitions: int) -> None:
        self._published = PublishedChanges(database, lanes((LogRecord,), partitions))

    async def heads(self) -> Mapping[int, int]:
        """See Changes."""
        return await self._published.heads()

    async def after(self, positions: Mapping[int, int], most: int) -> Sequence[DecisionChange]:
        """See Changes."""
        return [_change(each) for each in await self._published.after(positions, most)]

    async def wait(self) -> None:
        """See Changes."""
        await self._published.wait()


def _change(published: Published) -> DecisionChange:
    place = (published.partition, published.position)
    record = LogRecord.FromString(published.payload) if published.event == RECORDED else LogRecord()
    if record.entity != "release_decision":
        return DecisionChange(*place)
    match record.WhichOneof("body"):
        case "release_decision_log":
            return DecisionChange(*place, record.entity_id, "EVALUATED")
        case "approval_log":
            return DecisionChange(*place, record.entity_id, "OVERRIDDEN")
    return DecisionChange(*place)
