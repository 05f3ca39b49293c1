"""When a face or an identifier is proved to be a subscriber's own, and for how long."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.liveness import Liveness, LivenessRules, Pose

FACE: Final = "FACE"
FACE_ON_DEVICE: Final = "FACE_ON_DEVICE"
_NONCE_BYTES: Final = range(16, 65)


class OwnershipState(enum.IntEnum):
    """Where a proof stands; the numbers of the contract. Only VERIFIED is matched."""

    PENDING = 1
    VERIFIED = 2
    EXPIRED = 3
    SUSPENDED = 4
    ERASED = 5


_MOVES: Final[Mapping[OwnershipState, frozenset[OwnershipState]]] = {
    OwnershipState.PENDING: frozenset({OwnershipState.VERIFIED, OwnershipState.ERASED}),
    # VERIFIED again: the proof was renewed, or its end was moved.
    OwnershipState.VERIFIED: frozenset(OwnershipState) - {OwnershipState.PENDING},
    OwnershipState.EXPIRED: frozenset({OwnershipState.VERIFIED, OwnershipState.ERASED}),
    OwnershipState.SUSPENDED: frozenset({OwnershipState.VERIFIED, OwnershipState.EXPIRED, OwnershipState.ERASED}),
    OwnershipState.ERASED: frozenset(),
}


class IllegalMove(Exception):
    """A template or identifier cannot go from its state to that one: a bug of whoever asked."""


def check_move(before: OwnershipState, after: OwnershipState) -> None:
    """Raises IllegalMove unless a proof may go from one state to the other."""
    if after not in _MOVES[before]:
        raise IllegalMove(f"{before.name} to {after.name}")


class Assertion(enum.Flag):
    """What a provider must assert about a kind."""

    POSSESSION = enum.auto()
    REAL_NAME = enum.auto()
    BOTH = POSSESSION | REAL_NAME


class TemplateSource(enum.IntEnum):
    """Of what a template was made; the numbers of the contract."""

    PICTURES = 1
    DEVICE = 2


class NotProved(Exception):
    """An assertion that proves nothing; `reason` is one of the contract's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class FaceTemplate:
    """An enrolled face, without vectors. `version` counts its changes from 1."""

    template_id: str
    subscriber_id: str
    state: OwnershipState
    create_time: datetime
    expire_time: datetime | None
    pictures: int
    model_ids: tuple[str, ...]
    version: int
    source: TemplateSource = TemplateSource.PICTURES
    liveness: Liveness = Liveness.NOT_CHECKED
    device_ref: bytes = b""
    """Keyed hash of the device it was proved on; empty where none was named."""

    @property
    def kind(self) -> str:
        """By which word the rules know it."""
        return FACE if self.source is TemplateSource.PICTURES else FACE_ON_DEVICE


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched identifier, without its value. `version` counts its changes from 1."""

    watch_id: str
    subscriber_id: str
    kind: IdentifierKind
    state: OwnershipState
    create_time: datetime
    expire_time: datetime | None
    version: int
    device_ref: bytes = b""
    """Keyed hash of the device it was proved on; empty where none was named."""


class DuplicateState(enum.IntEnum):
    """Where the review of a face on two accounts stands; the numbers of the contract."""

    OPEN = 1
    ADMITTED = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A face that a second subscriber enrolled. `apart` are references of the reviewers who told the two apart."""

    decision_id: str
    subscriber_id: str
    template_id: str
    holder_id: str
    state: DuplicateState
    apart: tuple[str, ...]
    create_time: datetime

    def told_apart(self, reviewer: str, needed: int) -> Duplicate:
        """After one more reviewer said that they are different people; the same one counts once."""
        apart = tuple(dict.fromkeys((*self.apart, reviewer)))
        state = DuplicateState.ADMITTED if len(apart) >= needed else DuplicateState.OPEN
        return replace(self, apart=apart, state=state)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Poses that a subscriber was asked for. `outcome` is empty until it was answered."""

    challenge_id: str
    subscriber_id: str
    template_id: str
    poses: tuple[Pose, ...]
    create_time: datetime
    expire_time: datetime
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a provider asserts, once its signature was found right. `value` is personal data."""

    provider: str
    audience: str
    subscriber_id: str
    target_id: str
    value: str = field(repr=False)
    possession: bool
    real_name: bool
    nonce: bytes = field(repr=False)
    issue_time: datetime | None
    expire_time: datetime | None
    guardian: bool = False
    """The legal representative was identified and consented to this."""
    fourteen: bool = False
    """The subscriber is known to be 14 or older."""
    live_face: bool = False
    """The provider compared the live person with the face."""

    @property
    def proves(self) -> str:
        """What is asserted, in one word for the record."""
        said = {
            "POSSESSION": self.possession,
            "REAL_NAME": self.real_name,
            "GUARDIAN": self.guardian,
            "LIVE_FACE": self.live_face,
        }
        return "_AND_".join(word for word, true in said.items() if true)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who may assert, with which key, and what its word is good for."""

    provider: str
    key_id: str
    key_file: str
    possession: bool
    real_name: bool
    guardian: bool = False
    live_face: bool = False
    test: bool = False
    """Believed in the test profile only."""


@dataclass(frozen=True, slots=True)
class OwnershipRules:
    """A version of rules/ownership.yaml."""

    version: str
    audience: str
    longest_claim: timedelta
    skew: timedelta
    providers: Mapping[str, Provider]
    valid: Mapping[str, timedelta]
    needs: Mapping[str, Assertion]
    one_holder: frozenset[str]
    ask_again: frozenset[str]
    """Kinds that a new device asks for again."""
    new_device: timedelta
    unproved: timedelta
    lapsed: timedelta
    most_templates: int
    most_identifiers: int
    """What one subscriber may have that is not erased."""
    most_devices: int
    reviewers: int
    liveness: LivenessRules

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> OwnershipRules:
        """The rules as the file states them. Raises KeyError or TypeError where a field is missing."""
        providers = [Provider(**row) for row in raw["providers"]]
        return cls(
            version=str(raw["version"]),
            audience=str(raw["audience"]),
            longest_claim=timedelta(minutes=raw["longest_claim_minutes"]),
            skew=timedelta(seconds=raw["clock_skew_seconds"]),
            providers={row.provider: row for row in providers},
            valid={kind: timedelta(days=days) for kind, days in raw["valid_days"].items()},
            needs={kind: Assertion[name] for kind, name in raw["needs"].items()},
            one_holder=frozenset(raw["one_holder"]),
            ask_again=frozenset(raw["ask_again_on_new_device"]),
            new_device=timedelta(days=raw["new_device_days"]),
            unproved=timedelta(days=raw["unproved_days"]),
            lapsed=timedelta(days=raw["lapsed_days"]),
            most_templates=int(raw["most_templates"]),
            most_identifiers=int(raw["most_identifiers"]),
            most_devices=int(raw["most_devices"]),
            reviewers=int(raw["reviewers"]),
            liveness=LivenessRules.read(raw["liveness"]),
        )

    def check(
        self, claims: Claims, kind: str, subscriber_id: str, target_id: str, now: datetime, *, minor: bool
    ) -> None:
        """Raises NotProved unless the claims prove this target of this subscriber at `now`.

        A minor under 14 consents through the legal representative, which is to be verified (PIPA 22-2). Here it is
        only known that a subscriber is under 19, so a minor needs the guardian's consent, or the word of a provider
        of real names that 14 is reached. The value and the nonce are the caller's to compare: they need a canonical
        form and a memory.
        """
        if claims.audience != self.audience:
            raise NotProved("WRONG_AUDIENCE")
        if claims.subscriber_id != subscriber_id or claims.target_id != target_id:
            raise NotProved("WRONG_SUBJECT")
        self._check_time(claims, now)
        provider = self.providers[claims.provider]
        needed = self.needs.get(kind, self.needs["default"])
        if Assertion.POSSESSION in needed and not (claims.possession and provider.possession):
            raise NotProved("POSSESSION_NOT_PROVED")
        if Assertion.REAL_NAME in needed and not (claims.real_name and provider.real_name):
            raise NotProved("REAL_NAME_NOT_PROVED")
        of_age = claims.fourteen and claims.real_name and provider.real_name
        if minor and not of_age and not (claims.guardian and provider.guardian):
            raise NotProved("GUARDIAN_NOT_PROVED")
        if len(claims.nonce) not in _NONCE_BYTES:
            raise NotProved("BAD_NONCE")

    def _check_time(self, claims: Claims, now: datetime) -> None:
        if claims.issue_time is None or claims.expire_time is None:
            raise NotProved("EXPIRED")
        if not timedelta() < claims.expire_time - claims.issue_time <= self.longest_claim:
            raise NotProved("EXPIRED")
        if not claims.issue_time - self.skew <= now < claims.expire_time + self.skew:
            raise NotProved("EXPIRED")

    def challenge_needed(self, liveness: Liveness, claims: Claims) -> bool:
        """Whether a face must pass a pose challenge before these claims can prove it."""
        seen_live = claims.live_face and self.providers[claims.provider].live_face
        return liveness in self.liveness.challenge_first and not seen_live

    def valid_until(self, kind: str, now: datetime) -> datetime:
        """When a proof made now ends."""
        return now + self.valid.get(kind, self.valid["default"])
