"""Whether bytes are a picture that may be looked at, and what it shows and says."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

Pixels = NDArray[np.uint8]

MOST_BYTES = 20 * 1024 * 1024
MOST_PIXELS = 40_000_000
MOST_FIELDS = 64
MOST_FIELD_CHARACTERS = 4096

MOST_FRAMES = 8
"""Frames of an animation that are looked at, the first included."""
MOST_FRAMES_READ = 120
MOST_PIXELS_READ = 80_000_000
"""Frames, and pixels in all, of an animation that are decoded in search of frames that differ."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")

NOT_AN_IMAGE = "NOT_AN_IMAGE"
UNSUPPORTED_FORMAT = "UNSUPPORTED_FORMAT"
TOO_MANY_BYTES = "TOO_MANY_BYTES"
TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
TRUNCATED = "TRUNCATED"
CORRUPT = "CORRUPT"
REASONS = frozenset({NOT_AN_IMAGE, UNSUPPORTED_FORMAT, TOO_MANY_BYTES, TOO_MANY_PIXELS, TRUNCATED, CORRUPT})

_OTHER_PICTURES = (
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"8BPS",
    b"\x00\x00\x01\x00",
    b"\x00\x00\x00\x0cjP  ",
    b"\xff\x4f\xff\x51",
    b"\xff\x0a",
    b"%PDF",
    b"<svg",
)
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    struct.error,
    IndexError,
    EOFError,
    MemoryError,
    cv2.error,
)
"""What Pillow's and OpenCV's parsers raise on hostile bytes."""
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8 | cv2.IMREAD_COLOR_RGB,
}
"""OpenCV's words for a JPEG decoded at a fraction of its size; its REDUCED_COLOR flags would mean BGR."""
_CELLS = 24
_CELL_CHANGED = 24
_CHANGED = 0.02
"""Of 24 × 24 mean grey values, the share that must differ by 24 of 255 for a frame to be another one: about a face a
seventh as high as the frame."""
_TURNS: Mapping[int, Callable[[Pixels], Pixels]] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p),
}
"""What makes each EXIF orientation upright."""
_EXIF_TEXT = (
    "ImageDescription",
    "Artist",
    "Copyright",
    "XPTitle",
    "XPComment",
    "XPAuthor",
    "XPKeywords",
    "XPSubject",
)
_EXIF_DEVICE_TEXT = ("UserComment", "CameraOwnerName", "BodySerialNumber")


class UnreadableImage(Exception):
    """Bytes that are not a picture we may look at; `reason` is one of REASONS and the only thing said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What the first bytes say: format (one of FORMATS), width and height in pixels before orientation."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """A decoded picture; `repr` shows sizes only."""

    pixels: Pixels = field(repr=False)
    """uint8 [H,W,3] RGB, upright, transparent parts on white."""
    format: str
    full_width: int
    full_height: int
    """Size of the upright picture before any reduction; `pixels` may be 1/2, 1/4 or 1/8 of it."""
    fields: tuple[tuple[str, str], ...] = field(repr=False, default=())
    """(key, text) of what the file says about itself, GPS included: personal data, to be scanned and
    dropped.
    """
    more: tuple[Pixels, ...] = field(repr=False, default=())
    """Of an animation, later frames that differ from all before them, likewise RGB; perhaps reduced."""

    @property
    def frames(self) -> tuple[Pixels, ...]:
        """Everything to look at: the picture, then what an animation shows besides."""
        return (self.pixels, *self.more)

    @property
    def reduction(self) -> float:
        """Full width ÷ decoded width, ≥ 1."""
        return self.full_width / int(self.pixels.shape[1])


def read_picture(data: bytes, enough: int | None = None) -> Picture:
    """Decode JPEG, PNG, WebP or GIF; of an animation, the frames that differ.

    `enough`: a long side in pixels that suffices; a JPEG at least twice as large is decoded at a fraction of
    its size, never below it. None decodes every pixel. Raises UnreadableImage; no pixel is decoded before
    format and size are known good.
    """
    check_header(data)
    try:
        return _decode(data, enough)
    except _BROKEN as problem:
        raise UnreadableImage(TRUNCATED if "truncated" in str(problem).lower() else CORRUPT) from None


def check_header(data: bytes) -> Header:
    """Format and size from the header alone. Raises UnreadableImage."""
    if len(data) > MOST_BYTES:
        raise UnreadableImage(TOO_MANY_BYTES)
    header = _header(data)
    if header.width < 1 or header.height < 1:
        raise UnreadableImage(CORRUPT)
    if header.width * header.height > MOST_PIXELS:
        raise UnreadableImage(TOO_MANY_PIXELS)
    return header


def _header(data: bytes) -> Header:
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return Header("PNG", *struct.unpack_from(">II", data, 16))
        if data.startswith((b"GIF87a", b"GIF89a")):
            return Header("GIF", *struct.unpack_from("<HH", data, 6))
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp_header(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg_header(data)
    except (struct.error, IndexError):
        raise UnreadableImage(TRUNCATED) from None
    other = data.startswith(_OTHER_PICTURES) or data[4:8] == b"ftyp"
    raise UnreadableImage(UNSUPPORTED_FORMAT if other else NOT_AN_IMAGE)


def _webp_header(data: bytes) -> Header:
    """RFC 9649, sections 2.5 to 2.7."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        if len(data) < 30:
            raise UnreadableImage(TRUNCATED)
        return Header("WEBP", width, height)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    raise UnreadableImage(CORRUPT)


def _jpeg_header(data: bytes) -> Header:
    """The first start-of-frame segment (ITU-T T.81, B.2.2)."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise UnreadableImage(CORRUPT)
        while data[at] == 0xFF:
            at += 1
        marker = data[at]
        (length,) = struct.unpack_from(">H", data, at + 1)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 4)
            return Header("JPEG", width, height)
        if marker in (0xD9, 0xDA):
            raise UnreadableImage(CORRUPT)
        at += 1 + length


def _decode(data: bytes, enough: int | None) -> Picture:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise UnreadableImage(CORRUPT) from None
    with image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        full = image.size
        if full[0] * full[1] > MOST_PIXELS:
            raise UnreadableImage(TOO_MANY_PIXELS)
        reduction = 1 if enough is None else _reduction(full, enough)
        pixels = _plain_jpeg(data, image, reduction) if kind == "JPEG" else None
        if pixels is None:
            if reduction > 1 and isinstance(image, ImageFile.ImageFile):
                image.draft(None, (full[0] // reduction, full[1] // reduction))
            image.load()
            pixels = _to_rgb(image)
        fields, orientation = _metadata(image)
        more = _other_frames(image, enough) if kind != "JPEG" else ()
    turned = orientation in (5, 6, 7, 8)
    width, height = full[::-1] if turned else full
    upright = tuple(_upright(each, orientation) for each in more)
    return Picture(_upright(pixels, orientation), kind, width, height, fields, upright)


def _reduction(full: tuple[int, int], enough: int) -> int:
    """The largest of 1, 2, 4, 8 that leaves a long side of at least `enough`."""
    return next((factor for factor in (8, 4, 2) if max(full) // factor >= enough), 1)


def _plain_jpeg(data: bytes, image: Image.Image, reduction: int) -> Pixels | None:
    """A grey or three-colour JPEG by OpenCV: the same bits as Pillow's (both are libjpeg-turbo) for two thirds of the
    time, straight into an array. None for other colours, and for what OpenCV refuses: Pillow then says why.
    """
    if image.mode not in ("RGB", "L"):
        return None
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    turn = _TURNS.get(orientation)
    return pixels if turn is None else np.ascontiguousarray(turn(pixels))


def _other_frames(image: Image.Image, enough: int | None) -> tuple[Pixels, ...]:
    """Frames after the first that differ from every one before them; damage ends the search, not the picture."""
    if not getattr(image, "is_animated", False):
        return ()
    found: list[Pixels] = []
    seen = [_sketch(image)]
    most = min(MOST_FRAMES_READ, MOST_PIXELS_READ // max(1, image.size[0] * image.size[1]))
    for number in range(1, most):
        try:
            image.seek(number)
            sketch = _sketch(image)
        except _BROKEN:
            break
        if all(_differ(sketch, other) for other in seen):
            seen.append(sketch)
            factor = 1 if enough is None else _reduction(image.size, enough)
            found.append(_to_rgb(image.reduce(factor) if factor > 1 else image))
        if len(found) == MOST_FRAMES - 1:
            break
    return tuple(found)


def _sketch(image: Image.Image) -> NDArray[np.int16]:
    """Mean grey values of 24 × 24 parts."""
    return np.asarray(image.convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX)).astype(np.int16)


def _differ(one: NDArray[np.int16], other: NDArray[np.int16]) -> bool:
    return float(np.mean(np.abs(one - other) > _CELL_CHANGED)) >= _CHANGED


def _metadata(image: Image.Image) -> tuple[tuple[tuple[str, str], ...], int]:
    """What the file says of itself, and its EXIF orientation; a picture with a broken EXIF block is still a
    picture.
    """
    try:
        return tuple(_bounded(_said(image))), int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return (), 1


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_deep(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, with_alpha)
    # No copy of what is RGB already, and none of the bytes that Pillow hands over: nobody writes into pixels.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


def _from_deep(image: Image.Image) -> Pixels:
    """Sixteen bits of grey to eight: the upper byte."""
    deep = np.asarray(image).astype(np.int64)
    grey = np.clip(deep >> 8, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _bounded(pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen = 0
    for key, value in pairs:
        text = value.replace("\x00", " ").strip()[:MOST_FIELD_CHARACTERS]
        if text and seen < MOST_FIELDS:
            seen += 1
            yield key[:64], text


def _said(image: Image.Image) -> Iterator[tuple[str, str]]:
    """Text the file carries: EXIF, GPS, PNG text, JPEG and GIF comments, XMP."""
    yield from _exif_text(image.getexif())
    for key, value in image.info.items():
        if key in ("exif", "icc_profile", "photoshop", "Raw profile type exif"):
            continue
        if key == "xmp" and isinstance(value, bytes):
            yield "XMP", _tags_removed(value)
        elif isinstance(value, bytes) and key == "comment":
            yield "Comment", _text(value)
        elif isinstance(value, str):
            yield str(key), value


def _exif_text(exif: Image.Exif) -> Iterator[tuple[str, str]]:
    for name in _EXIF_TEXT:
        value = exif.get(ExifTags.Base[name])
        if value is not None:
            yield name, _text(value, wide=name.startswith("XP"))
    device = exif.get_ifd(ExifTags.IFD.Exif)
    for name in _EXIF_DEVICE_TEXT:
        value = device.get(ExifTags.Base[name])
        if value is not None:
            yield name, _text(value[8:] if name == "UserComment" and isinstance(value, bytes) else value)
    yield from _gps(exif.get_ifd(ExifTags.IFD.GPSInfo))


def _gps(block: dict[int, object]) -> Iterator[tuple[str, str]]:
    names = ExifTags.GPS
    for key, reference, negative in (
        (names.GPSLatitude, names.GPSLatitudeRef, "S"),
        (names.GPSLongitude, names.GPSLongitudeRef, "W"),
    ):
        parts = block.get(key)
        if isinstance(parts, tuple) and len(parts) == 3:
            degrees = _degrees(parts)
            if degrees is not None:
                yield key.name, f"{-degrees if block.get(reference) == negative else degrees:.5f}"


def _degrees(parts: tuple[object, ...]) -> float | None:
    try:
        degrees, minutes, seconds = (float(str(p)) for p in parts)
    except (ValueError, ZeroDivisionError):
        return None
    return degrees + minutes / 60 + seconds / 3600


def _text(value: object, wide: bool = False) -> str:
    if not isinstance(value, bytes):
        return str(value) if isinstance(value, str | int | float) else ""
    value = value[: 4 * MOST_FIELD_CHARACTERS]
    if wide:
        return value.decode("utf-16-le", "replace")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp949", "replace")


def _tags_removed(xmp: bytes) -> str:
    """XMP's text and attribute values without its markup; a scan needs the words alone."""
    pieces = []
    for part in xmp[: 16 * MOST_FIELD_CHARACTERS].decode("utf-8", "replace").split("<"):
        tag, _, text = part.partition(">")
        if text.strip():
            pieces.append(text.strip())
        pieces += [v for v in tag.split('"')[1::2] if v and not v.startswith(("http://", "adobe:", "uuid:"))]
    return " ".join(pieces)
