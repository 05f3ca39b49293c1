"""What notify's use cases need from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.notify.domain import Delivery, Facts, KnownCase, Notice, Preferences, Subject


@dataclass(frozen=True)
class Device:
    """An installation of the app."""

    device_key: str
    """Notify's own id of it, UUIDv7; also names the device in resend jobs and wake-ups."""
    subscriber_id: str
    device_id: str
    os: str
    create_time: datetime
    last_seen_time: datetime | None = None


@dataclass(frozen=True)
class Notification:
    """One notice on its way to one device."""

    notification_id: str
    case_id: str
    """Root case at the time it was made."""
    subscriber_id: str
    device_key: str
    subject: Subject
    delivery: Delivery
    attempt: int
    create_time: datetime
    first_sent_time: datetime | None
    last_sent_time: datetime | None


@dataclass(frozen=True)
class InboxItem:
    """A notice in the inbox, its details opened."""

    item_id: str
    case_id: str
    subject: Subject
    state: str
    facts: Facts
    create_time: datetime
    read_time: datetime | None


@dataclass(frozen=True)
class Stored:
    """What storing a batch of notices made."""

    notifications: Sequence[Notification]
    without_device: Sequence[tuple[str, Notice]]
    """Root case and notice of new inbox items whose subscriber has no live device."""


class Store(Protocol):
    """Notify's tables, inside one transaction. Times are business time, UTC."""

    async def keep_subscriber(self, subscriber_id: str, language: str) -> None:
        """Notes a subscriber; a language that the subscriber chose stays."""

    async def set_suspended(self, subscriber_id: str, suspended: bool) -> None:
        """Holds notifications back, or lets them go on."""

    async def set_preferences(self, subscriber_id: str, preferences: Preferences) -> None:
        """Stores the subscriber's own choice."""

    async def preferences(self, subscriber_id: str) -> Preferences:
        """The preferences; the defaults for an unknown subscriber."""

    async def keep_cases(self, cases: Sequence[KnownCase]) -> None:
        """Notes new cases; known ones stay as they are."""

    async def set_parent(self, case_id: str, parent_id: str, subscriber_id: str) -> None:
        """Makes a case an alias of another, or of itself to part them again."""

    async def count_reopening(self, case_id: str, occurrence: int) -> None:
        """Notes how often a case was reopened."""

    async def lineage(self, case_ids: Sequence[str]) -> Mapping[str, KnownCase]:
        """The named cases that are known, with all they were merged into."""

    async def add_notices(self, notices: Sequence[tuple[str, Notice]], now: datetime) -> Stored:
        """Stores each (root case, notice) once: an inbox item, a notification per live device. Repeats are
        left out of the answer.
        """

    async def register_device(self, device: Device, push_token: str) -> tuple[Device, bool]:
        """Adds the device or changes its push token; answers what is stored, and whether it was not live before. Raises
        ResourceExhausted.
        """

    async def remove_device(
        self, subscriber_id: str, device_id: str, now: datetime
    ) -> Sequence[Notification]:
        """Ends a device; answers the notifications that this superseded."""

    async def live_device(self, subscriber_id: str, device_id: str) -> Device | None:
        """A registered device."""

    async def devices_by_key(self, device_keys: Sequence[str]) -> Mapping[str, Device]:
        """Devices, removed ones included."""

    async def supersede_case(self, case_id: str, now: datetime) -> Sequence[Notification]:
        """Takes back what tells of a case itself, is queued and was never handed over; word of its removal requests
        goes out all the same."""

    async def ask_for_all_again(self, device_key: str) -> None:
        """Makes everything not acknowledged ready to be handed over again."""

    async def hand_over(self, device_key: str, at_most: int, now: datetime) -> Sequence[Notification]:
        """Marks what is ready as handed over, at most so that `at_most` are in flight; nothing while the
        subscriber is suspended.
        """

    async def acknowledge(
        self, device_key: str, notification_ids: Sequence[str], now: datetime
    ) -> tuple[Sequence[Notification], int]:
        """Marks as acknowledged; answers the newly acknowledged, and how many of the named are so now."""

    async def unfinished(self, device_key: str) -> tuple[Sequence[Notification], bool]:
        """What is neither acknowledged nor given up, oldest first, locked; and whether it is held back."""

    async def mark_resend(self, notification_ids: Sequence[str]) -> None:
        """Makes them ready to be handed over again."""

    async def mark_undeliverable(self, notification_ids: Sequence[str], now: datetime) -> None:
        """Gives them up."""

    async def list_inbox(
        self, subscriber_id: str, unread_only: bool, before: str, limit: int
    ) -> Sequence[InboxItem]:
        """Items newest first, below an item id if given."""

    async def mark_read(self, subscriber_id: str, item_ids: Sequence[str], now: datetime) -> int:
        """Marks as read; how many of the named are read now."""

    async def delivery_counts(self) -> tuple[Mapping[Delivery, int], int, int]:
        """Notifications by state; how many were handed over at least once, whatever became of them; and how many
        acknowledged. The latter two count (root case, subject, state, occurrence, device) once."""

    async def erase_subscriber(self, subscriber_id: str) -> None:
        """Deletes every row of a subscriber."""

    async def wake(self, device_keys: Sequence[str]) -> None:
        """Wakes the streams of these devices, on every replica, once the transaction commits."""

    async def look_again(self, device_keys: Sequence[str], when: datetime) -> None:
        """Has `sweep_device` run for each device at `when` or earlier."""


class Journal(Protocol):
    """Events and log records, written in the transaction of their cause."""

    def handed_over(self, notification: Notification, device: Device) -> None:
        """Tells of a first handing over, or notes a repeated one."""

    def acknowledged(self, notification: Notification, device: Device, at: datetime) -> None:
        """Tells of an acknowledgement."""

    def undeliverable(self, notification: Notification, device: Device, reason: str) -> None:
        """Tells that a delivery was given up."""

    def noted(self, notification: Notification, device: Device, action: str) -> None:
        """Notes QUEUED or SUPERSEDED."""

    def no_live_device(self, case_id: str, notice: Notice) -> None:
        """Notes that a notice went to the inbox alone."""

    def registered(self, device: Device) -> None:
        """Tells of a device that was not live before."""

    def erased(self, subscriber_id: str) -> None:
        """Tells that nothing of the subscriber is held any more."""


class Keys(Protocol):
    """The part of the key store that the use cases touch."""

    def destroy(self, owner: str) -> None:
        """Ends a subscriber's key."""

    def destroyed(self, owner: str) -> bool:
        """Whether the subscriber was erased."""


@dataclass(frozen=True)
class Unit:
    """One transaction."""

    store: Store
    journal: Journal


class Units(Protocol):
    """Starts transactions; leaving the block without an error commits."""

    def __call__(self) -> AbstractAsyncContextManager[Unit]:
        """A new transaction."""


class Bell(Protocol):
    """Rings when a device may have something to take."""

    def listen(self, device_key: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set whenever the device is woken; the listener clears it."""
