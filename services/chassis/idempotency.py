"""Was this request already done?

A caller that did not hear an answer sends the same request again with the same `request_id`. The first one
leaves the id of what it made; the repeat gets that back and the answer is rebuilt from it. The same id with
another body is refused. Errors are not remembered. Kept for seven days of business time.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import cast

from google.protobuf.message import Message
from sqlalchemy import Column, DateTime, LargeBinary, MetaData, String, Table, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.clock import Clock
from services.chassis.errors import AlreadyExists, InvalidInput
from services.chassis.keys import keyed_hash

KEPT = timedelta(days=7)
"""How long a request is remembered."""

_REQUEST_ID = re.compile(r"[!-~]{1,64}")


def request_memory_table(metadata: MetaData) -> Table:
    """The table of remembered requests, added to a service's metadata once."""
    if "request_memory" in metadata.tables:
        return metadata.tables["request_memory"]
    return Table(
        "request_memory",
        metadata,
        Column(
            "request_key",
            LargeBinary,
            primary_key=True,
            comment="Keyed hash of caller, method and request id.",
        ),
        Column("fingerprint", LargeBinary, nullable=False, comment="Keyed hash of the request's bytes."),
        Column("resource_id", String(64), nullable=False, comment="What the request made or changed."),
        Column("create_time", DateTime(timezone=True), nullable=False, index=True, comment="Business time."),
        comment="Requests already done, so that a repeat does nothing twice.",
    )


class RequestMemory:
    """Remembers requests in the caller's transaction."""

    def __init__(self, pepper: bytes, clock: Clock) -> None:
        self._table = request_memory_table(MetaData())
        self._pepper = pepper
        self._clock = clock

    async def recall(
        self, session: AsyncSession, caller: str, method: str, request_id: str, request: Message
    ) -> str | None:
        """The resource id if this very request was done, else None; call it first in the transaction.

        It holds a lock until the transaction ends: of two equal requests at once the second waits and then
        finds the first. Raises AlreadyExists (REQUEST_ID_REUSED) when the id came with another body,
        InvalidInput for an id that is empty or longer than 64 printable characters.
        """
        key = self._key(caller, method, request_id)
        await session.execute(select(func.pg_advisory_xact_lock(int.from_bytes(key[:8], "big", signed=True))))
        table = self._table
        query = select(table.c.fingerprint, table.c.resource_id).where(
            table.c.request_key == key, table.c.create_time > self._clock.now() - KEPT
        )
        row = (await session.execute(query)).one_or_none()
        if row is None:
            return None
        if row.fingerprint != self._fingerprint(request):
            raise AlreadyExists("REQUEST_ID_REUSED", "This request id was used for another request.")
        return cast(str, row.resource_id)

    async def remember(
        self,
        session: AsyncSession,
        caller: str,
        method: str,
        request_id: str,
        request: Message,
        resource_id: str,
    ) -> None:
        """Notes that the request was done, in the transaction that did it."""
        values = {
            "fingerprint": self._fingerprint(request),
            "resource_id": resource_id,
            "create_time": self._clock.now(),
        }
        statement = insert(self._table).values(request_key=self._key(caller, method, request_id), **values)
        await session.execute(statement.on_conflict_do_update(index_elements=["request_key"], set_=values))

    async def purge(self, session: AsyncSession) -> None:
        """Forgets what is older than seven days."""
        await session.execute(
            delete(self._table).where(self._table.c.create_time <= self._clock.now() - KEPT)
        )

    def _key(self, caller: str, method: str, request_id: str) -> bytes:
        if not _REQUEST_ID.fullmatch(request_id):
            reason = "REQUEST_ID_MISSING" if not request_id else "REQUEST_ID_MALFORMED"
            raise InvalidInput(reason, "An id has 1 to 64 characters.", violations=[("request_id", reason)])
        return keyed_hash(self._pepper, "request", caller, method, request_id)

    def _fingerprint(self, request: Message) -> bytes:
        return keyed_hash(self._pepper, "fingerprint", request.SerializeToString(deterministic=True))
