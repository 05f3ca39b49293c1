"""How does a subscriber's phone behave? It keeps a stream open, acknowledges each notice once, and comes back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpclib
from grpclib.exceptions import StreamTerminatedError

from jikimi_client.misuse.notify import v1 as notify_api
from services.console.client import Connections, device


@dataclass
class Phone:
    """A device that speaks the device API."""

    services: Connections
    subscriber_id: str
    device_id: str
    acknowledged: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Streams until cancelled; a broken stream is opened again after a moment."""
        while True:
            try:
                await self._stream()
            except (grpclib.GRPCError, StreamTerminatedError, OSError, TimeoutError):
                await asyncio.sleep(0.3)

    async def _stream(self) -> None:
        caller = device(self.subscriber_id, self.device_id)
        stub = self.services.stub("notify", notify_api.NotifyServiceStub, caller, seconds=None)
        async for answer in stub.stream_notifications(
            notify_api.StreamNotificationsRequest(subscriber_id=self.subscriber_id)
        ):
            if answer.notification is not None:
                await self._acknowledge(stub, answer.notification.notification_id)

    async def _acknowledge(self, stub: notify_api.NotifyServiceStub, notification_id: str) -> None:
        await stub.acknowledge_notifications(
            notify_api.AcknowledgeNotificationsRequest(
                subscriber_id=self.subscriber_id, notification_ids=[notification_id]
            ),
            timeout=10,
        )
        self.acknowledged.add(notification_id)
