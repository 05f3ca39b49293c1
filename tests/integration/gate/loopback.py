"""The gate over loopback and real PostgreSQL, its events fed by hand, its clock in our hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from sqlalchemy import delete, insert, select

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE, ROLE_RELEASE_MANAGER
from misuse.gate.v1 import gate_service_pb2 as pb
from misuse.gate.v1 import gate_service_pb2_grpc
from misuse.log.v1.record_pb2 import LogRecord
from services.chassis.bus import CURSOR, Event
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import pepper
from services.chassis.outbox import OUTBOX, Outbox, event_name
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from services.gate.__main__ import MAX_MESSAGE, Gate, wire
from services.gate.adapters.rules import load_gates
from services.gate.adapters.tables import LogRecordRow, metadata
from services.gate.domain.kpis import Gates
from services.gate.domain.samples import Plans
from tests.integration.databases import connected, empty


@dataclass
class Loopback:
    """The service as a test drives it."""

    gate: Gate
    database: Database
    clock: ManualClock
    issuer: Issuer
    stub: gate_service_pb2_grpc.GateServiceAsyncStub
    port: int = 0
    """Of the service, for clients of another kind."""
    positions: dict[str, int] = field(default_factory=dict)
    taken: int = 0
    """Last outbox row that was fed back as a record."""

    async def feed(self, publisher: str, messages: Sequence[Message]) -> None:
        """Applies events of one type, as the consumer would."""
        if not messages:
            return
        start = self.positions.get(publisher, 0)
        self.positions[publisher] = start + len(messages)
        events = [Event(publisher, 0, start + n, uuid7(), "", m) for n, m in enumerate(messages, 1)]
        handler = self.gate.intake.handlers_of(publisher)[type(messages[0])]
        async with self.database.begin() as session:
            await handler(session, events)
            await session.execute(delete(CURSOR).where(CURSOR.c.publisher == publisher))
            await session.execute(
                insert(CURSOR).values(
                    publisher=publisher, partition=0, position=events[-1].position, stream_id="", stream_seq=0
                )
            )

    async def log_own_records(self) -> None:
        """The gate's own records come back to it."""
        async with self.database.begin() as session:
            query = select(OUTBOX.c.seq, OUTBOX.c.payload).where(
                OUTBOX.c.event == "recorded", OUTBOX.c.seq > self.taken
            )
            rows = (await session.execute(query.order_by(OUTBOX.c.seq))).all()
        if rows:
            self.taken = rows[-1].seq
            await self.feed("gate", [LogRecord.FromString(row.payload) for row in rows])

    async def events(self, kind: type[Message]) -> list[Any]:
        """Events of one kind, in order."""
        async with self.database.begin() as session:
            query = select(OUTBOX.c.payload).where(OUTBOX.c.event == event_name(kind)).order_by(OUTBOX.c.seq)
            return [kind.FromString(payload) for payload in await session.scalars(query)]

    async def raw(self, body: str) -> list[LogRecord]:
        """Raw records of a type as the gate holds them."""
        async with self.database.begin() as session:
            query = select(LogRecordRow.payload).where(LogRecordRow.type == body)
            query = query.order_by(LogRecordRow.publisher, LogRecordRow.position)
            return [LogRecord.FromString(payload) for payload in await session.scalars(query)]

    def metadata(self) -> Sequence[tuple[str, str]]:
        """The token of a release manager."""
        token = self.issuer.issue("manager-1", ROLE_RELEASE_MANAGER, PURPOSE_RELEASE, "gate", 600)
        return [("authorization", f"Bearer {token}")]

    async def freeze(self, report: str, request_id: str = "") -> pb.Sample:
        """Freezes a sample."""
        request = pb.FreezeSampleRequest(report_name=report, request_id=request_id or uuid7())
        sample: pb.Sample = (await self.stub.FreezeSample(request, metadata=self.metadata())).sample
        return sample

    async def show(self, sample_id: str, *, reproduce: bool = False) -> pb.GetSampleResponse:
        """A sample with its labels so far."""
        request = pb.GetSampleRequest(sample_id=sample_id, reproduce=reproduce)
        response: pb.GetSampleResponse = await self.stub.GetSample(request, metadata=self.metadata())
        return response

    async def evaluate(self, stage: str = "ALL") -> pb.ReleaseDecision:
        """Judges a release."""
        request = pb.EvaluateReleaseRequest(release="1.0", stage=stage, request_id=uuid7())
        decision: pb.ReleaseDecision = (await self.stub.EvaluateRelease(request, metadata=self.metadata())).decision
        return decision


@asynccontextmanager
async def loopback(
    url: str, folder: Path, clock: ManualClock, *, gates: Gates | None = None, plans: Plans | None = None
) -> AsyncIterator[Loopback]:
    """The service on an emptied database."""
    config = Config(
        service="gate", home=folder, database_url=url, keys_dir=folder / "keys", profile="test",
        token_keys_dir=folder / "public", listen="127.0.0.1:0", max_message_bytes=MAX_MESSAGE,
        service_key_file=folder / "private" / "gate.key",
    )  # fmt: skip
    issuer = create_key_pair(folder / "private", config.token_keys_dir, "app")
    database = connected(url)
    await empty(database, metadata().sorted_tables)
    outbox = Outbox("gate", 4, pepper(config.keys_dir, "outbox"))
    gate = wire(config, database, outbox, clock, gates or load_gates(), "abc1234", plans=plans)
    server, port = build_server(config, gate.register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = gate_service_pb2_grpc.GateServiceStub(channel)
        yield Loopback(gate, database, clock, issuer, stub, port)
    await server.stop(0)
    await database.close()
