"""How does the gate learn how current the gallery is that each replica serves?"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.detector.handlers import records
from services.detector.ports import Begin, ServedGallery


@dataclass
class Reporting:
    """Writes a record of the gallery served at regular intervals of business time, from its first loading on."""

    begin: Begin
    clock: Clock
    gallery: ServedGallery
    replica: str
    """Opaque name of this process among its like."""
    every: timedelta
    _last: datetime | None = field(default=None, init=False)

    async def report(self) -> None:
        """One round; writes when it is time. An age that could not be written goes into the next record."""
        now, facts = self.clock.now(), self.gallery.facts()
        if facts is None or (self._last is not None and abs(now - self._last) < self.every):
            return
        async with self.begin() as work:
            work.record(self.replica, records.index_version(self.replica, facts, now))
        self.gallery.age_reported()
        self._last = now
