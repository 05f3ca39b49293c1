"""Where does a delivery stand, and what is to be done about it now?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.notify.domain.gathering import GatheringRules


class Delivery(StrEnum):
    """Where a notification to one device stands."""

    QUEUED = "QUEUED"
    HANDED_OVER = "HANDED_OVER"
    """Written to the device's stream, or taken by its push provider."""
    DELIVERED = "DELIVERED"
    """Arrived on the device, by its own word."""
    ACKNOWLEDGED = "ACKNOWLEDGED"
    EXPIRED = "EXPIRED"
    """Its time ran out."""
    UNDELIVERABLE = "UNDELIVERABLE"
    """Its time ran out, and its provider says that there is no such device."""
    SUPERSEDED = "SUPERSEDED"


UNFINISHED = (Delivery.QUEUED, Delivery.HANDED_OVER, Delivery.DELIVERED)
GIVEN_UP = (Delivery.EXPIRED, Delivery.UNDELIVERABLE)


class Path(StrEnum):
    """A way to a person; the names are those of the contract's NoticePath."""

    STREAM = "STREAM"
    PUSH = "PUSH"
    SMS = "SMS"
    EMAIL = "EMAIL"
    INBOX = "INBOX"


ALTERNATIVES = (Path.SMS, Path.EMAIL)
"""Ways past the devices, in the order in which they are tried unless the subscriber chose another."""


class Step(StrEnum):
    """Something to be done now about a delivery."""

    HOLD = "HOLD"
    """Quiet hours: note that it is held back."""
    PUSH = "PUSH"
    RESEND = "RESEND"
    """Make it ready again, for the stream if there is one."""
    FALL_BACK = "FALL_BACK"
    """Begin the alternative path."""
    GIVE_UP = "GIVE_UP"


@dataclass(frozen=True)
class DeliveryRules:
    """How often and how long a delivery is tried. Versioned data: `rules/delivery.yaml`."""

    version: str
    resend_after: timedelta
    resend_after_at_most: timedelta
    jitter: float
    """Share of a wait by which the next look may come later, by chance; 0 to 1."""
    max_attempts: int
    give_up_after: timedelta
    push_after: timedelta
    """How long a notification waits for a live stream before it is pushed."""
    push_lease: timedelta
    """How long a push may take before it counts as lost and is made again."""
    push_again_after: timedelta
    """How long to wait after the first push that its provider did not take; doubles."""
    order_wait: timedelta
    """How long a later notification of a case waits behind one that was pushed and is not acknowledged."""
    fall_back_after: timedelta
    fall_backs_a_day: int
    message_tries: int
    """Tries of a message to a contact on one way."""
    contact_delay: timedelta
    max_in_flight: int
    poll: timedelta
    gathering: GatheringRules

    def wait_after(self, attempt: int) -> timedelta:
        """How long the n-th attempt (from 1) waits for its acknowledgement: doubles up to a bound."""
        factor: int = 1 << min(max(attempt - 1, 0), 30)
        return min(self.resend_after * factor, self.resend_after_at_most)

    def pause_after(self, attempt: int) -> timedelta:
        """How long to wait after the n-th attempt (from 1) when the provider did not take it."""
        factor: int = 1 << min(max(attempt - 1, 0), 30)
        return min(self.push_again_after * factor, self.resend_after_at_most)

    @property
    def waits(self) -> Sequence[timedelta]:
        """`wait_after` of every attempt, in order."""
        return [self.wait_after(attempt) for attempt in range(1, self.max_attempts + 1)]


@dataclass(frozen=True)
class Standing:
    """What decides what is to be done about a delivery. Times are business time, UTC."""

    delivery: Delivery
    ready: bool
    """Waits to be taken: queued, or to be sent again."""
    attempt: int
    create_time: datetime
    last_sent_time: datetime | None
    pushable: bool
    """Whether its device can be woken."""
    token_refused: bool = False
    urgent: bool = False
    """An open stream shows it in quiet hours too; no device is woken, and no message sent, for it either."""
    suspended: bool = False
    fell_back: bool = False
    quiet_until: datetime | None = None


def next_steps(standing: Standing, rules: DeliveryRules, now: datetime) -> tuple[frozenset[Step], datetime]:
    """What to do now, and when to look again at the latest (it is in the future, unless all is over)."""
    end = standing.create_time + rules.give_up_after
    if standing.suspended:
        # Nothing is given up meanwhile; the resumption looks at once.
        return frozenset(), now + rules.resend_after_at_most
    if now >= end:
        return frozenset({Step.GIVE_UP}), end
    if standing.quiet_until and not standing.urgent:
        return frozenset(_held(standing)), min(standing.quiet_until, end)
    steps, looks = _tries(standing, rules, now)
    if Step.GIVE_UP in steps:
        return frozenset({Step.GIVE_UP}), now
    if standing.quiet_until:
        if Step.PUSH in steps:
            return frozenset(_held(standing)), min(standing.quiet_until, end)
        return frozenset(steps), min([*looks, standing.quiet_until, end])
    fall_back = standing.create_time + rules.fall_back_after
    if not standing.fell_back and standing.delivery is not Delivery.DELIVERED:
        if now >= fall_back or standing.token_refused:
            steps.add(Step.FALL_BACK)
        else:
            looks.append(fall_back)
    return frozenset(steps), min([*looks, end])


def _held(standing: Standing) -> set[Step]:
    return {Step.HOLD} if standing.delivery is Delivery.QUEUED else set()


def _tries(standing: Standing, rules: DeliveryRules, now: datetime) -> tuple[set[Step], list[datetime]]:
    """Steps on the way to the device, and when they lead to further ones."""
    if standing.ready:
        tried_out = standing.attempt >= rules.max_attempts
        return (set(), []) if tried_out or not standing.pushable else ({Step.PUSH}, [now + rules.push_lease])
    if standing.delivery is Delivery.DELIVERED or standing.last_sent_time is None:
        return set(), []
    due = standing.last_sent_time + rules.wait_after(standing.attempt)
    if now < due:
        return set(), [due]
    if standing.attempt >= rules.max_attempts:
        return {Step.GIVE_UP}, []
    return {Step.RESEND}, [now + rules.push_after] if standing.pushable else []
