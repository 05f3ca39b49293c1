"""What waits in the detector's tables?"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.detector.metrics import SPOOL, SPOOL_AGE, SPOOL_BYTES

LANES = ("texts", "pictures", "parked")
_SPOOL = text(
    """
    SELECT CASE WHEN parked THEN 'parked' WHEN pictures THEN 'pictures' ELSE 'texts' END AS lane, count(*) AS signals,
           coalesce(sum(size_bytes), 0) AS bytes, extract(epoch FROM :real - min(receive_time)) AS age
    FROM spool GROUP BY 1
    """
)


async def look(connection: AsyncConnection, now: datetime) -> None:
    """See the chassis' Look. The spool is bounded, and so is the statement."""
    rows = {row.lane: row for row in await connection.execute(_SPOOL, {"real": datetime.now(UTC)})}
    for lane in LANES:
        row = rows.get(lane)
        SPOOL.set(row.signals if row else 0, lane)
        SPOOL_AGE.set(max(0.0, float(row.age or 0)) if row else 0.0, lane)
    SPOOL_BYTES.set(float(sum(row.bytes for row in rows.values())))
