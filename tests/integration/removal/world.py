"""The removal service over loopback, with its clock, its cases and its platforms in the hands of a test."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import select

from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1.access_pb2 import (
    PURPOSE_PROTECTION,
    PURPOSE_REMOVAL,
    ROLE_OPERATOR,
    ROLE_SUBSCRIBER,
)
from misuse.log.v1.record_pb2 import LogRecord
from misuse.removal.v1 import events_pb2, removal_service_pb2_grpc
from misuse.removal.v1 import removal_service_pb2 as pb
from services.chassis import yaml_text
from services.chassis.bus import Event
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueWorker
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key, pepper
from services.chassis.outbox import OUTBOX, Outbox
from services.chassis.rpc import unwrap
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from services.removal.__main__ import Removal, wire
from services.removal.adapters.case_file import read_sighting
from services.removal.adapters.json_api import ApiDesk
from services.removal.adapters.no_fetcher import NoFetcher
from services.removal.adapters.policy_files import SHIPPED, PolicyFiles
from services.removal.adapters.rules import load_rules
from services.removal.adapters.tables import Base
from services.removal.adapters.ways import Sending, SendingWays
from services.removal.consumer import case_handlers
from services.removal.domain.filing import Claimant, Evidence
from services.removal.ports import Watcher
from tests.integration.databases import connected, empty
from tests.simulators.platform import PlatformSimulator

FOUND = "2026-03-02T08:59:00Z"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ADDRESS = "https://www.example.com/board/view?no=17&utm_source=share"
NAME = "홍길동"
POLICIES = PolicyFiles()
RULES = load_rules()
Metadata = Sequence[tuple[str, str]]


@dataclass
class CaseFolder:
    """The case service's packs, as the ZIP that it streams."""

    addresses: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    """When a sighting was found, where that is not FOUND."""
    profiles_read: int = 0
    packs_read: int = 0

    async def evidence(
        self, case_id: str, sighting_ids: Collection[str], pack_version: int
    ) -> Mapping[str, Evidence]:
        self.packs_read += 1
        known = {each: self.addresses[each] for each in sighting_ids if each in self.addresses}
        packs = {each: pack(each, known[each], self.found.get(each, FOUND)) for each in known}
        found = {each: read_sighting(packs[each], each, "ab" * 32, pack_version or 1) for each in known}
        return {each: evidence for each, evidence in found.items() if evidence is not None}

    async def claimant(self, subscriber_id: str) -> Claimant:
        self.profiles_read += 1
        return Claimant(NAME, "gildong@example.org")


def pack(sighting_id: str, address: str, found: str = FOUND) -> bytes:
    """An evidence pack with one sighting."""
    capture = {
        "source_url": address,
        "post_id": "17",
        "channel": "example",
        "discover_time": found,
        "http": {"status": 200},
        "part_hashes": [{"part": "image.0", "sha256": "cd" * 32, "size_bytes": 10}],
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.json", "{}")
        archive.writestr(f"items/{sighting_id}/capture.json", json.dumps(capture))
        archive.writestr(f"items/{sighting_id}/thumbnail.jpg", b"jpeg")
    return out.getvalue()


@dataclass
class World:
    """The service over loopback, its events fed by hand, its clock in our hands, a platform to talk to."""

    removal: Removal
    database: Database
    clock: ManualClock
    issuer: Issuer
    stub: removal_service_pb2_grpc.RemovalServiceAsyncStub
    cases: CaseFolder
    platform: PlatformSimulator
    port: int
    """Where the service listens."""

    async def feed(self, *messages: Message) -> None:
        handlers = case_handlers(self.removal.store.within, self.clock)
        async with self.database.begin() as session:
            for number, message in enumerate(messages):
                event = Event("case", 0, number + 1, uuid7(), "", message)
                await handlers[type(message)](session, [event])

    async def work(self) -> None:
        """Does what is due, until nothing is."""
        worker = DueWorker(self.database, self.clock, self.removal.due())
        while items := await worker._take():
            await asyncio.gather(*map(worker._run_one, items))

    async def person(self, *, mandate: bool = True) -> str:
        """A registered subscriber who has signed a mandate."""
        subscriber_id = uuid7()
        await self.feed(case_events.SubscriberRegistered(subscriber_id=subscriber_id, language="ko"))
        if mandate:
            await self.mandate(subscriber_id)
        return subscriber_id

    async def suspend(self, subscriber_id: str, *, over: bool = False) -> None:
        """Processing stops for a subscriber, or goes on."""
        kind = case_events.SubscriberResumed if over else case_events.SubscriberSuspended
        await self.feed(kind(subscriber_id=subscriber_id))

    async def mandate(self, subscriber_id: str, *platforms: str) -> pb.Mandate:
        request = pb.GrantMandateRequest(
            subscriber_id=subscriber_id,
            request_id=uuid7(),
            platforms=platforms,
            document_sha256=b"\x01" * 32,
            expire_time=stamp(self.clock.now() + timedelta(days=365)),
        )
        answer = await self.stub.GrantMandate(request, metadata=self.subscriber(subscriber_id))
        return answer.mandate

    async def packed(
        self, subscriber_id: str, platform: str, *, address: str = ADDRESS, case_id: str = "", consent: bool = True
    ) -> tuple[str, str]:
        """A case of the subscriber whose evidence of one sighting is packed. Returns case and sighting."""
        case_id, sighting_id = case_id or uuid7(), uuid7()
        self.cases.addresses[sighting_id] = address
        await self.feed(
            case_events.EvidencePacked(
                case_id=case_id,
                subscriber_id=subscriber_id,
                pack_id=uuid7(),
                version=1,
                manifest_sha256=b"\xab" * 32,
                sightings=[case_events.PackedSighting(sighting_id=sighting_id, platform=platform)],
                removal_consent=consent,
            )
        )
        return case_id, sighting_id

    async def requests(self, subscriber_id: str) -> list[pb.RemovalRequest]:
        request = pb.ListRemovalRequestsRequest(subscriber_id=subscriber_id)
        answer = await self.stub.ListRemovalRequests(request, metadata=self.subscriber(subscriber_id))
        return list(answer.removal_requests)

    async def only(self, subscriber_id: str) -> pb.RemovalRequest:
        [request] = await self.requests(subscriber_id)
        return request

    async def answer(self, request_id: str, answer: pb.PlatformAnswer.ValueType, **fields: Any) -> pb.RemovalRequest:
        request = pb.RecordPlatformResponseRequest(
            removal_request_id=request_id, request_id=uuid7(), answer=answer, **fields
        )
        done = await self.stub.RecordPlatformResponse(request, metadata=self.operator())
        return done.removal_request

    async def resubmit(self, request_id: str) -> pb.RemovalRequest:
        request = pb.ResubmitRemovalRequestRequest(removal_request_id=request_id, request_id=uuid7())
        done = await self.stub.ResubmitRemovalRequest(request, metadata=self.operator())
        return done.removal_request

    async def supplement(self, request_id: str) -> pb.RemovalRequest:
        request = pb.SupplementEvidenceRequest(
            removal_request_id=request_id, request_id=uuid7(), statement="얼굴이 보입니다"
        )
        done = await self.stub.SupplementEvidence(request, metadata=self.operator())
        return done.removal_request

    async def tell(
        self, person: str, request_id: str, answer: pb.SubscriberAnswer.ValueType, reference: str = ""
    ) -> pb.RemovalRequest:
        """The subscriber says something of a request."""
        request = pb.RecordSubscriberAnswerRequest(
            removal_request_id=request_id, request_id=uuid7(), answer=answer, reference=reference
        )
        done = await self.stub.RecordSubscriberAnswer(request, metadata=self.subscriber(person))
        return done.removal_request

    async def later(self, **span: float) -> None:
        """Time goes by, and what has become due is done."""
        self.clock.advance(timedelta(**span))
        await self.work()

    async def notes(self, step: str) -> list[tuple[str, str]]:
        """(outcome, reason) of what was done without a change of state, in order."""
        found = [record.removal_follow_log for record in await self.records("removal_follow_log")]
        return [(note.outcome, note.reason) for note in found if note.step == step]

    async def outbox(self) -> list[Message]:
        """Events and records in order."""
        kinds: Mapping[str, type[Message]] = {
            "recorded": LogRecord,
            "removal_submitted": events_pb2.RemovalSubmitted,
            "removal_received": events_pb2.RemovalReceived,
            "removal_rejected": events_pb2.RemovalRejected,
            "removal_resubmitted": events_pb2.RemovalResubmitted,
            "removal_completed": events_pb2.RemovalCompleted,
            "removal_withdrawn": events_pb2.RemovalWithdrawn,
            "removal_blocked_temporarily": events_pb2.RemovalBlockedTemporarily,
            "removal_handed_to_person": events_pb2.RemovalHandedToPerson,
            "content_reappeared": events_pb2.ContentReappeared,
            "erasure_completed": events_pb2.ErasureCompleted,
        }
        async with self.database.begin() as session:
            rows = (await session.execute(select(OUTBOX).order_by(OUTBOX.c.seq))).all()
        return [kinds[row.event].FromString(row.payload) for row in rows]

    async def events(self) -> list[str]:
        return [type(item).__name__ for item in await self.outbox() if not isinstance(item, LogRecord)]

    async def states(self) -> list[str]:
        """States in the log, in order."""
        return [record.removal_request_log.to_state for record in await self.records("removal_request_log")]

    async def records(self, body: str) -> list[LogRecord]:
        """The log records of one type, in order."""
        records = [item for item in await self.outbox() if isinstance(item, LogRecord)]
        return [record for record in records if record.WhichOneof("body") == body]

    def subscriber(self, subscriber_id: str) -> Metadata:
        return self._signed(subscriber_id, ROLE_SUBSCRIBER, PURPOSE_PROTECTION)

    def operator(self, name: str = "operator-1") -> Metadata:
        return self._signed(name, ROLE_OPERATOR, PURPOSE_REMOVAL)

    def _signed(self, subject: str, role: Any, purpose: Any) -> Metadata:
        return [("authorization", f"Bearer {self.issuer.issue(subject, role, purpose, 'removal', 60)}")]

    @property
    def forms(self) -> list[dict[str, Any]]:
        return self.platform.mailroom.forms

    @property
    def mails(self) -> list[dict[str, Any]]:
        return self.platform.mailroom.mails


def stamp(time: datetime) -> Timestamp:
    """A protobuf time."""
    result = Timestamp()
    result.FromDatetime(time)
    return result


class Running:
    """A World over an empty database."""

    def __init__(
        self,
        url: str,
        folder: Path,
        platform: PlatformSimulator,
        sending: Sending,
        *,
        watcher: Watcher | None = None,
        policies: PolicyFiles = POLICIES,
    ) -> None:
        self._url, self._folder, self._platform, self._sending = url, folder, platform, sending
        self._watcher, self._policies = watcher or NoFetcher(), policies

    async def __aenter__(self) -> World:
        folder = self._folder
        create_master_key(folder / "master.key")
        issuer = create_key_pair(folder / "private", folder / "public", "test")
        config = Config(
            service="removal",
            home=folder,
            database_url=self._url,
            keys_dir=folder / "keys",
            master_key_file=folder / "master.key",
            token_keys_dir=folder / "public",
            profile="test",
        )
        self._database = connected(self._url)
        await empty(self._database, Base.metadata.sorted_tables)
        clock, cases = ManualClock(START), CaseFolder()
        outbox = Outbox("removal", 4, pepper(folder / "keys", "outbox"))
        keys = FileKeyStore(config.keys_dir, config.master_key_file)
        ways = SendingWays(self._sending, clock)
        removal = wire(
            config,
            self._database,
            outbox,
            keys,
            clock,
            cases,
            self._policies,
            ways,
            watcher=self._watcher,
            desk=ApiDesk(ways),
            rules=RULES,
        )
        self._server, port = build_server(config, removal.register)
        await self._server.start()
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stub: Any = removal_service_pb2_grpc.RemovalServiceStub(self._channel)
        return World(removal, self._database, clock, issuer, stub, cases, self._platform, port)

    async def __aexit__(self, *exc: object) -> None:
        await self._channel.close()
        await self._server.stop(0)
        await self._database.close()


def as_error(caught: pytest.ExceptionInfo[grpc.aio.AioRpcError]) -> str:
    """The reason of a refusal."""
    return unwrap(caught.value).reason


def with_partner(folder: Path, **changes: Any) -> PolicyFiles:
    """The shipped templates and one of a partner that has a JSON API; `changes` replace keys of naver's template."""
    policies = Path(shutil.copytree(SHIPPED, folder / "policies"))
    naver = yaml_text.parse((policies / "naver.yaml").read_text(encoding="utf-8"))
    api = {
        "fields": {"url": "{{ source_url }}", "text": "{{ notice }}", "client_reference": "{{ reference }}"},
        "reference": "reference",
        "status_path": "/partner/requests/{reference}",
        "state": "state",
        "words": {"RECEIVED": "ACCEPTED", "DELETED": "REMOVED", "DENIED": "REJECTED"},
    }
    partner = naver | {"platform": "partner", "path": "API", "form": None, "api": api}
    for name, data in (("partner", partner), ("naver", naver | changes)):
        (policies / f"{name}.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return PolicyFiles(policies)
