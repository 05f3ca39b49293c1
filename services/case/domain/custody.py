"""Who touched the evidence, when, why, and what was its hash before and after? (ISO/IEC 27037, 6.1 and 7.1)

    CAPTURED   the collector fetched the content                    ""              → hash of the parts
    REDUCED    the detector kept masked and redacted facts of it    hash of parts   → hash of the capture
    PULLED     `case` took the capture over                         hash of capture → hash of capture
    PACKED     it became files of a pack                            hash of capture → Merkle root of its files
    SUPPLEMENTED, READ, EXPORTED, VERIFIED concern a whole pack     its manifest before → after

What one step leaves is what the next one found: checking a pack checks that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.case.domain.archive import Json

STEPS = ("CAPTURED", "REDUCED", "PULLED", "PACKED")
"""What happens to one sighting's evidence, in this order; a step that nothing is known of is left out."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One entry of the chain of custody."""

    action: str
    time: datetime
    who: str
    """Service, collector, or role and opaque reference of a person."""
    why: str
    before: str = ""
    """SHA-256, hex; empty where nothing was there."""
    after: str = ""
    sighting_id: str = ""
    version: int = 0
    """Version of the pack that it concerns; 0 for a sighting."""

    def as_json(self) -> Json:
        """As a manifest has it; fields that say nothing are left out."""
        values: dict[str, Json] = {
            "action": self.action,
            "time": iso(self.time),
            "who": self.who,
            "why": self.why,
            "sha256_before": self.before,
            "sha256_after": self.after,
            "sighting_id": self.sighting_id,
            "version": self.version,
        }
        return {name: value for name, value in values.items() if value not in ("", 0)}


def broken_step(entries: Sequence[dict[str, Json]]) -> dict[str, Json] | None:
    """The first entry of a sighting that found something else than the step before it had left."""
    left: dict[str, Json] = {}
    for entry in entries:
        sighting_id = str(entry.get("sighting_id", ""))
        if not sighting_id or entry.get("action") not in STEPS:
            continue
        if sighting_id in left and entry.get("sha256_before", "") != left[sighting_id]:
            return entry
        left[sighting_id] = entry.get("sha256_after", "")
    return None


def iso(moment: datetime) -> str:
    """A time in an archive: UTC, milliseconds, Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
