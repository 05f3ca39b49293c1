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
from services.notify.domain import Notice
from services.notify.ports import Device, Notification


class OutboxJournal:
    """Writes into one session. See ports.Journal."""

    def __init__(self, session: AsyncSession, outbox: Outbox, clock: Clock, pepper: bytes) -> None:
        self._session = session
        self._outbox = outbox
        self._clock = clock
        self._pepper = pepper

    def handed_over(self, notification: Notification, device: Device) -> None:
        """See Journal."""
        if notification.attempt > 1:
            self._record(notification, device, "RESENT")
            return
        self._record(notification, device, "HANDED_OVER")
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
        self._record(notification, device, "ACKNOWLEDGED", latency_ms)
        self._event(
            notification,
            events_pb2.NotificationAcknowledged(
                notification_id=notification.notification_id,
                case_id=notification.case_id,
                subscriber_id=notification.subscriber_id,
                occur_time=_stamp(at),
            ),
        )

    def undeliverable(self, notification: Notification, device: Device, reason: str) -> None:
        """See Journal."""
        self._record(notification, device, "UNDELIVERABLE")
        self._event(
            notification,
            events_pb2.NotificationUndeliverable(
                notification_id=notification.notification_id,
                case_id=notification.case_id,
                subscriber_id=notification.subscriber_id,
                reason=reason,
            ),
        )

    def noted(self, notification: Notification, device: Device, action: str) -> None:
        """See Journal."""
        self._record(notification, device, action)

    def no_live_device(self, case_id: str, notice: Notice) -> None:
        """See Journal."""
        body = NotificationDeliveryLog(action="NO_LIVE_DEVICE", subject=notice.subject)
        self._write(notice.subscriber_id, case_id, "", 0, body)

    def registered(self, device: Device) -> None:
        """See Journal."""
        event = events_pb2.DeviceRegistered(
            subscriber_id=device.subscriber_id,
            device_hash=hashlib.sha256(f"{device.subscriber_id}\0{device.device_id}".encode()).digest(),
            occur_time=_stamp(self._clock.now()),
        )
        self._outbox.event(self._session, device.subscriber_id, event)

    def erased(self, subscriber_id: str) -> None:
        """See Journal."""
        event = events_pb2.ErasureCompleted(subscriber_id=subscriber_id)
        self._outbox.event(self._session, subscriber_id, event)

    def _event(self, notification: Notification, message: events_pb2.NotificationHandedOver
               | events_pb2.NotificationAcknowledged | events_pb2.NotificationUndeliverable) -> None:
        self._outbox.event(self._session, notification.subscriber_id, message)

    def _record(self, notification: Notification, device: Device, action: str, latency_ms: int = 0) -> None:
        reference = keyed_hash(self._pepper, "device", device.device_key).hex()[:16]
        body = NotificationDeliveryLog(
            notification_id=notification.notification_id,
            device_ref=reference,
            action=action,
            attempt=max(notification.attempt, 1),
            subject=notification.subject,
            latency_ms=latency_ms,
            device_class=device.os,
        )
        self._write(
            notification.subscriber_id, notification.case_id, notification.notification_id,
            notification.attempt, body,
        )

    def _write(
        self, key: str, case_id: str, entity_id: str, version: int, body: NotificationDeliveryLog
    ) -> None:
        self._outbox.record(
            self._session,
            key,
            LogRecord(
                case_ids=[case_id],
                entity="notification",
                entity_id=entity_id,
                entity_version=version,
                purpose=PURPOSE_NOTIFICATION,
                occur_time=_stamp(self._clock.now()),
                notification_delivery_log=body,
            ),
        )


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
