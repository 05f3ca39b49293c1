"""When are two faces one photograph, whatever was done to it, and when merely one person?"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.adapters.face_photographs import (
    FACE_WINDOW,
    face_agreement,
    face_codes,
    far_face,
    far_views,
    from_afar,
)
from services.detector.adapters.fingerprints import FACE_SIDE, Grey
from services.detector.adapters.same_picture import read_rules

RULES = read_rules()
Field = NDArray[np.float32]


def blotches(seed: int, cells: int) -> Field:
    small = np.random.default_rng(seed).normal(size=(cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(small, (FACE_SIDE, FACE_SIDE), interpolation=cv2.INTER_CUBIC), np.float32)


def grey(field: Field) -> Grey:
    return np.asarray(np.clip(128 + 35 * field, 0, 255), np.uint8)


PERSON = blotches(0, 9)


def photograph(seed: int) -> Grey:
    """One person's face: the same in the large, other light and looks in the small."""
    return grey(PERSON + 0.5 * blotches(seed, 18))


def moved(face: Grey, right: float, down: float, degrees: float = 0.0, scale: float = 1.0) -> Grey:
    warp = cv2.getRotationMatrix2D((FACE_SIDE / 2, FACE_SIDE / 2), degrees, scale)
    warp[:, 2] += right, down
    return np.asarray(cv2.warpAffine(face, warp, face.shape, borderMode=cv2.BORDER_REFLECT), np.uint8)


def before(face: Grey, backdrop: int) -> Grey:
    """The face in an oval, and beside it another grey."""
    oval = cv2.ellipse(np.zeros(face.shape, np.uint8), (36, 36), (26, 33), 0, 0, 360, 1, -1)
    return np.where(oval == 1, face, np.uint8(backdrop))


def agreement(one: Grey, other: Grey) -> float:
    return face_agreement(one[None], other[None], RULES.face_worth_aligning)


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize(
    "change",
    [
        lambda face: moved(face, 2.5, -1.5),
        lambda face: moved(face, -1, 2, degrees=3, scale=1.04),
        lambda face: np.ascontiguousarray(moved(face, 1, 1)[:, ::-1]),
        lambda face: np.asarray(face * 0.6 + 70, np.uint8),
    ],
    ids=["moved", "turned and larger", "mirrored", "paler"],
)
def test_a_copy_is_one_photograph(seed, change):
    face = photograph(seed)
    assert agreement(change(face), face) >= RULES.face_least_correlation


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_copy_before_another_backdrop_is_one_photograph(seed):
    face = photograph(seed)
    assert agreement(moved(before(face, 80), 2, 1), before(face, 170)) >= RULES.face_least_correlation


@pytest.mark.parametrize("seed", range(1, 5))
def test_another_photograph_of_the_person_is_not(seed):
    one, other = photograph(seed), photograph(seed + 100)
    assert -1 < agreement(one, other) < RULES.face_apart
    assert -1 < agreement(before(one, 40), before(other, 40)) < RULES.face_least_correlation


def test_faces_of_one_grey_agree_with_nothing():
    flat = np.full((FACE_SIDE, FACE_SIDE), 90, np.uint8)
    assert -1 == agreement(flat, photograph(1))
    assert -1 == agreement(photograph(1), flat)


def test_from_afar_a_mirrored_face_is_the_mirror_image():
    face = photograph(1)
    mirrored = np.ascontiguousarray(face[:, ::-1])
    upright, turned = from_afar(face), from_afar(mirrored)
    assert np.abs(turned - upright[:, ::-1]).max() < 2, "greys are whole numbers"
    away = np.bitwise_count(face_codes(upright)[1] ^ face_codes(turned)[0]).sum()
    assert away <= 2
    assert (far_views(upright) @ far_face(turned)).max() > 0.99
    assert (50, FACE_WINDOW**2) == far_views(upright).shape
