"""What a notice is, whom it reaches, and when a delivery is given up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LANGUAGES = ("ko", "en")
"""Languages that notices are written in; the first is the default."""
MAX_DEVICES = 20
"""Live devices a subscriber may have."""
_MAX_ALIAS_STEPS = 64


class Subject(StrEnum):
    """What a notice is about; the names are those of the contract's NoticeSubject."""

    CASE_OPENED = "CASE_OPENED"
    CASE_REOPENED = "CASE_REOPENED"
    CASE_CLOSED = "CASE_CLOSED"
    REMOVAL_RECEIVED = "REMOVAL_RECEIVED"
    REMOVAL_REJECTED = "REMOVAL_REJECTED"
    REMOVAL_COMPLETED = "REMOVAL_COMPLETED"
    CONTENT_REAPPEARED = "CONTENT_REAPPEARED"
    UPLOAD_WARNED = "UPLOAD_WARNED"
    UPLOAD_REDACTED = "UPLOAD_REDACTED"


class Delivery(StrEnum):
    """Where a notification to one device stands."""

    QUEUED = "QUEUED"
    HANDED_OVER = "HANDED_OVER"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNDELIVERABLE = "UNDELIVERABLE"
    SUPERSEDED = "SUPERSEDED"


class Step(StrEnum):
    """What is to be done now about a delivery that is not acknowledged."""

    WAIT = "WAIT"
    RESEND = "RESEND"
    GIVE_UP = "GIVE_UP"


@dataclass(frozen=True)
class Facts:
    """The details that only the inbox shows; stored sealed."""

    kind: str = ""
    """Case kind by name: FACE, PII, PRE_UPLOAD, REDACTION; empty when not known."""
    channel_group: str = ""
    platform: str = ""

    def to_bytes(self) -> bytes:
        """As stored before sealing."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Facts:
        """What `to_bytes` wrote; fields of a later version are left out."""
        stored = json.loads(data)
        return cls(**{name: str(stored.get(name, "")) for name in ("kind", "channel_group", "platform")})


@dataclass(frozen=True)
class Notice:
    """Something a subscriber is told once: one inbox item and one notification per live device."""

    subscriber_id: str
    case_id: str
    """As the event named it; notices are kept under its root."""
    subject: Subject
    state: str
    """State of the thing after the change, by name."""
    occurrence: str
    """Tells the n-th time of the same change from the first; at most 64 characters."""
    facts: Facts = Facts()


@dataclass(frozen=True)
class KnownCase:
    """What notify remembers of a case, to word later notices and to find its root."""

    case_id: str
    subscriber_id: str
    parent_id: str
    """The case it was merged into, or itself."""
    kind: str = ""
    channel_group: str = ""
    reopenings: int = 0


@dataclass(frozen=True)
class Preferences:
    """How a subscriber wants to be told. Minutes are after midnight in the subscriber's zone, -1 for none."""

    language: str = LANGUAGES[0]
    discreet: bool = False
    quiet_start_minute: int = -1
    quiet_end_minute: int = -1


@dataclass(frozen=True)
class DeliveryRules:
    """How often and how long a delivery is tried. Versioned data: `rules/delivery.yaml`."""

    version: str
    resend_after: timedelta
    resend_after_at_most: timedelta
    max_attempts: int
    give_up_after: timedelta
    max_in_flight: int
    poll: timedelta

    def wait_after(self, attempt: int) -> timedelta:
        """How long the n-th handing over (from 1) waits for its acknowledgement: doubles, up to a bound."""
        factor: int = 1 << min(max(attempt - 1, 0), 30)
        return min(self.resend_after * factor, self.resend_after_at_most)

    def step(self, create_time: datetime, last_sent: datetime | None, attempt: int, now: datetime) -> Step:
        """What to do at `now` about a notification handed over `attempt` times, last at `last_sent`."""
        if now >= create_time + self.give_up_after:
            return Step.GIVE_UP
        if last_sent is None or now < last_sent + self.wait_after(attempt):
            return Step.WAIT
        return Step.GIVE_UP if attempt >= self.max_attempts else Step.RESEND

    def next_look(self, create_time: datetime, last_sent: datetime | None, attempt: int) -> datetime:
        """When `step` may answer something else than WAIT."""
        end = create_time + self.give_up_after
        return end if last_sent is None else min(end, last_sent + self.wait_after(attempt))


def root_of(case_id: str, parents: Mapping[str, str]) -> str:
    """The root of an incident: follows merges (case → case it was merged into) to their end.

    Bounded: a loop, which `case` never makes, ends at some member of it.
    """
    for _ in range(_MAX_ALIAS_STEPS):
        parent = parents.get(case_id, case_id)
        if parent == case_id:
            break
        case_id = parent
    return case_id


Words = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Texts:
    """The texts of notices in every language. Versioned data: `rules/texts.yaml`."""

    version: str
    lock_screen: Mapping[str, Words]
    """language → subject → title and body. Never names a person, an address or a platform."""
    discreet: Words
    """language → title and body."""
    inbox: Mapping[str, Words]
    """language → subject (or subject.state) → title and body, with {kind}, {channel_group}, {platform}."""
    names: Mapping[str, Words]
    """language → sort of name → code → word."""

    def for_lock_screen(self, subject: Subject, preferences: Preferences) -> tuple[str, str]:
        """Title and body that strangers may see."""
        language = preferences.language
        words = self.discreet[language] if preferences.discreet else self.lock_screen[language][subject]
        return words["title"], words["body"]

    def for_inbox(self, subject: Subject, state: str, facts: Facts, language: str) -> tuple[str, str]:
        """Title and body with the details; an unknown code stands for itself, a missing one is worded."""
        by_subject = self.inbox[language]
        words = by_subject.get(f"{subject}.{state}", by_subject[subject])
        named = {name: self._name(language, name, code) for name, code in asdict(facts).items()}
        return words["title"].format_map(named), words["body"].format_map(named)

    def _name(self, language: str, sort: str, code: str) -> str:
        known = self.names[language][sort]
        return known.get(code or "UNKNOWN", code)
