"""Whether two faces are one photograph, which is more than one person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.fingerprints import FACE_SIDE, Grey, sized

FACE_WINDOW = 18
"""Side of the middle of a face when it is looked at from afar, two pixels of which may be shifted either way."""
_ALIGNED_SIDE = 44
_FACE_MARGIN = 5
_SHIFTED_MARGIN, _ALIGNED_MARGIN = 8, 10
"""Of a face at that side only the middle is shifted and aligned: what lies further out is hair and backdrop, and copies
are given other backdrops."""
_FAR_SIDE = FACE_WINDOW + 4
_MOST_STEPS = 15
_STILL_PIXELS = 0.02
"""An alignment has come to rest when no place moves further than that in a step."""
_SCALE = FACE_SIDE / _ALIGNED_SIDE
_FINE_WIDTH = 2 * _SCALE
_FACE_BLOCKS, _LEAST_BLOCKS = 4, 8
"""A face is compared in so many blocks down and across; so many must hold something to compare."""
Structure: TypeAlias = NDArray[np.float32]
Affine: TypeAlias = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): maps (x, y) of one face to (ax + by + c, dx + ey + f) of another, counted from the middle."""


def face_agreement(
    a: NDArray[np.uint8], b: NDArray[np.uint8], worth_aligning: float, afar: Sequence[Structure] | None = None
) -> float:
    """How much a face of `a` and one of `b`, or its mirror image, are one photograph, −1..1; −1 where either has none
    or none is alike enough from afar to be aligned. `afar`: the faces of `a` from afar, where they are known already.

    Two photographs of one person agree in the large: eyes, nose, mouth. Copies agree in the small nearly everywhere. So
    the faces are aligned to a fraction of a pixel (ECC, Evangelidis and Psarakis 2008), and what counts is the median
    over blocks of the correlation of fine structure: a stamp or a strand over some blocks does not matter.
    """
    best = -1.0
    seen = [from_afar(other) for other in b]
    for one, upright in zip(a, [from_afar(one) for one in a] if afar is None else afar, strict=True):
        for other, looks in zip(b, seen, strict=True):
            views = ((one, upright), (np.ascontiguousarray(one[:, ::-1]), np.ascontiguousarray(upright[:, ::-1])))
            shifted = [_shifted(look, looks) for _, look in views]
            nearer = max((0, 1), key=lambda at: shifted[at][0])
            correlation, shift = shifted[nearer]
            if correlation >= worth_aligning:
                best = max(best, _fine_agreement(views[nearer][0], other, shift))
    return best


def _shifted(one: Structure, other: Structure) -> tuple[float, tuple[int, int]]:
    """The best correlation of the middle of one face with another, and how many pixels right and down that is."""
    inner = one[_SHIFTED_MARGIN:-_SHIFTED_MARGIN, _SHIFTED_MARGIN:-_SHIFTED_MARGIN]
    _, best, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(other, inner, cv2.TM_CCOEFF_NORMED))
    return best, (x - _SHIFTED_MARGIN, y - _SHIFTED_MARGIN)


def _fine_agreement(one: Grey, other: Grey, shift: tuple[int, int]) -> float:
    """Aligned in the small, from where the faces agree best when merely shifted; compared at full size."""
    start = (1.0, 0.0, float(shift[0]), 0.0, 1.0, float(shift[1]))
    small = _aligned(sized(one, _ALIGNED_SIDE), sized(other, _ALIGNED_SIDE), start)
    if small is None:
        return -1.0
    a, b, c, d, e, f = small
    fitted = _warped(other, (a, b, c * _SCALE, d, e, f * _SCALE), FACE_SIDE)
    return _median_of_blocks(_high_pass(one, _FINE_WIDTH), _high_pass(fitted, _FINE_WIDTH))


def _aligned(one: Grey, other: Grey, start: Affine) -> Affine | None:
    """The affine map that makes two faces most alike, whatever their light and contrast; None where the search
    diverges.

    Inverse compositional (Baker and Matthews 2004, with gain and bias projected out: Bartoli 2008): the gradients are
    those of one face and are taken once, so that a step costs a warp and six products. cv2.findTransformECC takes them
    anew in every step, which is ten times as much at this size.
    """
    inner, x, y = _places()
    template = cv2.GaussianBlur(one, (3, 3), 0).astype(np.float32)
    looked_at = np.asarray(cv2.GaussianBlur(other, (3, 3), 0), np.uint8)
    middle = template[inner, inner].ravel()
    spread = _spread(middle)
    if spread < 1:
        return None
    wanted = (middle - middle.mean()) / spread
    left, right = slice(inner.start - 1, inner.stop - 1), slice(inner.start + 1, inner.stop + 1)
    gx = (template[inner, right] - template[inner, left]).ravel() / (2 * spread)
    gy = (template[right, inner] - template[left, inner]).ravel() / (2 * spread)
    steepest = np.stack((gx * x, gx * y, gx, gy * x, gy * y, gy))
    steepest -= steepest.mean(axis=1, keepdims=True)
    steepest -= np.outer(steepest @ wanted / len(wanted), wanted)
    try:
        solve = np.linalg.inv(steepest @ steepest.T) @ steepest
    except np.linalg.LinAlgError:
        return None
    warp = start
    for _ in range(_MOST_STEPS):
        seen = _warped(looked_at, warp, inner.stop - inner.start).ravel().astype(np.float32)
        contrast = _spread(seen)
        if contrast < 1:
            return None
        # What is steepest has nothing of `wanted` in it and no mean, so neither need be taken off what is seen.
        (a, b, c), (d, e, f) = step = ((solve @ seen) / contrast).reshape(2, 3).tolist()
        undone = _undoing(step)
        if undone is None:
            return None
        warp = _after(warp, undone)
        if not 0.5 < warp[0] * warp[4] - warp[1] * warp[3] < 2:
            return None
        if max(abs(c), abs(f)) + max(abs(a), abs(b), abs(d), abs(e)) * len(one) / 2 < _STILL_PIXELS:
            break
    return warp


@cache
def _places() -> tuple[slice, NDArray[np.float32], NDArray[np.float32]]:
    """The middle that is aligned, and how far right and down of its own middle each of its pixels lies."""
    inner = slice(_ALIGNED_MARGIN, _ALIGNED_SIDE - _ALIGNED_MARGIN)
    reach = np.arange(inner.start, inner.stop, dtype=np.float32) - (_ALIGNED_SIDE - 1) / 2
    y, x = (axis.ravel().astype(np.float32) for axis in np.meshgrid(reach, reach, indexing="ij"))
    return inner, x, y


def _undoing(step: list[list[float]]) -> Affine | None:
    """The inverse of a small step away from staying; None where it has none."""
    (a, b, c), (d, e, f) = step
    a, e = 1 + a, 1 + e
    scale = a * e - b * d
    if abs(scale) < 1e-6:
        return None
    return e / scale, -b / scale, (b * f - e * c) / scale, -d / scale, a / scale, (d * c - a * f) / scale


def _after(warp: Affine, first: Affine) -> Affine:
    """The map that does `first` and then `warp`."""
    a, b, c, d, e, f = warp
    g, h, i, j, k, m = first
    return a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f


def _warped(picture: Grey, warp: Affine, side: int) -> Grey:
    """[side,side]: what a face shows where `warp` maps the middle of another."""
    a, b, c, d, e, f = warp
    here, there = (side - 1) / 2, (len(picture) - 1) / 2
    placed = np.array(((a, b, c + there - (a + b) * here), (d, e, f + there - (d + e) * here)))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, placed, (side, side), flags=flags), np.uint8)


def _spread(values: NDArray[np.float32]) -> float:
    """Their standard deviation."""
    mean = float(np.add.reduce(values)) / len(values)
    return math.sqrt(max(0.0, float(values @ values) / len(values) - mean * mean))


def _median_of_blocks(one: Structure, other: Structure) -> float:
    """Median correlation of the blocks in the middle of two faces; −1 where too few hold any structure."""
    block = (FACE_SIDE - 2 * (round(_FACE_MARGIN * FACE_SIDE / _ALIGNED_SIDE) + 1)) // _FACE_BLOCKS
    start = (FACE_SIDE - block * _FACE_BLOCKS) // 2
    middle = slice(start, start + block * _FACE_BLOCKS)
    x, y = one[middle, middle], other[middle, middle]
    mean_x, mean_y, square_x, square_y, product = (_means(values) for values in (x, y, x * x, y * y, x * y))
    spread = np.sqrt(np.maximum((square_x - mean_x**2) * (square_y - mean_y**2), 0))
    telling = spread > 1
    if telling.sum() < _LEAST_BLOCKS:
        return -1.0
    return _median((product - mean_x * mean_y)[telling] / spread[telling])


def _median(values: NDArray[np.floating]) -> float:
    """The same as np.median, which takes ten times as long for as few."""
    ordered = np.sort(values, axis=None)
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _means(values: Structure) -> Structure:
    """[4,4]: the mean of each block."""
    blocks = (_FACE_BLOCKS, _FACE_BLOCKS)
    return np.asarray(cv2.resize(values, blocks, interpolation=cv2.INTER_AREA), np.float32)


def from_afar(face: Grey) -> Structure:
    """float32 [44,44]: a face without what is large in it, such as its light. Of a mirrored face it is the mirror
    image."""
    return _high_pass(sized(face, _ALIGNED_SIDE), 5)


def far_views(face: Structure) -> NDArray[np.float32]:
    """float32 [50, FACE_WINDOW²], each of length one: a face `from_afar` and its mirror image, in every place that it
    may be shifted to. The product with `far_face` of another is their correlation."""
    return _of_length_one(_small(face).ravel()[_windows()])


@cache
def _windows() -> NDArray[np.intp]:
    """[50, FACE_WINDOW²]: where in a small face each of `far_views` looks."""
    places = np.arange(_FAR_SIDE**2).reshape(_FAR_SIDE, _FAR_SIDE)
    window = (FACE_WINDOW, FACE_WINDOW)
    views = [np.lib.stride_tricks.sliding_window_view(view, window) for view in (places, places[:, ::-1])]
    return np.concatenate([view.reshape(-1, FACE_WINDOW**2) for view in views])


def far_face(face: Structure) -> NDArray[np.float32]:
    """float32 [FACE_WINDOW²] of length one: the middle of a face `from_afar`."""
    edge = (_FAR_SIDE - FACE_WINDOW) // 2
    return _of_length_one(_small(face)[edge:-edge, edge:-edge].reshape(1, -1)).ravel()


def _small(face: Structure) -> Structure:
    return np.asarray(cv2.resize(face, (_FAR_SIDE, _FAR_SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    return np.asarray(centred / np.maximum(lengths, 1e-6)[:, None], np.float32)


def face_codes(face: Structure) -> NDArray[np.uint64]:
    """uint64 [2,2]: of a face `from_afar`, and of its mirror image, 121 bits: is each of 11×11 places lighter than its
    surroundings. Codes of one photograph differ in few bits, whatever was done to its light and size."""
    inner = face[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    small = np.asarray(cv2.resize(inner, (11, 11), interpolation=cv2.INTER_AREA), np.float32)
    lighter = small > _median(small)
    packed = [np.packbits(np.append(view, np.zeros(7, bool))) for view in (lighter, lighter[:, ::-1])]
    return np.array(packed).view(np.uint64)


def _high_pass(face: Grey, width: float) -> Structure:
    wide = face.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), width), np.float32)
