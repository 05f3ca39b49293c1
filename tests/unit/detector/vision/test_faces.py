"""Whether faces in pictures are found, aligned, embedded and decided as measured."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.adapters.engines import LEAST_COSINE, OnnxNetwork
from services.detector.adapters.faces import (
    ARCFACE_POINTS,
    DetectionPlan,
    FaceEngine,
    FaceMatcher,
    aligned,
    measure,
    read_face_rules,
    similarity,
    stacked,
)
from services.detector.adapters.gallery import Entry, FaissGallery
from services.detector.adapters.images import read_picture
from services.detector.adapters.model_files import ModelFile, UnusableModel, read_manifest
from services.detector.adapters.models import MOST_BOXES, Box, OnnxEmbedder, PoseEstimator, shared, without_overlaps
from services.detector.domain.faces import Band

from .conftest import MODELS, PICTURES

Pixels = NDArray[np.uint8]
RULES = read_face_rules()


def portraits(evaluation: Path, role: str, count: int) -> dict[str, Pixels]:
    found: dict[str, Pixels] = {}
    for folder in sorted((evaluation / "faces" / "congress").iterdir()):
        files = [p for p in sorted(folder.iterdir()) if ("gpo2015" in p.name) == (role == "enrol")]
        if files and len(found) < count:
            found[folder.name] = read_picture(files[0].read_bytes()).pixels
    return found


def enrolled(engine: FaceEngine, people: dict[str, Pixels]) -> FaissGallery:
    gallery = FaissGallery(engine.model_id, 512)
    for name, rgb in people.items():
        look = engine.second_look(*stacked(engine.analyse(rgb)[:1]))[0].vectors
        gallery.add([Entry(f"t-{name}", name, look[engine.model_id], look[engine.second_model_id])])
    return gallery


def test_similarity_finds_rotation_scale_and_shift() -> None:
    angle, scale = 0.4, 1.7
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (ARCFACE_POINTS @ turn.T + (30, -12)).astype(np.float32)
    matrix = similarity(ARCFACE_POINTS, moved)
    assert np.allclose(matrix, np.hstack([turn, [[30], [-12]]]), atol=1e-3)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 9.0])
def test_a_face_comes_out_at_its_place_at_any_size(scale: float) -> None:
    points = ARCFACE_POINTS * scale + 20
    picture = np.zeros((int(112 * scale) + 60, int(112 * scale) + 60, 3), np.uint8)
    for x, y in points:
        cv2.circle(picture, (round(float(x)), round(float(y))), max(1, round(4 * scale)), (255, 255, 255), -1)
    crop = aligned(picture, points)
    assert all(crop[round(float(y)), round(float(x))].min() > 150 for x, y in ARCFACE_POINTS)


def test_points_that_coincide_still_give_a_crop() -> None:
    crop = aligned(np.zeros((50, 50, 3), np.uint8), np.full((5, 2), 25, np.float32))
    assert crop.shape == (112, 112, 3)


def test_overlapping_boxes_become_the_best_one() -> None:
    boxes = [Box(0, 0, 10, 10, 0.8), Box(1, 1, 11, 11, 0.9), Box(50, 50, 60, 60, 0.7)]
    assert [box.score for box in without_overlaps(boxes, 0.4)] == [0.9, 0.7]
    assert shared(boxes[0], boxes[2]) == 0.0


@pytest.mark.parametrize(
    ("boxes", "enough"),
    [
        ([], False),
        ([Box(100, 50, 200, 180, 0.9)], True),
        ([Box(100, 50, 200, 180, 0.9), Box(10, 10, 30, 35, 0.9)], False),
        ([Box(100, 120, 200, 250, 0.9)], False),
        ([Box(-30, 50, 70, 180, 0.9)], False),
        ([Box(260, 50, 345, 180, 0.9)], False),
        ([Box(100, -20, 200, 120, 0.9)], True),
    ],
    ids=["none", "large", "a small one beside", "chin cut off", "left cut off", "right cut off", "hair cut off"],
)
def test_a_quick_look_is_enough_for_large_whole_faces(boxes: list[Box], enough: bool) -> None:
    assert DetectionPlan().suffices(boxes, 240, 320) is enough


def test_a_face_whose_chin_is_cut_off_is_still_its_owner(engine: FaceEngine) -> None:
    paths = [PICTURES / name for name in ("obama.jpg", "obama2.jpg")]
    if not all(path.exists() for path in paths):
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")
    whole, other = (read_picture(path.read_bytes()).pixels for path in paths)
    cut = cv2.resize(other[:470], (320, 240), interpolation=cv2.INTER_AREA)
    one, face = engine.analyse(whole)[0], engine.analyse(cut)[0]
    assert float(one.vector @ face.vector) > RULES.look_again


def test_a_picture_full_of_boxes_costs_a_bounded_comparison() -> None:
    boxes = [Box(20 * n, 0, 20 * n + 10, 10, 0.5 + n / 10_000) for n in range(2 * MOST_BOXES)]
    kept = without_overlaps(boxes, 0.4)
    assert (len(kept), kept[0].score) == (MOST_BOXES, boxes[-1].score)


class SlantedFace:
    """A network that finds every face turned by as many degrees as its crop's first value says."""

    engine_id = "none"

    def run(self, values: NDArray[np.uint8] | NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return [np.array([[-float(crop[0, 0, 0]), 3.0, 0.0] for crop in values], np.float32)]


def test_poses_come_in_the_order_of_the_faces() -> None:
    crops = np.stack([np.full((112, 112, 3), value, np.uint8) for value in range(20)])
    assert [pose.yaw for pose in PoseEstimator(SlantedFace()).poses(crops)] == [-float(n) for n in range(20)]


def test_a_mirrored_face_looks_the_other_way(engine: FaceEngine, evaluation: Path) -> None:
    faces = [engine.analyse(rgb)[0] for rgb in portraits(evaluation, "probe", 6).values()]
    mirrored = [replace(face, crop=np.ascontiguousarray(face.crop[:, ::-1])) for face in faces]
    for one, other in zip(engine.posed(faces), engine.posed(mirrored), strict=True):
        angles = [each.quality.turn_deg for each in (one, other)] + [each.quality.tilt_deg for each in (one, other)]
        assert None not in angles
        assert abs(angles[0] - angles[1]) < 10
        assert abs(angles[2] - angles[3]) < 6


@pytest.mark.parametrize(("shift", "visible"), [(0, 1.0), (-20, 0.8), (-50, 0.5)])
def test_a_face_at_the_edge_is_partly_visible(shift: int, visible: float) -> None:
    points = ARCFACE_POINTS + np.array([shift, 0], np.float32)
    crop = aligned(np.full((112, 112, 3), 120, np.uint8), points)
    quality = measure(Box(0, 0, 112, 112, 0.9), points, crop, (112, 112))
    assert quality.visible == pytest.approx(visible, abs=0.07)


def test_a_model_file_that_differs_from_its_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"weights")
    entry = '{"models": {"m": {"file": "m.onnx", "sha256": "00", "model_id": "m-1"}}}'
    (tmp_path / "models.json").write_text(entry)
    with pytest.raises(UnusableModel, match="m: sha256 differs"):
        read_manifest(tmp_path)["m"].read()


@pytest.mark.parametrize(
    "manifest", ["", "[]", '{"models": {"m": {}}}', '{"models": {"m": {"file": "../m"}}}']
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "models.json").write_text(manifest)
    with pytest.raises(UnusableModel, match="not a model manifest"):
        read_manifest(tmp_path)


def test_rules_belong_to_the_models_that_are_there(engine: FaceEngine) -> None:
    assert (RULES.model_id, RULES.second_model_id) == (engine.model_id, engine.second_model_id)


def test_a_matcher_refuses_a_gallery_of_another_model(engine: FaceEngine) -> None:
    with pytest.raises(ValueError, match="different models"):
        FaceMatcher(engine, FaissGallery("other-model", 512), RULES)


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(engine: FaceEngine) -> None:
    crops = np.random.default_rng(3).integers(0, 256, (18, 112, 112, 3), dtype=np.uint8)
    together = engine.embed(crops)
    alone = np.concatenate([engine.embed(crops[i : i + 1]) for i in (0, 15, 17)])
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together[[0, 15, 17]], alone, atol=1e-5)
    assert engine.embed(crops[:0]).shape == (0, 512)


def test_a_picture_without_faces_has_none(engine: FaceEngine, scenery: Pixels) -> None:
    assert engine.analyse_many([scenery, np.zeros((1, 1, 3), np.uint8), scenery[:3]]) == [[], [], []]


def test_a_portrait_shows_one_face_also_when_small_in_a_large_picture(
    engine: FaceEngine, evaluation: Path
) -> None:
    portrait = next(iter(portraits(evaluation, "enrol", 1).values()))
    large = np.full((960, 1280, 3), 90, np.uint8)
    small = cv2.resize(portrait, (90, 110), interpolation=cv2.INTER_AREA)
    large[600:710, 900:990] = small
    assert [len(faces) for faces in engine.analyse_many([portrait, large])] == [1, 1]


def test_subscribers_are_matched_and_strangers_are_nobody(engine: FaceEngine, evaluation: Path) -> None:
    people = portraits(evaluation, "enrol", 24)
    enrolled_people = dict(list(people.items())[:8])
    matcher = FaceMatcher(engine, enrolled(engine, enrolled_people), RULES)
    right = wrong = 0
    for name, rgb in portraits(evaluation, "probe", 24).items():
        for each in matcher.match(engine.analyse(rgb)[:1]):
            right += each.decision.band is not Band.NONE and each.decision.subscriber_id == name
            wrong += each.decision.band is Band.MATCH and each.decision.subscriber_id != name
    assert right >= 6
    assert wrong == 0


def test_a_president_is_recognised_in_other_photos_and_strangers_are_not(engine: FaceEngine) -> None:
    if not PICTURES.is_dir() or not list(PICTURES.rglob("obama.jpg")):
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")

    def faces_of(name: str) -> Pixels:
        return read_picture(next(PICTURES.rglob(name)).read_bytes()).pixels

    people = {"obama": faces_of("obama.jpg"), "biden": faces_of("biden.jpg")}
    matcher = FaceMatcher(engine, enrolled(engine, people), RULES)
    others = [matcher.match(engine.analyse(faces_of(f"obama{n}.jpg"))[:1])[0].decision for n in (2, 3)]
    assert [(d.band, d.subscriber_id) for d in others] == [(Band.MATCH, "obama")] * 2
    strangers = [m.decision for n in (1, 3, 5) for m in matcher.match(engine.analyse(faces_of(f"sample{n}.jpg")))]
    assert strangers and {d.band for d in strangers} == {Band.NONE}


def test_every_prepared_model_is_the_one_its_manifest_names(engine: FaceEngine) -> None:
    files = read_manifest(MODELS)
    assert {"fr_detect", "fr_landmark", "fr_feature", "centerface", "mobilefacenet"} <= files.keys()
    assert all(file.read() for file in files.values())


def test_preparation_changes_the_weights_layout_and_not_the_answer(engine: FaceEngine) -> None:
    raw = [path for path in (MODELS / "raw").rglob("fr_feature.onnx")]
    if not raw:
        pytest.skip("no raw model files in .cache/models/raw")
    given = OnnxNetwork(ModelFile("given", raw[0], hashlib.sha256(raw[0].read_bytes()).hexdigest(), "given"))
    crops = (
        np.random.default_rng(5).integers(0, 256, (3, 14, 14, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    )
    planes = ((crops.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    expected = np.concatenate([given.run(p[np.newaxis])[0] for p in planes])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    prepared = OnnxEmbedder(read_manifest(MODELS)["fr_feature"])
    assert np.sum(expected * prepared.embed(crops), axis=1).min() >= 0.9999
    assert np.sum(expected * engine.embed(crops), axis=1).min() >= LEAST_COSINE
