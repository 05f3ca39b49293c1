"""When have people said enough about an item, and what does it come to?"""

from __future__ import annotations

from collections.abc import Collection

from services.case.domain.words import Label

DECIDING = frozenset({Label.MATCH, Label.NO_MATCH})
"""Words that settle an item; UNSURE never does."""


def agreed(labels: Collection[Label]) -> Label | None:
    """The one deciding word that all labels are; None where they differ, or say UNSURE, or there is none."""
    words = set(labels)
    return next(iter(words)) if len(words) == 1 and words <= DECIDING else None
