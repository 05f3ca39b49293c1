"""How calls to notify are translated. Decides nothing."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.notify.v1 import notify_service_pb2_grpc
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid
from services.chassis.tokens import current_actor
from services.notify.domain import contact as contact_rules
from services.notify.domain.delivery import ALTERNATIVES, Delivery, Path
from services.notify.domain.notices import LANGUAGES, Preferences, Subject
from services.notify.domain.quiet import DEFAULT_ZONE
from services.notify.handlers.account import Account
from services.notify.handlers.acknowledging import Acknowledging
from services.notify.handlers.contacts import Contacts
from services.notify.handlers.streaming import Streaming, Told
from services.notify.ports import Contact, Device, InboxItem, Texts

MAX_IDS = 500
MAX_PUSH_TOKEN = 4096
_DEVICE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SYSTEMS = frozenset({"android", "ios", "web"})
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]{0,63}")
_LOCALE = re.compile(r"([A-Za-z]{2,3})([-_][A-Za-z0-9]{1,8}){0,4}")
PUBLIC_KEY_BYTES = 32


class NotifyServicer(notify_service_pb2_grpc.NotifyServiceServicer):
    """NotifyService."""

    def __init__(
        self, account: Account, contacts: Contacts, streaming: Streaming, acknowledging: Acknowledging, texts: Texts
    ) -> None:
        self._account = account
        self._contacts = contacts
        self._streaming = streaming
        self._acknowledging = acknowledging
        self._texts = texts

    async def RegisterDevice(
        self, request: pb.RegisterDeviceRequest, context: Any
    ) -> pb.RegisterDeviceResponse:
        """See the contract."""
        _check(request.os in _SYSTEMS, "os", "OS_UNKNOWN")
        _check(len(request.push_token) <= MAX_PUSH_TOKEN, "push_token", "TOO_LONG")
        _check(len(request.public_key) in (0, PUBLIC_KEY_BYTES), "public_key", "PUBLIC_KEY_MALFORMED")
        device = await self._account.register_device(
            _subscriber(request), _device_id(request.device_id), request.os, request.push_token,
            time_zone=_zone(request.time_zone), locale=_locale(request.locale), public_key=request.public_key,
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
                digest_minutes=stored.digest_minutes,
                paths=[_path(Path(name)) for name in stored.paths],
            )
        )

    async def StreamNotifications(
        self, request: pb.StreamNotificationsRequest, context: Any
    ) -> AsyncIterator[pb.StreamNotificationsResponse]:
        """See the contract."""
        device_id = current_actor().device_id
        stream = self._streaming.stream(_subscriber(request), device_id, with_badge=request.with_badge)
        async with aclosing(stream):
            async for item in stream:
                if isinstance(item, Told):
                    yield pb.StreamNotificationsResponse(notification=self._shown(item))
                else:
                    yield pb.StreamNotificationsResponse(unread=item)

    async def AcknowledgeNotifications(
        self, request: pb.AcknowledgeNotificationsRequest, context: Any
    ) -> pb.AcknowledgeNotificationsResponse:
        """See the contract."""
        number = len(request.notification_ids) + len(request.delivered_ids)
        _check(1 <= number <= MAX_IDS, "notification_ids", "OUT_OF_BOUNDS")
        shown = [parse_uuid(value, "notification_ids") for value in request.notification_ids]
        arrived = [parse_uuid(value, "delivered_ids") for value in request.delivered_ids]
        device_id = current_actor().device_id
        done = await self._acknowledging.acknowledge(_subscriber(request), device_id, shown, arrived)
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
        counts = await self._account.counts()
        by_state = counts.by_state
        return pb.GetDeliveryStatsResponse(
            queued=sum(by_state.values()),
            sent=counts.sent,
            acknowledged=counts.acknowledged,
            undeliverable=by_state.get(Delivery.UNDELIVERABLE, 0),
            superseded=by_state.get(Delivery.SUPERSEDED, 0),
            delivered=by_state.get(Delivery.DELIVERED, 0),
            expired=by_state.get(Delivery.EXPIRED, 0),
            invalid_tokens=counts.refused_tokens,
        )

    async def ChangeContact(self, request: pb.ChangeContactRequest, context: Any) -> pb.ChangeContactResponse:
        """See the contract."""
        path = _way(request.path)
        value = contact_rules.normalised(path, request.value) if request.value else ""
        if value is None:
            raise InvalidInput(
                "CONTACT_MALFORMED", "This is no contact.", violations=[("value", "CONTACT_MALFORMED")]
            )
        contact = await self._contacts.change(_subscriber(request), path, value)
        return pb.ChangeContactResponse(contact=None if contact is None else _contact(contact))

    async def CancelContactChange(
        self, request: pb.CancelContactChangeRequest, context: Any
    ) -> pb.CancelContactChangeResponse:
        """See the contract."""
        await self._contacts.cancel(_subscriber(request), _way(request.path))
        return pb.CancelContactChangeResponse()

    async def ListContacts(self, request: pb.ListContactsRequest, context: Any) -> pb.ListContactsResponse:
        """See the contract."""
        found = await self._contacts.listed(_subscriber(request))
        return pb.ListContactsResponse(contacts=[_contact(each) for each in found.values() if each.value])

    def _shown(self, told: Told) -> pb.Notification:
        notification = told.notification
        title, body = self._texts.for_lock_screen(notification.subject, told.language, discreet=told.discreet)
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
    _check(0 <= wanted.digest_minutes <= 1440, "preferences.digest_minutes", "OUT_OF_BOUNDS")
    _check(len(wanted.paths) <= 3, "preferences.paths", "TOO_MANY")
    paths = tuple(dict.fromkeys(_PATHS.get(each, "") for each in wanted.paths))
    _check(set(paths) <= {Path.PUSH, *ALTERNATIVES}, "preferences.paths", "PATH_UNKNOWN")
    return Preferences(language, wanted.discreet, start, end, wanted.digest_minutes, paths)


_PATHS: Mapping[int, str] = {pb.NoticePath.Value(f"NOTICE_PATH_{path}"): str(path) for path in Path}


def _path(path: Path) -> pb.NoticePath.ValueType:
    return pb.NoticePath.Value(f"NOTICE_PATH_{path}")


def _way(value: int) -> Path:
    """A way that takes a contact."""
    name = _PATHS.get(value, "")
    _check(name in ALTERNATIVES, "path", "PATH_UNKNOWN")
    return Path(name)


def _zone(name: str) -> str:
    if not name:
        return DEFAULT_ZONE
    try:
        fine = bool(_ZONE.fullmatch(name)) and bool(ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        fine = False
    _check(fine, "time_zone", "TIME_ZONE_UNKNOWN")
    return name


def _locale(tag: str) -> str:
    """The language of a tag in which notices are written; empty where they are not."""
    if not tag:
        return ""
    match = _LOCALE.fullmatch(tag) if len(tag) <= 35 else None
    _check(match is not None, "locale", "LOCALE_MALFORMED")
    language = match[1].lower() if match else ""
    return language if language in LANGUAGES else ""


def _contact(contact: Contact) -> pb.Contact:
    changes = contact.change_time
    return pb.Contact(
        path=_path(contact.path),
        masked=contact_rules.masked(contact.path, contact.value),
        change_time=None if changes is None else _stamp(changes),
    )


def _device(device: Device) -> pb.Device:
    return pb.Device(
        device_id=device.device_id,
        os=device.os,
        create_time=_stamp(device.create_time),
        last_seen_time=None if device.last_seen_time is None else _stamp(device.last_seen_time),
        time_zone=device.time_zone,
        locale=device.locale,
        pushable=device.pushable,
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
