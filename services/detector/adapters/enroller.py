"""Is a set of pictures one person who may be enrolled, and what is their template?"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters import images
from services.detector.adapters.enrolled import EnrolledFaces, vectors_from_bytes, vectors_to_bytes
from services.detector.adapters.faces import CROP, Face, FaceEngine, SecondLook, fused, second_opinion, stacked
from services.detector.adapters.gallery import MOST_CANDIDATES
from services.detector.adapters.liveness import PassiveLiveness
from services.detector.adapters.models import Pixels, PoseEstimator
from services.detector.adapters.redaction import encoded
from services.detector.domain.faces import FaceRules
from services.detector.domain.liveness import (
    NOT_LIVE,
    OTHER_FACE,
    PASSED,
    PICTURES_REPEAT,
    POSE_DIFFERS,
    Liveness,
    LivenessRules,
    Pose,
)
from services.detector.ports import EnrolledFace, NotEnrollable

Floats = NDArray[np.float32]
_BESIDE = 0.3
"""Share of the largest face from which another face in an enrolment picture counts as a second person."""
_LONG_SIDE = 1280
_NEAREST = 4
_MOST_VECTORS = 4
_UNIT = 1e-3
"""How far the length of a vector that a device made may be from 1."""


@dataclass(frozen=True)
class _Seen:
    """The one face of a picture."""

    face: Face
    live: float


class FaceEnroller:
    """See the port Enroller."""

    def __init__(
        self,
        engine: FaceEngine,
        enrolled: EnrolledFaces,
        rules: FaceRules,
        liveness: LivenessRules,
        passive: PassiveLiveness,
        poses: PoseEstimator,
        dimensions: Mapping[str, int],
    ) -> None:
        """`dimensions`: length of the vectors of each of today's models."""
        self._engine = engine
        self._enrolled = enrolled
        self._rules = rules
        self._liveness = liveness
        self._passive = passive
        self._poses = poses
        self._dimensions = dimensions
        self._lock = threading.Lock()

    @property
    def model_id(self) -> str:
        """See the port."""
        return self._rules.model_id

    def current(self, model_ids: Collection[str]) -> bool:
        """See the port."""
        return self._rules.model_id in model_ids

    def enrol(self, pictures: Sequence[bytes]) -> EnrolledFace:
        """See the port."""
        seen = [self._only_face(data, posed=False) for data in pictures]
        looks = self._looks(seen)
        self._check_agreement(looks)
        best = max((each.face for each in seen), key=lambda face: face.quality.sharpness)
        live = self._liveness.passive(min(each.live for each in seen))
        return self._made(looks, encoded(best.crop, quality=95), live)

    def accept(self, vectors: Sequence[tuple[str, bytes]]) -> EnrolledFace:
        """See the port."""
        if not 1 <= len(vectors) <= _MOST_VECTORS:
            raise NotEnrollable("COUNT")
        made = {model_id: self._checked(model_id, data) for model_id, data in vectors}
        if len(made) != len(vectors):
            raise NotEnrollable("MODEL_REPEATED")
        if not self.current(made):
            raise NotEnrollable("MODEL_MISSING")
        return EnrolledFace(vectors_to_bytes(made), tuple(made), b"", Liveness.NOT_CHECKED)

    def _checked(self, model_id: str, data: bytes) -> Floats:
        dimension = self._dimensions.get(model_id)
        if dimension is None:
            raise NotEnrollable("MODEL_UNKNOWN")
        if len(data) != 4 * dimension:
            raise NotEnrollable("VECTOR_MALFORMED")
        vector = np.frombuffer(data, "<f4").astype(np.float32)
        # Not a comparison with >: it must refuse NaN and infinity too.
        if not abs(float(np.linalg.norm(vector.astype(np.float64))) - 1) <= _UNIT:
            raise NotEnrollable("NOT_UNIT_LENGTH")
        return vector

    def answer(self, pictures: Sequence[bytes], poses: Sequence[Pose], vectors: bytes) -> str:
        """See the port. Only FRONT must look live and be as like as a MATCH: fr_liveness has seen few turned faces,
        and turned faces resemble less."""
        if len({hashlib.sha256(data).digest() for data in pictures}) < len(pictures):
            return PICTURES_REPEAT
        try:
            seen = [self._only_face(data, posed=True) for data in pictures]
        except NotEnrollable as problem:
            return problem.reason
        crops = [each.face.crop for each in seen]
        if self._repeated(crops):
            return PICTURES_REPEAT
        if not self._liveness.fit(poses, self._poses.poses(np.stack(crops))):
            return POSE_DIFFERS
        if self._liveness.passive(seen[0].live) is not Liveness.LIVE:
            return NOT_LIVE
        return PASSED if self._same_person(self._looks(seen), vectors_from_bytes(vectors)) else OTHER_FACE

    def _looks(self, seen: Sequence[_Seen]) -> list[SecondLook]:
        with self._lock:  # one enrolment at a time: pictures in memory are bounded
            return self._engine.second_look(*stacked([each.face for each in seen]))

    def _same_person(self, looks: Sequence[SecondLook], template: Mapping[str, Floats]) -> bool:
        wanted = [self._rules.second_match, *[self._rules.second_review] * (len(looks) - 1)]
        scores = [self._alike(look.vectors, template) for look in looks]
        return all(score >= least for score, least in zip(scores, wanted, strict=True))

    def _alike(self, a: Mapping[str, Floats], b: Mapping[str, Floats]) -> float:
        """The fused score; that of the first model alone where a device made no vector of the second."""
        score = fused(a, b, self._rules)
        return float(a[self.model_id] @ b[self.model_id]) if score is None else score

    def _repeated(self, crops: Sequence[Pixels]) -> bool:
        """Whether one picture was handed in twice, mirrored or not, saved anew or not."""
        views = [_levelled(crop) for crop in crops]
        mirrors = [_levelled(np.ascontiguousarray(crop[:, ::-1])) for crop in crops]
        return any(
            max(float(one @ views[at]), float(one @ mirrors[at])) >= self._liveness.repeated
            for number, one in enumerate(views)
            for at in range(number)
        )

    def _only_face(self, data: bytes, *, posed: bool) -> _Seen:
        """The one face of a picture. Whoever is asked for a pose may be turned."""
        try:
            picture = images.read_picture(data, _LONG_SIDE)
        except images.UnreadableImage as problem:
            raise NotEnrollable(problem.reason) from None
        faces = self._engine.analyse(picture.pixels)
        if not faces:
            raise NotEnrollable("NO_FACE")
        largest = faces[0].quality.side_px
        if any(face.quality.side_px >= _BESIDE * largest for face in faces[1:]):
            raise NotEnrollable("SEVERAL_FACES")
        face = faces[0] if posed else self._engine.posed(faces[:1])[0]
        wanted = self._rules.unusable if posed else self._rules.template
        if wanted.faults(face.quality):
            raise NotEnrollable("LOW_QUALITY")
        return _Seen(face, self._passive.live(picture.pixels, face.box))

    def _check_agreement(self, looks: Sequence[SecondLook]) -> None:
        for at, one in enumerate(looks):
            for other in looks[at + 1 :]:
                score = fused(one.vectors, other.vectors, self._rules)
                if score is None or score < self._rules.second_review:
                    raise NotEnrollable("PICTURES_DISAGREE")

    def _made(self, looks: Sequence[SecondLook], crop: bytes, live: Liveness) -> EnrolledFace:
        names = (self._rules.model_id, self._rules.second_model_id)
        vectors = {name: _mean([look.vectors[name] for look in looks]) for name in names}
        return EnrolledFace(vectors_to_bytes(vectors), names, crop, live)

    def same_face_elsewhere(
        self, vectors: bytes, subscriber_id: str, apart: Collection[str] = ()
    ) -> tuple[str, str] | None:
        """See the port. As strict as a REVIEW: a person looks at it."""
        mine = vectors_from_bytes(vectors)
        if not self.current(mine):
            return None  # of a model that is no longer searched by; it cannot be proved, nor matched
        most = min(_NEAREST + len(apart), MOST_CANDIDATES)
        near = self._enrolled.candidates(mine[self.model_id][np.newaxis], most)[0]
        others = [each for each in near if each.subscriber_id != subscriber_id and each.subscriber_id not in apart]
        look = SecondLook(mine)
        looked = [second_opinion(each, look, self._enrolled.gallery, self._rules) for each in others]
        scores = [each.score if each.second is None else each.second for each in looked]
        alike = [each for each, score in zip(looked, scores, strict=True) if score >= self._rules.second_review]
        return (alike[0].subscriber_id, alike[0].template_id) if alike else None

    def reembed(self, crop: bytes) -> EnrolledFace | None:
        """See the port."""
        try:
            pixels = images.read_picture(crop, CROP).pixels
        except images.UnreadableImage:
            return None
        if pixels.shape != (CROP, CROP, 3):
            return None
        crops = np.ascontiguousarray(pixels)[np.newaxis]
        return self._made(self._engine.second_look(crops, self._engine.embed(crops)), crop, Liveness.NOT_CHECKED)


def _levelled(crop: Pixels) -> Floats:
    """The crop's grey values without their mean, of length 1: products are correlations."""
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32).reshape(-1)
    grey -= grey.mean()
    return np.asarray(grey / max(float(np.linalg.norm(grey)), 1e-6), np.float32)


def _mean(vectors: Sequence[Floats]) -> Floats:
    total = np.sum(vectors, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
