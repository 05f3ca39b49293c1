"""How are subscribers and consents stored?"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import CONSENT, SUBSCRIBER
from services.case.domain.people import Consent, Profile, Subscriber, erased
from services.case.domain.words import SubscriberState

# Text, for they are part of every batch of matches, of events of removal requests, and of packs.
_FIND = text(
    """
    SELECT subscriber_id, state, language, minor, create_time, version FROM subscriber
    WHERE subscriber_id = ANY(CAST(:ids AS text[]))
    """
)
_LOCK = text(f"{_FIND.text} ORDER BY subscriber_id FOR UPDATE")
_WHOLE = text("SELECT * FROM subscriber WHERE subscriber_id = ANY(CAST(:ids AS text[]))")
_PROFILES = text(
    "SELECT subscriber_id, sealed_profile FROM subscriber WHERE subscriber_id = ANY(CAST(:ids AS text[]))"
)
_CONSENTING = text(
    """
    SELECT subscriber_id FROM consent
    WHERE subscriber_id = ANY(CAST(:ids AS text[])) AND scope = :scope AND withdraw_time IS NULL
    """
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
        rows = await self._session.execute(_LOCK, {"ids": list(subscriber_ids)})
        found = {row.subscriber_id: _subscriber(row) for row in rows}
        # An event that comes late finds that its subscriber was erased, not that there never was one.
        gone = [person for person in set(subscriber_ids) - found.keys() if self._sealing.destroyed(person)]
        return found | {person: erased(person) for person in gone}

    async def find(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        """See `SubscriberStore`."""
        rows = await self._session.execute(_FIND, {"ids": list(subscriber_ids)})
        return {row.subscriber_id: _subscriber(row) for row in rows}

    async def get(self, subscriber_id: str) -> Subscriber | None:
        """See `SubscriberStore`."""
        return (await self.find([subscriber_id])).get(subscriber_id)

    async def whole(self, subscriber_ids: Collection[str]) -> Mapping[str, tuple[Subscriber, Profile | None]]:
        """See `SubscriberStore`."""
        rows = await self._session.execute(_WHOLE, {"ids": list(subscriber_ids)})
        return {
            row.subscriber_id: (_subscriber(row), self._opened(row.subscriber_id, row.sealed_profile)) for row in rows
        }

    def _opened(self, person: str, sealed: bytes) -> Profile | None:
        plaintext = self._sealing.open(person, sealed, _place(person)) if sealed else None
        return Profile(**json.loads(plaintext)) if plaintext else None

    async def profiles(self, subscriber_ids: Collection[str]) -> Mapping[str, Profile]:
        """See `SubscriberStore`."""
        rows = await self._session.execute(_PROFILES, {"ids": list(subscriber_ids)})
        opened = {person: self._opened(person, sealed) for person, sealed in rows}
        return {person: profile for person, profile in opened.items() if profile is not None}

    async def profile(self, subscriber_id: str) -> Profile | None:
        """See `SubscriberStore`."""
        return (await self.profiles([subscriber_id])).get(subscriber_id)

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

    async def consenting(self, subscriber_ids: Collection[str], scope: int) -> Collection[str]:
        """See `SubscriberStore`."""
        return set(await self._session.scalars(_CONSENTING, {"ids": list(subscriber_ids), "scope": scope}))

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
