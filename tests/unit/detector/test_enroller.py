"""Which pictures, answers and device-made vectors make or show a template, on the real models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.detector.adapters.enrolled import EnrolledFaces, vectors_from_bytes, vectors_to_bytes
from services.detector.adapters.enroller import FaceEnroller
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.liveness import PassiveLiveness, widened
from services.detector.adapters.models import Box, open_models
from services.detector.adapters.rules import read_rules
from services.detector.domain.liveness import (
    NOT_LIVE,
    OTHER_FACE,
    PASSED,
    PICTURES_REPEAT,
    POSE_DIFFERS,
    Liveness,
    Pose,
)
from services.detector.ports import NotEnrollable
from tests.unit.detector.spoofs import mirrored, on_paper, saved

ROOT = Path(__file__).parents[3]
MODELS, PICTURES = ROOT / ".cache" / "models", ROOT / ".cache" / "pictures"
RULES = read_rules()
DIMENSIONS = {RULES.faces.model_id: 512, RULES.faces.second_model_id: 192}


@pytest.fixture(scope="module")
def enrolled():
    return EnrolledFaces(RULES.faces.model_id, RULES.faces.second_model_id, 512)


@pytest.fixture(scope="module")
def enroller(enrolled):
    if not (MODELS / "models.json").exists():
        pytest.skip("no prepared models in .cache/models: run `make models`")
    models, liveness = open_models(MODELS), RULES.ownership.liveness
    passive = PassiveLiveness(MODELS)
    return FaceEnroller(FaceEngine(models), enrolled, RULES.faces, liveness, passive, models.pose, DIMENSIONS)


@pytest.fixture(scope="module")
def front():
    return picture("obama.jpg")


@pytest.fixture(scope="module")
def template(enroller, front):
    return enroller.enrol([front])


def picture(name: str) -> bytes:
    file = PICTURES / name
    if not file.exists():
        pytest.skip("the demo's pictures are not fetched: run `make models`")
    return file.read_bytes()


def test_a_portrait_makes_a_live_template_with_a_unit_vector_for_each_model(template):
    vectors = vectors_from_bytes(template.vectors)
    assert (Liveness.LIVE, set(DIMENSIONS)) == (template.liveness, set(vectors))
    assert [1.0, 1.0] == pytest.approx([float(np.linalg.norm(vector)) for vector in vectors.values()], abs=1e-5)


def test_a_photograph_of_a_printed_portrait_makes_a_doubtful_template(enroller):
    assert Liveness.DOUBTFUL == enroller.enrol([on_paper(picture("obama2.jpg"))]).liveness


def test_one_doubtful_picture_among_live_ones_makes_the_template_doubtful(enroller, front):
    assert Liveness.DOUBTFUL == enroller.enrol([front, on_paper(picture("obama2.jpg"))]).liveness


def test_a_kept_crop_is_embedded_anew_to_nearly_the_same_vectors(enroller, template):
    again = vectors_from_bytes(enroller.reembed(template.crop).vectors)
    before = vectors_from_bytes(template.vectors)
    assert all(float(again[name] @ before[name]) > 0.97 for name in DIMENSIONS)


@pytest.mark.parametrize("crop", [b"", b"no picture", saved(Image.new("RGB", (64, 64)))])
def test_what_is_no_crop_is_embedded_to_nothing(enroller, crop):
    assert enroller.reembed(crop) is None


def test_turning_aside_and_looking_up_passes_a_challenge(enroller, template, front):
    pictures = [front, picture("obama2.jpg"), picture("obama3.jpg")]
    assert PASSED == enroller.answer(pictures, (Pose.FRONT, Pose.RIGHT, Pose.UP), template.vectors)


@pytest.mark.parametrize(
    ("names", "poses", "reason"),
    [
        (("obama.jpg", "obama2.jpg", "obama3.jpg"), (Pose.FRONT, Pose.UP, Pose.RIGHT), POSE_DIFFERS),
        (("obama.jpg", "obama2.jpg", "obama2.jpg"), (Pose.FRONT, Pose.RIGHT, Pose.LEFT), PICTURES_REPEAT),
        (("obama.jpg", "sample1.jpg"), (Pose.FRONT, Pose.LEFT), "SEVERAL_FACES"),
        (("biden.jpg", "obama2.jpg"), (Pose.FRONT, Pose.RIGHT), OTHER_FACE),
    ],
)
def test_a_wrong_answer_to_a_challenge_says_why(enroller, template, names, poses, reason):
    assert reason == enroller.answer([picture(name) for name in names], poses, template.vectors)


def test_a_mirror_image_is_no_second_picture(enroller, template, front):
    turned = picture("obama2.jpg")
    pictures = [front, turned, mirrored(turned)]
    assert PICTURES_REPEAT == enroller.answer(pictures, (Pose.FRONT, Pose.RIGHT, Pose.LEFT), template.vectors)


def test_a_printed_face_passes_no_challenge(enroller, template):
    pictures = [on_paper(picture("obama.jpg")), picture("obama2.jpg")]
    assert NOT_LIVE == enroller.answer(pictures, (Pose.FRONT, Pose.RIGHT), template.vectors)


def test_a_template_of_the_device_is_taken_over_as_it_is(enroller, template):
    made = vectors_from_bytes(template.vectors)
    taken = enroller.accept([(name, vector.astype("<f4").tobytes()) for name, vector in made.items()])
    assert (template.vectors, b"", Liveness.NOT_CHECKED) == (taken.vectors, taken.crop, taken.liveness)


FIRST, SECOND = DIMENSIONS
UNIT = np.eye(1, 512, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ([], "COUNT"),
        ([(FIRST, UNIT)] * 5, "COUNT"),
        ([(FIRST, UNIT)] * 2, "MODEL_REPEATED"),
        ([("dlib-128", UNIT)], "MODEL_UNKNOWN"),
        ([(SECOND, np.eye(1, 192, dtype="<f4").tobytes())], "MODEL_MISSING"),
        ([(FIRST, UNIT[:-4])], "VECTOR_MALFORMED"),
        ([(FIRST, bytes(2048))], "NOT_UNIT_LENGTH"),
        ([(FIRST, np.full(512, 1e38, "<f4").tobytes())], "NOT_UNIT_LENGTH"),
        ([(FIRST, np.full(512, np.nan, "<f4").tobytes())], "NOT_UNIT_LENGTH"),
        ([(FIRST, np.full(512, np.inf, "<f4").tobytes())], "NOT_UNIT_LENGTH"),
    ],
)
def test_a_template_of_the_device_that_breaks_the_contract_is_refused(enroller, vectors, reason):
    with pytest.raises(NotEnrollable) as refused:
        enroller.accept(vectors)
    assert reason == refused.value.reason


def test_the_same_face_is_seen_elsewhere_even_where_a_device_made_one_vector_alone(enroller, enrolled, template):
    enrolled.gallery.add([enrolled.entry("t1", "holder", vectors_from_bytes(template.vectors), False)])
    other = vectors_from_bytes(enroller.enrol([picture("obama2.jpg")]).vectors)
    alone = enroller.accept([(FIRST, other[FIRST].astype("<f4").tobytes())])
    found = [enroller.same_face_elsewhere(alone.vectors, who, apart) for who, apart in (("new", ()), ("holder", ()))]
    assert [("holder", "t1"), None] == found
    assert enroller.same_face_elsewhere(alone.vectors, "new", {"holder"}) is None
    told_apart = {"holder", *(f"other {number}" for number in range(40))}
    assert enroller.same_face_elsewhere(alone.vectors, "new", told_apart) is None
    enrolled.gallery.remove(["t1"])


def test_a_template_of_an_older_model_is_like_nobody(enroller):
    old = vectors_to_bytes({"old-model": np.eye(1, 512, dtype=np.float32)[0]})
    assert enroller.same_face_elsewhere(old, "new") is None


@pytest.mark.parametrize("box", [Box(-30, -30, 5, 5, 1.0), Box(60, 40, 90, 70, 1.0), Box(10, 10, 10, 10, 1.0)])
def test_a_box_that_reaches_outside_gives_a_part_of_the_picture(box):
    rows, columns, _ = widened(np.zeros((64, 80, 3), np.uint8), box).shape
    assert (1 <= rows <= 64, 1 <= columns <= 80) == (True, True)
