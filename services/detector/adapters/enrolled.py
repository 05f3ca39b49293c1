"""Whose enrolled face is near, by both embedders: the gallery in memory and how it follows the database."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.chassis.telemetry import logger
from services.detector.adapters.faces import SecondLook
from services.detector.adapters.gallery import Entry, FaissGallery
from services.detector.domain.faces import Candidate, FaceRules
from services.detector.domain.ownership import OwnershipState
from services.detector.ports import Begin, SealedTemplate
from services.detector.sealing import Vault

log = logger(__name__)

Floats = NDArray[np.float32]
PAGE = 500


@dataclass(frozen=True, slots=True)
class _Enrolled:
    subscriber_id: str
    minor: bool
    vectors: Mapping[str, Floats] = field(repr=False)


class EnrolledFaces:
    """Verified templates in memory. Threads may search while the event loop changes it."""

    def __init__(self, model_id: str, dimension: int) -> None:
        self._index = FaissGallery(model_id, dimension)
        self._model_id = model_id
        self._held: dict[str, _Enrolled] = {}
        self.version = 0
        self.update_time: datetime | None = None
        self.loaded = False
        """False until the database was read once."""

    def __len__(self) -> int:
        return len(self._index)

    def put(self, template_id: str, subscriber_id: str, vectors: Mapping[str, Floats], minor: bool) -> None:
        """Adds or replaces a template. One without a vector of the current model is left out."""
        vector = vectors.get(self._model_id)
        if vector is None:
            log.warning("template_without_current_model", template_id=template_id)
            return
        self._held[template_id] = _Enrolled(subscriber_id, minor, vectors)
        self._index.add([Entry(template_id, subscriber_id, vector)])

    def drop(self, template_id: str) -> None:
        """Forgets a template."""
        if self._held.pop(template_id, None) is not None:
            self._index.remove([template_id])

    def caught_up(self, version: int, now: datetime) -> None:
        """Notes up to which gallery version the database was read."""
        if version != self.version:
            self.update_time = now
        self.version, self.loaded = version, True

    def candidates(self, probes: Floats, k: int) -> list[list[Candidate]]:
        """For each row the k nearest subscribers, best first."""
        found = self._index.search(probes, k)
        return [
            [
                Candidate(each.subscriber_id, each.template_id, each.score, minor=held.minor)
                for each in row
                if (held := self._held.get(each.template_id)) is not None
            ]
            for row in found
        ]

    def with_second_look(self, candidates: Sequence[Candidate], look: SecondLook, rules: FaceRules) -> list[Candidate]:
        """The candidates with the fused second opinion, where their template has vectors of both models."""
        return [replace(each, second=self._fused(each.template_id, look.vectors, rules)) for each in candidates]

    def _fused(self, template_id: str, look: Mapping[str, Floats], rules: FaceRules) -> float | None:
        held = self._held.get(template_id)
        return None if held is None else fused(held.vectors, look, rules)


def fused(a: Mapping[str, Floats], b: Mapping[str, Floats], rules: FaceRules) -> float | None:
    """The fused cosine of two sets of vectors; None where one lacks a model."""
    names = (rules.model_id, rules.second_model_id)
    if any(name not in a or name not in b for name in names):
        return None
    first, second = (float(a[name] @ b[name]) for name in names)
    return rules.fused(first, second)


def vectors_to_bytes(vectors: Mapping[str, Floats]) -> bytes:
    """Vectors by model as bytes; `vectors_from_bytes` reads them."""
    return json.dumps(
        {name: base64.b64encode(np.asarray(v, "<f4").tobytes()).decode() for name, v in sorted(vectors.items())}
    ).encode()


def vectors_from_bytes(data: bytes) -> dict[str, Floats]:
    """Raises ValueError for bytes that hold no vectors."""
    return {
        name: np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
        for name, value in json.loads(data).items()
    }


class DatabaseFeed:
    """See the port GalleryFeed. Every replica follows the table by itself: versions commit in order."""

    def __init__(self, begin: Begin, vault: Vault, enrolled: EnrolledFaces, clock: Callable[[], datetime]) -> None:
        self._begin = begin
        self._vault = vault
        self._enrolled = enrolled
        self._clock = clock

    async def refresh(self) -> None:
        """See the port."""
        version = self._enrolled.version
        while True:
            async with self._begin() as work:
                changes = await work.templates.changed_since(version, PAGE)
            for _, sealed, minor in changes:
                self._apply(sealed, minor)
            version = changes[-1][0] if changes else version
            if len(changes) < PAGE:
                break
        self._enrolled.caught_up(version, datetime.now(UTC))

    def _apply(self, sealed: SealedTemplate, minor: bool) -> None:
        template = sealed.template
        expired = template.expire_time is None or template.expire_time <= self._clock()
        if template.state is not OwnershipState.VERIFIED or expired or sealed.vectors is None:
            self._enrolled.drop(template.template_id)
            return
        data = self._vault.open(
            template.subscriber_id, "face_template", template.template_id, "vectors", sealed.vectors
        )
        if data is None:
            self._enrolled.drop(template.template_id)
            return
        self._enrolled.put(template.template_id, template.subscriber_id, vectors_from_bytes(data), minor)
