"""When may a release go out although nobody can say yet whether it is good enough?

Only where the decision is INCONCLUSIVE: too little data is something that two people may answer for. FAILED is an
answer, and ERROR is a fault to mend; neither can be overridden.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.chassis.errors import FailedPrecondition, InvalidInput
from services.gate.domain.kpis import Outcome


@dataclass(frozen=True)
class Override:
    """Two people let a release go out."""

    decision_id: str
    release: str
    stage: str
    reason: str
    """UPPER_SNAKE."""
    proposal_id: str
    proposer_ref: str
    approver_refs: tuple[str, ...]
    create_time: datetime


def check_override(wanted: tuple[str, str], release: str, stage: str, outcome: Outcome, *, latest: bool) -> None:
    """Whether a decision about (release, stage) may be overridden. Raises InvalidInput DECISION_DIFFERS,
    FailedPrecondition NOT_INCONCLUSIVE, NOT_THE_LATEST."""
    if wanted != (release, stage):
        violation = ("override", "DECISION_DIFFERS")
        raise InvalidInput(violation[1], "The decision is about another release or stage.", violations=[violation])
    if outcome is not Outcome.INCONCLUSIVE:
        raise _refused("NOT_INCONCLUSIVE", "Only an inconclusive decision can be overridden.")
    if not latest:
        raise _refused("NOT_THE_LATEST", "A later decision about the release stands in its place.")


def may_ship(outcome: Outcome, override: Override | None) -> bool:
    """Whether the release may go out."""
    return outcome is Outcome.PASSED or (outcome is Outcome.INCONCLUSIVE and override is not None)


def printed(override: Override) -> dict[str, object]:
    """How a report shows it."""
    return {
        "decision_id": override.decision_id,
        "stage": override.stage,
        "reason": override.reason,
        "proposal_id": override.proposal_id,
        "approver_refs": list(override.approver_refs),
        "create_time": override.create_time.isoformat(timespec="seconds"),
    }


def _refused(reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(reason, message, violations=[("decision", reason)])
