"""Where signals wait for their decision, and which were seen before: SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import LargeBinary, bindparam, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import Rows, table_of, wake_after_commit, write_together
from services.detector.adapters.tables import SignalMemoryRow as Memory
from services.detector.adapters.tables import SpoolKeyRow as Key
from services.detector.adapters.tables import SpoolRow as Row
from services.detector.ports import RememberedSignal, SpooledSignal

SPOOLED = 1
"""SignalState of a signal that waits."""
SUSPECT = 1
"""Failures from which a row is taken alone."""
BATCH_BYTES = 64 * 1024 * 1024
"""Sealed content that a batch holds in memory, one large signal excepted."""

_REMEMBER = text(
    "INSERT INTO signal_memory (signal_ref, fingerprint, state, kind, create_time) "
    "SELECT r, f, 1, 0, :now FROM unnest(CAST(:refs AS bytea[]), CAST(:fingerprints AS bytea[])) AS t(r, f) "
    "ON CONFLICT (signal_ref) DO NOTHING RETURNING signal_ref"
)
# Of the free rows the fresh ones up to so many bytes, one at least; where there is none, or where it is the turn of
# suspects, the oldest of these alone.
# The commit does not wait for the disk: a lease that is lost with the database server has left its rows free.
_TAKE = text(
    """
    WITH free AS (
        SELECT spool_id, attempts, size_bytes FROM spool
        WHERE pictures = :pictures AND NOT parked AND (lease_until IS NULL OR lease_until < :real)
        ORDER BY spool_id LIMIT :most FOR UPDATE SKIP LOCKED
    ), fresh AS (
        SELECT spool_id, CAST(sum(size_bytes) OVER (ORDER BY spool_id) AS bigint) AS total,
               row_number() OVER (ORDER BY spool_id) AS nth
        FROM free WHERE attempts < :suspect
    ), alone AS (
        SELECT spool_id FROM free
        WHERE attempts >= :suspect AND (CAST(:suspects_first AS boolean) OR NOT EXISTS (SELECT FROM fresh))
        ORDER BY spool_id LIMIT 1
    ), chosen AS (
        SELECT spool_id FROM fresh WHERE (total <= :bytes OR nth = 1) AND NOT EXISTS (SELECT FROM alone)
        UNION ALL
        SELECT spool_id FROM alone
    )
    UPDATE spool AS s SET lease = :lease, lease_owner = :owner, lease_until = :until,
        attempts = s.attempts + CASE WHEN s.lease IS NULL THEN 0 ELSE 1 END
    FROM chosen, set_config('synchronous_commit', 'off', true)
    WHERE s.spool_id = chosen.spool_id
    RETURNING s.signal_ref, s.key_id, s.payload, s.pictures, s.traceparent, s.spool_id, s.attempts,
        s.receive_time
    """
)
_ROWS, _KEYS = table_of(Row), table_of(Key)
_FREE: dict[str, Any] = {"lease": None, "lease_owner": None, "lease_until": None}


def spool_topic(pictures: bool) -> str:
    """What those who decide signals of a lane wait for."""
    return "spool.pictures" if pictures else "spool.texts"


class SqlSpool:
    """See the port Spool."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def remember(self, signals: Mapping[bytes, bytes], now: datetime) -> set[bytes]:
        """One statement; references in one order, so that two batches never wait for each other in a ring."""
        refs = sorted(signals)
        values = {"refs": refs, "fingerprints": [signals[ref] for ref in refs], "now": now}
        return {bytes(ref) for ref in await self._session.scalars(_REMEMBER, values)}

    async def remembered(self, refs: Collection[bytes]) -> Mapping[bytes, RememberedSignal]:
        if not refs:
            return {}
        query = select(Memory.signal_ref, Memory.fingerprint, Memory.state, Memory.none_decision_id, Memory.kind).where(
            Memory.signal_ref == func.any(bindparam("refs", list(refs), ARRAY(LargeBinary)))
        )
        rows = await self._session.execute(query)
        return {bytes(r[0]): RememberedSignal(bytes(r[1]), r[2], r[3] or "", r[4]) for r in rows}

    async def put(self, rows: Sequence[SpooledSignal], now: datetime) -> None:
        if not rows:
            return
        keys = [{"key_id": key_id, "create_time": now} for key_id in sorted({row.key_id for row in rows})]
        received = datetime.now(UTC)
        values = [
            {
                "signal_ref": row.signal_ref,
                "key_id": row.key_id,
                "payload": row.payload,
                "size_bytes": len(row.payload),
                "pictures": row.pictures,
                "traceparent": row.traceparent,
                "attempts": 0,
                "receive_time": received,
            }
            for row in rows
        ]
        await write_together(self._session, [Rows(_KEYS, keys, "DO NOTHING"), Rows(_ROWS, values)])
        for pictures in {row.pictures for row in rows}:
            wake_after_commit(self._session, spool_topic(pictures))

    async def take(
        self, pictures: bool, most: int, lease: str, owner: str, until: datetime, *, suspects_first: bool = False
    ) -> list[SpooledSignal]:
        """A row that failed before may break its worker: it is taken alone. One whose lease ran out counts as failed:
        whoever held it died over it or beside it."""
        values = {
            "pictures": pictures,
            "most": most,
            "bytes": BATCH_BYTES,
            "suspect": SUSPECT,
            "suspects_first": suspects_first,
            "lease": lease,
            "owner": owner,
            "until": until,
            "real": datetime.now(UTC),
        }
        rows = (await self._session.execute(_TAKE, values)).all()
        taken = [SpooledSignal(bytes(r[0]), r[1], bytes(r[2]), *r[3:]) for r in rows]
        return sorted(taken, key=lambda row: row.spool_id)

    async def release(self, *, owner: str = "", lease: str = "") -> None:
        if lease:
            statement = update(Row).where(Row.lease == lease).values(_FREE)
        else:
            statement = update(Row).where(Row.lease_owner == owner).values(_FREE | {"attempts": Row.attempts + 1})
        await self._session.execute(statement.execution_options(synchronize_session=False))

    async def failed(self, spool_id: int, lease: str, *, park: bool) -> bool:
        statement = (
            update(Row)
            .where(Row.spool_id == spool_id, Row.lease == lease)
            .values(_FREE | {"attempts": Row.attempts + 1, "parked": park})
            .returning(Row.spool_id)
            .execution_options(synchronize_session=False)
        )
        return (await self._session.execute(statement)).one_or_none() is not None

    async def unpark(self, spool_id: int) -> None:
        statement = update(Row).where(Row.spool_id == spool_id, Row.parked).values(parked=False, attempts=0)
        await self._session.execute(statement.execution_options(synchronize_session=False))
        for pictures in (True, False):
            wake_after_commit(self._session, spool_topic(pictures))

    async def size_bytes(self) -> int:
        return int(await self._session.scalar(select(func.coalesce(func.sum(Row.size_bytes), 0))) or 0)

    async def unused_keys(self, before: datetime) -> list[str]:
        used = select(Row.key_id).where(Row.key_id == Key.key_id).exists()
        return list(await self._session.scalars(select(Key.key_id).where(Key.create_time < before, ~used)))

    async def forget_key(self, key_id: str) -> None:
        await self._session.execute(delete(Key).where(Key.key_id == key_id))

    async def purge_memory(self, before: datetime) -> None:
        # A signal that still waits is remembered whatever its age.
        old = delete(Memory).where(Memory.create_time < before, Memory.state != SPOOLED)
        await self._session.execute(old.execution_options(synchronize_session=False))
