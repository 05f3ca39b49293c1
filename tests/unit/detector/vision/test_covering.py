"""Whether it is seen that something lies over a face."""

from __future__ import annotations

import numpy as np
import pytest

from services.detector.adapters.covering import (
    FEATURES,
    CoveringRules,
    covered,
    features,
    read_covering_rules,
)
from services.detector.adapters.faces import FaceEngine, aligned
from services.detector.adapters.images import read_picture
from services.detector.evaluate_covering import OPEN, Samples, held_out, judged, learnt
from services.detector.evaluate_covering.drawing import COVERINGS, drawn

from .conftest import PICTURES, paint

RULES = read_covering_rules()
PORTRAITS = ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg")
PLAIN = ("mask", "dark glasses", "bar over eyes", "half")
"""Coverings that leave nobody in doubt."""


@pytest.fixture(scope="module")
def portraits() -> list[np.ndarray]:
    if not all((PICTURES / name).exists() for name in PORTRAITS):
        pytest.skip("no demo pictures in .cache/pictures: run `make models`")
    return [read_picture((PICTURES / name).read_bytes(), 640).pixels for name in PORTRAITS]


def test_open_faces_are_open_and_plainly_covered_ones_are_not(engine: FaceEngine, portraits: list[np.ndarray]) -> None:
    found = [engine.detect(rgb)[0] for rgb in portraits]
    crops = np.stack([aligned(face.pixels, face.points) for face in found])
    assert [False] * len(crops) == (covered(crops, RULES) > 0).tolist()
    chance = np.random.default_rng(1)
    hidden = np.stack(
        [
            aligned(drawn(rgb, face.points, kind, chance), face.points)
            for rgb, face in zip(portraits, found, strict=True)
            for kind in PLAIN
        ]
    )
    assert np.mean(covered(hidden, RULES) > 0) >= 0.9


def test_a_covered_face_says_so_once_it_is_looked_at_closely(engine: FaceEngine, portraits: list[np.ndarray]) -> None:
    rgb = portraits[0]
    points = engine.detect(rgb)[0].points
    masked = drawn(rgb, points, "mask", np.random.default_rng(1))
    faces = [engine.analyse(picture)[0] for picture in (rgb, masked)]
    assert [None, None] == [face.quality.covered for face in faces]
    open_, hidden = (face.quality.covered for face in engine.posed(faces))
    assert open_ is not None
    assert hidden is not None
    assert open_ < 0 < hidden


def test_brightness_and_contrast_of_the_picture_change_little(engine: FaceEngine, portraits: list[np.ndarray]) -> None:
    crop = engine.crops(portraits[0])[0]
    darker = np.clip(0.7 * crop.astype(np.float32) + 10, 0, 255).astype(np.uint8)
    one, other = covered(np.stack([crop, darker]), RULES)
    spread = float(np.abs(features(np.stack([crop]))[0] * RULES.weights).sum())
    assert abs(one - other) < 0.1 * spread


@pytest.mark.parametrize("kind", COVERINGS)
def test_a_covering_stays_at_the_face_and_can_be_drawn_again(kind: str) -> None:
    scenery = paint(4, 480, 640)
    points = np.array([[300, 200], [340, 200], [320, 222], [304, 245], [336, 245]], np.float32)
    one, again = (drawn(scenery, points, kind, np.random.default_rng(3)) for _ in range(2))
    assert (one == again).all()
    rows, columns = np.nonzero((one != scenery).any(axis=2))
    assert 0 < len(rows)
    assert 120 <= rows.min()
    assert rows.max() <= 300
    assert 230 <= columns.min()
    assert columns.max() <= 410


def test_a_face_at_the_edge_can_be_covered_too() -> None:
    scenery = paint(4)
    points = np.array([[-5, 5], [25, 5], [10, 20], [-2, 36], [22, 36]], np.float32)
    for kind in COVERINGS:
        assert drawn(scenery, points, kind, np.random.default_rng(3)).shape == scenery.shape


def people(count: int) -> Samples:
    """Crops with texture everywhere, and the same with a smooth lower half."""
    crops = np.stack([paint(seed, 112, 112) for seed in range(count)])
    smooth = crops.copy()
    smooth[:, 60:] = 128
    kinds = np.array([OPEN] * count + ["mask"] * count)
    names = tuple(f"person {at}" for at in range(count)) * 2
    lost = dict.fromkeys((OPEN, *COVERINGS), 0)
    return Samples(names, kinds, np.concatenate([crops, smooth]), np.ones(2 * count, np.float32), lost)


def test_weights_learnt_from_some_people_tell_others() -> None:
    samples = people(60)
    found = judged(samples, held_out(samples))
    assert found["mask"]["auc"] > 0.95
    assert found["mask"]["covered"] > 0.5 > found[OPEN]["covered"]


def test_the_bias_leaves_so_many_false_alarms() -> None:
    samples = people(40)
    weights, bias = learnt(samples, np.ones(80, bool), false_alarms=0.25)
    scores = features(samples.crops[:40]) @ weights + bias
    assert 10 == pytest.approx(float((scores > 0).sum()), abs=1)


def test_too_few_faces_teach_nothing() -> None:
    with pytest.raises(ValueError, match="too few"):
        learnt(people(1), np.ones(2, bool))


@pytest.mark.parametrize(
    "change", [{"weights": [0.0] * (FEATURES - 1)}, {"weights": [float("nan")] * FEATURES}, {"other": 1}]
)
def test_rules_that_cannot_be_used_are_refused(change: dict[str, object]) -> None:
    values = {"id": "covering", "version": 1, "evaluation": "", "bias": 0.0, "weights": [0.0] * FEATURES}
    with pytest.raises(ValueError, match=r"covering\.yaml"):
        CoveringRules.read(values | change)


def test_the_shipped_rules_know_their_evaluation() -> None:
    assert RULES.version >= 1
    assert "open" in RULES.evaluation
