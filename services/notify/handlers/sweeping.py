"""What is done about deliveries when their time comes: wake, send again, fall back, give up?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.chassis.database import is_transient
from services.chassis.telemetry import logger
from services.notify.domain.delivery import Delivery, DeliveryRules, Path, Step, next_steps
from services.notify.domain.notices import OWED, URGENT
from services.notify.handlers.telling import standing_of
from services.notify.ports import (
    Change,
    Notification,
    Push,
    Pushed,
    Pusher,
    Recipient,
    Texts,
    Unit,
    Units,
)

log = logger(__name__)

AT_ONCE = 500
AGAIN = timedelta(seconds=5)
"""When to look again where something is due and has to wait for something else."""
MUCH_LATER = timedelta(hours=1)
_LEAST = timedelta(seconds=1)


@dataclass(frozen=True)
class _Decided:
    """A notification, its recipient, and what was decided."""

    notification: Notification
    recipient: Recipient
    steps: frozenset[Step]
    next_time: datetime


class Sweeping:
    """Looks after deliveries by the clock."""

    def __init__(self, units: Units, clock: Clock, rules: DeliveryRules, texts: Texts, pusher: Pusher) -> None:
        self._units = units
        self._clock = clock
        self._rules = rules
        self._texts = texts
        self._pusher = pusher
        self._one_at_a_time = asyncio.Lock()

    async def sweep(self) -> None:
        """Does all that is due, and has itself run again while anything is on its way. Harmless to repeat."""
        async with self._one_at_a_time:
            while await self._look_at_some():
                pass
            async with self._units() as unit:
                when = await unit.store.next_look()
                if when is not None:
                    await unit.store.look_at([max(when, self._clock.now() + AGAIN)])

    async def _look_at_some(self) -> bool:
        """Some of what is due; whether there may be more. One that cannot be dealt with is put off and holds up no
        other."""
        try:
            return await self._look(AT_ONCE)
        except Exception as error:
            if is_transient(error):
                raise
            log.error("sweep_failed", error=error)
        for _ in range(AT_ONCE):
            try:
                if not await self._look(1):
                    return False
            except Exception as error:
                if is_transient(error):
                    raise
                await self._put_off()
        return True

    async def _put_off(self) -> None:
        """The first that is due, for an hour."""
        now = self._clock.now()
        async with self._units() as unit:
            for first in await unit.store.due(now, now - self._rules.order_wait, 1):
                log.error("delivery_put_off", notification_id=first.notification_id)
                await unit.store.apply([_unchanged(first)._replace(next_time=now + MUCH_LATER)])

    async def _look(self, at_most: int) -> bool:
        """So many of those due; whether there was any. What is pushed is committed as begun before it leaves."""
        now = self._clock.now()
        async with self._units() as unit:
            due = await unit.store.due(now, now - self._rules.order_wait, at_most)
            recipients = await unit.store.recipients(_keys_of(due))
            decided = [self._decide(n, recipients[n.device_key], now) for n in due if n.device_key in recipients]
            await unit.store.apply([_changed(each, now) for each in decided] + _orphans(due, recipients, now))
            await self._note(unit, decided, now)
            pushes = await self._pushes(unit, decided)
        if pushes:
            answers = await self._pusher.push([push for _, push in pushes])
            await self._record([(each, p, a) for (each, p), a in zip(pushes, answers, strict=True)])
        return bool(due)

    def _decide(self, notification: Notification, recipient: Recipient, now: datetime) -> _Decided:
        standing = standing_of(
            recipient,
            notification.delivery,
            urgent=notification.subject in URGENT,
            owed=notification.subject in OWED,
            create_time=notification.create_time,
            now=now,
            notification=notification,
        )
        reachable = standing.pushable and self._pusher.can_reach(recipient.device.os)
        steps, look = next_steps(replace(standing, pushable=reachable), self._rules, now)
        return _Decided(notification, recipient, steps, max(look, now + _LEAST))

    async def _note(self, unit: Unit, decided: Sequence[_Decided], now: datetime) -> None:
        falling = []
        for each in decided:
            notification, device = each.notification, each.recipient.device
            if Step.GIVE_UP in each.steps:
                unit.journal.given_up(notification, device, *_end(each))
            if Step.HOLD in each.steps and not notification.held:
                unit.journal.noted(notification, device, "QUIET_HOURS")
            if Step.FALL_BACK in each.steps:
                falling.append(notification)
                if device.refused and not notification.attempt:
                    unit.journal.noted(notification, device, "INVALID_TOKEN", path=Path.PUSH)
        if falling:
            begun = await unit.store.begin_fall_backs(falling, now)
            await unit.store.run_fall_back([each.fall_back_id for each in begun], now)
        await unit.store.wake(_keys_of([e.notification for e in decided if {Step.RESEND, Step.GIVE_UP} & e.steps]))

    async def _pushes(self, unit: Unit, decided: Sequence[_Decided]) -> Sequence[tuple[_Decided, Push]]:
        chosen = [each for each in decided if Step.PUSH in each.steps]
        tokens = await unit.store.push_tokens(_keys_of([each.notification for each in chosen])) if chosen else {}
        return [
            (each, self._push(each, tokens[each.notification.device_key]))
            for each in chosen
            if each.notification.device_key in tokens
        ]

    def _push(self, each: _Decided, token: str) -> Push:
        device, recipient = each.recipient.device, each.recipient
        words = self._texts.for_lock_screen(
            each.notification.subject, recipient.language, discreet=recipient.preferences.discreet
        )
        return Push(each.notification.notification_id, token, device.os, device.public_key, words)

    async def _record(self, sent: Sequence[tuple[_Decided, Push, Pushed]]) -> None:
        now, rules = self._clock.now(), self._rules
        by_id = {each.notification.notification_id: (each, push, answer) for each, push, answer in sent}
        taken = [name for name, (_, _, answer) in by_id.items() if not answer.reason]
        async with self._units() as unit:
            went = await unit.store.pushed(taken, now, rules.waits, rules.jitter) if taken else ()
            for notification, first in went:
                device = by_id[notification.notification_id][0].recipient.device
                unit.journal.handed_over(notification, device, Path.PUSH, first=first)
            await unit.store.look_at({n.next_time for n, _ in went if n.next_time})
            await self._failed(unit, by_id, now)

    async def _failed(
        self, unit: Unit, by_id: Mapping[str, tuple[_Decided, Push, Pushed]], now: datetime
    ) -> None:
        failed = {name: three for name, three in by_id.items() if three[2].reason}
        if not failed:
            return
        gone = {each.notification.device_key: push.token for each, push, a in failed.values() if a.gone}
        changes = []
        for notification in await unit.store.still_ready(list(failed)):
            each, _, answer = failed[notification.notification_id]
            action = "INVALID_TOKEN" if answer.gone else "PUSH_FAILED"
            unit.journal.noted(notification, each.recipient.device, action, answer.reason, Path.PUSH)
            again = now if answer.gone else now + self._rules.pause_after(notification.attempt)
            changes.append(_unchanged(notification)._replace(next_time=again))
        await unit.store.refuse_tokens(gone, now)
        await unit.store.apply(changes)
        await unit.store.look_at({change.next_time for change in changes if change.next_time})


def _changed(each: _Decided, now: datetime) -> Change:
    notification, steps = each.notification, each.steps
    if Step.GIVE_UP in steps:
        return _over(notification, _end(each)[0], now)
    return _unchanged(notification)._replace(
        attempt=notification.attempt + (Step.PUSH in steps),
        resend=notification.resend or Step.RESEND in steps,
        held=notification.held or Step.HOLD in steps,
        fell_back=notification.fell_back or Step.FALL_BACK in steps,
        next_time=each.next_time,
        path=Path.PUSH if Step.PUSH in steps else notification.path,
    )


def _orphans(due: Sequence[Notification], recipients: Mapping[str, Recipient], now: datetime) -> list[Change]:
    """What goes to devices that are no more: their removal superseded what it saw, this came at the same moment."""
    return [_over(n, Delivery.SUPERSEDED, now) for n in due if n.device_key not in recipients]


def _over(notification: Notification, delivery: Delivery, now: datetime) -> Change:
    return _unchanged(notification)._replace(delivery=delivery, resend=False, next_time=None, end_time=now)


def _unchanged(notification: Notification) -> Change:
    return Change(
        notification_id=notification.notification_id,
        delivery=notification.delivery,
        attempt=notification.attempt,
        resend=notification.resend,
        held=notification.held,
        fell_back=notification.fell_back,
        next_time=notification.next_time,
        end_time=None,
        path=notification.path,
    )


def _end(each: _Decided) -> tuple[Delivery, str]:
    """How a delivery that is given up ends, and why."""
    if each.recipient.device.refused:
        return Delivery.UNDELIVERABLE, "TOKEN_REFUSED"
    return Delivery.EXPIRED, "NOT_ACKNOWLEDGED" if each.notification.attempt else "DEVICE_AWAY"


def _keys_of(notifications: Iterable[Notification]) -> set[str]:
    return {notification.device_key for notification in notifications}
