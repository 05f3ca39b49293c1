"""What is a request about one's own data, by when is it answered, and how may it be refused?

RECEIVED until it is answered: FULFILLED, or REJECTED for a reason that the rules know. A deletion stays RECEIVED while
its erasure runs. The deadline is put off before it is over, as often as the law allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.chassis.errors import FailedPrecondition, InvalidInput

DETAIL_CHARS = 2_000
STATEMENT_CHARS = 4_000
REASON_CHARS = 256
CORRECTIONS_AT_MOST = 16
CONTENT_CHARS = 256
TOKEN = "TOKEN"
"""Identity basis of who asks with a subscriber's own token."""
SUBSCRIBER_ERASED = "SUBSCRIBER_ERASED"
"""Refusal that the system gives by itself."""


class RightsType(StrEnum):
    """What is asked for."""

    ACCESS = "ACCESS"
    CORRECTION = "CORRECTION"
    DELETION = "DELETION"
    SUSPENSION = "SUSPENSION"
    EXPLANATION = "EXPLANATION"


class RightsState(StrEnum):
    """Where a request stands."""

    RECEIVED = "RECEIVED"
    FULFILLED = "FULFILLED"
    REJECTED = "REJECTED"


class Requester(StrEnum):
    """Who asks (PIPA 38)."""

    SELF = "SELF"
    LEGAL_REPRESENTATIVE = "LEGAL_REPRESENTATIVE"
    AGENT = "AGENT"


class Entry(StrEnum):
    """What can be corrected."""

    DISPLAY_NAME = "DISPLAY_NAME"
    CONTACT_EMAIL = "CONTACT_EMAIL"
    GUARDIAN_NAME = "GUARDIAN_NAME"
    LANGUAGE = "LANGUAGE"
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class TypeRule:
    """The deadline of a type."""

    within: timedelta
    law: str
    extensions: int
    """How often it may be put off."""
    extension: timedelta


@dataclass(frozen=True, slots=True)
class Refusal:
    """A legal reason to refuse."""

    types: frozenset[RightsType]
    law: str
    holds: bool
    """The data is kept although its deletion was asked for."""
    words: Mapping[str, str]
    """By language."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What another service holds of a person."""

    service: str
    see: str
    keep: str
    words: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RightsRules:
    """The rules of `rules/rights.yaml`."""

    version: str
    remind: tuple[timedelta, ...]
    """Before the deadline, the earliest first."""
    escalate_every: timedelta
    open_at_most: int
    keep_answer: timedelta
    answer_rows: int
    keep_purged: timedelta
    types: Mapping[RightsType, TypeRule]
    identity: Mapping[str, frozenset[str]]
    """Role → ways of checking who asks."""
    refusals: Mapping[str, Refusal]
    extensions: Mapping[str, Mapping[str, str]]
    objection: Mapping[str, str]
    holdings: tuple[Holding, ...]

    def refusal(self, reason: str, kind: RightsType) -> Refusal:
        """A reason that a person may give for this type. Raises InvalidInput REASON_UNKNOWN."""
        found = self.refusals.get(reason)
        if found is None or kind not in found.types or reason == SUBSCRIBER_ERASED:
            raise wrong("reason", "REASON_UNKNOWN")
        return found


@dataclass(frozen=True, slots=True)
class Correction:
    """A value that takes the place of a wrong one."""

    entry: Entry
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """What comes in, before it is a request."""

    type: str
    requester: str
    identity_basis: str
    document_sha256: bytes = field(repr=False)
    reason: str = field(repr=False)
    detail: str = field(repr=False)


@dataclass(slots=True)
class RightsRequest:
    """One request. It names its subscriber until that person is erased."""

    rights_request_id: str
    subscriber_id: str | None
    type: RightsType
    requester: Requester
    identity_basis: str
    document_sha256: bytes
    create_time: datetime
    due_time: datetime
    rule_version: str
    state: RightsState = RightsState.RECEIVED
    extensions: int = 0
    extension_reason: str = ""
    answer_time: datetime | None = None
    reason: str = ""
    """Why it was rejected."""
    erasure_id: str = ""
    answer_sha256: bytes = b""
    """Of the document that answers it; empty where none was made."""
    version: int = 1
    answer_kept: bool = False
    """Whether that document can be read."""

    @property
    def open(self) -> bool:
        """Whether nobody has answered it."""
        return self.state is RightsState.RECEIVED

    def overdue(self, now: datetime) -> bool:
        """Whether it was answered too late, or is not and should be."""
        return (self.answer_time or now) > self.due_time

    def extend(self, reason: str, seen: int, rules: RightsRules, now: datetime) -> bool:
        """Puts the deadline off, where it had been `seen` so often put off; False where this very call did so already.
        Raises InvalidInput, FailedPrecondition."""
        if reason not in rules.extensions:
            raise wrong("reason", "REASON_UNKNOWN")
        if (seen + 1, reason) == (self.extensions, self.extension_reason):
            return False
        if not self.open:
            raise refused("ALREADY_ANSWERED", "The request has been answered.")
        rule = rules.types[self.type]
        if self.extensions >= rule.extensions:
            raise refused("NO_EXTENSION_LEFT", "The law allows no further delay.")
        if seen != self.extensions:
            raise refused("CHANGED_MEANWHILE", "The deadline was put off meanwhile.")
        if now > self.due_time:
            raise refused("TOO_LATE", "The deadline is over.")
        self.due_time += rule.extension
        self.extensions += 1
        self.extension_reason = reason
        self.version += 1
        return True

    def begin_erasure(self, erasure_id: str) -> bool:
        """Notes the erasure that will fulfil it; False where it is noted already."""
        if self.erasure_id:
            return False
        self.erasure_id = erasure_id
        self.version += 1
        return True

    def fulfil(self, now: datetime) -> None:
        """Answers it."""
        self._answer(RightsState.FULFILLED, now)

    def reject(self, reason: str, now: datetime) -> None:
        """Answers it with a refusal that was checked."""
        self._answer(RightsState.REJECTED, now)
        self.reason = reason

    def _answer(self, state: RightsState, now: datetime) -> None:
        self.state = state
        self.answer_time = now
        self.version += 1

    def next_look(self, rules: RightsRules, now: datetime) -> datetime:
        """When somebody is reminded next: before the deadline, at it, and again and again after it."""
        for before in rules.remind:
            if self.due_time - before > now:
                return self.due_time - before
        return self.due_time if self.due_time > now else now + rules.escalate_every


def receive(
    rights_request_id: str, subscriber_id: str, asked: Asked, role: str, rules: RightsRules, now: datetime
) -> RightsRequest:
    """A new request. `role` is that of who hands it in, without prefix. Raises InvalidInput naming every wrong
    field."""
    faults = list(_faults(asked, role, rules))
    if faults:
        raise InvalidInput(faults[0][1], "The request is not valid.", violations=faults)
    kind = RightsType(asked.type)
    return RightsRequest(
        rights_request_id,
        subscriber_id,
        kind,
        Requester(asked.requester or Requester.SELF),
        TOKEN if role == "SUBSCRIBER" else asked.identity_basis,
        asked.document_sha256,
        now,
        now + rules.types[kind].within,
        rules.version,
    )


def _faults(asked: Asked, role: str, rules: RightsRules) -> list[tuple[str, str]]:
    found = []
    if asked.type not in {*RightsType}:
        found.append(("type", "TYPE_UNKNOWN"))
    own = role == "SUBSCRIBER"
    alone = asked.requester in ("", Requester.SELF)
    if asked.requester not in {"", *Requester} or (own and not alone):
        found.append(("requester", "REQUESTER_UNKNOWN"))
    if asked.identity_basis if own else asked.identity_basis not in rules.identity.get(role, ()):
        found.append(("identity_basis", "IDENTITY_UNPROVED"))
    if asked.document_sha256 and len(asked.document_sha256) != 32:
        found.append(("document_sha256", "DOCUMENT_MALFORMED"))
    elif bool(asked.document_sha256) is alone:
        found.append(("document_sha256", "DOCUMENT_MALFORMED" if alone else "DOCUMENT_MISSING"))
    staff = role not in ("SUBSCRIBER", "APP_BACKEND")
    if len(asked.reason) > REASON_CHARS or (staff and not asked.reason.strip()):
        found.append(("reason", "REASON_MALFORMED"))
    if not _words(asked.detail, DETAIL_CHARS):
        found.append(("detail", "DETAIL_MALFORMED"))
    return found


def check_statement(statement: str, *, required: bool = False) -> None:
    """Raises InvalidInput STATEMENT_MALFORMED."""
    if not _words(statement, STATEMENT_CHARS) or (required and not statement.strip()):
        raise wrong("statement", "STATEMENT_MALFORMED")


def check_corrections(kind: RightsType, corrections: list[Correction]) -> None:
    """Corrections belong to CORRECTION, which needs some, each entry once but OTHER. Raises InvalidInput."""
    entries = [each.entry for each in corrections if each.entry is not Entry.OTHER]
    number = len(corrections)
    right = 1 <= number <= CORRECTIONS_AT_MOST if kind is RightsType.CORRECTION else number == 0
    if not right or len(entries) != len({*entries}) or not all(_words(c.content, CONTENT_CHARS) for c in corrections):
        raise wrong("corrections", "CORRECTION_MALFORMED")
    if any(not each.content.strip() for each in corrections if each.entry is not Entry.GUARDIAN_NAME):
        raise wrong("corrections", "CORRECTION_MALFORMED")


def _words(text: str, most: int) -> bool:
    """Text as people write it: no control characters but line ends."""
    return len(text) <= most and all(c.isprintable() or c in "\n\t" for c in text)


def wrong(name: str, reason: str) -> InvalidInput:
    """The refusal of a field."""
    return InvalidInput(reason, "The request is not valid.", violations=[(name, reason)])


def refused(reason: str, text: str) -> FailedPrecondition:
    """The refusal of a move."""
    return FailedPrecondition(reason, text, violations=[("rights_request", reason)])
