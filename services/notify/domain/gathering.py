"""When are notices told one by one, and when together?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True)
class GatheringRules:
    """Versioned data: `rules/delivery.yaml`."""

    at_once: int
    """Notices that a person is told one by one within `window`; further ones are gathered."""
    window: timedelta
    gather_for: timedelta
    """How long a flood is gathered before its digest is told."""


@dataclass(frozen=True)
class Gathering:
    """What a subscriber was told lately, and what is being gathered."""

    window_start: datetime
    told: int = 0
    """Notices told one by one since `window_start`."""
    digest_id: str = ""
    """Of the digest that is being gathered; empty for none."""
    gathered: int = 0
    due_time: datetime | None = None

    def add(
        self, now: datetime, digest_after: timedelta, rules: GatheringRules, new_id: str
    ) -> tuple[Gathering, bool]:
        """Takes one more notice; the second value says whether it is gathered. `digest_after` is the subscriber's wish,
        zero for none; `new_id` names a digest that begins now."""
        if self.digest_id:
            return replace(self, gathered=self.gathered + 1), True
        fresh = self if now < self.window_start + rules.window else Gathering(now)
        if not digest_after and fresh.told < rules.at_once:
            return replace(fresh, told=fresh.told + 1), False
        due = now + (digest_after or rules.gather_for)
        return replace(fresh, digest_id=new_id, gathered=1, due_time=due), True

    def close(self, now: datetime, rules: GatheringRules) -> Gathering:
        """Ends the digest. A flood that goes on is gathered again at once, for the window counts as full."""
        return Gathering(now, told=rules.at_once)
