"""How are proposals stored, and how does an approved one become a grant?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import PROPOSAL, among
from services.case.domain.approvals import ApprovalRules, Proposal, ProposalState
from services.chassis.grants import Grant, Signer, sign_grant

SERVICE_KEY = "service:approvals"
"""Owner of the key that seals what was proposed, and why: words of people may say anything."""


class SqlApprovals:
    """The `ApprovalStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def add(self, proposal: Proposal) -> None:
        """See `ApprovalStore`."""
        row = {
            "proposal_id": proposal.proposal_id,
            "kind": proposal.kind,
            "sealed_body": self._seal(proposal.proposal_id, "sealed_body", proposal.body),
            "sealed_reason": self._seal(proposal.proposal_id, "sealed_reason", proposal.reason.encode()),
            "proposer_ref": proposal.proposer_ref,
            "create_time": proposal.create_time,
            "expire_time": proposal.expire_time,
        }
        await self._session.execute(insert(PROPOSAL).values(row | self._changing(proposal)))

    async def get(self, proposal_id: str) -> Proposal | None:
        """See `ApprovalStore`."""
        return await self._one(proposal_id, lock=False)

    async def lock(self, proposal_id: str) -> Proposal | None:
        """See `ApprovalStore`."""
        return await self._one(proposal_id, lock=True)

    async def _one(self, proposal_id: str, *, lock: bool) -> Proposal | None:
        query = select(PROPOSAL).where(PROPOSAL.c.proposal_id == proposal_id)
        row = (await self._session.execute(query.with_for_update() if lock else query)).one_or_none()
        return self._proposal(row) if row else None

    async def update(self, proposal: Proposal) -> None:
        """See `ApprovalStore`."""
        statement = update(PROPOSAL).where(PROPOSAL.c.proposal_id == proposal.proposal_id)
        await self._session.execute(statement.values(self._changing(proposal)))

    async def page(
        self, kinds: Collection[str], size: int, before: tuple[datetime, str] | None
    ) -> Sequence[Proposal]:
        """See `ApprovalStore`."""
        order = (PROPOSAL.c.create_time, PROPOSAL.c.proposal_id)
        query = select(PROPOSAL).where(among(PROPOSAL.c.kind, kinds))
        if before is not None:
            query = query.where(tuple_(*order) < before)
        rows = await self._session.execute(query.order_by(*(column.desc() for column in order)).limit(size))
        return [self._proposal(row) for row in rows]

    def _seal(self, proposal_id: str, column: str, plaintext: bytes) -> bytes:
        return self._sealing.seal(SERVICE_KEY, plaintext, f"proposal/{proposal_id}/{column}")

    def _open(self, row: Any, column: str) -> bytes:
        place = f"proposal/{row.proposal_id}/{column}"
        return self._sealing.open(SERVICE_KEY, getattr(row, column), place) or b""

    def _changing(self, proposal: Proposal) -> dict[str, Any]:
        why = proposal.rejection
        return {
            "state": proposal.state.value,
            "approver_refs": list(proposal.approver_refs),
            "decide_time": proposal.decide_time,
            "version": proposal.version,
            "sealed_rejection": self._seal(proposal.proposal_id, "sealed_rejection", why.encode()) if why else None,
        }

    def _proposal(self, row: Any) -> Proposal:
        return Proposal(
            proposal_id=row.proposal_id,
            kind=row.kind,
            body=self._open(row, "sealed_body"),
            reason=self._open(row, "sealed_reason").decode(),
            proposer_ref=row.proposer_ref,
            create_time=row.create_time,
            expire_time=row.expire_time,
            state=ProposalState(row.state),
            approver_refs=tuple(row.approver_refs),
            decide_time=row.decide_time,
            version=row.version,
            rejection=self._open(row, "sealed_rejection").decode() if row.sealed_rejection else "",
        )


class SignedGrants:
    """The `Grants` of today: signed with a key that signs nothing else."""

    def __init__(self, signer: Signer, rules: ApprovalRules) -> None:
        self._signer = signer
        self._rules = rules

    def of(self, proposal: Proposal) -> bytes:
        """See `Grants`."""
        decided = proposal.decide_time
        assert decided is not None  # an approved proposal was decided
        grant = Grant(
            grant_id=proposal.proposal_id,
            kind=proposal.kind,
            body_sha256=proposal.body_sha256,
            proposer_ref=proposal.proposer_ref,
            approver_refs=proposal.approver_refs,
            issue_time=decided,
            expire_time=decided + self._rules.grant_life,
        )
        return sign_grant(grant, self._rules.kinds[proposal.kind].audience, self._signer)
