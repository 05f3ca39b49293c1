"""Whether two pictures are the same content: recompressed, resized, cropped, framed, turned or mirrored."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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

FORMAT = 1
WORKING_SIDE = 512
MOST_POINTS = 400
KEPT_POINTS = 150
MOST_FACES = 2
FACE_SIDE = 44
_POINTS_SIDE = 384
_LEAST_ORB_SIDE = 64
_PDQ_SIDE = 64
_PDQ_DCT = np.sqrt(2 / _PDQ_SIDE) * np.cos(
    np.pi / (2 * _PDQ_SIDE) * np.outer(np.arange(1, 17), 2 * np.arange(_PDQ_SIDE) + 1)
)
_FACE_MARGIN = 5
_LEAST_TRIMMED = 0.3
_RANSAC_PIXELS = 5.0

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
    """What is kept of a picture to recognise it. At most about 10 kB as bytes; personal data, kept
    encrypted.
    """

    sha256: bytes = field(repr=False)
    quality: int
    """PDQ's measure of structure, 0..100."""
    dhashes: NDArray[np.uint64] = field(repr=False)
    """[16]: eight orientations of the whole, then of the border-trimmed picture; the first of each is
    upright.
    """
    phashes: NDArray[np.uint64] = field(repr=False)
    pdqs: NDArray[np.uint8] = field(repr=False)
    """[8,32]: eight orientations, upright first."""
    points: Points = field(repr=False)
    """Of a fresh picture up to MOST_POINTS, of a kept one KEPT_POINTS: the strongest are likely among the
    many.
    """
    faces: NDArray[np.uint8] = field(repr=False)
    """[F ≤ 2,44,44]: aligned grey faces, largest first."""
    grey: Grey | None = field(repr=False, default=None)
    """What the points were found in; of a fresh picture only."""

    @cached_property
    def mirrored_points(self) -> Points | None:
        """Of a fresh picture only: one side of a comparison suffices, so they are not kept. Found when asked for, since
        most copies are known before by their hashes."""
        return None if self.grey is None else orb_points(np.ascontiguousarray(self.grey[:, ::-1]))

    def to_bytes(self) -> bytes:
        """For keeping; `from_bytes` reads it."""
        places, descriptors = self.points.places[:KEPT_POINTS], self.points.descriptors[:KEPT_POINTS]
        head = struct.pack(">BBBB", FORMAT, self.quality, len(places), len(self.faces))
        arrays = (self.dhashes, self.phashes, self.pdqs, places, descriptors, self.faces)
        return head + self.sha256 + b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Fingerprint:
        """Raises ValueError when the bytes are not a fingerprint of this FORMAT."""
        if len(data) < 4 or data[0] != FORMAT or data[2] > KEPT_POINTS or data[3] > MOST_FACES:
            raise ValueError("not a fingerprint of this format")
        _, quality, points, faces = data[:4]
        sizes = (32, 128, 128, 256, points * 4, points * 32, faces * FACE_SIDE**2)
        if len(data) != 4 + sum(sizes):
            raise ValueError("not a fingerprint of this format")
        ends = np.cumsum((4, *sizes)).tolist()
        sha, d, p, pdq, places, descriptors, patches = (data[a:b] for a, b in pairwise(ends))
        return cls(
            sha,
            quality,
            np.frombuffer(d, np.uint64),
            np.frombuffer(p, np.uint64),
            np.frombuffer(pdq, np.uint8).reshape(8, 32),
            Points(
                np.frombuffer(places, np.uint16).reshape(-1, 2),
                np.frombuffer(descriptors, np.uint8).reshape(-1, 32),
            ),
            np.frombuffer(patches, np.uint8).reshape(-1, FACE_SIDE, FACE_SIDE),
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
    parts = (grey, trimmed(grey))
    frame = pdq_frame(np.ascontiguousarray(small))
    resized = _with_long_side(grey, _POINTS_SIDE)
    return Fingerprint(
        hashlib.sha256(data).digest(),
        pdq_quality(frame),
        np.array([each for part in parts for each in dhashes(part)], np.uint64),
        np.array([each for part in parts for each in phashes(part)], np.uint64),
        np.array([np.packbits(pdq_bits(view)) for view in orientations(frame)], np.uint8),
        orb_points(resized),
        np.array([_face_patch(crop) for crop in face_crops[:MOST_FACES]], np.uint8).reshape(
            -1, FACE_SIDE, FACE_SIDE
        ),
        resized,
    )


def compare(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    """The cascade, cheapest first: same bytes, perceptual hashes, faces of one photograph, matching
    points.
    """
    if a.sha256 == b.sha256:
        return Verdict(True, 0.0, "sha256")
    if min(a.quality, b.quality) >= rules.least_quality:
        for verdict in _by_hashes(a, b, rules):
            return verdict
    correlation = face_agreement(a.faces, b.faces, rules.face_worth_aligning)
    if correlation >= rules.face_least_correlation:
        return Verdict(True, 1 - correlation, "face")
    return _by_points(a, b, rules)


def _by_hashes(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Iterator[Verdict]:
    d, p = _nearest(a.dhashes, b.dhashes), _nearest(a.phashes, b.phashes)
    if d <= rules.dhash_most and p <= rules.other_hash_most:
        yield Verdict(True, d / 64, "dhash")
    if p <= rules.phash_most and d <= rules.other_hash_most:
        yield Verdict(True, p / 64, "phash")
    pdq = int(np.bitwise_count(a.pdqs[:1] ^ b.pdqs).sum(axis=1).min())
    if pdq <= rules.pdq_most:
        yield Verdict(True, pdq / 256, "pdq")


def _nearest(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    """Least Hamming distance of a's two upright hashes to all of b's."""
    return int(np.bitwise_count(a[[0, 8], np.newaxis] ^ b[np.newaxis]).min())


def _by_points(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    pairs = [(a.points, b.points)]
    if a.mirrored_points is not None:
        pairs.append((a.mirrored_points, b.points))
    elif b.mirrored_points is not None:
        pairs.append((a.points, b.mirrored_points))
    for one, other in pairs:
        inliers, share = matching_points(one, other, rules.orb_least_spread)
        if inliers >= rules.orb_least_inliers and share >= rules.orb_least_ratio:
            return Verdict(True, 1 - share, "orb")
    return DIFFERENT


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
    """The strongest MOST_POINTS ORB features (Rublee 2011); none where the picture is flat or a mere strip."""
    nothing = Points(np.empty((0, 2), np.uint16), np.empty((0, 32), np.uint8))
    if min(grey.shape) < _LEAST_ORB_SIDE:
        return nothing
    orb = cv2.ORB.create(nfeatures=MOST_POINTS, scaleFactor=1.2, nlevels=8, edgeThreshold=15, fastThreshold=5)
    found, descriptors = orb.detectAndCompute(grey, None)
    if not found or descriptors is None:
        return nothing
    strongest = sorted(range(len(found)), key=lambda i: -found[i].response)[:MOST_POINTS]
    # Quarter pixels: far below the tolerance of the geometric check.
    places = np.array([found[i].pt for i in strongest], np.float32) * 4
    return Points(places.round().astype(np.uint16), np.asarray(descriptors[strongest], np.uint8))


def matching_points(a: Points, b: Points, least_spread: float) -> tuple[int, float]:
    """How many points one similarity maps on their match, and their share of all tentative matches.

    least_spread: the side, as share of the long side, that the matched area must have both ways in both
    pictures. A line of text or a bar that two screenshots share is narrow; a shared picture is not.
    """
    if len(a.places) > len(b.places):
        a, b = b, a
    if len(a.places) < 4:
        return 0, 0.0
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a.descriptors, b.descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < 0.8 * pair[1].distance]
    if len(good) < 4:
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
    """Best correlation, −1..1, of a face of `a` with one of `b` or its mirror image; −1 when either has none.

    Light and tone are removed by a high pass, small misalignment by a search over shifts and, where that
    gives at least `worth_aligning`, by a fine affine alignment (ECC, Evangelidis and Psarakis 2008).
    """
    best = -1.0
    for one in a:
        for target in (one, np.ascontiguousarray(one[:, ::-1])):
            for other in b:
                shifted = _shifted_correlation(target, other)
                best = max(best, shifted)
                if shifted >= worth_aligning:
                    best = max(best, _aligned_correlation(target, other))
    return best


def _shifted_correlation(one: Grey, other: Grey) -> float:
    inner = _high_pass(one)[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    return float(cv2.matchTemplate(_high_pass(other), inner, cv2.TM_CCOEFF_NORMED).max())


def _aligned_correlation(one: Grey, other: Grey) -> float:
    mask = np.zeros_like(one)
    mask[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN] = 255
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, warp = cv2.findTransformECC(
            one, other, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, stop, mask, 3
        )
    except cv2.error:  # it raises where the iteration diverges: no alignment, no agreement
        return -1.0
    size = (FACE_SIDE, FACE_SIDE)
    fitted = cv2.warpAffine(other, warp, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    inner = slice(_FACE_MARGIN + 1, -_FACE_MARGIN - 1)
    x, y = _high_pass(one)[inner, inner], _high_pass(np.asarray(fitted, np.uint8))[inner, inner]
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def _high_pass(face: Grey) -> NDArray[np.float32]:
    wide = face.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), 5), np.float32)


def _face_patch(crop: Pixels) -> Grey:
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_AREA), np.uint8)


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
