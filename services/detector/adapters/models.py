"""How one neural network is asked: detectors, landmarks, pose, embedders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import AUTO, Network, OnnxNetwork, has_bf16, open_network, same_direction
from services.detector.adapters.model_files import EMBEDDERS, ModelFile, embedder_files, read_manifest
from services.detector.domain.liveness import HeadPose

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

LARGEST_BATCH = 8
"""Crops per run: beyond it a batch gains nothing and only holds memory."""
MOST_BOXES = 512
"""Candidate boxes of one look, best first: what a hostile picture may make overlap suppression work on."""
MOST_HEAT_APART = 0.05
"""Largest difference of two engines' face probabilities at which one may stand for the other."""
MOST_DEGREES_APART = 0.5
"""The same for angles; the model's own error is 3."""


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


class InProcessEmbedder:
    """An embedder whose file takes bytes and ends in a unit vector, worked out by a network of this process."""

    def __init__(self, model_id: str, network: Network) -> None:
        self._network = network
        self.model_id = model_id
        self.engine_id = network.engine_id
        self.dimension = int(network.run(np.zeros((1, 112, 112, 3), np.uint8))[0].shape[1])

    def embed(self, crops: Pixels) -> Floats:
        """uint8 [N,112,112,3] RGB → float32 [N,D] of length 1, in runs of at most LARGEST_BATCH."""
        parts = [self._network.run(crops[at : at + LARGEST_BATCH])[0] for at in range(0, len(crops), LARGEST_BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, self.dimension), np.float32)


class OnnxEmbedder(InProcessEmbedder):
    """The reference that other engines are compared with: ONNX Runtime in FP32."""

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        super().__init__(file.model_id, OnnxNetwork(file, threads))


class SsdDetector:
    """fr_detect: the quick look at 320×240; sees faces from about a tenth of the picture's height."""

    WIDTH, HEIGHT = 320, 240

    def __init__(self, network: Network, least_score: float = 0.6) -> None:
        self._network = network
        self._least_score = least_score
        self.name = "fr_detect"

    def detect(self, rgb: Pixels) -> list[Box]:
        """Faces in uint8 [H,W,3], best first, without landmarks."""
        canvas, scale = fit(rgb, self.WIDTH, self.HEIGHT)
        scores, boxes = self._network.run(canvas[np.newaxis])
        score = scores[0, :, 1]
        kept = np.flatnonzero(score > self._least_score)
        corners = boxes[0, kept] * np.array([self.WIDTH, self.HEIGHT] * 2)
        found = [
            Box(float(x0), float(y0), float(x1), float(y1), float(s))
            for (x0, y0, x1, y1), s in zip(corners, score[kept], strict=True)
        ]
        return [box.moved(0, 0, 1 / scale, 1 / scale) for box in without_overlaps(found, 0.4)]


class CenterFace:
    """centerface: the long look; finds small faces, gives five points, costs by the pixel."""

    STRIDE = 4
    GRID = 32

    def __init__(self, network: Network, least_score: float = 0.5) -> None:
        self._network = network
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
        heat, size, offset, points = (output[0] for output in self._network.run(planes))
        found = self._decode(heat[0], size, offset, points)
        return [box.moved(0, 0, 1 / scale, 1 / scale) for box in without_overlaps(found, 0.3)]

    def _decode(self, heat: Floats, size: Floats, offset: Floats, points: Floats) -> list[Box]:
        """Boxes as in the authors' code (Star-Clouds/CenterFace): sizes are log cells, offsets are cells."""
        found = []
        cells = np.argwhere(heat > self._least_score)
        best = np.argsort(-heat[tuple(cells.T)], kind="stable")[:MOST_BOXES]
        for row, column in cells[best]:
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

    def __init__(self, network: Network) -> None:
        self._network = network

    def five_points(self, rgb: Pixels, boxes: list[Box]) -> list[Floats]:
        """For each box float32 [5,2] in pixels of `rgb`: left eye, right eye, nose, mouth corners."""
        if not boxes:
            return []
        corners = [_inside(box, rgb) for box in boxes]
        crops = [
            cv2.cvtColor(cv2.resize(rgb[y0:y1, x0:x1], (64, 64)), cv2.COLOR_RGB2GRAY)
            for x0, y0, x1, y1 in corners
        ]
        answers = self._network.run(np.asarray(np.stack(crops), np.uint8))[0].reshape(-1, 68, 2)
        five = np.stack([answers[:, group].mean(axis=1) for group in map(list, self.GROUPS)], axis=1)
        return [
            np.asarray(points * (x1 - x0, y1 - y0) + (x0, y0), np.float32)
            for points, (x0, y0, x1, y1) in zip(five, corners, strict=True)
        ]


class PoseEstimator:
    """fr_pose: where a face points. Costs as much as an embedding, so it is asked where it may decide.

    Against the mirrored crop the error is 3° of yaw and 1° of pitch.
    """

    SIZE = 224

    def __init__(self, network: Network) -> None:
        self._network = network

    def poses(self, crops: Pixels) -> list[HeadPose]:
        """uint8 [N,112,112,3] RGB, aligned → N poses; roll is what alignment left."""
        found = []
        for at in range(0, len(crops), LARGEST_BATCH):
            large = np.stack([cv2.resize(crop, (self.SIZE, self.SIZE)) for crop in crops[at : at + LARGEST_BATCH]])
            found += [HeadPose(*map(float, angles)) for angles in self._network.run(np.asarray(large, np.uint8))[0]]
        return found


@dataclass(frozen=True)
class FaceModels:
    """The networks one face engine works with."""

    quick: SsdDetector
    thorough: CenterFace
    landmarks: Landmarker
    embedder: Embedder
    second_embedder: Embedder
    pose: PoseEstimator


def open_models(
    folder: Path, threads: int = 1, engine: str = AUTO, model_ids: tuple[str, str] | None = None
) -> FaceModels:
    """Open every network of the face pipeline from prepared files, `threads` to a run.

    `engine` (one of ENGINES) works out the networks that gain by it; the others stay with ONNX Runtime. `model_ids` are
    those of both embedders, prepared or added by an operator; by default the prepared ones. Raises UnusableModel, and
    UnusableEngine when an engine asked for by name may not be used.
    """
    files: Mapping[str, ModelFile] = read_manifest(folder)
    first, second = embedder_files(folder, model_ids) if model_ids else [files[name] for name in EMBEDDERS]

    def embedder(file: ModelFile) -> Embedder:
        # In BF16 twice as fast again, but one face in a thousand then differs by more than a cosine of .999.
        return InProcessEmbedder(file.model_id, open_network(file, threads, engine, _same_vectors))

    def small_faces() -> Network:
        # Gains by BF16 alone (two thirds of the time, the same faces); in FP32 ONNX Runtime is the faster one.
        file = files["centerface"]
        if not has_bf16():
            return OnnxNetwork(file, threads)
        return open_network(file, threads, engine, _same_faces, bf16=True)

    return FaceModels(
        SsdDetector(OnnxNetwork(files["fr_detect"], threads)),
        CenterFace(small_faces()),
        Landmarker(OnnxNetwork(files["fr_landmark"], threads)),
        embedder(first),
        embedder(second),
        PoseEstimator(open_network(files["fr_pose"], threads, engine, _same_angles)),
    )


def _same_vectors(network: Network, reference: Network) -> bool:
    crops = np.stack([_pattern(seed, 112, 112) for seed in range(2)])
    return same_direction(network, reference, crops)


def _same_faces(network: Network, reference: Network) -> bool:
    """Heat maps that differ by less than the threshold's own coarseness find the same faces."""
    planes = np.ascontiguousarray(_pattern(2, 96, 96).transpose(2, 0, 1)[np.newaxis], np.float32)
    return float(np.abs(network.run(planes)[0] - reference.run(planes)[0]).max()) < MOST_HEAT_APART


def _same_angles(network: Network, reference: Network) -> bool:
    size = PoseEstimator.SIZE
    crops = np.stack([_pattern(seed, size, size) for seed in range(2)])
    return float(np.abs(network.run(crops)[0] - reference.run(crops)[0]).max()) < MOST_DEGREES_APART


def _pattern(seed: int, height: int, width: int) -> Pixels:
    """Smooth colours, the same every time: what a comparison of engines looks at."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


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
    for box in sorted(boxes, key=lambda b: -b.score)[:MOST_BOXES]:
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
