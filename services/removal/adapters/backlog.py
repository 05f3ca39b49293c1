"""Where do removal requests stand, and which platforms are silent?"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.removal.domain.states import ENDED, State
from services.removal.metrics import REQUESTS, SILENT

SILENT_AFTER = timedelta(hours=72)
"""The gate wants the median of removals within this."""
MOST = 10_000
"""Requests in one state that are counted; more are shown as so many."""
_OPEN = tuple(state for state in State if state not in ENDED)
_STATES = text(
    """
    SELECT s.state, (SELECT count(*) FROM (
        SELECT 1 FROM removal_request r WHERE r.state = s.state LIMIT :most) AS few) AS requests
    FROM unnest(CAST(:states AS text[])) AS s(state)
    """
)
_SILENT = text(
    """
    SELECT platform, count(*) AS requests FROM (
        SELECT platform FROM removal_request WHERE state = 'RECEIVED' AND receive_time <= :before LIMIT :most) AS few
    GROUP BY platform
    """
)


class Look:
    """See the chassis' Look. A platform that was silent once is shown with 0 when it no longer is."""

    def __init__(self) -> None:
        self._platforms: set[str] = set()

    async def __call__(self, connection: AsyncConnection, now: datetime) -> None:
        """Counts."""
        states = {"states": [state.value for state in _OPEN], "most": MOST}
        for row in await connection.execute(_STATES, states):
            REQUESTS.set(row.requests, row.state)
        rows = await connection.execute(_SILENT, {"before": now - SILENT_AFTER, "most": MOST})
        found = {row.platform: row.requests for row in rows}
        self._platforms |= found.keys()
        for platform in self._platforms:
            SILENT.set(found.get(platform, 0), platform)
