"""What does each command of `jikimi approval`, and of two people at the gate, do?"""

from __future__ import annotations

import argparse
import base64
import binascii
import secrets
from pathlib import Path

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.gate import v1 as gate_api
from services.console.client import Connections, connections, staff
from services.console.home import Home
from services.console.output import PAGE, CannotDo, Row, everything, name_of, present, print_rows, read_file, time_of

PURPOSES = {
    "OPERATOR": "CASE_HANDLING",
    "RELEASE_MANAGER": "RELEASE",
    "PRIVACY_OFFICER": "RIGHTS",
    "REVIEWER": "REVIEW",
}
"""Role that decides → the purpose that it states."""
OVERRIDE = "GATE_OVERRIDE"


def _stub(services: Connections, options: argparse.Namespace) -> case_api.ApprovalServiceStub:
    caller = staff(options.role, PURPOSES[options.role], options.name)
    return services.stub("case", case_api.ApprovalServiceStub, caller)


async def propose(home: Home, options: argparse.Namespace) -> int:
    """Proposes what a file holds."""
    async with connections(home) as services:
        proposal = await propose_body(services, options, options.kind, read_file(Path(options.body)))
    return print_proposals(options, [proposal])


async def propose_body(
    services: Connections, options: argparse.Namespace, kind: str, body: bytes
) -> case_api.Proposal:
    """Proposes a body of some kind, as whoever the options name."""
    answer = await _stub(services, options).propose(
        case_api.ProposeRequest(request_id=secrets.token_hex(16), kind=kind, body=body, reason=options.reason)
    )
    return present(answer.proposal)


async def approve(home: Home, options: argparse.Namespace) -> int:
    """Approves; whoever is the second is given the grant."""
    async with connections(home) as services:
        request = case_api.ApproveRequest(proposal_id=options.proposal)
        answer = await _stub(services, options).approve(request)
    proposal = present(answer.proposal)
    grant = base64.b64encode(answer.grant).decode()
    facts = {"proposal_id": proposal.proposal_id, "state": proposal.state, "approvals": proposal.approvals}
    rows = [[proposal.proposal_id, proposal.state, proposal.approvals]]
    print_rows(options, facts | {"grant": grant}, ["id", "state", "approvals"], rows)
    if grant and not options.json:
        print(f"grant: {grant}")
    return 0


async def reject(home: Home, options: argparse.Namespace) -> int:
    """Rejects, or takes back."""
    async with connections(home) as services:
        request = case_api.RejectRequest(proposal_id=options.proposal, reason=options.reason)
        answer = await _stub(services, options).reject(request)
    return print_proposals(options, [present(answer.proposal)])


async def proposals(home: Home, options: argparse.Namespace) -> int:
    """Lists the proposals that the role decides about."""
    async with connections(home) as services:
        stub = _stub(services, options)

        async def page(token: str) -> tuple[list[case_api.Proposal], str]:
            answer = await stub.list_proposals(case_api.ListProposalsRequest(page_size=PAGE, page_token=token))
            return answer.proposals, answer.next_page_token

        found = await everything(page)
    return print_proposals(options, found)


def print_proposals(options: argparse.Namespace, proposals: list[case_api.Proposal]) -> int:
    """Prints proposals; exit status 0."""
    rows: list[Row] = [
        [p.proposal_id, p.kind, p.state, p.approvals, p.reason, time_of(p.expire_time)] for p in proposals
    ]
    headings = ["id", "kind", "state", "approvals", "why", "ends"]
    print_rows(options, [p.to_dict() for p in proposals], headings, rows)
    return 0


# --- the gate ---


async def gate_propose(home: Home, options: argparse.Namespace) -> int:
    """Proposes to let the release of an inconclusive decision go out."""
    async with connections(home) as services:
        wanted = await _wanted(services, options)
        return print_proposals(options, [await propose_body(services, options, OVERRIDE, bytes(wanted))])


async def gate_override(home: Home, options: argparse.Namespace) -> int:
    """Overrides an inconclusive decision by the grant of two people."""
    try:
        grant = base64.b64decode(options.grant, validate=True)
    except binascii.Error:
        raise CannotDo("The grant is not base64.") from None
    async with connections(home) as services:
        wanted = await _wanted(services, options)
        stub = services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE", options.name))
        answer = await stub.override_release(
            gate_api.OverrideReleaseRequest(override=wanted, grant=grant, request_id=secrets.token_hex(16))
        )
    decision = present(answer.decision)
    rows = [[decision.decision_id, name_of(decision.outcome), "yes" if decision.may_ship else "no"]]
    print_rows(options, decision.to_dict(), ["decision", "outcome", "may go out"], rows)
    return 0


async def _wanted(services: Connections, options: argparse.Namespace) -> gate_api.ReleaseOverride:
    """What is to be approved, and then done: the decision with its release and stage, and why in one word."""
    stub = services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE", options.name))
    answer = await stub.get_release_decision(gate_api.GetReleaseDecisionRequest(decision_id=options.decision))
    decision = present(answer.decision)
    return gate_api.ReleaseOverride(
        decision_id=decision.decision_id, release=decision.release, stage=decision.stage, reason=options.code
    )
