"""How are subscribers and consents stored?"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import CONSENT, SUBSCRIBER, among
from services.case.domain.people import Consent, Profile, Subscriber, erased
from services.case.domain.words import SubscriberState

_PERSON = (
    SUBSCRIBER.c.subscriber_id,
    SUBSCRIBER.c.state,
    SUBSCRIBER.c.language,
    SUBSCRIBER.c.minor,
    SUBSCRIBER.c.create_time,
    SUBSCRIBER.c.version,
)
_CONSENT = (
    CONSENT.c.consent_id,
    CONSENT.c.scope,
    CONSENT.c.text_version,
    CONSENT.c.give_time,
    CONSENT.c.withdraw_time,
)


def _place(subscriber_id: str) -> str:
    return f"subscriber/{subscriber_id}/sealed_profile"


class SqlSubscribers:
    """The `SubscriberStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def add(self, subscriber: Subscriber, profile: Profile) -> None:
        """See `SubscriberStore`."""
        person = subscriber.subscriber_id
        row = {
            "subscriber_id": person,
            "state": subscriber.state.value,
            "language": subscriber.language,
            "minor": subscriber.minor,
            "sealed_profile": self._sealed(person, profile),
            "create_time": subscriber.create_time,
            "update_time": subscriber.create_time,
            "version": subscriber.version,
        }
        await self._session.execute(insert(SUBSCRIBER).values(row))

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """See `SubscriberStore`."""
        query = (
            select(*_PERSON)
            .where(among(SUBSCRIBER.c.subscriber_id, subscriber_ids))
            .order_by(SUBSCRIBER.c.subscriber_id)
            .with_for_update()
        )
        found = {row.subscriber_id: _subscriber(row) for row in await self._session.execute(query)}
        # An event that comes late finds that its subscriber was erased, not that there never was one.
        gone = [person for person in set(subscriber_ids) - found.keys() if self._sealing.destroyed(person)]
        return found | {person: erased(person) for person in gone}

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """See `SubscriberStore`."""
        query = select(*_PERSON).where(SUBSCRIBER.c.subscriber_id == subscriber_id)
        row = (await self._session.execute(query)).one_or_none()
        return _subscriber(row) if row else None

    async def profile(self, subscriber_id: str) -> Profile | None:
        """See `SubscriberStore`."""
        query = select(SUBSCRIBER.c.sealed_profile).where(SUBSCRIBER.c.subscriber_id == subscriber_id)
        sealed = await self._session.scalar(query)
        plaintext = self._sealing.open(subscriber_id, sealed, _place(subscriber_id)) if sealed else None
        return Profile(**json.loads(plaintext)) if plaintext else None

    async def correct(self, subscriber_id: str, profile: Profile, language: str, now: datetime) -> None:
        """See `SubscriberStore`."""
        values = {
            "sealed_profile": self._sealed(subscriber_id, profile),
            "language": language,
            "update_time": now,
            "version": SUBSCRIBER.c.version + 1,
        }
        await self._session.execute(
            update(SUBSCRIBER).where(SUBSCRIBER.c.subscriber_id == subscriber_id).values(values)
        )

    def _sealed(self, person: str, profile: Profile) -> bytes:
        plaintext = json.dumps(asdict(profile), ensure_ascii=False).encode()
        return self._sealing.seal(person, plaintext, _place(person))

    async def set_state(self, subscriber_id: str, state: SubscriberState, now: datetime) -> None:
        """See `SubscriberStore`."""
        statement = update(SUBSCRIBER).where(SUBSCRIBER.c.subscriber_id == subscriber_id)
        values = {"state": state.value, "update_time": now, "version": SUBSCRIBER.c.version + 1}
        await self._session.execute(statement.values(values))

    async def give(self, subscriber_id: str, consent: Consent) -> None:
        """See `SubscriberStore`."""
        await self._session.execute(
            insert(CONSENT).values(subscriber_id=subscriber_id, **asdict(consent))
        )

    async def withdraw(self, subscriber_id: str, scope: int | None, now: datetime) -> Sequence[Consent]:
        """See `SubscriberStore`."""
        statement = update(CONSENT).where(
            CONSENT.c.subscriber_id == subscriber_id, CONSENT.c.withdraw_time.is_(None)
        )
        if scope is not None:
            statement = statement.where(CONSENT.c.scope == scope)
        rows = await self._session.execute(statement.values(withdraw_time=now).returning(*_CONSENT))
        return [Consent(*row) for row in rows]

    async def standing(self, subscriber_id: str, scope: int) -> Consent | None:
        """See `SubscriberStore`."""
        return await self._one(_consents(subscriber_id, scope).where(CONSENT.c.withdraw_time.is_(None)))

    async def latest(self, subscriber_id: str, scope: int) -> Consent | None:
        """See `SubscriberStore`."""
        newest = (CONSENT.c.give_time.desc(), CONSENT.c.consent_id.desc())
        return await self._one(_consents(subscriber_id, scope).order_by(*newest).limit(1))

    async def consents(
        self, subscriber_id: str, size: int, after: tuple[datetime, str] | None
    ) -> Sequence[Consent]:
        """See `SubscriberStore`."""
        order = (CONSENT.c.give_time, CONSENT.c.consent_id)
        query = select(*_CONSENT).where(CONSENT.c.subscriber_id == subscriber_id)
        if after is not None:
            query = query.where(tuple_(*order) > after)
        rows = await self._session.execute(query.order_by(*order).limit(size))
        return [Consent(*row) for row in rows]

    async def _one(self, query: Select[Any]) -> Consent | None:
        row = (await self._session.execute(query)).one_or_none()
        return Consent(*row) if row else None


def _consents(subscriber_id: str, scope: int) -> Select[Any]:
    return select(*_CONSENT).where(CONSENT.c.subscriber_id == subscriber_id, CONSENT.c.scope == scope)


def _subscriber(row: Any) -> Subscriber:
    return Subscriber(
        row.subscriber_id, SubscriberState(row.state), row.language, row.minor, row.create_time, row.version
    )
