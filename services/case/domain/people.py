"""Who may be registered, and how?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.case.domain.words import SubscriberState
from services.chassis.errors import FailedPrecondition, InvalidInput

LANGUAGES = ("ko", "en")
NAME_CHARS = 128
_MAIL = re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Profile:
    """Personal data of a subscriber: sealed where stored, never shown by repr."""

    display_name: str = field(repr=False)
    contact_email: str = field(repr=False)
    guardian_name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber without the profile."""

    subscriber_id: str
    state: SubscriberState
    language: str
    minor: bool
    create_time: datetime
    version: int = 1
    """Rises with every change of state."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A row of the consent ledger; `scope` is a number of the contract's ConsentScope."""

    consent_id: str
    scope: int
    text_version: str
    give_time: datetime
    withdraw_time: datetime | None = None


def erased(subscriber_id: str) -> Subscriber:
    """Somebody of whom nothing is left but that there was an erasure."""
    return Subscriber(subscriber_id, SubscriberState.ERASED, LANGUAGES[0], False, datetime.fromtimestamp(0, UTC), 0)


def is_minor(birth_year: int, year: int) -> bool:
    """True when the person may still be under 19: only the year is known, so the birthday counts as not yet
    reached.
    """
    return birth_year != 0 and year - birth_year - 1 < 19


def needs_guardian(birth_year: int, year: int) -> bool:
    """True when the person may still be under 14 (PIPA 22-2)."""
    return birth_year != 0 and year - birth_year - 1 < 14


def check_registration(
    name: str, mail: str, language: str, birth_year: int, guardian: str, year: int
) -> None:
    """Raises InvalidInput naming every wrong field, FailedPrecondition GUARDIAN_REQUIRED."""
    wrong = _faults(Profile(name, mail, guardian), language)
    if birth_year and not year - 130 <= birth_year <= year:
        wrong.append(("birth_year", "BIRTH_YEAR_OUT_OF_RANGE"))
    if wrong:
        raise InvalidInput(wrong[0][1], "The registration is not valid.", violations=wrong)
    if needs_guardian(birth_year, year) and not guardian.strip():
        raise FailedPrecondition(
            "GUARDIAN_REQUIRED",
            "Somebody under 14 is registered by a guardian.",
            violations=[("subscriber", "GUARDIAN_REQUIRED")],
        )


def check_profile(profile: Profile, language: str) -> None:
    """Raises InvalidInput naming every wrong field."""
    wrong = _faults(profile, language)
    if wrong:
        raise InvalidInput(wrong[0][1], "The values are not valid.", violations=wrong)


def _faults(profile: Profile, language: str) -> list[tuple[str, str]]:
    wrong = []
    name, mail, guardian = profile.display_name, profile.contact_email, profile.guardian_name
    if not 1 <= len(name.strip()) <= NAME_CHARS or not name.isprintable():
        wrong.append(("display_name", "NAME_MALFORMED"))
    if mail and (len(mail) > 254 or not _MAIL.fullmatch(mail)):
        wrong.append(("contact_email", "EMAIL_MALFORMED"))
    if language not in LANGUAGES:
        wrong.append(("language", "LANGUAGE_UNKNOWN"))
    if len(guardian) > NAME_CHARS or not guardian.isprintable():
        wrong.append(("guardian_name", "NAME_MALFORMED"))
    return wrong
