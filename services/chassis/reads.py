"""Who read whose personal data?

Each method states in its proto what personal data its answer holds and which fields name whose it is. The guard
before every handler collects that from request and answer and has it noted before the answer leaves: an answer that
cannot be noted is not given. A method that states nothing is noted as well; a test refuses it.

Noted are readings by people and by what acts for them (staff, the app's back end). Those by the person whose data it
is are not: how often somebody looks at their own inbox is personal data that nobody needs. Nor are services that hand
data on to each other: each acts under a role of its own, and what it does with the data leaves records.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import (
    DATA_CLASS_NONE,
    ROLE_DEVICE,
    ROLE_SERVICE_CASE,
    ROLE_SERVICE_DETECTOR,
    ROLE_SERVICE_GATE,
    ROLE_SERVICE_NOTIFY,
    ROLE_SERVICE_REMOVAL,
    ROLE_SUBSCRIBER,
    AccessRule,
    DataClass,
)
from misuse.common.v1.reading_pb2 import PersonalDataRead, ReadOf
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.outbox import Outbox
from services.chassis.tokens import Actor

NAMED_AT_MOST = 200
"""Things that one reading names; more are counted."""
REASON_FIELD = "reason"

_NOT_NOTED = frozenset(
    {
        ROLE_SUBSCRIBER,
        ROLE_DEVICE,
        ROLE_SERVICE_DETECTOR,
        ROLE_SERVICE_CASE,
        ROLE_SERVICE_REMOVAL,
        ROLE_SERVICE_NOTIFY,
        ROLE_SERVICE_GATE,
    }
)
_DEPTH = 6
_ID = re.compile(r"[!-~]{1,64}")
_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,62}")

Thing = tuple[str, str]
"""(name of the field, id)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer, or the part of a stream since the last, as far as personal data is concerned."""

    method: str
    classes: tuple[DataClass.ValueType, ...]
    things: Sequence[Thing]
    origin: str
    reason: str


class Readings(Protocol):
    """Where readings are noted."""

    async def note(self, actor: Actor, reading: Reading) -> None:
        """Notes a reading durably. Raises what the store raises."""


class OutboxReadings:
    """Publishes readings as events of this service; whoever keeps the access log takes them from there."""

    def __init__(self, database: Database, outbox: Outbox, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._clock = clock

    async def note(self, actor: Actor, reading: Reading) -> None:
        """See Readings."""
        named = reading.things[:NAMED_AT_MOST]
        event = PersonalDataRead(
            reading_id=uuid7(),
            method=reading.method,
            classes=reading.classes,
            of=[ReadOf(field=name, id=value) for name, value in named],
            omitted=len(reading.things) - len(named),
            actor_role=actor.role,
            actor=actor.subject,
            purpose=actor.purpose,
            origin=reading.origin,
            reason=reading.reason,
        )
        event.occur_time.FromDatetime(self._clock.now())
        async with self._database.begin() as session:
            self._outbox.event(session, named[0][1] if named else reading.method, event)


class Watch:
    """What one call reads: notes each thing once, however many answers name it."""

    def __init__(self, readings: Readings, method: str, rule: AccessRule, actor: Actor, peer: str) -> None:
        self._readings = readings
        self._method = method
        self._rule = rule
        self._actor = actor
        self._origin = origin_of(peer)
        self._noted: set[Thing] = set()
        self._first = True

    async def answered(self, request: Message | None, answer: Message) -> None:
        """Notes what an answer shows that was not noted yet; call it before the answer leaves."""
        things = things_in((request, answer) if request is not None else (answer,), self._rule.read_of)
        fresh = [thing for thing in things if thing not in self._noted]
        if not fresh and not self._first:
            return
        self._first = False
        classes = tuple(self._rule.reads)
        reading = Reading(self._method, classes, fresh, self._origin, _reason_in(request))
        await self._readings.note(self._actor, reading)
        self._noted.update(fresh)


def is_noted(actor: Actor, rule: AccessRule) -> bool:
    """Whether a reading by this actor under this rule is noted."""
    return actor.role not in _NOT_NOTED and list(rule.reads) != [DATA_CLASS_NONE]


def things_in(messages: Iterable[Message], names: Iterable[str]) -> list[Thing]:
    """The values of the named string fields, each once, wherever they stand in the messages."""
    wanted, found = frozenset(names), dict[Thing, None]()
    for message in messages:
        _collect(message, wanted, found, _DEPTH)
    return list(found)


def _collect(message: Message, wanted: frozenset[str], found: dict[Thing, None], depth: int) -> None:
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == FieldDescriptor.TYPE_STRING and field.name in wanted:
            found.update(((field.name, each), None) for each in values if _ID.fullmatch(each))
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth:
            for each in values:
                _collect(each, wanted, found, depth - 1)


def origin_of(peer: str) -> str:
    """The class of a peer as grpc names it (`ipv4:10.0.0.7:41000`): LOOPBACK, PRIVATE, PUBLIC, LOCAL, UNKNOWN."""
    scheme, _, rest = unquote(peer).partition(":")
    if scheme == "unix":
        return "LOCAL"
    try:
        address = ipaddress.ip_address(rest.rpartition(":")[0].strip("[]"))
    except ValueError:
        return "UNKNOWN"
    if address.is_loopback:
        return "LOOPBACK"
    return "PRIVATE" if address.is_private else "PUBLIC"


def _reason_in(request: Message | None) -> str:
    """The request's own reason: a word as it is, other words as STATED, for they may say anything."""
    field = None if request is None else request.DESCRIPTOR.fields_by_name.get(REASON_FIELD)
    if request is None or field is None or field.type != FieldDescriptor.TYPE_STRING or field.is_repeated:
        return ""
    said: str = getattr(request, REASON_FIELD)
    if not said:
        return ""
    return said if _WORD.fullmatch(said) else "STATED"
