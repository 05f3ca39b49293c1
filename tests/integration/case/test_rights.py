"""Is every request about one's own data taken, told of, answered by law, and counted in time or late?"""

from __future__ import annotations

from datetime import timedelta

import pytest

from misuse.case.v1 import events_pb2, privacy_service_pb2_grpc
from misuse.case.v1 import privacy_service_pb2 as pb
from misuse.case.v1 import subscriber_service_pb2 as sb
from misuse.common.v1.access_pb2 import PURPOSE_RIGHTS, ROLE_PRIVACY_OFFICER
from services.chassis.ids import uuid7
from services.gate.adapters.operations import rights_step
from services.gate.adapters.rules import load_gates
from services.gate.domain.rights import rights_in_time
from tests.integration.case.rights_world import (
    ask,
    backend,
    document,
    extend,
    fulfil,
    herself,
    listed,
    moves,
    officer,
    privacy,
    purges,
    reject,
    show,
)
from tests.integration.case.test_access_log import keep, noting, told
from tests.integration.case.test_erasure import OTHERS, answer, busy, naming
from tests.integration.case.world import URL, World, refused

WORDS = "제 전화번호가 틀렸어요 010-1234-5678"
DAY = timedelta(days=1)
BY_LAW = {"ACCESS": 10, "CORRECTION": 10, "DELETION": 10, "SUSPENSION": 10, "EXPLANATION": 30}


async def test_a_request_has_the_deadline_of_the_law_a_receipt_and_a_record(world: World) -> None:
    person = await world.person()
    for kind, days in BY_LAW.items():
        made = await ask(world, person, kind, detail=WORDS)
        assert ("RECEIVED", "SELF", "TOKEN", "") == (made.state, made.requester, made.identity_basis, made.detail)
        assert world.clock.now() + days * DAY == made.due_time.ToDatetime(world.clock.now().tzinfo)
    receipts = await world.events(events_pb2.RightsRequestReceived)
    assert list(BY_LAW) == [event.type for event in receipts]
    assert [(kind, "RECEIVED", "") for kind in BY_LAW] == await moves(world)
    assert not [record for record in await world.records() if person in str(record) or "010-1234" in str(record)]


async def test_the_same_request_sent_twice_is_one(world: World) -> None:
    person, request_id = await world.person(), uuid7()
    first = await ask(world, person, "ACCESS", request_id=request_id)
    assert first == await ask(world, person, "ACCESS", request_id=request_id)
    with refused("REQUEST_ID_REUSED"):
        await ask(world, person, "DELETION", request_id=request_id)
    assert 1 == len(await listed(world))


async def test_what_was_said_is_sealed_and_shown_to_the_person_and_the_officer_alone(world: World) -> None:
    person, other = await world.person(), await world.person()
    made = await ask(world, person, "CORRECTION", detail=WORDS)
    assert {} == await naming(world, "010-1234-5678")
    for caller in (herself(world, person), officer(world)):
        assert WORDS == (await show(world, made.rights_request_id, caller)).detail
    with refused("RIGHTS_REQUEST_UNKNOWN"):
        await show(world, made.rights_request_id, herself(world, other))
    assert [] == await listed(world, by=herself(world, other))
    assert [""] == [each.detail for each in await listed(world, by=herself(world, person))]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"type": "PORTABILITY"}, "TYPE_UNKNOWN"),
        ({"requester": "AGENT", "document_sha256": bytes(32)}, "REQUESTER_UNKNOWN"),
        ({"identity_basis": "IN_PERSON"}, "IDENTITY_UNPROVED"),
        ({"document_sha256": bytes(32)}, "DOCUMENT_MALFORMED"),
        ({"detail": "x" * 2_001}, "DETAIL_MALFORMED"),
        ({"detail": "\x00"}, "DETAIL_MALFORMED"),
    ],
)
async def test_what_a_subscriber_cannot_say_is_refused(world: World, values: dict[str, object], reason: str) -> None:
    person = await world.person()
    with refused(reason):
        await ask(world, person, **{"kind": str(values.pop("type", "ACCESS"))} | values)


async def test_who_asks_for_somebody_proves_it(world: World) -> None:
    person = await world.person()
    staff = {"by": officer(world), "identity_basis": "ID_DOCUMENT", "reason": "letter of the person"}
    with refused("DOCUMENT_MISSING"):
        await ask(world, person, "ACCESS", **staff, requester="AGENT")
    with refused("DOCUMENT_MALFORMED"):
        await ask(world, person, "ACCESS", **staff, requester="LEGAL_REPRESENTATIVE", document_sha256=b"short")
    with refused("IDENTITY_UNPROVED"):
        await ask(world, person, "ACCESS", by=officer(world), reason="letter")
    with refused("REASON_MALFORMED"):
        await ask(world, person, "ACCESS", by=officer(world), identity_basis="IN_PERSON")
    with refused("IDENTITY_UNPROVED"):
        await ask(world, person, "ACCESS", by=backend(world), identity_basis="IN_PERSON")
    made = await ask(world, person, "ACCESS", **staff, requester="AGENT", document_sha256=bytes(range(32)))
    assert ("AGENT", "ID_DOCUMENT") == (made.requester, made.identity_basis)
    told = await ask(world, person, "ACCESS", by=backend(world), identity_basis="APP_SESSION")
    assert ("SELF", "APP_SESSION") == (told.requester, told.identity_basis)


async def test_the_list_goes_by_deadline_and_knows_states(world: World) -> None:
    person = await world.person()
    late = await ask(world, person, "EXPLANATION")
    world.clock.advance(DAY)
    soon, done = await ask(world, person, "ACCESS"), await ask(world, person, "CORRECTION")
    await reject(world, done.rights_request_id, "NOT_WRONG")

    async def ids(state: str) -> list[str]:
        return [each.rights_request_id for each in await listed(world, state)]

    assert [soon.rights_request_id, late.rights_request_id] == await ids("")
    assert [done.rights_request_id] == await ids("REJECTED")
    assert 3 == len(await ids("ALL"))
    with refused("STATE_UNKNOWN"):
        await listed(world, "OPEN")


async def test_nobody_has_more_requests_open_than_the_rules_allow(world: World) -> None:
    person = await world.person()
    for _ in range(world.service.rights.rules.open_at_most):
        await ask(world, person, "ACCESS")
    with refused("TOO_MANY_OPEN"):
        await ask(world, person, "ACCESS")


async def test_a_refusal_names_a_legal_reason_and_how_to_object(world: World) -> None:
    person = await world.person(language="en")
    made = await ask(world, person, "CORRECTION")
    for reason in ("BECAUSE", "LAW_FORBIDS_ACCESS", "SUBSCRIBER_ERASED", ""):
        with refused("REASON_UNKNOWN"):
            await reject(world, made.rights_request_id, reason)
    shown = await reject(world, made.rights_request_id, "NOT_WRONG", statement="We called you.")
    assert ("REJECTED", "NOT_WRONG", "We looked, and it is not wrong.") == (
        shown.state, shown.reason_code, shown.reason_text,
    )  # fmt: skip
    assert "118" in shown.objection_text
    assert shown == await reject(world, made.rights_request_id, "IDENTITY_UNPROVED")
    assert [("CORRECTION", "RECEIVED", ""), ("CORRECTION", "REJECTED", "NOT_WRONG")] == await moves(world)
    [told] = await world.events(events_pb2.RightsRequestAnswered)
    assert (person, "REJECTED") == (told.subscriber_id, told.state)
    paper = await document(world, made.rights_request_id, herself(world, person))
    assert ("We called you.", "NOT_WRONG", {"ko", "en"}) == (
        paper["statement"], paper["reason"]["code"], set(paper["objection"]),
    )  # fmt: skip
    with refused("ALREADY_REJECTED"):
        await fulfil(world, made.rights_request_id)


async def test_a_deadline_is_put_off_as_often_as_the_law_allows_and_before_it_is_over(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "ACCESS")
    put_off = await extend(world, made.rights_request_id, "UNUSUALLY_MANY")
    assert (20 * DAY, 1) == (
        put_off.due_time.ToDatetime() - put_off.create_time.ToDatetime(), put_off.extensions,
    )  # fmt: skip
    assert put_off == await extend(world, made.rights_request_id, "UNUSUALLY_MANY")
    with refused("NO_EXTENSION_LEFT"):
        await extend(world, made.rights_request_id, "MAINTENANCE", 1)
    never = await ask(world, person, "SUSPENSION")
    with refused("NO_EXTENSION_LEFT"):
        await extend(world, never.rights_request_id, "UNUSUALLY_MANY")
    twice = await ask(world, person, "EXPLANATION")
    await extend(world, twice.rights_request_id, "UNUSUALLY_MANY")
    with refused("CHANGED_MEANWHILE"):
        await extend(world, twice.rights_request_id, "MAINTENANCE")
    await extend(world, twice.rights_request_id, "UNUSUALLY_MANY", 1)
    over = await ask(world, person, "ACCESS")
    world.clock.advance(11 * DAY)
    with refused("TOO_LATE"):
        await extend(world, over.rights_request_id, "UNUSUALLY_MANY")
    assert 3 == len(await world.events(events_pb2.RightsRequestExtended))


async def test_somebody_is_reminded_before_the_deadline_and_again_and_again_after_it(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "ACCESS")
    for _ in range(12):
        await world.work()
        world.clock.advance(DAY)
    actions = [each.rights_follow_log.action for each in await world.records() if each.HasField("rights_follow_log")]
    assert ["REMINDED", "REMINDED", "ESCALATED", "ESCALATED"] == actions
    assert (await show(world, made.rights_request_id)).overdue
    await fulfil(world, made.rights_request_id)
    world.clock.advance(2 * DAY)
    await world.work()
    assert 4 == len([each for each in await world.records() if each.HasField("rights_follow_log")])


@pytest.mark.slow
async def test_an_access_is_answered_with_what_is_held_and_the_answer_is_purged_one_day(world: World) -> None:
    person, case_id = await busy(world)
    made = await ask(world, person, "ACCESS")
    with refused("NOT_ANSWERED"):
        await document(world, made.rights_request_id, herself(world, person))
    shown = await fulfil(world, made.rights_request_id)
    assert ("FULFILLED", True) == (shown.state, shown.answer_kept)
    paper = await document(world, made.rights_request_id, herself(world, person))
    data = paper["data"]
    assert ("김하나", "hana@example.org") == (data["profile"]["display_name"], data["profile"]["contact_email"])
    assert {"SERVICE", "REMOVAL"} == {each["scope"] for each in data["consents"]}
    assert case_id in {each["case_id"] for each in data["cases"]}
    assert 2 == len([each for each in data["found"] if each["case_id"] == case_id])
    places = {(each["url"], each["masked_text"]) for each in data["found"] if each["case_id"] == case_id}
    assert {(URL, "call 010-****-5678")} == places
    assert {"detector", "removal", "notify", "gate"} == {each["service"] for each in paper["held_elsewhere"]}
    assert [] == data["cut"]
    assert {} == await naming(world, "김하나")
    assert [("RIGHTS_ANSWER", "DUE")] == [(each.item_kind, each.state) for each in await _purges_of_answers(world)]
    world.clock.advance(world.service.rights.rules.keep_answer)
    await world.work()
    with refused("ANSWER_PURGED"):
        await document(world, made.rights_request_id, herself(world, person))
    assert [] == await _purges_of_answers(world)


async def _purges_of_answers(world: World) -> list[object]:
    await world.log_own_records()
    return [each for each in await purges(world) if each.item_kind == "RIGHTS_ANSWER"]


async def test_a_long_answer_says_what_it_cuts(world: World) -> None:
    person = await world.person()
    for scope in (sb.CONSENT_SCOPE_SERVICE, sb.CONSENT_SCOPE_REMOVAL):
        consent = sb.RecordConsentRequest(subscriber_id=person, request_id=uuid7(), scope=scope, text_version="1")
        await world.people.RecordConsent(consent, metadata=world.subscriber(person))
    object.__setattr__(world.service.rights.rules, "answer_rows", 1)
    made = await ask(world, person, "ACCESS")
    await fulfil(world, made.rights_request_id)
    paper = await document(world, made.rights_request_id, officer(world))
    assert (1, ["consents"]) == (len(paper["data"]["consents"]), paper["data"]["cut"])


async def test_a_correction_puts_the_right_values_in_place_and_records_which(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "CORRECTION")
    right = [
        {"entry": "DISPLAY_NAME", "content": "김하늘"},
        {"entry": "LANGUAGE", "content": "en"},
        {"entry": "OTHER", "content": "number watched"},
    ]
    for wrong in ([], [right[0], right[0]], [{"entry": "BLOOD", "content": "A"}], [{"entry": "OTHER"}]):
        with refused("CORRECTION_MALFORMED"):
            await fulfil(world, made.rights_request_id, corrections=wrong)
    with refused("EMAIL_MALFORMED"):
        wrong_mail = [{"entry": "CONTACT_EMAIL", "content": "nobody"}]
        await fulfil(world, made.rights_request_id, corrections=wrong_mail)
    await fulfil(world, made.rights_request_id, corrections=right)
    asked = sb.GetSubscriberRequest(subscriber_id=person)
    shown = await world.people.GetSubscriber(asked, metadata=world.signed(ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS))
    assert ("김하늘", "hana@example.org", "en") == (
        shown.subscriber.display_name, shown.subscriber.contact_email, shown.subscriber.language,
    )  # fmt: skip
    follows = [each.rights_follow_log for each in await world.records() if each.HasField("rights_follow_log")]
    assert ["DISPLAY_NAME", "LANGUAGE", "OTHER"] == [each.entry for each in follows]
    paper = await document(world, made.rights_request_id, herself(world, person))
    assert ["DISPLAY_NAME", "LANGUAGE", "OTHER"] == paper["corrected"]
    assert {} == await naming(world, "김하늘")


async def test_a_suspension_stops_processing_at_once(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "SUSPENSION")
    await fulfil(world, made.rights_request_id)
    assert [person] == [event.subscriber_id for event in await world.events(events_pb2.SubscriberSuspended)]
    await fulfil(world, made.rights_request_id)
    again = await ask(world, person, "SUSPENSION")
    assert "FULFILLED" == (await fulfil(world, again.rights_request_id)).state
    assert 1 == len(await world.events(events_pb2.SubscriberSuspended))


async def test_an_explanation_is_given_in_words(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "EXPLANATION")
    with refused("STATEMENT_MALFORMED"):
        await fulfil(world, made.rights_request_id)
    await fulfil(world, made.rights_request_id, statement="Two embedders agreed.")
    paper = await document(world, made.rights_request_id, herself(world, person))
    assert "Two embedders agreed." == paper["statement"]


@pytest.mark.slow
async def test_a_deletion_is_fulfilled_when_nobody_holds_anything_and_its_record_names_nobody(world: World) -> None:
    person, _ = await busy(world)
    seen = await ask(world, person, "ACCESS")
    made = await ask(world, person, "DELETION", detail=WORDS)
    with refused("OTHERS_OPEN"):
        await fulfil(world, made.rights_request_id)
    await fulfil(world, seen.rights_request_id)
    begun = await fulfil(world, made.rights_request_id)
    assert ("RECEIVED", True) == (begun.state, bool(begun.erasure_id))
    with refused("ERASURE_UNDER_WAY"):
        await reject(world, made.rights_request_id, "IDENTITY_UNPROVED")
    left = await ask(world, person, "CORRECTION")
    await world.work()
    await answer(world, person, 1, *OTHERS)
    assert "RECEIVED" == (await show(world, made.rights_request_id)).state
    world.clock.advance(world.service.erasing.rules.settle)
    await world.work()
    await answer(world, person, 2, *OTHERS)
    shown = await show(world, made.rights_request_id)
    assert ("FULFILLED", "", "") == (shown.state, shown.subscriber_id, shown.detail)
    other = await show(world, left.rights_request_id)
    assert ("REJECTED", "SUBSCRIBER_ERASED", False) == (other.state, other.reason_code, other.answer_kept)
    assert {"outbox"} >= (await naming(world, person)).keys()
    with refused("ANSWER_PURGED"):
        await document(world, seen.rights_request_id, officer(world))
    assert {("DELETION", "FULFILLED", ""), ("CORRECTION", "REJECTED", "SUBSCRIBER_ERASED")} <= set(await moves(world))
    await world.log_own_records()
    assert not [each for each in await purges(world) if each.item_kind in ("RIGHTS_ANSWER", "SUBSCRIBER_KEY")]


async def test_the_gate_counts_answers_in_time_late_ones_and_refusals_as_its_rule_says(world: World) -> None:
    person = await world.person()
    begun = world.clock.now()
    in_time, rejected, late, put_off, waiting = [
        (await ask(world, person, kind)).rights_request_id
        for kind in ("ACCESS", "CORRECTION", "SUSPENSION", "ACCESS", "EXPLANATION")
    ]
    await extend(world, put_off, "UNUSUALLY_MANY")
    world.clock.advance(9 * DAY)
    await fulfil(world, in_time)
    await reject(world, rejected, "NOT_WRONG")
    world.clock.advance(2 * DAY)
    await fulfil(world, late)
    await fulfil(world, put_off)
    assert "RECEIVED" == (await show(world, waiting)).state
    steps = [rights_step(each) for each in await world.records() if each.HasField("rights_request_log")]
    kpi = load_gates().kpis["RightsRequestSLAReport_v1"]
    measured = rights_in_time(kpi, steps, begun - DAY, world.clock.now())
    assert {"OPEN_BEFORE_DUE": 1} == {each.name: each.count for each in measured.excluded if each.count}
    shown = {stratum.name: (stratum.size, stratum.value) for stratum in measured.strata}
    assert {"ACCESS": 1.0, "CORRECTION": 1.0, "SUSPENSION": 0.0} == {name: value for name, (_, value) in shown.items()}


async def test_whoever_of_the_staff_reads_a_request_stands_in_the_persons_access_log(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "ACCESS")
    await fulfil(world, made.rights_request_id)
    asked = pb.GetRightsAnswerRequest(rights_request_id=made.rights_request_id, reason="HAND_OVER")
    async with noting(world) as channel:
        stub = privacy_service_pb2_grpc.PrivacyServiceStub(channel)
        for caller in (officer(world), herself(world, person)):
            assert [part async for part in stub.GetRightsAnswer(asked, metadata=caller)]
    await keep(world, *await told(world))
    request = pb.ListAccessLogRequest(subscriber_id=person)
    [read] = (await privacy(world).ListAccessLog(request, metadata=officer(world))).entries
    assert ("officer-1", "HAND_OVER", made.rights_request_id) == (read.actor, read.reason, read.id)


async def test_repeating_a_purge_of_an_answer_records_it_once(world: World) -> None:
    person = await world.person()
    made = await ask(world, person, "SUSPENSION")
    await fulfil(world, made.rights_request_id)
    for _ in range(2):
        await world.service.rights.purge_answer(made.rights_request_id, world.clock.now())
    assert 1 == len([each for each in await world.records() if each.purge_log.item_kind == "RIGHTS_ANSWER"])
