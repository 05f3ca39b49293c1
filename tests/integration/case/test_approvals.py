"""Do two people decide, and nobody alone?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from misuse.case.v1 import approval_service_pb2 as pb
from misuse.case.v1 import approval_service_pb2_grpc
from misuse.common.v1.access_pb2 import (
    PURPOSE_AUDIT,
    PURPOSE_CASE_HANDLING,
    PURPOSE_RELEASE,
    ROLE_AUDITOR,
    ROLE_OPERATOR,
    ROLE_RELEASE_MANAGER,
)
from services.chassis.errors import PermissionDenied
from services.chassis.grants import GrantVerifier
from services.chassis.ids import uuid7
from tests.integration.case.world import Metadata, World, refused

BODY = b"the decision that is overridden"


def stub(world: World) -> Any:
    return approval_service_pb2_grpc.ApprovalServiceStub(world.channel)


def manager(world: World, name: str) -> Metadata:
    return world.signed(ROLE_RELEASE_MANAGER, PURPOSE_RELEASE, name)


async def proposed(world: World, name: str = "ann", **changes: Any) -> pb.Proposal:
    values = {"request_id": uuid7(), "kind": "GATE_OVERRIDE", "body": BODY, "reason": "too few events"} | changes
    return (await stub(world).Propose(pb.ProposeRequest(**values), metadata=manager(world, name))).proposal


async def approve(world: World, proposal: pb.Proposal, name: str) -> pb.ApproveResponse:
    request = pb.ApproveRequest(proposal_id=proposal.proposal_id)
    return await stub(world).Approve(request, metadata=manager(world, name))


async def actions(world: World) -> list[str]:
    records = await world.records()
    return [record.approval_log.action for record in records if record.WhichOneof("body") == "approval_log"]


async def test_the_second_of_two_other_people_gets_a_grant_that_the_target_takes(world: World) -> None:
    proposal = await proposed(world)
    assert ("PROPOSED", 0, BODY) == (proposal.state, proposal.approvals, proposal.body)
    first = await approve(world, proposal, "ben")
    assert (b"", 1) == (first.grant, first.proposal.approvals)
    second = await approve(world, proposal, "eve")
    assert ("APPROVED", 2) == (second.proposal.state, second.proposal.approvals)
    verifier = GrantVerifier(world.home / "public", "gate")
    grant = verifier.verify(second.grant, "GATE_OVERRIDE", BODY, world.clock.now())
    assert (proposal.proposal_id, proposal.proposer_ref) == (grant.grant_id, grant.proposer_ref)
    assert ["PROPOSED", "APPROVED", "APPROVED", "GRANTED"] == await actions(world)
    records = [record for record in await world.records() if record.approval_log.action]
    assert not [record for record in records if "too few" in str(record) or BODY in record.SerializeToString()]
    world.clock.advance(timedelta(hours=1))
    with pytest.raises(PermissionDenied, match="GRANT_EXPIRED"):
        verifier.verify(second.grant, "GATE_OVERRIDE", BODY, world.clock.now())


async def test_nobody_approves_alone(world: World) -> None:
    proposal = await proposed(world)
    with refused("SAME_PERSON"):
        await approve(world, proposal, "ann")
    for _ in range(3):
        answer = await approve(world, proposal, "ben")
        assert (b"", "PROPOSED", 1) == (answer.grant, answer.proposal.state, answer.proposal.approvals)
    assert ["PROPOSED", "APPROVED"] == await actions(world)


async def test_who_did_not_hear_the_answer_gets_the_same_grant_again(world: World) -> None:
    proposal = await proposed(world)
    await approve(world, proposal, "ben")
    grant = (await approve(world, proposal, "eve")).grant
    world.clock.advance(timedelta(minutes=5))
    assert [grant, grant] == [(await approve(world, proposal, name)).grant for name in ("eve", "ben")]
    with refused("PROPOSAL_CLOSED"):
        await approve(world, proposal, "zoe")


async def test_what_is_rejected_or_too_old_is_closed(world: World) -> None:
    rejected, late = await proposed(world), await proposed(world)
    request = pb.RejectRequest(proposal_id=rejected.proposal_id, reason="not yet")
    for _ in range(2):
        answer = await stub(world).Reject(request, metadata=manager(world, "ben"))
        assert ("REJECTED", "not yet") == (answer.proposal.state, answer.proposal.rejection)
    with refused("PROPOSAL_CLOSED"):
        await approve(world, rejected, "eve")
    await approve(world, late, "ben")
    world.clock.advance(world.service.approving.rules.proposal_life)
    with refused("PROPOSAL_CLOSED"):
        await approve(world, late, "eve")
    await world.work()
    listed = await stub(world).ListProposals(pb.ListProposalsRequest(), metadata=manager(world, "ben"))
    assert ["EXPIRED", "REJECTED"] == [each.state for each in listed.proposals]
    assert ["REJECTED", "APPROVED", "EXPIRED"] == (await actions(world))[2:]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "LAUNCH"}, "KIND_UNKNOWN"),
        ({"body": b""}, "BODY_SIZE_OUT_OF_RANGE"),
        ({"body": b"x" * (64 * 1024 + 1)}, "BODY_SIZE_OUT_OF_RANGE"),
        ({"reason": " "}, "REASON_MALFORMED"),
        ({"reason": "x" * 257}, "REASON_MALFORMED"),
        ({"kind": "POLICY_TEMPLATE"}, "ROLE_NOT_FOR_KIND"),
        ({"request_id": ""}, "REQUEST_ID_MISSING"),
    ],
)
async def test_a_bad_proposal_is_refused(world: World, changes: dict[str, Any], reason: str) -> None:
    with refused(reason):
        await proposed(world, **changes)
    assert [] == await actions(world)


async def test_proposing_twice_with_one_request_id_is_one_proposal(world: World) -> None:
    one, again = await proposed(world, request_id="r"), await proposed(world, request_id="r")
    assert one.proposal_id == again.proposal_id
    assert ["PROPOSED"] == await actions(world)


async def test_bodies_and_reasons_are_for_those_who_decide(world: World) -> None:
    await proposed(world)
    operator = world.signed(ROLE_OPERATOR, PURPOSE_CASE_HANDLING, "op")
    auditor = world.signed(ROLE_AUDITOR, PURPOSE_AUDIT, "aud")
    request = pb.ListProposalsRequest()
    assert [] == list((await stub(world).ListProposals(request, metadata=operator)).proposals)
    [seen] = (await stub(world).ListProposals(request, metadata=auditor)).proposals
    assert (b"", "too few events", 32) == (seen.body, seen.reason, len(seen.body_sha256))
    stored = await world.sql("SELECT p::text FROM proposal p")
    assert b"too few events".hex() not in str(stored)
    assert BODY.hex() not in str(stored)
