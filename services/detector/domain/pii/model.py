"""What a scan for personal data takes and gives back."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

DOXING: Final = "DOXING"
"""Name of the combinations that expose one person."""


class Kind(enum.StrEnum):
    """The kind of personal data, as it appears in records and reports."""

    PHONE = "PHONE"
    EMAIL = "EMAIL"
    ADDRESS = "ADDRESS"
    CARD = "CARD"
    ACCOUNT = "ACCOUNT"
    RRN = "RRN"
    FRN = "FRN"
    PASSPORT = "PASSPORT"
    DRIVER_LICENCE = "DRIVER_LICENCE"
    SSN = "SSN"
    BUSINESS_NUMBER = "BUSINESS_NUMBER"
    PERSON = "PERSON"
    PLATE = "PLATE"
    MESSENGER = "MESSENGER"
    IP = "IP"
    CREDENTIAL = "CREDENTIAL"


class Confidence(enum.IntEnum):
    """How sure a hit is, in the two levels of data-loss prevention; ordered, so that thresholds compare.

    LOW: the form and its check alone speak. HIGH: words nearby say so too, or nothing else has this form.
    """

    LOW = 1
    HIGH = 2


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


class TextPart(NamedTuple):
    """One text of a signal: the body, a title, an alt text, a file name, a metadata value."""

    field: str
    text: str

    def __repr__(self) -> str:
        """Without the text."""
        return f"TextPart(field={self.field!r})"


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
class Combination:
    """Kinds that say more together than each alone: one hit of every kind in `all_of`, each at least `at_least`.

    `level` is that of the combination itself, whatever the levels of its hits.
    """

    name: str
    level: Confidence
    all_of: frozenset[Kind]
    at_least: Confidence

    def holds(self, hits: Iterable[Hit]) -> bool:
        """Whether these hits, all of one post, make it up."""
        return self.all_of <= {hit.kind for hit in hits if hit.personal and hit.confidence >= self.at_least}


@dataclass(frozen=True, slots=True)
class ScanResult:
    """All hits of a signal in field order, then by position, and the combinations that they make up."""

    hits: tuple[Hit, ...]
    combinations: tuple[Combination, ...] = ()

    @property
    def doxing(self) -> bool:
        """Whether the hits together expose one person."""
        return any(each.name == DOXING and each.level is Confidence.HIGH for each in self.combinations)

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
