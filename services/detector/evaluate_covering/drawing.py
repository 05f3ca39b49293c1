"""What covers a face, drawn over pictures: masks, dark glasses, hands, bars, stickers, mosaics.

All shapes are given in the 112 × 112 crop of the uncovered face and drawn into the picture before anything looks at it,
so that detectors and landmarks meet what covers the face as the product would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.faces import ARCFACE_POINTS, similarity

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Chance = np.random.Generator
Colour = Sequence[float] | NDArray[Any]
Points = Sequence[tuple[float, float]] | NDArray[np.float64]

_MASKS = ((200, 215, 230), (235, 235, 235), (25, 25, 28), (120, 150, 190), (90, 60, 60))
_GLASSES = ((15, 15, 18), (40, 25, 15), (30, 40, 60))
_BARS = ((0, 0, 0), (255, 255, 255), (255, 0, 0))
_MASK_LINES = (78, 90, 102)


class Canvas:
    """A picture to draw on, in the places of a face's crop."""

    def __init__(self, rgb: Pixels, points: Floats) -> None:
        """`points`: the face's five points in the picture."""
        self.rgb = rgb.copy()
        self._back = cv2.invertAffineTransform(similarity(points, ARCFACE_POINTS))

    def places(self, points: Points) -> NDArray[np.int32]:
        """Pixels of the picture for points of the crop."""
        crop = np.asarray(points, np.float64)
        return np.asarray(np.rint(crop @ self._back[:, :2].T + self._back[:, 2]), np.int32)

    def fill(self, points: Points, colour: Colour) -> None:
        """A polygon of one colour."""
        cv2.fillPoly(self.rgb, [self.places(points)], tuple(float(c) for c in colour), lineType=cv2.LINE_AA)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: Colour) -> None:
        """A thin line."""
        one, other = (tuple(map(int, place)) for place in self.places([start, end]))
        cv2.line(self.rgb, one, other, tuple(float(c) for c in colour), 1, cv2.LINE_AA)

    def mosaic(self, left: float, top: float, right: float, bottom: float, across: int) -> None:
        """Cells of one colour each, so many across."""
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        x, y, width, height = cv2.boundingRect(self.places(corners))
        x0, y0 = max(0, x), max(0, y)
        part = self.rgb[y0 : max(y0, y + height), x0 : max(x0, x + width)]
        if min(part.shape[:2]) < 4:
            return
        cell = max(2, part.shape[1] // across)
        size = max(1, part.shape[1] // cell), max(1, part.shape[0] // cell)
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        part[:] = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)

    def skin(self) -> NDArray[np.float64]:
        """The mean colour of both cheeks."""
        height, width = self.rgb.shape[:2]
        cheeks = self.places([(36, 76), (76, 76)])
        found = [self.rgb[min(max(y, 0), height - 1), min(max(x, 0), width - 1)] for x, y in cheeks]
        return np.asarray(np.mean(found, axis=0), np.float64)


def _oval(x: float, y: float, wide: float, high: float) -> NDArray[np.float64]:
    turn = np.linspace(0, 2 * np.pi, 40)
    return np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], axis=1)


def _mask(canvas: Canvas, chance: Chance) -> None:
    colour = _MASKS[chance.integers(len(_MASKS))]
    edge = [(20, 62), (40, 66), (56, 60), (72, 66), (92, 62), (90, 90), (76, 116), (56, 122), (36, 116), (22, 90)]
    canvas.fill(edge, colour)
    for y in _MASK_LINES:
        canvas.line((26, y), (86, y), [0.85 * value for value in colour])


def _dark_glasses(canvas: Canvas, chance: Chance) -> None:
    colour, wide = _GLASSES[chance.integers(len(_GLASSES))], chance.uniform(15, 19)
    high = 12 + chance.uniform(0, 3)
    canvas.fill(_oval(37, 53, wide, high), colour)
    canvas.fill(_oval(75, 53, wide, high), colour)
    canvas.fill([(48, 48), (64, 48), (64, 51), (48, 51)], colour)


def _bar(canvas: Canvas, chance: Chance) -> None:
    canvas.fill([(12, 42), (100, 42), (100, 64), (12, 64)], _BARS[chance.integers(len(_BARS))])


def _mosaic_over_eyes(canvas: Canvas, chance: Chance) -> None:
    canvas.mosaic(14, 38, 98, 66, int(chance.integers(6, 11)))


def _mosaic_over_mouth(canvas: Canvas, chance: Chance) -> None:
    canvas.mosaic(22, 68, 90, 112, int(chance.integers(6, 11)))


def _hand_over_mouth(canvas: Canvas, chance: Chance) -> None:
    colour, top = np.clip(canvas.skin() * chance.uniform(0.8, 1.15), 0, 255), chance.uniform(76, 84)
    for finger in range(4):
        tone = np.clip(colour * chance.uniform(0.93, 1.05), 0, 255)
        canvas.fill(_oval(58 + chance.uniform(-4, 4), top + 10 * finger, 34, 5.6), tone)


def _hand_over_half(canvas: Canvas, chance: Chance) -> None:
    colour, left = np.clip(canvas.skin() * chance.uniform(0.8, 1.15), 0, 255), bool(chance.integers(2))
    for finger in range(4):
        x = 18 + 10.5 * finger if left else 94 - 10.5 * finger
        canvas.fill(_oval(x, 62, 5.8, 44), np.clip(colour * chance.uniform(0.93, 1.05), 0, 255))


def _half(canvas: Canvas, chance: Chance) -> None:
    start, end = (0, 56) if chance.integers(2) else (56, 112)
    canvas.fill([(start, 0), (end, 0), (end, 112), (start, 112)], chance.integers(0, 256, 3))


def _sticker(canvas: Canvas, chance: Chance) -> None:
    colour, x, y = chance.integers(60, 256, 3), chance.uniform(36, 76), chance.uniform(48, 92)
    canvas.fill(_oval(x, y, 22, 22), colour)
    for eye in (x - 8, x + 8):
        canvas.fill(_oval(eye, y - 6, 3, 3), (0, 0, 0))


COVERINGS: Mapping[str, Callable[[Canvas, Chance], None]] = {
    "mask": _mask,
    "dark glasses": _dark_glasses,
    "bar over eyes": _bar,
    "mosaic over eyes": _mosaic_over_eyes,
    "mosaic over mouth": _mosaic_over_mouth,
    "hand over mouth": _hand_over_mouth,
    "hand over half": _hand_over_half,
    "half": _half,
    "sticker": _sticker,
}


def drawn(rgb: Pixels, points: Floats, kind: str, chance: Chance) -> Pixels:
    """A copy of uint8 [H,W,3] whose face at `points` [5,2] is covered."""
    canvas = Canvas(rgb, points)
    COVERINGS[kind](canvas, chance)
    return canvas.rgb
