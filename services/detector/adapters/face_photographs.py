"""Whether two faces are one photograph, which is more than one person."""

from __future__ import annotations

from functools import cache

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
_ROUGH_STEPS, _FINE_STEPS = 15, 6
_PROMISING = 0.7
"""Agreement after a rough alignment from which a fine one may make a copy of it."""
_STILL_PIXELS = 0.02
"""An alignment has come to rest when no place moves further than that in a step."""
_FINE_WIDTH = 2 * FACE_SIDE / _ALIGNED_SIDE
_FACE_BLOCKS, _LEAST_BLOCKS = 4, 8
"""A face is compared in so many blocks down and across; so many must hold something to compare."""
Structure = NDArray[np.float32]
Affine = NDArray[np.float64]
"""[2,3]: maps places of one face to those of another, both counted from the middle."""


def face_agreement(a: NDArray[np.uint8], b: NDArray[np.uint8], worth_aligning: float) -> float:
    """How much a face of `a` and one of `b`, or its mirror image, are one photograph, −1..1; −1 where either has none
    or none is alike enough from afar to be aligned.

    Two photographs of one person agree in the large: eyes, nose, mouth. Copies agree in the small nearly everywhere. So
    the faces are aligned to a fraction of a pixel (ECC, Evangelidis and Psarakis 2008), and what counts is the median
    over blocks of the correlation of fine structure: a stamp or a strand over some blocks does not matter.
    """
    best = -1.0
    seen = [from_afar(other) for other in b]
    for one in a:
        upright = from_afar(one)
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
    """Aligned in the small first, from where the faces agree best when merely shifted; then, where it looks promising,
    at full size."""
    start = np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]])
    warp = _aligned(sized(one, _ALIGNED_SIDE), sized(other, _ALIGNED_SIDE), start, _ROUGH_STEPS)
    if warp is None:
        return -1.0
    warp[:, 2] *= FACE_SIDE / _ALIGNED_SIDE
    wanted = _high_pass(one, _FINE_WIDTH)
    rough = _agreement_after(warp, wanted, other)
    finer = _aligned(one, other, warp, _FINE_STEPS) if rough >= _PROMISING else None
    return rough if finer is None else max(rough, _agreement_after(finer, wanted, other))


def _aligned(one: Grey, other: Grey, start: Affine, most_steps: int) -> Affine | None:
    """The affine map that makes two faces most alike, whatever their light and contrast; None where the search
    diverges.

    Inverse compositional (Baker and Matthews 2004, with gain and bias projected out: Bartoli 2008): the gradients are
    those of one face and are taken once, so that a step costs a warp and six products. cv2.findTransformECC takes them
    anew in every step, which is ten times as much at this size.
    """
    inner, x, y = _places(len(one))
    template = cv2.GaussianBlur(one, (3, 3), 0).astype(np.float32)
    looked_at = np.asarray(cv2.GaussianBlur(other, (3, 3), 0), np.uint8)
    wanted, spread = _standardised(template[inner, inner].ravel())
    if spread < 1:
        return None
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
    reach = len(one) / 2
    warp = start
    for _ in range(most_steps):
        seen, contrast = _standardised(_warped(looked_at, warp, inner.stop - inner.start).ravel().astype(np.float32))
        if contrast < 1:
            return None
        step = (solve @ (seen - wanted)).reshape(2, 3).tolist()
        undone = _undoing(step)
        if undone is None:
            return None
        warp = warp[:, :2] @ undone + np.pad(warp[:, 2:], ((0, 0), (2, 0)))
        if not 0.5 < warp[0, 0] * warp[1, 1] - warp[0, 1] * warp[1, 0] < 2:
            return None
        (a, b, c), (d, e, f) = step
        if max(abs(c), abs(f)) + max(abs(a), abs(b), abs(d), abs(e)) * reach < _STILL_PIXELS:
            break
    return warp


@cache
def _places(side: int) -> tuple[slice, NDArray[np.float32], NDArray[np.float32]]:
    """Of a face of that side: the middle that is compared, and how far right and down of it each of its pixels lies."""
    margin = round(_ALIGNED_MARGIN * side / _ALIGNED_SIDE)
    reach = np.arange(margin, side - margin, dtype=np.float32) - (side - 1) / 2
    y, x = (axis.ravel().astype(np.float32) for axis in np.meshgrid(reach, reach, indexing="ij"))
    return slice(margin, side - margin), x, y


def _undoing(step: list[list[float]]) -> Affine | None:
    """[2,3]: the inverse of a small affine step away from staying; None where it has none."""
    (a, b, c), (d, e, f) = step
    a, e = 1 + a, 1 + e
    scale = a * e - b * d
    if abs(scale) < 1e-6:
        return None
    return np.array([[e, -b, b * f - e * c], [-d, a, d * c - a * f]]) / scale


def _warped(picture: Grey, warp: Affine, side: int) -> Grey:
    """[side,side]: what a face shows where `warp` maps the middle of another."""
    shift = warp[:, 2] + (len(picture) - 1) / 2 - warp[:, :2].sum(axis=1) * ((side - 1) / 2)
    placed = np.array([[*warp[0, :2], shift[0]], [*warp[1, :2], shift[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(picture, placed, (side, side), flags=flags), np.uint8)


def _standardised(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """With mean nought and deviation one; and the deviation that they had."""
    centred = values - values.mean()
    spread = float(np.sqrt(centred @ centred / len(values)))
    return centred / max(spread, 1e-6), spread


def _agreement_after(warp: Affine, wanted: Structure, other: Grey) -> float:
    return _median_of_blocks(wanted, _high_pass(_warped(other, warp, FACE_SIDE), _FINE_WIDTH))


def _median_of_blocks(one: Structure, other: Structure) -> float:
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


def from_afar(face: Grey) -> Structure:
    """float32 [44,44]: a face without what is large in it, such as its light. Of a mirrored face it is the mirror
    image."""
    return _high_pass(sized(face, _ALIGNED_SIDE), 5)


def far_views(face: Structure) -> NDArray[np.float32]:
    """float32 [50, FACE_WINDOW²], each of length one: a face `from_afar` and its mirror image, in every place that it
    may be shifted to. The product with `far_face` of another is their correlation."""
    far = _small(face)
    window = (FACE_WINDOW, FACE_WINDOW)
    views = [np.lib.stride_tricks.sliding_window_view(view, window) for view in (far, far[:, ::-1])]
    return _of_length_one(np.concatenate([view.reshape(-1, FACE_WINDOW**2) for view in views]))


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
    small = cv2.resize(inner, (11, 11), interpolation=cv2.INTER_AREA)
    lighter = small > np.median(small)
    packed = [np.packbits(np.append(view, np.zeros(7, bool))) for view in (lighter, lighter[:, ::-1])]
    return np.array(packed).view(np.uint64)


def _high_pass(face: Grey, width: float) -> Structure:
    wide = face.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), width), np.float32)
