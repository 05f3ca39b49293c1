"""How do tests ask for what is somebody's right?"""

from __future__ import annotations

import json
from typing import Any

from misuse.case.v1 import privacy_service_pb2 as pb
from misuse.case.v1 import privacy_service_pb2_grpc
from misuse.common.v1.access_pb2 import (
    PURPOSE_AUDIT,
    PURPOSE_RIGHTS,
    ROLE_APP_BACKEND,
    ROLE_AUDITOR,
    ROLE_PRIVACY_OFFICER,
    ROLE_SUBSCRIBER,
)
from services.chassis.ids import uuid7
from tests.integration.case.world import Metadata, World


def officer(world: World) -> Metadata:
    return world.signed(ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS, "officer-1")


def auditor(world: World) -> Metadata:
    return world.signed(ROLE_AUDITOR, PURPOSE_AUDIT, "auditor-1")


def backend(world: World) -> Metadata:
    return world.signed(ROLE_APP_BACKEND, PURPOSE_RIGHTS, "app")


def herself(world: World, person: str) -> Metadata:
    return world.signed(ROLE_SUBSCRIBER, PURPOSE_RIGHTS, person)


def privacy(world: World) -> privacy_service_pb2_grpc.PrivacyServiceAsyncStub:
    return privacy_service_pb2_grpc.PrivacyServiceStub(world.channel)  # type: ignore[return-value] # grpc.aio's channel


async def ask(world: World, person: str, kind: str, *, by: Metadata | None = None, **values: Any) -> Any:
    """A request, by the person herself unless somebody else is named."""
    message = pb.CreateRightsRequestRequest(
        **{"subscriber_id": person, "request_id": uuid7(), "type": kind} | values  # type: ignore[arg-type] # names
    )
    answer = await privacy(world).CreateRightsRequest(message, metadata=by or herself(world, person))
    return answer.rights_request


async def show(world: World, rights_request_id: str, by: Metadata | None = None) -> Any:
    request = pb.GetRightsRequestRequest(rights_request_id=rights_request_id)
    return (await privacy(world).GetRightsRequest(request, metadata=by or officer(world))).rights_request


async def listed(world: World, state: str = "", by: Metadata | None = None) -> list[Any]:
    request = pb.ListRightsRequestsRequest(state=state)
    answer = await privacy(world).ListRightsRequests(request, metadata=by or officer(world))
    return list(answer.rights_requests)


async def fulfil(world: World, rights_request_id: str, **values: Any) -> Any:
    request = pb.FulfillRightsRequestRequest(rights_request_id=rights_request_id, **values)
    return (await privacy(world).FulfillRightsRequest(request, metadata=officer(world))).rights_request


async def reject(world: World, rights_request_id: str, reason: str, **values: Any) -> Any:
    request = pb.RejectRightsRequestRequest(rights_request_id=rights_request_id, reason=reason, **values)
    return (await privacy(world).RejectRightsRequest(request, metadata=officer(world))).rights_request


async def extend(world: World, rights_request_id: str, reason: str, extensions: int = 0) -> Any:
    request = pb.ExtendRightsRequestRequest(
        rights_request_id=rights_request_id, reason=reason, extensions=extensions
    )
    return (await privacy(world).ExtendRightsRequest(request, metadata=officer(world))).rights_request


async def document(world: World, rights_request_id: str, by: Metadata, reason: str = "") -> dict[str, Any]:
    request = pb.GetRightsAnswerRequest(rights_request_id=rights_request_id, reason=reason)
    parts = [part.chunk async for part in privacy(world).GetRightsAnswer(request, metadata=by)]
    found: dict[str, Any] = json.loads(b"".join(parts))
    return found


async def purges(world: World, state: str = "", **values: Any) -> list[Any]:
    request = pb.ListPurgeItemsRequest(state=state, **values)
    return list((await privacy(world).ListPurgeItems(request, metadata=auditor(world))).items)


async def moves(world: World) -> list[tuple[str, str, str]]:
    """(type, state after, reason) of every record of a request."""
    found = [each.rights_request_log for each in await world.records() if each.HasField("rights_request_log")]
    return [(each.type, each.to_state, each.reason) for each in found]
