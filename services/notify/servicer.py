"""How calls to notify are translated. Decides nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.notify.v1 import notify_service_pb2_grpc
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid
from services.chassis.tokens import current_actor
from services.notify.domain import LANGUAGES, Delivery, Preferences, Subject, Texts
from services.notify.handlers import Account, Delivering
from services.notify.ports import Device, InboxItem, Notification

MAX_IDS = 500
MAX_PUSH_TOKEN = 4096
_DEVICE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SYSTEMS = frozenset({"android", "ios", "web"})


class NotifyServicer(notify_service_pb2_grpc.NotifyServiceServicer):
    """NotifyService."""

    def __init__(self, account: Account, delivering: Delivering, texts: Texts) -> None:
        self._account = account
        self._delivering = delivering
        self._texts = texts

    async def RegisterDevice(
        self, request: pb.RegisterDeviceRequest, context: Any
    ) -> pb.RegisterDeviceResponse:
        """See the contract."""
        _check(request.os in _SYSTEMS, "os", "OS_UNKNOWN")
        _check(len(request.push_token) <= MAX_PUSH_TOKEN, "push_token", "TOO_LONG")
        device = await self._account.register_device(
            _subscriber(request), _device_id(request.device_id), request.os, request.push_token
        )
        return pb.RegisterDeviceResponse(device=_device(device))

    async def RemoveDevice(self, request: pb.RemoveDeviceRequest, context: Any) -> pb.RemoveDeviceResponse:
        """See the contract."""
        await self._account.remove_device(_subscriber(request), _device_id(request.device_id))
        return pb.RemoveDeviceResponse()

    async def SetPreferences(
        self, request: pb.SetPreferencesRequest, context: Any
    ) -> pb.SetPreferencesResponse:
        """See the contract."""
        wanted = _preferences(request.preferences)
        stored = await self._account.set_preferences(_subscriber(request), wanted)
        return pb.SetPreferencesResponse(
            preferences=pb.Preferences(
                language=stored.language,
                discreet=stored.discreet,
                quiet_start_minute=stored.quiet_start_minute,
                quiet_end_minute=stored.quiet_end_minute,
            )
        )

    async def StreamNotifications(
        self, request: pb.StreamNotificationsRequest, context: Any
    ) -> AsyncIterator[pb.StreamNotificationsResponse]:
        """See the contract."""
        device_id = current_actor().device_id
        async with aclosing(self._delivering.stream(_subscriber(request), device_id)) as stream:
            async for notification, preferences in stream:
                yield pb.StreamNotificationsResponse(notification=self._shown(notification, preferences))

    async def AcknowledgeNotifications(
        self, request: pb.AcknowledgeNotificationsRequest, context: Any
    ) -> pb.AcknowledgeNotificationsResponse:
        """See the contract."""
        ids = _ids(request.notification_ids, "notification_ids")
        device_id = current_actor().device_id
        done = await self._delivering.acknowledge(_subscriber(request), device_id, ids)
        return pb.AcknowledgeNotificationsResponse(acknowledged=done)

    async def ListInbox(self, request: pb.ListInboxRequest, context: Any) -> pb.ListInboxResponse:
        """See the contract."""
        _check(0 <= request.page_size <= 200, "page_size", "OUT_OF_BOUNDS")
        size = request.page_size or 50
        before = _position(request.page_token)
        items, preferences = await self._account.list_inbox(
            _subscriber(request), request.unread_only, before, size + 1
        )
        response = pb.ListInboxResponse(
            items=[self._item(item, preferences.language) for item in items[:size]]
        )
        if len(items) > size:
            response.next_page_token = _token(items[size - 1].item_id)
        return response

    async def MarkRead(self, request: pb.MarkReadRequest, context: Any) -> pb.MarkReadResponse:
        """See the contract."""
        ids = _ids(request.item_ids, "item_ids")
        return pb.MarkReadResponse(read=await self._account.mark_read(_subscriber(request), ids))

    async def GetDeliveryStats(
        self, request: pb.GetDeliveryStatsRequest, context: Any
    ) -> pb.GetDeliveryStatsResponse:
        """See the contract. A state counts what has reached it or gone past it."""
        counts, sent, acknowledged = await self._account.delivery_counts()
        return pb.GetDeliveryStatsResponse(
            queued=sum(counts.values()),
            sent=sent,
            acknowledged=acknowledged,
            undeliverable=counts[Delivery.UNDELIVERABLE],
            superseded=counts[Delivery.SUPERSEDED],
        )

    def _shown(self, notification: Notification, preferences: Preferences) -> pb.Notification:
        title, body = self._texts.for_lock_screen(notification.subject, preferences)
        return pb.Notification(
            notification_id=notification.notification_id,
            case_id=notification.case_id,
            subject=_subject(notification.subject),
            title=title,
            body=body,
            create_time=_stamp(notification.create_time),
            attempt=notification.attempt,
        )

    def _item(self, item: InboxItem, language: str) -> pb.InboxItem:
        title, body = self._texts.for_inbox(item.subject, item.state, item.facts, language)
        return pb.InboxItem(
            item_id=item.item_id,
            case_id=item.case_id,
            subject=_subject(item.subject),
            title=title,
            body=body,
            create_time=_stamp(item.create_time),
            read_time=None if item.read_time is None else _stamp(item.read_time),
        )


def _check(fine: bool, field: str, reason: str) -> None:
    if not fine:
        raise InvalidInput(reason, "A field is missing or out of bounds.", violations=[(field, reason)])


def _subscriber(request: Any) -> str:
    return parse_uuid(request.subscriber_id, "subscriber_id")


def _device_id(value: str) -> str:
    _check(bool(_DEVICE_ID.fullmatch(value)), "device_id", "DEVICE_ID_MALFORMED")
    return value


def _ids(values: Sequence[str], field: str) -> list[str]:
    _check(1 <= len(values) <= MAX_IDS, field, "OUT_OF_BOUNDS")
    return [parse_uuid(value, field) for value in values]


def _preferences(wanted: pb.Preferences) -> Preferences:
    language = wanted.language or LANGUAGES[0]
    _check(language in LANGUAGES, "preferences.language", "LANGUAGE_UNKNOWN")
    start, end = wanted.quiet_start_minute, wanted.quiet_end_minute
    for value, name in ((start, "quiet_start_minute"), (end, "quiet_end_minute")):
        _check(-1 <= value < 1440, f"preferences.{name}", "OUT_OF_BOUNDS")
    _check((start == -1) == (end == -1), "preferences.quiet_end_minute", "QUIET_HOURS_INCOMPLETE")
    return Preferences(language, wanted.discreet, start, end)


def _device(device: Device) -> pb.Device:
    return pb.Device(
        device_id=device.device_id,
        os=device.os,
        create_time=_stamp(device.create_time),
        last_seen_time=None if device.last_seen_time is None else _stamp(device.last_seen_time),
    )


def _subject(subject: Subject) -> pb.NoticeSubject.ValueType:
    return pb.NoticeSubject.Value(f"NOTICE_SUBJECT_{subject}")


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def _token(item_id: str) -> str:
    return base64.urlsafe_b64encode(item_id.encode()).decode()


def _position(token: str) -> str:
    """The item id of a page token; empty for the first page."""
    if not token:
        return ""
    try:
        return parse_uuid(base64.urlsafe_b64decode(token.encode()).decode(), "page_token")
    except (ValueError, InvalidInput):
        raise InvalidInput("BAD_PAGE_TOKEN", "The page token is not one of ours.") from None
