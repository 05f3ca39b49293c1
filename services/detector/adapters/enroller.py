"""Is a set of pictures one person who may be enrolled, and what is their template?"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.detector.adapters import images
from services.detector.adapters.enrolled import EnrolledFaces, fused, vectors_from_bytes, vectors_to_bytes
from services.detector.adapters.faces import Face, FaceEngine, SecondLook, stacked
from services.detector.adapters.redaction import encoded
from services.detector.domain.faces import FaceRules
from services.detector.ports import EnrolledFace, NotEnrollable

Floats = NDArray[np.float32]
_BESIDE = 0.3
"""Share of the largest face from which another face in an enrolment picture counts as a second person."""


class FaceEnroller:
    """See the port Enroller."""

    def __init__(self, engine: FaceEngine, enrolled: EnrolledFaces, rules: FaceRules) -> None:
        self._engine = engine
        self._enrolled = enrolled
        self._rules = rules
        self._lock = threading.Lock()

    def enrol(self, pictures: Sequence[bytes]) -> EnrolledFace:
        """See the port."""
        faces = [self._only_face(data) for data in pictures]
        with self._lock:  # one enrolment at a time: pictures in memory are bounded
            looks = self._engine.second_look(*stacked(faces))
        self._check_agreement(looks)
        names = (self._rules.model_id, self._rules.second_model_id)
        vectors = {name: _mean([look.vectors[name] for look in looks]) for name in names}
        best = max(faces, key=lambda face: face.quality.sharpness)
        return EnrolledFace(vectors_to_bytes(vectors), names, encoded(best.crop, quality=95))

    def _only_face(self, data: bytes) -> Face:
        try:
            picture = images.read_picture(data, 1280)
        except images.UnreadableImage as problem:
            raise NotEnrollable(problem.reason) from None
        faces = self._engine.analyse(picture.pixels)
        if not faces:
            raise NotEnrollable("NO_FACE")
        largest = faces[0].quality.side_px
        if any(face.quality.side_px >= _BESIDE * largest for face in faces[1:]):
            raise NotEnrollable("SEVERAL_FACES")
        if self._rules.template.faults(faces[0].quality):
            raise NotEnrollable("LOW_QUALITY")
        return faces[0]

    def _check_agreement(self, looks: Sequence[SecondLook]) -> None:
        for at, one in enumerate(looks):
            for other in looks[at + 1 :]:
                score = fused(one.vectors, other.vectors, self._rules)
                if score is None or score < self._rules.second_review:
                    raise NotEnrollable("PICTURES_DISAGREE")

    def same_face_elsewhere(self, vectors: bytes, subscriber_id: str) -> bool:
        """See the port. As strict as a REVIEW: a person looks at it."""
        mine = vectors_from_bytes(vectors)
        found = self._enrolled.candidates(mine[self._rules.model_id][np.newaxis], 4)[0]
        others = [each for each in found if each.subscriber_id != subscriber_id]
        looked = self._enrolled.with_second_look(others, SecondLook(mine), self._rules)
        return any(each.second is not None and each.second >= self._rules.second_review for each in looked)


def _mean(vectors: Sequence[Floats]) -> Floats:
    total = np.sum(vectors, axis=0)
    return np.asarray(total / max(float(np.linalg.norm(total)), 1e-12), np.float32)
