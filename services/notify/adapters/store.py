"""How notify's state lies in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, delete, exists, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.due import schedule_many
from services.chassis.errors import ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.keys import KeyStore, seal, unseal
from services.chassis.telemetry import inject_traceparent
from services.notify.adapters.tables import (
    DeviceRow,
    InboxItemRow,
    KnownCaseRow,
    NotificationRow,
    SubscriberRow,
)
from services.notify.domain import (
    LANGUAGES,
    MAX_DEVICES,
    Delivery,
    Facts,
    KnownCase,
    Notice,
    Preferences,
    Subject,
)
from services.notify.ports import Device, InboxItem, Notification, Stored

CHANNEL = "notify_device"
"""PostgreSQL channel on which streams are woken; payload: device keys, one a line."""
SWEEP = "notify_sweep"
"""Kind of the due row that looks after a device's unfinished notifications."""
_KEYS_A_WAKE_UP = 150
_UNFINISHED = (Delivery.QUEUED, Delivery.HANDED_OVER)
_LINEAGE = text(
    """
    WITH RECURSIVE line AS (
        SELECT k.*, 0 AS depth FROM known_case k WHERE k.case_id = ANY(:ids)
        UNION
        SELECT k.*, l.depth + 1 FROM known_case k JOIN line l
            ON k.case_id = l.parent_id AND l.parent_id <> l.case_id AND l.depth < 64
    )
    SELECT DISTINCT case_id, subscriber_id, parent_id, kind, channel_group, reopenings FROM line
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
_OF_THE_CASE = (Subject.CASE_OPENED, Subject.CASE_REOPENED, Subject.CASE_CLOSED, Subject.UPLOAD_WARNED)


class SqlStore:
    """Notify's tables inside one session. See ports.Store."""

    def __init__(self, session: AsyncSession, keys: KeyStore) -> None:
        self._session = session
        self._keys = keys

    # --- subscribers ---

    async def keep_subscriber(self, subscriber_id: str, language: str) -> None:
        """See Store."""
        known = language if language in LANGUAGES else LANGUAGES[0]
        statement = insert(SubscriberRow).values(_subscriber(subscriber_id, known))
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["subscriber_id"],
                set_={"language": known},
                where=SubscriberRow.chosen.is_(False),
            )
        )

    async def set_suspended(self, subscriber_id: str, suspended: bool) -> None:
        """See Store."""
        statement = insert(SubscriberRow).values(_subscriber(subscriber_id) | {"suspended": suspended})
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["subscriber_id"], set_={"suspended": suspended})
        )
        if not suspended:
            keys = await self._session.scalars(_live(subscriber_id).with_only_columns(DeviceRow.device_key))
            await self.wake(keys.all())

    async def set_preferences(self, subscriber_id: str, preferences: Preferences) -> None:
        """See Store."""
        values = {
            "language": preferences.language,
            "discreet": preferences.discreet,
            "quiet_start_minute": preferences.quiet_start_minute,
            "quiet_end_minute": preferences.quiet_end_minute,
            "chosen": True,
        }
        statement = insert(SubscriberRow).values(_subscriber(subscriber_id) | values)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["subscriber_id"], set_=values)
        )

    async def preferences(self, subscriber_id: str) -> Preferences:
        """See Store."""
        row = await self._session.get(SubscriberRow, subscriber_id)
        if row is None:
            return Preferences()
        return Preferences(row.language, row.discreet, row.quiet_start_minute, row.quiet_end_minute)

    async def erase_subscriber(self, subscriber_id: str) -> None:
        """See Store."""
        for row in (NotificationRow, InboxItemRow, KnownCaseRow, DeviceRow, SubscriberRow):
            await self._session.execute(delete(row).where(row.subscriber_id == subscriber_id))

    # --- cases ---

    async def keep_cases(self, cases: Sequence[KnownCase]) -> None:
        """See Store."""
        if not cases:
            return
        rows = [
            {
                "case_id": case.case_id,
                "subscriber_id": case.subscriber_id,
                "parent_id": case.parent_id,
                "kind": case.kind,
                "channel_group": case.channel_group,
                "reopenings": case.reopenings,
            }
            for case in cases
        ]
        await self._session.execute(insert(KnownCaseRow).on_conflict_do_nothing(), rows)

    async def set_parent(self, case_id: str, parent_id: str, subscriber_id: str) -> None:
        """See Store."""
        await self.keep_cases([KnownCase(case_id, subscriber_id, parent_id)])
        await self._session.execute(
            update(KnownCaseRow).where(KnownCaseRow.case_id == case_id).values(parent_id=parent_id)
        )

    async def count_reopening(self, case_id: str, occurrence: int) -> None:
        """See Store."""
        await self._session.execute(
            update(KnownCaseRow)
            .where(KnownCaseRow.case_id == case_id)
            .values(reopenings=func.greatest(KnownCaseRow.reopenings, occurrence))
        )

    async def lineage(self, case_ids: Sequence[str]) -> Mapping[str, KnownCase]:
        """See Store."""
        rows = await self._session.execute(_LINEAGE, {"ids": list(case_ids)})
        return {row.case_id: KnownCase(**row._mapping) for row in rows}

    # --- notices ---

    async def add_notices(self, notices: Sequence[tuple[str, Notice]], now: datetime) -> Stored:
        """See Store."""
        if not notices:
            return Stored((), ())
        new = await self._add_inbox_items(notices, now)
        devices = await self._live_devices({notice.subscriber_id for _, notice in new})
        rows = [
            _notification(root, notice, device_key, now)
            for root, notice in new
            for device_key in devices.get(notice.subscriber_id, ())
        ]
        made: Sequence[Notification] = ()
        if rows:
            statement = insert(NotificationRow).on_conflict_do_nothing().returning(NotificationRow)
            made = [_shown(row) for row in await self._session.scalars(statement, rows)]
        return Stored(made, [pair for pair in new if not devices.get(pair[1].subscriber_id)])

    async def _add_inbox_items(
        self, notices: Sequence[tuple[str, Notice]], now: datetime
    ) -> list[tuple[str, Notice]]:
        """Stores what is not there yet and answers it; the unique key makes a repeat harmless."""
        by_item = {uuid7(): pair for pair in notices}
        rows = [self._inbox_row(item_id, root, notice, now) for item_id, (root, notice) in by_item.items()]
        statement = insert(InboxItemRow).on_conflict_do_nothing().returning(InboxItemRow.item_id)
        added = set(await self._session.scalars(statement, rows))
        return [pair for item_id, pair in by_item.items() if item_id in added]

    def _inbox_row(self, item_id: str, root: str, notice: Notice, now: datetime) -> dict[str, Any]:
        key = self._keys.get_or_create(notice.subscriber_id)
        return {
            "item_id": item_id,
            "subscriber_id": notice.subscriber_id,
            "case_id": root,
            "subject": notice.subject,
            "state": notice.state,
            "occurrence": notice.occurrence,
            "details": seal(key, notice.facts.to_bytes(), _place("inbox_item", item_id, "details")),
            "create_time": now,
        }

    async def _live_devices(self, subscriber_ids: set[str]) -> dict[str, list[str]]:
        query = select(DeviceRow.subscriber_id, DeviceRow.device_key).where(
            DeviceRow.subscriber_id.in_(subscriber_ids), DeviceRow.remove_time.is_(None)
        )
        found: dict[str, list[str]] = {}
        for subscriber_id, device_key in await self._session.execute(query):
            found.setdefault(subscriber_id, []).append(device_key)
        return found

    # --- devices ---

    async def register_device(self, device: Device, push_token: str) -> tuple[Device, bool]:
        """See Store."""
        # Of two registrations at once the second waits, so that the bound holds.
        await self._session.execute(
            select(func.pg_advisory_xact_lock(func.hashtextextended(device.subscriber_id, 0)))
        )
        live = (await self._session.scalars(_live(device.subscriber_id))).all()
        if len([row for row in live if row.device_id != device.device_id]) >= MAX_DEVICES:
            raise ResourceExhausted("TOO_MANY_DEVICES", "A subscriber has at most 20 devices.")
        query = select(DeviceRow).where(
            DeviceRow.subscriber_id == device.subscriber_id, DeviceRow.device_id == device.device_id
        )
        row = await self._session.scalar(query)
        if row is None:
            row = DeviceRow(
                device_key=device.device_key,
                subscriber_id=device.subscriber_id,
                device_id=device.device_id,
                create_time=device.create_time,
            )
            self._session.add(row)
        row.os, row.remove_time = device.os, None
        row.push_token = self._sealed_token(row, push_token)
        return _device(row), device.device_id not in {each.device_id for each in live}

    def _sealed_token(self, row: DeviceRow, push_token: str) -> bytes | None:
        if not push_token:
            return None
        place = _place("device", row.device_key, "push_token")
        return seal(self._keys.get_or_create(row.subscriber_id), push_token.encode(), place)

    async def remove_device(
        self, subscriber_id: str, device_id: str, now: datetime
    ) -> Sequence[Notification]:
        """See Store."""
        statement = (
            update(DeviceRow)
            .where(
                DeviceRow.subscriber_id == subscriber_id,
                DeviceRow.device_id == device_id,
                DeviceRow.remove_time.is_(None),
            )
            .values(remove_time=now, push_token=None)
            .returning(DeviceRow.device_key)
        )
        device_key = await self._session.scalar(statement)
        if device_key is None:
            return ()
        await self.wake([device_key])
        return await self._supersede(NotificationRow.device_key == device_key, _UNFINISHED, now)

    async def live_device(self, subscriber_id: str, device_id: str) -> Device | None:
        """See Store."""
        row = await self._session.scalar(_live(subscriber_id).where(DeviceRow.device_id == device_id))
        return None if row is None else _device(row)

    async def devices_by_key(self, device_keys: Sequence[str]) -> Mapping[str, Device]:
        """See Store."""
        rows = await self._session.scalars(select(DeviceRow).where(DeviceRow.device_key.in_(device_keys)))
        return {row.device_key: _device(row) for row in rows}

    # --- deliveries ---

    async def supersede_case(self, case_id: str, now: datetime) -> Sequence[Notification]:
        """See Store."""
        of_the_case = and_(NotificationRow.case_id == case_id, NotificationRow.subject.in_(_OF_THE_CASE))
        return await self._supersede(of_the_case, (Delivery.QUEUED,), now)

    async def _supersede(
        self, which: Any, states: Sequence[Delivery], now: datetime
    ) -> Sequence[Notification]:
        statement = (
            update(NotificationRow)
            .where(which, NotificationRow.delivery.in_(states))
            .values(delivery=Delivery.SUPERSEDED, end_time=now)
            .returning(NotificationRow)
        )
        return [_shown(row) for row in await self._session.scalars(statement)]

    async def ask_for_all_again(self, device_key: str) -> None:
        """See Store."""
        await self._session.execute(
            update(NotificationRow)
            .where(
                NotificationRow.device_key == device_key, NotificationRow.delivery == Delivery.HANDED_OVER
            )
            .values(resend=True)
        )

    async def hand_over(self, device_key: str, at_most: int, now: datetime) -> Sequence[Notification]:
        """See Store."""
        room = at_most - await self._in_flight(device_key)
        if room <= 0:
            return ()
        ready = (
            select(NotificationRow.notification_id)
            .where(
                NotificationRow.device_key == device_key,
                or_(
                    NotificationRow.delivery == Delivery.QUEUED,
                    and_(NotificationRow.delivery == Delivery.HANDED_OVER, NotificationRow.resend),
                ),
                ~exists().where(
                    SubscriberRow.subscriber_id == NotificationRow.subscriber_id, SubscriberRow.suspended
                ),
            )
            .order_by(NotificationRow.notification_id)
            .limit(room)
            .with_for_update(skip_locked=True, of=NotificationRow)
        )
        ids = (await self._session.scalars(ready)).all()
        return await self._mark_handed_over(device_key, ids, now) if ids else ()

    async def _in_flight(self, device_key: str) -> int:
        query = select(func.count()).where(
            NotificationRow.device_key == device_key,
            NotificationRow.delivery == Delivery.HANDED_OVER,
            NotificationRow.resend.is_(False),
        )
        return (await self._session.scalar(query)) or 0

    async def _mark_handed_over(
        self, device_key: str, ids: Sequence[str], now: datetime
    ) -> Sequence[Notification]:
        statement = (
            update(NotificationRow)
            .where(NotificationRow.notification_id.in_(ids))
            .values(
                delivery=Delivery.HANDED_OVER,
                attempt=NotificationRow.attempt + 1,
                resend=False,
                first_sent_time=func.coalesce(NotificationRow.first_sent_time, now),
                last_sent_time=now,
            )
            .returning(NotificationRow)
        )
        rows = [_shown(row) for row in await self._session.scalars(statement)]
        await self._seen(device_key, now)
        return sorted(rows, key=lambda row: row.notification_id)

    async def acknowledge(
        self, device_key: str, notification_ids: Sequence[str], now: datetime
    ) -> tuple[Sequence[Notification], int]:
        """See Store."""
        named = and_(
            NotificationRow.device_key == device_key,
            NotificationRow.notification_id.in_(notification_ids),
        )
        # A late acknowledgement still counts: the device did take it.
        open_states = (Delivery.HANDED_OVER, Delivery.UNDELIVERABLE)
        statement = (
            update(NotificationRow)
            .where(named, NotificationRow.delivery.in_(open_states), NotificationRow.attempt > 0)
            .values(delivery=Delivery.ACKNOWLEDGED, end_time=now, resend=False)
            .returning(NotificationRow)
        )
        fresh = [_shown(row) for row in await self._session.scalars(statement)]
        if fresh:
            await self._seen(device_key, now)
            await self._wake_if_queued(device_key)
        done = select(func.count()).where(named, NotificationRow.delivery == Delivery.ACKNOWLEDGED)
        return fresh, (await self._session.scalar(done)) or 0

    async def _seen(self, device_key: str, now: datetime) -> None:
        await self._session.execute(
            update(DeviceRow).where(DeviceRow.device_key == device_key).values(last_seen_time=now)
        )

    async def _wake_if_queued(self, device_key: str) -> None:
        """A stream whose window was full has room now."""
        waiting = exists().where(
            NotificationRow.device_key == device_key,
            or_(NotificationRow.delivery == Delivery.QUEUED, NotificationRow.resend),
        )
        if await self._session.scalar(select(waiting)):
            await self.wake([device_key])

    async def unfinished(self, device_key: str) -> tuple[Sequence[Notification], bool]:
        """See Store."""
        query = (
            select(NotificationRow)
            .where(
                NotificationRow.device_key == device_key, NotificationRow.delivery.in_(_UNFINISHED)
            )
            .order_by(NotificationRow.notification_id)
            .limit(1000)
            .with_for_update()
        )
        rows = [_shown(row) for row in await self._session.scalars(query)]
        held = select(SubscriberRow.suspended).where(
            SubscriberRow.subscriber_id == (rows[0].subscriber_id if rows else "")
        )
        return rows, bool(await self._session.scalar(held))

    async def mark_resend(self, notification_ids: Sequence[str]) -> None:
        """See Store."""
        if notification_ids:
            await self._session.execute(_named(notification_ids).values(resend=True))

    async def mark_undeliverable(self, notification_ids: Sequence[str], now: datetime) -> None:
        """See Store."""
        if notification_ids:
            await self._session.execute(
                _named(notification_ids).values(delivery=Delivery.UNDELIVERABLE, end_time=now, resend=False)
            )

    async def delivery_counts(self) -> tuple[Mapping[Delivery, int], int, int]:
        """See Store."""
        query = select(NotificationRow.delivery, func.count()).group_by(NotificationRow.delivery)
        counts = {Delivery(state): count for state, count in await self._session.execute(query)}
        sent, acknowledged = (await self._session.execute(_REACHED)).one()
        return counts, sent, acknowledged

    # --- inbox ---

    async def list_inbox(
        self, subscriber_id: str, unread_only: bool, before: str, limit: int
    ) -> Sequence[InboxItem]:
        """See Store."""
        query = select(InboxItemRow).where(InboxItemRow.subscriber_id == subscriber_id)
        if unread_only:
            query = query.where(InboxItemRow.read_time.is_(None))
        if before:
            query = query.where(InboxItemRow.item_id < before)
        rows = (await self._session.scalars(query.order_by(InboxItemRow.item_id.desc()).limit(limit))).all()
        key = self._keys.get(subscriber_id) if rows else None
        return [] if key is None else [_item(row, key) for row in rows]

    async def mark_read(self, subscriber_id: str, item_ids: Sequence[str], now: datetime) -> int:
        """See Store."""
        named = and_(InboxItemRow.subscriber_id == subscriber_id, InboxItemRow.item_id.in_(item_ids))
        await self._session.execute(
            update(InboxItemRow).where(named, InboxItemRow.read_time.is_(None)).values(read_time=now)
        )
        return (await self._session.scalar(select(func.count()).select_from(InboxItemRow).where(named))) or 0

    # --- waking ---

    async def wake(self, device_keys: Sequence[str]) -> None:
        """See Store."""
        for start in range(0, len(device_keys), _KEYS_A_WAKE_UP):
            payload = "\n".join(device_keys[start : start + _KEYS_A_WAKE_UP])
            await self._session.execute(select(func.pg_notify(CHANNEL, payload)))

    async def look_again(self, device_keys: Sequence[str], when: datetime) -> None:
        """See Store."""
        # A row per second: a sweep that plans the next one never meets the row it came from.
        second = when.replace(microsecond=0) + timedelta(seconds=1)
        suffix = f"{second:%Y%m%dT%H%M%S}"
        rows = {(SWEEP, f"{key}/{suffix}"): (second, inject_traceparent()) for key in device_keys}
        await schedule_many(self._session, rows)


def swept_device(entity_id: str) -> str:
    """The device that a due row of kind SWEEP is about."""
    return entity_id.partition("/")[0]


def _subscriber(subscriber_id: str, language: str = LANGUAGES[0]) -> dict[str, Any]:
    return {
        "subscriber_id": subscriber_id,
        "language": language,
        "chosen": False,
        "discreet": False,
        "quiet_start_minute": -1,
        "quiet_end_minute": -1,
        "suspended": False,
    }


def _live(subscriber_id: str) -> Any:
    return select(DeviceRow).where(DeviceRow.subscriber_id == subscriber_id, DeviceRow.remove_time.is_(None))


def _named(notification_ids: Sequence[str]) -> Any:
    return update(NotificationRow).where(NotificationRow.notification_id.in_(notification_ids))


def _notification(root: str, notice: Notice, device_key: str, now: datetime) -> dict[str, Any]:
    return {
        "notification_id": uuid7(),
        "subscriber_id": notice.subscriber_id,
        "case_id": root,
        "device_key": device_key,
        "subject": notice.subject,
        "state": notice.state,
        "occurrence": notice.occurrence,
        "delivery": Delivery.QUEUED,
        "attempt": 0,
        "resend": False,
        "create_time": now,
    }


def _shown(row: NotificationRow) -> Notification:
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
    )


def _device(row: DeviceRow) -> Device:
    return Device(
        row.device_key, row.subscriber_id, row.device_id, row.os, row.create_time, row.last_seen_time
    )


def _item(row: InboxItemRow, key: bytes) -> InboxItem:
    facts = Facts.from_bytes(unseal(key, row.details, _place("inbox_item", row.item_id, "details")))
    return InboxItem(
        row.item_id, row.case_id, Subject(row.subject), row.state, facts, row.create_time, row.read_time
    )


def _place(table: str, row_id: str, column: str) -> bytes:
    return f"{table}/{row_id}/{column}".encode()
