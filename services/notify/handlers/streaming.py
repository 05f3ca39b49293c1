"""How do notifications get to the devices that are connected?

One loop of the process hands over for all its streams, many devices in one transaction: a transaction for each device
would cost several times what it carries.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.database import is_transient
from services.chassis.errors import FailedPrecondition
from services.chassis.telemetry import logger
from services.notify.domain.delivery import DeliveryRules, Path
from services.notify.domain.quiet import quiet_until
from services.notify.ports import Bell, Device, Notification, Recipient, Unit, Units

log = logger(__name__)

DEVICES_AT_ONCE = 256
AT_A_TIME = 64
"""Notifications of one device in one transaction."""
PAUSE_SECONDS = 0.5
"""After trouble with the database."""


@dataclass(frozen=True)
class Told:
    """A notification, and how to word it."""

    notification: Notification
    language: str
    discreet: bool


@dataclass(eq=False)
class _Mailbox:
    """What one stream has to send. It holds at most what is in flight on its device, and the last badge."""

    device: Device
    with_badge: bool
    items: asyncio.Queue[Told | int | Exception] = field(default_factory=asyncio.Queue)
    unread: int = -1


class Streaming:
    """Serves the streams of this process."""

    def __init__(self, units: Units, clock: Clock, rules: DeliveryRules, bell: Bell) -> None:
        self._units = units
        self._clock = clock
        self._rules = rules
        self._bell = bell
        self._mailboxes: dict[str, list[_Mailbox]] = {}
        self._left: set[str] = set()
        """Devices that were rung and could not be served to the end."""

    async def stream(
        self, subscriber_id: str, device_id: str, *, with_badge: bool
    ) -> AsyncGenerator[Told | int, None]:
        """What the device has not acknowledged, then what comes, until the device is removed; with the badge, also the
        number of unread items, at once and whenever it changes.

        Raises FailedPrecondition DEVICE_NOT_REGISTERED.
        """
        async with self._units() as unit:
            device = await unit.store.live_device(subscriber_id, device_id)
            if device is None:
                raise not_registered()
            await unit.store.ask_for_all_again(device.device_key)
        with self._mailbox(device, with_badge) as mailbox, self._bell.listen(device.device_key):
            while True:
                item = await mailbox.items.get()
                if isinstance(item, Exception):
                    raise item
                yield item

    @contextmanager
    def _mailbox(self, device: Device, with_badge: bool) -> Iterator[_Mailbox]:
        mailbox = _Mailbox(device, with_badge)
        self._mailboxes.setdefault(device.device_key, []).append(mailbox)
        try:
            yield mailbox
        finally:
            self._mailboxes[device.device_key].remove(mailbox)
            if not self._mailboxes[device.device_key]:
                del self._mailboxes[device.device_key]

    async def run(self) -> None:
        """Hands over until cancelled."""
        while True:
            seconds = 0.0 if self._left else self._rules.poll.total_seconds()
            keys = sorted((await self._bell.rung(seconds) | self._left) & self._mailboxes.keys())
            self._left = set()
            for start in range(0, len(keys), DEVICES_AT_ONCE):
                await self._serve(keys[start : start + DEVICES_AT_ONCE])

    async def _serve(self, device_keys: Sequence[str]) -> None:
        """Trouble with the database is waited out; a device that cannot be served loses its stream, not the others'."""
        try:
            await self._hand_over(device_keys)
        except Exception as error:
            if is_transient(error):
                log.warning("hand_over_interrupted", error=type(error).__name__)
                self._left.update(device_keys)
                await asyncio.sleep(PAUSE_SECONDS)
            elif len(device_keys) > 1:
                for device_key in device_keys:
                    await self._serve([device_key])
            else:
                self._put(device_keys[0], error)

    async def _hand_over(self, device_keys: Sequence[str]) -> None:
        """Commits the handing over before anything is sent: a crash in between leads to a repeat, no loss."""
        now = self._clock.now()
        async with self._units() as unit:
            recipients = await unit.store.recipients(device_keys)
            notifications = await self._taken(unit, recipients, now)
            badges = await self._badges(unit, recipients)
        for device_key in device_keys:
            if device_key not in recipients:
                self._put(device_key, not_registered())
        for notification in notifications:
            recipient = recipients[notification.device_key]
            told = Told(notification, recipient.language, recipient.preferences.discreet)
            self._put(notification.device_key, told)
        self._put_badges(badges)

    async def _taken(
        self, unit: Unit, recipients: Mapping[str, Recipient], now: datetime
    ) -> Sequence[Notification]:
        rules = self._rules
        quiet = {key for key, recipient in recipients.items() if _is_quiet(recipient, now)}
        for held in await unit.store.hold(quiet):
            unit.journal.noted(held, recipients[held.device_key].device, "QUIET_HOURS")
        pairs = await unit.store.hand_over(
            recipients, quiet, rules.max_in_flight, AT_A_TIME, now, rules.waits, rules.jitter
        )
        for notification, first in pairs:
            device = recipients[notification.device_key].device
            unit.journal.handed_over(notification, device, Path.STREAM, first=first)
        taken = Counter(notification.device_key for notification, _ in pairs)
        self._left.update(key for key, number in taken.items() if number == AT_A_TIME)
        await unit.store.look_at({n.next_time for n, _ in pairs if n.next_time})
        return [notification for notification, _ in pairs]

    async def _badges(self, unit: Unit, recipients: Mapping[str, Recipient]) -> Mapping[str, int]:
        """Unread items by device, where a stream wants to know."""
        wanted = {
            key: recipient.device.subscriber_id
            for key, recipient in recipients.items()
            if any(mailbox.with_badge for mailbox in self._mailboxes.get(key, ()))
        }
        if not wanted:
            return {}
        unread = await unit.store.unread(set(wanted.values()))
        return {key: unread.get(subscriber_id, 0) for key, subscriber_id in wanted.items()}

    def _put(self, device_key: str, item: Told | Exception) -> None:
        for mailbox in self._mailboxes.get(device_key, ()):
            mailbox.items.put_nowait(item)

    def _put_badges(self, badges: Mapping[str, int]) -> None:
        for device_key, unread in badges.items():
            for mailbox in self._mailboxes.get(device_key, ()):
                if mailbox.with_badge and mailbox.unread != unread:
                    mailbox.unread = unread
                    mailbox.items.put_nowait(unread)


def not_registered() -> FailedPrecondition:
    """What a device hears that is not, or no longer, registered."""
    return FailedPrecondition("DEVICE_NOT_REGISTERED", "This device is not registered.")


def _is_quiet(recipient: Recipient, now: datetime) -> bool:
    wishes = recipient.preferences
    zone = recipient.device.time_zone
    return quiet_until(now, zone, wishes.quiet_start_minute, wishes.quiet_end_minute) is not None
