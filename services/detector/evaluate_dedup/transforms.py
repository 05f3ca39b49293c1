"""What reposts do to a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Transform = Callable[[Pixels], Pixels]

PLAIN, SCREENSHOT, BEYOND = "plain", "screenshot", "beyond"
"""Classes of transforms: what must nearly always be found, what mostly, and what is only reported."""


def transforms() -> Mapping[str, Transform]:
    """Each takes and gives uint8 [H,W,3]. Sizes are shares of the picture's: small ones suffer as large ones."""
    return {name: transform for by_class in CLASSES.values() for name, transform in by_class.items()}


def _jpeg(picture: Pixels, quality: int) -> Pixels:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


def _scaled(picture: Pixels, scale: float) -> Pixels:
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method), np.uint8)


def _cropped(picture: Pixels, share: float) -> Pixels:
    """Off centre, as people crop: a third of the cut left and above, the rest right and below."""
    height, width = picture.shape[:2]
    y, x = int(height * share / 3), int(width * share / 3)
    return picture[y : y + int(height * (1 - share)), x : x + int(width * (1 - share))]


def _rotated(picture: Pixels, degrees: float) -> Pixels:
    """Enlarged a little, as apps do, so that hardly any corner is empty."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.08)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def _bordered(picture: Pixels, down: float, across: float, grey: int) -> Pixels:
    y, x = (max(1, round(length * share)) for length, share in zip(picture.shape, (down, across), strict=False))
    colour = (grey, grey, grey)
    return np.asarray(cv2.copyMakeBorder(picture, y, y, x, x, cv2.BORDER_CONSTANT, value=colour), np.uint8)


def _written(picture: Pixels, text: str, at: tuple[float, float], height: float, colour: tuple[int, ...]) -> Pixels:
    """Text whose left lower corner lies `at` (shares of width and height), letters `height` of the picture's width."""
    size = height * picture.shape[1] / 22
    place = (round(at[0] * picture.shape[1]), round(at[1] * picture.shape[0]))
    thick = max(1, round(size * 1.6))
    font = cv2.FONT_HERSHEY_SIMPLEX
    return np.asarray(cv2.putText(picture, text, place, font, size, colour, thick, cv2.LINE_AA), np.uint8)


def _captioned(picture: Pixels, grey: int = 255) -> Pixels:
    bar = picture.shape[0] // 6
    colour = (grey, grey, grey)
    framed = cv2.copyMakeBorder(picture, 0, bar, 0, 0, cv2.BORDER_CONSTANT, value=colour)
    ink = (20, 20, 20) if grey > 127 else (235, 235, 235)
    return _written(np.asarray(framed, np.uint8), "seen on the web", (0.05, 0.95), 0.07, ink)


def _screenshot(picture: Pixels, page_grey: int = 245, wide: float = 1.2, long: float = 1.6) -> Pixels:
    """The picture inside a phone's page: bars, lines of text, margins."""
    height, width = picture.shape[:2]
    page = np.full((int(height * long), int(width * wide), 3), page_grey, np.uint8)
    page[: page.shape[0] // 20] = (40, 60, 90)
    ink = (60, 60, 60) if page_grey > 127 else (200, 200, 200)
    y, x = page.shape[0] // 10, (page.shape[1] - width) // 2
    below = (y + height) / page.shape[0]
    for line in range(5):
        words = ("lorem ipsum dolor sit amet", "consectetur adipiscing elit")[line % 2]
        at = (0.08, below + (1 - below) * (line + 1) / 6)
        page = _written(page, words, at, 0.035, ink)
    page[y : y + height, x : x + width] = picture
    return page


def _stamped(picture: Pixels) -> Pixels:
    return _written(picture.copy(), "(c) some forum", (0.35, 0.97), 0.06, (230, 230, 230))


def _toned(picture: Pixels) -> Pixels:
    """Lighter, warmer and with more contrast, as filters make it."""
    toned: Pixels = np.clip(picture * np.array([1.18, 1.08, 0.95]) + 8, 0, 255).astype(np.uint8)
    return toned


CLASSES: Mapping[str, Mapping[str, Transform]] = {
    PLAIN: {
        "jpeg 30": lambda p: _jpeg(p, 30),
        "jpeg 50": lambda p: _jpeg(p, 50),
        "jpeg 70": lambda p: _jpeg(p, 70),
        "half size, jpeg 60": lambda p: _jpeg(_scaled(p, 0.5), 60),
        "double size": lambda p: _scaled(p, 2),
        "crop 5 %": lambda p: _cropped(p, 0.05),
        "crop 10 %": lambda p: _cropped(p, 0.10),
        "rotate 3°": lambda p: _rotated(p, 3),
        "rotate 5°": lambda p: _rotated(p, 5),
        "rotate -5°": lambda p: _rotated(p, -5),
        "mirror": lambda p: p[:, ::-1],
        "frame": lambda p: _bordered(p, 0.06, 0.06, 255),
        "letterbox": lambda p: _bordered(p, 0.2, 0, 0),
        "caption bar": lambda p: _captioned(p),
        "dark caption bar, jpeg 50": lambda p: _jpeg(_captioned(p, 15), 50),
        "tone": lambda p: _toned(p),
        "watermark": lambda p: _stamped(p),
    },
    SCREENSHOT: {
        "screenshot": lambda p: _screenshot(p),
        "dark screenshot, jpeg 60": lambda p: _jpeg(_screenshot(p, 18), 60),
        "small screenshot": lambda p: _scaled(_screenshot(p, 245, 1.05, 2.1), 0.6),
        "mirrored screenshot": lambda p: _screenshot(p[:, ::-1]),
    },
    BEYOND: {
        "crop 15 %": lambda p: _cropped(p, 0.15),
        "crop 30 %": lambda p: _cropped(p, 0.30),
        "mirror, crop 15 %": lambda p: _cropped(p[:, ::-1], 0.15),
        "rotate 10°": lambda p: _rotated(p, 10),
        "cropped screenshot": lambda p: _screenshot(_cropped(p, 0.2), 245, 1.4, 2.0),
    },
}
