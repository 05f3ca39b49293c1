"""What notify does: tells, hands over, sends again, gives up, forgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition
from services.chassis.ids import uuid7
from services.notify.domain import (
    Delivery,
    DeliveryRules,
    KnownCase,
    Notice,
    Preferences,
    Step,
    root_of,
)
from services.notify.ports import Bell, Device, InboxItem, Keys, Notification, Stored, Unit, Units


@dataclass(frozen=True)
class Telling:
    """Applies what other services report, inside the transaction of the caller."""

    clock: Clock
    rules: DeliveryRules
    keys: Keys

    async def tell(self, unit: Unit, notices: Sequence[Notice]) -> None:
        """One inbox item and one notification per live device for each notice; repeats change nothing.

        Notices of erased subscribers are dropped.
        """
        wanted = [notice for notice in notices if not self.keys.destroyed(notice.subscriber_id)]
        if not wanted:
            return
        cases = await unit.store.lineage([notice.case_id for notice in wanted])
        parents = {case.case_id: case.parent_id for case in cases.values()}
        rooted = []
        for notice in wanted:
            root = root_of(notice.case_id, parents)
            rooted.append((root, _with_case_facts(notice, cases.get(notice.case_id) or cases.get(root))))
        await self._start(unit, await unit.store.add_notices(rooted, self.clock.now()))

    async def _start(self, unit: Unit, stored: Stored) -> None:
        keys = sorted({notification.device_key for notification in stored.notifications})
        devices = await unit.store.devices_by_key(keys)
        for notification in stored.notifications:
            unit.journal.noted(notification, devices[notification.device_key], "QUEUED")
        for root, notice in stored.without_device:
            unit.journal.no_live_device(root, notice)
        await unit.store.wake(keys)
        await unit.store.look_again(keys, self.clock.now() + self.rules.give_up_after)

    async def merge(self, unit: Unit, root_case_id: str, merged_case_id: str, subscriber_id: str) -> None:
        """Notes an alias, and takes back what is still queued for the case that is none any more."""
        await unit.store.set_parent(merged_case_id, root_case_id, subscriber_id)
        superseded = await unit.store.supersede_case(merged_case_id, self.clock.now())
        await _note_superseded(unit, superseded)

    async def reopenings(self, unit: Unit, case_ids: Sequence[str]) -> dict[str, int]:
        """How often each case was reopened, as far as notify heard."""
        cases = await unit.store.lineage(case_ids)
        return {case_id: cases[case_id].reopenings if case_id in cases else 0 for case_id in case_ids}

    async def erase(self, unit: Unit, subscriber_id: str) -> None:
        """Forgets a subscriber: rows first, then the key; told in the same transaction."""
        await unit.store.erase_subscriber(subscriber_id)
        unit.journal.erased(subscriber_id)
        # Last: a key gone with the rows still there would leave rows that nobody can open, never the reverse.
        self.keys.destroy(subscriber_id)


def _with_case_facts(notice: Notice, case: KnownCase | None) -> Notice:
    """Completes a notice by what is known of its case."""
    if case is None:
        return notice
    facts = notice.facts
    return replace(
        notice,
        facts=replace(
            facts,
            kind=facts.kind or case.kind,
            channel_group=facts.channel_group or case.channel_group,
        ),
    )


@dataclass(frozen=True)
class Delivering:
    """Hands notifications to devices until they are acknowledged or given up."""

    units: Units
    clock: Clock
    rules: DeliveryRules
    bell: Bell

    async def stream(
        self, subscriber_id: str, device_id: str
    ) -> AsyncGenerator[tuple[Notification, Preferences], None]:
        """What the device has not acknowledged, then what comes, until the device is removed.

        Raises FailedPrecondition DEVICE_NOT_REGISTERED.
        """
        async with self.units() as unit:
            device = await _device(unit, subscriber_id, device_id)
            await unit.store.ask_for_all_again(device.device_key)
        with self.bell.listen(device.device_key) as rung:
            while True:
                # Cleared before looking: what is committed from here on rings again.
                rung.clear()
                notifications, preferences = await self._hand_over(device)
                for notification in notifications:
                    yield notification, preferences
                if not notifications:
                    await _wait(rung, self.rules.poll.total_seconds())

    async def _hand_over(self, device: Device) -> tuple[Sequence[Notification], Preferences]:
        """Commits the handing over before anything is sent: a crash in between leads to a repeat, no loss."""
        now = self.clock.now()
        async with self.units() as unit:
            await _device(unit, device.subscriber_id, device.device_id)
            notifications = await unit.store.hand_over(device.device_key, self.rules.max_in_flight, now)
            if not notifications:
                return (), Preferences()
            for notification in notifications:
                unit.journal.handed_over(notification, device)
            await unit.store.look_again([device.device_key], _next_look(notifications, self.rules))
            return notifications, await unit.store.preferences(device.subscriber_id)

    async def acknowledge(self, subscriber_id: str, device_id: str, notification_ids: Sequence[str]) -> int:
        """Ends deliveries; how many of the named are acknowledged now. Raises as `stream`."""
        now = self.clock.now()
        async with self.units() as unit:
            device = await _device(unit, subscriber_id, device_id)
            fresh, done = await unit.store.acknowledge(device.device_key, notification_ids, now)
            for notification in fresh:
                unit.journal.acknowledged(notification, device, now)
        return done

    async def sweep_device(self, device_key: str) -> None:
        """Sends again or gives up what is due for a device, and has itself run again while something is left.

        Nothing is given up while the subscriber is suspended.
        """
        async with self.units() as unit:
            await self._sweep(unit, device_key, self.clock.now())

    async def _sweep(self, unit: Unit, device_key: str, now: datetime) -> None:
        pending, held = await unit.store.unfinished(device_key)
        steps = {n.notification_id: _step(n, self.rules, now) for n in pending}
        given_up = [n for n in pending if steps[n.notification_id] is Step.GIVE_UP and not held]
        await self._give_up(unit, given_up, now)
        again = [n for n in pending if steps[n.notification_id] is Step.RESEND]
        await unit.store.mark_resend([n.notification_id for n in again])
        if again:
            await unit.store.wake([device_key])
        if left := [n for n in pending if n not in given_up]:
            soon = now + self.rules.resend_after
            await unit.store.look_again([device_key], max(_next_look(left, self.rules), soon))

    async def _give_up(self, unit: Unit, given_up: Sequence[Notification], now: datetime) -> None:
        if not given_up:
            return
        await unit.store.mark_undeliverable([n.notification_id for n in given_up], now)
        devices = await unit.store.devices_by_key(sorted({n.device_key for n in given_up}))
        for notification in given_up:
            reason = "NOT_ACKNOWLEDGED" if notification.attempt else "DEVICE_AWAY"
            unit.journal.undeliverable(notification, devices[notification.device_key], reason)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _step(notification: Notification, rules: DeliveryRules, now: datetime) -> Step:
    last = notification.last_sent_time
    return rules.step(notification.create_time, last, notification.attempt, now)


def _next_look(notifications: Sequence[Notification], rules: DeliveryRules) -> datetime:
    return min(rules.next_look(n.create_time, n.last_sent_time, n.attempt) for n in notifications)


async def _device(unit: Unit, subscriber_id: str, device_id: str) -> Device:
    device = await unit.store.live_device(subscriber_id, device_id)
    if device is None:
        raise FailedPrecondition("DEVICE_NOT_REGISTERED", "This device is not registered.")
    return device


async def _note_superseded(unit: Unit, superseded: Sequence[Notification]) -> None:
    if not superseded:
        return
    devices = await unit.store.devices_by_key(sorted({n.device_key for n in superseded}))
    for notification in superseded:
        unit.journal.noted(notification, devices[notification.device_key], "SUPERSEDED")


@dataclass(frozen=True)
class Account:
    """What a subscriber does with devices, preferences and inbox."""

    units: Units
    clock: Clock
    keys: Keys
    new_id: Callable[[], str] = uuid7

    async def register_device(self, subscriber_id: str, device_id: str, os: str, push_token: str) -> Device:
        """Adds a device or changes its push token. Raises ResourceExhausted, and KeyDestroyed when erased."""
        if self.keys.destroyed(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        device = Device(self.new_id(), subscriber_id, device_id, os, self.clock.now())
        async with self.units() as unit:
            stored, new = await unit.store.register_device(device, push_token)
            if new:
                unit.journal.registered(stored)
            return stored

    async def remove_device(self, subscriber_id: str, device_id: str) -> None:
        """Ends a device and supersedes what is on its way to it; harmless to repeat."""
        async with self.units() as unit:
            superseded = await unit.store.remove_device(subscriber_id, device_id, self.clock.now())
            await _note_superseded(unit, superseded)

    async def set_preferences(self, subscriber_id: str, preferences: Preferences) -> Preferences:
        """Stores the subscriber's choice."""
        if self.keys.destroyed(subscriber_id):
            raise FailedPrecondition("OWNER_ERASED", "The owner of this data has been erased.")
        async with self.units() as unit:
            await unit.store.set_preferences(subscriber_id, preferences)
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

    async def delivery_counts(self) -> tuple[Mapping[Delivery, int], int, int]:
        """Notifications by state, how many were handed over at least once, and how many acknowledged."""
        async with self.units() as unit:
            counts, sent, acknowledged = await unit.store.delivery_counts()
        return {state: counts.get(state, 0) for state in Delivery}, sent, acknowledged
