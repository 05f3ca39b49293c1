"""Which words does a case use? The numbers are those of the contract (a test keeps them equal)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class CaseKind(IntEnum):
    """What a case is about."""

    FACE = 1
    PII = 2
    PRE_UPLOAD = 3
    REDACTION = 4


class CaseState(IntEnum):
    """Where a case stands."""

    OPEN = 1
    ACTION_STARTED = 2
    WAITING_PLATFORM = 3
    RESOLVED = 4
    CLOSED = 5
    PURGED = 6
    MERGED = 7


class Resolution(IntEnum):
    """How a case ended."""

    UNSPECIFIED = 0
    REMOVED = 1
    TEMP_BLOCKED = 2
    DEINDEXED = 3
    FALSE_POSITIVE = 4
    WITHDRAWN = 5
    UNRESOLVED = 6
    REDACTED = 7
    UPLOAD_CANCELLED = 8
    UPLOADED = 9
    NOT_ANSWERED = 10


class Verdict(IntEnum):
    """What the subscriber says about a case."""

    UNSPECIFIED = 0
    ME = 1
    NOT_ME = 2
    UNSURE = 3


class Priority(IntEnum):
    """How urgent a case is."""

    NORMAL = 1
    HIGH = 2
    URGENT = 3


class PriorityReason(IntEnum):
    """What makes a case urgent."""

    MINOR = 1
    SEXUAL_CONTENT = 2
    NAME_AND_ADDRESS = 3
    SPREADING = 4


class SubscriberState(IntEnum):
    """Whether a subscriber is processed."""

    ACTIVE = 1
    SUSPENDED = 2
    LEAVING = 3
    ERASED = 4


class Band(IntEnum):
    """Band of the decision behind a fact."""

    MATCH = 1
    REVIEW = 2


class Label(IntEnum):
    """What a reviewer says."""

    MATCH = 1
    NO_MATCH = 2
    UNSURE = 3


class KeyKind(StrEnum):
    """By what two facts are the same incident; the rules say which joins, how far, and which is the strongest."""

    CLUSTER = "CLUSTER"
    IDENTIFIER = "IDENTIFIER"
    POST = "POST"
    DUMP = "DUMP"


class Rule(StrEnum):
    """Why a fact lies where it lies."""

    OPENED = "OPENED"
    SAME_CLUSTER = "SAME_CLUSTER"
    SAME_PERSON_NEAR_PICTURE = "SAME_PERSON_NEAR_PICTURE"
    SAME_IDENTIFIER = "SAME_IDENTIFIER"
    SAME_POST = "SAME_POST"
    SAME_DUMP = "SAME_DUMP"
    OPERATOR = "OPERATOR"
    REMOVAL_RECHECK = "REMOVAL_RECHECK"


RULE_OF_KEY = {
    KeyKind.CLUSTER: Rule.SAME_CLUSTER,
    KeyKind.IDENTIFIER: Rule.SAME_IDENTIFIER,
    KeyKind.POST: Rule.SAME_POST,
    KeyKind.DUMP: Rule.SAME_DUMP,
}
