"""How are review items and labels stored?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.tables import REVIEW_ITEM, REVIEW_LABEL, SUBSCRIBER, among
from services.case.domain.words import Label, SubscriberState
from services.case.ports import ReviewItem, ReviewQueue
from services.chassis.errors import AlreadyExists

_NAMES = tuple(field.name for field in fields(ReviewItem))


class SqlReviews:
    """The `ReviewStore` over one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, items: Sequence[ReviewItem]) -> Sequence[ReviewItem]:
        """See `ReviewStore`."""
        if not items:
            return []
        statement = upsert(REVIEW_ITEM).values([asdict(item) for item in items])
        added = await self._session.scalars(
            statement.on_conflict_do_nothing(index_elements=["decision_id", "sample_id"]).returning(
                REVIEW_ITEM.c.review_item_id
            )
        )
        new = set(added)
        return [item for item in items if item.review_item_id in new]

    async def lease(
        self, reviewer_ref: str, most: int, now: datetime, until: datetime
    ) -> Sequence[ReviewItem]:
        """See `ReviewStore`. The caller's own leases are renewed and given again."""
        labelled = exists().where(
            REVIEW_LABEL.c.review_item_id == REVIEW_ITEM.c.review_item_id,
            REVIEW_LABEL.c.reviewer_ref == reviewer_ref,
        )
        processed = exists().where(
            SUBSCRIBER.c.subscriber_id == REVIEW_ITEM.c.subscriber_id,
            SUBSCRIBER.c.state == SubscriberState.ACTIVE.value,
        )
        held = REVIEW_ITEM.c.lease_expire_time
        free = (
            select(REVIEW_ITEM.c.review_item_id)
            .where(
                ~REVIEW_ITEM.c.done,
                or_(held.is_(None), held <= now, REVIEW_ITEM.c.lease_ref == reviewer_ref),
                ~labelled,
                processed,
            )
            .order_by(REVIEW_ITEM.c.due_time, REVIEW_ITEM.c.review_item_id)
            .limit(most)
            .with_for_update(skip_locked=True)
            .cte("free")
        )
        renewed = (REVIEW_ITEM.c.lease_ref == reviewer_ref) & (held > now)
        statement = (
            update(REVIEW_ITEM)
            .where(REVIEW_ITEM.c.review_item_id == free.c.review_item_id)
            .values(
                lease_ref=reviewer_ref,
                lease_time=case((renewed, REVIEW_ITEM.c.lease_time), else_=now),
                lease_expire_time=until,
            )
            .returning(REVIEW_ITEM)
        )
        items = [_item(row) for row in await self._session.execute(statement)]
        return sorted(items, key=lambda item: (item.due_time or item.create_time, item.review_item_id))

    async def lock(self, review_item_id: str) -> ReviewItem | None:
        """See `ReviewStore`."""
        query = select(REVIEW_ITEM).where(REVIEW_ITEM.c.review_item_id == review_item_id).with_for_update()
        row = (await self._session.execute(query)).one_or_none()
        return _item(row) if row else None

    async def label(self, item: ReviewItem, reviewer_ref: str, label: Label, now: datetime) -> Sequence[Label]:
        """See `ReviewStore`. Raises AlreadyExists LABELLED_BEFORE."""
        row = {
            "review_item_id": item.review_item_id,
            "reviewer_ref": reviewer_ref,
            "label": label.value,
            "create_time": now,
        }
        statement = upsert(REVIEW_LABEL).values(row).on_conflict_do_nothing().returning(REVIEW_LABEL.c.label)
        if await self._session.scalar(statement) is None:
            raise AlreadyExists("LABELLED_BEFORE", "The caller has labelled this item before.")
        given = select(REVIEW_LABEL.c.label).where(REVIEW_LABEL.c.review_item_id == item.review_item_id)
        return [Label(value) for value in await self._session.scalars(given)]

    async def labelled(self, review_item_id: str, reviewer_ref: str) -> bool:
        """See `ReviewStore`."""
        own = (REVIEW_LABEL.c.review_item_id == review_item_id, REVIEW_LABEL.c.reviewer_ref == reviewer_ref)
        return bool(await self._session.scalar(select(exists().where(*own))))

    async def disputed(
        self, size: int, after: tuple[datetime, str] | None, not_by: str
    ) -> Sequence[ReviewItem]:
        """See `ReviewStore`."""
        place = tuple_(REVIEW_ITEM.c.create_time, REVIEW_ITEM.c.review_item_id)
        query = select(REVIEW_ITEM).where(REVIEW_ITEM.c.disputed, REVIEW_ITEM.c.outcome == 0)
        if not_by:
            own = exists().where(
                REVIEW_LABEL.c.review_item_id == REVIEW_ITEM.c.review_item_id,
                REVIEW_LABEL.c.reviewer_ref == not_by,
            )
            query = query.where(~own)
        if after is not None:
            query = query.where(place > after)
        query = query.order_by(REVIEW_ITEM.c.create_time, REVIEW_ITEM.c.review_item_id).limit(size)
        return [_item(row) for row in await self._session.execute(query)]

    async def queues(self, now: datetime) -> Sequence[ReviewQueue]:
        """See `ReviewStore`."""
        item = REVIEW_ITEM.c
        disputed = item.disputed & (item.outcome == 0)
        of_samples = item.sample_id != ""
        query = (
            select(
                of_samples.label("of_samples"),
                func.count().filter(~item.done).label("waiting"),
                func.count().filter(~item.done & (item.lease_expire_time > now)).label("leased"),
                func.count().filter(disputed).label("disputed"),
                func.count().filter(item.due_time <= now).label("overdue"),
                func.min(item.due_time).label("first_due_time"),
                func.max(item.escalations).label("most_escalations"),
            )
            .where(or_(~item.done, disputed))
            .group_by(of_samples)
        )
        found = {row.of_samples: ReviewQueue(*row) for row in await self._session.execute(query)}
        return [found.get(kind, ReviewQueue(kind)) for kind in (False, True)]

    async def of_subscriber(self, subscriber_id: str, most: int) -> Sequence[ReviewItem]:
        """See `ReviewStore`."""
        query = select(REVIEW_ITEM).where(REVIEW_ITEM.c.subscriber_id == subscriber_id)
        query = query.order_by(REVIEW_ITEM.c.review_item_id).limit(most).with_for_update()
        return [_item(row) for row in await self._session.execute(query)]

    async def open_in(self, case_ids: Collection[str]) -> Sequence[ReviewItem]:
        """See `ReviewStore`."""
        query = select(REVIEW_ITEM).where(
            among(REVIEW_ITEM.c.case_id, case_ids), REVIEW_ITEM.c.outcome == 0, REVIEW_ITEM.c.sample_id == ""
        )
        query = query.order_by(REVIEW_ITEM.c.review_item_id).with_for_update()
        return [_item(row) for row in await self._session.execute(query)]

    async def remove(self, review_item_ids: Collection[str]) -> None:
        """See `ReviewStore`."""
        for table in (REVIEW_LABEL, REVIEW_ITEM):
            await self._session.execute(delete(table).where(among(table.c.review_item_id, review_item_ids)))

    async def update(self, item: ReviewItem) -> None:
        """See `ReviewStore`."""
        values = {
            "lease_ref": item.lease_ref,
            "lease_time": item.lease_time,
            "lease_expire_time": item.lease_expire_time,
            "done": item.done,
            "case_id": item.case_id,
            "escalations": item.escalations,
            "disputed": item.disputed,
            "outcome": item.outcome,
        }
        statement = update(REVIEW_ITEM).where(REVIEW_ITEM.c.review_item_id == item.review_item_id)
        await self._session.execute(statement.values(values))


def _item(row: Any) -> ReviewItem:
    return ReviewItem(**{name: getattr(row, name) for name in _NAMES})
