"""What stands written in a picture, and where: lines, the text that they make together, and the way back to pixels."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

Point = tuple[float, float]

MOST_CHARACTERS: Final = 16_384
"""Of all lines of a picture together; further lines keep their boxes and lose their text."""
SAME_ROW: Final = 0.5
"""Share of the lower line's height by which two lines' middles may differ and still stand in one row."""
_WIDE: Final = frozenset("WF")
_FIELD: Final = "written"


def field_name(part: int, frame: int) -> str:
    """The scanned field of what stands in a picture: `image.0.written`, `image.0.written-1` for a later frame of an
    animation. What a picture's file says of itself has one name more: `image.0.Artist.3`.
    """
    return f"image.{part}.{_FIELD}" + (f"-{frame}" if frame else "")


def is_written(name: str) -> bool:
    """Whether a field is one of `field_name`."""
    head, _, rest = name.partition(".")
    part, _, last = rest.partition(".")
    return head == "image" and part.isdecimal() and "." not in last and last.partition("-")[0] == _FIELD


@dataclass(frozen=True, slots=True)
class Quad:
    """A region with four corners in pixels, clockwise from the top left of the text; it may slope."""

    corners: tuple[Point, Point, Point, Point]

    @classmethod
    def upright(cls, left: float, top: float, right: float, bottom: float) -> Quad:
        """A rectangle along the picture's edges; right and bottom exclusive."""
        return cls(((left, top), (right, top), (right, bottom), (left, bottom)))

    @property
    def length(self) -> float:
        """Pixels along the text: the mean of both long sides."""
        a, b, c, d = self.corners
        return (math.dist(a, b) + math.dist(d, c)) / 2

    @property
    def height(self) -> float:
        """Pixels across the text."""
        a, b, c, d = self.corners
        return (math.dist(a, d) + math.dist(b, c)) / 2

    @property
    def centre(self) -> Point:
        """The middle."""
        return sum(x for x, _ in self.corners) / 4, sum(y for _, y in self.corners) / 4

    @property
    def slope(self) -> float:
        """Radians by which the text runs downwards."""
        a, b, c, d = self.corners
        return math.atan2(b[1] - a[1] + c[1] - d[1], b[0] - a[0] + c[0] - d[0])

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the upright rectangle around it."""
        xs, ys = [x for x, _ in self.corners], [y for _, y in self.corners]
        return min(xs), min(ys), max(xs), max(ys)

    def turned(self) -> Quad:
        """The same region, its text upside down."""
        a, b, c, d = self.corners
        return Quad((c, d, a, b))

    def part(self, start: float, end: float) -> Quad:
        """What lies between two shares of its length, 0 the left end and 1 the right; beyond them it is prolonged."""
        a, b, c, d = self.corners
        return Quad((_between(a, b, start), _between(a, b, end), _between(d, c, end), _between(d, c, start)))

    def grown(self, along: float, across: float) -> Quad:
        """Larger by these pixels at both ends, and above and below."""
        x, y = along / max(self.length, 1.0), across / max(self.height, 1.0)
        a, b, c, d = self.part(-x, 1 + x).corners
        return Quad((_between(a, d, -y), _between(b, c, -y), _between(b, c, 1 + y), _between(a, d, 1 + y)))

    def moved(self, x: float, y: float) -> Quad:
        """The same region, further right and down by these pixels."""
        a, b, c, d = ((px + x, py + y) for px, py in self.corners)
        return Quad((a, b, c, d))

    def scaled(self, x: float, y: float) -> Quad:
        """The same region in a picture `x` times as wide and `y` times as high."""
        a, b, c, d = ((px * x, py * y) for px, py in self.corners)
        return Quad((a, b, c, d))


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line of text: where it stands, what it says, how sure that is (0..1). An unread one says nothing."""

    quad: Quad
    text: str = field(default="", repr=False)
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """The lines of a picture in reading order, and the text that they make: words of a row in one line."""

    lines: tuple[TextLine, ...] = ()
    text: str = field(default="", repr=False)
    starts: tuple[int, ...] = ()
    """For each line the offset of its first character in `text`."""

    def regions(self, start: int, end: int) -> list[Quad]:
        """Where the characters from `start` to `end` of the text stand: one region for each line that has some.

        Places inside a line are reckoned by the width of its characters, so each region is larger by one character at
        both ends, and by a sixth of the line's height above and below.
        """
        return [_part(line, *inside) for line, inside in self._within(start, end)]

    def whole_regions(self, start: int, end: int) -> list[Quad]:
        """The whole lines in which the characters from `start` to `end` of the text stand."""
        return [line.quad for line, _ in self._within(start, end)]

    def _within(self, start: int, end: int) -> Iterator[tuple[TextLine, tuple[int, int]]]:
        """The lines that have some of these characters, and which of their own these are."""
        for at in range(max(0, bisect_right(self.starts, start) - 1), len(self.lines)):
            line, first = self.lines[at], self.starts[at]
            if first >= end:
                break
            inside = (max(0, start - first), min(len(line.text), end - first))
            if inside[0] < inside[1]:
                yield line, inside


def _part(line: TextLine, start: int, end: int) -> Quad:
    widths = [_width(char) for char in line.text]
    total = sum(widths)
    from_, to = sum(widths[:start]) / total, sum(widths[:end]) / total
    one = 2 / total
    quad = line.quad.part(max(0.0, from_ - one), min(1.0, to + one))
    return quad.grown(line.quad.height / 6, line.quad.height / 6)


def _width(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in _WIDE else 1


def written(lines: Sequence[TextLine]) -> Written:
    """Puts lines into reading order: rows from above, each from the left, as the text slopes."""
    if not lines:
        return Written()
    slope = median(line.quad.slope for line in lines)
    turned = [(_turned(line.quad.centre, -slope), line) for line in lines]
    rows: list[list[tuple[Point, TextLine]]] = []
    for each in sorted(turned, key=lambda pair: pair[0][1]):
        if rows and _same_row(rows[-1][0], each):
            rows[-1].append(each)
        else:
            rows.append([each])
    return _put_together([[line for _, line in sorted(row, key=lambda pair: pair[0][0])] for row in rows])


def _turned(point: Point, by: float) -> Point:
    x, y = point
    return x * math.cos(by) - y * math.sin(by), x * math.sin(by) + y * math.cos(by)


def _same_row(one: tuple[Point, TextLine], other: tuple[Point, TextLine]) -> bool:
    lower = min(one[1].quad.height, other[1].quad.height)
    return abs(one[0][1] - other[0][1]) <= SAME_ROW * lower


def _put_together(rows: Sequence[Sequence[TextLine]]) -> Written:
    lines: list[TextLine] = []
    starts: list[int] = []
    text = ""
    for row in rows:
        for at, line in enumerate(row):
            gap = "" if not text else " " if at else "\n"
            said = line.text if len(text) + len(gap) + len(line.text) <= MOST_CHARACTERS else ""
            text += gap if said else ""
            starts.append(len(text))
            lines.append(line if said == line.text else TextLine(line.quad))
            text += said
    return Written(tuple(lines), text, tuple(starts))
