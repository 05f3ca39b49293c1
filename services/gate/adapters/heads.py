"""How are the heads of the case log kept, apart from the log, and handed out signed?

Every head that was ever published stays: with them an auditor finds the batch in which a log was rewritten, not only
that it was. Two heads of one chain and sequence tell of a log that was forked; both stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import rfc8785
from sqlalchemy import Select, select, tuple_
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1.events_pb2 import LogHeadAdvanced
from services.chassis.database import Database, insert_rows, table_of
from services.chassis.signing import KeyFile
from services.gate.adapters.tables import LogHeadRow
from services.gate.ports import LogHead

HEADS_KEY_ID = "gate-heads"
HEADS_FORMAT = "jikimi-heads/1"
_HEADS = table_of(LogHeadRow)


async def keep_heads(session: AsyncSession, heads: Sequence[LogHeadAdvanced], now: datetime) -> None:
    """Keeps every head; the same one again changes nothing."""
    rows = {
        (head.chain_id, head.sequence, head.head_hash): {
            "chain_id": head.chain_id,
            "sequence": head.sequence,
            "head_hash": head.head_hash,
            "update_time": now,
        }
        for head in heads
    }
    await insert_rows(session, _HEADS, [rows[key] for key in sorted(rows)], "DO NOTHING")


class SqlHeads:
    """The `Heads` over the gate's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self, after: str, limit: int) -> Sequence[LogHead]:
        """See `Heads`."""
        query = (
            select(_HEADS)
            .where(_HEADS.c.chain_id > after)
            .ext(distinct_on(_HEADS.c.chain_id))
            .order_by(_HEADS.c.chain_id, _HEADS.c.sequence.desc(), _HEADS.c.head_hash)
            .limit(limit)
        )
        return await self._read(query)

    async def of(self, chain_id: str, after: tuple[int, bytes], limit: int) -> Sequence[LogHead]:
        """See `Heads`."""
        query = (
            select(_HEADS)
            .where(_HEADS.c.chain_id == chain_id, tuple_(_HEADS.c.sequence, _HEADS.c.head_hash) > after)
            .order_by(_HEADS.c.sequence, _HEADS.c.head_hash)
            .limit(limit)
        )
        return await self._read(query)

    async def _read(self, query: Select[Any]) -> Sequence[LogHead]:
        async with self._database.begin() as session:
            rows = await session.execute(query)
            return [LogHead(row.chain_id, row.sequence, row.head_hash, row.update_time) for row in rows]


class SignedHeads:
    """Makes documents that say which heads the gate holds."""

    def __init__(self, key: KeyFile, now: Callable[[], datetime]) -> None:
        self._key = key
        self._now = now

    def __call__(self, heads: Sequence[LogHead]) -> bytes:
        """Canonical JSON with an Ed25519 signature over the canonical statement in it."""
        entries: list[Any] = [
            {"chain_id": head.chain_id, "sequence": head.sequence, "head_hash": head.head_hash.hex()}
            for head in heads
        ]
        said: dict[str, Any] = {
            "format": HEADS_FORMAT,
            "key_id": self._key.key_id,
            "time": self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "heads": entries,
        }
        signature = self._key.sign(rfc8785.dumps(said)).hex()
        return rfc8785.dumps({"statement": said, "signature": signature})
