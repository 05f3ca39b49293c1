"""Do people decide blind, in time, and never twice; and do samples for the gates go the same way?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import events_pb2
from misuse.case.v1 import review_service_pb2 as rv
from misuse.case.v1 import subscriber_service_pb2 as sb
from misuse.case.v1.case_pb2 import (
    CASE_STATE_CLOSED,
    RESOLUTION_FALSE_POSITIVE,
    SUBSCRIBER_VERDICT_ME,
    SUBSCRIBER_VERDICT_NOT_ME,
)
from misuse.detector.v1.signal_service_pb2 import Capture
from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import LogRecord
from services.case.handlers import review
from services.chassis.ids import uuid7
from tests.integration.case.world import World, refused

MATCH, NO_MATCH, UNSURE = rv.LABEL_MATCH, rv.LABEL_NO_MATCH, rv.LABEL_UNSURE


async def leased(world: World, name: str) -> list[rv.ReviewItem]:
    request = rv.LeaseReviewItemsRequest(max_items=20)
    return list((await world.reviews.LeaseReviewItems(request, metadata=world.reviewer(name))).items)


async def label(world: World, name: str, item_id: str, said: rv.Label.ValueType, request_id: str = "") -> str:
    request = rv.SubmitLabelRequest(review_item_id=item_id, request_id=request_id or uuid7(), label=said)
    return str((await world.reviews.SubmitLabel(request, metadata=world.reviewer(name))).case_id)


async def adjudicate(world: World, name: str, item_id: str, said: rv.Label.ValueType) -> str:
    request = rv.AdjudicateLabelRequest(review_item_id=item_id, request_id=uuid7(), label=said)
    return str((await world.reviews.AdjudicateLabel(request, metadata=world.reviewer(name))).case_id)


async def disputes(world: World, metadata: Any) -> list[str]:
    request = rv.ListDisagreementsRequest()
    items = (await world.reviews.ListDisagreements(request, metadata=metadata)).items
    assert [b""] * len(items) == [item.candidate_crop for item in items]
    return [item.review_item_id for item in items]


async def disputed(world: World, one: rv.Label.ValueType, other: rv.Label.ValueType) -> str:
    """An item of the review band on which ann and bob differ."""
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    for name, said in (("ann", one), ("bob", other)):
        [item] = await leased(world, name)
        await label(world, name, item.review_item_id, said)
    return item.review_item_id


async def bodies(world: World, kind: str) -> list[LogRecord]:
    return [record for record in await world.records() if record.WhichOneof("body") == kind]


async def actions(world: World) -> list[tuple[str, str]]:
    return [(r.review_log.action, r.review_log.reason) for r in await bodies(world, "review_log")]


async def only_case(world: World) -> Any:
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    return case


# --- blind ---


async def test_the_second_labeller_learns_nothing_of_the_first(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    [first] = await leased(world, "ann")
    assert await label(world, "ann", first.review_item_id, MATCH) == (await only_case(world)).case_id
    [second] = await leased(world, "bob")
    for item in (first, second):
        item.ClearField("lease_expire_time")
    assert first == second
    assert "" == await label(world, "bob", second.review_item_id, NO_MATCH)


async def test_the_same_request_labels_once_and_answers_the_same(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    [item] = await leased(world, "ann")
    said = [await label(world, "ann", item.review_item_id, MATCH, "r") for _ in range(2)]
    assert said[0] == said[1] != ""
    assert 1 == len(await bodies(world, "label_log"))


async def test_nobody_gets_an_item_twice_and_an_expired_lease_goes_to_another(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    [item] = await leased(world, "ann")
    assert [] == await leased(world, "bob")
    world.clock.advance(timedelta(minutes=31))
    assert [item.review_item_id] == [each.review_item_id for each in await leased(world, "bob")]
    with refused("NOT_LEASED"):
        await label(world, "ann", item.review_item_id, MATCH)
    await label(world, "bob", item.review_item_id, UNSURE)
    assert [] == await leased(world, "bob")
    with refused("NOT_LEASED"):
        await label(world, "bob", item.review_item_id, MATCH)


async def test_a_label_says_how_long_it_took_and_by_which_policy(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    world.clock.advance(timedelta(minutes=10))
    [item] = await leased(world, "ann")
    world.clock.advance(timedelta(seconds=40))
    await leased(world, "ann")
    world.clock.advance(timedelta(seconds=2))
    await label(world, "ann", item.review_item_id, MATCH)
    [record] = await bodies(world, "label_log")
    found = record.label_log
    assert (42_000, 642_000, "labelling-1") == (found.review_ms, found.wait_ms, found.policy_version)
    assert (item.review_item_id, item.decision_id, "") == (found.review_item_id, record.decision_id, found.sample_id)


async def test_every_look_is_on_record_and_nobody_looks_at_what_others_hold(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    [item] = await leased(world, "ann")
    request = rv.GetReviewItemRequest(review_item_id=item.review_item_id)
    shown = (await world.reviews.GetReviewItem(request, metadata=world.reviewer("ann"))).item
    assert (b"\xff\xd8candidate", b"\xff\xd8template", b"\xff\xd8thumbnail") == (
        shown.candidate_crop, shown.template_crop, shown.redacted_thumbnail,
    )  # fmt: skip
    with refused("NOT_LEASED"):
        await world.reviews.GetReviewItem(request, metadata=world.reviewer("bob"))
    looks = [(r.access_log.method, len(r.actor_ref)) for r in await bodies(world, "access_log")]
    assert [("LeaseReviewItems", 16), ("GetCapture", 16), ("GetReviewItem", 16)] == looks


async def test_two_who_lease_at_once_never_hold_the_same_item(world: World) -> None:
    person = await world.person()
    await world.ask(*(world.facts(person, cluster_id=f"c{number}") for number in range(30)))
    ann, bob = await asyncio.gather(leased(world, "ann"), leased(world, "bob"))
    held = [item.review_item_id for item in (*ann, *bob)]
    assert len(held) == len(set(held)) >= 20
    again = await leased(world, "ann")
    assert {item.review_item_id for item in ann} <= {item.review_item_id for item in again}


# --- a third person ---


async def test_a_third_person_decides_and_no_labeller_may(world: World) -> None:
    item_id = await disputed(world, MATCH, NO_MATCH)
    assert ("DISPUTED", "") in await actions(world)
    assert [[], []] == [await disputes(world, world.reviewer(name)) for name in ("ann", "bob")]
    assert [[item_id]] * 2 == [await disputes(world, who) for who in (world.reviewer("eve"), world.operator_reviews)]
    for name in ("ann", "bob"):
        with refused("LABELLED_BEFORE"):
            await adjudicate(world, name, item_id, MATCH)
    with refused("LABEL_UNDECIDED"):
        await adjudicate(world, "eve", item_id, UNSURE)
    case_id = await adjudicate(world, "eve", item_id, MATCH)
    assert (await only_case(world)).case_id == case_id
    assert [] == await disputes(world, world.operator_reviews)
    with refused("NOT_DISPUTED"):
        await adjudicate(world, "joe", item_id, NO_MATCH)
    sources = [record.label_log.source for record in await bodies(world, "label_log")]
    assert ["REVIEWER", "REVIEWER", "ADJUDICATOR"] == sources


async def test_a_third_person_who_denies_takes_back_the_case_that_one_label_had_opened(world: World) -> None:
    item_id = await disputed(world, MATCH, NO_MATCH)
    await adjudicate(world, "eve", item_id, NO_MATCH)
    case = await only_case(world)
    assert (CASE_STATE_CLOSED, RESOLUTION_FALSE_POSITIVE) == (case.state, case.resolution)


async def test_a_case_with_more_in_it_stays_open_whatever_the_third_person_says(world: World) -> None:
    item_id = await disputed(world, MATCH, NO_MATCH)
    person = (await only_case(world)).subscriber_id
    await world.match(world.facts(person, cluster_id="c1"))
    await adjudicate(world, "eve", item_id, NO_MATCH)
    assert CASE_STATE_CLOSED != (await only_case(world)).state


async def test_two_who_cannot_tell_are_a_dispute_and_the_case_keeps_the_time_of_discovery(world: World) -> None:
    item_id = await disputed(world, UNSURE, UNSURE)
    assert [] == await world.events(events_pb2.CaseOpened)
    world.clock.advance(timedelta(hours=3))
    request = rv.GetReviewItemRequest(review_item_id=item_id)
    shown = (await world.reviews.GetReviewItem(request, metadata=world.reviewer("eve"))).item
    assert b"\xff\xd8candidate" == shown.candidate_crop
    world.clock.advance(timedelta(seconds=9))
    assert "" != await adjudicate(world, "eve", item_id, MATCH)
    record = (await bodies(world, "label_log"))[-1]
    assert (9_000, 10_809_000) == (record.label_log.review_ms, record.label_log.wait_ms)
    opened = next(r for r in await world.records() if r.case_lifecycle_log.transition == "OPENED")
    assert 10_811_000 == opened.case_lifecycle_log.latency_ms


@pytest.mark.slow
async def test_the_subscribers_own_word_settles_what_people_are_still_asked(world: World) -> None:
    item_id = await disputed(world, MATCH, NO_MATCH)
    case = await only_case(world)
    word = pb.RecordSubscriberVerdictRequest(
        subscriber_id=case.subscriber_id, case_id=case.case_id, request_id="v", verdict=SUBSCRIBER_VERDICT_ME
    )
    await world.cases.RecordSubscriberVerdict(word, metadata=world.subscriber(case.subscriber_id))
    assert [("DISPUTED", ""), ("SETTLED", "SUBSCRIBER_SAID_ME")] == await actions(world)
    assert [] == await disputes(world, world.operator_reviews)
    with refused("NOT_DISPUTED"):
        await adjudicate(world, "eve", item_id, NO_MATCH)
    world.clock.advance(timedelta(days=3))
    await world.work()
    assert 2 == len(await actions(world))


@pytest.mark.slow
async def test_the_subscribers_word_takes_an_item_from_the_desk_and_leaves_samples_alone(world: World) -> None:
    _, _, person = await sampled(world)
    await world.ask(world.facts(person, cluster_id="c1"))
    asked, of_sample = await leased(world, "ann")
    await label(world, "ann", asked.review_item_id, MATCH)
    assert [asked.review_item_id] == [item.review_item_id for item in await leased(world, "bob")]
    case = await only_case(world)
    word = pb.RecordSubscriberVerdictRequest(
        subscriber_id=person, case_id=case.case_id, request_id="v", verdict=SUBSCRIBER_VERDICT_NOT_ME
    )
    await world.cases.RecordSubscriberVerdict(word, metadata=world.subscriber(person))
    with refused("NOT_LEASED"):
        await label(world, "bob", asked.review_item_id, MATCH)
    assert [of_sample.review_item_id] == [item.review_item_id for item in await leased(world, "ann")]


async def test_of_two_third_persons_at_once_one_decides(world: World) -> None:
    item_id = await disputed(world, MATCH, NO_MATCH)
    done = await asyncio.gather(
        adjudicate(world, "eve", item_id, MATCH), adjudicate(world, "joe", item_id, NO_MATCH), return_exceptions=True
    )
    assert 1 == sum(isinstance(each, grpc.aio.AioRpcError) for each in done)
    assert 3 == len(await bodies(world, "label_log"))


# --- deadlines ---


async def test_what_nobody_settles_in_time_is_escalated_again_and_again_and_never_dropped(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    await world.work()
    assert [] == await actions(world)
    for days in (1, 2):
        world.clock.advance(timedelta(days=1))
        await world.work()
        assert [("ESCALATED", "")] * days == await actions(world)
    [record] = [r for r in await bodies(world, "review_log") if r.review_log.escalations == 2]
    assert record.review_log.wait_ms >= timedelta(days=2) // timedelta(milliseconds=1)
    for name in ("ann", "bob"):
        [item] = await leased(world, name)
        await label(world, name, item.review_item_id, NO_MATCH)
    world.clock.advance(timedelta(days=30))
    await world.work()
    assert 2 == len(await actions(world))


@pytest.mark.slow
async def test_whoever_sees_to_deadlines_sees_what_waits_in_the_band_and_in_samples(world: World) -> None:
    await disputed(world, MATCH, NO_MATCH)
    await sampled(world)
    await world.ask(world.facts(await world.person(), cluster_id="c9"))
    world.clock.advance(timedelta(days=1))
    await world.work()
    await leased(world, "joe")
    operator = world.operator_reviews
    queues = (await world.reviews.GetReviewQueue(rv.GetReviewQueueRequest(), metadata=operator)).queues
    assert [("BAND", 1, 1, 1, 2, 1), ("SAMPLES", 1, 1, 0, 0, 0)] == [
        (q.name, q.waiting, q.leased, q.disputed, q.overdue, q.most_escalations) for q in queues
    ]
    assert queues[0].first_due_time.ToDatetime() < queues[1].first_due_time.ToDatetime()


@pytest.mark.slow
async def test_a_dispute_that_nobody_decides_is_escalated_too(world: World) -> None:
    await disputed(world, MATCH, NO_MATCH)
    world.clock.advance(timedelta(days=1))
    await world.work()
    assert [("DISPUTED", ""), ("ESCALATED", "")] == await actions(world)


async def test_an_item_of_somebody_who_has_left_is_void(world: World) -> None:
    person = await world.person()
    facts = world.facts(person, cluster_id="c1")
    await world.ask(facts)
    leave = sb.LeaveServiceRequest(subscriber_id=person, request_id="l")
    await world.people.LeaveService(leave, metadata=world.subscriber(person))
    world.clock.advance(timedelta(days=1))
    await world.work()
    assert [("VOID", "SUBSCRIBER_LEFT")] == await actions(world)
    assert [facts.decision_id] == world.detector.released


# --- samples for the gates ---


async def sampled(world: World, *, more: tuple[str, ...] = ()) -> tuple[str, str, str]:
    """A frozen sample of one alert that became a case: (sample, decision, subscriber)."""
    person, sample_id = await world.person(), uuid7()
    facts = world.facts(person, cluster_id="c1")
    world.detector.captures[facts.decision_id].ClearField("candidate_crop")
    await world.match(facts)
    await world.work()
    frozen = SampleFrozen(sample_id=sample_id, decision_ids=[facts.decision_id, *more])
    await world.feed(frozen, frozen, publisher="gate")
    return sample_id, facts.decision_id, person


async def test_a_sample_is_labelled_by_two_people_and_changes_no_case(world: World) -> None:
    sample_id, decision_id, _ = await sampled(world)
    before = await only_case(world)
    # The evidence has taken the capture over; the crop of the reference alone comes from the detector.
    world.detector.captures[decision_id] = Capture(decision_id=decision_id, template_crop=b"\xff\xd8template")
    for name, said in (("ann", MATCH), ("bob", NO_MATCH)):
        [item] = await leased(world, name)
        assert (decision_id, b"\xff\xd8thumbnail", b"\xff\xd8template") == (
            item.decision_id, item.redacted_thumbnail, item.template_crop,
        )  # fmt: skip
        await label(world, name, item.review_item_id, said)
    assert [] == await leased(world, "eve")
    await adjudicate(world, "eve", item.review_item_id, NO_MATCH)
    assert before == await only_case(world)
    labels = [(r.label_log.sample_id, r.decision_id, r.label_log.verdict) for r in await bodies(world, "label_log")]
    assert [(sample_id, decision_id, word) for word in ("MATCH", "NO_MATCH", "NO_MATCH")] == labels
    assert 1 == len({len(r.actor_ref) for r in await bodies(world, "label_log")})


async def test_an_item_of_a_sample_looks_like_one_of_the_review_band(world: World) -> None:
    await sampled(world)
    await world.ask(world.facts(await world.person(), cluster_id="c2"))
    items = await leased(world, "ann")
    assert 2 == len(items)
    told = [{field.name for field, _ in item.ListFields()} - {"candidate_crop", "template_crop"} for item in items]
    assert told[0] == told[1]
    # A MATCH names the case in both.
    assert all([await label(world, "ann", item.review_item_id, MATCH) for item in items])


async def test_the_review_band_comes_before_samples_that_are_due_later(world: World) -> None:
    _, decision_id, _ = await sampled(world)
    asked = world.facts(await world.person(), cluster_id="c2")
    await world.ask(asked)
    assert [asked.decision_id, decision_id] == [item.decision_id for item in await leased(world, "ann")]


async def test_what_has_no_case_or_shows_nothing_any_more_is_void(world: World) -> None:
    sample_id, decision_id, _ = await sampled(world, more=(uuid7(),))
    assert [("VOID", "NO_CASE")] == await actions(world)
    await world.sql("DELETE FROM capture")
    assert [] == await leased(world, "ann")
    assert [("VOID", "NO_CASE"), ("VOID", "CONTENT_GONE")] == await actions(world)
    found = [(r.review_log.sample_id, r.decision_id) for r in await bodies(world, "review_log")]
    assert (sample_id, decision_id) == found[-1]
    assert [] == await leased(world, "ann")


async def test_an_erasure_takes_items_and_labels_and_says_what_cannot_be_labelled(world: World) -> None:
    _, _, person = await sampled(world)
    [item] = await leased(world, "ann")
    await label(world, "ann", item.review_item_id, MATCH)
    async with world.service.units() as unit:
        await review.forget_subscriber(unit, person, world.clock.now())
    assert [("VOID", "SUBSCRIBER_ERASED")] == await actions(world)
    counts = "SELECT (SELECT count(*) FROM review_item), (SELECT count(*) FROM review_label)"
    assert [(0, 0)] == await world.sql(counts)
    world.clock.advance(timedelta(days=30))
    await world.work()
    assert 1 == len(await actions(world))


async def test_an_alert_may_stand_in_two_samples(world: World) -> None:
    _, decision_id, _ = await sampled(world)
    await world.feed(SampleFrozen(sample_id=uuid7(), decision_ids=[decision_id]), publisher="gate")
    assert [decision_id] * 2 == [item.decision_id for item in await leased(world, "ann")]
