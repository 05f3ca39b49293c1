"""Which parts of a large picture are looked at one by one, for faces too small for a look at the whole of it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from services.chassis import yaml_text
from services.detector.adapters.models import Box, CenterFace, Pixels, shared, without_overlaps

RULES_FILE = Path(__file__).parent.parent / "rules" / "tiles.yaml"
_STEP = 0.97
_SAME = 0.3
"""Intersection over union from which two boxes show one face."""


@dataclass(frozen=True)
class TileRules:
    """rules/tiles.yaml, where each value is explained."""

    id: str
    version: int
    evaluation: str
    most: int
    most_together: int
    long_side: int
    short_side: int
    overlap: int
    least_gain: float
    sure_px: float

    def __post_init__(self) -> None:
        sides = 0 <= self.overlap < self.short_side <= self.long_side
        if not sides or min(self.most, self.most_together) < 0 or self.least_gain < 1:
            raise ValueError(f"rules {self.id}-{self.version} hold a value out of range")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> TileRules:
        """The rules of a file. Raises ValueError for a field missing, unknown or out of range."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError("tiles.yaml: a field is missing, unknown or of the wrong kind") from error

    def scale(self, height: int, width: int, seen_long_side: int, left: int | None = None) -> float | None:
        """How large a picture of this size is looked at in tiles, 1 being full size; None where they would show too
        little more than a look at the whole at `seen_long_side`. `left`: tiles that may be looked at still.
        """
        most = self.most if left is None else min(self.most, left)
        least = self.least_gain * min(seen_long_side, max(height, width)) / max(height, width)
        scale = 1.0
        while scale >= least:
            if len(list(self.places(height, width, scale))) <= most:
                return scale
            scale *= _STEP
        return None

    def places(self, height: int, width: int, scale: float) -> Iterator[tuple[int, int, int, int]]:
        """(left, top, right, bottom) of each tile in pixels of the picture."""
        across, down = (self.long_side, self.short_side) if width >= height else (self.short_side, self.long_side)
        for top, bottom in _stretches(height, down / scale, self.overlap / scale):
            for left, right in _stretches(width, across / scale, self.overlap / scale):
                yield left, top, right, bottom


@dataclass
class Budget:
    """Tiles that may be looked at still."""

    left: int


def _stretches(length: int, tile: float, overlap: float) -> Iterator[tuple[int, int]]:
    """Ends of tiles that cover a length, evenly spread."""
    count = max(1, ceil((length - overlap) / (tile - overlap)))
    size = min(length, ceil(tile))
    for number in range(count):
        start = round(number * (length - size) / max(1, count - 1))
        yield start, start + size


def read_tile_rules(file: Path = RULES_FILE) -> TileRules:
    """The rules in a YAML file. Raises ValueError like `TileRules.read`."""
    return TileRules.read(yaml_text.parse(file.read_text(encoding="utf-8")))


def find_in_tiles(rgb: Pixels, detector: CenterFace, rules: TileRules, scale: float, budget: Budget) -> list[Box]:
    """Faces in uint8 [H,W,3] that the tiles show whole, best first, in its pixels."""
    height, width = rgb.shape[:2]
    found: list[Box] = []
    for left, top, right, bottom in rules.places(height, width, scale):
        budget.left -= 1
        inner = (left > 0, top > 0, right < width, bottom < height)
        for box in detector.detect(rgb[top:bottom, left:right], rules.long_side):
            if not _cut(box, right - left, bottom - top, inner):
                found.append(box.moved(left, top, 1, 1))
    return without_overlaps(found, _SAME)


def _cut(box: Box, width: int, height: int, inner: Sequence[bool]) -> bool:
    """Whether a tile's border inside the picture cuts a face: its neighbour shows it whole, or it is a large one."""
    beyond = (box.left <= 1, box.top <= 1, box.right >= width - 1, box.bottom >= height - 1)
    return any(at_border and is_inner for at_border, is_inner in zip(beyond, inner, strict=True))


def joined(coarse: Sequence[Box], fine: Sequence[Box], sure_px: float) -> tuple[list[int], list[int]]:
    """Faces of a look at the whole and of tiles, all in the same pixels, each once: the numbers of those that stay, of
    the first and of the second. A face that both show is the tiles' where its shorter side lies below `sure_px`.
    """
    large = [box for box in coarse if min(box.width, box.height) >= sure_px]
    added = [at for at, box in enumerate(fine) if all(shared(box, other) < _SAME for other in large)]
    kept = [
        at
        for at, box in enumerate(coarse)
        if min(box.width, box.height) >= sure_px or all(shared(box, fine[other]) < _SAME for other in added)
    ]
    return kept, added
