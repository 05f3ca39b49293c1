"""How urgent is a case, by when should it have left its state, and when is it told too often?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.case.domain.words import CaseState, Priority, PriorityReason


@dataclass(frozen=True, slots=True)
class Pace:
    """The rules of urgency."""

    version: str
    weights: Mapping[PriorityReason, Priority]
    """What each reason makes of a case."""
    several: int
    """So many reasons of one weight make a case as urgent as the next weight."""
    stay: Mapping[CaseState, Mapping[Priority, timedelta]]
    """How long a case may stay in a state; a state that is missing has no deadline."""

    def priority(self, reasons: Collection[PriorityReason]) -> Priority:
        """NORMAL without a reason, else the heaviest weight, or the next where `several` reasons have it."""
        weights = Counter(self.weights[reason] for reason in set(reasons))
        if not weights:
            return Priority.NORMAL
        heaviest = max(weights)
        raised = Priority.NORMAL < heaviest < Priority.URGENT and weights[heaviest] >= self.several
        return Priority(heaviest + raised)

    def deadline(self, state: CaseState, since: datetime, priority: Priority) -> datetime | None:
        """When a case that is in the state since that time should have left it; None where no time is set."""
        stay = self.stay.get(state)
        return since + stay[priority] if stay else None


@dataclass(frozen=True, slots=True)
class BurstRules:
    """When sightings come so fast that they are counted and told together."""

    within: timedelta
    """Length of a burst, from its first sighting on."""
    told_singly: int
    """Sightings of a burst that are told one by one; the others make one digest."""
    spreading: int
    """A case with so many sightings in a burst spreads."""
    repack_after: timedelta
    """How long packing waits for further sightings beyond those that are told one by one."""


@dataclass(slots=True)
class Burst:
    """Sightings of a case that came together; the bookkeeping of one case."""

    start_time: datetime | None = None
    """Commit of the first one; None before it."""
    count: int = 0

    def add(self, now: datetime, rules: BurstRules) -> None:
        """Counts a sighting. A burst that is over begins anew, unless its digest has still to be told: then it
        goes on, so that no sighting is forgotten."""
        over = self.start_time is None or now - self.start_time >= rules.within
        if over and not self.untold(rules):
            self.start_time, self.count = now, 0
        self.count += 1

    def untold(self, rules: BurstRules) -> int:
        """Sightings that only a digest will tell."""
        return max(0, self.count - rules.told_singly)

    def end(self) -> None:
        """The digest was told."""
        self.start_time, self.count = None, 0
