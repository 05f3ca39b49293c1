"""Do subscribers, reviewers, operators and platforms move things as the contract says?"""

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
from misuse.case.v1.case_pb2 import SUBSCRIBER_VERDICT_ME, CaseState, Resolution
from misuse.common.v1.access_pb2 import (
    PURPOSE_ENROLMENT,
    PURPOSE_PROTECTION,
    PURPOSE_RIGHTS,
    ROLE_APP_BACKEND,
    ROLE_PRIVACY_OFFICER,
    ROLE_SUBSCRIBER,
)
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE
from misuse.removal.v1 import events_pb2 as removal
from misuse.removal.v1.removal_service_pb2 import RemovalState
from services.chassis.errors import NotFound
from services.chassis.ids import uuid7
from tests.integration.case.world import Metadata, World, refused


async def only(world: World) -> Any:
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    return case


# --- subscribers ---


async def test_registering_twice_with_one_request_id_makes_one_subscriber(world: World) -> None:
    one, again = await world.person(request_id="r1"), await world.person(request_id="r1")
    assert one == again
    assert ["subscriber_registered"] == await world.events()
    with refused("REQUEST_ID_REUSED"):
        await world.person(request_id="r1", display_name="Somebody Else")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"display_name": ""}, "NAME_MALFORMED"),
        ({"display_name": "x" * 129}, "NAME_MALFORMED"),
        ({"contact_email": "no mail"}, "EMAIL_MALFORMED"),
        ({"language": "de"}, "LANGUAGE_UNKNOWN"),
        ({"birth_year": 1800}, "BIRTH_YEAR_OUT_OF_RANGE"),
        ({"birth_year": 2015}, "GUARDIAN_REQUIRED"),
        ({"request_id": ""}, "REQUEST_ID_MISSING"),
    ],
)
async def test_a_bad_registration_is_refused(world: World, values: dict[str, Any], reason: str) -> None:
    with refused(reason):
        await world.person(**values)


async def test_reading_a_subscriber_shows_the_profile_and_leaves_a_record(world: World) -> None:
    person = await world.person(birth_year=2015, guardian_name="김부모")
    request = sb.GetSubscriberRequest(subscriber_id=person)
    shown = (await world.people.GetSubscriber(request, metadata=world.subscriber(person))).subscriber
    assert ("김하나", "ko", True) == (shown.display_name, shown.language, shown.minor)
    registered, record = await world.records()
    assert "GetSubscriber" == record.access_log.method
    assert person not in str(record)
    assert registered.entity_id == record.entity_id
    with refused("NOT_OWN_SUBJECT"):
        await world.people.GetSubscriber(request, metadata=world.subscriber(await world.person()))


async def test_of_profiles_that_are_read_together_each_reading_has_its_own_right_name_and_purpose(world: World) -> None:
    mine, other = [await world.person() for _ in range(2)]
    callers = {
        (ROLE_SUBSCRIBER, PURPOSE_PROTECTION): mine,
        (ROLE_APP_BACKEND, PURPOSE_ENROLMENT): "app",
        (ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS): "officer-1",
    }
    tokens = [world.signed(*standing, name) for standing, name in callers.items()]

    async def read(person: str, token: Metadata) -> str:
        request = sb.GetSubscriberRequest(subscriber_id=person)
        return (await world.people.GetSubscriber(request, metadata=token)).subscriber.subscriber_id

    calls = [read(mine, world.subscriber(other)), read(uuid7(), tokens[1]), *(read(mine, token) for token in tokens)]
    foreign, unknown, *found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(foreign, grpc.aio.AioRpcError)
    assert isinstance(unknown, grpc.aio.AioRpcError)
    assert [mine] * 3 == found
    read_by = [r for r in await world.records() if r.access_log.method == "GetSubscriber"]
    assert set(callers) == {(record.actor_role, record.purpose) for record in read_by}
    assert 3 == len(read_by) == len({record.actor_ref for record in read_by})


async def test_every_change_of_a_subscriber_leaves_a_record_without_the_id(world: World) -> None:
    person = await world.person()
    mine = world.subscriber(person)
    for _ in range(2):
        await world.people.SuspendSubscriber(sb.SuspendSubscriberRequest(subscriber_id=person), metadata=mine)
    await world.people.ResumeSubscriber(sb.ResumeSubscriberRequest(subscriber_id=person), metadata=mine)
    await world.people.LeaveService(sb.LeaveServiceRequest(subscriber_id=person, request_id="l"), metadata=mine)
    found = [record for record in await world.records() if record.WhichOneof("body") == "subscriber_log"]
    assert ["REGISTERED", "SUSPENDED", "RESUMED", "LEFT"] == [r.subscriber_log.transition for r in found]
    assert [1, 2, 3, 4] == [record.entity_version for record in found]
    assert {("subscriber", 16)} == {(record.entity, len(record.entity_id)) for record in found}
    assert 1 == len({record.entity_id for record in found})
    assert not [record for record in found if person in str(record)]


async def test_consents_are_a_ledger(world: World) -> None:
    person = await world.person()
    give = sb.RecordConsentRequest(subscriber_id=person, scope=sb.CONSENT_SCOPE_REMOVAL, text_version="1")
    for request_id in ("a", "b"):
        give.request_id = request_id
        await world.people.RecordConsent(give, metadata=world.subscriber(person))
    take = sb.WithdrawConsentRequest(subscriber_id=person, scope=sb.CONSENT_SCOPE_REMOVAL)
    for _ in range(2):
        withdrawn = await world.people.WithdrawConsent(take, metadata=world.subscriber(person))
        assert withdrawn.consent.HasField("withdraw_time")
    give.request_id = "c"
    await world.people.RecordConsent(give, metadata=world.subscriber(person))
    asked = sb.ListConsentsRequest(subscriber_id=person)
    found = (await world.people.ListConsents(asked, metadata=world.subscriber(person))).consents
    assert [True, False] == [consent.HasField("withdraw_time") for consent in found]
    assert ["consent_recorded", "consent_withdrawn", "consent_recorded"] == (await world.events())[1:]


async def test_leaving_ends_every_consent(world: World) -> None:
    person = await world.person()
    for scope in (sb.CONSENT_SCOPE_SERVICE, sb.CONSENT_SCOPE_MARKETING):
        request = sb.RecordConsentRequest(
            subscriber_id=person, request_id=uuid7(), scope=scope, text_version="1"
        )
        await world.people.RecordConsent(request, metadata=world.subscriber(person))
    leave = sb.LeaveServiceRequest(subscriber_id=person, request_id="l")
    left = await world.people.LeaveService(leave, metadata=world.subscriber(person))
    assert sb.SUBSCRIBER_STATE_LEAVING == left.subscriber.state
    assert 2 == len(await world.events(events_pb2.ConsentWithdrawn))
    with refused("SUBSCRIBER_HAS_LEFT"):
        await world.people.ResumeSubscriber(
            sb.ResumeSubscriberRequest(subscriber_id=person), metadata=world.subscriber(person)
        )


async def test_withdrawing_the_service_ends_what_stands_on_it_and_not_marketing(world: World) -> None:
    person = await world.person()
    scopes = [scope for scope in sb.ConsentScope.values() if scope]
    for scope in scopes:
        give = sb.RecordConsentRequest(subscriber_id=person, request_id=uuid7(), scope=scope, text_version="1")
        await world.people.RecordConsent(give, metadata=world.subscriber(person))
    take = sb.WithdrawConsentRequest(subscriber_id=person, scope=sb.CONSENT_SCOPE_SERVICE)
    answer = await world.people.WithdrawConsent(take, metadata=world.subscriber(person))
    assert sb.CONSENT_SCOPE_SERVICE == answer.consent.scope
    asked = sb.ListConsentsRequest(subscriber_id=person)
    found = (await world.people.ListConsents(asked, metadata=world.subscriber(person))).consents
    assert [sb.CONSENT_SCOPE_MARKETING] == [c.scope for c in found if not c.HasField("withdraw_time")]
    assert len(scopes) - 1 == len(await world.events(events_pb2.ConsentWithdrawn))


async def test_facts_of_nobody_are_rejected(world: World) -> None:
    with pytest.raises(NotFound):
        await world.match(world.facts(uuid7(), cluster_id="c1"))


# --- cases ---


async def test_another_subscribers_case_is_not_found(world: World) -> None:
    person, other = await world.person(), await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    case_id = (await only(world)).case_id
    with refused("CASE_UNKNOWN"):
        await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.subscriber(other))
    word = pb.RecordSubscriberVerdictRequest(
        subscriber_id=other, case_id=case_id, request_id="v", verdict=SUBSCRIBER_VERDICT_ME
    )
    with refused("CASE_UNKNOWN"):
        await world.cases.RecordSubscriberVerdict(word, metadata=world.subscriber(other))


async def test_closing_is_refused_twice_and_for_an_old_version(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1"))
    case = await only(world)

    def close(request_id: str, version: int = 0, resolution: int = 1) -> Any:
        request = pb.CloseCaseRequest(
            case_id=case.case_id, request_id=request_id, version=version, resolution=resolution  # type: ignore[arg-type] # a number on purpose
        )
        return world.cases.CloseCase(request, metadata=world.operator)

    with refused("VERSION_CHANGED"):
        await close("a", case.version + 1)
    with refused("FIELD_MISSING"):
        await close("b", resolution=0)
    with refused("ENUM_UNKNOWN"):
        await close("c", resolution=99)
    await close("d", case.version)
    await close("d", case.version)
    with refused("ILLEGAL_TRANSITION"):
        await close("e")
    assert 1 == len(await world.events(events_pb2.CaseClosed))


async def by_kind(world: World) -> list[Any]:
    request = pb.ListCasesRequest(kind=CASE_KIND_FACE, channel_group="SNS_GLOBAL")
    return list((await world.cases.ListCases(request, metadata=world.operator)).cases)


async def test_cases_are_listed_in_pages(world: World) -> None:
    person = await world.person()
    await world.match(*(world.facts(person, cluster_id=f"c{n}") for n in range(5)))
    request, seen = pb.ListCasesRequest(page_size=2), list[str]()
    for _ in range(3):
        answer = await world.cases.ListCases(request, metadata=world.operator)
        seen += [case.case_id for case in answer.cases]
        request.page_token = answer.next_page_token
    assert (5, "") == (len(set(seen)), request.page_token)
    assert sorted(seen, reverse=True) == seen
    assert 5 == len(await by_kind(world))
    assert 0 == len(
        (await world.cases.ListCases(pb.ListCasesRequest(channel_group="X"), metadata=world.operator)).cases
    )


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"page_token": "!"}, "BAD_PAGE_TOKEN"),
        ({"page_token": "MjAyNi0wMy0wMiAA"}, "BAD_PAGE_TOKEN"),
        ({"page_size": -1}, "PAGE_SIZE_NEGATIVE"),
        ({"states": [99]}, "ENUM_UNKNOWN"),
        ({"channel_group": "a\0b"}, "CHANNEL_GROUP_MALFORMED"),
        ({"decision_id": "no id"}, "ID_MALFORMED"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(world: World, wanted: dict[str, Any], reason: str) -> None:
    with refused(reason):
        await world.cases.ListCases(pb.ListCasesRequest(**wanted), metadata=world.operator)


# --- platforms ---


async def test_a_case_follows_its_removal_requests_and_closes_by_itself(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1"))
    await world.work()
    case_id, one, other = (await only(world)).case_id, uuid7(), uuid7()

    async def moved(kind: Any, request_id: str, state: RemovalState.ValueType) -> str:
        facts = removal.RemovalFacts(removal_request_id=request_id, case_ids=[case_id], state=state)
        await world.feed(kind(facts=facts), publisher="removal")
        return CaseState.Name((await only(world)).state).removeprefix("CASE_STATE_")

    submitted, received = RemovalState.REMOVAL_STATE_SUBMITTED, RemovalState.REMOVAL_STATE_RECEIVED
    assert "WAITING_PLATFORM" == await moved(removal.RemovalSubmitted, one, submitted)
    assert "WAITING_PLATFORM" == await moved(removal.RemovalReceived, other, received)
    removed, rejected = RemovalState.REMOVAL_STATE_REMOVED, RemovalState.REMOVAL_STATE_REJECTED
    assert "WAITING_PLATFORM" == await moved(removal.RemovalCompleted, one, removed)
    assert "ACTION_STARTED" == await moved(removal.RemovalRejected, other, rejected)
    withdrawn = RemovalState.REMOVAL_STATE_WITHDRAWN
    assert "RESOLVED" == await moved(removal.RemovalWithdrawn, other, withdrawn)
    case = await only(world)
    assert {one, other} == set(case.removal_request_ids)
    assert case.HasField("due_time")
    world.clock.advance(timedelta(days=8))
    await world.work()
    [closed] = await world.events(events_pb2.CaseClosed)
    assert Resolution.RESOLUTION_REMOVED == closed.resolution


async def test_content_that_reappears_opens_a_closed_case(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1"))
    await world.work()
    case_id = (await only(world)).case_id

    def facts(state: str) -> removal.RemovalFacts:
        number = RemovalState.Value(f"REMOVAL_STATE_{state}")
        return removal.RemovalFacts(removal_request_id=uuid7(), case_ids=[case_id], state=number)

    await world.feed(removal.RemovalCompleted(facts=facts("REMOVED")), publisher="removal")
    world.clock.advance(timedelta(days=8))
    await world.work()
    assert CaseState.CASE_STATE_CLOSED == (await only(world)).state
    await world.feed(removal.ContentReappeared(facts=facts("DRAFT")), publisher="removal")
    assert CaseState.CASE_STATE_ACTION_STARTED == (await only(world)).state
    [reopened] = await world.events(events_pb2.CaseReopened)
    assert "CONTENT_REAPPEARED" == reopened.reason


# --- review ---


async def leased(world: World, name: str) -> list[rv.ReviewItem]:
    request = rv.LeaseReviewItemsRequest(max_items=20)
    return list((await world.reviews.LeaseReviewItems(request, metadata=world.reviewer(name))).items)


def label(world: World, name: str, item_id: str, said: rv.Label.ValueType) -> Any:
    request = rv.SubmitLabelRequest(review_item_id=item_id, request_id=uuid7(), label=said)
    return world.reviews.SubmitLabel(request, metadata=world.reviewer(name))


async def test_a_reviewers_match_opens_a_case_with_the_human_wait(world: World) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.ask(facts, facts)
    assert [] == await world.events(events_pb2.CaseOpened)
    [item] = await leased(world, "ann")
    assert (facts.decision_id, b"\xff\xd8candidate", b"\xff\xd8template") == (
        item.decision_id,
        item.candidate_crop,
        item.template_crop,
    )
    assert [] == await leased(world, "bob")
    world.clock.advance(timedelta(minutes=5))
    case_id = (await label(world, "ann", item.review_item_id, rv.LABEL_MATCH)).case_id
    assert (await only(world)).case_id == case_id
    [second] = await leased(world, "bob")
    assert "" == (await label(world, "bob", second.review_item_id, rv.LABEL_NO_MATCH)).case_id
    assert [] == await leased(world, "ann")
    assert ["REVIEW_OPENED", "OPENED"] == await world.transitions()
    opened = next(r for r in await world.records() if r.case_lifecycle_log.transition == "OPENED")
    assert (2, 302_000) == (opened.case_lifecycle_log.band, opened.case_lifecycle_log.latency_ms)
    await world.work()
    assert 1 == len(await world.events(events_pb2.EvidencePacked))


async def test_a_no_of_all_reviewers_leaves_nothing_behind(world: World) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.ask(facts)
    for name in ("ann", "bob"):
        [item] = await leased(world, name)
        await label(world, name, item.review_item_id, rv.LABEL_NO_MATCH)
    await world.work()
    assert ([facts.decision_id], []) == (world.detector.released, await world.sql("SELECT 1 FROM capture"))
    assert [] == await world.events(events_pb2.CaseOpened)


async def test_only_who_leased_an_item_may_label_it(world: World) -> None:
    await world.ask(world.facts(await world.person(), cluster_id="c1"))
    [item] = await leased(world, "ann")
    with refused("NOT_LEASED"):
        await label(world, "bob", item.review_item_id, rv.LABEL_MATCH)
    world.clock.advance(timedelta(hours=1))
    with refused("NOT_LEASED"):
        await label(world, "ann", item.review_item_id, rv.LABEL_MATCH)
    assert [item.review_item_id] == [i.review_item_id for i in await leased(world, "bob")]


async def test_reviewers_neither_see_nor_decide_while_the_subscriber_is_suspended(world: World) -> None:
    person = await world.person()
    await world.ask(world.facts(person, cluster_id="c1"))
    [item] = await leased(world, "ann")
    suspend = sb.SuspendSubscriberRequest(subscriber_id=person)
    await world.people.SuspendSubscriber(suspend, metadata=world.subscriber(person))
    assert [] == await leased(world, "ann")
    with refused("SUBSCRIBER_NOT_PROCESSED"):
        await label(world, "ann", item.review_item_id, rv.LABEL_MATCH)
    resume = sb.ResumeSubscriberRequest(subscriber_id=person)
    await world.people.ResumeSubscriber(resume, metadata=world.subscriber(person))
    assert (await label(world, "ann", item.review_item_id, rv.LABEL_MATCH)).case_id
