"""Which rules may be changed without changing code? They are versioned data, checked once at start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of `rules/case.yaml`."""

    incident_version: str
    window: timedelta
    """Facts that share a key and are no further apart are one incident."""
    evidence_version: str
    pack_after: timedelta
    repack_after: timedelta
    """How long packing waits after an opening, and after a further sighting."""
    max_items: int
    """Sightings in one pack."""
    keep_versions: int
    """Versions of a pack that are kept whole; of an older one its manifest and signature stay."""
    required: tuple[str, ...]
    """Fields of a capture without which an item is incomplete."""
    close_after: timedelta
    """A resolved case closes by itself after this."""
    give_up_after: timedelta
    """A case without any removal request is resolved as UNRESOLVED after this."""
    review_lease: timedelta
    review_labels: int
    """Blind labels that an item gets before it is done."""
