"""What is counted for the public: how much was asked of whom, and what came of it?

Only codes and numbers, no request and nobody's case: the counts outlive the erasure of every subscriber in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.removal.domain.states import State

_WITH_REASON = frozenset({State.REJECTED, State.UNRESOLVED, State.WITHDRAWN})
_STEPS = frozenset({"REVIEW", "HOLD", "RELEASE", "JOIN", "ANSWER", "REMIND"})
OTHER = "OTHER"
"""A reason that the platform's template does not know: what a platform writes must not become a row of its own."""


@dataclass(frozen=True)
class Counted:
    """One thing that is counted once."""

    what: str
    """REQUESTED, REAPPEARED, SUBMITTED, RESUBMITTED, RECEIVED, GROUNDLESS, the name of another state, or step and
    outcome."""
    reason: str = ""
    """Why, UPPER_SNAKE; of what was rejected, given up or taken back."""


@dataclass(frozen=True)
class Moved:
    """A change of state, as the log has it."""

    before: str
    """Empty when the request was made."""
    after: str
    attempt: int
    episode: int
    reason: str
    first_receipt: bool
    """Whether the platform accepted the request with this very change, for the first time."""
    groundless: bool


def counted(moved: Moved) -> tuple[Counted, ...]:
    """What a change of state adds to the counts."""
    if not moved.before:
        return (Counted("REQUESTED"), *([Counted("REAPPEARED")] if moved.episode > 1 else ()))
    match moved.after:
        case State.DRAFT | State.CHECKED | State.SUPPLEMENTED:
            return ()
        case State.SUBMITTED:
            return (Counted("RESUBMITTED" if moved.attempt > 1 else "SUBMITTED"),)
        case State.RECEIVED:
            return (Counted("RECEIVED"),) if moved.first_receipt else ()
        case State.REJECTED:
            return (Counted("REJECTED", moved.reason), *([Counted("GROUNDLESS")] if moved.groundless else ()))
        case after:
            return (Counted(after, moved.reason if after in _WITH_REASON else ""),)


def counted_step(step: str, outcome: str) -> tuple[Counted, ...]:
    """What something done beside the states adds: reviews by two people, holds, joinings, words of the subscriber."""
    return (Counted(f"{step}_{outcome}" if step in ("REVIEW", "JOIN", "ANSWER") else step),) if step in _STEPS else ()
