"""Whom a signal concerns, and how sure that is."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.detector.domain.pii import Confidence, Hit, Kind


class Band(enum.IntEnum):
    """How sure a decision is; the numbers of the contract, the surest first."""

    MATCH = 1
    REVIEW = 2
    NONE = 3


class MatchKind(enum.IntEnum):
    """What a decision is about; the numbers of the contract."""

    FACE = 1
    PII = 2


class IdentifierKind(enum.IntEnum):
    """What is found or watched in text; the numbers of the contract."""

    MOBILE_PHONE = 1
    LANDLINE = 2
    EMAIL = 3
    ADDRESS = 4
    PAYMENT_CARD = 5
    RESIDENT_NUMBER = 6
    FOREIGNER_NUMBER = 7
    PASSPORT = 8
    DRIVER_LICENCE = 9
    BUSINESS_NUMBER = 10
    BANK_ACCOUNT = 11
    NAME = 12
    VEHICLE_PLATE = 13
    MESSENGER_ID = 14
    IP_ADDRESS = 15
    CREDENTIAL = 16
    POSITION = 17


_KINDS: Mapping[Kind, IdentifierKind] = {
    Kind.EMAIL: IdentifierKind.EMAIL,
    Kind.ADDRESS: IdentifierKind.ADDRESS,
    Kind.CARD: IdentifierKind.PAYMENT_CARD,
    Kind.ACCOUNT: IdentifierKind.BANK_ACCOUNT,
    Kind.RRN: IdentifierKind.RESIDENT_NUMBER,
    Kind.FRN: IdentifierKind.FOREIGNER_NUMBER,
    Kind.PASSPORT: IdentifierKind.PASSPORT,
    Kind.DRIVER_LICENCE: IdentifierKind.DRIVER_LICENCE,
    # The contract has no word for other countries' personal numbers; the rule id tells them apart.
    Kind.SSN: IdentifierKind.RESIDENT_NUMBER,
    Kind.BUSINESS_NUMBER: IdentifierKind.BUSINESS_NUMBER,
    Kind.PERSON: IdentifierKind.NAME,
    Kind.PLATE: IdentifierKind.VEHICLE_PLATE,
    Kind.MESSENGER: IdentifierKind.MESSENGER_ID,
    Kind.IP: IdentifierKind.IP_ADDRESS,
    Kind.CREDENTIAL: IdentifierKind.CREDENTIAL,
}
_SCANNED: Mapping[IdentifierKind, Kind] = {
    **{identifier: kind for kind, identifier in _KINDS.items() if kind is not Kind.SSN},
    IdentifierKind.MOBILE_PHONE: Kind.PHONE,
    IdentifierKind.LANDLINE: Kind.PHONE,
}


def identifier_kind(hit: Hit) -> IdentifierKind:
    """The contract's word for what a hit is; phones are told apart by their number (+821… is mobile)."""
    if hit.kind is Kind.PHONE:
        mobile = hit.canonical.startswith("+821") or not hit.canonical.startswith("+82")
        return IdentifierKind.MOBILE_PHONE if mobile else IdentifierKind.LANDLINE
    return _KINDS[hit.kind]


def scanned_kind(kind: IdentifierKind) -> Kind | None:
    """The scanner's word for a watched kind; None for a kind that no text rule finds."""
    return _SCANNED.get(kind)


@dataclass(frozen=True, slots=True)
class FaceFinding:
    """What one face of one picture says. `score`, `margin` and `reach` never leave the detector."""

    part: int
    """Index of the picture among the signal's parts."""
    face_index: int
    """Index of the face in the picture, largest first."""
    band: Band
    subscriber_id: str
    """Empty for NONE."""
    template_id: str
    reasons: tuple[str, ...]
    quality_milli: int
    size_px: int
    second_opinion: bool
    rule_version: str
    score: float = field(repr=False)
    margin: float = field(repr=False)
    reach: float | None = field(repr=False, default=None)
    """Highest threshold under which it is a MATCH; None where another rule than that threshold decided."""


@dataclass(frozen=True, slots=True)
class WatchedHit:
    """A hit whose value a subscriber watches with proof."""

    subscriber_id: str
    watch_id: str
    hit: Hit


@dataclass(frozen=True, slots=True)
class ReviewRules:
    """A version of rules/review.yaml: from which confidence on a watched value opens a case at once."""

    version: str
    match_from: Mapping[IdentifierKind, Confidence]
    match_from_default: Confidence
    score_retention_days: int
    signal_memory_days: int
    capture_days: int
    """Days that a capture is kept which nobody releases."""
    content_days: int
    """Days that a content is remembered after it was last seen."""
    attempts: int
    """Failures of its own after which a signal is kept aside."""
    stop_after: int
    """Signals kept aside in a row that stop their lane."""

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> ReviewRules:
        """The rules as the file states them. Raises KeyError for a kind or level that does not exist."""
        levels = {name: Confidence[level] for name, level in raw["pii_match_from"].items()}
        default = levels.pop("default")
        return cls(
            version=str(raw["version"]),
            match_from={IdentifierKind[name]: level for name, level in levels.items()},
            match_from_default=default,
            score_retention_days=int(raw["score_retention_days"]),
            signal_memory_days=int(raw["signal_memory_days"]),
            capture_days=int(raw["capture_days"]),
            content_days=int(raw["content_days"]),
            attempts=int(raw["attempts"]),
            stop_after=int(raw["stop_after"]),
        )

    def band(self, hit: Hit) -> Band:
        """How sure one watched hit is."""
        needed = self.match_from.get(identifier_kind(hit), self.match_from_default)
        return Band.MATCH if hit.confidence >= needed else Band.REVIEW


@dataclass(frozen=True, slots=True)
class Decision:
    """What a signal means for one subscriber, of one kind."""

    subscriber_id: str
    kind: MatchKind
    band: Band
    reasons: tuple[str, ...]
    face: FaceFinding | None = None
    """The deciding face of a FACE decision."""
    parts: tuple[int, ...] = ()
    """Indexes of the parts it rests on, in order; empty where metadata alone spoke."""
    watched: tuple[WatchedHit, ...] = ()


def decide(faces: Sequence[FaceFinding], watched: Sequence[WatchedHit], rules: ReviewRules) -> list[Decision]:
    """One decision per subscriber and kind, by subscriber, faces first; nobody concerned gives none."""
    decisions = [_of_faces(owner, group) for owner, group in _grouped(f for f in faces if f.band is not Band.NONE)]
    decisions += [_of_text(owner, group, rules) for owner, group in _grouped(watched)]
    return sorted(decisions, key=lambda d: (d.subscriber_id, d.kind))


_Found = TypeVar("_Found", FaceFinding, WatchedHit)


def _grouped(found: Iterable[_Found]) -> Iterable[tuple[str, list[_Found]]]:
    groups: dict[str, list[_Found]] = {}
    for each in found:
        groups.setdefault(each.subscriber_id, []).append(each)
    return groups.items()


def _of_faces(subscriber_id: str, faces: Sequence[FaceFinding]) -> Decision:
    best = min(faces, key=lambda f: (f.band, -f.score, f.part, f.face_index))
    parts = tuple(sorted({f.part for f in faces if f.band is best.band}))
    return Decision(subscriber_id, MatchKind.FACE, best.band, best.reasons, face=best, parts=parts)


def _of_text(subscriber_id: str, watched: Sequence[WatchedHit], rules: ReviewRules) -> Decision:
    band = min(rules.band(each.hit) for each in watched)
    reason = "WATCHED_IDENTIFIER" if band is Band.MATCH else "WATCHED_IDENTIFIER_UNSURE"
    parts = tuple(sorted({at for each in watched if (at := part_of(each.hit.field)) is not None}))
    return Decision(subscriber_id, MatchKind.PII, band, (reason,), parts=parts, watched=tuple(watched))


def part_of(field_name: str) -> int | None:
    """The index in a field name such as `text.0` or `image.2.Artist`; None for metadata of the post."""
    head, _, rest = field_name.partition(".")
    number = rest.partition(".")[0]
    return int(number) if head in ("text", "image") and number.isdecimal() else None
