"""How does SubscriberService reach its use cases?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from misuse.case.v1 import subscriber_service_pb2 as pb
from misuse.case.v1 import subscriber_service_pb2_grpc
from services.case.domain.people import Profile, Subscriber
from services.case.handlers import subscribers
from services.case.handlers.subscribers import SubscriberAsked
from services.case.ports import Unit
from services.case.servicer.calls import Needs, once, page_size, position_of, token_of
from services.case.translate import consent_message, subscriber_message
from services.chassis.ids import parse_uuid
from services.chassis.together import Piece, Together


class SubscriberServicer(subscriber_service_pb2_grpc.SubscriberServiceServicer):
    """See the contract."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        # `removal` asks for many at the same time.
        self._reading: Together[SubscriberAsked] = Together()

    async def RegisterSubscriber(self, request: pb.RegisterSubscriberRequest, context: Any) -> Any:
        """See the contract."""
        profile = Profile(request.display_name, request.contact_email, request.guardian_name)
        async with self._needs.units() as unit:

            async def work() -> str:
                language = request.language or "ko"
                return await subscribers.register(
                    unit, profile, language, request.birth_year, self._needs.now(), self._needs.who()
                )

            subscriber_id = await once(unit, "RegisterSubscriber", request, work)
            return pb.RegisterSubscriberResponse(subscriber=await self._shown(unit, subscriber_id))

    async def GetSubscriber(self, request: pb.GetSubscriberRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        asked = SubscriberAsked(subscriber_id, "GetSubscriber", self._needs.who())
        found = await self._reading(asked, self._read)
        return pb.GetSubscriberResponse(subscriber=subscriber_message(*found))

    async def _read(
        self, pieces: Sequence[Piece[SubscriberAsked]], _alone: bool
    ) -> Sequence[tuple[Subscriber, Profile | None]]:
        async with self._needs.units() as unit:
            return await subscribers.read(unit, pieces, self._needs.now())

    async def SuspendSubscriber(self, request: pb.SuspendSubscriberRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:
            await subscribers.suspend(unit, subscriber_id, self._needs.now(), self._needs.who())
            return pb.SuspendSubscriberResponse(subscriber=await self._shown(unit, subscriber_id))

    async def ResumeSubscriber(self, request: pb.ResumeSubscriberRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:
            await subscribers.resume(unit, subscriber_id, self._needs.now(), self._needs.who())
            return pb.ResumeSubscriberResponse(subscriber=await self._shown(unit, subscriber_id))

    async def LeaveService(self, request: pb.LeaveServiceRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                await subscribers.leave(unit, subscriber_id, self._needs.now(), self._needs.who())
                return subscriber_id

            await once(unit, "LeaveService", request, work)
            return pb.LeaveServiceResponse(subscriber=await self._shown(unit, subscriber_id))

    async def RecordConsent(self, request: pb.RecordConsentRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                return await subscribers.give_consent(
                    unit,
                    subscriber_id,
                    request.scope,
                    request.text_version,
                    self._needs.now(),
                    self._needs.who(),
                )

            await once(unit, "RecordConsent", request, work)
            consent = await unit.subscribers.latest(subscriber_id, request.scope)
        return pb.RecordConsentResponse(consent=consent_message(consent) if consent else None)

    async def WithdrawConsent(self, request: pb.WithdrawConsentRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:
            consent = await subscribers.withdraw_consent(
                unit, subscriber_id, request.scope, self._needs.now(), self._needs.who()
            )
        return pb.WithdrawConsentResponse(consent=consent_message(consent) if consent else None)

    async def ListConsents(self, request: pb.ListConsentsRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        size = page_size(request.page_size)
        async with self._needs.units() as unit:
            found = await unit.subscribers.consents(subscriber_id, size, position_of(request.page_token))
        token = token_of(found[-1].give_time, found[-1].consent_id) if len(found) == size else ""
        return pb.ListConsentsResponse(
            consents=[consent_message(consent) for consent in found], next_page_token=token
        )

    async def _shown(self, unit: Unit, subscriber_id: str) -> pb.Subscriber:
        """The subscriber after a change, for whoever made it."""
        found = await unit.subscribers.whole([subscriber_id])
        if subscriber_id not in found:
            raise subscribers.unknown()
        return subscriber_message(*found[subscriber_id])
