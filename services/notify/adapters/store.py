"""How notify's state lies in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, and_, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import insert_rows, table_of
from services.chassis.errors import ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.keys import KeyStore, seal, unseal
from services.notify.adapters.alternatives import Alternatives
from services.notify.adapters.deliveries import Deliveries, among, place, shown
from services.notify.adapters.tables import (
    ContactRow,
    DeviceRow,
    FallBackRow,
    GatheringRow,
    InboxItemRow,
    KnownCaseRow,
    NotificationRow,
    SubscriberRow,
)
from services.notify.domain.delivery import UNFINISHED, Delivery
from services.notify.domain.notices import (
    LANGUAGES,
    MAX_DEVICES,
    Facts,
    KnownCase,
    Notice,
    Preferences,
    Subject,
)
from services.notify.ports import Device, Draft, InboxItem, Notification, Recipient

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


# One array a column: what is bound once and not row by row costs a fraction.
_ADD_ITEMS = text(
    """
    INSERT INTO inbox_item (item_id, subscriber_id, case_id, subject, state, occurrence, details, create_time)
    SELECT v.*, :now FROM unnest(
        CAST(:item_ids AS text[]), CAST(:subscribers AS text[]), CAST(:cases AS text[]), CAST(:subjects AS text[]),
        CAST(:states AS text[]), CAST(:occurrences AS text[]), CAST(:details AS bytea[])) AS v
    ON CONFLICT DO NOTHING
    RETURNING item_id
    """
)
_ADD_NOTIFICATIONS = text(
    """
    INSERT INTO notification (notification_id, subscriber_id, case_id, device_key, subject, state, occurrence, held,
        next_time, create_time, delivery, attempt, resend)
    SELECT v.*, :now, 'QUEUED', 0, false FROM unnest(
        CAST(:ids AS text[]), CAST(:subscribers AS text[]), CAST(:cases AS text[]), CAST(:devices AS text[]),
        CAST(:subjects AS text[]), CAST(:states AS text[]), CAST(:occurrences AS text[]), CAST(:held AS boolean[]),
        CAST(:next_times AS timestamptz[])) AS v
    ON CONFLICT DO NOTHING
    RETURNING notification_id
    """
)
_DEVICE_KEYS = text(
    """
    SELECT d.subscriber_id, d.device_id, d.device_key FROM device d
    JOIN unnest(CAST(:subscribers AS text[]), CAST(:devices AS text[])) AS v (subscriber_id, device_id)
        ON v.subscriber_id = d.subscriber_id AND v.device_id = d.device_id
    WHERE d.remove_time IS NULL
    """
)
# Plain rows: mapped objects would cost more than all that is done with them.
_DEVICE, _CASE = table_of(DeviceRow), table_of(KnownCaseRow)
_RECIPIENTS = """
    SELECT d.*, s.subscriber_id AS known, s.language, s.discreet, s.quiet_start_minute, s.quiet_end_minute,
        s.digest_minutes, s.paths, s.suspended
    FROM device d LEFT JOIN subscriber s ON s.subscriber_id = d.subscriber_id
    WHERE d.remove_time IS NULL AND {} = ANY(CAST(:wanted AS text[]))
    """
_RECIPIENTS_OF, _RECIPIENTS_AT = text(_RECIPIENTS.format("d.subscriber_id")), text(_RECIPIENTS.format("d.device_key"))
_OF_A_SUBSCRIBER = (GatheringRow, FallBackRow, ContactRow)
_OF_THE_CASE = (
    Subject.CASE_OPENED,
    Subject.CASE_REOPENED,
    Subject.CASE_CLOSED,
    Subject.UPLOAD_WARNED,
    Subject.SIGHTINGS_DIGEST,
)


class SqlStore(Deliveries, Alternatives):
    """Notify's tables inside one session. See ports.Store."""

    def __init__(self, session: AsyncSession, keys: KeyStore) -> None:
        Deliveries.__init__(self, session, keys)

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

    async def set_suspended(self, subscriber_id: str, suspended: bool, now: datetime) -> None:
        """See Store."""
        statement = insert(SubscriberRow).values(_subscriber(subscriber_id) | {"suspended": suspended})
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["subscriber_id"], set_={"suspended": suspended})
        )
        if not suspended:
            await self._look_at_all(subscriber_id, now)

    async def _look_at_all(self, subscriber_id: str, now: datetime) -> None:
        """What holds a subscriber's notifications back has changed."""
        await self._session.execute(
            update(NotificationRow)
            .where(NotificationRow.subscriber_id == subscriber_id, NotificationRow.delivery.in_(UNFINISHED))
            .values(next_time=now)
        )
        keys = await self._session.scalars(_live(subscriber_id).with_only_columns(DeviceRow.device_key))
        await self.wake(keys.all())
        await self.look_at([now])

    async def set_preferences(self, subscriber_id: str, preferences: Preferences, now: datetime) -> None:
        """See Store."""
        values = {
            "language": preferences.language,
            "discreet": preferences.discreet,
            "quiet_start_minute": preferences.quiet_start_minute,
            "quiet_end_minute": preferences.quiet_end_minute,
            "digest_minutes": preferences.digest_minutes,
            "paths": ",".join(preferences.paths),
            "chosen": True,
        }
        statement = insert(SubscriberRow).values(_subscriber(subscriber_id) | values)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["subscriber_id"], set_=values)
        )
        await self._look_at_all(subscriber_id, now)

    async def preferences(self, subscriber_id: str) -> Preferences:
        """See Store."""
        row = await self._session.get(SubscriberRow, subscriber_id)
        return Preferences() if row is None else _preferences(row)

    async def suspended(self, subscriber_id: str) -> bool:
        """See Store."""
        query = select(SubscriberRow.suspended).where(SubscriberRow.subscriber_id == subscriber_id)
        return bool(await self._session.scalar(query))

    async def erase_subscriber(self, subscriber_id: str) -> None:
        """See Store."""
        for row in (NotificationRow, InboxItemRow, KnownCaseRow, DeviceRow, SubscriberRow, *_OF_A_SUBSCRIBER):
            await self._session.execute(delete(row).where(row.subscriber_id == subscriber_id))

    # --- cases ---

    async def keep_cases(self, cases: Sequence[KnownCase]) -> None:
        """See Store."""
        await insert_rows(self._session, _CASE, [asdict(case) for case in cases], "DO NOTHING")

    async def set_parent(self, case_id: str, parent_id: str, subscriber_id: str) -> None:
        """See Store."""
        row = asdict(KnownCase(case_id, subscriber_id, parent_id))
        await insert_rows(self._session, _CASE, [row], "(case_id) DO UPDATE SET parent_id = excluded.parent_id")

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

    async def add_items(self, notices: Sequence[tuple[str, Notice]], now: datetime) -> Sequence[tuple[str, Notice]]:
        """See Store; the unique key makes a repeat harmless."""
        if not notices:
            return ()
        by_item = {uuid7(): pair for pair in notices}
        keys = {who: self._keys.get_or_create(who) for who in {notice.subscriber_id for _, notice in notices}}
        values = {
            "item_ids": list(by_item),
            "subscribers": [notice.subscriber_id for _, notice in notices],
            "cases": [root for root, _ in notices],
            "subjects": [notice.subject for _, notice in notices],
            "states": [notice.state for _, notice in notices],
            "occurrences": [notice.occurrence for _, notice in notices],
            "details": [
                seal(keys[notice.subscriber_id], notice.facts.to_bytes(), place("inbox_item", item_id, "details"))
                for item_id, (_, notice) in by_item.items()
            ],
            "now": now,
        }
        added = set(await self._session.scalars(_ADD_ITEMS, values))
        return [pair for item_id, pair in by_item.items() if item_id in added]

    async def add_notifications(self, drafts: Sequence[Draft], now: datetime) -> Sequence[Notification]:
        """See Store."""
        if not drafts:
            return ()
        made = [_notification(draft, now) for draft in drafts]
        values = {
            "ids": [each.notification_id for each in made],
            "subscribers": [each.subscriber_id for each in made],
            "cases": [each.case_id for each in made],
            "devices": [each.device_key for each in made],
            "subjects": [each.subject for each in made],
            "states": [draft.notice.state for draft in drafts],
            "occurrences": [draft.notice.occurrence for draft in drafts],
            "held": [each.held for each in made],
            "next_times": [each.next_time for each in made],
            "now": now,
        }
        added = set(await self._session.scalars(_ADD_NOTIFICATIONS, values))
        return [each for each in made if each.notification_id in added]

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
        row.os, row.remove_time, row.time_zone, row.locale = device.os, None, device.time_zone, device.locale
        row.public_key = device.public_key or None
        row.push_token, row.refused_time = self._sealed_token(row, push_token), None
        return _device(row), device.device_id not in {each.device_id for each in live}

    def _sealed_token(self, row: DeviceRow, push_token: str) -> bytes | None:
        if not push_token:
            return None
        where = place("device", row.device_key, "push_token")
        return seal(self._keys.get_or_create(row.subscriber_id), push_token.encode(), where)

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
        return await self._supersede(NotificationRow.device_key == device_key, UNFINISHED, now)

    async def live_device(self, subscriber_id: str, device_id: str) -> Device | None:
        """See Store."""
        row = await self._session.scalar(_live(subscriber_id).where(DeviceRow.device_id == device_id))
        return None if row is None else _device(row)

    async def device_keys(self, devices: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """See Store."""
        values = {"subscribers": [who for who, _ in devices], "devices": [device for _, device in devices]}
        rows = await self._session.execute(_DEVICE_KEYS, values)
        return {(subscriber, device): key for subscriber, device, key in rows}

    async def recipients_of(self, subscriber_ids: Collection[str]) -> Mapping[str, Sequence[Recipient]]:
        """See Store."""
        found: dict[str, list[Recipient]] = {}
        for recipient in await self._recipients(_RECIPIENTS_OF, subscriber_ids):
            found.setdefault(recipient.device.subscriber_id, []).append(recipient)
        return found

    async def recipients(self, device_keys: Collection[str]) -> Mapping[str, Recipient]:
        """See Store."""
        found = await self._recipients(_RECIPIENTS_AT, device_keys)
        return {recipient.device.device_key: recipient for recipient in found}

    async def _recipients(self, query: TextClause, wanted: Collection[str]) -> Sequence[Recipient]:
        return [
            Recipient(_device(row), Preferences(), False)
            if row.known is None
            else Recipient(_device(row), _preferences(row), row.suspended)
            for row in await self._session.execute(query, {"wanted": list(wanted)})
        ]

    async def devices_by_key(self, device_keys: Collection[str]) -> Mapping[str, Device]:
        """See Store."""
        rows = await self._session.execute(select(_DEVICE).where(among(DeviceRow.device_key, device_keys)))
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
            .values(delivery=Delivery.SUPERSEDED, end_time=now, next_time=None)
            .returning(NotificationRow)
        )
        return [shown(row) for row in await self._session.scalars(statement)]

    async def ask_for_all_again(self, device_key: str) -> None:
        """See Store."""
        gone_out = (Delivery.HANDED_OVER, Delivery.DELIVERED)
        await self._session.execute(
            update(NotificationRow)
            .where(NotificationRow.device_key == device_key, NotificationRow.delivery.in_(gone_out))
            .values(resend=True)
        )

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
        named = and_(InboxItemRow.subscriber_id == subscriber_id, among(InboxItemRow.item_id, item_ids))
        await self._session.execute(
            update(InboxItemRow).where(named, InboxItemRow.read_time.is_(None)).values(read_time=now)
        )
        keys = await self._session.scalars(_live(subscriber_id).with_only_columns(DeviceRow.device_key))
        await self.wake(keys.all())
        return (await self._session.scalar(select(func.count()).select_from(InboxItemRow).where(named))) or 0

    async def unread(self, subscriber_ids: Collection[str]) -> Mapping[str, int]:
        """See Store."""
        query = (
            select(InboxItemRow.subscriber_id, func.count())
            .where(among(InboxItemRow.subscriber_id, subscriber_ids), InboxItemRow.read_time.is_(None))
            .group_by(InboxItemRow.subscriber_id)
        )
        return {subscriber_id: count for subscriber_id, count in await self._session.execute(query)}


def _subscriber(subscriber_id: str, language: str = LANGUAGES[0]) -> dict[str, Any]:
    return {
        "subscriber_id": subscriber_id,
        "language": language,
        "chosen": False,
        "discreet": False,
        "quiet_start_minute": -1,
        "quiet_end_minute": -1,
        "suspended": False,
        "digest_minutes": 0,
        "paths": "",
    }


def _preferences(row: Any) -> Preferences:
    """`row`: one with the wishes of a subscriber."""
    paths = tuple(row.paths.split(",")) if row.paths else ()
    quiet = (row.quiet_start_minute, row.quiet_end_minute)
    return Preferences(row.language, row.discreet, *quiet, row.digest_minutes, paths)


def _live(subscriber_id: str) -> Any:
    return select(DeviceRow).where(DeviceRow.subscriber_id == subscriber_id, DeviceRow.remove_time.is_(None))


def _notification(draft: Draft, now: datetime) -> Notification:
    return Notification(
        notification_id=uuid7(),
        case_id=draft.case_id,
        subscriber_id=draft.notice.subscriber_id,
        device_key=draft.device_key,
        subject=draft.notice.subject,
        delivery=Delivery.QUEUED,
        attempt=0,
        create_time=now,
        first_sent_time=None,
        last_sent_time=None,
        held=draft.held,
        next_time=draft.next_time,
    )


def _device(row: Any) -> Device:
    """`row`: of the table, or mapped."""
    return Device(
        device_key=row.device_key,
        subscriber_id=row.subscriber_id,
        device_id=row.device_id,
        os=row.os,
        create_time=row.create_time,
        last_seen_time=row.last_seen_time,
        time_zone=row.time_zone,
        locale=row.locale,
        public_key=row.public_key or b"",
        pushable=row.push_token is not None,
        refused=row.refused_time is not None,
    )


def _item(row: InboxItemRow, key: bytes) -> InboxItem:
    facts = Facts.from_bytes(unseal(key, row.details, place("inbox_item", row.item_id, "details")))
    return InboxItem(
        row.item_id, row.case_id, Subject(row.subject), row.state, facts, row.create_time, row.read_time
    )
