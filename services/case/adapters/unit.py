"""What is one transaction of `case` made of today?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.log.v1.record_pb2 import LogRecord
from services.case.adapters.access import SqlAccess
from services.case.adapters.approvals import SqlApprovals
from services.case.adapters.cases import SqlCases
from services.case.adapters.erasure import SqlErasures
from services.case.adapters.evidence import SqlEvidence
from services.case.adapters.log import SqlLog
from services.case.adapters.purges import SqlPurges
from services.case.adapters.reviews import SqlReviews
from services.case.adapters.rights import SqlRights
from services.case.adapters.sealing import Sealing
from services.case.adapters.search import SqlSearch, Tags
from services.case.adapters.subscribers import SqlSubscribers
from services.case.domain.priorities import Pace
from services.chassis import due
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyStore, keyed_hash
from services.chassis.outbox import Outbox
from services.chassis.tokens import current_actor


class SqlUnit:
    """A `Unit` over one session."""

    def __init__(self, session: AsyncSession, shared: SqlUnits) -> None:
        self._session = session
        self._shared = shared
        self._sealing = Sealing(shared.keys)
        self.subscribers = SqlSubscribers(session, self._sealing)
        self.cases = SqlCases(session, shared.pace, shared.tags)
        self.evidence = SqlEvidence(session, self._sealing)
        self.log = SqlLog(session, self._sealing)
        self.reviews = SqlReviews(session)
        self.search = SqlSearch(session, shared.tags)
        self.erasures = SqlErasures(session)
        self.approvals = SqlApprovals(session, self._sealing)
        self.access = SqlAccess(session, self._sealing)
        self.rights = SqlRights(session, self._sealing)
        self.purges = SqlPurges(session)

    def tell(self, key: str, message: Message, traceparent: str | None = None) -> None:
        """See `Unit`."""
        self._shared.outbox.event(self._session, key, message, traceparent=traceparent)

    def record(self, key: str, record: LogRecord, traceparent: str | None = None) -> None:
        """See `Unit`."""
        self._shared.outbox.record(self._session, key, record, traceparent=traceparent)

    def seal(self, owner: str, plaintext: bytes, place: str) -> bytes:
        """See `Unit`."""
        return self._sealing.seal(owner, plaintext, place)

    def key_destroyed(self, owner: str) -> bool:
        """See `Unit`."""
        return self._shared.keys.destroyed(owner)

    def reference(self, value: str) -> str:
        """See `Unit`."""
        return reference(self._shared.pepper, value)

    async def remind(self, kind: str, rows: Mapping[str, tuple[datetime, str]]) -> None:
        """See `Unit`."""
        await due.schedule_many(self._session, {(kind, entity_id): row for entity_id, row in rows.items()})

    async def forget_reminders(self, kind: str, entity_ids: Collection[str]) -> None:
        """See `Unit`."""
        await due.cancel(self._session, kind, *entity_ids)

    async def recall(self, method: str, request_id: str, request: Message) -> str | None:
        """See `Unit`. Raises AlreadyExists REQUEST_ID_REUSED."""
        caller = current_actor().subject
        return await self._shared.memory.recall(self._session, caller, method, request_id, request)

    async def remember(self, method: str, request_id: str, request: Message, resource_id: str) -> None:
        """See `Unit`."""
        caller = current_actor().subject
        await self._shared.memory.remember(self._session, caller, method, request_id, request, resource_id)


class SqlUnits:
    """Opens units."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        keys: KeyStore,
        pepper: bytes,
        clock: Clock,
        *,
        pace: Pace,
        tags: Tags,
    ) -> None:
        self.pace = pace
        self.tags = tags
        self.outbox = outbox
        self.keys = keys
        self.pepper = pepper
        self.memory = RequestMemory(pepper, clock)
        self._database = database

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[SqlUnit]:
        """One transaction."""
        async with self._database.begin() as session:
            yield SqlUnit(session, self)

    def over(self, session: AsyncSession) -> SqlUnit:
        """A unit over the transaction that a consumer has opened."""
        return SqlUnit(session, self)


def reference(pepper: bytes, value: str) -> str:
    """An opaque reference for records: 16 hex digits of a keyed hash."""
    return keyed_hash(pepper, "reference", value).hex()[:16]
