"""Whether two faces are one photograph, which is more than one person."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.fingerprints import FACE_SIDE, Grey, sized

FACE_WINDOW = 18
"""Side of the middle of a face when it is looked at from afar, two pixels of which may be shifted either way."""
_ALIGNED_SIDE = 44
_FACE_MARGIN = 5
_FAR_SIDE = FACE_WINDOW + 4
_PROMISING = 0.45
"""Agreement after a rough alignment from which a fine one may make a copy of it."""
_STILL_PIXELS = 0.02
"""An alignment has come to rest when no place moves further than that in a step."""
_LAST_ROW, _UNMOVED = np.zeros((1, 3)), np.eye(3)
_FACE_BLOCKS, _LEAST_BLOCKS = 4, 8
"""A face is compared in so many blocks down and across; so many must hold something to compare."""


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
    inner = _high_pass(sized(one, _ALIGNED_SIDE), 5)[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    return float(cv2.matchTemplate(_high_pass(sized(other, _ALIGNED_SIDE), 5), inner, cv2.TM_CCOEFF_NORMED).max())


def _fine_agreement(one: Grey, other: Grey) -> float:
    """Aligned in the small first, which forgives more; then, where it looks promising, at full size."""
    scale = FACE_SIDE / _ALIGNED_SIDE
    warp = _aligned(sized(one, _ALIGNED_SIDE), sized(other, _ALIGNED_SIDE), np.eye(2, 3, dtype=np.float32), 15)
    if warp is None:
        return -1.0
    # Centres of pixels, not their corners, keep their place when a picture is resized.
    shift = warp[:, 2] * scale + (scale - 1) / 2 * (1 - warp[:, :2].sum(axis=1))
    large = np.column_stack((warp[:, :2], shift)).astype(np.float32)
    rough = _agreement_after(large, one, other)
    finer = _aligned(one, other, large, 6) if rough >= _PROMISING else None
    return rough if finer is None else max(rough, _agreement_after(finer, one, other))


def _aligned(one: Grey, other: Grey, start: NDArray[np.float32], most_steps: int) -> NDArray[np.float32] | None:
    """The affine map [2,3] of places in one face to those in the other that makes both most alike, whatever their light
    and contrast; None where the search diverges.

    Inverse compositional (Baker and Matthews 2004, with gain and bias projected out: Bartoli 2008): the gradients are
    those of one face and are taken once, so that a step costs a warp and six products. cv2.findTransformECC takes them
    anew in every step, which is ten times as much at this size.
    """
    side = len(one)
    margin = round(_FACE_MARGIN * side / _ALIGNED_SIDE)
    inner = slice(margin, side - margin)
    template = cv2.GaussianBlur(one, (3, 3), 0).astype(np.float32)
    looked_at = cv2.GaussianBlur(other, (3, 3), 0)
    down, across = np.gradient(template, axis=0), np.gradient(template, axis=1)
    wanted, spread = _standardised(template[inner, inner].ravel())
    if spread < 1:
        return None
    reach = np.arange(margin, side - margin, dtype=np.float32) - (side - 1) / 2
    y, x = (axis.ravel() for axis in np.meshgrid(reach, reach, indexing="ij"))
    gx, gy = across[inner, inner].ravel() / spread, down[inner, inner].ravel() / spread
    steepest = np.stack((gx * x, gx * y, gx, gy * x, gy * y, gy))
    steepest -= steepest.mean(axis=1, keepdims=True)
    steepest -= np.outer(steepest @ wanted / len(wanted), wanted)
    try:
        solve = np.linalg.inv(steepest @ steepest.T) @ steepest
    except np.linalg.LinAlgError:
        return None
    warp = _about_the_middle(start, side, 1)
    for _ in range(most_steps):
        fitted = cv2.warpAffine(
            looked_at, _about_the_middle(warp, side, -1), (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        seen, contrast = _standardised(fitted[inner, inner].ravel().astype(np.float32))
        if contrast < 1:
            return None
        step = (solve @ (seen - wanted)).reshape(2, 3)
        warp = warp @ np.linalg.inv(np.vstack((step, _LAST_ROW)) + _UNMOVED)
        if not 0.5 < np.linalg.det(warp[:, :2]) < 2:
            return None
        if np.abs(step[:, 2]).max() + np.abs(step[:, :2]).max() * side / 2 < _STILL_PIXELS:
            break
    return _about_the_middle(warp, side, -1).astype(np.float32)


def _standardised(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """With mean nought and deviation one; and the deviation that they had."""
    centred = values - values.mean()
    spread = float(np.sqrt(centred @ centred / len(values)))
    return centred / max(spread, 1e-6), spread


def _about_the_middle(warp: NDArray[np.floating], side: int, towards: int) -> NDArray[np.float64]:
    """A map of places counted from the corner as one of places counted from the middle (`towards` 1), or back (−1)."""
    middle = (side - 1) / 2
    shift = warp[:, 2] + towards * (warp[:, :2].sum(axis=1) - 1) * middle
    return np.column_stack((warp[:, :2], shift)).astype(np.float64)


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
    high = _high_pass(sized(face, _ALIGNED_SIDE), 5)
    return np.asarray(cv2.resize(high, (_FAR_SIDE, _FAR_SIDE), interpolation=cv2.INTER_AREA), np.float32)


def _of_length_one(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), np.float32)


def face_code(face: Grey) -> NDArray[np.uint64]:
    """uint64 [2], 121 bits: what an aligned grey face looks like from afar: is each of 11×11 places lighter than its
    surroundings. Codes of one photograph differ in few bits, whatever was done to its light and size."""
    high = _high_pass(sized(face, _ALIGNED_SIDE), 5)
    inner = high[_FACE_MARGIN:-_FACE_MARGIN, _FACE_MARGIN:-_FACE_MARGIN]
    small = cv2.resize(inner, (11, 11), interpolation=cv2.INTER_AREA)
    packed = np.packbits(np.append(small > np.median(small), np.zeros(7, bool)))
    return packed.view(np.uint64)


def _high_pass(face: Grey, width: float) -> NDArray[np.float32]:
    wide = face.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), width), np.float32)
