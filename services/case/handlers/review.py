"""How do people decide what the detector could not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from misuse.common.v1.access_pb2 import PURPOSE_REVIEW
from misuse.detector.v1.events_pb2 import MatchFacts
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case import records
from services.case.domain.incidents import Facts
from services.case.domain.rules import Rules
from services.case.domain.words import Band, Label, SubscriberState
from services.case.handlers.intake import processed, take_in
from services.case.ports import RELEASE, Captures, ReviewItem, Unit, Units, Who
from services.case.translate import facts_of
from services.chassis.errors import FailedPrecondition, NotFound
from services.chassis.ids import uuid7


async def ask_people(unit: Unit, asked: Sequence[tuple[Facts, bytes]], now: datetime) -> None:
    """Makes an item of each decision that a person must take: no case and no notice until then."""
    active, _ = await processed(unit, [facts for facts, _ in asked], now)
    known = {facts.decision_id: facts for facts in active}
    items = {
        facts.decision_id: ReviewItem(uuid7(), facts.decision_id, facts.subscriber_id, content, now)
        for facts, content in asked
        if facts.decision_id in known
    }
    for item in await unit.reviews.add(list(items.values())):
        facts = known[item.decision_id]
        record = records.review_opened(item.review_item_id, facts, now)
        unit.record(facts.subscriber_id, record, facts.traceparent)


async def lease(unit: Unit, most: int, rules: Rules, now: datetime, who: Who) -> Sequence[ReviewItem]:
    """Leases items to the caller; the reading of each is recorded."""
    items = await unit.reviews.lease(who.ref, most, now, now + rules.review_lease)
    for item in items:
        record = records.access("LeaseReviewItems", "review_item", item.review_item_id, now, who)
        record.decision_id = item.decision_id
        unit.record(item.subscriber_id, record)
    return items


async def label(unit: Unit, item_id: str, said: Label, rules: Rules, now: datetime, who: Who) -> str:
    """Records a label; the first MATCH opens or joins a case, whose id is returned (else empty). Raises
    NotFound, FailedPrecondition NOT_LEASED or SUBSCRIBER_NOT_PROCESSED: the item waits, its word is not lost.
    """
    item = await unit.reviews.lock(item_id)
    if item is None:
        raise NotFound("REVIEW_ITEM_UNKNOWN", "There is no such review item.")
    if item.lease_ref != who.ref or item.lease_expire_time is None or item.lease_expire_time <= now:
        raise FailedPrecondition(
            "NOT_LEASED", "The item is not leased to the caller.", violations=[("review_item", "NOT_LEASED")]
        )
    subscriber = await unit.subscribers.get(item.subscriber_id)
    if subscriber is None or subscriber.state is not SubscriberState.ACTIVE:
        reason = "SUBSCRIBER_NOT_PROCESSED"
        raise FailedPrecondition(reason, "The subscriber is not processed now.", violations=[("subscriber", reason)])
    labels = await unit.reviews.label(item, who.ref, said, now)
    record = records.label("REVIEWER", said.name, now, who, decision_id=item.decision_id)
    unit.record(item.subscriber_id, record)
    if said is Label.MATCH and item.case_id is None:
        facts = facts_of(MatchFacts.FromString(item.facts), Band.REVIEW, "")
        item.case_id = (await take_in(unit, [facts], rules, now, who)).get(item.decision_id)
    item.lease_ref, item.lease_expire_time = "", None
    item.done = labels >= rules.review_labels
    await unit.reviews.update(item)
    if item.done:
        await _put_away(unit, item, now)
    return item.case_id or ""


async def _put_away(unit: Unit, item: ReviewItem, now: datetime) -> None:
    """The crops have served. Evidence keeps the rest; without a case nothing is kept."""
    stored = (await unit.evidence.captures([item.decision_id])).get(item.decision_id)
    if item.case_id is None:
        await unit.remind(RELEASE, {item.decision_id: (now, "")})
    elif stored is not None and stored.content:
        capture = Capture.FromString(stored.content)
        capture.ClearField("candidate_crop")
        capture.ClearField("template_crop")
        content = capture.SerializeToString(deterministic=True)
        await unit.evidence.trim(item.subscriber_id, item.decision_id, content)


async def show(
    units: Units, captures: Captures, items: Sequence[ReviewItem], now: datetime, who: Who
) -> Mapping[str, bytes]:
    """Decision → serialised Capture with crops, for leased items. The detector is asked once per decision, and
    that reading is recorded too; what it no longer has is left out.
    """
    async with units() as unit:
        stored = await unit.evidence.captures([item.decision_id for item in items])
    shown = {decision_id: capture.content for decision_id, capture in stored.items()}
    for item in items:
        if item.decision_id not in shown:
            content = await captures.fetch(item.decision_id, PURPOSE_REVIEW)
            shown[item.decision_id] = content or b""
            if content:
                async with units() as unit:
                    await _keep(unit, item, content, now, who)
    return shown


async def _keep(unit: Unit, item: ReviewItem, content: bytes, now: datetime, who: Who) -> None:
    await unit.evidence.keep(item.subscriber_id, item.decision_id, content, PURPOSE_REVIEW, now)
    record = records.access("GetCapture", "capture", item.decision_id, now, who)
    record.decision_id = item.decision_id
    unit.record(item.subscriber_id, record)


async def release(units: Units, captures: Captures, decision_id: str) -> None:
    """Nobody needs this capture: the detector's copy goes, then ours."""
    await captures.release(decision_id, PURPOSE_REVIEW)
    async with units() as unit:
        await unit.evidence.forget(decision_id)
