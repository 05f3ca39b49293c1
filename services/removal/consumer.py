"""What of the case service's events concerns removal?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1 import events_pb2
from misuse.case.v1.case_pb2 import RESOLUTION_FALSE_POSITIVE, RESOLUTION_WITHDRAWN
from misuse.case.v1.subscriber_service_pb2 import CONSENT_SCOPE_REMOVAL, CONSENT_SCOPE_SERVICE
from services.chassis.bus import Event, Handler
from services.chassis.clock import Clock
from services.removal.handlers import following
from services.removal.ports import Sighting, Work

M = TypeVar("M", bound=Message)
Within = Callable[[AsyncSession], Work]
_ENDING = frozenset({RESOLUTION_FALSE_POSITIVE, RESOLUTION_WITHDRAWN})
_SCOPES = frozenset({CONSENT_SCOPE_REMOVAL, CONSENT_SCOPE_SERVICE})
"""Consent to removal stands on consent to the service."""


def case_handlers(within: Within, clock: Clock) -> Mapping[type[Message], Handler]:
    """What is done with each event of `case`; those of an erased subscriber are dropped."""

    def each(kind: type[M], apply: Callable[[Work, M, datetime], Awaitable[None]]) -> tuple[type[Message], Handler]:
        async def handler(session: AsyncSession, events: Sequence[Event]) -> None:
            work = within(session)
            for event in events:
                message: Any = event.message
                if kind is not events_pb2.SubscriberErasureRequested and work.erased(message.subscriber_id):
                    continue
                await apply(work, cast(M, event.message), clock.now())
            await work.finish()

        return kind, handler

    return dict(
        [
            each(events_pb2.EvidencePacked, _packed),
            each(events_pb2.CaseMerged, _merged),
            each(events_pb2.CaseUnmerged, _unmerged),
            each(events_pb2.CaseClosed, _closed),
            each(events_pb2.CaseReopened, _reopened),
            each(events_pb2.SubscriberRegistered, _registered),
            each(events_pb2.SubscriberSuspended, _suspended),
            each(events_pb2.SubscriberResumed, _resumed),
            each(events_pb2.ConsentRecorded, _consented),
            each(events_pb2.ConsentWithdrawn, _consent_withdrawn),
            each(events_pb2.SubscriberErasureRequested, _erase),
        ]
    )


async def _packed(work: Work, event: events_pb2.EvidencePacked, at: datetime) -> None:
    sightings = [
        Sighting(item.sighting_id, event.case_id, event.subscriber_id, item.platform, event.version)
        for item in event.sightings
        if item.platform
    ]
    await following.packed(work, event.subscriber_id, sightings, consent=event.removal_consent, at=at)


async def _merged(work: Work, event: events_pb2.CaseMerged, at: datetime) -> None:
    await work.merge_cases(event.root_case_id, event.merged_case_id)


async def _unmerged(work: Work, event: events_pb2.CaseUnmerged, at: datetime) -> None:
    await work.unmerge_case(event.root_case_id, event.case_id)


async def _closed(work: Work, event: events_pb2.CaseClosed, at: datetime) -> None:
    if event.resolution in _ENDING:
        await following.case_closed(work, event.case_id, at)


async def _reopened(work: Work, event: events_pb2.CaseReopened, at: datetime) -> None:
    await following.case_reopened(work, event.case_id, at)


async def _registered(work: Work, event: events_pb2.SubscriberRegistered, at: datetime) -> None:
    await following.registered(work, event.subscriber_id, event.language or "ko")


async def _suspended(work: Work, event: events_pb2.SubscriberSuspended, at: datetime) -> None:
    await following.suspended(work, event.subscriber_id)


async def _resumed(work: Work, event: events_pb2.SubscriberResumed, at: datetime) -> None:
    await following.resumed(work, event.subscriber_id, at)


async def _consented(work: Work, event: events_pb2.ConsentRecorded, at: datetime) -> None:
    if event.scope == CONSENT_SCOPE_REMOVAL:
        await following.consented(work, event.subscriber_id, at)


async def _consent_withdrawn(work: Work, event: events_pb2.ConsentWithdrawn, at: datetime) -> None:
    if event.scope in _SCOPES:
        await following.consent_withdrawn(work, event.subscriber_id, at)


async def _erase(work: Work, event: events_pb2.SubscriberErasureRequested, at: datetime) -> None:
    await following.erased(work, event.subscriber_id, event.round, at)
