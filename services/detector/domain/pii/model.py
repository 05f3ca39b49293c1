"""What a scan for personal data takes and gives back."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """The kind of personal data, as it appears in records and reports."""

    PHONE = "PHONE"
    EMAIL = "EMAIL"
    ADDRESS = "ADDRESS"
    CARD = "CARD"
    ACCOUNT = "ACCOUNT"
    RRN = "RRN"
    FOREIGNER_NO = "FOREIGNER_NO"
    PASSPORT = "PASSPORT"
    DRIVER_LICENSE = "DRIVER_LICENSE"
    SSN = "SSN"
    BUSINESS_NO = "BUSINESS_NO"
    PERSON = "PERSON"
    VEHICLE = "VEHICLE"
    MESSENGER = "MESSENGER"
    IP = "IP"
    CREDENTIAL = "CREDENTIAL"


class Confidence(enum.IntEnum):
    """How sure a hit is; ordered, so that thresholds compare.

    POSSIBLE is a weak signal that alone must not open a case; LIKELY and VERY_LIKELY may.
    """

    POSSIBLE = 1
    LIKELY = 2
    VERY_LIKELY = 3


class Check(enum.StrEnum):
    """What the arithmetic of the format says: holds, is violated, or there is none to ask."""

    YES = "YES"
    NO = "NO"
    UNKNOWN = "UNKNOWN"


class MaskRule(enum.StrEnum):
    """Which characters of a hit stay readable; separators always do."""

    ALL = "ALL"
    PHONE = "PHONE"
    EMAIL = "EMAIL"
    CARD = "CARD"
    KEEP_FIRST = "KEEP_FIRST"
    KEEP_LAST_THREE = "KEEP_LAST_THREE"
    ADDRESS = "ADDRESS"
    NAME = "NAME"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class TextPart:
    """One text of a signal: the body, a title, an alt text, a file name, a metadata value."""

    field: str
    text: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Hit:
    """One piece of personal data found in one field.

    `start` and `end` count characters of the original text. `canonical` is the comparable form for watched
    identifiers; it is empty for national identifiers, credentials and kinds that cannot be watched, and never
    part of the repr. `personal` is false for what is recognised only to be set aside (business numbers).
    """

    kind: Kind
    rule_id: str
    rule_version: int
    field: str
    start: int
    end: int
    confidence: Confidence
    check: Check
    mask_rule: MaskRule
    national: bool
    personal: bool
    canonical: str = dataclasses.field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """All hits of a signal in field order, then by position; `doxing` when they together expose one person."""

    hits: tuple[Hit, ...]
    doxing: bool

    def of(self, field: str) -> tuple[Hit, ...]:
        """The hits in one field, for masking that field's text."""
        return tuple(hit for hit in self.hits if hit.field == field)


class NotWatchable(ValueError):
    """This value cannot become a watched identifier; `reason` is a code and holds no part of the value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TextTooLong(ValueError):
    """A signal's text exceeds the scan limit; carries sizes only."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"text of {length} characters exceeds {limit}")
        self.length = length
        self.limit = limit
