"""What is to be purged, what was, and what proves it?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class PurgeState(StrEnum):
    """Where something to be purged stands."""

    DUE = "DUE"
    OVERDUE = "OVERDUE"
    PURGED = "PURGED"
    HELD = "HELD"


@dataclass(frozen=True, slots=True)
class Proof:
    """Where the record of a purge stands in the case log."""

    chain_id: str
    sequence: int
    entry_hash: bytes


@dataclass(frozen=True, slots=True)
class PurgeItem:
    """One thing that some service purges; its id says nothing of anybody."""

    entry_id: str
    """UUIDv7 of this entry of the list."""
    service: str
    item_kind: str
    item_id: str
    due_time: datetime
    rule: str
    purge_time: datetime | None = None
    record_id: str = ""
    """Record of the purge."""
    proof: Proof | None = None

    def state(self, now: datetime) -> PurgeState:
        """Where it stands; nothing here is held, for who holds says so elsewhere."""
        if self.purge_time is not None:
            return PurgeState.PURGED
        return PurgeState.OVERDUE if now > self.due_time else PurgeState.DUE
