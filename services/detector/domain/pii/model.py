"""The words of the scan for personal data: kinds, levels, checks, mask rules, texts."""

from __future__ import annotations

import enum
from typing import NamedTuple


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
