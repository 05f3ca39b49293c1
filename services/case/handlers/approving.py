"""How do two people decide something that one must not?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.common.v1.access_pb2 import ROLE_AUDITOR, Role
from services.case import records
from services.case.domain.approvals import ApprovalRules, KindRule, Proposal, ProposalState, propose
from services.case.ports import EXPIRE_PROPOSAL, SYSTEM, Grants, Unit, Units, Who
from services.chassis.errors import NotFound
from services.chassis.ids import uuid7


@dataclass(frozen=True)
class Approving:
    """Takes proposals to their decision; each step is a record."""

    units: Units
    grants: Grants
    rules: ApprovalRules
    now: Callable[[], datetime]

    async def propose(self, unit: Unit, kind: str, body: bytes, reason: str, who: Who) -> str:
        """Makes a proposal. Returns its id. Raises what `domain.approvals.propose` raises."""
        proposal = propose(uuid7(), kind, body, reason, who.ref, _role(who), self.rules, self.now())
        await unit.approvals.add(proposal)
        await unit.remind(EXPIRE_PROPOSAL, {proposal.proposal_id: (proposal.expire_time, "")})
        self._record(unit, proposal, "PROPOSED", who)
        return proposal.proposal_id

    async def approve(self, unit: Unit, proposal_id: str, who: Who) -> tuple[Proposal, bytes]:
        """Adds the caller's approval. Returns the proposal and, once two people have approved, its grant, which each of
        them gets again by repeating the call. Raises NotFound, and what `Proposal.approve` raises."""
        proposal = await self._locked(unit, proposal_id)
        before = proposal.approver_refs
        granted = proposal.approve(who.ref, _role(who), self._rule(proposal), self.now())
        if proposal.approver_refs != before:
            await unit.approvals.update(proposal)
            self._record(unit, proposal, "APPROVED", who)
        if granted:
            await unit.forget_reminders(EXPIRE_PROPOSAL, [proposal_id])
            self._record(unit, proposal, "GRANTED", who)
        approved = proposal.state is ProposalState.APPROVED
        return proposal, self.grants.of(proposal) if approved else b""

    async def reject(self, unit: Unit, proposal_id: str, why: str, who: Who) -> Proposal:
        """Ends a proposal; repeating it changes nothing. Raises NotFound, and what `Proposal.reject` raises."""
        proposal = await self._locked(unit, proposal_id)
        if proposal.reject(why, _role(who), self._rule(proposal), self.now()):
            await unit.approvals.update(proposal)
            await unit.forget_reminders(EXPIRE_PROPOSAL, [proposal_id])
            self._record(unit, proposal, "REJECTED", who)
        return proposal

    async def expire_when_due(self, proposal_id: str) -> None:
        """What a due row does: ends a proposal that nobody has decided."""
        async with self.units() as unit:
            proposal = await unit.approvals.lock(proposal_id)
            if proposal is not None and proposal.expire(self.now()):
                await unit.approvals.update(proposal)
                self._record(unit, proposal, "EXPIRED", SYSTEM)

    async def page(
        self, unit: Unit, size: int, before: tuple[datetime, str] | None, who: Who
    ) -> Sequence[Proposal]:
        """Proposals that the caller may know of, newest first: those of the kinds that the role decides about; all for
        an auditor."""
        kinds = self.rules.kinds.keys() if who.role == ROLE_AUDITOR else self.rules.may_see(_role(who))
        return await unit.approvals.page(kinds, size, before)

    def may_read_body(self, proposal: Proposal, who: Who) -> bool:
        """Whether the caller's role decides about this kind, and so must see what it decides."""
        return proposal.kind in self.rules.may_see(_role(who))

    async def _locked(self, unit: Unit, proposal_id: str) -> Proposal:
        proposal = await unit.approvals.lock(proposal_id)
        if proposal is None:
            raise NotFound("PROPOSAL_UNKNOWN", "There is no such proposal.")
        return proposal

    def _rule(self, proposal: Proposal) -> KindRule:
        rule = self.rules.kinds.get(proposal.kind)
        if rule is None:
            raise NotFound("KIND_UNKNOWN", "The rules no longer know this kind of decision.")
        return rule

    def _record(self, unit: Unit, proposal: Proposal, action: str, who: Who) -> None:
        record = records.approval(proposal, action, self.rules.version, self.now(), who)
        unit.record(proposal.proposal_id, record)


def _role(who: Who) -> str:
    return Role.Name(who.role).removeprefix("ROLE_")
