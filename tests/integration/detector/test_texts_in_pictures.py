"""A watched value that stands in a picture, on its way from the door to the event."""

from __future__ import annotations

import io

from PIL import Image

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import signal_service_pb2 as signals
from services.detector.adapters.images import read_picture
from tests.data.ocr.strips import StripReader, printed
from tests.integration.detector.conftest import running

NUMBER = "010-2345-6789"
SCREENSHOT = ["이 사람 번호 아는 사람?", f"연락처 {NUMBER}", "ㅋㅋ 고마워"]


def png(texts: list[str]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(printed(texts)).save(stream, "PNG")
    return stream.getvalue()


async def test_a_watched_number_on_a_screenshot_opens_a_case_of_its_own_kind(empty_url, tmp_path, heavy):
    async with running(empty_url, tmp_path, heavy, reader=StripReader()) as world:
        who = await world.register()
        watch_id = await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, NUMBER)
        await world.submit(world.signal("사진 참고하세요", png(SCREENSHOT)))
        await world.submit(world.signal(png(["연락처 010-9999-8888"])))
        await world.decide()

        [facts] = await world.facts()
        assert (who, common.MATCH_KIND_PII, [watch_id]) == (facts.subscriber_id, facts.kind, list(facts.watch_ids))
        assert facts.cluster_id
        matched, nobody = await world.records("match_decision_log")
        hit = matched.pii_pattern_match_log.hits[0]
        assert ("image.1.written", True, common.IDENTIFIER_KIND_MOBILE_PHONE) == (hit.field, hit.watched, hit.kind)
        assert "strips-1/strips" == matched.pii_pattern_match_log.reader_id
        assert ["NOT_WATCHED"] == list(nobody.reasons)

        request = signals.GetCaptureRequest(decision_id=facts.decision_id)
        capture = (await world.signals.GetCapture(request, metadata=world.case)).capture
        assert "***-****-6789" in capture.masked_text
        assert "2345" not in capture.masked_text
        assert read_picture(capture.redacted_thumbnail).format == "JPEG"


async def test_a_screenshot_sent_again_joins_what_it_shows_to_the_first(empty_url, tmp_path, heavy):
    async with running(empty_url, tmp_path, heavy, reader=StripReader()) as world:
        who = await world.register()
        await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, NUMBER)
        for _ in range(2):
            await world.submit(world.signal(png(SCREENSHOT)))
        await world.decide()
        assert ["NEW", "SHA256"] == [each.cluster_rule for each in await world.facts()]
