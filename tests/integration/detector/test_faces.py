"""A picture on its way from enrolment and the door to the event."""

from __future__ import annotations

from io import BytesIO

import grpc.aio
import pytest
from PIL import Image, ImageOps

from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.detector.v1 import signal_service_pb2 as signals
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.detector.domain.ownership import FaceTemplate, OwnershipState
from tests.integration.detector.conftest import pictures_named


def changed(data: bytes, *, mirrored: bool = False, quality: int = 75, side: int = 0) -> bytes:
    """The same picture, saved again."""
    with Image.open(BytesIO(data)) as image:
        picture = image.convert("RGB")
    picture = ImageOps.mirror(picture) if mirrored else picture
    if side:
        picture.thumbnail((side, side))
    out = BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


@pytest.fixture(scope="module")
def pictures():
    try:
        return dict(
            zip(
                ("obama", "obama2", "biden", "crowd"),
                pictures_named(["obama.jpg", "obama2.jpg", "biden.jpg", "sample1.jpg"]),
                strict=True,
            )
        )
    except FileNotFoundError:
        pytest.skip("the demo's pictures are not fetched: run `make setup`")


async def test_another_photo_of_an_enrolled_person_is_a_match_and_a_stranger_is_none(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    template_id = await world.enrolled(who, pictures["obama"])
    await world.submit(world.signal(pictures["obama2"]))
    await world.submit(world.signal(pictures["biden"]))
    assert 2 == await world.decide()
    [facts] = await world.facts()
    assert (who, template_id) == (facts.subscriber_id, facts.template_id)
    bands = sorted(record.band for record in await world.records("match_decision_log"))
    assert [1, 3] == bands


@pytest.mark.slow
async def test_reposts_of_one_picture_fall_into_one_cluster(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    await world.enrolled(who, pictures["obama"])
    for data in (
        pictures["obama2"],
        changed(pictures["obama2"], quality=40),
        changed(pictures["obama2"], mirrored=True),
        pictures["obama2"],
    ):
        await world.submit(world.signal(data))
    await world.decide()
    facts = await world.facts()
    assert 4 == len(facts)
    assert 1 == len({each.cluster_id for each in facts})
    assert ["NEW", "SHA256"] == [facts[0].cluster_rule, facts[3].cluster_rule]


async def test_the_capture_shows_the_subscriber_and_hides_everybody_else(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    await world.enrolled(who, pictures["obama"])
    await world.submit(world.signal(pictures["obama2"], "본문 글"))
    await world.decide()
    [facts] = await world.facts()
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    capture = (await world.signals.GetCapture(request, metadata=world.case)).capture
    with Image.open(BytesIO(capture.redacted_thumbnail)) as thumbnail:
        assert 320 >= max(thumbnail.size)
    assert ["image.0", "text.1"] == [part.part for part in capture.part_hashes]
    assert b"" == capture.candidate_crop
    release = signals.ReleaseCaptureRequest(decision_id=facts.decision_id)
    await world.signals.ReleaseCapture(release, metadata=world.case)
    await world.signals.ReleaseCapture(release, metadata=world.case)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.signals.GetCapture(request, metadata=world.case)
    assert grpc.StatusCode.NOT_FOUND == refused.value.code()


async def test_a_face_without_proof_opens_nothing(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    await world.enrol(who, pictures["obama"])
    await world.submit(world.signal(pictures["obama2"]))
    await world.decide()
    assert [] == await world.facts()


async def test_the_same_face_on_another_account_waits_for_a_person(world, pictures):
    first, second = await world.register("FACE_TEMPLATE"), await world.register("FACE_TEMPLATE")
    await world.enrolled(first, pictures["obama"])
    template = await world.enrol(second, pictures["obama2"])
    answer = await world.prove(second, world.claims(second, template.template_id), face=True)
    assert enrolment.OWNERSHIP_STATE_PENDING == answer.state
    assert "NEEDS_REVIEW" == (await world.records("ownership_log"))[-1].reason
    assert 1 == len(world.detector.enrolled)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("crowd",), "SEVERAL_FACES"), (("obama", "biden"), "PICTURES_DISAGREE")],
)
async def test_pictures_that_make_no_template_are_refused_by_reason(world, pictures, names, reason):
    who = await world.register("FACE_TEMPLATE")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.enrol(who, *(pictures[name] for name in names))
    assert (grpc.StatusCode.INVALID_ARGUMENT, True) == (
        refused.value.code(),
        reason in str(refused.value.trailing_metadata()),
    )


async def test_the_crop_is_kept_only_with_its_own_consent(world, pictures):
    plain = await world.register("FACE_TEMPLATE")
    consented = await world.register("FACE_TEMPLATE", "TEMPLATE_CROP")
    await world.enrol(plain, pictures["obama"])
    assert 0 == await world.count("face_template WHERE crop IS NOT NULL")
    await world.enrol(consented, pictures["biden"])
    assert 1 == await world.count("face_template WHERE crop IS NOT NULL")


async def test_an_erased_template_is_matched_no_more(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    template_id = await world.enrolled(who, pictures["obama"])
    request = enrolment.EraseFaceTemplateRequest(subscriber_id=who, template_id=template_id)
    answer = await world.enrolment.EraseFaceTemplate(request, metadata=world.backend)
    assert enrolment.OWNERSHIP_STATE_ERASED == answer.template.state
    await world.submit(world.signal(pictures["obama2"]))
    await world.decide()
    assert ([], 0) == (await world.facts(), len(world.detector.enrolled))
    assert 1 == len(await world.published("template_erased"))


async def test_a_truncated_picture_is_decided_unreadable_with_a_record(world, pictures):
    signal = world.signal(pictures["obama"][: len(pictures["obama"]) // 2])
    await world.submit(signal)
    await world.decide()
    request = signals.GetSignalStatusRequest(signal_id=signal.signal_id)
    status = await world.signals.GetSignalStatus(request, metadata=world.collector)
    assert signals.SIGNAL_STATE_UNREADABLE == status.state
    [record] = await world.records("match_decision_log")
    assert ["UNREADABLE_TRUNCATED"] == list(record.reasons)


async def test_a_subscriber_has_so_many_templates_and_no_more(world, heavy):
    who = await world.register("FACE_TEMPLATE")
    now = world.clock.now()
    async with world.detector.store.begin() as work:
        for _ in range(heavy.rules.ownership.most_templates):
            template = FaceTemplate(uuid7(), who, OwnershipState.PENDING, now, None, 1, (), 1)
            await work.templates.add(template, b"sealed", None)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.enrol(who, b"a picture")
    assert "TOO_MANY_TEMPLATES" == unwrap(refused.value).reason
    await world.detector.enrolling.erase_template(who, template.template_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.enrol(who, b"a picture")
    assert "TOO_MANY_TEMPLATES" != unwrap(refused.value).reason
