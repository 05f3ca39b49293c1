"""Which public help is open to somebody whose data surfaced where no platform can be asked, and did it help?

The paths are versioned data (`rules/guidance.yaml`). They are attached to a case when its evidence is packed; what the
subscriber did with each is kept and shown in `EvidencePackReport`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class Outcome(IntEnum):
    """What the subscriber did with a path. The numbers are those of the contract (a test keeps them equal)."""

    UNSPECIFIED = 0
    """Nothing was said yet."""
    CONTACTED = 1
    HELPED = 2
    NOT_HELPED = 3
    DECLINED = 4


@dataclass(frozen=True, slots=True)
class Path:
    """One way to public help, Korean and English by language."""

    path_id: str
    name: Mapping[str, str]
    offers: Mapping[str, str]
    url: str
    phone: str
    source_types: frozenset[str]
    """Kinds of source that it is for, as the contract names them without their prefix."""
    kinds: frozenset[str]
    """Kinds of match that it is for: FACE, PII."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """The rules of `rules/guidance.yaml`."""

    version: str
    paths: Sequence[Path]

    def for_finds(self, finds: Collection[tuple[str, str]]) -> list[str]:
        """Ids of the paths for what was found, as (source type, kind of match), in the order of the file."""
        return [
            path.path_id
            for path in self.paths
            if any(source in path.source_types and kind in path.kinds for source, kind in finds)
        ]

    def path(self, path_id: str) -> Path | None:
        """A path, unless a later version has dropped it."""
        return next((path for path in self.paths if path.path_id == path_id), None)


@dataclass(frozen=True, slots=True)
class Attached:
    """A path that was attached to a case, and what became of it."""

    path_id: str
    version: str
    """Version of the rules that attached it."""
    attach_time: datetime
    outcome: Outcome = Outcome.UNSPECIFIED
    answer_time: datetime | None = None
    pack_version: int | None = None
    """First pack that shows it as it is now; None before."""
