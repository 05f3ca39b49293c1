"""How do the records of every service become one list of what is to be purged, and what was?

The records say it, nobody is asked: what stands in the list is what the log can prove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from misuse.log.v1.record_pb2 import LogRecord
from services.case.domain.purges import PurgeItem, PurgeState
from services.case.domain.rights import RightsRequest, RightsRules
from services.case.ports import PURGE_LIST, Unit, Units
from services.chassis.ids import uuid7

LIST = "purge-list"
"""The entity of the due row that forgets."""
RETENTION = "PERSONAL_DATA"
"""Kind of what is held: everything of a person whose deletion a law forbids."""
_OFTEN = timedelta(days=1)
_DUE, _PURGED = "purge_due_log", "purge_log"


@dataclass(frozen=True)
class Purging:
    """Keeps the list of purges."""

    units: Units
    rights: RightsRules
    now: Callable[[], datetime]

    async def take_in(self, unit: Unit, recorded: Sequence[LogRecord]) -> None:
        """Adds what records tell of purges; repeats change nothing."""
        due = [_listed(record) for record in recorded if record.WhichOneof("body") == _DUE]
        purged = [_purged(record) for record in recorded if record.WhichOneof("body") == _PURGED]
        if not due and not purged:
            return
        await unit.purges.note_due(due)
        await unit.purges.note_purged(purged)
        await unit.remind(PURGE_LIST, {LIST: (self.now() + _OFTEN, "")})

    async def forget_when_due(self) -> None:
        """What a due row does, once a day while anything is purged: old purges leave the list, their records stay."""
        now = self.now()
        async with self.units() as unit:
            await unit.purges.forget(now - self.rights.keep_purged)
            await unit.remind(PURGE_LIST, {LIST: (now + _OFTEN, "")})

    async def page(
        self, unit: Unit, state: PurgeState, size: int, place: tuple[datetime, str] | None
    ) -> Sequence[PurgeItem]:
        """A page: what is not purged and what is held by deadline, what was purged newest first."""
        if state is PurgeState.PURGED:
            return await unit.purges.page_purged(size, place)
        if state is PurgeState.HELD:
            holding = {reason for reason, refusal in self.rights.refusals.items() if refusal.holds}
            return [_held(each) for each in await unit.rights.held(holding, size, place)]
        return await unit.purges.page_due(size, place)


def _listed(record: LogRecord) -> PurgeItem:
    log = record.purge_due_log
    due_time = log.due_time.ToDatetime(UTC)
    return PurgeItem(uuid7(), record.service, log.item_kind, record.entity_id, due_time, log.rule)


def _purged(record: LogRecord) -> PurgeItem:
    log = record.purge_log
    due_time, purge_time = log.due_time.ToDatetime(UTC), record.occur_time.ToDatetime(UTC)
    thing = (record.service, log.item_kind, record.entity_id)
    return PurgeItem(uuid7(), *thing, due_time, log.rule, purge_time, record.record_id)


def _held(request: RightsRequest) -> PurgeItem:
    """A deletion that a law forbids, under the id of the request: whose data it is, the request tells."""
    held = (request.rights_request_id, "case", RETENTION, request.rights_request_id)
    return PurgeItem(*held, request.due_time, request.reason)
