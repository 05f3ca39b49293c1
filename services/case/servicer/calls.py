"""What do all servicers of `case` do with a call?"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import ROLE_DEVICE, ROLE_SUBSCRIBER
from services.case.domain.guidance import Guidance
from services.case.domain.rules import Rules
from services.case.handlers.counting import Counting
from services.case.handlers.exporting import Exporting
from services.case.handlers.watching import Watching
from services.case.ports import Captures, Unit, Units, Who
from services.chassis.errors import InvalidInput
from services.chassis.tokens import current_actor

E = TypeVar("E", bound=IntEnum)
PAGE_SIZE = 50
PAGE_SIZE_AT_MOST = 200


@dataclass(frozen=True)
class Needs:
    """What the servicers need."""

    units: Units
    rules: Rules
    now: Callable[[], datetime]
    captures: Captures
    reference: Callable[[str], str]
    """Opaque reference of an actor."""
    watching: Watching
    guidance: Guidance
    exporting: Exporting
    counting: Counting

    def who(self) -> Who:
        """The caller, as records show it."""
        actor = current_actor()
        return Who(actor.role, self.reference(actor.subject), actor.purpose)


def owner() -> str:
    """The subscriber whose things alone the caller may see; empty for staff and services."""
    actor = current_actor()
    return actor.subject if actor.role in (ROLE_SUBSCRIBER, ROLE_DEVICE) else ""


async def once(unit: Unit, method: str, request: Any, work: Callable[[], Awaitable[str]]) -> str:
    """Does the work unless this very request was done before. Returns the resource's id."""
    message: Message = request
    done = await unit.recall(method, request.request_id, message)
    if done is not None:
        return done
    resource_id = await work()
    await unit.remember(method, request.request_id, message, resource_id)
    return resource_id


def number(kind: type[E], value: int, field: str, *, required: bool = True) -> E:
    """A value of an enum. Raises InvalidInput for one that is unknown, or missing where it is required."""
    if required and value == 0:
        raise InvalidInput("FIELD_MISSING", "A required field is missing.", violations=[(field, "FIELD_MISSING")])
    try:
        return kind(value)
    except ValueError:
        violation = (field, "ENUM_UNKNOWN")
        raise InvalidInput(violation[1], "A field has an unknown value.", violations=[violation]) from None


def page_size(asked: int) -> int:
    """Rows of a page: 50 for 0, at most 200. Raises InvalidInput for less than 0."""
    if asked < 0:
        violation = ("page_size", "PAGE_SIZE_NEGATIVE")
        raise InvalidInput(violation[1], "A page has rows.", violations=[violation])
    return min(asked or PAGE_SIZE, PAGE_SIZE_AT_MOST)


def token_of(moment: datetime, row_id: str) -> str:
    """A page token: where the page ended."""
    return base64.urlsafe_b64encode(f"{moment.isoformat()} {row_id}".encode()).decode()


def position_of(token: str) -> tuple[datetime, str] | None:
    """Where the page before ended; None for the first. Raises InvalidInput BAD_PAGE_TOKEN."""
    if not token:
        return None
    try:
        moment, row_id = decoded(token).split(" ")
        if len(row_id) != 36 or not row_id.isprintable():
            raise ValueError("not an id")
        return datetime.fromisoformat(moment).astimezone(UTC), row_id
    except (ValueError, OverflowError):
        raise bad_token() from None


def token_of_number(last: int) -> str:
    """A page token of a list that is numbered."""
    return base64.urlsafe_b64encode(str(last).encode()).decode()


def number_of(token: str) -> int:
    """Number of the last row of the page before; 0 for the first. Raises InvalidInput BAD_PAGE_TOKEN."""
    if not token:
        return 0
    try:
        last = int(decoded(token))
    except ValueError:
        raise bad_token() from None
    if not 0 < last < 2**62:
        raise bad_token()
    return last


def decoded(token: str) -> str:
    """What a page token says. Raises ValueError for one that is not ours."""
    if len(token) > 256:
        raise ValueError("too long")
    try:
        return base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not one of ours") from error


def bad_token() -> InvalidInput:
    """The refusal of a page token."""
    violation = ("page_token", "BAD_PAGE_TOKEN")
    return InvalidInput(violation[1], "The page token is not one of ours.", violations=[violation])
