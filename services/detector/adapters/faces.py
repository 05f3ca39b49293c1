"""Which faces a picture shows, and what vector each has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from services.chassis import yaml_text
from services.chassis.metrics import stage
from services.detector.adapters.gallery import Gallery
from services.detector.adapters.models import Box, FaceModels, Floats, Pixels, shared
from services.detector.adapters.tiles import Budget, TileRules, find_in_tiles, joined, read_tile_rules
from services.detector.domain.faces import (
    Candidate,
    Decision,
    FaceQuality,
    FaceRules,
    decide,
    is_near,
    needs_second_look,
    rules_from,
)

CROP = 112
_GRID = 16
"""Points each way at which a crop is looked up in its picture."""
RULES_FILE = Path(__file__).parent.parent / "rules" / "faces.yaml"
ARCFACE_POINTS = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]],
    np.float32,
)
"""Where ArcFace (Deng et al. 2019) puts left eye, right eye, nose and mouth corners in a 112×112 crop."""


@dataclass(frozen=True)
class Face:
    """One face of a picture; `repr` shows neither pixels nor vector."""

    box: Box
    quality: FaceQuality
    detector: str
    crop: Pixels = field(repr=False)
    """uint8 [112,112,3] RGB, aligned."""
    vector: Floats = field(repr=False)
    """float32 [D] of length 1, by the first embedder."""


@dataclass(frozen=True)
class SecondLook:
    """What the second opinion sees in one crop: vectors over the crop and its mirror image, by model_id."""

    vectors: dict[str, Floats] = field(repr=False)


@dataclass(frozen=True)
class DetectionPlan:
    """When the quick detector is enough. Long sides in pixels, heights as share of the picture's height."""

    thorough_long_side: int = 1280
    """Long side at which CenterFace looks where the quick look may have missed faces. Measured on 1280 × 960: of faces
    20, 24 and 32 pixels wide it finds .85, .85 and .94; at 960 .70 of those of 24, for three quarters of the time."""
    small_face: float = 0.16
    small_pixels: float = 64.0
    """Shorter side, in pixels, below which the quick look's points are too rough: with CenterFace's the fused pairwise
    TPR at FAR 1e-4 rises from .970 to .974."""
    cut_off: float = 0.02
    """Share of a box that may lie outside the picture; of a face that is cut the quick look's points are wrong."""
    most_faces: int = 64
    least_side: float = 12.0
    """Faces with a shorter side, in pixels of the picture, carry no identity."""

    def suffices(self, quick: Sequence[Box], height: int, width: int) -> bool:
        """Whether a quick look that found these leaves nothing to a thorough one: faces, all large and whole. Small
        ones seldom come alone.
        """
        return bool(quick) and all(
            box.height >= self.small_face * height
            and min(box.width, box.height) >= self.small_pixels
            and min(box.left, width - box.right) >= -self.cut_off * box.width
            and height - box.bottom >= -self.cut_off * box.height
            for box in quick
        )


@dataclass(frozen=True)
class Larger:
    """The same picture with all its pixels, for a look at faces too small for the picture as it is."""

    height: int
    width: int
    read: Callable[[], Pixels | None] = field(repr=False)
    """Gives uint8 [height,width,3], None where that cannot be read; called only where the look is worth it."""


@dataclass(frozen=True)
class _Found:
    box: Box
    """In pixels of the picture that was handed in."""
    points: Floats
    """[5,2] in pixels of `pixels`."""
    detector: str
    pixels: Pixels = field(repr=False)
    """What the face is cut out of: that picture, or the larger one."""
    scale: float = 1.0
    """Pixels of `pixels` to one of the picture."""

    @property
    def side(self) -> float:
        """Shorter side in pixels of `pixels`."""
        return min(self.box.width, self.box.height) * self.scale


class FaceEngine:
    """Detection in two stages, alignment, quality, and embedding in batches.

    Holds no state between calls; several threads may call it at once, and nearly all its time is spent
    outside the GIL.
    """

    def __init__(
        self, models: FaceModels, plan: DetectionPlan | None = None, tiles: TileRules | None = None
    ) -> None:
        """`tiles`: the rules shipped, by default."""
        self._models = models
        self._plan = plan or DetectionPlan()
        self._tiles = tiles or read_tile_rules()

    @property
    def model_id(self) -> str:
        """The first embedder's id: index, thresholds and templates belong to it."""
        return self._models.embedder.model_id

    @property
    def second_model_id(self) -> str:
        return self._models.second_embedder.model_id

    @property
    def engine_id(self) -> str:
        return self._models.embedder.engine_id

    def analyse(self, rgb: Pixels) -> list[Face]:
        """The faces of uint8 [H,W,3] RGB, largest first, at most `most_faces`."""
        return self.analyse_many([rgb])[0]

    def analyse_many(
        self, pictures: Sequence[Pixels], larger: Sequence[Larger | None] | None = None
    ) -> list[list[Face]]:
        """The faces of each picture; crops of all pictures are embedded together. With `larger`, one for each picture,
        faces too small for the picture as it is are looked for in tiles of the larger one. Boxes are the picture's.
        """
        found, tiles = [], Budget(self._tiles.most_together)
        for rgb, more in zip(pictures, larger or [None] * len(pictures), strict=True):
            # Faces leave their picture at once: of many large ones no two are in memory.
            with stage("detect"):
                found.append([_cut_out(each) for each in self.detect(rgb, more, tiles)])
        crops = [cut.crop for faces in found for cut in faces]
        with stage("embed"):
            vectors = iter(self.embed(np.stack(crops)) if crops else ())
        return [[Face(c.box, c.quality, c.detector, c.crop, next(vectors)) for c in faces] for faces in found]

    def crops(self, rgb: Pixels) -> list[Pixels]:
        """The aligned faces alone, largest first, each uint8 [112,112,3]."""
        return [aligned(found.pixels, found.points) for found in self.detect(rgb)]

    def embed(self, crops: Pixels) -> Floats:
        """uint8 [N,112,112,3] → float32 [N,D] of length 1, by the first embedder."""
        return self._models.embedder.embed(crops)

    def second_look(self, crops: Pixels, vectors: Floats) -> list[SecondLook]:
        """For uint8 [N,112,112,3] and what `embed` made of them, [N,D], both embedders' view of crop and mirror image;
        what templates store too."""
        mirrored = np.ascontiguousarray(crops[:, :, ::-1])
        first, second = self._models.embedder, self._models.second_embedder
        a = _mean_view(vectors, first.embed(mirrored))
        b = _mean_view(second.embed(crops), second.embed(mirrored))
        return [SecondLook({first.model_id: x, second.model_id: y}) for x, y in zip(a, b, strict=True)]

    def posed(self, faces: Sequence[Face]) -> list[Face]:
        """The same faces with the angles of their pose in `quality`; asked of faces that are near somebody."""
        if not faces:
            return []
        poses = self._models.pose.poses(np.stack([face.crop for face in faces]))
        return [
            replace(face, quality=replace(face.quality, turn_deg=abs(pose.yaw), tilt_deg=abs(pose.pitch)))
            for face, pose in zip(faces, poses, strict=True)
        ]

    def detect(self, rgb: Pixels, larger: Larger | None = None, tiles: Budget | None = None) -> list[_Found]:
        """Boxes with five points, largest first. `tiles`: what looks at the larger picture may use up."""
        boxes, enough = self._boxes(rgb)
        fine: list[_Found] = []
        if larger is not None and not enough and self._may_hide_more(boxes, rgb):
            boxes, fine = self._in_tiles(rgb, boxes, larger, tiles or Budget(self._tiles.most))
        without_points = [box for box in boxes if box.points is None]
        points = iter(self._models.landmarks.five_points(rgb, without_points))
        found = [
            _Found(box, next(points), self._models.quick.name, rgb)
            if box.points is None
            else _Found(box, box.points, self._models.thorough.name, rgb)
            for box in boxes
        ]
        large = [f for f in (*found, *fine) if f.side >= self._plan.least_side]
        return sorted(large, key=lambda f: -f.box.width * f.box.height)[: self._plan.most_faces]

    def _boxes(self, rgb: Pixels) -> tuple[list[Box], bool]:
        """Faces by the quick look, and by the thorough one where the quick look may have missed some; whether the quick
        one was enough.
        """
        quick = self._models.quick.detect(rgb)
        if self._plan.suffices(quick, *rgb.shape[:2]):
            return quick, True
        # Where both see a face the thorough detector's box wins: it brings its own points.
        boxes = self._models.thorough.detect(rgb, self._plan.thorough_long_side)
        return boxes + [box for box in quick if all(shared(box, known) < 0.3 for known in boxes)], False

    def _may_hide_more(self, boxes: Sequence[Box], rgb: Pixels) -> bool:
        """Whether there may be faces that a look at the whole is too coarse for: none was found, or a small one."""
        looked = min(1.0, self._plan.thorough_long_side / max(rgb.shape[:2]))
        return not boxes or any(min(box.width, box.height) * looked < self._tiles.sure_px for box in boxes)

    def _in_tiles(
        self, rgb: Pixels, boxes: list[Box], larger: Larger, tiles: Budget
    ) -> tuple[list[Box], list[_Found]]:
        """Which boxes stay, and the faces that the tiles show; nothing new where tiles would show little more."""
        looked_at = min(self._plan.thorough_long_side, max(rgb.shape[:2]))
        scale = self._tiles.scale(larger.height, larger.width, looked_at, tiles.left)
        pixels, detector = larger.read() if scale is not None else None, self._models.thorough
        if scale is None or pixels is None:
            return boxes, []
        found = find_in_tiles(pixels, detector, self._tiles, scale, tiles)
        across, down = rgb.shape[1] / larger.width, rgb.shape[0] / larger.height
        here = [box.moved(0, 0, across, down) for box in found]
        sure_px = self._tiles.sure_px * max(rgb.shape[:2]) / looked_at
        kept, added = joined(boxes, here, sure_px)
        fine = [
            _Found(here[at], points, detector.name, pixels, 1 / across)
            for at in added
            if (points := found[at].points) is not None
        ]
        return [boxes[at] for at in kept], fine


@dataclass(frozen=True)
class Matched:
    """A face with what decided about it."""

    face: Face
    """With its pose, where somebody is near."""
    candidates: Sequence[Candidate]
    decision: Decision


class FaceMatcher:
    """Which subscriber each face is: gallery search, pose and a second look where the rules ask for them, the
    decision.
    """

    CANDIDATES = 4
    """Subscribers nearest to a face that the decision looks at."""

    def __init__(self, engine: FaceEngine, gallery: Gallery, rules: FaceRules) -> None:
        """Raises ValueError when engine, gallery and rules do not speak of the same models."""
        ids = {engine.model_id, gallery.model_id, rules.model_id}
        if len(ids) != 1 or engine.second_model_id != rules.second_model_id:
            raise ValueError(f"engine, gallery and rules {rules.name} belong to different models")
        self._engine, self._gallery, self._rules = engine, gallery, rules

    def match(self, faces: Sequence[Face], groups: Sequence[str] = ()) -> list[Matched]:
        """Every face, in order, against the whole gallery; one search for all. `groups`: for each the channel group
        it comes from, where there are such.
        """
        if not faces:
            return []
        size = len(self._gallery)
        found = self._gallery.search(np.stack([face.vector for face in faces]), self.CANDIDATES)
        return self.judge(faces, found, size, groups)

    def judge(
        self, faces: Sequence[Face], found: Sequence[Sequence[Candidate]], size: int, groups: Sequence[str] = ()
    ) -> list[Matched]:
        """The same of candidates that were found among `size` templates; at most one look at poses and one second
        look for all faces.
        """
        faces, found, rules = list(faces), list(found), self._rules
        groups = groups or [""] * len(faces)
        near = [n for n, face in enumerate(faces) if is_near(found[n], face.quality, size, rules)]
        for n, face in zip(near, self._engine.posed([faces[n] for n in near]), strict=True):
            faces[n] = face
        again = [n for n in near if needs_second_look(found[n], faces[n].quality, size, rules, groups[n])]
        looks = self._engine.second_look(*stacked([faces[n] for n in again])) if again else []
        for n, look in zip(again, looks, strict=True):
            found[n] = [second_opinion(each, look, self._gallery, rules) for each in found[n]]
        return [
            Matched(face, found[n], decide(found[n], face.quality, size, rules, groups[n]))
            for n, face in enumerate(faces)
        ]


def stacked(faces: Sequence[Face]) -> tuple[Pixels, Floats]:
    """Crops [N,112,112,3] and vectors [N,D] of at least one face."""
    return np.stack([face.crop for face in faces]), np.stack([face.vector for face in faces])


def second_opinion(candidate: Candidate, look: SecondLook, gallery: Gallery, rules: FaceRules) -> Candidate:
    """The candidate with its fused score; unchanged when a vector is missing on either side or its template is gone."""
    entry = gallery.entry(candidate.template_id)
    if entry is None or entry.second is None:
        return candidate
    held = {rules.model_id: entry.vector, rules.second_model_id: entry.second}
    return replace(candidate, second=fused(held, look.vectors, rules))


def fused(a: Mapping[str, Floats], b: Mapping[str, Floats], rules: FaceRules) -> float | None:
    """The fused cosine of two sets of vectors; None where one lacks a model."""
    names = (rules.model_id, rules.second_model_id)
    if any(name not in a or name not in b for name in names):
        return None
    first, second = (float(a[name] @ b[name]) for name in names)
    return rules.fused(first, second)


def read_face_rules(path: Path = RULES_FILE) -> FaceRules:
    """The rules in a YAML file. Raises ValueError when a field is missing, unknown or contradicts another."""
    return rules_from(yaml_text.parse(path.read_text()))


def aligned(rgb: Pixels, points: Floats) -> Pixels:
    """The 112×112 crop whose five points lie, by the best similarity (Umeyama 1991), at ArcFace's places."""
    matrix = similarity(points, ARCFACE_POINTS)
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        # warpAffine samples four pixels; a large face must be reduced first or it aliases.
        rgb, points = _reduced(rgb, points, scale)
        matrix = similarity(points, ARCFACE_POINTS)
    crop = cv2.warpAffine(rgb, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))
    return np.asarray(crop, np.uint8)


def _reduced(rgb: Pixels, points: Floats, scale: float) -> tuple[Pixels, Floats]:
    """The face's surroundings at about twice the crop's resolution, and the points there."""
    margin = 1.5 * float(np.ptp(points, axis=0).max())
    height, width = rgb.shape[:2]
    x0, y0 = (max(0, int(v)) for v in points.min(axis=0) - margin)
    x1, y1 = (int(np.ceil(v)) for v in points.max(axis=0) + margin)
    part = rgb[y0 : max(y0 + 1, min(y1, height)), x0 : max(x0 + 1, min(x1, width))]
    factor = min(1.0, 2 * scale)
    size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    ratio = np.array([size[0] / part.shape[1], size[1] / part.shape[0]], np.float32)
    return small, np.asarray((points - np.array([x0, y0], np.float32)) * ratio, np.float32)


def similarity(source: Floats, target: Floats) -> Floats:
    """The 2×3 rotation, even scale and shift that best maps `source` [N,2] on `target` (least squares)."""
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    s = (source - centre_s).astype(np.float64) @ (1, 1j)
    t = (target - centre_t).astype(np.float64) @ (1, 1j)
    spread = float(np.sum(np.abs(s) ** 2))
    turn = complex(np.sum(t * s.conj())) / spread if spread > 0 else 1 + 0j
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.hstack([linear, (centre_t - linear @ centre_s)[:, np.newaxis]]).astype(np.float32)


@dataclass(frozen=True)
class _CutOut:
    """A face without the picture that it was cut out of."""

    box: Box
    quality: FaceQuality
    detector: str
    crop: Pixels = field(repr=False)


def _cut_out(found: _Found) -> _CutOut:
    crop = aligned(found.pixels, found.points)
    box = found.box.moved(0, 0, found.scale, found.scale)
    return _CutOut(found.box, measure(box, found.points, crop, found.pixels.shape[:2]), found.detector, crop)


def measure(box: Box, points: Floats, crop: Pixels, size: tuple[int, int]) -> FaceQuality:
    """Quality figures of one face, aligned from a picture of `size` (height, width); see FaceQuality for units."""
    left, right, nose, mouth_l, mouth_r = points.astype(np.float64)
    eyes = float(np.hypot(*(right - left)))
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    inner = grey[24:104, 20:92]
    sharpness = float(cv2.Laplacian(inner, cv2.CV_64F).var())
    axis = (right - left) / max(eyes, 1e-6)
    middle = (left + right + mouth_l + mouth_r) / 4
    yaw = abs(float((nose - middle) @ axis)) / max(eyes, 1e-6)
    return FaceQuality(
        side_px=min(box.width, box.height),
        eye_distance_px=eyes,
        sharpness=sharpness,
        contrast=float(inner.std()),
        yaw=yaw,
        detection=box.score,
        visible=_inside(points, size),
    )


def _inside(points: Floats, size: tuple[int, int]) -> float:
    """Share of the aligned crop that the picture covers; alignment fills the rest with black."""
    there = similarity(points, ARCFACE_POINTS)
    if abs(float(np.linalg.det(there[:, :2]))) < 1e-9:
        return 0.0
    back = cv2.invertAffineTransform(there)
    steps = (np.arange(_GRID) + 0.5) * CROP / _GRID
    at = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ back[:, :2].T + back[:, 2]
    return float(np.mean(np.all((at >= 0) & (at < (size[1], size[0])), axis=1)))


def _mean_view(crops: Floats, mirrors: Floats) -> Floats:
    """Twice [N,D] → [N,D] of length 1."""
    total = crops + mirrors
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12), np.float32)
