"""When a face or an identifier is proved to be a subscriber's own, and for how long."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from services.detector.domain.decisions import IdentifierKind

FACE: Final = "FACE"
_NONCE_BYTES: Final = range(16, 65)


class OwnershipState(enum.IntEnum):
    """Where a proof stands; the numbers of the contract. Only VERIFIED is matched."""

    PENDING = 1
    VERIFIED = 2
    EXPIRED = 3
    SUSPENDED = 4
    ERASED = 5


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


@dataclass(frozen=True, slots=True)
class Provider:
    """Who may assert, with which key, and what its word is good for."""

    provider: str
    key_id: str
    key_file: str
    possession: bool
    real_name: bool
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
    real_name_needed: frozenset[str]
    most_templates: int
    most_identifiers: int
    """What one subscriber may have that is not erased."""

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
            real_name_needed=frozenset(raw["real_name_needed"]),
            most_templates=int(raw["most_templates"]),
            most_identifiers=int(raw["most_identifiers"]),
        )

    def check(self, claims: Claims, kind: str, subscriber_id: str, target_id: str, now: datetime) -> None:
        """Raises NotProved unless the claims prove this target of this subscriber at `now`.

        The value and the nonce are the caller's to compare: they need a canonical form and a memory.
        """
        if claims.audience != self.audience:
            raise NotProved("WRONG_AUDIENCE")
        if claims.subscriber_id != subscriber_id or claims.target_id != target_id:
            raise NotProved("WRONG_SUBJECT")
        self._check_time(claims, now)
        provider = self.providers[claims.provider]
        if not (claims.possession and provider.possession):
            raise NotProved("POSSESSION_NOT_PROVED")
        if kind in self.real_name_needed and not (claims.real_name and provider.real_name):
            raise NotProved("REAL_NAME_NOT_PROVED")
        if len(claims.nonce) not in _NONCE_BYTES:
            raise NotProved("BAD_NONCE")

    def _check_time(self, claims: Claims, now: datetime) -> None:
        if claims.issue_time is None or claims.expire_time is None:
            raise NotProved("EXPIRED")
        if not timedelta() < claims.expire_time - claims.issue_time <= self.longest_claim:
            raise NotProved("EXPIRED")
        if not claims.issue_time - self.skew <= now < claims.expire_time + self.skew:
            raise NotProved("EXPIRED")

    def valid_until(self, kind: str, now: datetime) -> datetime:
        """When a proof made now ends."""
        return now + self.valid.get(kind, self.valid["default"])
