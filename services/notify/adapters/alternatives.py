"""How contacts, digests and the alternative path lie in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from services.chassis.database import insert_rows, table_of, update_rows
from services.chassis.due import schedule, schedule_many
from services.chassis.ids import uuid7
from services.chassis.keys import KeyStore, seal, unseal
from services.chassis.telemetry import inject_traceparent
from services.notify.adapters.deliveries import among, place
from services.notify.adapters.tables import ContactRow, DeviceRow, FallBackRow, GatheringRow
from services.notify.domain.delivery import Delivery, Path
from services.notify.domain.gathering import Gathering
from services.notify.domain.notices import Notice, Subject
from services.notify.domain.quiet import DEFAULT_ZONE
from services.notify.ports import Contact, FallBack, Notification

DIGEST = "notify_digest"
"""Kind of the due row that tells a digest; entity: subscriber/digest."""
FALL_BACK = "notify_fall_back"
"""Kind of the due row that sends a message to a contact; entity: the fall-back."""
CONTACT = "notify_contact"
"""Kind of the due row that lets a change of contact take effect; entity: subscriber/way/change."""
_GATHERINGS = text(
    "SELECT * FROM gathering WHERE subscriber_id = ANY(CAST(:ids AS text[])) ORDER BY subscriber_id FOR UPDATE"
)
_DIGEST_MINUTES = text(
    "SELECT subscriber_id, digest_minutes FROM subscriber WHERE subscriber_id = ANY(CAST(:ids AS text[]))"
)
_BEGIN = text(
    """
    INSERT INTO fall_back (fall_back_id, subscriber_id, case_id, subject, state, occurrence, path, delivery, tries,
        create_time)
    SELECT v.fall_back_id, n.subscriber_id, n.case_id, n.subject, n.state, n.occurrence, '', 'QUEUED', 0, :now
    FROM unnest(CAST(:fresh AS text[]), CAST(:ids AS text[])) AS v (fall_back_id, notification_id)
    JOIN notification n ON n.notification_id = v.notification_id
    WHERE EXISTS (SELECT FROM contact c WHERE c.subscriber_id = n.subscriber_id AND c.value IS NOT NULL)
      AND NOT EXISTS (
        SELECT FROM notification a WHERE a.case_id = n.case_id AND a.subject = n.subject AND a.state = n.state
            AND a.occurrence = n.occurrence AND a.subscriber_id = n.subscriber_id AND a.delivery = 'ACKNOWLEDGED')
    ON CONFLICT DO NOTHING
    RETURNING *
    """
)
_KNOWN = text(
    """
    SELECT EXISTS (
        SELECT FROM notification n JOIN fall_back f ON n.case_id = f.case_id AND n.subject = f.subject
            AND n.state = f.state AND n.occurrence = f.occurrence AND n.subscriber_id = f.subscriber_id
        WHERE f.fall_back_id = :id AND n.delivery = 'ACKNOWLEDGED'
    ) OR EXISTS (
        SELECT FROM inbox_item i JOIN fall_back f ON i.case_id = f.case_id AND i.subject = f.subject
            AND i.state = f.state AND i.occurrence = f.occurrence AND i.subscriber_id = f.subscriber_id
        WHERE f.fall_back_id = :id AND i.read_time IS NOT NULL
    )
    """
)


class Alternatives:
    """What is not a delivery to a device, inside one session. See ports.Store."""

    def __init__(self, session: AsyncSession, keys: KeyStore) -> None:
        self._session = session
        self._keys = keys

    # --- digests ---

    async def gatherings(self, subscriber_ids: Collection[str], now: datetime) -> Mapping[str, Gathering]:
        """See Store."""
        ids = sorted(subscriber_ids)
        found = await self._gatherings(ids)
        if new := [each for each in ids if each not in found]:
            blank = {"window_start": now, "told": 0, "digest_id": "", "gathered": 0}
            rows = [{"subscriber_id": each} | blank for each in new]
            await insert_rows(self._session, table_of(GatheringRow), rows, "DO NOTHING")
            found |= await self._gatherings(new)
        return found

    async def _gatherings(self, ids: Sequence[str]) -> dict[str, Gathering]:
        rows = await self._session.execute(_GATHERINGS, {"ids": ids})
        return {
            row.subscriber_id: Gathering(row.window_start, row.told, row.digest_id, row.gathered, row.due_time)
            for row in rows
        }

    async def digest_minutes(self, subscriber_ids: Collection[str]) -> Mapping[str, int]:
        """See Store."""
        rows = await self._session.execute(_DIGEST_MINUTES, {"ids": list(subscriber_ids)})
        return {subscriber_id: minutes for subscriber_id, minutes in rows}

    async def save_gatherings(self, gatherings: Mapping[str, Gathering]) -> None:
        """See Store."""
        rows = [
            {
                "subscriber_id": subscriber_id,
                "window_start": gathering.window_start,
                "told": gathering.told,
                "digest_id": gathering.digest_id,
                "gathered": gathering.gathered,
                "due_time": gathering.due_time,
            }
            for subscriber_id, gathering in sorted(gatherings.items())
        ]
        await update_rows(self._session, table_of(GatheringRow), "subscriber_id", rows)
        trace = inject_traceparent()
        due = {
            (DIGEST, f"{subscriber_id}/{gathering.digest_id}"): (gathering.due_time, trace)
            for subscriber_id, gathering in gatherings.items()
            if gathering.due_time is not None
        }
        await schedule_many(self._session, due)

    # --- messages to contacts ---

    async def begin_fall_backs(self, notifications: Sequence[Notification], now: datetime) -> Sequence[FallBack]:
        """See Store."""
        ids = [each.notification_id for each in notifications]
        values = {"fresh": [uuid7() for _ in ids], "ids": ids, "now": now}
        return [_fall_back(row) for row in await self._session.execute(_BEGIN, values)]

    async def begin_fall_backs_of(
        self, notices: Sequence[tuple[str, Notice]], now: datetime, path: str = ""
    ) -> Sequence[FallBack]:
        """See Store."""
        query = select(ContactRow.subscriber_id).where(
            among(ContactRow.subscriber_id, {notice.subscriber_id for _, notice in notices}),
            ContactRow.value.is_not(None),
        )
        reachable = set(await self._session.scalars(query))
        rows = [
            {
                "fall_back_id": uuid7(),
                "subscriber_id": notice.subscriber_id,
                "case_id": root,
                "subject": notice.subject,
                "state": notice.state,
                "occurrence": notice.occurrence,
                "path": path,
                "delivery": Delivery.QUEUED,
                "tries": 0,
                "create_time": now,
            }
            for root, notice in notices
            if notice.subscriber_id in reachable
        ]
        if not rows:
            return ()
        statement = insert(FallBackRow).on_conflict_do_nothing().returning(FallBackRow)
        return [_fall_back(row) for row in await self._session.scalars(statement, rows)]

    async def fall_back(self, fall_back_id: str) -> FallBack | None:
        """See Store."""
        query = select(FallBackRow).where(FallBackRow.fall_back_id == fall_back_id).with_for_update()
        row = await self._session.scalar(query)
        return None if row is None else _fall_back(row)

    async def known_of(self, fall_back: FallBack) -> bool:
        """See Store."""
        return bool(await self._session.scalar(_KNOWN, {"id": fall_back.fall_back_id}))

    async def fall_backs_since(self, subscriber_id: str, since: datetime) -> int:
        """See Store."""
        query = select(func.count()).where(
            FallBackRow.subscriber_id == subscriber_id,
            FallBackRow.delivery.in_((Delivery.HANDED_OVER, Delivery.DELIVERED)),
            FallBackRow.end_time > since,
        )
        return (await self._session.scalar(query)) or 0

    async def save_fall_back(self, fall_back: FallBack, end_time: datetime | None) -> None:
        """See Store."""
        await self._session.execute(
            update(FallBackRow)
            .where(FallBackRow.fall_back_id == fall_back.fall_back_id)
            .values(path=fall_back.path, delivery=fall_back.delivery, tries=fall_back.tries, end_time=end_time)
        )

    async def run_fall_back(self, fall_back_ids: Collection[str], when: datetime) -> None:
        """See Store."""
        trace = inject_traceparent()
        await schedule_many(self._session, {(FALL_BACK, each): (when, trace) for each in fall_back_ids})

    # --- contacts ---

    async def contacts(self, subscriber_id: str, *, lock: bool = False) -> Mapping[Path, Contact]:
        """See Store."""
        query = select(ContactRow).where(ContactRow.subscriber_id == subscriber_id).order_by(ContactRow.path)
        rows = (await self._session.scalars(query.with_for_update() if lock else query)).all()
        key = self._keys.get(subscriber_id) if rows else None
        if key is None:
            return {}
        return {
            Path(row.path): Contact(
                Path(row.path),
                _opened(key, row.value, _where(row.subscriber_id, row.path, "value")),
                row.change_id,
                _opened(key, row.new_value, _where(row.subscriber_id, row.path, "new_value")),
                row.change_time,
            )
            for row in rows
        }

    async def save_contact(self, subscriber_id: str, contact: Contact) -> None:
        """See Store."""
        key = self._keys.get_or_create(subscriber_id)
        values: dict[str, Any] = {
            "value": _sealed(key, contact.value, _where(subscriber_id, contact.path, "value")),
            "change_id": contact.change_id,
            "new_value": _sealed(key, contact.new_value, _where(subscriber_id, contact.path, "new_value")),
            "change_time": contact.change_time,
        }
        statement = insert(ContactRow).values(subscriber_id=subscriber_id, path=contact.path, **values)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["subscriber_id", "path"], set_=values)
        )
        if contact.change_time is not None:
            entity = f"{subscriber_id}/{contact.path}/{contact.change_id}"
            await schedule(self._session, CONTACT, entity, contact.change_time)

    async def zone_of(self, subscriber_id: str) -> str:
        """See Store."""
        query = (
            select(DeviceRow.time_zone)
            .where(DeviceRow.subscriber_id == subscriber_id, DeviceRow.remove_time.is_(None))
            .order_by(DeviceRow.last_seen_time.desc().nulls_last(), DeviceRow.device_key)
            .limit(1)
        )
        return (await self._session.scalar(query)) or DEFAULT_ZONE


def _fall_back(row: Any) -> FallBack:
    return FallBack(
        row.fall_back_id, row.subscriber_id, row.case_id, Subject(row.subject), row.path, Delivery(row.delivery),
        row.tries, row.create_time,
    )


def _where(subscriber_id: str, path: str, column: str) -> bytes:
    return place("contact", f"{subscriber_id}/{path}", column)


def _sealed(key: bytes, value: str, where: bytes) -> bytes | None:
    return seal(key, value.encode(), where) if value else None


def _opened(key: bytes, sealed: bytes | None, where: bytes) -> str:
    return unseal(key, sealed, where).decode() if sealed else ""
