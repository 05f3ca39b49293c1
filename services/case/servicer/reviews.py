"""How does ReviewService reach its use cases?"""

from __future__ import annotations

from typing import Any

from misuse.case.v1 import review_service_pb2 as pb
from misuse.case.v1 import review_service_pb2_grpc
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.words import Label
from services.case.handlers import review
from services.case.ports import ReviewItem
from services.case.servicer.calls import Needs, number, once
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid

ITEMS_AT_MOST = 20


class ReviewServicer(review_service_pb2_grpc.ReviewServiceServicer):
    """See the contract. ListDisagreements and AdjudicateLabel are not built yet."""

    def __init__(self, needs: Needs) -> None:
        self._needs = needs

    async def LeaseReviewItems(self, request: pb.LeaseReviewItemsRequest, context: Any) -> Any:
        """See the contract."""
        if not 1 <= request.max_items <= ITEMS_AT_MOST:
            violation = ("max_items", "MAX_ITEMS_OUT_OF_RANGE")
            raise InvalidInput(violation[1], "1 to 20 items are leased at once.", violations=[violation])
        now, who = self._needs.now(), self._needs.who()
        async with self._needs.units() as unit:
            items = await review.lease(unit, request.max_items, self._needs.rules, now, who)
        shown = await review.show(self._needs.units, self._needs.captures, items, now, who)
        return pb.LeaseReviewItemsResponse(
            items=[_message(item, shown.get(item.decision_id, b"")) for item in items]
        )

    async def SubmitLabel(self, request: pb.SubmitLabelRequest, context: Any) -> Any:
        """See the contract."""
        item_id = parse_uuid(request.review_item_id, "review_item_id")
        said = number(Label, request.label, "label")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await review.label(unit, item_id, said, self._needs.rules, now, who)

            return pb.SubmitLabelResponse(case_id=await once(unit, "SubmitLabel", request, work))


def _message(item: ReviewItem, content: bytes) -> pb.ReviewItem:
    capture = Capture.FromString(content)
    message = pb.ReviewItem(
        review_item_id=item.review_item_id,
        decision_id=item.decision_id,
        candidate_crop=capture.candidate_crop,
        template_crop=capture.template_crop,
        masked_text=capture.masked_text,
    )
    message.create_time.FromDatetime(item.create_time)
    if item.lease_expire_time is not None:
        message.lease_expire_time.FromDatetime(item.lease_expire_time)
    return message
