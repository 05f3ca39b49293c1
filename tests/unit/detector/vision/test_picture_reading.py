"""What stands written in a signal's pictures: scanned like its texts, masked in what is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from services.detector.adapters.analysis import SignalAnalyst
from services.detector.adapters.enrolled import EnrolledFaces
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.images import read_picture
from services.detector.adapters.rules import read_rules
from services.detector.domain.decisions import Band, Decision, MatchKind, WatchedHit, part_of
from services.detector.domain.pii import Kind, Rules, Scanner, WholeText
from services.detector.ports import Reading, TextReader
from tests.data.ocr.strips import FIRST, HEIGHT, LEFT, PITCH, StripReader, printed

from .test_analysis import Pixels, post

RULES = read_rules()
LEAK = "판매자 연락처 010-2345-6789"


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    """By the reference engine: same hits, and nothing to compile."""
    return Scanner(Rules.parse(RULES.pii_file.read_text(encoding="utf-8")), WholeText)


def analyst(engine: FaceEngine, scanner: Scanner, reader: TextReader | None) -> SignalAnalyst:
    enrolled = EnrolledFaces(engine.model_id, engine.second_model_id, 512)
    return SignalAnalyst(engine, enrolled, RULES.faces, scanner, reader)


def png(*frames: Pixels) -> bytes:
    stream = io.BytesIO()
    first, *more = [Image.fromarray(frame) for frame in frames]
    first.save(stream, "PNG", save_all=bool(more), append_images=more)
    return stream.getvalue()


def pii(hits: Sequence[WatchedHit]) -> Decision:
    parts = tuple(sorted({part for each in hits if (part := part_of(each.hit.field)) is not None}))
    return Decision("who", MatchKind.PII, Band.MATCH, ("WATCHED_IDENTIFIER",), parts=parts, watched=tuple(hits))


def test_a_number_on_a_screenshot_is_found_like_one_in_a_post(engine: FaceEngine, scanner: Scanner) -> None:
    [found] = analyst(engine, scanner, StripReader()).analyse([post(png(printed(["안녕하세요", LEAK])))])
    assert [(Kind.PHONE, "image.0.written", "+821023456789")] == [
        (hit.kind, hit.field, hit.canonical) for hit in found.hits
    ]
    assert found.all_read


def test_without_a_reader_nothing_written_is_found(engine: FaceEngine, scanner: Scanner) -> None:
    [found] = analyst(engine, scanner, None).analyse([post(png(printed([LEAK])))])
    assert ((), True) == (found.hits, found.all_read)


def test_a_picture_that_was_not_all_read_says_so(engine: FaceEngine, scanner: Scanner) -> None:
    [found] = analyst(engine, scanner, StripReader(most=1)).analyse([post(png(printed(["안녕", LEAK])))])
    assert ((), False) == (found.hits, found.all_read)


def test_a_batch_is_not_read_for_longer_than_its_time(engine: FaceEngine, scanner: Scanner) -> None:
    enrolled = EnrolledFaces(engine.model_id, engine.second_model_id, 512)
    hasty = SignalAnalyst(engine, enrolled, RULES.faces, scanner, StripReader(), reading_seconds=0.0)
    [found] = hasty.analyse([post(png(printed([LEAK])))])
    assert ((), False) == (found.hits, found.all_read)


def test_what_is_kept_shows_the_number_masked_in_text_and_picture(engine: FaceEngine, scanner: Scanner) -> None:
    page = printed(["안녕하세요 안녕하세요", LEAK])
    # The reader looks at a strip's first row alone: below it lies something that can be seen.
    for top in (FIRST, FIRST + PITCH):
        page[top + 1 : top + HEIGHT, LEFT:44] = np.repeat(np.tile([0, 255], 4), 4)[:, np.newaxis]
    [found] = analyst(engine, scanner, StripReader()).analyse([post(png(page))])
    kept = found.keep(pii([WatchedHit("who", "watch", found.hits[0])]))
    assert "2345" not in kept.masked_text
    assert "6789" in kept.masked_text
    shown = Image.open(io.BytesIO(kept.thumbnail)).convert("L").resize(page.shape[1::-1])
    greeting, number = (np.asarray(shown, int)[top + 4 : top + 12, 24:44] for top in (FIRST, FIRST + PITCH))
    assert number.std() < greeting.std() / 3


def test_a_later_frame_is_read_and_shown(engine: FaceEngine, scanner: Scanner) -> None:
    empty = np.full((240, 480, 3), 40, np.uint8)
    [found] = analyst(engine, scanner, StripReader()).analyse([post(png(empty, printed([LEAK])))])
    assert ["image.0.written-1"] == [hit.field for hit in found.hits]
    kept = found.keep(pii([WatchedHit("who", "watch", found.hits[0])]))
    assert read_picture(kept.thumbnail).pixels.mean() > 150


class Measuring(StripReader):
    """Notes the sizes of what it may look at: (height, width) as given, and as asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = []

    def read(
        self,
        rgb: Pixels,
        sharper: Callable[[], Pixels] | None = None,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reading:
        self.sizes.append((rgb.shape[:2], sharper().shape[:2] if sharper else None))
        return super().read(rgb, None, seconds, stopped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("full", "sizes"),
    [
        ((600, 800), ((600, 800), None)),
        ((2700, 3900), ((675, 975), (2700, 3900))),
        # A long screenshot keeps its width.
        ((8000, 1000), ((1000, 125), (8000, 1000))),
    ],
)
def test_lines_are_read_from_more_pixels_than_faces_are_looked_for_in(
    engine: FaceEngine, scanner: Scanner, full: tuple[int, int], sizes: tuple[tuple[int, int], tuple[int, int] | None]
) -> None:
    reader, stream = Measuring(), io.BytesIO()
    Image.new("RGB", full[::-1], (90, 90, 90)).save(stream, "JPEG")
    analyst(engine, scanner, reader).analyse([post(stream.getvalue())])
    assert [sizes] == reader.sizes


def test_several_pictures_keep_their_own_texts(engine: FaceEngine, scanner: Scanner) -> None:
    one, other = png(printed(["문의 010-1111-2222"])), png(printed(["문의 010-3333-4444"]))
    [found] = analyst(engine, scanner, StripReader()).analyse([post(one, other)])
    assert [("image.0.written", "+821011112222"), ("image.1.written", "+821033334444")] == [
        (hit.field, hit.canonical) for hit in found.hits
    ]
