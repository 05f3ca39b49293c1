"""What does a subscriber do with devices, preferences and inbox?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition
from services.chassis.ids import uuid7
from services.notify.domain.notices import Preferences
from services.notify.handlers.telling import note_superseded
from services.notify.ports import Counts, Device, InboxItem, Keys, Units


@dataclass(frozen=True)
class Account:
    """What a subscriber does with devices, preferences and inbox."""

    units: Units
    clock: Clock
    keys: Keys
    new_id: Callable[[], str] = uuid7

    async def register_device(
        self, subscriber_id: str, device_id: str, os: str, push_token: str, *,
        time_zone: str, locale: str = "", public_key: bytes = b"",
    ) -> Device:
        """Adds a device or changes what is known of it. Raises ResourceExhausted, and FailedPrecondition when
        erased."""
        if self.keys.destroyed(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        device = Device(
            self.new_id(), subscriber_id, device_id, os, self.clock.now(),
            time_zone=time_zone, locale=locale, public_key=public_key,
        )
        async with self.units() as unit:
            stored, new = await unit.store.register_device(device, push_token)
            if new:
                unit.journal.registered(stored)
            return stored

    async def remove_device(self, subscriber_id: str, device_id: str) -> None:
        """Ends a device and supersedes what is on its way to it; harmless to repeat."""
        async with self.units() as unit:
            superseded = await unit.store.remove_device(subscriber_id, device_id, self.clock.now())
            await note_superseded(unit, superseded)

    async def set_preferences(self, subscriber_id: str, preferences: Preferences) -> Preferences:
        """Stores the subscriber's choice."""
        if self.keys.destroyed(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        async with self.units() as unit:
            await unit.store.set_preferences(subscriber_id, preferences, self.clock.now())
        return preferences

    async def list_inbox(
        self, subscriber_id: str, unread_only: bool, before: str, limit: int
    ) -> tuple[Sequence[InboxItem], Preferences]:
        """At most `limit` items newest first, below an item id if given, and the language to show them in."""
        async with self.units() as unit:
            items = await unit.store.list_inbox(subscriber_id, unread_only, before, limit)
            return items, await unit.store.preferences(subscriber_id)

    async def mark_read(self, subscriber_id: str, item_ids: Sequence[str]) -> int:
        """How many of the named items are read now."""
        async with self.units() as unit:
            return await unit.store.mark_read(subscriber_id, item_ids, self.clock.now())

    async def counts(self) -> Counts:
        """For operators."""
        async with self.units() as unit:
            return await unit.store.counts()
