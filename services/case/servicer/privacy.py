"""How does PrivacyService reach its use cases?"""

from __future__ import annotations

from typing import Any

from misuse.case.v1 import privacy_service_pb2 as pb
from misuse.case.v1 import privacy_service_pb2_grpc
from misuse.common.v1.access_pb2 import ROLE_AUDITOR, ROLE_PRIVACY_OFFICER
from services.case.access_page import access_page, as_json
from services.case.domain.access import AccessEntry
from services.case.domain.erasure import Erasure
from services.case.handlers.access import AccessKeeping
from services.case.handlers.erasing import Erasing
from services.case.handlers.purging import Purging
from services.case.handlers.rights import Rights
from services.case.records import stamp
from services.case.servicer.calls import Needs, once, page_size, position_of, token_of
from services.case.servicer.purges import PurgeCalls
from services.case.servicer.rights import RightsCalls
from services.chassis.errors import NotFound
from services.chassis.ids import parse_uuid
from services.chassis.tokens import current_actor


class PrivacyServicer(RightsCalls, PurgeCalls, privacy_service_pb2_grpc.PrivacyServiceServicer):
    """See the contract."""

    def __init__(
        self, needs: Needs, erasing: Erasing, access: AccessKeeping, rights: Rights, purging: Purging
    ) -> None:
        self._needs = needs
        self._erasing = erasing
        self._access = access
        self._rights = rights
        self._purging = purging

    async def EraseSubscriber(self, request: pb.EraseSubscriberRequest, context: Any) -> Any:
        """See the contract."""
        subscriber_id = parse_uuid(request.subscriber_id, "subscriber_id")
        async with self._needs.units() as unit:

            async def work() -> str:
                return (await self._erasing.request(unit, subscriber_id, self._needs.who())).erasure_id

            erasure = await unit.erasures.get(await once(unit, "EraseSubscriber", request, work))
        if erasure is None:
            raise NotFound("ERASURE_UNKNOWN", "There is no such erasure.")
        return pb.EraseSubscriberResponse(due_time=stamp(erasure.due_time), erasure_id=erasure.erasure_id)

    async def ListErasures(self, request: pb.ListErasuresRequest, context: Any) -> Any:
        """See the contract."""
        size = page_size(request.page_size)
        async with self._needs.units() as unit:
            found = await unit.erasures.page(size, position_of(request.page_token))
        token = token_of(found[-1].request_time, found[-1].erasure_id) if len(found) == size else ""
        return pb.ListErasuresResponse(erasures=[self._shown(erasure) for erasure in found], next_page_token=token)

    async def ListAccessLog(self, request: pb.ListAccessLogRequest, context: Any) -> Any:
        """See the contract."""
        staff = current_actor().role in (ROLE_PRIVACY_OFFICER, ROLE_AUDITOR)
        asked = request.subscriber_id
        subscriber_id = "" if staff and not asked else parse_uuid(asked, "subscriber_id")
        size, before = page_size(request.page_size), position_of(request.page_token)
        async with self._needs.units() as unit:
            found = await unit.access.page(subscriber_id, size, before)
        token = token_of(found[-1].occur_time, found[-1].entry_id) if len(found) == size else ""
        entries = [_access_entry(entry, staff=staff) for entry in found]
        return pb.ListAccessLogResponse(entries=entries, next_page_token=token)

    async def ReportAccess(self, request: pb.ReportAccessRequest, context: Any) -> Any:
        """See the contract."""
        report = await self._access.report(request.month)
        html = request.format == pb.ACCESS_REPORT_FORMAT_HTML
        return pb.ReportAccessResponse(document=access_page(report) if html else as_json(report))

    def _shown(self, erasure: Erasure) -> pb.Erasure:
        now = self._needs.now()
        return pb.Erasure(
            erasure_id=erasure.erasure_id,
            request_time=stamp(erasure.request_time),
            due_time=stamp(erasure.due_time),
            complete_time=stamp(erasure.complete_time) if erasure.complete_time else None,
            waiting_for=sorted(erasure.missing(now)),
            overdue=erasure.overdue(now),
            round=erasure.round,
        )


def _access_entry(entry: AccessEntry, *, staff: bool) -> pb.AccessEntry:
    """A reading as its reader may be told of it: staff ids are for those who review, others see an opaque reference."""
    return pb.AccessEntry(
        occur_time=stamp(entry.occur_time),
        role=entry.role,  # type: ignore[arg-type] # stored from the contract's own number
        purpose=entry.purpose,  # type: ignore[arg-type] # as role
        method=entry.method,
        actor_ref=entry.actor_ref,
        classes=entry.classes,  # type: ignore[arg-type] # as role
        field=entry.field,
        id=entry.thing_id,
        origin=entry.origin,
        reason=entry.reason,
        actor=entry.actor if staff else "",
    )
