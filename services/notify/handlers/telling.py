"""How does what other services report become inbox items and notifications?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.chassis.ids import uuid7
from services.notify.domain.delivery import Delivery, DeliveryRules, Standing, Step, next_steps
from services.notify.domain.notices import OWED, URGENT, Facts, KnownCase, Notice, Subject, root_of
from services.notify.domain.quiet import quiet_until
from services.notify.ports import Draft, Keys, Notification, Recipient, Unit

GATHERED = "GATHERED"


@dataclass(frozen=True)
class Telling:
    """Applies what other services report, inside the transaction of the caller."""

    clock: Clock
    rules: DeliveryRules
    keys: Keys
    new_id: Callable[[], str] = uuid7

    async def tell(self, unit: Unit, notices: Sequence[Notice]) -> None:
        """One inbox item for each notice, and one notification per live device for each that is not gathered into a
        digest; repeats change nothing.

        Notices of erased subscribers are dropped.
        """
        gone = {who for who in {notice.subscriber_id for notice in notices} if self.keys.destroyed(who)}
        wanted = [notice for notice in notices if notice.subscriber_id not in gone]
        if not wanted:
            return
        cases = await unit.store.lineage([notice.case_id for notice in wanted])
        parents = {case.case_id: case.parent_id for case in cases.values()}
        rooted = []
        for notice in wanted:
            root = root_of(notice.case_id, parents)
            rooted.append((root, _with_case_facts(notice, cases.get(notice.case_id) or cases.get(root))))
        now = self.clock.now()
        new = await unit.store.add_items(rooted, now)
        await self.start(unit, await self._one_by_one(unit, new, now), now)

    async def _one_by_one(
        self, unit: Unit, notices: Sequence[tuple[str, Notice]], now: datetime
    ) -> Sequence[tuple[str, Notice]]:
        """Those that are told by themselves; the others are put into digests."""
        people = {notice.subscriber_id for _, notice in notices if notice.subject not in URGENT}
        if not people:
            return notices
        gatherings = dict(await unit.store.gatherings(people, now))
        minutes = await unit.store.digest_minutes(people)
        alone = []
        for root, notice in notices:
            who = notice.subscriber_id
            if notice.subject in URGENT:
                alone.append((root, notice))
                continue
            wish = timedelta(minutes=minutes.get(who, 0))
            gatherings[who], gathered = gatherings[who].add(now, wish, self.rules.gathering, self.new_id())
            if gathered:
                unit.journal.not_notified(root, notice, "DIGESTED")
            else:
                alone.append((root, notice))
        await unit.store.save_gatherings(gatherings)
        return alone

    async def tell_digest(self, unit: Unit, subscriber_id: str, digest_id: str) -> None:
        """Tells of what was gathered; harmless to repeat."""
        if self.keys.destroyed(subscriber_id):
            return
        now = self.clock.now()
        gathering = (await unit.store.gatherings([subscriber_id], now))[subscriber_id]
        if gathering.digest_id != digest_id:
            return
        facts = Facts(count=str(gathering.gathered))
        notice = Notice(subscriber_id, "", Subject.DIGEST, GATHERED, digest_id, facts)
        await self.start(unit, await unit.store.add_items([("", notice)], now), now)
        await unit.store.save_gatherings({subscriber_id: gathering.close(now, self.rules.gathering)})

    async def start(self, unit: Unit, notices: Sequence[tuple[str, Notice]], now: datetime) -> None:
        """Makes notifications for each (root case, notice) that has its inbox item, and has them looked after."""
        if not notices:
            return
        people = {notice.subscriber_id for _, notice in notices}
        devices = await unit.store.recipients_of(people)
        drafts = [
            self._draft(root, notice, recipient, now)
            for root, notice in notices
            for recipient in devices.get(notice.subscriber_id, ())
        ]
        made = await unit.store.add_notifications(drafts, now)
        self._note(unit, made, {r.device.device_key: r for some in devices.values() for r in some})
        without = [(root, notice) for root, notice in notices if not devices.get(notice.subscriber_id)]
        for root, notice in without:
            unit.journal.not_notified(root, notice, "NO_LIVE_DEVICE")
        if without:
            begun = await unit.store.begin_fall_backs_of(without, now)
            await unit.store.run_fall_back([each.fall_back_id for each in begun], now)
        await unit.store.wake({each.device_key for each in made})
        await unit.store.look_at({each.next_time for each in made if each.next_time}, notices[0][1].subscriber_id)

    def _draft(self, root: str, notice: Notice, recipient: Recipient, now: datetime) -> Draft:
        urgent = notice.subject in URGENT
        owed = notice.subject in OWED
        standing = standing_of(recipient, Delivery.QUEUED, urgent=urgent, owed=owed, create_time=now, now=now)
        steps, look = next_steps(standing, self.rules, now)
        if Step.PUSH in steps:
            look = now + self.rules.push_after
        return Draft(root, notice, recipient.device.device_key, look, Step.HOLD in steps)

    def _note(self, unit: Unit, made: Sequence[Notification], recipients: Mapping[str, Recipient]) -> None:
        for notification in made:
            device = recipients[notification.device_key].device
            unit.journal.noted(notification, device, "QUEUED")
            if notification.held:
                unit.journal.noted(notification, device, "QUIET_HOURS")

    async def merge(self, unit: Unit, root_case_id: str, merged_case_id: str, subscriber_id: str) -> None:
        """Notes an alias, and takes back what is still queued for the case that is none any more."""
        await unit.store.set_parent(merged_case_id, root_case_id, subscriber_id)
        superseded = await unit.store.supersede_case(merged_case_id, self.clock.now())
        await note_superseded(unit, superseded)

    async def reopenings(self, unit: Unit, case_ids: Sequence[str]) -> dict[str, int]:
        """How often each case was reopened, as far as notify heard."""
        cases = await unit.store.lineage(case_ids)
        return {case_id: cases[case_id].reopenings if case_id in cases else 0 for case_id in case_ids}

    async def erase(self, unit: Unit, subscriber_id: str, asked: int) -> None:
        """Forgets a subscriber: rows first, then the key; the round that asked is answered in the same transaction."""
        await unit.store.erase_subscriber(subscriber_id)
        unit.journal.erased(subscriber_id, asked)
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


def standing_of(
    recipient: Recipient,
    delivery: Delivery,
    *,
    urgent: bool,
    owed: bool,
    create_time: datetime,
    now: datetime,
    notification: Notification | None = None,
) -> Standing:
    """What decides about a delivery to this recipient; without a notification, about one that is made now."""
    device, wishes = recipient.device, recipient.preferences
    return Standing(
        delivery=delivery,
        ready=notification is None or notification.ready,
        attempt=notification.attempt if notification else 0,
        create_time=create_time,
        last_sent_time=notification.last_sent_time if notification else None,
        pushable=device.pushable and wishes.allows("PUSH"),
        token_refused=device.refused,
        urgent=urgent,
        suspended=recipient.suspended and not owed,
        fell_back=notification is not None and notification.fell_back,
        quiet_until=quiet_until(now, device.time_zone, wishes.quiet_start_minute, wishes.quiet_end_minute),
    )


async def note_superseded(unit: Unit, superseded: Collection[Notification]) -> None:
    """Writes what was taken back."""
    if not superseded:
        return
    devices = await unit.store.devices_by_key({n.device_key for n in superseded})
    for notification in superseded:
        unit.journal.noted(notification, devices[notification.device_key], "SUPERSEDED")
