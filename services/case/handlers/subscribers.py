"""How are subscribers registered, and what do they consent to?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from misuse.case.v1 import events_pb2
from misuse.case.v1.subscriber_service_pb2 import (
    CONSENT_SCOPE_FACE_TEMPLATE,
    CONSENT_SCOPE_LINKED_ACCOUNT,
    CONSENT_SCOPE_REMOVAL,
    CONSENT_SCOPE_SERVICE,
    CONSENT_SCOPE_TEMPLATE_CROP,
    CONSENT_SCOPE_WATCHED_IDENTIFIER,
    ConsentScope,
)
from services.case import records
from services.case.domain.people import (
    Consent,
    Profile,
    Subscriber,
    check_registration,
    is_minor,
)
from services.case.domain.words import SubscriberState
from services.case.ports import PACK, Unit, Who
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.chassis.ids import uuid7
from services.chassis.together import Piece

_TEXT_VERSION_CHARS = 64
_STANDS_ON_IT: Mapping[int, tuple[int, ...]] = {
    CONSENT_SCOPE_SERVICE: (
        CONSENT_SCOPE_FACE_TEMPLATE,
        CONSENT_SCOPE_TEMPLATE_CROP,
        CONSENT_SCOPE_WATCHED_IDENTIFIER,
        CONSENT_SCOPE_REMOVAL,
        CONSENT_SCOPE_LINKED_ACCOUNT,
    ),
    CONSENT_SCOPE_FACE_TEMPLATE: (CONSENT_SCOPE_TEMPLATE_CROP,),
}
"""Scope → scopes that mean nothing without it. Marketing stands by itself."""


async def register(
    unit: Unit, profile: Profile, language: str, birth_year: int, now: datetime, who: Who
) -> str:
    """Makes a subscriber. Returns the id. Raises what `check_registration` raises."""
    check_registration(
        profile.display_name, profile.contact_email, language, birth_year, profile.guardian_name, now.year
    )
    subscriber = Subscriber(
        uuid7(), SubscriberState.ACTIVE, language, is_minor(birth_year, now.year), now
    )
    await unit.subscribers.add(subscriber, profile)
    event = events_pb2.SubscriberRegistered(
        subscriber_id=subscriber.subscriber_id, minor=subscriber.minor, language=language
    )
    unit.tell(subscriber.subscriber_id, event)
    _record(unit, "REGISTERED", subscriber.subscriber_id, subscriber.version, now, who)
    return subscriber.subscriber_id


async def locked(unit: Unit, subscriber_id: str) -> Subscriber:
    """The subscriber, locked. Raises NotFound."""
    found = await unit.subscribers.lock([subscriber_id])
    if subscriber_id not in found:
        raise unknown()
    return found[subscriber_id]


def unknown() -> NotFound:
    """There is no such subscriber, or none that the caller may know of."""
    return NotFound("SUBSCRIBER_UNKNOWN", "There is no such subscriber.")


@dataclass(frozen=True, slots=True)
class SubscriberAsked:
    """Somebody wants a subscriber with the profile."""

    subscriber_id: str
    method: str
    who: Who


async def read(
    unit: Unit, pieces: Sequence[Piece[SubscriberAsked]], now: datetime
) -> Sequence[tuple[Subscriber, Profile | None]]:
    """Subscribers with their profiles; each reading is recorded, as part of what asked for it. Raises NotFound for the
    first that there is not."""
    found = await unit.subscribers.whole({piece.item.subscriber_id for piece in pieces})
    for piece in pieces:
        if piece.item.subscriber_id not in found:
            raise unknown()
        await piece.within(_note_reading(unit, piece.item, now))
    return [found[piece.item.subscriber_id] for piece in pieces]


async def _note_reading(unit: Unit, asked: SubscriberAsked, now: datetime) -> None:
    reference = unit.reference(asked.subscriber_id)
    unit.record(asked.subscriber_id, records.access(asked.method, "subscriber", reference, now, asked.who))


async def suspend(unit: Unit, subscriber_id: str, now: datetime, who: Who) -> None:
    """Stops processing; repeating it changes nothing. Raises NotFound, FailedPrecondition."""
    subscriber = await locked(unit, subscriber_id)
    if _may_change(subscriber, SubscriberState.SUSPENDED):
        await unit.subscribers.set_state(subscriber_id, SubscriberState.SUSPENDED, now)
        unit.tell(subscriber_id, events_pb2.SubscriberSuspended(subscriber_id=subscriber_id))
        _record(unit, "SUSPENDED", subscriber_id, subscriber.version + 1, now, who)


async def resume(unit: Unit, subscriber_id: str, now: datetime, who: Who) -> None:
    """Takes processing up again; repeating it changes nothing. Raises NotFound, FailedPrecondition."""
    subscriber = await locked(unit, subscriber_id)
    if _may_change(subscriber, SubscriberState.ACTIVE):
        await unit.subscribers.set_state(subscriber_id, SubscriberState.ACTIVE, now)
        event = events_pb2.SubscriberResumed(subscriber_id=subscriber_id, minor=subscriber.minor)
        unit.tell(subscriber_id, event)
        _record(unit, "RESUMED", subscriber_id, subscriber.version + 1, now, who)
        # Packing found nothing to do while processing was stopped.
        waiting = await unit.cases.unpacked(subscriber_id)
        await unit.remind(PACK, dict.fromkeys(waiting, (now, "")))


async def leave(unit: Unit, subscriber_id: str, now: datetime, who: Who) -> None:
    """Ends the membership and every consent that stands on it; repeating it changes nothing."""
    subscriber = await locked(unit, subscriber_id)
    if subscriber.state in (SubscriberState.LEAVING, SubscriberState.ERASED):
        return
    _tell_withdrawn(unit, subscriber_id, await unit.subscribers.withdraw(subscriber_id, None, now), now, who)
    await unit.subscribers.set_state(subscriber_id, SubscriberState.LEAVING, now)
    unit.tell(subscriber_id, events_pb2.SubscriberSuspended(subscriber_id=subscriber_id))
    _record(unit, "LEFT", subscriber_id, subscriber.version + 1, now, who)


def _record(unit: Unit, transition: str, subscriber_id: str, version: int, now: datetime, who: Who) -> None:
    record = records.subscriber(transition, unit.reference(subscriber_id), version, now, who)
    unit.record(subscriber_id, record)


def _may_change(subscriber: Subscriber, to: SubscriberState) -> bool:
    if subscriber.state in (SubscriberState.LEAVING, SubscriberState.ERASED):
        raise FailedPrecondition(
            "SUBSCRIBER_HAS_LEFT",
            "The subscriber has left.",
            violations=[("subscriber", "SUBSCRIBER_HAS_LEFT")],
        )
    return subscriber.state is not to


async def give_consent(
    unit: Unit, subscriber_id: str, scope: int, text_version: str, now: datetime, who: Who
) -> str:
    """Records a consent. One that stands for the same text is kept; another text replaces it. Returns its id.
    """
    if scope not in ConsentScope.values() or not scope:
        raise InvalidInput("SCOPE_UNKNOWN", "A scope is required.", violations=[("scope", "SCOPE_UNKNOWN")])
    if not 1 <= len(text_version) <= _TEXT_VERSION_CHARS or not text_version.isprintable():
        violation = ("text_version", "TEXT_VERSION_MALFORMED")
        raise InvalidInput(violation[1], "The version of the text is required.", violations=[violation])
    _may_change(await locked(unit, subscriber_id), SubscriberState.ACTIVE)
    standing = await unit.subscribers.standing(subscriber_id, scope)
    if standing is not None and standing.text_version == text_version:
        return standing.consent_id
    # A new text takes the place of the old one without a gap: nobody is told of a withdrawal.
    await unit.subscribers.withdraw(subscriber_id, scope, now)
    given = Consent(uuid7(), scope, text_version, now)
    await unit.subscribers.give(subscriber_id, given)
    event = events_pb2.ConsentRecorded(
        subscriber_id=subscriber_id,
        scope=scope,  # type: ignore[arg-type] # checked above
        consent_id=given.consent_id,
    )
    unit.tell(subscriber_id, event)
    unit.record(
        subscriber_id, records.consent(_scope(scope), True, text_version, given.consent_id, now, who)
    )
    return given.consent_id


async def withdraw_consent(
    unit: Unit, subscriber_id: str, scope: int, now: datetime, who: Who
) -> Consent | None:
    """Takes a consent back, with every consent that stands on it, and returns it; where none stands, the last
    one, or None.
    """
    if scope not in ConsentScope.values() or not scope:
        raise InvalidInput("SCOPE_UNKNOWN", "A scope is required.", violations=[("scope", "SCOPE_UNKNOWN")])
    await locked(unit, subscriber_id)
    for each in (scope, *_STANDS_ON_IT.get(scope, ())):
        withdrawn = await unit.subscribers.withdraw(subscriber_id, each, now)
        _tell_withdrawn(unit, subscriber_id, withdrawn, now, who)
    return await unit.subscribers.latest(subscriber_id, scope)


def _tell_withdrawn(
    unit: Unit, subscriber_id: str, consents: Sequence[Consent], now: datetime, who: Who
) -> None:
    for consent in consents:
        event = events_pb2.ConsentWithdrawn(
            subscriber_id=subscriber_id,
            scope=consent.scope,  # type: ignore[arg-type] # stored from a checked request
            consent_id=consent.consent_id,
        )
        unit.tell(subscriber_id, event)
        record = records.consent(
            _scope(consent.scope), False, consent.text_version, consent.consent_id, now, who
        )
        unit.record(subscriber_id, record)


def _scope(number: int) -> str:
    name: str = ConsentScope.DESCRIPTOR.values_by_number[number].name
    return name.removeprefix("CONSENT_SCOPE_")
