"""How does somebody follow the changes of cases without missing one?

A resume token holds the position up to which each partition was shown. Positions are given out after the commit and
have no gaps, so that a transaction that commits late comes after the token and not before it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field

from misuse.log.v1.record_pb2 import LogRecord
from services.case.domain.cases import Case
from services.case.ports import Attachments, Changes, Unit, Units
from services.chassis.changes import resume_token, resumed_positions
from services.chassis.errors import ResourceExhausted

MOST_WATCHERS = 64
_BATCH = 200
_SILENT_ROUNDS = 20
"""Looks without a change for the caller, after which the token alone is sent: an old one falls out of the outbox."""

_NAMES: Mapping[str, str] = {
    "OPENED": "CaseOpened",
    "SIGHTED": "CaseSighted",
    "ACTION_STARTED": "CaseActionStarted",
    "WAITING_PLATFORM": "CaseWaitingPlatform",
    "RESOLVED": "CaseResolved",
    "CLOSED": "CaseClosed",
    "REOPENED": "CaseReopened",
    "MERGED": "CaseMerged",
    "UNMERGED": "CaseUnmerged",
    "PUT_BACK": "CaseUnmerged",
    "PURGED": "CasePurged",
    "FLAGGED": "CaseFlagged",
}
"""Transition of a case → what a watcher is told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a watcher gets: a change with its case, or a token alone."""

    token: str
    event: str = ""
    case: Case | None = None
    attached: Attachments = field(default_factory=Attachments)


@dataclass
class Watching:
    """Serves those who watch."""

    units: Units
    changes: Changes
    watchers: int = 0

    async def follow(self, token: str, subscriber_id: str) -> AsyncGenerator[Seen, None]:
        """Changes after the token, or from now on. Raises InvalidInput BAD_RESUME_TOKEN, OutOfRange
        POSITION_NO_LONGER_KEPT, ResourceExhausted WATCHERS_FULL.
        """
        if self.watchers >= MOST_WATCHERS:
            raise ResourceExhausted("WATCHERS_FULL", "Too many watch already.")
        self.watchers += 1
        try:
            async for seen in self._follow(token, subscriber_id):
                yield seen
        finally:
            self.watchers -= 1

    async def _follow(self, token: str, subscriber_id: str) -> AsyncIterator[Seen]:
        heads = await self.changes.heads()
        positions = resumed_positions(token, heads) if token else dict(heads)
        yield Seen(resume_token(positions))
        silent = 0
        while True:
            changes = await self.changes.after(positions, _BATCH)
            shown = False
            for change in changes:
                positions[change.partition] = change.position
                if change.record is not None and (event := _event(change.record)):
                    seen = await self._seen(change.record, event, subscriber_id, positions)
                    if seen is not None:
                        shown = True
                        yield seen
            silent = 0 if shown else silent + 1
            if silent == _SILENT_ROUNDS:
                silent = 0
                yield Seen(resume_token(positions))
            if not changes:
                await self.changes.wait()

    async def _seen(
        self, record: LogRecord, event: str, subscriber_id: str, positions: Mapping[int, int]
    ) -> Seen | None:
        """The change with its case as it is now; None where the case is another's, or gone."""
        async with self.units() as unit:
            case = await _root(unit, record.case_ids[0])
            if case is None or (subscriber_id and case.subscriber_id != subscriber_id):
                return None
            attached = (await unit.cases.attachments([case.case_id]))[case.case_id]
        return Seen(resume_token(positions), event, case, attached)


async def _root(unit: Unit, case_id: str) -> Case | None:
    case = await unit.cases.get(case_id)
    return case if case is None or case.root_case_id == case_id else await unit.cases.get(case.root_case_id)


def _event(record: LogRecord) -> str:
    """What a record tells a watcher of cases; empty for nothing."""
    if not record.case_ids:
        return ""
    match record.WhichOneof("body"):
        case "case_lifecycle_log":
            return _NAMES.get(record.case_lifecycle_log.transition, "")
        case "evidence_pack_log":
            return "EvidencePacked" if record.evidence_pack_log.action == "BUILT" else ""
        case "label_log":
            return "CaseLabelled"
    return ""
