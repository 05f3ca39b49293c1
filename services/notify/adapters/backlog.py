"""What is still under way to devices?"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.notify.domain.delivery import Delivery
from services.notify.metrics import DELIVERIES, DELIVERIES_AGE

MOST = 20_000
"""Notices that are looked at, those that are due first."""
OPEN = (Delivery.QUEUED, Delivery.HANDED_OVER, Delivery.DELIVERED)
_UNDER_WAY = text(
    """
    SELECT delivery, count(*) AS notices, extract(epoch FROM :now - min(create_time)) AS age
    FROM (
        SELECT delivery, create_time FROM notification WHERE next_time IS NOT NULL ORDER BY next_time LIMIT :most
    ) AS few
    GROUP BY delivery
    """
)


async def look(connection: AsyncConnection, now: datetime) -> None:
    """See the chassis' Look."""
    rows = {row.delivery: row for row in await connection.execute(_UNDER_WAY, {"now": now, "most": MOST})}
    for state in OPEN:
        row = rows.get(state.value)
        DELIVERIES.set(row.notices if row else 0, state.value)
        DELIVERIES_AGE.set(max(0.0, float(row.age or 0)) if row else 0.0, state.value)
