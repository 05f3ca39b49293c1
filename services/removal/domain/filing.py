"""May this request be filed, by whom, and is all the evidence there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.removal.domain.policy import PERSONAL, Field, Filer, Path, Policy

NO_MANDATE = "NO_MANDATE"
WAITS_FOR_PERSON = "WAITS_FOR_PERSON"
SUSPENDED = "SUSPENDED"
NO_CONSENT = "NO_CONSENT"
MISSING_EVIDENCE = "MISSING_EVIDENCE"


@dataclass(frozen=True)
class Evidence:
    """What the pack says of one sighting. Personal data: stays out of `repr`, lies in ciphertext only."""

    source_url: str = field(repr=False)
    post_id: str = field(default="", repr=False)
    channel: str = ""
    discover_time: str = ""
    """RFC 3339."""
    publish_time: str = ""
    http_status: int = 0
    content_sha256: tuple[str, ...] = ()
    """SHA-256 of the parts, hex."""
    has_masked_text: bool = False
    has_thumbnail: bool = False
    manifest_sha256: str = ""
    pack_version: int = 0
    statement: str = field(default="", repr=False)
    """What was added after a rejection."""


@dataclass(frozen=True)
class Claimant:
    """The subscriber as a platform gets to see them."""

    name: str = field(default="", repr=False)
    email: str = field(default="", repr=False)


class Scope(StrEnum):
    """What a mandate may let us do."""

    FILE = "FILE"
    """Put requests to platforms."""
    SUPPLEMENT = "SUPPLEMENT"
    """Answer a rejection and put the request again without asking anew."""
    JOIN = "JOIN"
    """Let one request stand for several subscribers whose content is on the same page."""


@dataclass(frozen=True)
class Mandate:
    """A signed document by which the subscriber lets us file (PIPA 38, Decree 45, 46)."""

    mandate_id: str
    platforms: tuple[str, ...]
    """Empty covers all."""
    document_sha256: bytes
    expire_time: datetime
    revoke_time: datetime | None = None
    scope: tuple[Scope, ...] = (Scope.FILE, Scope.SUPPLEMENT)
    """What it lets us do."""

    def covers(self, platform: str, at: datetime, scope: Scope | None = None) -> bool:
        """Whether it lets us file (or do what `scope` says) at `platform` at that time."""
        stands = at < self.expire_time and (self.revoke_time is None or at < self.revoke_time)
        right = (scope or Scope.FILE) in self.scope
        return stands and right and (not self.platforms or platform in self.platforms)


@dataclass(frozen=True)
class Authority:
    """Who files, and what keeps us from doing it."""

    path: Path
    obstacle: str = ""
    """Empty when we may file; else WAITS_FOR_PERSON or NO_MANDATE."""
    mandate: Mandate | None = None


def authority(policy: Policy, mandates: Sequence[Mandate], at: datetime) -> Authority:
    """Who may file under `policy`: we with a mandate that stands, otherwise the person alone."""
    if Filer.AGENT_WITH_MANDATE not in policy.filers:
        return Authority(Path.PERSON, WAITS_FOR_PERSON)
    standing = [mandate for mandate in mandates if mandate.covers(policy.platform, at)]
    if not standing:
        return Authority(Path.PERSON, NO_MANDATE)
    return Authority(policy.path, mandate=max(standing, key=lambda mandate: mandate.expire_time))


def missing(policy: Policy, evidence: Evidence, claimant: Claimant | None) -> tuple[Field, ...]:
    """Required fields that nobody can fill.

    The mandate is judged by `authority`; the person's own data when it was looked up (`claimant` is None before).
    """
    there = _present(evidence) | {Field.MANDATE}
    there |= PERSONAL if claimant is None else _disclosed(claimant)
    return tuple(item for item in policy.required if item not in there)


def _present(evidence: Evidence) -> set[Field]:
    filled: dict[Field, object] = {
        Field.SOURCE_URL: evidence.source_url,
        Field.POST_ID: evidence.post_id,
        Field.DISCOVER_TIME: evidence.discover_time,
        Field.PUBLISH_TIME: evidence.publish_time,
        Field.HTTP_STATUS: evidence.http_status,
        Field.CONTENT_SHA256: evidence.content_sha256,
        Field.MASKED_TEXT: evidence.has_masked_text,
        Field.THUMBNAIL: evidence.has_thumbnail,
        Field.STATEMENT: evidence.statement,
    }
    return {item for item, value in filled.items() if value}


def _disclosed(claimant: Claimant) -> set[Field]:
    pairs = ((Field.CLAIMANT_NAME, claimant.name), (Field.CLAIMANT_EMAIL, claimant.email))
    return {item for item, value in pairs if value}
