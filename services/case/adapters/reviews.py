"""How are review items and labels stored?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.tables import REVIEW_ITEM, REVIEW_LABEL, SUBSCRIBER
from services.case.domain.words import Label, SubscriberState
from services.case.ports import ReviewItem
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
            statement.on_conflict_do_nothing(index_elements=["decision_id"]).returning(
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
            .order_by(REVIEW_ITEM.c.create_time, REVIEW_ITEM.c.review_item_id)
            .limit(most)
            .with_for_update(skip_locked=True)
            .cte("free")
        )
        statement = (
            update(REVIEW_ITEM)
            .where(REVIEW_ITEM.c.review_item_id == free.c.review_item_id)
            .values(lease_ref=reviewer_ref, lease_expire_time=until)
            .returning(REVIEW_ITEM)
        )
        items = [_item(row) for row in await self._session.execute(statement)]
        return sorted(items, key=lambda item: (item.create_time, item.review_item_id))

    async def lock(self, review_item_id: str) -> ReviewItem | None:
        """See `ReviewStore`."""
        query = select(REVIEW_ITEM).where(REVIEW_ITEM.c.review_item_id == review_item_id).with_for_update()
        row = (await self._session.execute(query)).one_or_none()
        return _item(row) if row else None

    async def label(self, item: ReviewItem, reviewer_ref: str, label: Label, now: datetime) -> int:
        """See `ReviewStore`. Raises AlreadyExists LABELLED_BEFORE."""
        own = (REVIEW_LABEL.c.review_item_id == item.review_item_id, REVIEW_LABEL.c.reviewer_ref == reviewer_ref)
        if await self._session.scalar(select(exists().where(*own))):
            raise AlreadyExists("LABELLED_BEFORE", "The caller has labelled this item before.")
        row = {
            "review_item_id": item.review_item_id,
            "reviewer_ref": reviewer_ref,
            "label": label.value,
            "create_time": now,
        }
        await self._session.execute(insert(REVIEW_LABEL).values(row))
        number = select(func.count()).where(REVIEW_LABEL.c.review_item_id == item.review_item_id)
        return await self._session.scalar(number) or 0

    async def update(self, item: ReviewItem) -> None:
        """See `ReviewStore`."""
        values = {
            "lease_ref": item.lease_ref,
            "lease_expire_time": item.lease_expire_time,
            "done": item.done,
            "case_id": item.case_id,
        }
        statement = update(REVIEW_ITEM).where(REVIEW_ITEM.c.review_item_id == item.review_item_id)
        await self._session.execute(statement.values(values))


def _item(row: Any) -> ReviewItem:
    return ReviewItem(**{name: getattr(row, name) for name in _NAMES})
