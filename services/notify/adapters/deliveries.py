"""How deliveries lie in PostgreSQL: many devices and many notifications a statement."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ARRAY, ColumnElement, Text, any_, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import table_of, update_rows
from services.chassis.due import schedule_many
from services.chassis.keys import KeyStore, unseal
from services.chassis.telemetry import inject_traceparent
from services.notify.adapters.tables import DeviceRow, NotificationRow
from services.notify.domain.delivery import Delivery
from services.notify.domain.notices import OWED, URGENT, Subject
from services.notify.ports import Change, Counts, Heard, Notification

CHANNEL = "notify_device"
"""PostgreSQL channel on which streams are woken; payload: device keys, one a line."""
SWEEP = "notify_sweep"
"""Kind of the due row that has notifications looked at."""
LANES = 4
_KEYS_A_WAKE_UP = 150
_SEEN_EVERY = timedelta(minutes=1)
_UNFINISHED = "('QUEUED', 'HANDED_OVER', 'DELIVERED')"
_READY = f"n.delivery IN {_UNFINISHED} AND (n.delivery = 'QUEUED' OR n.resend)"
# Whoever waits for locks takes them in the order of devices and ids, so that two never wait for each other.
_HAND_OVER = text(
    f"""
    WITH flying AS (
        SELECT n.device_key, count(*) AS number FROM notification n
        WHERE n.device_key = ANY(CAST(:keys AS text[])) AND n.delivery = 'HANDED_OVER' AND NOT n.resend
        GROUP BY n.device_key
    ), room AS (
        SELECT k.device_key, least(:at_a_time, :at_most - coalesce(f.number, 0)) AS places
        FROM unnest(CAST(:keys AS text[])) AS k (device_key) LEFT JOIN flying f ON f.device_key = k.device_key
        WHERE coalesce(f.number, 0) < :at_most
        ORDER BY k.device_key
    ), ready AS (
        SELECT taken.* FROM room CROSS JOIN LATERAL (
            SELECT n.notification_id, n.first_sent_time IS NULL AS first FROM notification n
            WHERE n.device_key = room.device_key AND n.delivery IN {_UNFINISHED}
              AND (n.delivery = 'QUEUED' OR n.resend OR (n.delivery = 'HANDED_OVER' AND n.path = 'PUSH'))
              AND (n.device_key <> ALL(CAST(:quiet AS text[])) OR n.subject = ANY(CAST(:urgent AS text[])))
              AND (n.subject = ANY(CAST(:owed AS text[]))
                OR NOT EXISTS (SELECT FROM subscriber s WHERE s.subscriber_id = n.subscriber_id AND s.suspended))
            ORDER BY n.notification_id
            LIMIT room.places
            FOR UPDATE OF n
        ) AS taken
    )
    UPDATE notification n SET
        delivery = CASE WHEN n.delivery = 'QUEUED' THEN 'HANDED_OVER' ELSE n.delivery END,
        path = 'STREAM', attempt = n.attempt + 1, resend = false, last_sent_time = :now,
        first_sent_time = coalesce(n.first_sent_time, :now),
        next_time = :now + (CAST(:waits AS interval[]))[least(n.attempt + 1, cardinality(CAST(:waits AS interval[])))]
            * (1 + :jitter * random())
    FROM ready WHERE n.notification_id = ready.notification_id
    RETURNING n.*, ready.first
    """
)
"""A live stream also takes what was pushed and is not acknowledged, so that no later one overtakes it."""
_PUSHED = text(
    f"""
    WITH ready AS (
        SELECT n.notification_id, n.first_sent_time IS NULL AS first FROM notification n
        WHERE n.notification_id = ANY(CAST(:ids AS text[])) AND {_READY} AND n.path = 'PUSH'
        ORDER BY n.device_key, n.notification_id
        FOR UPDATE
    )
    UPDATE notification n SET
        delivery = CASE WHEN n.delivery = 'QUEUED' THEN 'HANDED_OVER' ELSE n.delivery END,
        resend = false, last_sent_time = :now, first_sent_time = coalesce(n.first_sent_time, :now),
        next_time = :now + (CAST(:waits AS interval[]))[least(n.attempt, cardinality(CAST(:waits AS interval[])))]
            * (1 + :jitter * random())
    FROM ready WHERE n.notification_id = ready.notification_id
    RETURNING n.*, ready.first
    """
)
_SHOWN = text(
    """
    WITH named AS (
        SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS v (device_key, notification_id)
    ), locked AS (
        SELECT n.notification_id, n.first_sent_time IS NULL AS untold
        FROM notification n JOIN named v ON v.notification_id = n.notification_id AND v.device_key = n.device_key
        WHERE n.attempt > 0
          AND n.delivery IN ('QUEUED', 'HANDED_OVER', 'DELIVERED', 'EXPIRED', 'UNDELIVERABLE')
        ORDER BY n.device_key, n.notification_id
        FOR UPDATE OF n
    )
    UPDATE notification n SET
        delivery = 'ACKNOWLEDGED', end_time = :now, resend = false, next_time = NULL,
        first_sent_time = coalesce(n.first_sent_time, :now), last_sent_time = coalesce(n.last_sent_time, :now)
    FROM locked WHERE n.notification_id = locked.notification_id
    RETURNING n.*, locked.untold
    """
)
"""A late acknowledgement still counts, and one that overtakes the provider's answer to the push."""
_ARRIVED = text(
    """
    WITH named AS (
        SELECT * FROM unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS v (device_key, notification_id)
    ), locked AS (
        SELECT n.notification_id, n.first_sent_time IS NULL AS untold
        FROM notification n JOIN named v ON v.notification_id = n.notification_id AND v.device_key = n.device_key
        WHERE n.attempt > 0 AND n.delivery IN ('QUEUED', 'HANDED_OVER')
        ORDER BY n.device_key, n.notification_id
        FOR UPDATE OF n
    )
    UPDATE notification n SET
        delivery = 'DELIVERED', resend = false,
        first_sent_time = coalesce(n.first_sent_time, :now), last_sent_time = coalesce(n.last_sent_time, :now)
    FROM locked WHERE n.notification_id = locked.notification_id
    RETURNING n.*, locked.untold
    """
)
_ACKNOWLEDGED = text(
    """
    SELECT n.device_key, n.notification_id FROM notification n
    JOIN unnest(CAST(:keys AS text[]), CAST(:ids AS text[])) AS v (device_key, notification_id)
        ON v.notification_id = n.notification_id AND v.device_key = n.device_key
    WHERE n.delivery = 'ACKNOWLEDGED'
    """
)
_DUE = text(
    f"""
    SELECT n.* FROM notification n
    WHERE n.next_time <= :now AND n.delivery IN {_UNFINISHED}
      AND NOT ((n.delivery = 'QUEUED' OR n.resend) AND n.case_id <> '' AND EXISTS (
          SELECT FROM notification e
          WHERE e.device_key = n.device_key AND e.case_id = n.case_id AND e.notification_id < n.notification_id
            AND e.delivery IN {_UNFINISHED} AND e.create_time > :since
            AND (e.delivery IN ('QUEUED', 'HANDED_OVER') OR e.resend)))
    ORDER BY n.next_time, n.notification_id
    LIMIT :most
    FOR UPDATE OF n SKIP LOCKED
    """
)
"""What waits is not looked at while an earlier notification of its case waits or is not acknowledged: neither providers
nor two paths at once keep an order. Streams do, and take by themselves."""
_HOLD = text(
    f"""
    WITH queued AS (
        SELECT n.notification_id FROM notification n
        WHERE n.device_key = ANY(CAST(:keys AS text[])) AND n.delivery IN {_UNFINISHED} AND n.delivery = 'QUEUED'
          AND NOT n.held AND n.subject <> ALL(CAST(:urgent AS text[]))
        ORDER BY n.device_key, n.notification_id
        FOR UPDATE
    )
    UPDATE notification n SET held = true FROM queued WHERE n.notification_id = queued.notification_id RETURNING n.*
    """
)
_WAITING = text(
    f"""
    SELECT DISTINCT n.device_key FROM notification n WHERE n.device_key = ANY(CAST(:keys AS text[])) AND {_READY}
    """
)
_REACHED = text(
    """
    WITH RECURSIVE line AS (
        SELECT case_id, parent_id AS root, 1 AS depth FROM known_case WHERE parent_id <> case_id
        UNION ALL
        SELECT l.case_id, k.parent_id, l.depth + 1 FROM line l JOIN known_case k
            ON k.case_id = l.root AND k.parent_id <> k.case_id
        WHERE l.depth < 64
    ), alias AS (
        SELECT DISTINCT ON (case_id) case_id, root FROM line ORDER BY case_id, depth DESC
    )
    SELECT count(DISTINCT told) FILTER (WHERE first_sent_time IS NOT NULL),
           count(DISTINCT told) FILTER (WHERE delivery = 'ACKNOWLEDGED')
    FROM (
        SELECT n.first_sent_time, n.delivery,
               (coalesce(a.root, n.case_id), n.subject, n.state, n.occurrence, n.device_key) AS told
        FROM notification n LEFT JOIN alias a ON a.case_id = n.case_id
    ) counted
    """
)
"""What was handed over and what acknowledged, each once per root case: a merge makes two tellings one."""


_WAKE = text("SELECT pg_notify(:channel, :payload)")


class Deliveries:
    """Notifications and the devices they go to, inside one session. See ports.Store."""

    def __init__(self, session: AsyncSession, keys: KeyStore) -> None:
        self._session = session
        self._keys = keys

    async def hand_over(
        self, device_keys: Collection[str], quiet: Collection[str], at_most: int, at_a_time: int, now: datetime,
        waits: Sequence[timedelta], jitter: float,
    ) -> Sequence[tuple[Notification, bool]]:
        """See Store."""
        values = {
            "keys": list(device_keys), "quiet": list(quiet), "urgent": [*URGENT], "owed": [*OWED], "at_most": at_most,
            "at_a_time": at_a_time, "now": now, "waits": list(waits), "jitter": jitter,
        }
        rows = (await self._session.execute(_HAND_OVER, values)).all()
        if rows:
            await self.seen({row.device_key for row in rows}, now)
        return sorted(((shown(row), row.first) for row in rows), key=lambda pair: pair[0].notification_id)

    async def pushed(
        self, notification_ids: Collection[str], now: datetime, waits: Sequence[timedelta], jitter: float
    ) -> Sequence[tuple[Notification, bool]]:
        """See Store."""
        values = {"ids": list(notification_ids), "now": now, "waits": list(waits), "jitter": jitter}
        return [(shown(row), row.first) for row in await self._session.execute(_PUSHED, values)]

    async def seen(self, device_keys: Collection[str], now: datetime) -> None:
        """Notes that devices were here, to the minute: each time would be a row version for every batch."""
        await self._session.execute(
            update(DeviceRow)
            .where(
                among(DeviceRow.device_key, device_keys),
                DeviceRow.last_seen_time.is_(None) | (DeviceRow.last_seen_time < now - _SEEN_EVERY),
            )
            .values(last_seen_time=now)
        )

    async def hold(self, device_keys: Collection[str]) -> Sequence[Notification]:
        """See Store."""
        if not device_keys:
            return ()
        rows = await self._session.execute(_HOLD, {"keys": list(device_keys), "urgent": [*URGENT]})
        return [shown(row) for row in rows]

    async def take_words(
        self, were_shown: Collection[tuple[str, str]], arrived: Collection[tuple[str, str]], now: datetime
    ) -> tuple[Sequence[Heard], Sequence[Heard]]:
        """See Store."""
        came: Sequence[Heard] = ()
        if arrived:
            came = [_heard(row) for row in await self._session.execute(_ARRIVED, _pairs(arrived) | {"now": now})]
        ended: Sequence[Heard] = ()
        if were_shown:
            ended = [_heard(row) for row in await self._session.execute(_SHOWN, _pairs(were_shown) | {"now": now})]
        if keys := {each.notification.device_key for each in (*ended, *came)}:
            await self.seen(keys, now)
            await self._go_on(keys, now)
        return ended, came

    async def _go_on(self, device_keys: Collection[str], now: datetime) -> None:
        """What waited behind the acknowledged ones, or for room in the window, can go now."""
        waiting = (await self._session.scalars(_WAITING, {"keys": list(device_keys)})).all()
        if waiting:
            await self.wake(waiting)
            await self.look_at([now])

    async def acknowledged_among(self, pairs: Collection[tuple[str, str]]) -> Set[tuple[str, str]]:
        """See Store."""
        if not pairs:
            return frozenset()
        rows = await self._session.execute(_ACKNOWLEDGED, _pairs(pairs))
        return {(row.device_key, row.notification_id) for row in rows}

    async def due(self, now: datetime, newer_than: datetime, at_most: int) -> Sequence[Notification]:
        """See Store."""
        rows = await self._session.execute(_DUE, {"now": now, "since": newer_than, "most": at_most})
        return [shown(row) for row in rows]

    async def apply(self, changes: Sequence[Change]) -> None:
        """See Store."""
        rows = [change._asdict() for change in sorted(changes)]
        await update_rows(self._session, table_of(NotificationRow), "notification_id", rows)

    async def still_ready(self, notification_ids: Collection[str]) -> Sequence[Notification]:
        """See Store."""
        query = (
            select(NotificationRow)
            .where(
                among(NotificationRow.notification_id, notification_ids),
                NotificationRow.delivery.in_((Delivery.QUEUED, Delivery.HANDED_OVER, Delivery.DELIVERED)),
                (NotificationRow.delivery == Delivery.QUEUED) | NotificationRow.resend,
                NotificationRow.path == "PUSH",
            )
            .order_by(NotificationRow.device_key, NotificationRow.notification_id)
            .with_for_update()
        )
        return [shown(row) for row in await self._session.scalars(query)]

    async def next_look(self) -> datetime | None:
        """See Store."""
        # The condition is that of the index.
        query = select(func.min(NotificationRow.next_time)).where(NotificationRow.next_time.is_not(None))
        found: datetime | None = await self._session.scalar(query)
        return found

    async def look_at(self, times: Collection[datetime], lane: str = "") -> None:
        """See Store."""
        # A row per second: a sweep that plans the next one never meets the row it came from.
        seconds = {time.replace(microsecond=0) + timedelta(seconds=1) for time in times}
        number = zlib.crc32(lane.encode()) % LANES if lane else LANES
        trace = inject_traceparent()
        rows = {(SWEEP, f"{second:%Y%m%dT%H%M%S}/{number}"): (second, trace) for second in seconds}
        await schedule_many(self._session, rows)

    async def counts(self) -> Counts:
        """See Store."""
        query = select(NotificationRow.delivery, func.count()).group_by(NotificationRow.delivery)
        by_state = {Delivery(state): count for state, count in await self._session.execute(query)}
        sent, acknowledged = (await self._session.execute(_REACHED)).one()
        refused = select(func.count()).where(DeviceRow.refused_time.is_not(None), DeviceRow.remove_time.is_(None))
        return Counts(by_state, sent, acknowledged, (await self._session.scalar(refused)) or 0)

    async def push_tokens(self, device_keys: Collection[str]) -> Mapping[str, str]:
        """See Store."""
        query = select(DeviceRow.device_key, DeviceRow.subscriber_id, DeviceRow.push_token).where(
            among(DeviceRow.device_key, device_keys),
            DeviceRow.push_token.is_not(None),
            DeviceRow.remove_time.is_(None),
        )
        found = {}
        for device_key, subscriber_id, sealed in await self._session.execute(query):
            key = self._keys.get(subscriber_id)
            if key is not None and sealed is not None:
                found[device_key] = unseal(key, sealed, place("device", device_key, "push_token")).decode()
        return found

    async def refuse_tokens(self, tokens: Mapping[str, str], now: datetime) -> None:
        """See Store."""
        now_held = await self.push_tokens(tokens)
        # One that was registered anew while the old one was on its way is not meant.
        same = [device_key for device_key, token in tokens.items() if now_held.get(device_key) == token]
        await self._session.execute(
            update(DeviceRow).where(among(DeviceRow.device_key, same)).values(push_token=None, refused_time=now)
        )

    async def wake(self, device_keys: Collection[str]) -> None:
        """See Store."""
        keys = sorted(device_keys)
        for start in range(0, len(keys), _KEYS_A_WAKE_UP):
            payload = "\n".join(keys[start : start + _KEYS_A_WAKE_UP])
            await self._session.execute(_WAKE, {"channel": CHANNEL, "payload": payload})


def among(column: Any, values: Collection[str]) -> ColumnElement[bool]:
    """Whether a column is one of the values: one array parameter, so that the statement stays the same however many
    they are, and need not be compiled and prepared for each number."""
    return cast(ColumnElement[bool], column == any_(literal(list(values), ARRAY(Text))))


def _heard(row: Any) -> Heard:
    return Heard(shown(row), row.untold)


def _pairs(pairs: Collection[tuple[str, str]]) -> dict[str, Any]:
    return {"keys": [key for key, _ in pairs], "ids": [each for _, each in pairs]}


def shown(row: Any) -> Notification:
    """A row, of either kind, as the use cases see it."""
    return Notification(
        notification_id=row.notification_id,
        case_id=row.case_id,
        subscriber_id=row.subscriber_id,
        device_key=row.device_key,
        subject=Subject(row.subject),
        delivery=Delivery(row.delivery),
        attempt=row.attempt,
        create_time=row.create_time,
        first_sent_time=row.first_sent_time,
        last_sent_time=row.last_sent_time,
        path=row.path,
        resend=row.resend,
        held=row.held,
        fell_back=row.fell_back,
        next_time=row.next_time,
    )


def place(table: str, row_id: str, column: str) -> bytes:
    """What a sealed value is bound to: it opens nowhere else."""
    return f"{table}/{row_id}/{column}".encode()
