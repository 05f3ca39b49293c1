"""How is somebody erased everywhere, and when is it done?

Every service is asked in rounds. The first destroys keys and deletes rows; what was being written at that very moment
may come to lie behind it. The second is asked after longer than any call or job lasts, and deletes that. Who has
answered the last round holds nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

OWN = "case"
"""The service that asks is one of those that answer."""


@dataclass(frozen=True, slots=True)
class ErasureRules:
    """The rules of `rules/erasure.yaml`."""

    version: str
    services: tuple[str, ...]
    """Who answers."""
    rounds: int
    settle: timedelta
    """Between two rounds: longer than what was under way in the first can last."""
    ask_again: timedelta
    """A service that has not answered is asked again after this."""
    complete_within: timedelta
    """From the request to the last answer (PIPA 21: without delay)."""


@dataclass(slots=True)
class Erasure:
    """One erasure. It names its subscriber only until it is complete."""

    erasure_id: str
    subscriber_id: str | None
    request_time: datetime
    due_time: datetime
    ask_time: datetime
    """When the round that runs was, or is to be, asked."""
    waiting_for: tuple[str, ...]
    round: int = 1
    complete_time: datetime | None = None

    def answered(self, service: str, round_number: int, rules: ErasureRules, now: datetime) -> bool:
        """Notes an answer; one of an earlier round, or a second one, changes nothing. True when the erasure is complete
        by it."""
        if self.complete_time is not None or round_number != self.round or service not in self.waiting_for:
            return False
        self.waiting_for = tuple(name for name in self.waiting_for if name != service)
        if self.waiting_for:
            return False
        if self.round < rules.rounds:
            self.round += 1
            self.waiting_for = rules.services
            self.ask_time = now + rules.settle
            return False
        self.complete_time = now
        self.subscriber_id = None
        return True

    def missing(self, now: datetime) -> Collection[str]:
        """Whose answer to the round that runs is missing; nobody's between two rounds."""
        return () if now < self.ask_time else self.waiting_for

    def overdue(self, now: datetime) -> bool:
        """Whether it was complete too late, or is not and should be."""
        return (self.complete_time or now) > self.due_time


def begin(erasure_id: str, subscriber_id: str, rules: ErasureRules, now: datetime) -> Erasure:
    """A new erasure, its first round to be asked now."""
    return Erasure(erasure_id, subscriber_id, now, now + rules.complete_within, now, rules.services)
