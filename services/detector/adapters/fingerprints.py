"""What is kept of a picture to recognise it: hashes in eight orientations, points, faces."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Grey = NDArray[np.uint8]
_Any = TypeVar("_Any", bound=np.generic)

FORMAT = 2
_FORMAT_BEFORE = 1
"""Kept all orientations of two views; of it the upright ones are read."""
WORKING_SIDE = 512
MOST_POINTS = 600
KEPT_POINTS = 160
MOST_FACES = 2
FACE_SIDE = 72
POINTS_SIDE = 384
"""Long side of the picture that points are found in."""
_LEAST_ORB_SIDE = 64
_PDQ_SIDE = 64
_PDQ_DCT = np.sqrt(2 / _PDQ_SIDE) * np.cos(
    np.pi / (2 * _PDQ_SIDE) * np.outer(np.arange(1, 17), 2 * np.arange(_PDQ_SIDE) + 1)
)
_FACE_SIDE_BEFORE = 44
"""Of the format before."""
_LEAST_TRIMMED = 0.3
_INK, _STROKES, _LEAST_FILLED, _LEAST_PICTURED = 14, 40, 0.6, 0.12
"""Of `pictured`: greys that differ, strokes of a long side, and shares of the box and of the page."""
VIEWS = 3
"""The whole picture, without its border, and what is pictured in it."""
_FOUND_POINTS = 1_500
_CELLS = 8
"""Points are chosen evenly from so many cells down and across."""


@dataclass(frozen=True)
class Points:
    """ORB features, strongest first.

    places: uint16 [N,2] in quarter pixels of a picture whose long side is POINTS_SIDE; descriptors: uint8
    [N,32].
    """

    places: NDArray[np.uint16]
    descriptors: NDArray[np.uint8]


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a picture to recognise it. At most 16.3 kB as bytes, 11.1 with one face; personal data, kept
    encrypted.
    """

    sha256: bytes = field(repr=False)
    quality: int
    """PDQ's measure of structure, 0..100."""
    dhashes: NDArray[np.uint64] = field(repr=False)
    """[3,8]: of the whole picture, of it without its border, of what is pictured in it; eight orientations of each,
    upright first. Of a kept picture [3,1]: one side of a comparison suffices."""
    phashes: NDArray[np.uint64] = field(repr=False)
    pdqs: NDArray[np.uint8] = field(repr=False)
    """[8,32]: eight orientations of the whole, upright first; of a kept picture [1,32]."""
    points: Points = field(repr=False)
    """Of a fresh picture up to MOST_POINTS, of a kept one the first KEPT_POINTS: those are likely among the many."""
    faces: NDArray[np.uint8] = field(repr=False)
    """[F ≤ 2,72,72]: aligned grey faces, largest first."""
    grey: Grey | None = field(repr=False, default=None)
    """What the points were found in; of a fresh picture only."""

    @cached_property
    def mirrored_points(self) -> Points | None:
        """Of a fresh picture only: one side of a comparison suffices, so they are not kept. Found when asked for, since
        most copies are known before by their hashes."""
        return None if self.grey is None else orb_points(np.ascontiguousarray(self.grey[:, ::-1]))

    def with_mirror(self, points: Points) -> Fingerprint:
        """The same, its mirrored points known already."""
        found = replace(self)
        found.__dict__["mirrored_points"] = points  # what cached_property does
        return found

    def to_bytes(self) -> bytes:
        """For keeping; `from_bytes` reads it."""
        places, descriptors = self.points.places[:KEPT_POINTS], self.points.descriptors[:KEPT_POINTS]
        head = struct.pack(">BBBB", FORMAT, self.quality, len(places), len(self.faces))
        arrays = (self.dhashes[:, 0], self.phashes[:, 0], self.pdqs[0], places, descriptors, self.faces)
        return head + self.sha256 + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Reads this format and the one before. Raises ValueError when the bytes are of neither."""
        hashes = {FORMAT: (24, 24, 32), _FORMAT_BEFORE: (128, 128, 256)}.get(data[0] if data else 0)
        if hashes is None or len(data) < 4 or data[2] > KEPT_POINTS or data[3] > MOST_FACES:
            raise ValueError("not a fingerprint of a known format")
        form, quality, points, faces = data[:4]
        side = FACE_SIDE if form == FORMAT else _FACE_SIDE_BEFORE
        sizes = (32, *hashes, points * 4, points * 32, faces * side**2)
        if len(data) != 4 + sum(sizes):
            raise ValueError("not a fingerprint of a known format")
        ends = np.cumsum((4, *sizes)).tolist()
        sha, d, p, pdq, places, descriptors, patches = (data[a:b] for a, b in pairwise(ends))
        # Of the format before: the whole, the trimmed and, as nothing was known of it, the whole again.
        upright = slice(None) if form == FORMAT else [0, 8, 0]
        return cls(
            sha,
            quality,
            np.frombuffer(d, np.uint64)[upright, None],
            np.frombuffer(p, np.uint64)[upright, None],
            np.frombuffer(pdq[:32], np.uint8).reshape(1, 32),
            Points(
                np.frombuffer(places, np.uint16).reshape(-1, 2),
                np.frombuffer(descriptors, np.uint8).reshape(-1, 32),
            ),
            _faces([sized(each, FACE_SIDE) for each in np.frombuffer(patches, np.uint8).reshape(-1, side, side)]),
        )


def fingerprint(data: bytes, rgb: Pixels, face_crops: Sequence[Pixels] = ()) -> Fingerprint:
    """What to keep of a picture.

    data: the file's bytes; rgb: uint8 [H,W,3] of any size; face_crops: aligned [112,112,3] faces, largest
    first. A picture thinner than one part in a hundred is taken as it is; nothing raises for odd shapes.
    """
    small = _at_most(rgb, WORKING_SIDE)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    parts = (grey, trimmed(grey), pictured(grey))
    frame = pdq_frame(np.ascontiguousarray(small))
    resized = _with_long_side(grey, POINTS_SIDE)
    return Fingerprint(
        hashlib.sha256(data).digest(),
        pdq_quality(frame),
        np.array([dhashes(part) for part in parts], np.uint64),
        np.array([phashes(part) for part in parts], np.uint64),
        np.array([np.packbits(pdq_bits(view)) for view in orientations(frame)], np.uint8),
        orb_points(resized),
        _faces([_face_patch(crop) for crop in face_crops[:MOST_FACES]]),
        resized,
    )


def orientations(grey: NDArray[_Any]) -> Iterator[NDArray[_Any]]:
    """The eight ways to turn and mirror a picture, upright first."""
    for turns in range(4):
        turned = np.rot90(grey, turns)
        yield turned
        yield turned[:, ::-1]


def trimmed(grey: Grey) -> Grey:
    """The picture without flat borders (letterbox, caption bar, frame); itself when little would be left."""
    rows, columns = _busy(grey), _busy(grey.T)
    if len(rows) < _LEAST_TRIMMED * grey.shape[0] or len(columns) < _LEAST_TRIMMED * grey.shape[1]:
        return grey
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def pictured(grey: Grey) -> Grey:
    """The largest picture on a page of one colour (a screenshot of a post); the whole where there is no such page.

    What differs from the most frequent grey, without strokes as thin as those of letters, is a picture where it nearly
    fills its box.
    """
    page = int(np.bincount(grey.ravel(), minlength=256).argmax())
    inked = (np.abs(grey.astype(np.int16) - page) > _INK).astype(np.uint8)
    stroke = max(3, max(grey.shape) // _STROKES)
    solid = cv2.morphologyEx(inked, cv2.MORPH_OPEN, np.ones((stroke, stroke), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=4)
    found = [box for box in stats[1:] if box[cv2.CC_STAT_AREA] >= _LEAST_FILLED * box[2] * box[3]]
    x, y, width, height, _ = max(found, key=lambda box: int(box[2]) * int(box[3]), default=(0, 0, 0, 0, 0))
    if width * height < _LEAST_PICTURED * grey.size or min(width, height) < _LEAST_ORB_SIDE // 2:
        return grey
    return grey[y : y + height, x : x + width]


def _busy(grey: Grey) -> NDArray[np.intp]:
    """Indexes of the rows that are not nearly one grey."""
    # From the 5th to the 95th percentile, of every other pixel: a third of what np.percentile of all costs.
    pixels = np.ascontiguousarray(grey[:, ::2])
    last = pixels.shape[1] - 1
    low, high = round(0.05 * last), round(0.95 * last)
    ordered = np.partition(pixels, (low, high), axis=1).astype(np.int16)
    return np.flatnonzero(ordered[:, high] - ordered[:, low] > 12)


def dhashes(grey: Grey) -> list[int]:
    """The dhash of each of the eight orientations: reduced once for the upright ones and once for those on their side,
    then turned, which is the same as turning first."""
    upright = list(orientations(_reduced(grey, 9, 8)))
    aside = list(orientations(_reduced(grey, 8, 9)))
    return [_dhash((upright, aside)[at // 2 % 2][at]) for at in range(8)]


def _dhash(small: Grey) -> int:
    """64 bits: is each pixel of 8×9 brighter than its left neighbour (Krawetz 2013)."""
    return _bits(small[:, 1:] > small[:, :-1])


def phashes(grey: Grey) -> list[int]:
    """The phash of each of the eight orientations, turned after they are reduced."""
    return [_phash(view) for view in orientations(_reduced(grey, 32, 32))]


def _phash(small: Grey) -> int:
    """64 bits: is each low frequency of 32×32 above the median (Zauner 2010)."""
    low = cv2.dct(small.astype(np.float32))[:8, :8]
    return _bits(low > np.median(low.ravel()[1:]))


def _reduced(grey: Grey, width: int, height: int) -> Grey:
    return np.asarray(cv2.resize(np.ascontiguousarray(grey), (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags).tobytes(), "big")


def pdq_frame(rgb: Pixels) -> NDArray[np.float32]:
    """The 64×64 luminance that PDQ looks at (Meta, "The TMK+PDQF Video-Hashing Algorithm and the PDQ
    Image-Hashing Algorithm", 2019): two passes of a box filter as wide as half a target pixel, then sampling.
    """
    luma = rgb.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    height, width = luma.shape
    box = (-(-width // (2 * _PDQ_SIDE)), -(-height // (2 * _PDQ_SIDE)))
    anchor = ((box[0] - 1) // 2, (box[1] - 1) // 2)  # an even box reaches one further right and down
    weight = cv2.blur(np.ones_like(luma), box, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
    for _ in range(2):
        blurred = cv2.blur(luma, box, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
        luma = np.asarray(blurred / weight, np.float32)
    rows = ((np.arange(_PDQ_SIDE) + 0.5) * height / _PDQ_SIDE).astype(int)
    columns = ((np.arange(_PDQ_SIDE) + 0.5) * width / _PDQ_SIDE).astype(int)
    return np.asarray(luma[np.ix_(rows, columns)], np.float32)


def pdq_quality(frame: NDArray[np.float32]) -> int:
    """How much structure a frame has, 0..100: its summed steps between neighbours."""
    steps = [np.trunc(np.diff(frame, axis=axis) * (100 / 255)) for axis in (0, 1)]
    return min(100, int(sum(float(np.abs(step).sum()) for step in steps) / 90))


def pdq_bits(frame: NDArray[np.float32]) -> NDArray[np.bool_]:
    """256 bits: is each of the 16×16 low frequencies, mean excluded, above their median."""
    low = _PDQ_DCT @ frame @ _PDQ_DCT.T
    return np.asarray(low > np.median(low)).ravel()


def orb_points(grey: Grey) -> Points:
    """At most MOST_POINTS ORB features (Rublee 2011), evenly from all over the picture; none where it is flat or a mere
    strip."""
    nothing = Points(np.empty((0, 2), np.uint16), np.empty((0, 32), np.uint8))
    if min(grey.shape) < _LEAST_ORB_SIDE:
        return nothing
    orb = cv2.ORB.create(nfeatures=_FOUND_POINTS, scaleFactor=1.2, nlevels=8, edgeThreshold=15, fastThreshold=5)
    found = orb.detect(grey, None)
    if not found:
        return nothing
    # By `class_id` the order is known after `compute`, which may drop and reorder points.
    chosen = [found[at] for at in _spread_out(found, grey.shape)]
    for at, point in enumerate(chosen):
        point.class_id = at
    described, descriptors = orb.compute(grey, chosen)
    if not described or descriptors is None:
        return nothing
    order = np.argsort([point.class_id for point in described], kind="stable")
    # Quarter pixels: far below the tolerance of the geometric check.
    places = np.array([point.pt for point in described], np.float32)[order] * 4
    return Points(places.round().astype(np.uint16), np.asarray(descriptors[order], np.uint8))


def _spread_out(found: Sequence[cv2.KeyPoint], shape: tuple[int, ...]) -> list[int]:
    """MOST_POINTS of them: first the strongest of each cell, then the second of each, so that letters beside a picture,
    which have the strongest of all, leave room for its own; and so is every beginning of the list."""
    response = np.array([point.response for point in found])
    cells = np.array([point.pt for point in found]) * _CELLS / np.array([shape[1], shape[0]])
    cell = np.minimum(cells.astype(int), _CELLS - 1) @ np.array([1, _CELLS])
    strongest = np.argsort(-response, kind="stable")
    by_cell = strongest[np.argsort(cell[strongest], kind="stable")]
    starts = np.searchsorted(cell[by_cell], np.arange(_CELLS**2))
    rank = np.arange(len(found)) - starts[cell[by_cell]]
    order = np.lexsort((-response[by_cell], rank))
    return [int(at) for at in by_cell[order][:MOST_POINTS]]


def _face_patch(crop: Pixels) -> Grey:
    return sized(np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8), FACE_SIDE)


def sized(face: Grey, side: int) -> Grey:
    """A square grey picture at another size."""
    method = cv2.INTER_AREA if side <= len(face) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (side, side), interpolation=method), np.uint8)


def _faces(patches: Sequence[Grey]) -> NDArray[np.uint8]:
    return np.array(patches, np.uint8).reshape(-1, FACE_SIDE, FACE_SIDE)


def _at_most(rgb: Pixels, side: int) -> Pixels:
    scale = side / max(rgb.shape[:2])
    if scale >= 1:
        return rgb
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _with_long_side(grey: Grey, side: int) -> Grey:
    scale = side / max(grey.shape[:2])
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=method), np.uint8)
