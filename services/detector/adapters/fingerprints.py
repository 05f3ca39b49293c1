"""Whether two pictures are the same content: recompressed, resized, cropped, framed, turned or mirrored."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import yaml
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
FACE_WINDOW = 18
"""Side of the middle of a face when it is looked at from afar, two pixels of which may be shifted either way."""
_POINTS_SIDE = 384
_LEAST_ORB_SIDE = 64
_PDQ_SIDE = 64
_PDQ_DCT = np.sqrt(2 / _PDQ_SIDE) * np.cos(
    np.pi / (2 * _PDQ_SIDE) * np.outer(np.arange(1, 17), 2 * np.arange(_PDQ_SIDE) + 1)
)
_ALIGNED_SIDE = 44
_FACE_MARGIN = 5
_FAR_SIDE = FACE_WINDOW + 4
_PROMISING = 0.45
"""Agreement after a rough alignment from which a fine one may make a copy of it."""
_FACE_BLOCKS, _LEAST_BLOCKS = 4, 8
"""A face is compared in so many blocks down and across; so many must hold something to compare."""
_LEAST_TRIMMED = 0.3
_INK, _STROKES, _LEAST_FILLED, _LEAST_PICTURED = 14, 40, 0.6, 0.12
"""Of `pictured`: greys that differ, strokes of a long side, and shares of the box and of the page."""
_RANSAC_PIXELS = 5.0
VIEWS = 3
"""The whole picture, without its border, and what is pictured in it."""
_FOUND_POINTS = 1_500
_CELLS = 8
"""Points are chosen evenly from so many cells down and across."""
POINT_WORDS = 1 << 19
VOTING_POINTS = 96
"""Points of a kept picture that vote when those are looked for whose points are worth matching."""

RULES_FILE = Path(__file__).parent.parent / "rules" / "dedup.yaml"


@dataclass(frozen=True)
class DedupRules:
    """Thresholds of rules/dedup.yaml, where each is explained."""

    id: str
    version: int
    least_quality: int
    dhash_most: int
    phash_most: int
    other_hash_most: int
    pdq_most: int
    orb_least_inliers: int
    orb_least_ratio: float
    orb_least_spread: float
    face_least_correlation: float
    face_worth_aligning: float
    faces_from_afar: int
    face_candidates: int
    face_code_most: int
    point_candidates: int
    point_least_votes: int


@dataclass(frozen=True)
class Points:
    """ORB features, strongest first.

    places: uint16 [N,2] in quarter pixels of a picture whose long side is _POINTS_SIDE; descriptors: uint8
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
        side = FACE_SIDE if form == FORMAT else _ALIGNED_SIDE
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
            _faces([_sized(each, FACE_SIDE) for each in np.frombuffer(patches, np.uint8).reshape(-1, side, side)]),
        )


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures are the same content, by which rule, and how far apart they are by it (0 the
    same, 1 unrelated).
    """

    near_duplicate: bool
    distance: float
    rule: str


DIFFERENT = Verdict(False, 1.0, "none")


def read_rules(path: Path = RULES_FILE) -> DedupRules:
    """The rules in a YAML file. Raises ValueError when a field is missing or unknown."""
    try:
        return DedupRules(**yaml.safe_load(path.read_text()))
    except TypeError as problem:
        raise ValueError(f"{path.name}: fields differ from DedupRules") from problem


def fingerprint(data: bytes, rgb: Pixels, face_crops: Sequence[Pixels] = ()) -> Fingerprint:
    """What to keep of a picture.

    data: the file's bytes; rgb: uint8 [H,W,3] of any size; face_crops: aligned [112,112,3] faces, largest
    first. A picture thinner than one part in a hundred is taken as it is; nothing raises for odd shapes.
    """
    small = _at_most(rgb, WORKING_SIDE)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    parts = (grey, trimmed(grey), pictured(grey))
    frame = pdq_frame(np.ascontiguousarray(small))
    resized = _with_long_side(grey, _POINTS_SIDE)
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


def compare(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    """The cascade, cheapest first: same bytes, perceptual hashes, faces of one photograph, matching points.

    `a` should be the fresh one: kept ones cannot be mirrored.
    """
    if a.sha256 == b.sha256:
        return Verdict(True, 0.0, "sha256")
    by_hashes = judged_by_hashes(hash_distances(a, HashColumns.of([b]), rules), rules)
    if by_hashes.near[0]:
        return Verdict(True, float(by_hashes.distance[0]), HASH_RULES[by_hashes.rule[0]])
    return compare_features(a, b, rules)


def compare_features(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    """What the cascade asks when the hashes say nothing."""
    correlation = face_agreement(a.faces, b.faces, rules.face_worth_aligning)
    if correlation >= rules.face_least_correlation:
        return Verdict(True, 1 - correlation, "face")
    inliers, share = point_agreement(a, b, rules)
    if inliers >= rules.orb_least_inliers and share >= rules.orb_least_ratio:
        return Verdict(True, 1 - share, "orb")
    return DIFFERENT


@dataclass(frozen=True)
class HashColumns:
    """The upright hashes of many pictures: dhashes and phashes uint64 [3,N] by view, pdqs uint64 [4,N] by
    word, qualities uint8 [N]."""

    dhashes: NDArray[np.uint64]
    phashes: NDArray[np.uint64]
    pdqs: NDArray[np.uint64]
    qualities: NDArray[np.uint8]

    @classmethod
    def of(cls, prints: Sequence[Fingerprint]) -> HashColumns:
        """Those of pictures, in their order; at least one."""
        return cls(
            np.array([each.dhashes[:, 0] for each in prints]).T,
            np.array([each.phashes[:, 0] for each in prints]).T,
            np.array([each.pdqs[0].view(np.uint64) for each in prints]).T,
            np.array([each.quality for each in prints], np.uint8),
        )


@dataclass(frozen=True)
class HashDistances:
    """Hamming distances of one picture, best of its eight orientations, to N others: uint16 [N] each."""

    dhash: NDArray[np.uint16]
    phash: NDArray[np.uint16]
    pdq: NDArray[np.uint16]
    quality: NDArray[np.uint8]
    """The lower of both."""


@dataclass(frozen=True)
class HashVerdicts:
    """For N pictures: whether hashes call them the same content, how far (0..1), by which of HASH_RULES."""

    near: NDArray[np.bool_]
    distance: NDArray[np.float64]
    rule: NDArray[np.int8]


HASH_RULES = ("dhash", "phash", "pdq")


def hash_distances(new: Fingerprint, known: HashColumns, rules: DedupRules) -> HashDistances:
    """How far a picture lies from each of many. By phash only from those that dhash does not rule out; the others
    count as furthest."""
    dhash = _least(new.dhashes.ravel(), known.dhashes)
    possible = np.flatnonzero(dhash <= rules.other_hash_most)
    phash = np.full(len(dhash), 64, np.uint16)
    phash[possible] = _least(new.phashes.ravel(), known.phashes[:, possible])
    pdq = _least_wide(np.ascontiguousarray(new.pdqs).view(np.uint64), known.pdqs)
    return HashDistances(dhash, phash, pdq, np.minimum(known.qualities, np.uint8(new.quality)))


def judged_by_hashes(found: HashDistances, rules: DedupRules) -> HashVerdicts:
    """The first of HASH_RULES that holds for each picture."""
    d, p = found.dhash, found.phash
    holds = np.stack(
        (
            (d <= rules.dhash_most) & (p <= rules.other_hash_most),
            (p <= rules.phash_most) & (d <= rules.other_hash_most),
            found.pdq <= rules.pdq_most,
        )
    ) & (found.quality >= rules.least_quality)
    rule = holds.argmax(axis=0)
    distances = np.stack((d / 64, p / 64, found.pdq / 256))
    return HashVerdicts(np.asarray(holds.any(axis=0)), distances[rule, np.arange(len(d))], rule.astype(np.int8))


def _least(new: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Least distance of any of a picture's hashes to any view of each of N others [views,N]."""
    best = np.full(known.shape, 64, np.uint8)
    for each in np.unique(new):
        np.minimum(best, np.bitwise_count(known ^ each), out=best)
    return np.asarray(best.min(axis=0), np.uint16)


def _least_wide(new: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Least distance of any of 8 hashes of four words to each picture's one."""
    best = np.full(known.shape[1], 256, np.uint16)
    for each in new:
        away = np.bitwise_count(known[0] ^ each[0]).astype(np.uint16)
        for part in (1, 2, 3):
            away += np.bitwise_count(known[part] ^ each[part])
        np.minimum(best, away, out=best)
    return best


def point_agreement(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> tuple[int, float]:
    """Inliers and their share of the tentative matches, upright or mirrored, whichever has more inliers."""
    pairs = [(a.points, b.points)]
    if a.mirrored_points is not None:
        pairs.append((a.mirrored_points, b.points))
    elif b.mirrored_points is not None:
        pairs.append((a.points, b.mirrored_points))
    return max(matching_points(one, other, rules.orb_least_spread, rules.orb_least_inliers) for one, other in pairs)


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


def matching_points(a: Points, b: Points, least_spread: float, least: int = 4) -> tuple[int, float]:
    """How many points one similarity maps on their match, and their share of all tentative matches; (0, 0) as soon as
    `least` cannot be reached.

    least_spread: the side, as share of the long side, that the matched area must have both ways in both
    pictures. A line of text or a bar that two screenshots share is narrow; a shared picture is not.
    """
    if len(a.places) > len(b.places):
        a, b = b, a
    if len(a.places) < max(4, least):
        return 0, 0.0
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a.descriptors, b.descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
    if len(good) < max(4, least):
        return 0, 0.0
    source = a.places[[m.queryIdx for m in good]].astype(np.float32) / 4
    target = b.places[[m.trainIdx for m in good]].astype(np.float32) / 4
    cv2.setRNGSeed(0)  # the same two pictures always get the same verdict
    matrix, inlier = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PIXELS
    )
    if matrix is None or not 0.2 < np.hypot(matrix[0, 0], matrix[1, 0]) < 5:
        return 0, 0.0
    held = inlier.ravel() > 0
    if min(_spread(source[held]), _spread(target[held])) < least_spread * _POINTS_SIDE:
        return 0, 0.0
    # Several matches that land on one spot are one witness.
    spots = {tuple(spot) for spot in (target[held] // 4).tolist()}
    return len(spots), len(spots) / len(good)


def _spread(places: NDArray[np.floating]) -> float:
    """Shorter side of the box that holds the middle nine tenths of the places."""
    low, high = np.percentile(places, (5, 95), axis=0)
    return float((high - low).min())


def face_agreement(a: NDArray[np.uint8], b: NDArray[np.uint8], worth_aligning: float) -> float:
    """How much a face of `a` and one of `b`, or its mirror image, are one photograph, −1..1; −1 where either has none
    or none is alike enough from afar to be aligned.

    Two photographs of one person agree in the large: eyes, nose, mouth. Copies agree in the small nearly everywhere. So
    the faces are aligned to a fraction of a pixel (ECC, Evangelidis and Psarakis 2008), and what counts is the median
    over blocks of the correlation of fine structure: a stamp or a strand over some blocks does not matter.
    """
    best = -1.0
    for one in a:
        for other in b:
            views = (one, np.ascontiguousarray(one[:, ::-1]))
            shifted = [_shifted_correlation(view, other) for view in views]
            nearer = int(np.argmax(shifted))
            if shifted[nearer] >= worth_aligning:
                best = max(best, _fine_agreement(views[nearer], other))
    return best


def _shifted_correlation(one: Grey, other: Grey) -> float:
    inner = _high_pass(_sized(one, _ALIGNED_SIDE), 5)[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    return float(cv2.matchTemplate(_high_pass(_sized(other, _ALIGNED_SIDE), 5), inner, cv2.TM_CCOEFF_NORMED).max())


def _fine_agreement(one: Grey, other: Grey) -> float:
    """Aligned in the small first, which forgives more; then, where it looks promising, at full size."""
    scale = FACE_SIDE / _ALIGNED_SIDE
    warp = _aligned(_sized(one, _ALIGNED_SIDE), _sized(other, _ALIGNED_SIDE), np.eye(2, 3, dtype=np.float32), 30)
    if warp is None:
        return -1.0
    # Centres of pixels, not their corners, keep their place when a picture is resized.
    shift = warp[:, 2] * scale + (scale - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    large = np.column_stack((warp[:, :2], shift)).astype(np.float32)
    rough = _agreement_after(large, one, other)
    finer = _aligned(one, other, large, 10) if rough >= _PROMISING else None
    return rough if finer is None else max(rough, _agreement_after(finer, one, other))


def _aligned(
    one: Grey, other: Grey, start: NDArray[np.float32], iterations: int
) -> NDArray[np.float32] | None:
    """The affine map from one face to the other; None where the search diverges."""
    margin = round(_FACE_MARGIN * len(one) / _ALIGNED_SIDE)
    mask = np.zeros_like(one)
    mask[margin:-margin, margin:-margin] = 255
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 3e-4)
    try:
        _, warp = cv2.findTransformECC(one, other, start.copy(), cv2.MOTION_AFFINE, stop, mask, 3)
    except cv2.error:
        return None
    return np.asarray(warp, np.float32)


def _agreement_after(warp: NDArray[np.float32], one: Grey, other: Grey) -> float:
    size = (FACE_SIDE, FACE_SIDE)
    fitted = cv2.warpAffine(other, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    fine = 2 * FACE_SIDE / _ALIGNED_SIDE
    return _median_of_blocks(_high_pass(one, fine), _high_pass(np.asarray(fitted, np.uint8), fine))


def _median_of_blocks(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Median correlation of the blocks in the middle of two faces; −1 where too few hold any structure."""
    block = (FACE_SIDE - 2 * (round(_FACE_MARGIN * FACE_SIDE / _ALIGNED_SIDE) + 1)) // _FACE_BLOCKS
    start = (FACE_SIDE - block * _FACE_BLOCKS) // 2
    middle = slice(start, start + block * _FACE_BLOCKS)
    shape = (_FACE_BLOCKS, block, _FACE_BLOCKS, block)
    x, y = (
        face[middle, middle].reshape(shape).transpose(0, 2, 1, 3).reshape(_FACE_BLOCKS**2, -1) for face in (one, other)
    )
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    spread = np.sqrt((x**2).mean(axis=1) * (y**2).mean(axis=1))
    telling = spread > 1
    if telling.sum() < _LEAST_BLOCKS:
        return -1.0
    return float(np.median((x * y).mean(axis=1)[telling] / spread[telling]))


def far_views(face: Grey) -> NDArray[np.float32]:
    """float32 [50, FACE_WINDOW²], each of length one: a face from afar and its mirror image, in every place that it may
    be shifted to. The product with `far_face` of another is their correlation."""
    views = []
    for view in (face, np.ascontiguousarray(face[:, ::-1])):
        far = _from_afar(view)
        span = range(_FAR_SIDE - FACE_WINDOW + 1)
        views += [far[y : y + FACE_WINDOW, x : x + FACE_WINDOW].ravel() for y in span for x in span]
    return _of_length_one(np.array(views, np.float32))


def far_face(face: Grey) -> NDArray[np.float32]:
    """float32 [FACE_WINDOW²] of length one: the middle of a face from afar."""
    edge = (_FAR_SIDE - FACE_WINDOW) // 2
    middle = _from_afar(face)[edge:-edge, edge:-edge]
    return _of_length_one(middle.reshape(1, -1)).ravel()


def _from_afar(face: Grey) -> NDArray[np.float32]:
    high = _high_pass(_sized(face, _ALIGNED_SIDE), 5)
    return np.asarray(cv2.resize(high, (_FAR_SIDE, _FAR_SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


def face_code(face: Grey) -> NDArray[np.uint64]:
    """uint64 [2], 121 bits: what an aligned grey face looks like from afar: is each of 11×11 places lighter than its
    surroundings. Codes of one photograph differ in few bits, whatever was done to its light and size."""
    high = _high_pass(_sized(face, _ALIGNED_SIDE), 5)
    inner = high[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    small = cv2.resize(inner, (11, 11), interpolation=cv2.INTER_AREA)
    packed = np.packbits(np.append(small > np.median(small), np.zeros(7, bool)))
    return packed.view(np.uint64)


def point_words(points: Points, most: int) -> NDArray[np.uint32]:
    """Two words below POINT_WORDS for each of the first points: 18 comparisons of the descriptor each. Two views of one
    point often share a word, two points seldom (the first comparisons are the least correlated: Rublee 2011, 4.3)."""
    bits = points.descriptors[:most, :5].astype(np.uint32)
    first = bits[:, 0] | bits[:, 1] << 8 | (bits[:, 2] & 3) << 16
    second = bits[:, 2] >> 2 | bits[:, 3] << 6 | (bits[:, 4] & 15) << 14
    return np.concatenate((first, second + POINT_WORDS // 2))


def _high_pass(face: Grey, width: float) -> NDArray[np.float32]:
    wide = face.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), width), np.float32)


def _face_patch(crop: Pixels) -> Grey:
    return _sized(np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8), FACE_SIDE)


def _sized(face: Grey, side: int) -> Grey:
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
