"""Which bytes are looked at, and what comes out of them."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from services.detector.adapters.images import (
    MOST_BYTES,
    MOST_FIELD_CHARACTERS,
    MOST_FIELDS,
    MOST_FRAMES,
    REASONS,
    UnreadableImage,
    check_header,
    read_picture,
)

Pixels = NDArray[np.uint8]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_picture(data)
    assert str(caught.value) == caught.value.reason
    return caught.value.reason


def quadrants(mode: str = "RGB") -> Image.Image:
    """32×24: red, green over blue, white."""
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:12, :16], picture[:12, 16:] = (255, 0, 0), (0, 255, 0)
    picture[12:, :16], picture[12:, 16:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(picture).convert(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_four_formats_come_out_as_rgb(kind: str) -> None:
    picture = read_picture(saved(quadrants(), kind))
    assert (picture.format, picture.pixels.shape, str(picture.pixels.dtype)) == (kind, (24, 32, 3), "uint8")
    assert picture.pixels[2, 2].argmax() == 0
    assert picture.pixels[20, 2].argmax() == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_header_alone_tells_the_size(kind: str) -> None:
    header = check_header(saved(quadrants(), kind))
    assert (header.format, header.width, header.height) == (kind, 32, 24)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "NOT_AN_IMAGE"),
        (b"hello, this is a text", "NOT_AN_IMAGE"),
        (b"\xff\xd8\xff", "TRUNCATED"),
        (b"\x89PNG\r\n\x1a\n", "TRUNCATED"),
        (b"GIF89a", "TRUNCATED"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "TRUNCATED"),
        (b"BM" + bytes(60), "UNSUPPORTED_FORMAT"),
        (b"II*\x00" + bytes(60), "UNSUPPORTED_FORMAT"),
        (bytes(4) + b"ftypheic" + bytes(60), "UNSUPPORTED_FORMAT"),
        (b"<svg xmlns='x'/>", "UNSUPPORTED_FORMAT"),
        (b"\xff\xd8\xff" + bytes(MOST_BYTES), "TOO_MANY_BYTES"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_a_bomb_is_refused_by_its_header() -> None:
    rows = zlib.compress(bytes(1000))
    head = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", rows), (b"IEND", b"")]
    chunks = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts
    )
    assert refusal(b"\x89PNG\r\n\x1a\n" + chunks) == "TOO_MANY_PIXELS"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_half_a_picture_is_refused(kind: str, share: float, scenery: Pixels) -> None:
    data = saved(Image.fromarray(scenery), kind)
    assert refusal(data[: int(len(data) * share)]) in {"TRUNCATED", "CORRUPT"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation: int, kind: str) -> None:
    turns = [
        lambda a: a,
        lambda a: a[:, ::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a[::-1],
        lambda a: a.transpose(1, 0, 2),
        lambda a: np.rot90(a, 1),
        lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        lambda a: np.rot90(a, -1),
    ]
    upright = np.asarray(quadrants())
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation - 1](upright)))
    options = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}[kind]
    picture = read_picture(saved(stored, kind, exif=exif, **options))
    assert np.abs(upright.astype(int) - picture.pixels).max() <= (40 if kind == "JPEG" else 0)
    assert (picture.full_width, picture.full_height) == (32, 24)


def test_transparent_parts_are_white() -> None:
    picture = read_picture(saved(Image.new("RGBA", (8, 8), (200, 0, 0, 0)), "PNG"))
    assert picture.pixels.min() == 255


def test_grey_cmyk_palette_and_deep_pictures_are_read() -> None:
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    cases = [
        (saved(quadrants("L"), "PNG"), (76, 76, 76)),
        (saved(quadrants("P"), "PNG"), (255, 0, 0)),
        (saved(deep, "PNG"), (128, 128, 128)),
    ]
    assert [tuple(read_picture(data).pixels[2, 2].tolist()) for data, _ in cases] == [c for _, c in cases]
    cmyk = read_picture(saved(quadrants("CMYK"), "JPEG", quality=95)).pixels[2, 2]
    assert cmyk[0] > 200 > 60 > cmyk[2]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "I;16"])
def test_every_kind_of_png_becomes_rgb(mode: str) -> None:
    white = Image.fromarray(np.full((8, 8), 0xFFFF, np.uint16)) if mode == "I;16" else Image.new("RGB", (8, 8), "white")
    pixels = read_picture(saved(white if mode == "I;16" else white.convert(mode), "PNG")).pixels
    assert (pixels.shape, str(pixels.dtype), int(pixels.min())) == ((8, 8, 3), "uint8", 255)


def test_sixteen_bits_a_colour_become_eight() -> None:
    deep = np.zeros((8, 8, 3), np.uint16)
    deep[:] = (0x1234, 0x8000, 0xFFFF)
    data = cv2.imencode(".png", deep[:, :, ::-1])[1].tobytes()
    assert read_picture(data).pixels[3, 3].tolist() == [0x12, 0x80, 0xFF]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("enough", [None, 400, 200, 100])
def test_a_jpeg_has_the_pixels_that_the_reference_decoder_finds(mode: str, enough: int | None, scenery: Pixels) -> None:
    data = saved(Image.fromarray(cv2.resize(scenery, (800, 600))).convert(mode), "JPEG")
    with Image.open(io.BytesIO(data)) as reference:
        factor = 1 if enough is None else 800 // enough
        reference.draft(None, (800 // factor, 600 // factor))
        expected = np.asarray(reference.convert("RGB"))
    assert np.array_equal(expected, read_picture(data, enough).pixels)


@pytest.mark.parametrize("cut", [1, 2, 10, 100, 1000])
def test_a_jpeg_that_lacks_its_last_bytes_is_refused(cut: int, scenery: Pixels) -> None:
    data = saved(Image.fromarray(scenery), "JPEG")
    assert refusal(data[:-cut]) == "TRUNCATED"


def animation(kind: str, frames: list[Image.Image], size: tuple[int, int] = (64, 48)) -> bytes:
    large = [frame.resize(size, Image.Resampling.NEAREST) for frame in frames]
    options = {"WEBP": {"lossless": True}}.get(kind, {})
    return saved(large[0], kind, save_all=True, append_images=large[1:], duration=100, loop=0, **options)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_frames_of_an_animation_that_differ_are_read_once_each(kind: str) -> None:
    red, blue = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    picture = read_picture(animation(kind, [red, blue, red, blue]))
    assert [frame[0, 0].tolist() for frame in picture.frames] == [[255, 0, 0], [0, 0, 255]]
    assert picture.pixels.shape == (48, 64, 3)


def test_something_that_appears_in_a_seventh_of_the_height_makes_another_frame() -> None:
    still = np.full((210, 280, 3), 90, np.uint8)
    seventh, dot = still.copy(), still.copy()
    seventh[100:145, 120:165], dot[100:108, 120:128] = 200, 200
    frames = [Image.fromarray(each) for each in (still, dot, seventh)]
    picture = read_picture(animation("GIF", frames, (280, 210)))
    assert [frame[120, 140, 0] > 150 for frame in picture.frames] == [False, True]


def test_an_animation_costs_a_bounded_number_of_frames() -> None:
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8)) for n in range(20)]
    assert len(read_picture(animation("GIF", frames)).frames) == MOST_FRAMES


def test_an_animation_that_breaks_off_keeps_what_was_whole() -> None:
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (6, 8, 3), dtype=np.uint8)) for n in range(6)]
    whole = animation("GIF", frames)
    assert 1 <= len(read_picture(whole[: len(whole) * 2 // 3]).frames) < 6


def test_a_picture_of_forty_million_pixels_is_read_at_a_fraction() -> None:
    data = saved(Image.new("RGB", (8000, 5000), "navy"), "JPEG")
    picture = read_picture(data, enough=960)
    assert (picture.pixels.shape, picture.reduction) == ((625, 1000, 3), 8.0)
    assert refusal(saved(Image.new("L", (8001, 5000)), "JPEG")) == "TOO_MANY_PIXELS"


def test_a_large_jpeg_is_reduced_but_never_below_what_is_enough(scenery: Pixels) -> None:
    large = cv2.resize(scenery, (3200, 2400))
    data = saved(Image.fromarray(large), "JPEG")
    picture = read_picture(data, enough=1280)
    assert (picture.pixels.shape, picture.reduction) == ((1200, 1600, 3), 2.0)
    assert (picture.full_width, picture.full_height) == (3200, 2400)
    assert read_picture(data).pixels.shape == (2400, 3200, 3)


def test_what_the_file_says_comes_along_for_the_scan() -> None:
    exif = Image.Exif()
    exif[0x013B] = "artist@example.org"
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\x00\x00\x00call 010-0000-0000"
    exif.get_ifd(0x8825).update({1: "N", 2: (37.0, 33.0, 58.32), 3: "E", 4: (126.0, 58.0, 40.8)})
    fields = dict(read_picture(saved(quadrants(), "JPEG", exif=exif, comment=b"by phone")).fields)
    assert fields == {
        "Artist": "artist@example.org",
        "UserComment": "call 010-0000-0000",
        "GPSLatitude": "37.56620",
        "GPSLongitude": "126.97800",
        "Comment": "by phone",
    }


def test_korean_png_text_is_found_and_bounded() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", "홍길동")
    for number in range(MOST_FIELDS + 10):
        text.add_text(f"k{number}", "x" * (MOST_FIELD_CHARACTERS + 50))
    fields = read_picture(saved(quadrants(), "PNG", pnginfo=text)).fields
    assert (fields[0], len(fields)) == (("Title", "홍길동"), MOST_FIELDS)
    assert max(len(value) for _, value in fields) == MOST_FIELD_CHARACTERS


def test_nothing_of_the_content_shows_in_repr() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "secret@example.org")
    shown = repr(read_picture(saved(quadrants(), "PNG", pnginfo=text)))
    assert shown == "Picture(format='PNG', full_width=32, full_height=24)"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, max_examples=120)
@given(data=st.data())
def test_damaged_bytes_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]))
    damaged = bytearray(saved(quadrants(), kind))
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert read_picture(bytes(damaged)).pixels.ndim == 3
    except UnreadableImage as refused:
        assert refused.reason in REASONS
