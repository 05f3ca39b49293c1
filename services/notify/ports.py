"""What notify's use cases need from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from services.notify.domain.delivery import Delivery, Path
from services.notify.domain.gathering import Gathering
from services.notify.domain.notices import Facts, KnownCase, Notice, Preferences, Subject
from services.notify.domain.quiet import DEFAULT_ZONE


@dataclass(frozen=True)
class Device:
    """An installation of the app."""

    device_key: str
    """Notify's own id of it, UUIDv7; also names the device in wake-ups."""
    subscriber_id: str
    device_id: str
    os: str
    create_time: datetime
    last_seen_time: datetime | None = None
    time_zone: str = DEFAULT_ZONE
    locale: str = ""
    """"ko" or "en"; empty: as the subscriber prefers."""
    public_key: bytes = b""
    """X25519, 32 bytes; empty for none."""
    pushable: bool = False
    """Whether it has a push token that its provider has not refused."""
    refused: bool = False
    """Whether its provider has refused the token."""


@dataclass(frozen=True)
class Notification:
    """One notice on its way to one device."""

    notification_id: str
    case_id: str
    """Root case at the time it was made; empty where it is about none."""
    subscriber_id: str
    device_key: str
    subject: Subject
    delivery: Delivery
    attempt: int
    create_time: datetime
    first_sent_time: datetime | None
    last_sent_time: datetime | None
    path: str = ""
    resend: bool = False
    held: bool = False
    fell_back: bool = False
    next_time: datetime | None = None

    @property
    def ready(self) -> bool:
        """Whether it waits to be taken."""
        return self.delivery is Delivery.QUEUED or self.resend


@dataclass(frozen=True)
class Recipient:
    """A live device with what its person wishes."""

    device: Device
    preferences: Preferences
    suspended: bool = False

    @property
    def language(self) -> str:
        """Language that the device shows."""
        return self.device.locale or self.preferences.language


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


class Draft(NamedTuple):
    """A notification to be made of a notice whose root case is known."""

    case_id: str
    notice: Notice
    device_key: str
    next_time: datetime
    held: bool


class Change(NamedTuple):
    """What becomes of a notification that was looked at. `next_time` is None when it is over."""

    notification_id: str
    delivery: Delivery
    attempt: int
    resend: bool
    held: bool
    fell_back: bool
    next_time: datetime | None
    end_time: datetime | None
    path: str


@dataclass(frozen=True)
class Counts:
    """Notifications by state; handed over (`sent`) and acknowledged ones each once per (root case, subject, state,
    occurrence, device), for a merge makes two tellings one."""

    by_state: Mapping[Delivery, int]
    sent: int
    acknowledged: int
    refused_tokens: int


class Heard(NamedTuple):
    """A notification that its device has spoken of, and whether its handing over had not been told yet: the device was
    faster than its push provider's answer."""

    notification: Notification
    untold: bool


@dataclass(frozen=True)
class FallBack:
    """A notice on the alternative path."""

    fall_back_id: str
    subscriber_id: str
    case_id: str
    subject: Subject
    path: str
    delivery: Delivery
    tries: int
    create_time: datetime


@dataclass(frozen=True)
class Contact:
    """A contact and the change of it that waits. Values are personal data."""

    path: Path
    value: str = ""
    """Empty for none."""
    change_id: str = ""
    new_value: str = ""
    change_time: datetime | None = None

    def __repr__(self) -> str:
        return f"Contact({self.path})"


class Store(Protocol):
    """Notify's tables, inside one transaction. Times are business time, UTC."""

    # --- subscribers ---

    async def keep_subscriber(self, subscriber_id: str, language: str) -> None:
        """Notes a subscriber; a language that the subscriber chose stays."""

    async def set_suspended(self, subscriber_id: str, suspended: bool, now: datetime) -> None:
        """Holds notifications back, or lets them go on: then all are looked at."""

    async def set_preferences(self, subscriber_id: str, preferences: Preferences, now: datetime) -> None:
        """Stores the subscriber's own choice; what is on its way is looked at again."""

    async def preferences(self, subscriber_id: str) -> Preferences:
        """The preferences; the defaults for an unknown subscriber."""

    async def suspended(self, subscriber_id: str) -> bool:
        """Whether notifications are held back."""

    async def erase_subscriber(self, subscriber_id: str) -> None:
        """Deletes every row of a subscriber."""

    # --- cases ---

    async def keep_cases(self, cases: Sequence[KnownCase]) -> None:
        """Notes new cases; known ones stay as they are."""

    async def set_parent(self, case_id: str, parent_id: str, subscriber_id: str) -> None:
        """Makes a case an alias of another, or of itself to part them again."""

    async def count_reopening(self, case_id: str, occurrence: int) -> None:
        """Notes how often a case was reopened."""

    async def lineage(self, case_ids: Sequence[str]) -> Mapping[str, KnownCase]:
        """The named cases that are known, with all they were merged into."""

    # --- notices ---

    async def add_items(self, notices: Sequence[tuple[str, Notice]], now: datetime) -> Sequence[tuple[str, Notice]]:
        """Stores an inbox item for each (root case, notice) that has none; answers these."""

    async def add_notifications(self, drafts: Sequence[Draft], now: datetime) -> Sequence[Notification]:
        """Makes those that are not there yet, and answers them."""

    async def gatherings(self, subscriber_ids: Collection[str], now: datetime) -> Mapping[str, Gathering]:
        """What these subscribers were told lately, locked; a new window for those who were told nothing."""

    async def digest_minutes(self, subscriber_ids: Collection[str]) -> Mapping[str, int]:
        """How long these subscribers wish notices to be gathered."""

    async def save_gatherings(self, gatherings: Mapping[str, Gathering]) -> None:
        """Writes them, and has a digest that began looked at when it is due."""

    # --- devices ---

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

    async def devices_by_key(self, device_keys: Collection[str]) -> Mapping[str, Device]:
        """Devices, removed ones included."""

    async def recipients_of(self, subscriber_ids: Collection[str]) -> Mapping[str, Sequence[Recipient]]:
        """Live devices by subscriber."""

    async def recipients(self, device_keys: Collection[str]) -> Mapping[str, Recipient]:
        """Live devices by key, with their persons' wishes."""

    async def push_tokens(self, device_keys: Collection[str]) -> Mapping[str, str]:
        """Push tokens by device key, opened; devices without one are left out."""

    async def refuse_tokens(self, tokens: Mapping[str, str], now: datetime) -> None:
        """Forgets tokens (by device key) that their provider refused, unless the device has another one meanwhile."""

    # --- deliveries ---

    async def supersede_case(self, case_id: str, now: datetime) -> Sequence[Notification]:
        """Takes back what tells of a case itself, is queued and was never handed over; word of its removal requests
        goes out all the same."""

    async def ask_for_all_again(self, device_key: str) -> None:
        """Makes everything not acknowledged ready to be handed over again."""

    async def hand_over(
        self, device_keys: Collection[str], quiet: Collection[str], at_most: int, at_a_time: int, now: datetime,
        waits: Sequence[timedelta], jitter: float,
    ) -> Sequence[tuple[Notification, bool]]:
        """Marks what is ready for these devices as handed over, oldest first, at most `at_a_time` on each and so that
        at most `at_most` are in flight there; to devices in `quiet` only what is urgent; nothing while the subscriber
        is suspended. Each with whether it is the first time. `waits`: until the next look, by attempt, longer by
        chance by up to the share `jitter`.
        """

    async def hold(self, device_keys: Collection[str]) -> Sequence[Notification]:
        """Notes of what is queued for these devices that quiet hours hold it back; answers what is noted for the first
        time."""

    async def take_words(
        self, were_shown: Collection[tuple[str, str]], arrived: Collection[tuple[str, str]], now: datetime
    ) -> tuple[Sequence[Heard], Sequence[Heard]]:
        """Applies what live devices say of their own notifications, as (device key, notification): (newly acknowledged,
        newly arrived)."""

    async def acknowledged_among(self, pairs: Collection[tuple[str, str]]) -> Set[tuple[str, str]]:
        """Those of (device key, notification) that are acknowledged."""

    async def device_keys(self, devices: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """(subscriber, device id) → key of the live ones."""

    async def due(self, now: datetime, newer_than: datetime, at_most: int) -> Sequence[Notification]:
        """What is to be looked at now, locked; left out is what waits behind an earlier one of its case, made after
        `newer_than`."""

    async def apply(self, changes: Sequence[Change]) -> None:
        """Writes what was decided."""

    async def pushed(
        self, notification_ids: Collection[str], now: datetime, waits: Sequence[timedelta], jitter: float
    ) -> Sequence[tuple[Notification, bool]]:
        """Marks as handed over what the push provider took, unless it is over or the stream has it meanwhile; each with
        whether it is the first time."""

    async def still_ready(self, notification_ids: Collection[str]) -> Sequence[Notification]:
        """Those that still wait to be taken, locked."""

    async def next_look(self) -> datetime | None:
        """When the next notification is to be looked at; None for never."""

    async def look_at(self, times: Collection[datetime], lane: str = "") -> None:
        """Has a sweep run at each of these times or soon after; `lane` parts those who would wait for each other."""

    async def counts(self) -> Counts:
        """For operators."""

    # --- alternative path ---

    async def begin_fall_backs(self, notifications: Sequence[Notification], now: datetime) -> Sequence[FallBack]:
        """Begins the alternative path for notices that no device has acknowledged and that have not begun it."""

    async def begin_fall_backs_of(
        self, notices: Sequence[tuple[str, Notice]], now: datetime, path: str = ""
    ) -> Sequence[FallBack]:
        """The same for notices that no device was there for, or that a contact must hear of: then by `path` first."""

    async def fall_back(self, fall_back_id: str) -> FallBack | None:
        """One, locked."""

    async def known_of(self, fall_back: FallBack) -> bool:
        """Whether the person has acknowledged the notice on a device or read it in the inbox."""

    async def fall_backs_since(self, subscriber_id: str, since: datetime) -> int:
        """Messages handed over to the contacts of a subscriber."""

    async def save_fall_back(self, fall_back: FallBack, end_time: datetime | None) -> None:
        """Writes path, delivery and tries."""

    async def run_fall_back(self, fall_back_ids: Collection[str], when: datetime) -> None:
        """Has these run at `when` or earlier."""

    async def contacts(self, subscriber_id: str, *, lock: bool = False) -> Mapping[Path, Contact]:
        """The contacts, opened."""

    async def save_contact(self, subscriber_id: str, contact: Contact) -> None:
        """Writes a contact, and has a change that waits take effect at its time."""

    async def zone_of(self, subscriber_id: str) -> str:
        """Zone of the device that was seen last; the default without one."""

    # --- inbox ---

    async def list_inbox(
        self, subscriber_id: str, unread_only: bool, before: str, limit: int
    ) -> Sequence[InboxItem]:
        """Items newest first, below an item id if given."""

    async def mark_read(self, subscriber_id: str, item_ids: Sequence[str], now: datetime) -> int:
        """Marks as read; how many of the named are read now. Wakes the devices, whose badge has changed."""

    async def unread(self, subscriber_ids: Collection[str]) -> Mapping[str, int]:
        """Unread items by subscriber; none for those who have none."""

    async def wake(self, device_keys: Collection[str]) -> None:
        """Wakes the streams of these devices, on every replica, once the transaction commits."""


class Journal(Protocol):
    """Events and log records, written in the transaction of their cause."""

    def handed_over(self, notification: Notification, device: Device, path: Path, *, first: bool) -> None:
        """Tells of a first handing over, or notes a repeated one."""

    def acknowledged(self, notification: Notification, device: Device, at: datetime) -> None:
        """Tells of an acknowledgement."""

    def given_up(self, notification: Notification, device: Device, delivery: Delivery, reason: str) -> None:
        """Tells that a delivery was given up."""

    def noted(self, notification: Notification, device: Device, action: str, reason: str = "", path: str = "") -> None:
        """Notes something else: QUEUED, SUPERSEDED, QUIET_HOURS, DELIVERED, PUSH_FAILED, INVALID_TOKEN."""

    def not_notified(self, case_id: str, notice: Notice, action: str) -> None:
        """Notes that a notice went to the inbox alone: NO_LIVE_DEVICE, DIGESTED."""

    def fell_back(self, fall_back: FallBack, action: str, path: str, reason: str = "") -> None:
        """Notes a step on the alternative path."""

    def registered(self, device: Device) -> None:
        """Tells of a device that was not live before."""

    def erased(self, subscriber_id: str, asked: int) -> None:
        """Answers the round that asked: nothing of the subscriber is held any more."""


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

    def listen(self, device_key: str) -> AbstractContextManager[None]:
        """Has `rung` report the device."""

    async def rung(self, seconds: float) -> Set[str]:
        """The devices listened to that were woken since the last call, at least one; or all that are listened to where
        nobody was woken for so long. With 0 it does not wait, and answers none then."""


# --- ways out ---


class Words(NamedTuple):
    """What is shown."""

    title: str
    body: str


class Texts(Protocol):
    """The texts of notices in every language."""

    def for_lock_screen(self, subject: Subject, language: str, *, discreet: bool) -> Words:
        """What strangers may see: no name, address, platform, kind or number."""

    def for_inbox(self, subject: Subject, state: str, facts: Facts, language: str) -> Words:
        """With the details; an unknown code stands for itself, a missing one is worded."""

    def sender(self, language: str, *, discreet: bool) -> str:
        """Name that mails come from."""

    def for_message(self, subject: Subject, language: str, *, discreet: bool) -> Words:
        """A text message (body alone) or mail to the contact; as neutral as the lock screen."""


class Push(NamedTuple):
    """One wake-up."""

    notification_id: str
    token: str
    os: str
    public_key: bytes
    words: Words


class Pushed(NamedTuple):
    """What its provider said of one: "" taken, otherwise a reason; `gone` where there is no such device any more."""

    reason: str = ""
    gone: bool = False


class Pusher(Protocol):
    """Wakes devices through their providers."""

    def can_reach(self, os: str) -> bool:
        """Whether devices of this platform can be woken at all."""

    async def push(self, pushes: Sequence[Push]) -> Sequence[Pushed]:
        """One answer for each, in order; trouble on the way is an answer, not an error."""


class Message(NamedTuple):
    """A message to a contact; `key` is the same whenever it is tried again."""

    key: str
    to: str
    sender: str
    """Name that it comes from."""
    words: Words
    language: str
    discreet: bool

    def __repr__(self) -> str:
        return f"Message({self.key})"


class MessageAnswer(NamedTuple):
    """"" taken, otherwise a reason; `again` where trying later may help."""

    reason: str = ""
    again: bool = False


class Messenger(Protocol):
    """Sends messages to contacts by one way. A message may be sent twice after a crash, under the same key."""

    async def send(self, message: Message) -> MessageAnswer:
        """Trouble on the way is an answer, not an error."""
