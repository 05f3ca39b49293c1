"""What a notice is, and whom it is about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

LANGUAGES = ("ko", "en")
"""Languages that notices are written in; the first is the default."""
MAX_DEVICES = 20
"""Live devices a subscriber may have."""
_MAX_ALIAS_STEPS = 64
_FACTS = ("kind", "channel_group", "platform", "count")


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
    SIGHTINGS_DIGEST = "SIGHTINGS_DIGEST"
    DIGEST = "DIGEST"
    CONTACT_CHANGING = "CONTACT_CHANGING"
    REMOVAL_WAITS_FOR_YOU = "REMOVAL_WAITS_FOR_YOU"
    RIGHTS_REQUEST = "RIGHTS_REQUEST"


URGENT = frozenset({Subject.UPLOAD_WARNED, Subject.UPLOAD_REDACTED})
"""Somebody waits before a button: shown by an open stream in quiet hours too, never gathered."""
OWED = frozenset({Subject.RIGHTS_REQUEST})
"""The law wants the person told (PIPA 36, 37; Decree 43, 44): goes out while processing is suspended, too."""


@dataclass(frozen=True)
class Facts:
    """The details that only the inbox shows; stored sealed."""

    kind: str = ""
    """Case kind by name: FACE, PII, PRE_UPLOAD, REDACTION; of a request about one's own data its type; empty when not
    known."""
    channel_group: str = ""
    platform: str = ""
    count: str = ""
    """How many notices a digest gathered."""

    def to_bytes(self) -> bytes:
        """As stored before sealing."""
        return json.dumps(self.named(), ensure_ascii=False, sort_keys=True).encode()

    def named(self) -> dict[str, str]:
        """Every field by its name."""
        return {name: getattr(self, name) for name in _FACTS}

    @classmethod
    def from_bytes(cls, data: bytes) -> Facts:
        """What `to_bytes` wrote; fields of a later version are left out."""
        stored = json.loads(data)
        return cls(**{name: str(stored.get(name, "")) for name in _FACTS})


@dataclass(frozen=True)
class Notice:
    """Something a subscriber is told once: one inbox item and one notification per live device."""

    subscriber_id: str
    case_id: str
    """As the event named it; notices are kept under its root. Empty where it is about no case."""
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
    """How a subscriber wants to be told. Minutes are after midnight in a device's zone, -1 for none."""

    language: str = LANGUAGES[0]
    discreet: bool = False
    quiet_start_minute: int = -1
    quiet_end_minute: int = -1
    digest_minutes: int = 0
    """How long notices are gathered, 0 to 1,440."""
    paths: tuple[str, ...] = ()
    """Ways that may be used beside stream and inbox, by name, alternatives in their order; empty for all."""

    def allows(self, path: str) -> bool:
        """Whether a way may be used."""
        return not self.paths or path in self.paths


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
