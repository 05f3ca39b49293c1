"""How the two text networks are asked: where lines of text stand, and what a line says in Latin letters and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import Floats, Network
from services.detector.domain.picture_text import Point, Quad

Pixels = NDArray[np.uint8]

LINE_HEIGHT: Final = 48
"""Pixels of a line as the recogniser takes it."""
MOST_LINE_WIDTH: Final = 3200
"""Pixels of such a line; a longer one is squeezed."""
MOST_CONTOURS: Final = 1000
"""Regions of one probability map that are looked at: what a hostile picture may make."""
_SIDE_STEP, _WIDTH_STEP = 96, 160
"""The detector's sides and the recogniser's widths are padded to multiples of these (the networks need 32 and 8):
OpenVINO makes new kernels for every new shape, which takes longer than the run, so there must be few."""
_GREY: Final = 127
_LEAST_CORE: Final = 3.0
"""Pixels that the marked core of a line must have across."""
MOST_MAP_APART: Final = 0.1
"""Largest mean difference of two engines' probabilities over marked pixels at which one may stand for the other."""


@dataclass(frozen=True, slots=True)
class LineRules:
    """What makes a region of the probability map a line; see rules/ocr.yaml."""

    pixel_from: float
    line_from: float
    unclip: float


class LineDetector:
    """Finds lines of text by differentiable binarisation (Liao et al. 2020)."""

    def __init__(self, network: Network, rules: LineRules) -> None:
        self._network = network
        self._rules = rules

    def find(self, rgb: Pixels, side: int) -> list[tuple[Quad, float]]:
        """(line, probability) in uint8 [H,W,3], looked at with a long side of at most `side` pixels; unordered."""
        height, width = rgb.shape[:2]
        scale = min(1.0, side / max(height, width))
        wide, high = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = np.full((1, _padded(high, _SIDE_STEP), _padded(wide, _SIDE_STEP), 3), _GREY, np.uint8)
        canvas[0, :high, :wide] = cv2.resize(rgb, (wide, high), interpolation=cv2.INTER_AREA) if scale < 1 else rgb
        likely = self._network.run(canvas)[0][0, 0, :high, :wide]
        return [(quad.scaled(width / wide, height / high), score) for quad, score in lines_of(likely, self._rules)]


def _padded(length: int, step: int) -> int:
    return -(-length // step) * step


def lines_of(likely: Floats, rules: LineRules) -> list[tuple[Quad, float]]:
    """The lines that a map [H,W] of probabilities marks, in its pixels, with their mean probability."""
    marked = (likely > rules.pixel_from).astype(np.uint8)
    contours, _ = cv2.findContours(marked, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours[:MOST_CONTOURS]:
        centre, size, degrees = cv2.minAreaRect(contour)
        if min(size) < _LEAST_CORE:
            continue
        score = _mean_inside(likely, np.asarray(cv2.boxPoints((centre, size, degrees)), np.float32))
        if score >= rules.line_from:
            # The network marks a line's core, shrunk by area × share ÷ circumference; this is the way back.
            more = size[0] * size[1] * rules.unclip / (size[0] + size[1])
            grown = cv2.boxPoints((centre, (size[0] + more, size[1] + more), degrees))
            found.append((_ordered(np.asarray(grown, np.float32)), score))
    return found


def _mean_inside(likely: Floats, corners: Floats) -> float:
    height, width = likely.shape
    left, top = (max(0, int(np.floor(v))) for v in corners.min(axis=0))
    right, bottom = (int(np.ceil(v)) + 1 for v in corners.max(axis=0))
    right, bottom = min(width, right), min(height, bottom)
    if right <= left or bottom <= top:
        return 0.0
    mask = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(mask, [np.round(corners - (left, top)).astype(np.int32)], (1,))
    return float(cv2.mean(likely[top:bottom, left:right], mask)[0])


def _ordered(corners: Floats) -> Quad:
    """Four corners as a region whose text runs along the longer side, from the left, or from above if it is steep."""
    points: list[Point] = [(float(x), float(y)) for x, y in corners]
    sides = [np.hypot(points[i][0] - points[i - 3][0], points[i][1] - points[i - 3][1]) for i in range(4)]
    # boxPoints go round clockwise; the text runs along the first side or along the second.
    start = 0 if sides[0] >= sides[1] else 1
    a, b, c, d = (points[(start + i) % 4] for i in range(4))
    along = (b[0] - a[0], b[1] - a[1])
    steep = abs(along[1]) > abs(along[0])
    backwards = along[1] < 0 if steep else along[0] < 0
    return Quad((c, d, a, b)) if backwards else Quad((a, b, c, d))


@dataclass(frozen=True, slots=True)
class Symbol:
    """A character that was read, and the share of the line's length at which its middle stands."""

    text: str = field(repr=False)
    place: float
    certainty: float


class LatinRecogniser:
    """Reads cut-out lines: Latin letters, figures, signs, Han characters, and no Hangul (PP-OCR, CTC)."""

    def __init__(self, network: Network, characters: Sequence[str]) -> None:
        """`characters`: by number, from 1 on."""
        self._network = network
        self._characters = characters

    def read(self, line: Pixels) -> list[Symbol]:
        """The symbols of a line, uint8 [H,W,3], in their order."""
        height, width = line.shape[:2]
        wide = int(np.clip(round(width * LINE_HEIGHT / height), 1, MOST_LINE_WIDTH))
        way = cv2.INTER_AREA if height > LINE_HEIGHT else cv2.INTER_LINEAR
        canvas = np.full((1, LINE_HEIGHT, _padded(wide, _WIDTH_STEP), 3), _GREY, np.uint8)
        canvas[0, :, :wide] = cv2.resize(line, (wide, LINE_HEIGHT), interpolation=way)
        numbers, certainties = self._network.run(canvas)
        return self._symbols(numbers[0], certainties[0], canvas.shape[2] / wide)

    def _symbols(self, numbers: Floats, certainties: Floats, stretch: float) -> list[Symbol]:
        """A character is one run of the same number; between two equal ones lies a step without any (CTC)."""
        found = []
        at = 0
        while at < len(numbers):
            number, end = int(numbers[at]), at + 1
            while end < len(numbers) and int(numbers[end]) == number:
                end += 1
            if 0 < number <= len(self._characters):
                place = (at + end) / 2 / len(numbers) * stretch
                found.append(Symbol(self._characters[number - 1], min(1.0, place), float(certainties[at:end].max())))
            at = end
        return found


def cut(rgb: Pixels, quad: Quad) -> Pixels:
    """The line as an upright strip uint8 [h,w,3]; a steep one is turned so that its text runs from the left."""
    width, height = max(1, round(quad.length)), max(1, round(quad.height))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(np.array(quad.corners, np.float32), target)
    return np.asarray(
        cv2.warpPerspective(rgb, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def sees_the_same(network: Network, reference: Network) -> bool:
    """Whether two engines mark the same pixels of a page with two lines."""
    page = probe()[np.newaxis]
    one, other = network.run(page)[0], reference.run(page)[0]
    marked = (one > 0.3) | (other > 0.3)
    return bool(marked.any()) and float(np.abs(one - other)[marked].mean()) <= MOST_MAP_APART


def reads_the_same(network: Network, reference: Network) -> bool:
    """Whether two engines read the same characters in a line."""
    line = probe()[24:72, :320][np.newaxis]
    return bool(np.array_equal(network.run(line)[0], reference.run(line)[0]))


def probe() -> Pixels:
    """A page, uint8 [160,320,3], with two lines that every engine must find and read alike."""
    page = np.full((160, 320, 3), 235, np.uint8)
    for text, y in (("010-1234-5678", 60), ("name@mail.kr", 120)):
        cv2.putText(page, text, (16, y), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 20, 20), 2, cv2.LINE_AA)
    return page
