"""How notify's events and log records come into the outbox."""

from __future__ import annotations

import hashlib
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import PURPOSE_NOTIFICATION
from misuse.log.v1.record_pb2 import LogRecord, NotificationDeliveryLog
from misuse.notify.v1 import events_pb2
from services.chassis.clock import Clock
from services.chassis.keys import keyed_hash
from services.chassis.outbox import Outbox
from services.chassis.telemetry import inject_traceparent
from services.notify.domain.delivery import Delivery, Path
from services.notify.domain.notices import Notice
from services.notify.metrics import ACK_SECONDS, NOTICES
from services.notify.ports import Device, FallBack, Notification


class OutboxJournal:
    """Writes into one session. See ports.Journal."""

    def __init__(self, session: AsyncSession, outbox: Outbox, clock: Clock, pepper: bytes) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock
        self._pepper = pepper
        # The same for all that one transaction writes, and a transaction writes thousands.
        self._trace = inject_traceparent()
        self._references: dict[tuple[str, str], str] = {}

    def handed_over(self, notification: Notification, device: Device, path: Path, *, first: bool) -> None:
        """See Journal."""
        if not first:
            self._record(notification, device, "RESENT", path=path)
            return
        NOTICES.add("handed_over", device.os)
        self._record(notification, device, "HANDED_OVER", path=path)
        self._event(
            notification,
            events_pb2.NotificationHandedOver(
                notification_id=notification.notification_id,
                case_id=notification.case_id,
                subscriber_id=notification.subscriber_id,
                occur_time=_stamp(notification.first_sent_time or self._clock.now()),
            ),
        )

    def acknowledged(self, notification: Notification, device: Device, at: datetime) -> None:
        """See Journal."""
        sent = notification.first_sent_time or at
        latency_ms = max(0, round((at - sent).total_seconds() * 1000))
        NOTICES.add("acknowledged", device.os)
        ACK_SECONDS.observe(latency_ms / 1000)
        self._record(notification, device, "ACKNOWLEDGED", latency_ms=latency_ms, path=notification.path)
        self._event(
            notification,
            events_pb2.NotificationAcknowledged(
                notification_id=notification.notification_id,
                case_id=notification.case_id,
                subscriber_id=notification.subscriber_id,
                occur_time=_stamp(at),
            ),
        )

    def given_up(self, notification: Notification, device: Device, delivery: Delivery, reason: str) -> None:
        """See Journal."""
        NOTICES.add(delivery.lower(), device.os)
        self._record(notification, device, delivery, reason=reason, path=notification.path)
        self._event(
            notification,
            events_pb2.NotificationUndeliverable(
                notification_id=notification.notification_id,
                case_id=notification.case_id,
                subscriber_id=notification.subscriber_id,
                reason=reason,
            ),
        )

    def noted(self, notification: Notification, device: Device, action: str, reason: str = "", path: str = "") -> None:
        """See Journal."""
        self._record(notification, device, action, reason=reason, path=path)

    def not_notified(self, case_id: str, notice: Notice, action: str) -> None:
        """See Journal."""
        body = NotificationDeliveryLog(action=action, subject=notice.subject, path=Path.INBOX)
        self._write(notice.subscriber_id, case_id, "", 0, body)

    def fell_back(self, fall_back: FallBack, action: str, path: str, reason: str = "") -> None:
        """See Journal. The contact's reference is one per person and way, and says nothing about either."""
        reference = self._reference("contact", f"{fall_back.subscriber_id}/{path}")
        body = NotificationDeliveryLog(
            notification_id=fall_back.fall_back_id,
            device_ref=reference,
            action=action,
            attempt=max(fall_back.tries, 1),
            subject=fall_back.subject,
            path=path,
            reason=reason,
        )
        self._write(fall_back.subscriber_id, fall_back.case_id, fall_back.fall_back_id, fall_back.tries, body)

    def registered(self, device: Device) -> None:
        """See Journal."""
        event = events_pb2.DeviceRegistered(
            subscriber_id=device.subscriber_id,
            device_hash=hashlib.sha256(f"{device.subscriber_id}\0{device.device_id}".encode()).digest(),
            occur_time=_stamp(self._clock.now()),
        )
        self._outbox.event(self._session, device.subscriber_id, event)

    def erased(self, subscriber_id: str, asked: int) -> None:
        """See Journal."""
        event = events_pb2.ErasureCompleted(subscriber_id=subscriber_id, round=asked)
        self._outbox.event(self._session, subscriber_id, event)

    def _event(self, notification: Notification, message: events_pb2.NotificationHandedOver
               | events_pb2.NotificationAcknowledged | events_pb2.NotificationUndeliverable) -> None:
        self._outbox.event(self._session, notification.subscriber_id, message, traceparent=self._trace)

    def _record(
        self, notification: Notification, device: Device, action: str, *,
        latency_ms: int = 0, path: str = "", reason: str = "",
    ) -> None:
        body = NotificationDeliveryLog(
            notification_id=notification.notification_id,
            device_ref=self._reference("device", device.device_key),
            action=action,
            attempt=max(notification.attempt, 1),
            subject=notification.subject,
            latency_ms=latency_ms,
            device_class=device.os,
            path=path,
            reason=reason,
        )
        self._write(
            notification.subscriber_id, notification.case_id, notification.notification_id,
            notification.attempt, body,
        )

    def _reference(self, kind: str, name: str) -> str:
        """An opaque name, the same for ever."""
        known = self._references.get((kind, name))
        if known is None:
            known = self._references[kind, name] = keyed_hash(self._pepper, kind, name).hex()[:16]
        return known

    def _write(
        self, key: str, case_id: str, entity_id: str, version: int, body: NotificationDeliveryLog
    ) -> None:
        self._outbox.record(
            self._session,
            key,
            LogRecord(
                case_ids=[case_id] if case_id else [],
                entity="notification",
                entity_id=entity_id,
                entity_version=version,
                purpose=PURPOSE_NOTIFICATION,
                occur_time=_stamp(self._clock.now()),
                notification_delivery_log=body,
            ),
            traceparent=self._trace,
        )


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
