"""What waits in the tables of `case`, and what of it too long?"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.case.domain.rights import RightsType
from services.case.domain.words import Priority
from services.case.metrics import CASES_OVERDUE, REVIEW_ITEMS, RIGHTS_OPEN

SOON = timedelta(days=2)
MOST = 10_000
"""Rows of one kind that are counted; more are shown as so many."""
_REVIEWS = text(
    """
    SELECT count(*) AS open, count(*) FILTER (WHERE due_time <= :now) AS overdue
    FROM (SELECT due_time FROM review_item WHERE NOT done ORDER BY due_time LIMIT :most) AS few
    """
)
_DISPUTED = text(
    "SELECT count(*) FROM (SELECT 1 FROM review_item WHERE disputed AND outcome = 0 LIMIT :most) AS few"
)
_CASES = text(
    """
    SELECT priority, count(*) AS cases
    FROM (SELECT priority FROM "case" WHERE deadline_time <= :now ORDER BY deadline_time LIMIT :most) AS few
    GROUP BY priority
    """
)
_ERASURES = text(
    """
    SELECT count(*) AS open, count(*) FILTER (WHERE due_time <= :soon) AS soon,
           count(*) FILTER (WHERE due_time <= :now) AS overdue
    FROM (SELECT due_time FROM erasure WHERE complete_time IS NULL LIMIT :most) AS few
    """
)
_RIGHTS = text(
    """
    SELECT type, count(*) AS open, count(*) FILTER (WHERE due_time <= :soon) AS soon,
           count(*) FILTER (WHERE due_time <= :now) AS overdue
    FROM (SELECT type, due_time FROM rights_request WHERE state = 'RECEIVED' ORDER BY due_time LIMIT :most) AS few
    GROUP BY type
    """
)


async def look(connection: AsyncConnection, now: datetime) -> None:
    """See the chassis' Look."""
    reviews = (await connection.execute(_REVIEWS, {"now": now, "most": MOST})).one()
    REVIEW_ITEMS.set(reviews.open, "open")
    REVIEW_ITEMS.set(reviews.overdue, "overdue")
    REVIEW_ITEMS.set(float(await connection.scalar(_DISPUTED, {"most": MOST}) or 0), "disputed")
    rows = {row.priority: row.cases for row in await connection.execute(_CASES, {"now": now, "most": MOST})}
    for priority in Priority:
        CASES_OVERDUE.set(rows.get(priority.value, 0), priority.name)
    erasures = (await connection.execute(_ERASURES, {"now": now, "soon": now + SOON, "most": MOST})).one()
    for state in ("open", "soon", "overdue"):
        RIGHTS_OPEN.set(getattr(erasures, state), "erasure", state)
    asked = {row.type: row for row in await connection.execute(_RIGHTS, {"now": now, "soon": now + SOON, "most": MOST})}
    for kind in RightsType:
        for state in ("open", "soon", "overdue"):
            RIGHTS_OPEN.set(getattr(asked[kind], state) if kind in asked else 0, kind.lower(), state)
