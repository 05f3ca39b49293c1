"""Does the service, run as a process, turn an event on the bus into a filed request?"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from misuse.case.v1 import (
    case_service_pb2,
    case_service_pb2_grpc,
    events_pb2,
    subscriber_service_pb2,
    subscriber_service_pb2_grpc,
)
from misuse.common.v1.access_pb2 import PURPOSE_PROTECTION, PURPOSE_REMOVAL, ROLE_OPERATOR, ROLE_SUBSCRIBER
from misuse.removal.v1 import removal_service_pb2 as pb
from misuse.removal.v1 import removal_service_pb2_grpc
from services.chassis.broker import Broker, Envelope
from services.chassis.config import Config
from services.chassis.ids import uuid7
from services.chassis.keys import create_master_key
from services.chassis.outbox import event_name, partition_of
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from tests.integration.removal.world import ADDRESS, pack
from tests.simulators.platform import PlatformSimulator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


class CaseService(case_service_pb2_grpc.CaseServiceServicer):
    """The one method of case that removal needs, in small chunks."""

    async def GetEvidencePack(
        self, request: case_service_pb2.GetEvidencePackRequest, context: Any
    ) -> AsyncIterator[case_service_pb2.GetEvidencePackResponse]:
        archive = pack(SIGHTING, ADDRESS)
        answer = case_service_pb2.GetEvidencePackResponse()
        answer.summary.version = 1
        for start in range(0, len(archive), 64):
            answer.chunk = archive[start : start + 64]
            yield answer
            answer = case_service_pb2.GetEvidencePackResponse()


class SubscriberService(subscriber_service_pb2_grpc.SubscriberServiceServicer):
    """The profile."""

    async def GetSubscriber(
        self, request: subscriber_service_pb2.GetSubscriberRequest, context: Any
    ) -> subscriber_service_pb2.GetSubscriberResponse:
        subscriber = subscriber_service_pb2.Subscriber(subscriber_id=request.subscriber_id, display_name="A")
        return subscriber_service_pb2.GetSubscriberResponse(subscriber=subscriber)


SIGHTING = uuid7()


def register(server: grpc.aio.Server) -> None:
    """Adds both."""
    case_service_pb2_grpc.add_CaseServiceServicer_to_server(CaseService(), server)
    subscriber_service_pb2_grpc.add_SubscriberServiceServicer_to_server(SubscriberService(), server)


async def test_an_event_on_the_bus_waits_for_a_mandate_and_is_filed(
    database_url: Callable[[str], str], nats_url: str, tmp_path: Path
) -> None:
    create_master_key(tmp_path / "keys" / "master.key")
    tester = create_key_pair(tmp_path / "tokens" / "private", tmp_path / "tokens" / "public", "test")
    create_key_pair(tmp_path / "tokens" / "private", tmp_path / "tokens" / "public", "removal")
    case, port = build_server(
        Config(service="case", home=tmp_path, token_keys_dir=tmp_path / "tokens" / "public"), register
    )
    await case.start()
    with PlatformSimulator(tmp_path / "platform"):
        listen = f"127.0.0.1:{free_port()}"
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}",
            "JIKIMI_HOME": str(tmp_path),
            "JIKIMI_SERVICE": "removal",
            "JIKIMI_PROFILE": "test",
            "JIKIMI_LISTEN": listen,
            "JIKIMI_DATABASE_URL": database_url("removal"),
            "JIKIMI_NATS_URL": nats_url,
            "JIKIMI_PEER_CASE": f"127.0.0.1:{port}",
            "JIKIMI_REMOVAL_SEND": "on",
            "JIKIMI_REMOVAL_ENDPOINTS": str(tmp_path / "platform" / "endpoints.json"),
        }
        command = (sys.executable, "-m", "services.removal")
        migration = await asyncio.create_subprocess_exec(*command, "migrate", env=environ, cwd=ROOT)
        assert 0 == await migration.wait()
        with (tmp_path / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*command, "serve", env=environ, cwd=ROOT, stderr=log)
            try:
                person = uuid7()
                registered = events_pb2.SubscriberRegistered(subscriber_id=person, language="ko")
                await publish(nats_url, person, registered, 1)
                await publish(nats_url, person, packed(person), 2)
                waiting = await asked(listen, tester, pb.REMOVAL_STATE_CHECKED)
                await grant(listen, tester, person)
                filed = await asked(listen, tester, pb.REMOVAL_STATE_RECEIVED)
            finally:
                process.terminate()
                stopped = await process.wait()
                await case.stop(0)
    assert ("NO_MANDATE", "NAVER-0001") == (waiting.reason, filed.attempts[0].reference)
    assert 0 == stopped
    written = (tmp_path / "log").read_text(encoding="utf-8")
    assert "example.com" not in written
    assert {"removal"} == {json.loads(line)["service"] for line in written.splitlines()}


def packed(person: str) -> events_pb2.EvidencePacked:
    """The event that starts removal."""
    return events_pb2.EvidencePacked(
        case_id=uuid7(),
        subscriber_id=person,
        pack_id=uuid7(),
        version=1,
        sightings=[events_pb2.PackedSighting(sighting_id=SIGHTING, platform="naver")],
        removal_consent=True,
    )


async def publish(url: str, key: str, message: Any, position: int) -> None:
    """Puts an event of case on the bus."""
    broker = Broker(url, "case")
    await broker.connect()
    await broker.ensure_stream("case")
    envelope = Envelope(
        publisher="case",
        event=event_name(type(message)),
        partition=partition_of(key, 4),
        position=position,
        event_id=uuid7(),
        entity_ref=b"\x01" * 8,
        traceparent="",
        payload=message.SerializeToString(),
    )
    await broker.publish("case", [envelope])
    await broker.close()


async def grant(listen: str, issuer: Issuer, person: str) -> None:
    """The subscriber signs a mandate."""
    token = issuer.issue(person, ROLE_SUBSCRIBER, PURPOSE_PROTECTION, "removal", 60)
    request = pb.GrantMandateRequest(subscriber_id=person, request_id="once", document_sha256=b"\x01" * 32)
    request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=30))
    async with grpc.aio.insecure_channel(listen) as channel:
        stub: Any = removal_service_pb2_grpc.RemovalServiceStub(channel)
        await stub.GrantMandate(request, metadata=[("authorization", f"Bearer {token}")])


async def asked(listen: str, issuer: Issuer, state: pb.RemovalState.ValueType) -> pb.RemovalRequest:
    """The request, when it has come to a state. Raises TimeoutError."""
    async with asyncio.timeout(60), grpc.aio.insecure_channel(listen) as channel:
        stub: Any = removal_service_pb2_grpc.RemovalServiceStub(channel)
        token = issuer.issue("operator-1", ROLE_OPERATOR, PURPOSE_REMOVAL, "removal", 60)
        while True:
            try:
                answer = await stub.ListRemovalRequests(
                    pb.ListRemovalRequestsRequest(),
                    metadata=[("authorization", f"Bearer {token}")],
                    wait_for_ready=True,
                )
            except grpc.aio.AioRpcError as error:
                assert grpc.StatusCode.UNAVAILABLE == error.code()
                continue
            if answer.removal_requests and answer.removal_requests[0].state == state:
                found: pb.RemovalRequest = answer.removal_requests[0]
                return found
            await asyncio.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
