"""What the decision of a batch reads and writes: SQL, one statement for each step."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis import due
from services.chassis.database import Rows, table_of, write_together
from services.detector.adapters import tables
from services.detector.domain.clusters import Medium
from services.detector.ports import Asked, Claimed, KnownContent, NewContent, Outcome, Standing, StoredDecision

_CONTENT, _DECISION = table_of(tables.ContentRow), table_of(tables.DecisionRow)
_MEMORY = table_of(tables.SignalMemoryRow)
_UNSEEN = timedelta(days=1)
"""Contents are noted as seen again to the day."""

_CLAIM = text(
    """
    WITH mine AS (
        DELETE FROM spool WHERE spool_id = ANY(CAST(:ids AS bigint[])) AND lease = :lease RETURNING spool_id
    ), locked AS (
        SELECT subscriber_id, suspended FROM subscriber WHERE subscriber_id = ANY(CAST(:people AS text[]))
        ORDER BY subscriber_id FOR UPDATE
    )
    SELECT spool_id, CAST(NULL AS text), false FROM mine UNION ALL SELECT NULL, subscriber_id, suspended FROM locked
    """
)
_WATCH, _TEMPLATE, _SAME, _NEWER = range(1, 5)
"""What a row of _LOOK is about."""
# The literal 2 (VERIFIED) lets the planner use the partial indexes.
_LOOK = text(
    f"""
    SELECT {_WATCH} AS about, watch_id, CAST(NULL AS text), CAST(NULL AS bytea), CAST(0 AS bigint) AS nth, 0, false
    FROM watched_identifier
    WHERE value_ref = ANY(CAST(:values AS bytea[])) AND state = 2 AND expire_time > :now
    UNION ALL
    SELECT {_TEMPLATE}, template_id, NULL, NULL, 0, 0, false FROM face_template
    WHERE template_id = ANY(CAST(:templates AS text[])) AND state = 2 AND expire_time > :now
    UNION ALL
    SELECT {_SAME}, NULL, cluster_id, content_ref, 0, 0, coalesce(seen_time, create_time) < :unseen FROM content
    WHERE content_ref = ANY(CAST(:contents AS bytea[]))
    UNION ALL
    SELECT {_NEWER}, q.person, c.cluster_id, c.fingerprint, c.content_id, c.medium, false
    FROM unnest(CAST(:people AS text[]), CAST(:after AS bigint[])) AS q(person, after)
    CROSS JOIN LATERAL (
        SELECT content_id, cluster_id, medium, fingerprint FROM content
        WHERE subscriber_id = q.person AND content_id > q.after ORDER BY content_id LIMIT :most
    ) c
    ORDER BY about, nth
    """
)


class SqlBatches:
    """See the port Batches."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claim(self, spool_ids: Collection[int], lease: str, subscriber_ids: Collection[str]) -> Claimed:
        """See the port."""
        values = {"ids": list(spool_ids), "lease": lease, "people": list(subscriber_ids)}
        rows = (await self._session.execute(_CLAIM, values)).all()
        return Claimed(
            {row[0] for row in rows if row[0] is not None}, {row[1]: row[2] for row in rows if row[1] is not None}
        )

    async def look(self, asked: Asked, most: int, now: datetime) -> Standing:
        """See the port."""
        values = {
            "values": list(asked.value_refs),
            "templates": list(asked.template_ids),
            "contents": list(asked.content_refs),
            "people": list(asked.after),
            "after": list(asked.after.values()),
            "most": most,
            "now": now,
            "unseen": now - _UNSEEN,
        }
        found: dict[int, list[Any]] = {about: [] for about in (_WATCH, _TEMPLATE, _SAME, _NEWER)}
        for about, *row in await self._session.execute(_LOOK, values):
            found[about].append(row)
        newer: dict[str, list[KnownContent]] = {}
        for person, cluster_id, sealed, content_id, medium, _ in found[_NEWER]:
            newer.setdefault(person, []).append(KnownContent(content_id, cluster_id, Medium(medium), bytes(sealed)))
        same = [(bytes(row[2]), row[1], row[5]) for row in found[_SAME]]
        return Standing(
            watch_ids={row[0] for row in found[_WATCH]},
            template_ids={row[0] for row in found[_TEMPLATE]},
            clusters={ref: cluster_id for ref, cluster_id, _ in same},
            unseen={ref for ref, _, unseen in same if unseen},
            newer=newer,
        )

    async def write(self, outcome: Outcome, now: datetime) -> None:
        """See the port."""
        again = [{"content_ref": ref, "seen_time": now} for ref in outcome.seen_again]
        await write_together(
            self._session,
            [
                Rows(_CONTENT, _content_rows(outcome.contents, now)),
                Rows(_CONTENT, again, key="content_ref"),
                Rows(_DECISION, decision_rows(outcome.decisions, now)),
                Rows(_MEMORY, [_concluded(*each) for each in outcome.signals], key="signal_ref"),
                due.scheduled(self._session, {what: (time, "") for what, time in outcome.due.items()}),
            ],
        )


def _content_rows(contents: Sequence[NewContent], now: datetime) -> list[Mapping[str, Any]]:
    return [
        {
            "subscriber_id": each.subscriber_id,
            "cluster_id": each.cluster_id,
            "medium": int(each.medium),
            "content_ref": each.content_ref,
            "fingerprint": each.sealed,
            "create_time": now,
        }
        for each in contents
    ]


def decision_rows(decisions: Sequence[StoredDecision], now: datetime) -> list[Mapping[str, Any]]:
    """Rows of the table of decisions."""
    return [
        {
            "decision_id": each.decision_id,
            "signal_ref": each.signal_ref,
            "subscriber_id": each.subscriber_id,
            "band": int(each.band),
            "kind": int(each.kind),
            "template_id": each.template_id,
            "scores": each.scores,
            "capture": each.capture,
            "create_time": now,
        }
        for each in decisions
    ]


def _concluded(signal_ref: bytes, state: int, decision_id: str | None, kind: int) -> Mapping[str, Any]:
    return {"signal_ref": signal_ref, "state": state, "none_decision_id": decision_id, "kind": kind}
