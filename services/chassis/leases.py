"""Which instance reads which partition?

An advisory lock per (publisher, partition), held by one connection per instance: a dead process frees its
partitions at once, and no clock is involved. Every instance also holds a shared lock, so that each can count
the others and take no more than its share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_COUNT = text(
    "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted "
    "AND classid = CAST(CAST(hashtext(:name) AS bit(32)) AS bigint)::oid AND objid = 0 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Leases:
    """The partitions of one publisher that this instance holds."""

    def __init__(self, connection: AsyncConnection, publisher: str, partitions: range) -> None:
        """`connection` is this consumer's own and stays open: closing it frees everything."""
        self._connection = connection
        # Who reads another range of the publisher's partitions shares nothing with this one.
        self._name = f"jikimi.partition.{publisher}.{partitions.start}-{partitions.stop}"
        self._partitions = partitions
        self.held: set[int] = set()

    async def join(self) -> None:
        """Makes this instance count."""
        await self._run("SELECT pg_advisory_lock_shared(hashtext(:name), 0)")

    async def balance(self) -> tuple[Sequence[int], Sequence[int]]:
        """Takes or gives back partitions towards an equal share. Returns (taken, given back); what is given back
        must be stopped by the caller before `give_back`."""
        instances = max(1, int(await self._connection.scalar(_COUNT, {"name": self._name}) or 1))
        share = math.ceil(len(self._partitions) / instances)
        taken = []
        for partition in self._partitions:
            if len(self.held) >= share:
                break
            if partition not in self.held and await self._take(partition):
                self.held.add(partition)
                taken.append(partition)
        return taken, sorted(self.held)[share:]

    async def give_back(self, partition: int) -> None:
        """Frees a partition for another instance."""
        self.held.discard(partition)
        await self._run("SELECT pg_advisory_unlock(hashtext(:name), :number)", number=partition + 1)

    async def _take(self, partition: int) -> bool:
        return await self._run("SELECT pg_try_advisory_lock(hashtext(:name), :number)", number=partition + 1)

    async def _run(self, query: str, **values: int) -> bool:
        result = await self._connection.scalar(text(query), {"name": self._name, **values})
        return bool(result)
