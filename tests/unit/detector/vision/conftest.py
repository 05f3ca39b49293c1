"""What the vision tests share: prepared models, evaluation data, and why one of them may be missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.models import open_models

ROOT = Path(__file__).parents[4]
MODELS = ROOT / ".cache" / "models"
PICTURES = ROOT / ".cache" / "pictures"
EVALUATION = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def engine() -> FaceEngine:
    """The face engine over the prepared models."""
    if not (MODELS / "models.json").exists():
        pytest.skip("no prepared models in .cache/models: run `make models`")
    return FaceEngine(open_models(MODELS, threads=1))


@pytest.fixture(scope="session")
def evaluation() -> Path:
    """The evaluation data, which is never part of the repository."""
    if not EVALUATION.is_dir():
        pytest.skip("no evaluation data beside the repository")
    return EVALUATION


@pytest.fixture
def scenery() -> NDArray[np.uint8]:
    """A picture with structure and without faces, uint8 [240,320,3], the same every time."""
    return paint(1)


def paint(seed: int, height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """Random smooth scenery with some edges; different seeds look different."""
    import cv2

    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(40):
        x, y = (int(v) for v in chance.integers(0, (width, height)))
        colour = tuple(int(c) for c in chance.integers(0, 256, 3))
        cv2.circle(picture, (x, y), int(chance.integers(4, 25)), colour, int(chance.integers(1, 4)))
    return np.asarray(picture, np.uint8)
