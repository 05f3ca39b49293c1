"""What happens to a picture on its way through the web? Recompressed, cropped, mirrored, framed, broken."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw, ImageOps

Transform = Callable[[Image.Image], bytes]


def jpeg(picture: Image.Image, quality: int = 85) -> bytes:
    """The picture as JPEG."""
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def opened(data: bytes, longest: int = 1280) -> Image.Image:
    """The picture, upright, its longer side at most `longest` pixels."""
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    picture.thumbnail((longest, longest))
    return picture


def cropped(share: float) -> Transform:
    """Cuts a share of width and height away, evenly from all sides."""

    def transform(picture: Image.Image) -> bytes:
        dx, dy = round(picture.width * share / 2), round(picture.height * share / 2)
        return jpeg(picture.crop((dx, dy, picture.width - dx, picture.height - dy)))

    return transform


def scaled(share: float) -> Transform:
    """Makes it smaller."""

    def transform(picture: Image.Image) -> bytes:
        return jpeg(picture.resize((round(picture.width * share), round(picture.height * share))))

    return transform


def letterboxed(picture: Image.Image) -> bytes:
    """Black bars above and below."""
    return jpeg(ImageOps.expand(picture, (0, picture.height // 8), "black"))


def framed(picture: Image.Image) -> bytes:
    """As in a screenshot of a phone: a bar with text above, white below."""
    bar = max(40, picture.height // 10)
    page = Image.new("RGB", (picture.width + 32, picture.height + 3 * bar), "white")
    page.paste(picture, (16, bar))
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, page.width, bar - 8), fill=(32, 36, 48))
    draw.text((16, bar // 3), "21:04   community board   #4512", fill="white")
    draw.text((16, picture.height + bar + 16), "Look who this is!   42 comments", fill="black")
    return jpeg(page)


def as_webp(picture: Image.Image) -> bytes:
    """Saved as WebP."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=70)
    return out.getvalue()


REPOSTS: Mapping[str, Transform] = {
    "recompressed to 70": lambda p: jpeg(p, 70),
    "recompressed to 50": lambda p: jpeg(p, 50),
    "recompressed to 30": lambda p: jpeg(p, 30),
    "smaller": scaled(0.6),
    "cropped by 5 %": cropped(0.05),
    "cropped by 10 %": cropped(0.10),
    "mirrored": lambda p: jpeg(ImageOps.mirror(p)),
    "letterboxed": letterboxed,
    "framed": framed,
    "webp": as_webp,
    "grey": lambda p: jpeg(ImageOps.grayscale(p)),
}


def without_face(seed: int) -> bytes:
    """A picture with nobody in it: coloured shapes on a gradient, the same for the same seed."""
    chance = random.Random(seed)
    picture = Image.linear_gradient("L").resize((640, 480)).rotate(chance.choice((0, 90, 180)))
    picture = ImageOps.colorize(picture.resize((640, 480)), _colour(chance), _colour(chance))
    draw = ImageDraw.Draw(picture)
    for _ in range(chance.randint(4, 14)):
        x, y = chance.randint(0, 560), chance.randint(0, 400)
        box = (x, y, x + chance.randint(20, 200), y + chance.randint(20, 160))
        chance.choice((draw.rectangle, draw.ellipse))(box, fill=_colour(chance))
    return jpeg(picture)


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randint(0, 255), chance.randint(0, 255), chance.randint(0, 255)


def truncated(data: bytes) -> bytes:
    """The first third of a file: its header is good, its pixels are missing."""
    return data[: len(data) // 3]


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it is 20,000 by 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
