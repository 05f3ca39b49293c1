"""Which rules may be changed without changing code? They are versioned data, checked once at start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.case.domain.priorities import BurstRules, Pace
from services.case.domain.words import CaseKind, KeyKind


@dataclass(frozen=True, slots=True)
class IncidentRules:
    """Which facts of one subscriber are one incident."""

    version: str
    windows: Mapping[KeyKind, timedelta]
    """Facts that share a key of a kind and were found no further apart are one incident; the strongest kind first.
    A kind that is missing joins nothing."""
    dump_keys: frozenset[KeyKind]
    """Kinds that join an entry of a named account dump: one dump is one incident, the next dump another."""
    near: frozenset[CaseKind]
    """Kinds of facts that join the incidents of all contents that theirs is near to; others that of the nearest."""
    reopen_within: timedelta
    """What is found so long after the closing opens the case again; later it opens a new one that names the old."""
    burst: BurstRules

    @property
    def widest(self) -> timedelta:
        """The longest window."""
        return max(self.windows.values())


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of `rules/case.yaml`."""

    incident: IncidentRules
    pace: Pace
    search_words: int
    """Words of a text that it is found by, the first ones."""
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
    review_due: timedelta
    """By when an item of the review band should be settled."""
    sample_due: timedelta
    """By when an item of a frozen sample should be."""
    escalate_every: timedelta
    """An item that is overdue is escalated again after this."""
    labelling_policy: str
    """Version of the labelling policy that every label cites."""
