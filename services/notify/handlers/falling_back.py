"""How is a person told whom no device reaches?

The intention is committed before a message leaves and the answer after; a crash in between sends it again under the
same key. One notice leads to one message at most a way, whatever the number of devices. What took a message may tell
later whether it has arrived; where it has not, the next way is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.chassis.clock import Clock
from services.notify.domain.delivery import ALTERNATIVES, Delivery, DeliveryRules, Path
from services.notify.domain.notices import OWED, Preferences, Subject
from services.notify.domain.quiet import quiet_until
from services.notify.domain.receipts import Receipt
from services.notify.ports import Contact, FallBack, Message, MessageAnswer, Messenger, Texts, Unit, Units

DAY = timedelta(days=1)
_MAY_BE_TOLD_OF = (Delivery.QUEUED, Delivery.HANDED_OVER)


@dataclass(frozen=True)
class FallingBack:
    """Sends messages to contacts."""

    units: Units
    clock: Clock
    rules: DeliveryRules
    texts: Texts
    messengers: Mapping[Path, Messenger]

    async def run(self, fall_back_id: str) -> None:
        """Sends what is due, tries again later, or takes the next way. Repeating it changes nothing."""
        plan = await self._plan(fall_back_id)
        if plan is None:
            return
        fall_back, message = plan
        answer = await self.messengers[Path(fall_back.path)].send(message)
        await self._record(fall_back, answer)

    async def _plan(self, fall_back_id: str) -> tuple[FallBack, Message] | None:
        """What to send now, its beginning committed; None where nothing is to be sent (now)."""
        async with self.units() as unit:
            fall_back = await unit.store.fall_back(fall_back_id)
            if fall_back is None or fall_back.delivery is not Delivery.QUEUED or await self._waits(unit, fall_back):
                return None
            if obstacle := await self._obstacle(unit, fall_back):
                await self._end(unit, fall_back, *obstacle)
                return None
            wishes = await unit.store.preferences(fall_back.subscriber_id)
            contacts = await unit.store.contacts(fall_back.subscriber_id)
            path = self._way(fall_back, wishes, contacts)
            if path is None:
                await self._end(unit, fall_back, Delivery.UNDELIVERABLE, "NO_WAY_LEFT")
                return None
            tries = fall_back.tries + 1 if path == fall_back.path else 1
            begun = replace(fall_back, path=path, tries=tries)
            await unit.store.save_fall_back(begun, None)
            if not fall_back.tries:
                unit.journal.fell_back(begun, "FALLBACK", path)
            return begun, self._message(begun, contacts[path], wishes)

    def _message(self, fall_back: FallBack, contact: Contact, wishes: Preferences) -> Message:
        words = self.texts.for_message(fall_back.subject, wishes.language, discreet=wishes.discreet)
        sender = self.texts.sender(wishes.language, discreet=wishes.discreet)
        return Message(fall_back.fall_back_id, contact.value, sender, words, wishes.language, wishes.discreet)

    async def _waits(self, unit: Unit, fall_back: FallBack) -> bool:
        """Whether it has to wait, and if so has it run again."""
        now, subscriber_id = self.clock.now(), fall_back.subscriber_id
        if fall_back.subject not in OWED and await unit.store.suspended(subscriber_id):
            await unit.store.run_fall_back([fall_back.fall_back_id], now + self.rules.resend_after_at_most)
            return True
        wishes = await unit.store.preferences(subscriber_id)
        zone = await unit.store.zone_of(subscriber_id)
        until = quiet_until(now, zone, wishes.quiet_start_minute, wishes.quiet_end_minute)
        if until is None:
            return False
        await unit.store.run_fall_back([fall_back.fall_back_id], until)
        return True

    async def _obstacle(self, unit: Unit, fall_back: FallBack) -> tuple[Delivery, str] | None:
        """Why nothing is sent at all. Word of a changing contact goes out in any case: whoever asked for the change may
        have the devices too."""
        if fall_back.subject is Subject.CONTACT_CHANGING:
            return None
        if await unit.store.known_of(fall_back):
            return Delivery.SUPERSEDED, "KNOWN"
        since = self.clock.now() - DAY
        if await unit.store.fall_backs_since(fall_back.subscriber_id, since) >= self.rules.fall_backs_a_day:
            return Delivery.UNDELIVERABLE, "DAILY_LIMIT"
        return None

    def _way(
        self, fall_back: FallBack, wishes: Preferences, contacts: Mapping[Path, Contact]
    ) -> Path | None:
        """The way to try now: the one begun until its tries are used up, then the next."""
        named = [Path(name) for name in wishes.paths if name in ALTERNATIVES]
        order: Sequence[Path] = named if wishes.paths else ALTERNATIVES
        if fall_back.subject is Subject.CONTACT_CHANGING:
            order = ALTERNATIVES
        usable = [path for path in order if path in self.messengers and path in contacts and contacts[path].value]
        if fall_back.path in usable:
            begun = usable.index(Path(fall_back.path))
            usable = usable[begun:] if fall_back.tries < self.rules.message_tries else usable[begun + 1 :]
        return usable[0] if usable else None

    async def _end(self, unit: Unit, fall_back: FallBack, delivery: Delivery, reason: str) -> None:
        await unit.store.save_fall_back(replace(fall_back, delivery=delivery), self.clock.now())
        # What is left is the badge of the inbox.
        unit.journal.fell_back(fall_back, delivery, Path.INBOX, reason)

    async def take(self, receipt: Receipt) -> bool:
        """Applies word of a message; the same again changes nothing. False where no such message was ever sent.

        A receipt may overtake the answer of whoever took the message: then it was handed over as well.
        """
        async with self.units() as unit:
            fall_back = await unit.store.fall_back(receipt.key)
            if fall_back is None or not fall_back.tries:
                return False
            if fall_back.path != receipt.path or fall_back.delivery not in _MAY_BE_TOLD_OF or self._used_up(fall_back):
                return True
            if fall_back.delivery is Delivery.QUEUED:
                unit.journal.fell_back(fall_back, "HANDED_OVER", fall_back.path)
            await self._settle(unit, fall_back, receipt)
            return True

    async def _settle(self, unit: Unit, fall_back: FallBack, receipt: Receipt) -> None:
        now = self.clock.now()
        if receipt.arrived:
            await unit.store.save_fall_back(replace(fall_back, delivery=Delivery.DELIVERED), now)
            unit.journal.fell_back(fall_back, Delivery.DELIVERED, fall_back.path)
            return
        unit.journal.fell_back(fall_back, "SEND_FAILED", fall_back.path, receipt.reason)
        spent = replace(fall_back, delivery=Delivery.QUEUED, tries=self.rules.message_tries + 1)
        await unit.store.save_fall_back(spent, None)
        await unit.store.run_fall_back([fall_back.fall_back_id], now)

    def _used_up(self, fall_back: FallBack) -> bool:
        """Whether its way was told to lead nowhere, and the next one is about to be taken."""
        return fall_back.tries > self.rules.message_tries

    async def _record(self, begun: FallBack, answer: MessageAnswer) -> None:
        now, fall_back_id = self.clock.now(), begun.fall_back_id
        async with self.units() as unit:
            fall_back = await unit.store.fall_back(fall_back_id)
            if fall_back is None or fall_back.delivery is not Delivery.QUEUED or self._used_up(fall_back):
                # A receipt was faster.
                return
            if not answer.reason:
                await unit.store.save_fall_back(replace(fall_back, delivery=Delivery.HANDED_OVER), now)
                unit.journal.fell_back(fall_back, "HANDED_OVER", fall_back.path)
                return
            unit.journal.fell_back(fall_back, "SEND_FAILED", fall_back.path, answer.reason)
            pause = self.rules.wait_after(fall_back.tries)
            if not answer.again:
                # This way is of no use; the next one is taken at once.
                fall_back, pause = replace(fall_back, tries=self.rules.message_tries), timedelta()
                await unit.store.save_fall_back(fall_back, None)
            await unit.store.run_fall_back([fall_back_id], now + pause)
