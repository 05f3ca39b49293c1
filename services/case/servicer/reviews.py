"""How does ReviewService reach its use cases?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from misuse.case.v1 import review_service_pb2 as pb
from misuse.case.v1 import review_service_pb2_grpc
from misuse.common.v1.access_pb2 import ROLE_REVIEWER
from misuse.detector.v1.signal_service_pb2 import Capture
from services.case.domain.words import Label
from services.case.handlers import review
from services.case.ports import ReviewItem, ReviewQueue
from services.case.servicer.calls import Needs, number, once, page_size, position_of, token_of
from services.chassis.errors import InvalidInput, NotFound
from services.chassis.ids import parse_uuid

ITEMS_AT_MOST = 20


class ReviewServicer(review_service_pb2_grpc.ReviewServiceServicer):
    """See the contract."""

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
        return pb.LeaseReviewItemsResponse(items=await self._shown(items))

    async def GetReviewItem(self, request: pb.GetReviewItemRequest, context: Any) -> Any:
        """See the contract."""
        item_id = parse_uuid(request.review_item_id, "review_item_id")
        async with self._needs.units() as unit:
            item = await review.look(unit, item_id, self._needs.now(), self._needs.who())
        shown = await self._shown([item])
        if not shown:
            raise NotFound("REVIEW_ITEM_UNKNOWN", "There is nothing to show of the item any more.")
        return pb.GetReviewItemResponse(item=shown[0])

    async def SubmitLabel(self, request: pb.SubmitLabelRequest, context: Any) -> Any:
        """See the contract."""
        item_id = parse_uuid(request.review_item_id, "review_item_id")
        said = number(Label, request.label, "label")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await review.label(unit, item_id, said, self._needs.rules, now, who)

            return pb.SubmitLabelResponse(case_id=await once(unit, "SubmitLabel", request, work))

    async def ListDisagreements(self, request: pb.ListDisagreementsRequest, context: Any) -> Any:
        """See the contract."""
        size, after = page_size(request.page_size), position_of(request.page_token)
        who = self._needs.who()
        async with self._needs.units() as unit:
            items = await unit.reviews.disputed(size, after, who.ref if who.role == ROLE_REVIEWER else "")
        token = token_of(items[-1].create_time, items[-1].review_item_id) if len(items) == size else ""
        return pb.ListDisagreementsResponse(items=[self._message(item, b"") for item in items], next_page_token=token)

    async def GetReviewQueue(self, request: pb.GetReviewQueueRequest, context: Any) -> Any:
        """See the contract."""
        async with self._needs.units() as unit:
            queues = await unit.reviews.queues(self._needs.now())
        return pb.GetReviewQueueResponse(queues=[_queue(queue) for queue in queues])

    async def AdjudicateLabel(self, request: pb.AdjudicateLabelRequest, context: Any) -> Any:
        """See the contract."""
        item_id = parse_uuid(request.review_item_id, "review_item_id")
        said = number(Label, request.label, "label")
        async with self._needs.units() as unit:

            async def work() -> str:
                now, who = self._needs.now(), self._needs.who()
                return await review.adjudicate(unit, item_id, said, self._needs.rules, now, who)

            return pb.AdjudicateLabelResponse(case_id=await once(unit, "AdjudicateLabel", request, work))

    async def _shown(self, items: Sequence[ReviewItem]) -> list[pb.ReviewItem]:
        """Items with what there is to see."""
        now, who = self._needs.now(), self._needs.who()
        shown = await review.show(self._needs.units, self._needs.captures, items, now, who)
        return [self._message(item, shown[item.review_item_id]) for item in items if item.review_item_id in shown]

    def _message(self, item: ReviewItem, content: bytes) -> pb.ReviewItem:
        capture = Capture.FromString(content)
        message = pb.ReviewItem(
            review_item_id=item.review_item_id,
            decision_id=item.decision_id,
            candidate_crop=capture.candidate_crop,
            template_crop=capture.template_crop,
            masked_text=capture.masked_text,
            redacted_thumbnail=capture.redacted_thumbnail,
            policy_version=self._needs.rules.labelling_policy,
        )
        message.create_time.FromDatetime(item.create_time)
        if item.lease_expire_time is not None:
            message.lease_expire_time.FromDatetime(item.lease_expire_time)
        return message


def _queue(queue: ReviewQueue) -> pb.ReviewQueue:
    message = pb.ReviewQueue(
        name="SAMPLES" if queue.of_samples else "BAND",
        waiting=queue.waiting,
        leased=queue.leased,
        disputed=queue.disputed,
        overdue=queue.overdue,
        most_escalations=queue.most_escalations,
    )
    if queue.first_due_time is not None:
        message.first_due_time.FromDatetime(queue.first_due_time)
    return message
