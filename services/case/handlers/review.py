"""How do people decide what the detector could not, and how do they label what the gates judge by?

Both are review items that look alike: who labels sees neither what a machine decided nor what others said, and cannot
tell an item of a frozen sample from one of the review band. Two people label, a third decides where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from misuse.common.v1.access_pb2 import PURPOSE_REVIEW
from misuse.detector.v1.events_pb2 import MatchFacts
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case import records
from services.case.domain.cases import MOVES
from services.case.domain.incidents import Facts
from services.case.domain.reviewing import DECIDING, agreed
from services.case.domain.rules import Rules
from services.case.domain.words import Band, CaseState, Label, Resolution, SubscriberState, Verdict
from services.case.handlers.cases import finish, lock_root
from services.case.handlers.intake import processed, take_in
from services.case.ports import RELEASE, REVIEW_DUE, Captures, ReviewItem, Unit, Units, Who
from services.case.translate import facts_of
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger

log = logger(__name__)

_WORDS = {Verdict.ME: Label.MATCH, Verdict.NOT_ME: Label.NO_MATCH}
_AT_ONCE = 1000
"""Items in one round of statements."""


async def ask_people(unit: Unit, asked: Sequence[tuple[Facts, bytes]], rules: Rules, now: datetime) -> None:
    """Makes an item of each decision that a person must take: no case and no notice until then."""
    active, _ = await processed(unit, [facts for facts, _ in asked], now)
    known = {facts.decision_id: facts for facts in active}
    due_time = now + rules.review_due
    items = {
        facts.decision_id: ReviewItem(
            uuid7(), facts.decision_id, facts.subscriber_id, content, now, due_time=due_time
        )
        for facts, content in asked
        if facts.decision_id in known
    }
    added = await unit.reviews.add(list(items.values()))
    await unit.remind(REVIEW_DUE, {item.review_item_id: (due_time, "") for item in added})
    for item in added:
        facts = known[item.decision_id]
        record = records.review_opened(item.review_item_id, facts, now)
        unit.record(facts.subscriber_id, record, facts.traceparent)


async def take_sample(
    unit: Unit, sample_id: str, decision_ids: Sequence[str], rules: Rules, now: datetime
) -> None:
    """Makes an item of each decision of a frozen sample; a repeat changes nothing. What has no case any more cannot be
    labelled, and the record says so.
    """
    due_time = now + rules.sample_due
    for start in range(0, len(decision_ids), _AT_ONCE):
        part = decision_ids[start : start + _AT_ONCE]
        links = await unit.cases.linked(part)
        items = [
            ReviewItem(
                uuid7(),
                decision_id,
                links[decision_id].subscriber_id if decision_id in links else "",
                b"",
                now,
                case_id=links[decision_id].root_case_id if decision_id in links else None,
                sample_id=sample_id,
                due_time=due_time,
            )
            for decision_id in part
        ]
        for item in items:
            item.done = item.case_id is None
        added = await unit.reviews.add(items)
        await unit.remind(REVIEW_DUE, {i.review_item_id: (due_time, "") for i in added if not i.done})
        for item in added:
            if item.done:
                unit.record(item.decision_id, records.review(item, "VOID", now, reason="NO_CASE"))


async def lease(unit: Unit, most: int, rules: Rules, now: datetime, who: Who) -> Sequence[ReviewItem]:
    """Leases items to the caller; the reading of each is recorded."""
    items = await unit.reviews.lease(who.ref, most, now, now + rules.review_lease)
    for item in items:
        _looked(unit, "LeaseReviewItems", item, now, who)
    return items


async def look(unit: Unit, item_id: str, now: datetime, who: Who) -> ReviewItem:
    """One item: leased to the caller, or disputed and not labelled by the caller. The reading is recorded. Raises
    NotFound, FailedPrecondition NOT_LEASED or SUBSCRIBER_NOT_PROCESSED.
    """
    item = await _locked(unit, item_id)
    if not _holds(item, who, now):
        if not item.waits_for_a_third or await unit.reviews.labelled(item_id, who.ref):
            raise _not_leased()
        # From here on runs the time that the third person takes.
        item.lease_time = now
        await unit.reviews.update(item)
    await _check_processed(unit, item)
    _looked(unit, "GetReviewItem", item, now, who)
    return item


def _looked(unit: Unit, method: str, item: ReviewItem, now: datetime, who: Who) -> None:
    record = records.access(method, "review_item", item.review_item_id, now, who)
    record.decision_id = item.decision_id
    unit.record(item.subscriber_id, record)


async def label(unit: Unit, item_id: str, said: Label, rules: Rules, now: datetime, who: Who) -> str:
    """Records a blind label. In the review band the first MATCH opens or joins a case. Returns the case for a MATCH,
    else empty: what others said shows in nothing. Raises NotFound, AlreadyExists LABELLED_BEFORE, FailedPrecondition
    NOT_LEASED or SUBSCRIBER_NOT_PROCESSED: the item waits, its word is not lost.
    """
    item = await _locked(unit, item_id)
    if not _holds(item, who, now):
        raise _not_leased()
    await _check_processed(unit, item)
    labels = await unit.reviews.label(item, who.ref, said, now)
    _record_label(unit, "REVIEWER", said, item, rules, now, who)
    if said is Label.MATCH:
        await _open_case(unit, item, rules, now, who)
    item.lease_ref, item.lease_time, item.lease_expire_time = "", None, None
    item.done = len(labels) >= rules.review_labels
    word = agreed(labels) if item.done else None
    if word is not None:
        await _settle(unit, item, word, now)
    elif item.done:
        item.disputed = True
        unit.record(item.subscriber_id, records.review(item, "DISPUTED", now))
    await unit.reviews.update(item)
    return (item.case_id or "") if said is Label.MATCH else ""


async def adjudicate(unit: Unit, item_id: str, said: Label, rules: Rules, now: datetime, who: Who) -> str:
    """A third person decides a disputed item. Returns the case for a MATCH, else empty. Raises NotFound, InvalidInput
    LABEL_UNDECIDED, PermissionDenied LABELLED_BEFORE, FailedPrecondition NOT_DISPUTED or SUBSCRIBER_NOT_PROCESSED.
    """
    if said not in DECIDING:
        violation = ("label", "LABEL_UNDECIDED")
        raise InvalidInput(violation[1], "The third person decides.", violations=[violation])
    item = await _locked(unit, item_id)
    if await unit.reviews.labelled(item_id, who.ref):
        raise PermissionDenied("LABELLED_BEFORE", "The caller has labelled this item before.")
    if not item.waits_for_a_third:
        raise FailedPrecondition(
            "NOT_DISPUTED", "The item waits for no third person.", violations=[("review_item", "NOT_DISPUTED")]
        )
    await _check_processed(unit, item)
    await unit.reviews.label(item, who.ref, said, now)
    _record_label(unit, "ADJUDICATOR", said, item, rules, now, who)
    if said is Label.MATCH:
        await _open_case(unit, item, rules, now, who)
    elif not item.sample_id:
        await _take_back(unit, item, now, who)
    await _settle(unit, item, said, now)
    await unit.reviews.update(item)
    return (item.case_id or "") if said is Label.MATCH else ""


def _record_label(
    unit: Unit, source: str, said: Label, item: ReviewItem, rules: Rules, now: datetime, who: Who
) -> None:
    taken = (now - item.lease_time) // timedelta(milliseconds=1) if item.lease_time else 0
    record = records.item_label(source, said.name, item, rules.labelling_policy, max(0, taken), now, who)
    unit.record(item.subscriber_id, record)


async def _open_case(unit: Unit, item: ReviewItem, rules: Rules, now: datetime, who: Who) -> None:
    """The case of the decision, with the time at which it was discovered; in a sample it is there already."""
    if item.case_id is None:
        facts = facts_of(MatchFacts.FromString(item.facts), Band.REVIEW, "")
        item.case_id = (await take_in(unit, [facts], rules, now, who)).get(item.decision_id)


async def _take_back(unit: Unit, item: ReviewItem, now: datetime, who: Who) -> None:
    """A label alone had opened a case: it is none. Where more was sighted in it, people look at it as a case."""
    if item.case_id is None:
        return
    root = await lock_root(unit, item.case_id)
    if root.sighting_count == 1 and CaseState.CLOSED in MOVES[root.state]:
        await finish(unit, root, Resolution.FALSE_POSITIVE, now, who)


async def _settle(unit: Unit, item: ReviewItem, word: Label, now: datetime) -> None:
    item.outcome = word.value
    await unit.forget_reminders(REVIEW_DUE, [item.review_item_id])
    if not item.sample_id:
        await _put_away(unit, item, now)


async def heard(unit: Unit, root_case_id: str, verdict: Verdict, now: datetime) -> None:
    """The subscriber's own word settles what the review band still asks about their case: nobody need look at it any
    more. Items of samples stay as they are, for their labels judge the machine and not the case.
    """
    word = _WORDS.get(verdict)
    if word is None:
        return
    cases, _ = await unit.cases.tree(root_case_id)
    for item in await unit.reviews.open_in(cases):
        if item.done and not item.disputed:
            continue
        item.done, item.disputed, item.lease_ref, item.lease_expire_time = True, False, "", None
        unit.record(item.subscriber_id, records.review(item, "SETTLED", now, reason=f"SUBSCRIBER_SAID_{verdict.name}"))
        await _settle(unit, item, word, now)
        await unit.reviews.update(item)


async def escalate(unit: Unit, item_id: str, rules: Rules, now: datetime) -> None:
    """Nobody has settled an item in time: it is said so, now and again, until somebody does or nobody can."""
    item = await unit.reviews.lock(item_id)
    if item is None or item.outcome or (item.done and not item.disputed):
        return
    subscriber = await unit.subscribers.get(item.subscriber_id)
    state = subscriber.state if subscriber else SubscriberState.ERASED
    if state in (SubscriberState.LEAVING, SubscriberState.ERASED):
        await _void(unit, item, "SUBSCRIBER_LEFT", now)
        return
    item.escalations += 1
    log.warning("review_item_overdue", review_item_id=item_id, escalations=item.escalations)
    await unit.reviews.update(item)
    reason = "" if state is SubscriberState.ACTIVE else f"SUBSCRIBER_{state.name}"
    unit.record(item.subscriber_id, records.review(item, "ESCALATED", now, reason=reason))
    await unit.remind(REVIEW_DUE, {item_id: (now + rules.escalate_every, "")})


async def _void(unit: Unit, item: ReviewItem, reason: str, now: datetime) -> None:
    """Nobody can label this any more; what people said of it stays in the log."""
    item.done, item.disputed, item.lease_ref, item.lease_expire_time = True, False, "", None
    unit.record(item.subscriber_id, records.review(item, "VOID", now, reason=reason))
    await unit.forget_reminders(REVIEW_DUE, [item.review_item_id])
    await unit.reviews.update(item)
    if not item.sample_id:
        await _put_away(unit, item, now)


async def forget_subscriber(unit: Unit, subscriber_id: str, now: datetime) -> None:
    """Part of an erasure: items about the subscriber go with their labels; of those that were open the record says that
    they can no longer be labelled, so that a sample takes spare items instead.
    """
    while items := await unit.reviews.of_subscriber(subscriber_id, _AT_ONCE):
        for item in items:
            if not item.outcome and not (item.done and not item.disputed):
                unit.record(item.decision_id, records.review(item, "VOID", now, reason="SUBSCRIBER_ERASED"))
            await unit.forget_reminders(REVIEW_DUE, [item.review_item_id])
        await unit.reviews.remove([item.review_item_id for item in items])


async def _locked(unit: Unit, item_id: str) -> ReviewItem:
    item = await unit.reviews.lock(item_id)
    if item is None:
        raise NotFound("REVIEW_ITEM_UNKNOWN", "There is no such review item.")
    return item


def _holds(item: ReviewItem, who: Who, now: datetime) -> bool:
    return item.lease_ref == who.ref and item.lease_expire_time is not None and item.lease_expire_time > now


def _not_leased() -> FailedPrecondition:
    violations = [("review_item", "NOT_LEASED")]
    return FailedPrecondition("NOT_LEASED", "The item is not leased to the caller.", violations=violations)


async def _check_processed(unit: Unit, item: ReviewItem) -> None:
    subscriber = await unit.subscribers.get(item.subscriber_id)
    if subscriber is None or subscriber.state is not SubscriberState.ACTIVE:
        reason = "SUBSCRIBER_NOT_PROCESSED"
        raise FailedPrecondition(reason, "The subscriber is not processed now.", violations=[("subscriber", reason)])


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
    """Item → serialised Capture with crops. In the review band the detector is asked once per decision, and that
    reading is recorded too. For a sample the crop of the reference is asked, and not kept: an item that shows nothing
    any more becomes void and is left out.
    """
    async with units() as unit:
        stored = await unit.evidence.captures([item.decision_id for item in items])
    shown = {}
    for item in items:
        kept = stored[item.decision_id].content if item.decision_id in stored else b""
        if item.sample_id:
            content = await _of_sample(units, captures, item, kept, now, who)
            if not content:
                continue
        else:
            content = kept if item.decision_id in stored else await _of_band(units, captures, item, now, who)
        shown[item.review_item_id] = content
    return shown


async def _of_band(units: Units, captures: Captures, item: ReviewItem, now: datetime, who: Who) -> bytes:
    content = await captures.fetch(item.decision_id, PURPOSE_REVIEW)
    if content:
        async with units() as unit:
            await unit.evidence.keep({item.subscriber_id: {item.decision_id: content}}, PURPOSE_REVIEW, now)
            _record_fetch(unit, item, now, who)
    return content or b""


async def _of_sample(
    units: Units, captures: Captures, item: ReviewItem, kept: bytes, now: datetime, who: Who
) -> bytes:
    fetched = await captures.fetch(item.decision_id, PURPOSE_REVIEW)
    capture = Capture.FromString(kept or fetched or b"")
    if fetched:
        reference = Capture.FromString(fetched)
        capture.template_crop = reference.template_crop
        capture.candidate_crop = capture.candidate_crop or reference.candidate_crop
    visible = capture.redacted_thumbnail or capture.candidate_crop or capture.masked_text
    async with units() as unit:
        if fetched:
            _record_fetch(unit, item, now, who)
        if not visible:
            await _void(unit, await _locked(unit, item.review_item_id), "CONTENT_GONE", now)
    return capture.SerializeToString(deterministic=True) if visible else b""


def _record_fetch(unit: Unit, item: ReviewItem, now: datetime, who: Who) -> None:
    record = records.access("GetCapture", "capture", item.decision_id, now, who)
    record.decision_id = item.decision_id
    unit.record(item.subscriber_id, record)


async def release(units: Units, captures: Captures, decision_id: str) -> None:
    """Nobody needs this capture: the detector's copy goes, then ours."""
    await captures.release([decision_id], PURPOSE_REVIEW)
    async with units() as unit:
        await unit.evidence.forget(decision_id)
