"""How one neural network is asked: detectors, landmarks, embedders on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.detector.adapters.model_files import ModelFile, read_manifest

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

LARGEST_BATCH = 16
"""Crops per run: beyond it a batch gains nothing and only holds memory."""

_ERRORS_ONLY = 3


class Embedder(Protocol):
    """Turns aligned face crops into vectors; ONNX Runtime here, Triton behind the same three names."""

    @property
    def model_id(self) -> str:
        """Weights and preprocessing. Vectors of different model_ids are never compared."""

    @property
    def engine_id(self) -> str:
        """Runtime and precision; may change without new templates when the equivalence test admits it."""

    def embed(self, crops: Pixels) -> Floats:
        """uint8 [N,112,112,3] RGB → float32 [N,D] of length 1; N may be 0."""


@dataclass(frozen=True)
class Box:
    """A face found: pixels of the picture searched, score in 0..1, five points [5,2] or None."""

    left: float
    top: float
    right: float
    bottom: float
    score: float
    points: Floats | None = None

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def moved(self, dx: float, dy: float, scale_x: float, scale_y: float) -> Box:
        """The same face in a picture `scale` times as large whose origin lies at (−dx, −dy)."""
        scale, shift = np.array([scale_x, scale_y], np.float32), np.array([dx, dy], np.float32)
        points = None if self.points is None else self.points * scale + shift
        return Box(
            self.left * scale_x + dx,
            self.top * scale_y + dy,
            self.right * scale_x + dx,
            self.bottom * scale_y + dy,
            self.score,
            points,
        )


def open_session(file: ModelFile, threads: int) -> ort.InferenceSession:
    """A CPU session over the checked bytes; `run` releases the GIL."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Spinning threads look busy to the other processes on the same cores and win nothing at these sizes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])


class OnnxEmbedder:
    """An embedder whose file takes bytes and ends in a unit vector."""

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        self._session = open_session(file, threads)
        self.model_id = file.model_id
        self.engine_id = f"onnxruntime-{ort.__version__}-cpu-fp32"
        self.dimension = int(self._session.get_outputs()[0].shape[1])

    def embed(self, crops: Pixels) -> Floats:
        """uint8 [N,112,112,3] RGB → float32 [N,D] of length 1, in runs of at most LARGEST_BATCH."""
        parts = [
            np.asarray(self._session.run(None, {"pixels": crops[at : at + LARGEST_BATCH]})[0], np.float32)
            for at in range(0, len(crops), LARGEST_BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)


class SsdDetector:
    """fr_detect: the quick look at 320×240; sees faces from about a tenth of the picture's height."""

    WIDTH, HEIGHT = 320, 240

    def __init__(self, file: ModelFile, threads: int = 1, least_score: float = 0.6) -> None:
        self._session = open_session(file, threads)
        self._least_score = least_score
        self.name = "fr_detect"

    def detect(self, rgb: Pixels) -> list[Box]:
        """Faces in uint8 [H,W,3], best first, without landmarks."""
        canvas, scale = fit(rgb, self.WIDTH, self.HEIGHT)
        scores, boxes = self._session.run(None, {"pixels": canvas[np.newaxis]})
        score = np.asarray(scores)[0, :, 1]
        kept = np.flatnonzero(score > self._least_score)
        corners = np.asarray(boxes)[0, kept] * np.array([self.WIDTH, self.HEIGHT] * 2)
        found = [
            Box(float(x0), float(y0), float(x1), float(y1), float(s))
            for (x0, y0, x1, y1), s in zip(corners, score[kept], strict=True)
        ]
        return [box.moved(0, 0, 1 / scale, 1 / scale) for box in without_overlaps(found, 0.4)]

    def detect_in_tiles(self, rgb: Pixels, across: int = 3, least_score: float = 0.9) -> list[Box]:
        """The same look at `across` × `across` parts, neighbours sharing a quarter: faces a third as large.

        Nine such looks cost half of one thorough look at twice the size; a higher score keeps false faces out.
        """
        height, width = rgb.shape[:2]
        share = 1 / (1 + (across - 1) * 0.75)
        tile_h, tile_w = max(1, round(height * share)), max(1, round(width * share))
        found = []
        for row in range(across):
            for column in range(across):
                y = round((height - tile_h) * row / max(1, across - 1))
                x = round((width - tile_w) * column / max(1, across - 1))
                part = self.detect(rgb[y : y + tile_h, x : x + tile_w])
                found += [box.moved(x, y, 1, 1) for box in part if box.score >= least_score]
        return without_overlaps(found, 0.3)


class CenterFace:
    """centerface: the long look; finds small faces, gives five points, costs by the pixel."""

    STRIDE = 4
    GRID = 32

    def __init__(self, file: ModelFile, threads: int = 1, least_score: float = 0.5) -> None:
        self._session = open_session(file, threads)
        self._least_score = least_score
        self.name = "centerface"

    def detect(self, rgb: Pixels, long_side: int) -> list[Box]:
        """Faces in uint8 [H,W,3], looked at with its long side at most `long_side`, best first, with
        points.
        """
        height, width = rgb.shape[:2]
        scale = min(1.0, long_side / max(height, width))
        canvas, scale = fit(rgb, _up(width * scale, self.GRID), _up(height * scale, self.GRID), scale)
        planes = np.ascontiguousarray(canvas.transpose(2, 0, 1)[np.newaxis], np.float32)
        heat, size, offset, points = (np.asarray(o)[0] for o in self._session.run(None, {"picture": planes}))
        found = self._decode(heat[0], size, offset, points)
        return [box.moved(0, 0, 1 / scale, 1 / scale) for box in without_overlaps(found, 0.3)]

    def _decode(self, heat: Floats, size: Floats, offset: Floats, points: Floats) -> list[Box]:
        """Boxes as in the authors' code (Star-Clouds/CenterFace): sizes are log cells, offsets are cells."""
        found = []
        for row, column in np.argwhere(heat > self._least_score):
            height, width = np.exp(size[:, row, column]) * self.STRIDE
            left = (column + offset[1, row, column] + 0.5) * self.STRIDE - width / 2
            top = (row + offset[0, row, column] + 0.5) * self.STRIDE - height / 2
            five = points[:, row, column].reshape(5, 2)[:, ::-1] * (width, height) + (left, top)
            found.append(
                Box(
                    float(left),
                    float(top),
                    float(left + width),
                    float(top + height),
                    float(heat[row, column]),
                    five.astype(np.float32),
                )
            )
        return found


class Landmarker:
    """fr_landmark: 68 points on a grey 64×64 crop of a box, reduced to the five that alignment needs."""

    # Eye corners' inner four, nose tip, mouth corners in the 68-point scheme of iBUG 300-W.
    GROUPS = ((37, 38, 40, 41), (43, 44, 46, 47), (30,), (48,), (54,))

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        self._session = open_session(file, threads)

    def five_points(self, rgb: Pixels, boxes: list[Box]) -> list[Floats]:
        """For each box float32 [5,2] in pixels of `rgb`: left eye, right eye, nose, mouth corners."""
        if not boxes:
            return []
        corners = [_inside(box, rgb) for box in boxes]
        crops = [
            cv2.cvtColor(cv2.resize(rgb[y0:y1, x0:x1], (64, 64)), cv2.COLOR_RGB2GRAY)
            for x0, y0, x1, y1 in corners
        ]
        answers = np.asarray(self._session.run(None, {"pixels": np.stack(crops)})[0]).reshape(-1, 68, 2)
        five = np.stack([answers[:, group].mean(axis=1) for group in map(list, self.GROUPS)], axis=1)
        return [
            np.asarray(points * (x1 - x0, y1 - y0) + (x0, y0), np.float32)
            for points, (x0, y0, x1, y1) in zip(five, corners, strict=True)
        ]


@dataclass(frozen=True)
class FaceModels:
    """The networks one face engine works with."""

    quick: SsdDetector
    thorough: CenterFace
    landmarks: Landmarker
    embedder: Embedder
    second_embedder: Embedder


def open_models(folder: Path, threads: int = 1) -> FaceModels:
    """Open every network of the face pipeline from prepared files; raises UnusableModel."""
    files: Mapping[str, ModelFile] = read_manifest(folder)
    return FaceModels(
        SsdDetector(files["fr_detect"], threads),
        CenterFace(files["centerface"], threads),
        Landmarker(files["fr_landmark"], threads),
        OnnxEmbedder(files["fr_feature"], threads),
        OnnxEmbedder(files["mobilefacenet"], threads),
    )


def fit(rgb: Pixels, width: int, height: int, scale: float | None = None) -> tuple[Pixels, float]:
    """`rgb` scaled evenly into the upper left of a black width × height canvas, and the scale used."""
    if scale is None:
        scale = min(width / rgb.shape[1], height / rgb.shape[0])
    inner = (
        min(width, max(1, round(rgb.shape[1] * scale))),
        min(height, max(1, round(rgb.shape[0] * scale))),
    )
    canvas = np.zeros((height, width, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas[: inner[1], : inner[0]] = cv2.resize(rgb, inner, interpolation=method)
    return canvas, scale


def without_overlaps(boxes: list[Box], most_shared: float) -> list[Box]:
    """Greedy non-maximum suppression by intersection over union, best score first."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda b: -b.score):
        if all(shared(box, other) <= most_shared for other in kept):
            kept.append(box)
    return kept


def shared(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (a.width * a.height + b.width * b.height - both)


def _up(value: float, step: int) -> int:
    return max(step, -(-int(np.ceil(value)) // step) * step)


def _inside(box: Box, rgb: Pixels) -> tuple[int, int, int, int]:
    """The box in whole pixels within the picture, at least one pixel each way."""
    height, width = rgb.shape[:2]
    x0 = min(max(int(box.left), 0), width - 1)
    y0 = min(max(int(box.top), 0), height - 1)
    return x0, y0, max(x0 + 1, min(int(box.right), width)), max(y0 + 1, min(int(box.bottom), height))
