"""What do those see who label a MATCH for a release gate, after its capture was handed over?"""

from __future__ import annotations

import grpc.aio
import pytest

from misuse.detector.v1 import signal_service_pb2 as signals
from tests.integration.detector.conftest import pictures_named


@pytest.fixture(scope="module")
def pictures():
    try:
        return dict(zip(("obama", "obama2"), pictures_named(["obama.jpg", "obama2.jpg"]), strict=True))
    except FileNotFoundError:
        pytest.skip("the demo's pictures are not fetched: run `make setup`")


async def test_labellers_get_the_consented_crop_of_a_released_match_and_nobody_else_does(world, pictures):
    who = await world.register("FACE_TEMPLATE", "TEMPLATE_CROP")
    await world.enrolled(who, pictures["obama"])
    await world.submit(world.signal(pictures["obama2"]))
    await world.decide()
    [facts] = await world.facts()
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    labeller = world.metadata("SERVICE_CASE", "REVIEW")

    whole = (await world.signals.GetCapture(request, metadata=labeller)).capture
    assert b"\xff\xd8" == whole.template_crop[:2]
    assert b"" == (await world.signals.GetCapture(request, metadata=world.case)).capture.template_crop
    release = signals.ReleaseCaptureRequest(decision_id=facts.decision_id)
    await world.signals.ReleaseCapture(release, metadata=world.case)
    left = (await world.signals.GetCapture(request, metadata=labeller)).capture
    assert {"decision_id", "subscriber_id", "template_crop"} == {field.name for field, _ in left.ListFields()}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.signals.GetCapture(request, metadata=world.case)
    assert grpc.StatusCode.NOT_FOUND == refused.value.code()


@pytest.mark.slow
async def test_without_consent_to_a_crop_labellers_get_none(world, pictures):
    who = await world.register("FACE_TEMPLATE")
    await world.enrolled(who, pictures["obama"])
    await world.submit(world.signal(pictures["obama2"]))
    await world.decide()
    [facts] = await world.facts()
    request = signals.GetCaptureRequest(decision_id=facts.decision_id)
    labeller = world.metadata("SERVICE_CASE", "REVIEW")
    assert b"" == (await world.signals.GetCapture(request, metadata=labeller)).capture.template_crop
