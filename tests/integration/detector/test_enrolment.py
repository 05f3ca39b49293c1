"""How one's own face is enrolled and proved, and how another's is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import grpc.aio
import pytest

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import signal_service_pb2 as signals
from misuse.log.v1.record_pb2 import LabelLog, LogRecord
from services.chassis.bus import Event
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.detector.adapters.enrolled import vectors_from_bytes, vectors_to_bytes
from services.detector.consumer import label_handlers
from services.detector.domain.liveness import Pose
from services.detector.domain.ownership import Challenge, OwnershipState
from tests.integration.detector.conftest import pictures_named
from tests.unit.detector.spoofs import on_paper

VERIFIED, PENDING = enrolment.OWNERSHIP_STATE_VERIFIED, enrolment.OWNERSHIP_STATE_PENDING
SHOWN = (Pose.FRONT, Pose.RIGHT, Pose.UP)
"""What the three pictures of one person show."""


@pytest.fixture(scope="module")
def faces():
    try:
        return dict(
            zip(
                ("front", "right", "up", "other"),
                pictures_named(["obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg"]),
                strict=True,
            )
        )
    except FileNotFoundError:
        pytest.skip("the demo's pictures are not fetched: run `make setup`")


async def reason_of(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return unwrap(refused.value).reason


async def listed(world, who: str) -> list[enrolment.FaceTemplate]:
    request = enrolment.ListFaceTemplatesRequest(subscriber_id=who)
    return list((await world.enrolment.ListFaceTemplates(request, metadata=world.backend)).templates)


async def under_review(world, who: str) -> list[str]:
    request = enrolment.ListFaceTemplatesRequest(subscriber_id=who)
    return list((await world.enrolment.ListFaceTemplates(request, metadata=world.backend)).needs_review_ids)


async def reasons(world) -> list[str]:
    return [record.reason for record in await world.records("ownership_log")]


# --- of what a template is made ---


async def on_device(world, who: str, *pictures: bytes, **changes) -> enrolment.FaceTemplate:
    """Enrols what a device would have made of pictures."""
    made = vectors_from_bytes(world.detector.enrolling.enroller.enrol(pictures).vectors)
    request = enrolment.EnrollFaceRequest(subscriber_id=who, request_id=uuid7(), **changes)
    for model_id, vector in made.items():
        request.device_template.add(model_id=model_id, vector=vector.astype("<f4").tobytes())
    return (await world.enrolment.EnrollFace(request, metadata=world.backend)).template


async def test_a_template_made_on_the_device_matches_like_any_other(world, faces):
    who = await world.register("FACE_TEMPLATE", "TEMPLATE_CROP")
    template = await on_device(world, who, faces["front"])
    made = (template.state, template.source, template.liveness, template.pictures)
    assert (PENDING, enrolment.TEMPLATE_SOURCE_DEVICE, enrolment.LIVENESS_NOT_CHECKED, 0) == made
    await world.prove(who, world.claims(who, template.template_id), face=True)
    await world.submit(world.signal(faces["right"]))
    await world.decide()
    assert [template.template_id] == [facts.template_id for facts in await world.facts()]
    assert 0 == await world.count("face_template WHERE crop IS NOT NULL")


async def test_a_template_made_on_the_device_needs_the_real_name_too(world, faces):
    who = await world.register("FACE_TEMPLATE")
    template = await on_device(world, who, faces["front"])
    claims = world.claims(who, template.template_id, real_name=False)
    assert "REAL_NAME_NOT_PROVED" == await reason_of(world.prove(who, claims, face=True))


async def test_a_template_comes_from_pictures_or_from_the_device(world, faces):
    who = await world.register("FACE_TEMPLATE")
    assert "SOURCE_AMBIGUOUS" == await reason_of(on_device(world, who, faces["front"], pictures=[faces["front"]]))
    assert "SOURCE_AMBIGUOUS" == await reason_of(world.enrol(who))


async def test_how_live_the_pictures_looked_is_recorded_and_listed(world, faces):
    who = await world.register("FACE_TEMPLATE")
    await world.enrol(who, faces["front"])
    await world.enrol(who, on_paper(faces["right"]))
    shown = [each.liveness for each in await listed(world, who)]
    assert [enrolment.LIVENESS_LIVE, enrolment.LIVENESS_DOUBTFUL] == shown
    assert ["LIVENESS_LIVE", "LIVENESS_DOUBTFUL"] == await reasons(world)


# --- challenges ---


async def challenged(world, who: str, template_id: str, poses=SHOWN) -> enrolment.AnswerLivenessChallengeRequest:
    """An answer without pictures to a challenge of these poses."""
    enrolling, now = world.detector.enrolling, world.clock.now()
    asked = Challenge(uuid7(), who, template_id, tuple(poses), now, now + timedelta(minutes=3))
    async with enrolling.begin() as work:
        await work.proving.add_challenge(asked)
    nonce = enrolling.references.challenge(asked.challenge_id)
    return enrolment.AnswerLivenessChallengeRequest(subscriber_id=who, challenge_id=asked.challenge_id, nonce=nonce)


async def answered(world, answer) -> enrolment.AnswerLivenessChallengeResponse:
    return await world.enrolment.AnswerLivenessChallenge(answer, metadata=world.backend, timeout=30)


async def test_a_doubtful_template_is_proved_only_after_its_owner_has_passed_a_challenge(world, faces):
    who = await world.register("FACE_TEMPLATE")
    template = await world.enrol(who, on_paper(faces["right"]))
    claims = world.claims(who, template.template_id)
    assert "LIVENESS_NEEDED" == await reason_of(world.prove(who, claims, face=True))
    answer = await challenged(world, who, template.template_id)
    answer.pictures.extend([faces["front"], faces["right"], faces["up"]])
    assert (True, "") == ((found := await answered(world, answer)).passed, found.reason)
    assert VERIFIED == (await world.prove(who, claims, face=True)).state
    assert [enrolment.LIVENESS_CHALLENGED] == [each.liveness for each in await listed(world, who)]
    assert "CHALLENGE_PASSED" in await reasons(world)


async def test_a_doubtful_template_needs_no_challenge_where_the_provider_saw_the_live_face(world, faces):
    who = await world.register("FACE_TEMPLATE")
    template = await world.enrol(who, on_paper(faces["right"]))
    claims = world.claims(who, template.template_id, live_face=True)
    assert VERIFIED == (await world.prove(who, claims, face=True)).state


async def test_a_challenge_is_answered_once_whatever_comes_later(world, faces):
    who = await world.register("FACE_TEMPLATE")
    template = await world.enrol(who, on_paper(faces["right"]))
    answer = await challenged(world, who, template.template_id)
    answer.pictures.extend([faces["front"], faces["right"], faces["right"]])
    assert "PICTURES_REPEAT" == (await answered(world, answer)).reason
    answer.pictures[2] = faces["up"]
    assert "PICTURES_REPEAT" == (await answered(world, answer)).reason
    assert [enrolment.LIVENESS_DOUBTFUL] == [each.liveness for each in await listed(world, who)]


async def test_a_challenge_needs_its_nonce_its_time_its_owner_and_a_picture_for_each_pose(world, faces):
    who, other = await world.register("FACE_TEMPLATE"), await world.register("FACE_TEMPLATE")
    template = await world.enrol(who, faces["front"])
    answer = await challenged(world, who, template.template_id)
    assert "COUNT" == await reason_of(answered(world, answer))
    stolen = enrolment.AnswerLivenessChallengeRequest.FromString(answer.SerializeToString())
    stolen.subscriber_id = other
    assert "NO_SUCH_CHALLENGE" == await reason_of(answered(world, stolen))
    guessed = enrolment.AnswerLivenessChallengeRequest.FromString(answer.SerializeToString())
    guessed.nonce = bytes(32)
    assert "BAD_NONCE" == await reason_of(answered(world, guessed))
    world.clock.advance(timedelta(minutes=3))
    assert "CHALLENGE_EXPIRED" == await reason_of(answered(world, answer))


async def test_so_many_challenges_are_asked_a_day_and_each_is_another(world, faces, heavy):
    who = await world.register("FACE_TEMPLATE")
    template = await world.enrol(who, faces["front"])

    async def ask(request_id: str = "") -> enrolment.AskLivenessChallengeResponse:
        request = enrolment.AskLivenessChallengeRequest(
            subscriber_id=who, request_id=request_id or uuid7(), template_id=template.template_id
        )
        return await world.enrolment.AskLivenessChallenge(request, metadata=world.backend)

    first = await ask("again")
    assert first == await ask("again")
    rest = [await ask() for _ in range(heavy.rules.ownership.liveness.most_a_day - 1)]
    assert len(rest) + 1 == len({each.nonce for each in (first, *rest)})
    assert "TOO_MANY_CHALLENGES" == await reason_of(ask())
    world.clock.advance(timedelta(days=1, minutes=1))
    await ask()
    world.clock.advance(timedelta(days=1, minutes=4))
    await world.detector.sweeping.sweep()
    assert 0 == await world.count("liveness_challenge")


# --- the same face on two accounts ---


async def twice(world, faces, *scopes: str) -> tuple[str, str, str]:
    """(holder, second subscriber, the second one's template, which is not proved)."""
    holder, second = [await world.register("FACE_TEMPLATE", *scopes) for _ in range(2)]
    await world.enrolled(holder, faces["front"])
    template = await world.enrol(second, faces["right"])
    answer = await world.prove(second, world.claims(second, template.template_id), face=True)
    assert (PENDING, "NEEDS_REVIEW") == (answer.state, answer.reason)
    return holder, second, template.template_id


async def labelled(world, decision_id: str, verdict: str, reviewer: str = "r1", source: str = "REVIEWER") -> None:
    """What a reviewer said in `case`, as its record tells it."""
    log = LabelLog(source=source, verdict=verdict)
    record = LogRecord(record_id=uuid7(), decision_id=decision_id, actor_ref=reviewer, label_log=log)
    detector = world.detector
    handler = label_handlers(detector.resolving, detector.calibrating, detector.store.within)[LogRecord]
    async with world.database.begin() as session:
        await handler(session, [Event("case", 4, 1, uuid7(), "", record)])


async def resolutions(world) -> list[str]:
    """What the records say of it."""
    return [each for each in await reasons(world) if each.startswith(("TOLD_APART", "SAME_PERSON"))]


async def test_reviewers_are_asked_about_the_holder_and_shown_both_crops(world, faces):
    holder, second, _ = await twice(world, faces, "TEMPLATE_CROP")
    [facts] = await world.facts("review_needed")
    assert (holder, common.MATCH_KIND_FACE, "enrolment") == (facts.subscriber_id, facts.kind, facts.channel)
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    capture = (await world.signals.GetCapture(request, metadata=world.case)).capture
    assert (True, True) == (bool(capture.candidate_crop), bool(capture.template_crop))
    assert second.encode() not in capture.SerializeToString()
    assert second.encode() not in facts.SerializeToString()


async def test_without_consent_to_keep_a_crop_reviewers_see_none(world, faces):
    await twice(world, faces)
    [facts] = await world.facts("review_needed")
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    capture = (await world.signals.GetCapture(request, metadata=world.case)).capture
    assert (b"", b"") == (capture.candidate_crop, capture.template_crop)


async def test_people_are_asked_once_however_often_it_is_tried(world, faces):
    holder, second, template_id = await twice(world, faces)
    assert [[], [template_id]] == [await under_review(world, who) for who in (holder, second)]
    await world.prove(second, world.claims(second, template_id), face=True)
    assert 1 == len(await world.facts("review_needed"))


async def test_two_reviewers_who_tell_them_apart_let_the_second_prove_the_face(world, faces):
    _, second, template_id = await twice(world, faces)
    [facts] = await world.facts("review_needed")
    for reviewer, verdict in (("r1", "NO_MATCH"), ("r1", "NO_MATCH"), ("r3", "UNSURE"), ("r2", "NO_MATCH")):
        await labelled(world, facts.decision_id, verdict, reviewer)
    assert ["TOLD_APART_OPEN", "TOLD_APART_OPEN", "TOLD_APART_ADMITTED"] == await resolutions(world)
    await labelled(world, facts.decision_id, "MATCH", "r4")  # too late
    answer = await world.prove(second, world.claims(second, template_id), face=True)
    assert (VERIFIED, 2) == (answer.state, len(world.detector.enrolled))


async def test_an_adjudicator_tells_them_apart_alone(world, faces):
    _, second, template_id = await twice(world, faces)
    [facts] = await world.facts("review_needed")
    await labelled(world, facts.decision_id, "NO_MATCH", "r3", "ADJUDICATOR")
    assert VERIFIED == (await world.prove(second, world.claims(second, template_id), face=True)).state


async def test_one_reviewer_who_says_one_person_ends_it_and_the_holder_keeps_the_face(world, faces):
    holder, second, template_id = await twice(world, faces)
    [facts] = await world.facts("review_needed")
    await labelled(world, facts.decision_id, "MATCH")
    assert ["SAME_PERSON_ELSEWHERE"] == await resolutions(world)
    assert [enrolment.OWNERSHIP_STATE_ERASED] == [each.state for each in await listed(world, second)]
    assert [VERIFIED] == [each.state for each in await listed(world, holder)]
    claims = world.claims(second, template_id)
    assert "NO_SUCH_TARGET" == await reason_of(world.prove(second, claims, face=True))


async def test_labels_of_other_decisions_and_of_subscribers_change_no_template(world, faces):
    _, second, _ = await twice(world, faces)
    [facts] = await world.facts("review_needed")
    await labelled(world, uuid7(), "MATCH")
    await labelled(world, facts.decision_id, "ME", source="SUBSCRIBER")
    await labelled(world, facts.decision_id, "MATCH", source="SUBSCRIBER")
    assert [PENDING] == [each.state for each in await listed(world, second)]


async def test_a_duplicate_is_decided_in_one_place_alone(world):
    request = enrolment.ResolveDuplicateFaceRequest(decision_id=uuid7(), verdict=1)
    metadata = world.metadata("REVIEWER", "REVIEW", "r1")
    assert "DECIDED_BY_LABELS" == await reason_of(world.enrolment.ResolveDuplicateFace(request, metadata=metadata))


async def test_two_accounts_that_prove_one_face_at_the_same_time_do_not_pass_each_other(world, faces):
    people = [await world.register("FACE_TEMPLATE") for _ in range(2)]
    templates = [await world.enrol(who, faces["front"]) for who in people]
    answers = await asyncio.gather(
        *(
            world.prove(who, world.claims(who, template.template_id), face=True)
            for who, template in zip(people, templates, strict=True)
        )
    )
    assert [PENDING, VERIFIED] == sorted(answer.state for answer in answers)


async def test_whose_face_was_proved_by_another_meanwhile_proves_it_again_after_a_suspension(world, faces):
    first, second = await world.register("FACE_TEMPLATE"), await world.register("FACE_TEMPLATE")
    template_id = await world.enrolled(first, faces["front"])
    await world.follow(lambda work: world.detector.following.suspended(work, first))
    await world.enrolled(second, faces["right"])
    await world.follow(lambda work: world.detector.following.resumed(work, first, False))
    assert [enrolment.OWNERSHIP_STATE_EXPIRED] == [each.state for each in await listed(world, first)]
    answer = await world.prove(first, world.claims(first, template_id), face=True)
    assert (enrolment.OWNERSHIP_STATE_EXPIRED, "NEEDS_REVIEW") == (answer.state, answer.reason)


# --- how long a proof holds ---


async def test_what_is_not_proved_in_time_or_not_proved_again_is_erased(world, faces, heavy):
    rules = heavy.rules.ownership
    who = await world.register("FACE_TEMPLATE")
    never = (await world.enrol(who, faces["front"])).template_id
    once = await world.enrolled(who, faces["right"])
    expire = world.detector.enrolling.expire_template
    world.clock.advance(rules.unproved)
    for template_id in (never, once):
        await expire(template_id)
    world.clock.advance(rules.valid["FACE"])
    await expire(once)
    assert ["NEVER_PROVED", "PROOF_RAN_OUT"] == (await reasons(world))[-2:]
    world.clock.advance(rules.lapsed)
    await expire(once)
    assert "NOT_PROVED_AGAIN" == (await reasons(world))[-1]
    assert 0 == await world.count("face_template WHERE vectors IS NOT NULL")
    assert 0 == await world.count("due")


async def test_a_minor_proves_a_face_with_the_guardian_only(world, faces):
    who = await world.register("FACE_TEMPLATE", minor=True)
    template = await world.enrol(who, faces["front"])
    alone = world.claims(who, template.template_id)
    assert "GUARDIAN_NOT_PROVED" == await reason_of(world.prove(who, alone, face=True))
    claims = world.claims(who, template.template_id, guardian=True)
    assert VERIFIED == (await world.prove(who, claims, face=True)).state
    [record] = [each for each in await world.records("ownership_log") if each.to_state == "VERIFIED"]
    assert "POSSESSION_AND_REAL_NAME_AND_GUARDIAN" == record.reason


async def on(world, who: str, device_id: str) -> enrolment.NoteDeviceResponse:
    request = enrolment.NoteDeviceRequest(subscriber_id=who, device_id=device_id)
    return await world.enrolment.NoteDevice(request, metadata=world.backend)


async def test_a_new_device_asks_for_the_face_again_and_a_known_one_does_not(world, faces, heavy):
    who = await world.register("FACE_TEMPLATE")
    template_id = await world.enrolled(who, faces["front"])
    first, known = await on(world, who, "phone"), await on(world, who, "phone")
    assert [(True, []), (False, [])] == [(each.new_device, list(each.prove_again_ids)) for each in (first, known)]
    assert [template_id] == list((await on(world, who, "tablet")).prove_again_ids)
    [shown] = await listed(world, who)
    soon = world.clock.now() + heavy.rules.ownership.new_device
    assert (VERIFIED, soon) == (shown.state, shown.expire_time.ToDatetime(soon.tzinfo))
    world.clock.advance(heavy.rules.ownership.new_device)
    await world.submit(world.signal(faces["right"]))
    await world.decide()
    assert [] == await world.facts()


async def test_a_proof_on_the_new_device_holds_its_full_time_again(world, faces, heavy):
    who = await world.register("FACE_TEMPLATE")
    template_id = await world.enrolled(who, faces["front"])
    await on(world, who, "phone")
    await on(world, who, "tablet")
    claims = world.claims(who, template_id)
    content = claims.SerializeToString()
    request = enrolment.VerifyOwnershipRequest(
        subscriber_id=who,
        template_id=template_id,
        claims=content,
        signature=world.provider.sign(content).signature,
        device_id="tablet",
    )
    answer = await world.enrolment.VerifyOwnership(request, metadata=world.backend)
    full = world.clock.now() + heavy.rules.ownership.valid["FACE"]
    assert full == answer.expire_time.ToDatetime(full.tzinfo)
    # The third device asks again, but not for what was proved on it.
    assert [template_id] == list((await on(world, who, "watch")).prove_again_ids)


# --- a new model ---


async def made_for_an_older_model(world, template_id: str) -> None:
    enrolling = world.detector.enrolling
    async with enrolling.begin() as work:
        held = await work.templates.get(template_id)
        vectors = vectors_from_bytes(enrolling.opened(held.template, "vectors", held.vectors))
        old = vectors_to_bytes({"old-model": vectors[enrolling.enroller.model_id]})
        sealed = enrolling.vault.seal(held.template.subscriber_id, "face_template", template_id, "vectors", old)
        await work.templates.reembed(replace(held.template, model_ids=("old-model",)), sealed)
    await enrolling.feed.refresh()


async def test_a_new_model_embeds_kept_crops_anew_and_asks_the_others_to_enrol_again(world, faces):
    kept, plain = await world.register("FACE_TEMPLATE", "TEMPLATE_CROP"), await world.register("FACE_TEMPLATE")
    one, other = await world.enrolled(kept, faces["front"]), await world.enrolled(plain, faces["other"])
    for template_id in (one, other):
        await made_for_an_older_model(world, template_id)
    assert 1 == await world.detector.reembedding.run()
    assert 0 == await world.detector.reembedding.run()
    await world.submit(world.signal(faces["right"]))
    await world.submit(world.signal(faces["other"]))
    await world.decide()
    assert [one] == [facts.template_id for facts in await world.facts()]
    states = [(await listed(world, who))[0].state for who in (kept, plain)]
    assert [VERIFIED, OwnershipState.EXPIRED] == states
    claims = world.claims(plain, other)
    assert "NEW_ENROLMENT_NEEDED" == await reason_of(world.prove(plain, claims, face=True))


async def test_what_stands_around_a_proof_goes_with_the_subscriber(world, faces):
    holder, second, _ = await twice(world, faces)
    [template] = await listed(world, second)
    for who in (holder, second):
        await on(world, who, "phone")
    await challenged(world, second, template.template_id)
    for who in (holder, second):
        await world.follow(lambda work, who=who: world.detector.following.erase(work, who))
    tables = ("known_device", "liveness_challenge", "duplicate_face", "decision")
    assert [0, 0, 0, 0] == [await world.count(table) for table in tables]
