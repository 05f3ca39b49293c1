"""How are masked texts searched without their words in the database? By keyed tags (decision 18)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from sqlalchemy import exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.tables import SEARCH_TEXT
from services.case.ports import SearchText
from services.chassis.database import insert_rows

_TAG_BYTES = 4

# Both walk the captures, of which there is one for each sighting that was packed.
_MISSING = text(
    """
    SELECT s.decision_id, s.case_id, s.subscriber_id FROM "case" c
    JOIN sighting s ON s.case_id = c.case_id
    JOIN capture k ON k.decision_id = s.decision_id
    WHERE c.root_case_id = :root
      AND NOT EXISTS (SELECT 1 FROM search_text t WHERE t.decision_id = s.decision_id)
    LIMIT :most
    """
)
_INCOMPLETE = text(
    """
    SELECT DISTINCT c.root_case_id FROM capture k
    JOIN sighting s ON s.decision_id = k.decision_id
    JOIN "case" c ON c.case_id = s.case_id
    WHERE c.root_case_id > :after
      AND NOT EXISTS (SELECT 1 FROM search_text t WHERE t.decision_id = k.decision_id)
    ORDER BY c.root_case_id LIMIT :most
    """
)
_MARK = ""
"""The decision of the row that says that no tags are missing: a crash of the database takes it away with the tags."""


class Tags:
    """Turns words into tags. The key lies outside the database, so that nobody can try words on a copy of it."""

    def __init__(self, key: bytes) -> None:
        """`key` of 16 to 64 bytes."""
        self._key = key

    def __repr__(self) -> str:
        return "Tags()"

    def of(self, words: Iterable[str]) -> list[int]:
        """A tag of 32 bits for each word, sorted."""
        return sorted({self._tag(word) for word in words})

    def _tag(self, word: str) -> int:
        digest = blake2b(word.encode(), digest_size=_TAG_BYTES, key=self._key, person=b"search").digest()
        return int.from_bytes(digest, "big", signed=True)


class SqlSearch:
    """The `SearchStore` over one session."""

    def __init__(self, session: AsyncSession, tags: Tags) -> None:
        self._session = session
        self._tags = tags

    async def missing(self, root_case_id: str, most: int) -> Sequence[SearchText]:
        """See `SearchStore`."""
        rows = await self._session.execute(_MISSING, {"root": root_case_id, "most": most})
        return [SearchText(*row) for row in rows]

    async def incomplete(self, after: str, most: int) -> Sequence[str]:
        """See `SearchStore`."""
        return (await self._session.scalars(_INCOMPLETE, {"after": after, "most": most})).all()

    async def add(self, texts: Sequence[SearchText]) -> None:
        """See `SearchStore`."""
        rows = [
            {
                "decision_id": each.decision_id,
                "case_id": each.case_id,
                "subscriber_id": each.subscriber_id,
                "tags": self._tags.of(each.words),
            }
            for each in texts
        ]
        await insert_rows(self._session, SEARCH_TEXT, rows, "DO NOTHING")

    async def complete(self) -> bool:
        """See `SearchStore`."""
        return bool(await self._session.scalar(select(exists().where(SEARCH_TEXT.c.decision_id == _MARK))))

    async def mark_complete(self) -> None:
        """See `SearchStore`."""
        mark = {"decision_id": _MARK, "case_id": "", "subscriber_id": "", "tags": []}
        await insert_rows(self._session, SEARCH_TEXT, [mark], "DO NOTHING")
