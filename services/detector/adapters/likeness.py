"""Which contents are the same content: pictures by the fingerprint cascade, texts by their signature."""

from __future__ import annotations

from services.detector.adapters.fingerprints import Fingerprint
from services.detector.adapters.known_contents import KnownPictures, KnownTexts
from services.detector.adapters.same_picture import DedupRules
from services.detector.domain.clusters import Medium, Near
from services.detector.domain.text_similarity import Signature, TextDedupRule
from services.detector.ports import Content, Known


class KnownContents:
    """See the port Known."""

    def __init__(self, pictures: DedupRules, texts: TextDedupRule) -> None:
        self._rules = pictures, texts
        # Most subscribers have contents of one medium: a part is made with the first of it.
        self.pictures: KnownPictures | None = None
        self.texts: KnownTexts | None = None

    def __len__(self) -> int:
        return sum(len(part) for part in (self.pictures, self.texts) if part)

    def add(self, medium: Medium, cluster_id: str, form: object) -> None:
        """See the port."""
        pictures, texts = self._rules
        if isinstance(form, Fingerprint):
            self.pictures = self.pictures or KnownPictures(pictures)
            self.pictures.add(cluster_id, form)
        elif isinstance(form, Signature):
            self.texts = self.texts or KnownTexts(texts)
            self.texts.add(cluster_id, form)

    def forget(self, most: int) -> None:
        """See the port."""
        for part in (self.pictures, self.texts):
            if part and len(part) > most + most // 10:  # many at once: what is left is indexed anew
                part.forget(len(part) - most)


class CascadeLikeness:
    """See the port Likeness."""

    def __init__(self, pictures: DedupRules, texts: TextDedupRule) -> None:
        self._pictures = pictures
        self._texts = texts
        self.rule_version = f"{pictures.id}-{pictures.version}/dedup_text-{texts.version}"

    def read(self, medium: Medium, data: bytes) -> object:
        """See the port. Raises ValueError for bytes of another format."""
        return Fingerprint.from_bytes(data) if medium is Medium.PICTURE else Signature(data)

    def nothing_known(self) -> KnownContents:
        """See the port."""
        return KnownContents(self._pictures, self._texts)

    def near(self, new: Content, known: Known) -> list[Near]:
        """See the port. Raises TypeError for contents of another likeness."""
        if not isinstance(known, KnownContents):
            raise TypeError("not made by this likeness")
        if isinstance(new.fingerprint, Fingerprint) and known.pictures:
            return known.pictures.near(new.fingerprint)
        if isinstance(new.fingerprint, Signature) and known.texts:
            return known.texts.near(new.fingerprint)
        return []
