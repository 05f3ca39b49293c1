"""Whether two fingerprints are of one content: recompressed, resized, cropped, framed, turned or mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from services.chassis import yaml_text
from services.detector.adapters.face_photographs import Structure, face_agreement
from services.detector.adapters.fingerprints import POINTS_SIDE, Fingerprint, Points

RULES_FILE = Path(__file__).parent.parent / "rules" / "dedup.yaml"
_RANSAC_PIXELS = 5.0
_BITS = 256
"""Of a point's descriptor, and of a PDQ hash."""
_CLEARLY = 0.8
_SIGNS_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1
POINT_WORDS = 1 << 19
VOTING_POINTS = 96
"""Points of a kept picture that vote when those are looked for whose points are worth matching."""


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
    face_apart: float
    faces_from_afar: int
    face_candidates: int
    face_code_most: int
    point_candidates: int
    point_least_votes: int


def read_rules(path: Path = RULES_FILE) -> DedupRules:
    """The rules in a YAML file. Raises ValueError when a field is missing or unknown, or out of bounds."""
    try:
        rules = DedupRules(**yaml_text.parse(path.read_text()))
    except TypeError as problem:
        raise ValueError(f"{path.name}: fields differ from DedupRules") from problem
    return rules


@dataclass(frozen=True)
class Verdict:
    """Whether two pictures are the same content, by which rule, and how far apart they are by it (0 the
    same, 1 unrelated).
    """

    near_duplicate: bool
    distance: float
    rule: str


DIFFERENT = Verdict(False, 1.0, "none")


def compare(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    """The cascade, cheapest first: same bytes, perceptual hashes, faces of one photograph, matching points.

    `a` should be the fresh one: kept ones cannot be mirrored.
    """
    if a.sha256 == b.sha256:
        return Verdict(True, 0.0, "sha256")
    by_hashes = judged_by_hashes(hash_distances(a, HashColumns.of([b])), rules)
    if by_hashes.near[0] and not speaks_against(a, b, rules):
        return Verdict(True, float(by_hashes.distance[0]), HASH_RULES[by_hashes.rule[0]])
    return compare_features(a, b, rules)


def speaks_against(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> bool:
    """Whether the faces of two pictures, one in each, are plainly not one photograph, so that what hashes and points
    share is a backdrop, a frame or the page of an app, and not the content. Of a picture with two faces or more only
    the largest are known, which after a crop may be others: it never speaks against."""
    if len(a.faces) != 1 or len(b.faces) != 1:
        return False
    return face_agreement(a.faces, b.faces, rules.face_worth_aligning) < rules.face_apart


def compare_features(a: Fingerprint, b: Fingerprint, rules: DedupRules) -> Verdict:
    """What the cascade asks when the hashes say nothing."""
    verdict = compare_faces(a, b, rules)
    return verdict if verdict.near_duplicate else compare_points(a, b, rules)


def compare_faces(
    a: Fingerprint, b: Fingerprint, rules: DedupRules, afar: Sequence[Structure] | None = None
) -> Verdict:
    """Whether a face of one picture and a face of the other are one photograph; `afar`: those of `a` from afar, where
    they are known already."""
    correlation = face_agreement(a.faces, b.faces, rules.face_worth_aligning, afar)
    return Verdict(True, 1 - correlation, "face") if correlation >= rules.face_least_correlation else DIFFERENT


def compare_points(a: Fingerprint, b: Fingerprint, rules: DedupRules, mirrored: bool | None = None) -> Verdict:
    """Whether one similarity maps the points of one picture on those of the other; `mirrored` says which view of the
    fresh one is asked for, None both."""
    inliers, share = point_agreement(a, b, rules, mirrored)
    held = inliers >= rules.orb_least_inliers and share >= rules.orb_least_ratio and not speaks_against(a, b, rules)
    return Verdict(True, 1 - share, "orb") if held else DIFFERENT


@dataclass(frozen=True)
class HashColumns:
    """The upright hashes of many pictures: dhashes and phashes uint64 [3,N] by view, pdqs uint8 [N,32], qualities uint8
    [N]."""

    dhashes: NDArray[np.uint64]
    phashes: NDArray[np.uint64]
    pdqs: NDArray[np.uint8]
    qualities: NDArray[np.uint8]

    @classmethod
    def of(cls, prints: Sequence[Fingerprint]) -> HashColumns:
        """Those of pictures, in their order; at least one."""
        return cls(
            np.array([each.dhashes[:, 0] for each in prints]).T,
            np.array([each.phashes[:, 0] for each in prints]).T,
            np.array([each.pdqs[0] for each in prints]),
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
    """For N pictures: whether hashes call them one content; if so, how far (0..1) and by which of HASH_RULES."""

    near: NDArray[np.bool_]
    distance: NDArray[np.float64]
    rule: NDArray[np.int8]


HASH_RULES = ("dhash", "phash", "pdq")


def hash_distances(new: Fingerprint, known: HashColumns) -> HashDistances:
    """How far a picture lies from each of many."""
    return HashDistances(
        _least_of_views(new.dhashes, known.dhashes),
        _least_of_views(new.phashes, known.phashes),
        least_distances(new.pdqs, known.pdqs),
        np.minimum(known.qualities, np.uint8(new.quality)),
    )


def judged_by_hashes(found: HashDistances, rules: DedupRules) -> HashVerdicts:
    """The first of HASH_RULES that holds for each picture."""
    near, rule = np.zeros(len(found.dhash), np.bool_), np.zeros(len(found.dhash), np.int8)
    distance = np.ones(len(found.dhash))
    most = max(rules.dhash_most, rules.other_hash_most)
    at = np.flatnonzero((found.dhash <= most) | (found.pdq <= rules.pdq_most))
    d, p, pdq = found.dhash[at], found.phash[at], found.pdq[at]
    holds = np.stack(
        (
            (d <= rules.dhash_most) & (p <= rules.other_hash_most),
            (p <= rules.phash_most) & (d <= rules.other_hash_most),
            pdq <= rules.pdq_most,
        )
    )
    held = holds.any(axis=0) & (found.quality[at] >= rules.least_quality)
    first, far = holds.argmax(axis=0)[held], np.stack((d / 64, p / 64, pdq / 256))[:, held]
    at = at[held]
    near[at], rule[at], distance[at] = True, first, far[first, np.arange(len(at))]
    return HashVerdicts(near, distance, rule)


def least_distances(new: NDArray[Any], known: NDArray[Any]) -> NDArray[np.uint16]:
    """[N]: Hamming distance of each of N codes to the nearest of one or more; both [codes] or [codes, words]."""
    few, many = (np.ascontiguousarray(each) for each in (new, known))
    away = np.empty((len(few), len(many)), np.int32)
    if len(many):
        pointers = (faiss.swig_ptr(each.view(np.uint8).ravel()) for each in (few, many))
        # Bit counts of the processor, a tenth of numpy's time; of FAISS's C++ the stubs name the classes only.
        faiss.hammings(  # type: ignore[attr-defined] # see above
            *pointers, len(few), len(many), many.nbytes // len(many), faiss.swig_ptr(away)
        )
    return np.asarray(away.min(axis=0), np.uint16)


def _least_of_views(new: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Least distance of any of a picture's hashes to any view of each of N others [views,N]. Most pictures have neither
    border nor page: their further views are the first again."""
    hashes, whole = np.unique(new), known[0]
    best = least_distances(hashes, whole)
    for view in known[1:]:
        other = np.flatnonzero(view != whole)
        best[other] = np.minimum(best[other], least_distances(hashes, view[other]))
    return best


def point_agreement(
    a: Fingerprint, b: Fingerprint, rules: DedupRules, mirrored: bool | None = None
) -> tuple[int, float]:
    """Inliers and their share of the tentative matches, upright or mirrored, whichever has more inliers; `mirrored`
    names one of them."""
    pairs = [(a.points, b.points)] if not mirrored else []
    if mirrored is not False and a.mirrored_points is not None:
        pairs.append((a.mirrored_points, b.points))
    elif mirrored is not False and b.mirrored_points is not None:
        pairs.append((a.points, b.mirrored_points))
    found = (matching_points(one, other, rules.orb_least_spread, rules.orb_least_inliers) for one, other in pairs)
    return max(found, default=(0, 0.0))


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
    queries, trains = _tentative(a.descriptors, b.descriptors)
    if len(queries) < max(4, least):
        return 0, 0.0
    source = a.places[queries].astype(np.float32) / 4
    target = b.places[trains].astype(np.float32) / 4
    cv2.setRNGSeed(0)  # the same two pictures always get the same verdict
    matrix, inlier = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_RANSAC_PIXELS
    )
    if matrix is None or not 0.2 < np.hypot(matrix[0, 0], matrix[1, 0]) < 5:
        return 0, 0.0
    held = inlier.ravel() > 0
    if min(_spread(source[held]), _spread(target[held])) < least_spread * POINTS_SIDE:
        return 0, 0.0
    # Several matches that land on one spot are one witness.
    spots = {tuple(spot) for spot in (target[held] // 4).tolist()}
    return len(spots), len(spots) / len(queries)


def _tentative(few: NDArray[np.uint8], many: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which of a few descriptors have one of many clearly nearer than the next (Lowe 2004, 7.1), and which that is.

    Two vectors of ±1 have a product of their length less twice their Hamming distance: one multiplication of matrices,
    exact in float32, a quarter of what cv2.BFMatcher takes for as many points.
    """
    if len(many) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    products = _signs(few) @ _signs(many).T
    rows = np.arange(len(few))
    nearest = products.argmax(axis=1)
    highest = products[rows, nearest]
    products[rows, nearest] = -_BITS - 1
    clear = np.flatnonzero(_BITS - highest < _CLEARLY * (_BITS - products.max(axis=1)))
    return clear, nearest[clear]


def _signs(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N,32] bytes as [N,256] ±1."""
    return _SIGNS_OF_BYTE[descriptors].reshape(len(descriptors), _BITS)


def _spread(places: NDArray[np.floating]) -> float:
    """Shorter side of the box that holds the middle nine tenths of the places."""
    low, high = np.percentile(places, (5, 95), axis=0)
    return float((high - low).min())


def point_words(points: Points, most: int) -> NDArray[np.uint32]:
    """Two words below POINT_WORDS for each of the first points: 18 comparisons of the descriptor each. Two views of one
    point often share a word, two points seldom (the first comparisons are the least correlated: Rublee 2011, 4.3)."""
    bits = points.descriptors[:most, :5].astype(np.uint32)
    first = bits[:, 0] | bits[:, 1] << 8 | (bits[:, 2] & 3) << 16
    second = bits[:, 2] >> 2 | bits[:, 3] << 6 | (bits[:, 4] & 15) << 14
    return np.concatenate((first, second + POINT_WORDS // 2))
