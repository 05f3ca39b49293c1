"""What does a call ask of a list of cases: which, in which order, from where on?"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from misuse.case.v1 import case_service_pb2 as pb
from services.case.domain.cases import Case
from services.case.domain.words import CaseKind, CaseState, Priority
from services.case.ports import CaseFilter, CaseOrder, CasePlace
from services.case.servicer.calls import bad_token, decoded, number
from services.case.translate import moment_of
from services.chassis.errors import InvalidInput
from services.chassis.ids import parse_uuid

_ORDERS = {
    pb.CASE_ORDER_UNSPECIFIED: CaseOrder.NEWEST,
    pb.CASE_ORDER_NEWEST: CaseOrder.NEWEST,
    pb.CASE_ORDER_DEADLINE: CaseOrder.DEADLINE,
    pb.CASE_ORDER_PRIORITY: CaseOrder.PRIORITY,
}
_GROUP_CHARACTERS = 64


def filter_of(request: pb.ListCasesRequest, words: frozenset[str] | None) -> CaseFilter:
    """Which cases are asked for; `words` are those of the text. Raises InvalidInput."""
    if len(request.channel_group) > _GROUP_CHARACTERS or not request.channel_group.isprintable():
        raise _wrong("channel_group", "CHANNEL_GROUP_MALFORMED", "A channel group is a short name.")
    return CaseFilter(
        subscriber_id=parse_uuid(request.subscriber_id, "subscriber_id") if request.subscriber_id else "",
        states=tuple(number(CaseState, state, "states") for state in dict.fromkeys(request.states)),
        kind=number(CaseKind, request.kind, "kind") if request.kind else None,
        decision_id=parse_uuid(request.decision_id, "decision_id") if request.decision_id else "",
        channel_group=request.channel_group,
        priorities=tuple(number(Priority, level, "priorities") for level in dict.fromkeys(request.priorities)),
        create_from=_moment(request, "create_from"),
        create_until=_moment(request, "create_until"),
        deadline_before=_moment(request, "deadline_before"),
        words=words,
    )


def order_of(request: pb.ListCasesRequest) -> CaseOrder:
    """The order asked for. Raises InvalidInput ENUM_UNKNOWN."""
    order = _ORDERS.get(request.order)
    if order is None:
        raise _wrong("order", "ENUM_UNKNOWN", "A field has an unknown value.")
    return order


def token_of_place(order: CaseOrder, last: Case) -> str:
    """A page token: the order and the place at which the page ended."""
    time = last.deadline_time if order is CaseOrder.DEADLINE else last.create_time
    assert time is not None  # cases without a deadline are not in that order
    words = f"{order} {last.priority.value} {time.isoformat()} {last.case_id}"
    return base64.urlsafe_b64encode(words.encode()).decode()


def place_of(order: CaseOrder, token: str) -> CasePlace | None:
    """Where the page before ended; None for the first. Raises InvalidInput BAD_PAGE_TOKEN, also for a token of
    another order."""
    if not token:
        return None
    try:
        word, priority, time, case_id = decoded(token).split(" ")
        if word != order or len(case_id) != 36 or not case_id.isprintable():
            raise bad_token()
        return CasePlace(datetime.fromisoformat(time).astimezone(UTC), case_id, Priority(int(priority)))
    except (ValueError, OverflowError):
        raise bad_token() from None


def _moment(request: pb.ListCasesRequest, field: str) -> datetime | None:
    try:
        return moment_of(getattr(request, field)) if request.HasField(field) else None  # type: ignore[arg-type] # a name
    except (ValueError, OverflowError):
        raise _wrong(field, "TIME_OUT_OF_RANGE", "A time is beyond what a calendar holds.") from None


def _wrong(field: str, reason: str, message: str) -> InvalidInput:
    return InvalidInput(reason, message, violations=[(field, reason)])
