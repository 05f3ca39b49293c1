"""Whether copies of a picture are recognised, and strangers are not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.fingerprints import (
    Fingerprint,
    dhashes,
    fingerprint,
    orientations,
    pdq_bits,
    pdq_frame,
    phashes,
)
from services.detector.adapters.images import read_picture
from services.detector.adapters.same_picture import compare, read_rules
from services.detector.evaluate_dedup.prints import Prints
from services.detector.evaluate_dedup.transforms import transforms

from .conftest import MODELS, paint

Pixels = NDArray[np.uint8]
RULES = read_rules()
ALWAYS = ["jpeg 30", "jpeg 70", "half size, jpeg 60", "crop 5 %", "mirror", "letterbox", "rotate 5°"]


def printed(rgb: Pixels, label: str = "") -> Fingerprint:
    return fingerprint(hashlib.sha256(rgb.tobytes() + label.encode()).digest(), rgb)


@pytest.mark.parametrize("change", ALWAYS)
@pytest.mark.parametrize("seed", range(4))
def test_a_changed_copy_is_recognised(change: str, seed: int) -> None:
    original = paint(seed, 480, 640)
    copy = np.ascontiguousarray(transforms()[change](original))
    kept = Fingerprint.from_bytes(printed(original).to_bytes())
    assert compare(printed(copy, change), kept, RULES).near_duplicate


@pytest.mark.parametrize("hashes", [dhashes, phashes])
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (97, 131)])
def test_the_hashes_of_a_turned_picture_are_those_of_its_orientations(hashes, shape) -> None:
    grey = cv2.cvtColor(paint(3, *shape), cv2.COLOR_RGB2GRAY)
    assert [hashes(view)[0] for view in orientations(grey)] == hashes(grey)


def test_different_pictures_stay_apart() -> None:
    prints = [printed(paint(seed)) for seed in range(12)]
    joined = [
        (i, j) for i in range(12) for j in range(i) if compare(prints[i], prints[j], RULES).near_duplicate
    ]
    assert joined == []


def test_the_same_bytes_are_the_same_content_whatever_they_show() -> None:
    flat = np.full((50, 50, 3), 255, np.uint8)
    verdict = compare(fingerprint(b"same", flat), fingerprint(b"same", flat), RULES)
    assert (verdict.near_duplicate, verdict.distance, verdict.rule) == (True, 0.0, "sha256")


def test_blank_pages_are_not_copies_of_each_other() -> None:
    one, other = (np.full((300, 200, 3), grey, np.uint8) for grey in (255, 250))
    assert compare(printed(one), printed(other), RULES).rule == "none"


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (3, 900), (37, 53)])
def test_odd_shapes_have_a_fingerprint_too(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    print_ = printed(picture)
    assert compare(print_, Fingerprint.from_bytes(print_.to_bytes()), RULES).rule == "sha256"


def test_a_fingerprint_survives_keeping_and_stays_small(scenery: Pixels) -> None:
    large = np.asarray(cv2.resize(scenery, (1600, 1200)), np.uint8)
    crops = [np.ascontiguousarray(scenery[:112, :112]), np.ascontiguousarray(scenery[100:212, :112])]
    kept = fingerprint(b"x", large, [*crops, crops[0]]).to_bytes()
    assert Fingerprint.from_bytes(kept).to_bytes() == kept
    assert len(kept) <= 16_384


@given(st.binary(max_size=600))
def test_other_bytes_are_no_fingerprint(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a fingerprint"):
        Fingerprint.from_bytes(data)


def test_repr_shows_no_content(scenery: Pixels) -> None:
    assert repr(printed(scenery)).startswith("Fingerprint(quality=")
    assert "array" not in repr(printed(scenery))


def test_one_portrait_in_two_collections_is_one_content_and_two_portraits_are_two(
    engine: FaceEngine, evaluation: Path
) -> None:
    def of_file(name: str) -> Fingerprint:
        data = (evaluation / "neardup" / "portrait_copies" / name).read_bytes()
        rgb = read_picture(data).pixels
        return fingerprint(data, rgb, engine.crops(rgb))

    folder = evaluation / "neardup" / "portrait_copies"
    people = sorted({path.name.split("_")[0] for path in folder.iterdir()})[:12]
    pairs = [sorted(path.name for path in folder.glob(f"{person}_*"))[:2] for person in people]
    prints = [[of_file(name) for name in pair] for pair in pairs]
    found = sum(compare(a, b, RULES).near_duplicate for a, b in prints)
    mixed = sum(compare(prints[i][0], prints[i - 1][1], RULES).near_duplicate for i in range(len(prints)))
    assert found >= 9
    assert mixed == 0


def test_pdq_agrees_with_the_reference_hashes(evaluation: Path) -> None:
    vectors = json.loads((evaluation / "pdq" / "vectors.json").read_text())
    away = {}
    for vector in vectors:
        rgb = read_picture((evaluation / "pdq" / vector["file"]).read_bytes()).pixels
        ours = sum(1 << at for at, bit in enumerate(pdq_bits(pdq_frame(rgb)).tolist()) if bit)
        for implementation, expected in vector["expected"].items():
            away[vector["file"], implementation] = (ours ^ int(expected, 16)).bit_count()
    assert len(away) >= 20
    assert {name: bits for name, bits in away.items() if bits > 16} == {}


def test_fingerprints_of_the_format_before_are_read() -> None:
    rgb = paint(3, 480, 640)
    now = printed(rgb)
    points = now.points
    places, descriptors = points.places[:150], points.descriptors[:150]
    head = bytes([1, now.quality, len(places), 0]) + now.sha256
    hashes = [np.ascontiguousarray(each[:2]).tobytes() for each in (now.dhashes, now.phashes)]
    arrays = [np.ascontiguousarray(each).tobytes() for each in (now.pdqs, places, descriptors)]
    before = Fingerprint.from_bytes(head + b"".join(hashes + arrays))
    assert (now.dhashes[:2, :1] == before.dhashes[:2]).all()
    assert (now.pdqs[:1] == before.pdqs).all()
    copy = np.ascontiguousarray(transforms()["caption bar"](rgb))
    assert compare(printed(copy, "captioned"), before, RULES).near_duplicate


@pytest.mark.parametrize("name", ["screenshot", "dark screenshot, jpeg 60", "mirrored screenshot"])
def test_what_is_pictured_on_a_page_is_known_again(name: str) -> None:
    rgb = paint(5, 480, 640)
    page = printed(np.ascontiguousarray(transforms()[name](rgb)), name)
    assert compare(page, Fingerprint.from_bytes(printed(rgb).to_bytes()), RULES).near_duplicate
    kept_page = Fingerprint.from_bytes(page.to_bytes())
    assert compare(printed(rgb), kept_page, RULES).near_duplicate, "the page may come first"


def test_pages_with_other_pictures_are_other_contents() -> None:
    pages = [printed(transforms()["screenshot"](paint(seed, 480, 640)), str(seed)) for seed in range(6)]
    joined = [(i, j) for i in range(6) for j in range(i) if compare(pages[i], pages[j], RULES).near_duplicate]
    assert joined == []


def test_points_come_from_all_over_the_picture() -> None:
    page = printed(transforms()["screenshot"](paint(5, 480, 640)))
    height, width = page.grey.shape
    cells = page.points.places[:160] / 4 // (np.array([width, height]) / 4 + 1)
    assert len(np.unique(cells, axis=0)) >= 12


def test_a_kept_fingerprint_of_the_evaluation_is_the_one_that_was_made(engine: FaceEngine, tmp_path: Path) -> None:
    data = cv2.imencode(".png", paint(1))[1].tobytes()
    prints = Prints(engine, MODELS, tmp_path)
    made, kept = prints.of(data, "mirror"), prints.of(data, "mirror")
    assert made.mirrored_points is not None and kept.mirrored_points is not None
    for name in ("dhashes", "phashes", "pdqs", "faces"):
        assert getattr(made, name).tolist() == getattr(kept, name).tolist()
    assert made.points.descriptors.tolist() == kept.points.descriptors.tolist()
    assert made.mirrored_points.places.tolist() == kept.mirrored_points.places.tolist()
