"""A notify service over loopback: its events fed by hand, its clock in the tests' hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from sqlalchemy import select

from misuse.case.v1 import case_pb2
from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1.access_pb2 import (
    PURPOSE_NOTIFICATION,
    PURPOSE_PROTECTION,
    ROLE_DEVICE,
    ROLE_SUBSCRIBER,
)
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE
from misuse.log.v1.record_pb2 import LogRecord, NotificationDeliveryLog
from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.notify.v1 import notify_service_pb2_grpc
from misuse.notify.v1.events_pb2 import DeviceRegistered
from services.chassis.bus import Event, Handler
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueWorker
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key, pepper
from services.chassis.outbox import OUTBOX, Outbox
from services.chassis.server import build_server
from services.chassis.tasks import end
from services.chassis.tokens import Issuer, create_key_pair
from services.notify.__main__ import Notify, wire
from services.notify.adapters.tables import metadata
from services.notify.adapters.texts import load_texts
from services.notify.adapters.ways import Ways
from services.notify.consumer import case_handlers, removal_handlers
from services.notify.domain.delivery import DeliveryRules
from tests.integration.databases import connected, empty

NOWHERE = Ways()
TEXTS = load_texts(None)
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class World:
    """The service over loopback, its events fed by hand, its clock in our hands."""

    notify: Notify
    database: Database
    clock: ManualClock
    issuer: Issuer
    stub: notify_service_pb2_grpc.NotifyServiceAsyncStub
    keys: FileKeyStore

    async def feed(self, *messages: Message) -> None:
        handlers: Mapping[type[Message], Handler] = {
            **case_handlers(self.notify.telling, self.notify.unit_of),
            **removal_handlers(self.notify.telling, self.notify.unit_of),
        }
        async with self.database.begin() as session:
            for number, message in enumerate(messages):
                event = Event("case", 0, number + 1, uuid7(), "", message)
                await handlers[type(message)](session, [event])

    async def feed_at_once(self, *messages: Message) -> None:
        """Events of one kind, as one batch."""
        handlers = removal_handlers(self.notify.telling, self.notify.unit_of)
        events = [Event("removal", 0, n + 1, uuid7(), "", message) for n, message in enumerate(messages)]
        async with self.database.begin() as session:
            await handlers[type(messages[0])](session, events)

    def subscriber(self, subscriber_id: str) -> Sequence[tuple[str, str]]:
        return self.signed(subscriber_id, ROLE_SUBSCRIBER, PURPOSE_PROTECTION, "")

    def device(self, subscriber_id: str, device_id: str = "phone") -> Sequence[tuple[str, str]]:
        return self.signed(subscriber_id, ROLE_DEVICE, PURPOSE_NOTIFICATION, device_id)

    def signed(self, subject: str, role: Any, purpose: Any, device_id: str) -> Sequence[tuple[str, str]]:
        token = self.issuer.issue(subject, role, purpose, "notify", 60, device_id)
        return [("authorization", f"Bearer {token}")]

    async def person(self, *devices: str, language: str = "ko") -> str:
        """A registered subscriber with devices."""
        subscriber_id = uuid7()
        await self.feed(case_events.SubscriberRegistered(subscriber_id=subscriber_id, language=language))
        for device_id in devices:
            await self.stub.RegisterDevice(
                pb.RegisterDeviceRequest(subscriber_id=subscriber_id, device_id=device_id, os="android"),
                metadata=self.subscriber(subscriber_id),
            )
        return subscriber_id

    @asynccontextmanager
    async def stream(self, subscriber_id: str, device_id: str = "phone") -> AsyncIterator[Any]:
        call = self.stub.StreamNotifications(
            pb.StreamNotificationsRequest(subscriber_id=subscriber_id),
            metadata=self.device(subscriber_id, device_id),
        )
        try:
            yield aiter(call)
        finally:
            call.cancel()

    async def acknowledge(self, subscriber_id: str, *ids: str, device_id: str = "phone") -> int:
        answer = await self.stub.AcknowledgeNotifications(
            pb.AcknowledgeNotificationsRequest(subscriber_id=subscriber_id, notification_ids=ids),
            metadata=self.device(subscriber_id, device_id),
        )
        return int(answer.acknowledged)

    async def inbox(self, subscriber_id: str, **fields: Any) -> pb.ListInboxResponse:
        request = pb.ListInboxRequest(subscriber_id=subscriber_id, **fields)
        return await self.stub.ListInbox(request, metadata=self.subscriber(subscriber_id))

    async def records(self) -> list[NotificationDeliveryLog]:
        """The delivery records, in order."""
        async with self.database.begin() as session:
            rows = await session.scalars(
                select(OUTBOX.c.payload).where(OUTBOX.c.event == "recorded").order_by(OUTBOX.c.seq)
            )
            return [LogRecord.FromString(row).notification_delivery_log for row in rows]

    async def actions(self) -> list[str]:
        """Actions of the delivery records, in order."""
        return [record.action for record in await self.records()]

    async def until(self, action: str, number: int = 1) -> None:
        """Waits until there are so many records of an action."""
        async with asyncio.timeout(30):
            while (await self.actions()).count(action) < number:
                await asyncio.sleep(0.02)

    async def events(self) -> list[str]:
        """What was told of notices and erasures, in order."""
        aside = ("recorded", "device_registered")
        async with self.database.begin() as session:
            rows = await session.scalars(
                select(OUTBOX.c.event).where(OUTBOX.c.event.not_in(aside)).order_by(OUTBOX.c.seq)
            )
            return list(rows)

    async def devices_told(self) -> list[DeviceRegistered]:
        query = select(OUTBOX.c.payload).where(OUTBOX.c.event == "device_registered").order_by(OUTBOX.c.seq)
        async with self.database.begin() as session:
            return [DeviceRegistered.FromString(payload) for payload in await session.scalars(query)]


@asynccontextmanager
async def serving(url: str, tmp_path: Path, rules: DeliveryRules, ways: Ways = NOWHERE) -> AsyncIterator[World]:
    """The service on an empty database; its due work runs twenty milliseconds after its time at the latest."""
    config = Config(
        service="notify", home=tmp_path, database_url=url, keys_dir=tmp_path / "keys",
        token_keys_dir=tmp_path / "public", listen="127.0.0.1:0", profile="test",
    )
    create_master_key(tmp_path / "master.key")
    keys = FileKeyStore(config.keys_dir, tmp_path / "master.key")
    issuer = create_key_pair(tmp_path / "private", config.token_keys_dir, "app")
    database, clock = connected(url), ManualClock(START)
    outside = ways.open(clock)
    await empty(database, metadata().sorted_tables)
    outbox = Outbox("notify", 4, pepper(config.keys_dir, "outbox"))
    notify = wire(
        config, database, outbox, keys, clock, rules, TEXTS, outside
    )
    server, port = build_server(config, notify.register)
    await server.start()
    worker = DueWorker(database, clock, notify.due(), poll_ms=20)
    loops = [asyncio.ensure_future(loop()) for loop in (*notify.loops, worker.run)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = notify_service_pb2_grpc.NotifyServiceStub(channel)
        yield World(notify, database, clock, issuer, stub, keys)
    await server.stop(0)
    await end(*loops)
    await outside.close()
    await database.close()


def opened(subscriber_id: str, case_id: str | None = None) -> case_events.CaseOpened:
    return case_events.CaseOpened(
        case_id=case_id or uuid7(), subscriber_id=subscriber_id, kind=CASE_KIND_FACE, channel_group="NAVER"
    )


def closed(subscriber_id: str, case_id: str) -> case_events.CaseClosed:
    return case_events.CaseClosed(
        case_id=case_id, subscriber_id=subscriber_id, resolution=case_pb2.RESOLUTION_REMOVED
    )


async def within(seconds: float, work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, seconds)


