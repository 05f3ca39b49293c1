"""How covered does an aligned face look: by a mask, dark glasses, a hand, a bar, a sticker, a mosaic?

No model of the pipeline tells. What lies over a face changes where in the crop there is light, where texture, and how
edges run; a linear discriminant over those says how far. It knows no colours and nobody's features: its weights come
from hundreds of faces (`eval covering`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.chassis import yaml_text

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

RULES_FILE = Path(__file__).parent.parent / "rules" / "covering.yaml"
CELLS = 8
_TOP, _BOTTOM, _LEFT, _RIGHT = 16, 112, 12, 100
"""Of the crop of 112 × 112: from the forehead to the chin, and the cheeks. 8 × 8 cells of 12 × 11 pixels."""
WAYS, BLOCKS = 4, 6
"""Directions of edges, in 6 × 6 blocks of 16 pixels of the inner 96 × 96."""
_MARGIN = 8
FEATURES = 2 * CELLS * CELLS + WAYS * BLOCKS * BLOCKS
_GREY = np.array([[0.299, 0.587, 0.114]], np.float32)
_SIDE = (112 - 2 * _MARGIN) // BLOCKS
_BLOCK = WAYS * np.kron(np.arange(BLOCKS * BLOCKS).reshape(BLOCKS, BLOCKS), np.ones((_SIDE, _SIDE), np.int64))
"""Number of each pixel's block, times WAYS."""


@dataclass(frozen=True)
class CoveringRules:
    """A version of rules/covering.yaml."""

    id: str
    version: int
    evaluation: str
    weights: Floats = field(repr=False)
    """float32 [FEATURES]."""
    bias: float

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> CoveringRules:
        """The rules of a file. Raises ValueError for a field missing, unknown or of the wrong kind."""
        try:
            weights = np.array(values["weights"], np.float32)
            rules = cls(**{**values, "weights": weights})
        except (TypeError, KeyError) as problem:
            raise ValueError("covering.yaml: a field is missing, unknown or of the wrong kind") from problem
        if weights.shape != (FEATURES,) or not np.isfinite(weights).all():
            raise ValueError(f"covering.yaml: {FEATURES} weights are needed")
        return rules


def read_covering_rules(file: Path = RULES_FILE) -> CoveringRules:
    """The rules in a YAML file. Raises ValueError like `CoveringRules.read`."""
    return CoveringRules.read(yaml_text.parse(file.read_text(encoding="utf-8")))


def covered(crops: Pixels, rules: CoveringRules) -> Floats:
    """uint8 [N,112,112,3] RGB, aligned → float32 [N]: negative for an open face, from 0 on for a covered one."""
    return np.asarray(features(crops) @ rules.weights + np.float32(rules.bias), np.float32)


def features(crops: Pixels) -> Floats:
    """Light and texture of cells, and directions of edges in blocks, each beside the mean of its face: float32
    [N, FEATURES]. Neither brightness nor contrast of the whole changes them much.
    """
    grey = [np.asarray(cv2.transform(crop.astype(np.float32), _GREY), np.float32) for crop in crops]
    found = [np.concatenate([_cells(each), _edges(each)]) for each in grey]
    return np.asarray(found, np.float32).reshape(-1, FEATURES)


def _cells(grey: Floats) -> Floats:
    part = grey[_TOP:_BOTTOM, _LEFT:_RIGHT]
    light = _means(part)
    texture = np.sqrt(np.maximum(_means(part * part) - light * light, 0))
    light = (light - light.mean()) / (light.std() + 5)
    texture = np.log((texture + 2) / (texture.mean() + 2))
    return np.asarray(np.concatenate([light, texture]), np.float32)


def _means(part: Floats) -> Floats:
    """The mean of each cell; sides are multiples of CELLS."""
    return np.asarray(cv2.resize(part, (CELLS, CELLS), interpolation=cv2.INTER_AREA), np.float32).reshape(-1)


def _edges(grey: Floats) -> Floats:
    """Square roots of gradients by direction (Dalal and Triggs 2005), beside the face's mean block."""
    part = grey[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    across, down = np.zeros_like(part), np.zeros_like(part)
    across[:, 1:-1] = part[:, 2:] - part[:, :-2]
    down[1:-1] = part[2:] - part[:-2]
    # Eighths of a turn, opposite ones together: by signs and sizes, for a fifth of what an arc tangent costs.
    steep = np.abs(down) > np.abs(across)
    way = np.where(across * down >= 0, steep, 3 - steep)
    sums = np.bincount((_BLOCK + way).reshape(-1), cv2.magnitude(across, down).reshape(-1), WAYS * BLOCKS * BLOCKS)
    blocks = sums.reshape(BLOCKS * BLOCKS, WAYS)
    mean = np.sqrt(np.sum(blocks * blocks, axis=1)).mean() + 1e-3
    return np.asarray(np.sqrt(blocks.T / mean), np.float32).reshape(-1)
