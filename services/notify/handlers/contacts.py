"""How does a person name whom to reach when no device answers?

Somebody who controls the person's phone for a moment must not be able to turn the messages away in silence: a change
waits, and the old contact and every device are told of it (the design's threat of coercion by a partner).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition
from services.chassis.ids import uuid7
from services.notify.domain.delivery import DeliveryRules, Path
from services.notify.domain.notices import Notice, Subject
from services.notify.handlers.telling import Telling
from services.notify.ports import Contact, Keys, Unit, Units

ASKED = "ASKED"


@dataclass(frozen=True)
class Contacts:
    """A subscriber's contacts."""

    units: Units
    clock: Clock
    rules: DeliveryRules
    keys: Keys
    telling: Telling
    new_id: Callable[[], str] = uuid7

    async def change(self, subscriber_id: str, path: Path, value: str) -> Contact | None:
        """Names a contact, empty for none; answers what holds now and what will, None where nothing does. Repeating it
        changes nothing. Raises FailedPrecondition OWNER_ERASED."""
        if self.keys.destroyed(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        async with self.units() as unit:
            known = (await unit.store.contacts(subscriber_id, lock=True)).get(path, Contact(path))
            wanted = self._changed(known, value)
            if wanted == known:
                return known if known.value else None
            await unit.store.save_contact(subscriber_id, wanted)
            if wanted.change_id and wanted.change_id != known.change_id:
                await self._warn(unit, subscriber_id, wanted)
            return wanted

    def _changed(self, known: Contact, value: str) -> Contact:
        if not known.value or value == known.value:
            # The first one holds at once; asking for the one that holds takes a change back.
            return Contact(known.path, value)
        if known.change_id and value == known.new_value:
            return known
        change_time = self.clock.now() + self.rules.contact_delay
        return Contact(known.path, known.value, self.new_id(), value, change_time)

    async def _warn(self, unit: Unit, subscriber_id: str, contact: Contact) -> None:
        """Tells every device, the inbox, and the contact that is to go."""
        now = self.clock.now()
        notice = ("", Notice(subscriber_id, "", Subject.CONTACT_CHANGING, ASKED, contact.change_id))
        new = await unit.store.add_items([notice], now)
        # First, so that it goes to the contact that is to go and not to another.
        begun = await unit.store.begin_fall_backs_of(new, now, contact.path)
        await unit.store.run_fall_back([each.fall_back_id for each in begun], now)
        await self.telling.start(unit, new, now)

    async def cancel(self, subscriber_id: str, path: Path) -> None:
        """Takes a change back that waits; harmless without one."""
        async with self.units() as unit:
            known = (await unit.store.contacts(subscriber_id, lock=True)).get(path)
            if known is not None and known.change_id:
                await unit.store.save_contact(subscriber_id, Contact(path, known.value))

    async def listed(self, subscriber_id: str) -> Mapping[Path, Contact]:
        """The contacts."""
        async with self.units() as unit:
            return await unit.store.contacts(subscriber_id)

    async def take_effect(self, subscriber_id: str, path: Path, change_id: str) -> None:
        """Ends the delay of a change; nothing where it was taken back or replaced."""
        async with self.units() as unit:
            known = (await unit.store.contacts(subscriber_id, lock=True)).get(path)
            if known is not None and known.change_id == change_id:
                await unit.store.save_contact(subscriber_id, Contact(path, known.new_value))
