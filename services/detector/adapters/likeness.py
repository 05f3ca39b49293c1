"""Which contents are the same content: pictures by the fingerprint cascade, texts by their signature."""

from __future__ import annotations

from collections.abc import Sequence

from services.detector.adapters.fingerprints import DedupRules, Fingerprint, compare
from services.detector.domain.clusters import Medium, Near
from services.detector.domain.text_similarity import Signature, TextDedupRule, similarity
from services.detector.ports import Content

_WORDS = {"sha256": "SHA256", "dhash": "PHASH", "phash": "PHASH", "pdq": "PDQ", "orb": "ORB", "face": "ORB"}
"""The contract's word for each rule; agreement of aligned faces is a geometric one as ORB is."""


class CascadeLikeness:
    """See the port Likeness."""

    def __init__(self, pictures: DedupRules, texts: TextDedupRule) -> None:
        self._pictures = pictures
        self._texts = texts
        self.rule_version = f"{pictures.id}-{pictures.version}/dedup_text-{texts.version}"

    def read(self, medium: Medium, data: bytes) -> object:
        """See the port. Raises ValueError for bytes of another format."""
        return Fingerprint.from_bytes(data) if medium is Medium.PICTURE else Signature(data)

    def near(self, new: Content, known: Sequence[tuple[str, object]]) -> list[Near]:
        """See the port."""
        return [near for cluster_id, other in known if (near := self._compare(new.fingerprint, cluster_id, other))]

    def _compare(self, new: object, cluster_id: str, other: object) -> Near | None:
        if isinstance(new, Fingerprint) and isinstance(other, Fingerprint):
            verdict = compare(new, other, self._pictures)
            if not verdict.near_duplicate:
                return None
            return Near(cluster_id, _WORDS[verdict.rule], round(1000 * verdict.distance))
        if isinstance(new, Signature) and isinstance(other, Signature) and self._texts.same(new, other):
            return Near(cluster_id, "TEXT", round(1000 * (1 - similarity(new, other))))
        return None
