"""Which events the gate takes in: every log record of everybody, and the heads of the case log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1.events_pb2 import LogHeadAdvanced, SubscriberErasureRequested
from misuse.gate.v1.events_pb2 import ErasureCompleted
from misuse.log.v1.record_pb2 import LogRecord
from services.chassis.bus import Event, Handler
from services.chassis.clock import Clock
from services.chassis.outbox import Outbox

PUBLISHERS = ("detector", "case", "removal", "notify", "gate")
"""Everybody who writes log records, the gate included."""

KeepHeads = Callable[[AsyncSession, Sequence[LogHeadAdvanced], datetime], Awaitable[None]]


@dataclass(frozen=True)
class Intake:
    """What is done with what comes in."""

    keep_records: Handler
    keep_heads: KeepHeads
    outbox: Outbox
    clock: Clock

    def handlers_of(self, publisher: str) -> Mapping[type[Message], Handler]:
        """What is done with the events of a publisher."""
        handlers: dict[type[Message], Handler] = {LogRecord: self.keep_records}
        if publisher == "case":
            handlers |= {LogHeadAdvanced: self._heads, SubscriberErasureRequested: self._erasure}
        return handlers

    async def _heads(self, session: AsyncSession, events: Sequence[Event]) -> None:
        heads = [cast(LogHeadAdvanced, event.message) for event in events]
        await self.keep_heads(session, heads, self.clock.now())

    async def _erasure(self, session: AsyncSession, events: Sequence[Event]) -> None:
        """The gate holds nothing of a subscriber: its answer is that nothing is left."""
        for event in events:
            asked = cast(SubscriberErasureRequested, event.message)
            answer = ErasureCompleted(subscriber_id=asked.subscriber_id, round=asked.round)
            self.outbox.event(session, asked.subscriber_id, answer)
