"""Where signals wait for their decision, and which were seen before: SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, LargeBinary, bindparam, case, delete, false, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import wake_after_commit
from services.detector.adapters.tables import SignalMemoryRow as Memory
from services.detector.adapters.tables import SpoolKeyRow as Key
from services.detector.adapters.tables import SpoolRow as Row
from services.detector.ports import RememberedSignal, SpooledSignal

SPOOL_TOPIC = "spool"
"""What the deciding loops wait for."""
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
_CONCLUDE = text(
    "UPDATE signal_memory m SET state = t.state, none_decision_id = nullif(t.decision, ''), kind = t.kind "
    "FROM unnest(CAST(:refs AS bytea[]), CAST(:states AS int[]), CAST(:decisions AS text[]), CAST(:kinds AS int[])) "
    "AS t(ref, state, decision, kind) WHERE m.signal_ref = t.ref"
)
_FREE: dict[str, Any] = {"lease": None, "lease_owner": None, "lease_until": None}
_DIED = case((Row.lease.is_(None), 0), else_=1)


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
        await self._session.execute(insert(Key).values(keys).on_conflict_do_nothing())
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
        await self._session.execute(insert(Row), values)
        wake_after_commit(self._session, SPOOL_TOPIC)

    async def take(self, pictures: bool, most: int, lease: str, owner: str, until: datetime) -> list[SpooledSignal]:
        """A row that failed before may break its worker: it is taken alone. One whose lease ran out counts as failed:
        whoever held it died over it or beside it."""
        free = (
            select(Row.spool_id, Row.attempts, Row.size_bytes)
            .where(
                Row.pictures == pictures,
                Row.parked == false(),
                or_(Row.lease_until.is_(None), Row.lease_until < datetime.now(UTC)),
            )
            .order_by(Row.spool_id)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
        ids = _batch([(row[0], row[1], row[2]) for row in await self._session.execute(free)])
        if not ids:
            return []
        statement = (
            update(Row)
            .where(Row.spool_id == func.any(bindparam("ids", ids, ARRAY(BigInteger))))
            .values(lease=lease, lease_owner=owner, lease_until=until, attempts=Row.attempts + _DIED)
            .returning(
                Row.signal_ref,
                Row.key_id,
                Row.payload,
                Row.pictures,
                Row.traceparent,
                Row.spool_id,
                Row.attempts,
                Row.receive_time,
            )
            .execution_options(synchronize_session=False)
        )
        rows = (await self._session.execute(statement)).all()
        taken = [SpooledSignal(bytes(r[0]), r[1], bytes(r[2]), r[3], r[4], r[5], r[6], r[7]) for r in rows]
        return sorted(taken, key=lambda row: row.spool_id)

    async def finish(self, spool_ids: Collection[int], lease: str) -> set[int]:
        statement = (
            delete(Row)
            .where(Row.spool_id == func.any(bindparam("ids", list(spool_ids), ARRAY(BigInteger))), Row.lease == lease)
            .returning(Row.spool_id)
            .execution_options(synchronize_session=False)
        )
        return set(await self._session.scalars(statement))

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
        wake_after_commit(self._session, SPOOL_TOPIC)

    async def conclude(self, outcomes: Sequence[tuple[bytes, int, str | None, int]]) -> None:
        if not outcomes:
            return
        refs, states, decisions, kinds = zip(*sorted(outcomes), strict=True)
        values = {"refs": refs, "states": states, "decisions": [d or "" for d in decisions], "kinds": kinds}
        await self._session.execute(_CONCLUDE, {name: list(column) for name, column in values.items()})

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


def _batch(found: Sequence[tuple[int, int, int]]) -> list[int]:
    """Of (id, attempts, bytes) the ids to take: fresh rows up to BATCH_BYTES, else the oldest suspect alone."""
    ids: list[int] = []
    total = 0
    for spool_id, attempts, size in found:
        if attempts >= SUSPECT:
            continue
        total += size
        if ids and total > BATCH_BYTES:
            break
        ids.append(spool_id)
    return ids or [spool_id for spool_id, _, _ in found[:1]]
