"""What one signal's pictures show: every form a picture may have, and whose face is found in it."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.detector.adapters.analysis import SignalAnalyst
from services.detector.adapters.enrolled import EnrolledFaces
from services.detector.adapters.faces import FaceEngine, stacked
from services.detector.adapters.gallery import Entry
from services.detector.adapters.images import read_picture
from services.detector.adapters.rules import read_rules
from services.detector.domain.decisions import Band, decide
from services.detector.domain.signals import CaptureFacts, Pair, Part, Signal

from .conftest import PICTURES, paint

Pixels = NDArray[np.uint8]
RULES = read_rules()
WHO = "subscriber-1"


@pytest.fixture(scope="module")
def portrait() -> Image.Image:
    """320 × 240, one face."""
    path = PICTURES / "obama2.jpg"
    if not path.exists():
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")
    with Image.open(path) as image:
        return image.convert("RGB").crop((0, 100, 626, 570)).resize((320, 240), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def analyst(engine: FaceEngine) -> SignalAnalyst:
    """An analyst whose gallery holds one subscriber, enrolled with another photo."""
    path = PICTURES / "obama.jpg"
    if not path.exists():
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")
    faces = engine.analyse(read_picture(path.read_bytes()).pixels)
    look = engine.second_look(*stacked(faces[:1]))[0].vectors
    enrolled = EnrolledFaces(engine.model_id, engine.second_model_id, 512)
    enrolled.gallery.add([Entry("t", WHO, look[engine.model_id], look[engine.second_model_id])])
    return SignalAnalyst(engine, enrolled, RULES.faces, RULES.scanner())


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def post(*pictures: bytes, group: str = "community") -> Signal:
    return Signal(
        signal_id="s", channel="c", channel_group=group, source_type=3, source_url="https://board.example/1",
        post_id="1", parent_url="", discover_time=datetime(2026, 11, 20, tzinfo=UTC), publish_time=None,
        parts=tuple(Part(image=data) for data in pictures), metadata=(), author_hash=b"", collection_basis=2,
        policy_rule_id="", capture=CaptureFacts(),
    )  # fmt: skip


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def deep(image: Image.Image) -> bytes:
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return saved(Image.fromarray(grey), "PNG")


def seen_through(image: Image.Image) -> bytes:
    clear = image.convert("RGBA")
    clear.putalpha(230)
    return saved(clear, "PNG")


FORMS = {
    "JPEG": lambda image: saved(image, "JPEG"),
    "turned by EXIF": turned,
    "grey": lambda image: saved(image.convert("L"), "JPEG"),
    "CMYK": lambda image: saved(image.convert("CMYK"), "JPEG"),
    "sixteen bits": deep,
    "alpha": seen_through,
    "palette": lambda image: saved(image.quantize(128), "PNG"),
    "WebP": lambda image: saved(image, "WEBP"),
    "GIF": lambda image: saved(image, "GIF"),
    "in a large picture": lambda image: saved(within(image, 2400, 1800), "JPEG"),
}


def within(image: Image.Image, width: int, height: int) -> Image.Image:
    large = Image.fromarray(paint(5, height, width))
    large.paste(image.resize((640, 480)), (width // 2, height // 2))
    return large


@pytest.mark.parametrize("form", FORMS)
def test_a_subscriber_is_found_in_every_form_of_picture(
    analyst: SignalAnalyst, portrait: Image.Image, form: str
) -> None:
    analysis = analyst.analyse([post(FORMS[form](portrait))])[0]
    assert analysis.unreadable == ()
    assert [(face.subscriber_id, face.band) for face in analysis.faces if face.band is not Band.NONE] == [
        (WHO, Band.MATCH)
    ]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_a_face_that_only_a_later_frame_shows_is_found(
    analyst: SignalAnalyst, portrait: Image.Image, kind: str
) -> None:
    empty = Image.fromarray(paint(3))
    data = saved(empty, kind, save_all=True, append_images=[empty, portrait], duration=100)
    analysis = analyst.analyse([post(data)])[0]
    assert [face.band for face in analysis.faces] == [Band.MATCH]
    assert analysis.faces_found == 1
    kept = analysis.keep(decide(analysis.faces, (), RULES.review)[0])
    thumbnail = read_picture(kept.thumbnail).pixels.astype(int)
    assert np.abs(thumbnail - np.asarray(portrait.resize(thumbnail.shape[1::-1]))).mean() < 12


def test_pictures_in_which_nobody_is_found_are_not_held_until_the_batch_is_decided(analyst: SignalAnalyst) -> None:
    empty = saved(Image.fromarray(paint(3, 1200, 1600)), "PNG")
    tracemalloc.start()
    try:
        before = analyst.analyse([post(empty)] * 4)
        held = tracemalloc.get_traced_memory()[0]
        analyses = [*before, *analyst.analyse([post(empty)] * 4)]
        more = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert [0] * 8 == [analysis.faces_found for analysis in analyses]
    assert more < 1200 * 1600 * 3


def test_what_cannot_be_read_is_named_and_the_rest_is_looked_at(analyst: SignalAnalyst, portrait: Image.Image) -> None:
    whole = saved(portrait, "JPEG")
    analysis = analyst.analyse([post(whole[:2000], whole)])[0]
    assert analysis.unreadable == ((0, "TRUNCATED"),)
    assert [(face.part, face.band) for face in analysis.faces] == [(1, Band.MATCH)]


def test_a_blurred_picture_of_a_subscriber_is_for_a_person_to_judge(
    analyst: SignalAnalyst, portrait: Image.Image
) -> None:
    blurred = portrait.resize((40, 30)).resize((320, 240), Image.Resampling.BICUBIC)
    analysis = analyst.analyse([post(saved(blurred, "PNG"))])[0]
    assert {face.band for face in analysis.faces} <= {Band.REVIEW, Band.NONE}


def test_every_part_of_a_signal_is_scanned_and_hits_say_where(analyst: SignalAnalyst, portrait: Image.Image) -> None:
    number = "연락처 010-2345-6789"
    exif = Image.Exif()
    exif[0x013B] = number
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\x00\x00\x00call 010-2345-6789"
    told = ("title", "alt", "file_name", "author", "exif.GPSAreaInformation")
    shown = post(saved(portrait, "JPEG", exif=exif, comment="전화 010-2345-6789".encode()))
    signal = replace(
        shown, parts=(Part(text=number), *shown.parts), metadata=tuple(Pair(name, number) for name in told)
    )
    analysis = analyst.analyse([signal])[0]
    assert {hit.field.rstrip("0123456789") for hit in analysis.hits} == {
        "text.", *(f"metadata.{name}." for name in told), "image.1.Artist.", "image.1.UserComment.", "image.1.Comment.",
    }  # fmt: skip
    assert {"PHONE"} == {hit.kind.value for hit in analysis.hits}


def test_several_signals_at_once_keep_their_own_faces(analyst: SignalAnalyst, portrait: Image.Image) -> None:
    empty, shown = saved(Image.fromarray(paint(3)), "PNG"), saved(portrait, "JPEG")
    analyses = analyst.analyse([post(empty), post(shown, empty), post(empty, shown)])
    assert [[face.part for face in each.faces] for each in analyses] == [[], [0], [1]]


def test_a_picture_says_nothing_of_itself_in_repr(analyst: SignalAnalyst, portrait: Image.Image) -> None:
    analysis = analyst.analyse([post(saved(portrait, "JPEG"))])[0]
    assert "score" not in repr(analysis.faces[0])




def test_a_thumbnail_for_evidence_shows_the_subscriber_and_covers_whoever_stands_beside(
    analyst: SignalAnalyst, engine: FaceEngine, portrait: Image.Image
) -> None:
    path = PICTURES / "biden.jpg"
    if not path.exists():
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")
    with Image.open(path) as image:
        other = image.convert("RGB")
    other.thumbnail((320, 240))
    both = Image.new("RGB", (640, 240))
    both.paste(portrait, (0, 0))
    both.paste(other, (320, 0))
    analysis = analyst.analyse([post(saved(both, "PNG"))])[0]
    assert 2 == analysis.faces_found
    [decision] = [each for each in decide(analysis.faces, (), RULES.review) if each.band is Band.MATCH]
    shown = read_picture(analysis.keep(decision).thumbnail).pixels
    assert (160 - 45) < shown.shape[0] <= 160
    middle = shown.shape[1] // 2
    found = engine.analyse(shown)
    assert ["left"] == ["left" if face.box.left < middle else "right" for face in found]
