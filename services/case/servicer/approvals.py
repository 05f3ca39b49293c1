"""How does ApprovalService reach its use cases?"""

from __future__ import annotations

from typing import Any

from misuse.case.v1 import approval_service_pb2 as pb
from misuse.case.v1 import approval_service_pb2_grpc
from misuse.common.v1.access_pb2 import ROLE_AUDITOR
from services.case.domain.approvals import Proposal
from services.case.handlers.approving import Approving
from services.case.records import stamp
from services.case.servicer.calls import Needs, once, page_size, position_of, token_of
from services.chassis.errors import NotFound
from services.chassis.ids import parse_uuid


class ApprovalServicer(approval_service_pb2_grpc.ApprovalServiceServicer):
    """See the contract."""

    def __init__(self, needs: Needs, approving: Approving) -> None:
        self._needs = needs
        self._approving = approving

    async def Propose(self, request: pb.ProposeRequest, context: Any) -> Any:
        """See the contract."""
        async with self._needs.units() as unit:

            async def work() -> str:
                return await self._approving.propose(
                    unit, request.kind, request.body, request.reason, self._needs.who()
                )

            proposal = await unit.approvals.get(await once(unit, "Propose", request, work))
        if proposal is None:
            raise NotFound("PROPOSAL_UNKNOWN", "There is no such proposal.")
        return pb.ProposeResponse(proposal=self._shown(proposal))

    async def Approve(self, request: pb.ApproveRequest, context: Any) -> Any:
        """See the contract."""
        proposal_id = parse_uuid(request.proposal_id, "proposal_id")
        async with self._needs.units() as unit:
            proposal, grant = await self._approving.approve(unit, proposal_id, self._needs.who())
        return pb.ApproveResponse(proposal=self._shown(proposal), grant=grant)

    async def Reject(self, request: pb.RejectRequest, context: Any) -> Any:
        """See the contract."""
        proposal_id = parse_uuid(request.proposal_id, "proposal_id")
        async with self._needs.units() as unit:
            proposal = await self._approving.reject(unit, proposal_id, request.reason, self._needs.who())
        return pb.RejectResponse(proposal=self._shown(proposal))

    async def ListProposals(self, request: pb.ListProposalsRequest, context: Any) -> Any:
        """See the contract."""
        size, before = page_size(request.page_size), position_of(request.page_token)
        async with self._needs.units() as unit:
            found = await self._approving.page(unit, size, before, self._needs.who())
        token = token_of(found[-1].create_time, found[-1].proposal_id) if len(found) == size else ""
        return pb.ListProposalsResponse(proposals=[self._shown(each) for each in found], next_page_token=token)

    def _shown(self, proposal: Proposal) -> pb.Proposal:
        who = self._needs.who()
        decides = self._approving.may_read_body(proposal, who)
        told = decides or who.role == ROLE_AUDITOR
        return pb.Proposal(
            proposal_id=proposal.proposal_id,
            kind=proposal.kind,
            body_sha256=proposal.body_sha256,
            reason=proposal.reason if told else "",
            state=proposal.state.value,
            expire_time=stamp(proposal.expire_time),
            body=proposal.body if decides else b"",
            approvals=len(proposal.approver_refs),
            create_time=stamp(proposal.create_time),
            proposer_ref=proposal.proposer_ref,
            rejection=proposal.rejection if told else "",
        )
