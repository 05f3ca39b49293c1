"""Who may decide what together, and when have they?"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.chassis.errors import FailedPrecondition, InvalidInput, PermissionDenied

BODY_BYTES = 64 * 1024
REASON_CHARS = 256
APPROVALS = 2


class ProposalState(StrEnum):
    """Where a proposal stands."""

    PROPOSED = "PROPOSED"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True)
class KindRule:
    """Who decides one kind of thing, and who executes it."""

    audience: str
    propose: frozenset[str]
    approve: frozenset[str]
    """Roles by name, without their prefix."""


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """The rules of `rules/approvals.yaml`."""

    version: str
    proposal_life: timedelta
    grant_life: timedelta
    kinds: Mapping[str, KindRule]

    def may_see(self, role: str) -> frozenset[str]:
        """Kinds whose bodies a role may read: those that it decides about."""
        return frozenset(kind for kind, rule in self.kinds.items() if role in rule.propose | rule.approve)


@dataclass(slots=True)
class Proposal:
    """Something that two people, neither of whom proposed it, may allow."""

    proposal_id: str
    kind: str
    body: bytes = field(repr=False)
    reason: str = field(repr=False)
    proposer_ref: str
    create_time: datetime
    expire_time: datetime
    state: ProposalState = ProposalState.PROPOSED
    approver_refs: tuple[str, ...] = ()
    decide_time: datetime | None = None
    version: int = 1
    rejection: str = field(default="", repr=False)
    """Why it was rejected."""

    @property
    def body_sha256(self) -> bytes:
        """SHA-256 of the body as it was proposed."""
        return hashlib.sha256(self.body).digest()

    def approve(self, ref: str, role: str, rule: KindRule, now: datetime) -> bool:
        """Adds an approval; True when it was the last that was missing. Who has approved already changes nothing.
        Raises PermissionDenied ROLE_NOT_FOR_KIND, SAME_PERSON, FailedPrecondition PROPOSAL_CLOSED."""
        _check_role(role, rule.approve)
        if ref == self.proposer_ref:
            raise PermissionDenied("SAME_PERSON", "Who proposes something does not approve it.")
        if ref in self.approver_refs:
            return False
        self._check_open(now)
        self.approver_refs = (*self.approver_refs, ref)
        self.version += 1
        if len(self.approver_refs) < APPROVALS:
            return False
        self.state, self.decide_time = ProposalState.APPROVED, now
        return True

    def reject(self, why: str, role: str, rule: KindRule, now: datetime) -> bool:
        """Ends it; True unless it was rejected before. The proposer may take it back. Raises InvalidInput
        REASON_MALFORMED, PermissionDenied ROLE_NOT_FOR_KIND, FailedPrecondition PROPOSAL_CLOSED."""
        if not _is_reason(why):
            violation = ("reason", "REASON_MALFORMED")
            raise InvalidInput(violation[1], "A rejection says why.", violations=[violation])
        _check_role(role, rule.approve | rule.propose)
        if self.state is ProposalState.REJECTED:
            return False
        self._check_open(now)
        self.state, self.decide_time, self.rejection = ProposalState.REJECTED, now, why
        self.version += 1
        return True

    def expire(self, now: datetime) -> bool:
        """Ends what nobody has decided in time; True when it does."""
        if self.state is not ProposalState.PROPOSED or now < self.expire_time:
            return False
        self.state, self.decide_time = ProposalState.EXPIRED, now
        self.version += 1
        return True

    def _check_open(self, now: datetime) -> None:
        if self.state is not ProposalState.PROPOSED or now >= self.expire_time:
            raise FailedPrecondition(
                "PROPOSAL_CLOSED",
                "The proposal is decided, or its time is over.",
                violations=[("proposal", "PROPOSAL_CLOSED")],
            )


def propose(
    proposal_id: str, kind: str, body: bytes, reason: str, ref: str, role: str, rules: ApprovalRules, now: datetime
) -> Proposal:
    """A new proposal. Raises InvalidInput naming every wrong field, PermissionDenied ROLE_NOT_FOR_KIND."""
    wrong = []
    if kind not in rules.kinds:
        wrong.append(("kind", "KIND_UNKNOWN"))
    if not 1 <= len(body) <= BODY_BYTES:
        wrong.append(("body", "BODY_SIZE_OUT_OF_RANGE"))
    if not _is_reason(reason):
        wrong.append(("reason", "REASON_MALFORMED"))
    if wrong:
        raise InvalidInput(wrong[0][1], "The proposal is not valid.", violations=wrong)
    _check_role(role, rules.kinds[kind].propose)
    return Proposal(proposal_id, kind, body, reason, ref, now, now + rules.proposal_life)


def _check_role(role: str, allowed: frozenset[str]) -> None:
    if role not in allowed:
        raise PermissionDenied("ROLE_NOT_FOR_KIND", "This role does not decide about this kind of thing.")


def _is_reason(text: str) -> bool:
    return bool(text.strip()) and len(text) <= REASON_CHARS and text.isprintable()
