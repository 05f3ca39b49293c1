"""Which evidence does a platform ask for, and is what we have present, weak or missing? (`EvidencePackReport`)

What is asked for is versioned data (`rules/evidence.yaml`): the same lists as the platforms' templates in `removal`,
which a test keeps equal. Weak is what is there and invites a question, such as a hash of content that was fetched a day
after it was found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from services.case.domain.archive import Json

Capture: TypeAlias = "Mapping[str, Json]"
"""`capture.json` of a sighting."""


class Field(StrEnum):
    """What platforms ask for."""

    SOURCE_URL = "source_url"
    POST_ID = "post_id"
    DISCOVER_TIME = "discover_time"
    PUBLISH_TIME = "publish_time"
    HTTP_STATUS = "http_status"
    CONTENT_SHA256 = "content_sha256"
    MASKED_TEXT = "masked_text"
    THUMBNAIL = "thumbnail"
    STATEMENT = "statement"
    MANDATE = "mandate"
    CLAIMANT_NAME = "claimant_name"
    CLAIMANT_EMAIL = "claimant_email"


AT_FILING = frozenset({Field.STATEMENT, Field.MANDATE})
"""What only the filing knows: `removal` holds mandates and what is added after a rejection."""


class Standing(StrEnum):
    """Where a field stands, the best first."""

    PRESENT = "PRESENT"
    AT_FILING = "AT_FILING"
    """Added when the request is filed."""
    WEAK = "WEAK"
    MISSING = "MISSING"


@dataclass(frozen=True, slots=True)
class Requirements:
    """The rules of `rules/evidence.yaml`."""

    version: str
    platforms: Mapping[str, tuple[Field, ...]]
    otherwise: tuple[Field, ...]
    """For a sighting without a platform that is known."""
    good_statuses: frozenset[int]
    fetched_within: timedelta

    def of(self, platform: str) -> tuple[Field, ...]:
        """What a platform asks for."""
        return self.platforms.get(platform, self.otherwise)


@dataclass(frozen=True, slots=True)
class Have:
    """What there is of one sighting."""

    sighting_id: str
    platform: str
    capture: Capture
    has_masked_text: bool
    has_thumbnail: bool
    packed: bool
    """False where the archive was full."""


@dataclass(frozen=True, slots=True)
class Claimant:
    """Which of the subscriber's own data could be named."""

    has_name: bool
    has_email: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One field of one sighting."""

    field: Field
    standing: Standing
    reasons: tuple[str, ...] = ()
    """Why it is weak: NOT_FETCHED, STATUS_NOT_GOOD, NOT_ENCRYPTED, FETCHED_LATE, BEFORE_PUBLICATION."""

    def as_json(self) -> dict[str, Json]:
        """As the report has it."""
        return {"field": self.field.value, "standing": self.standing.value, "reasons": list(self.reasons)}


def assess(have: Have, claimant: Claimant, rules: Requirements) -> list[Finding]:
    """Every field that the sighting's platform asks for."""
    return [_finding(name, have, claimant, rules) for name in rules.of(have.platform)]


def worst(findings: Iterable[Finding]) -> Standing:
    """The worst standing; PRESENT where nothing is asked for."""
    order = list(Standing)
    return max((finding.standing for finding in findings), key=order.index, default=Standing.PRESENT)


def pack_report(haves: Sequence[Have], claimant: Claimant, rules: Requirements) -> dict[str, Json]:
    """The part of `EvidencePackReport` about platforms: how many sightings have each field, and each sighting."""
    findings = {have.sighting_id: assess(have, claimant, rules) for have in haves}
    platforms = sorted({have.platform for have in haves})
    return {
        "requirements_version": rules.version,
        "platforms": [_platform(name, haves, findings) for name in platforms],
        "sightings": [
            {
                "sighting_id": have.sighting_id,
                "platform": have.platform,
                "standing": worst(findings[have.sighting_id]).value,
                "packed": have.packed,
                "fields": [finding.as_json() for finding in findings[have.sighting_id]],
            }
            for have in haves
        ],
    }


def _platform(name: str, haves: Sequence[Have], findings: Mapping[str, Sequence[Finding]]) -> Json:
    of_it = [findings[have.sighting_id] for have in haves if have.platform == name]
    counts: dict[Field, Counter[Standing]] = {finding.field: Counter() for finding in of_it[0]}
    for sighting in of_it:
        for finding in sighting:
            counts[finding.field][finding.standing] += 1
    fields: list[Json] = [
        {"field": field.value, **{standing.value: count[standing] for standing in Standing if count[standing]}}
        for field, count in counts.items()
    ]
    whole = sum(worst(sighting) is not Standing.MISSING for sighting in of_it)
    return {"platform": name, "sightings": len(of_it), "complete": whole, "fields": fields}


def _finding(name: Field, have: Have, claimant: Claimant, rules: Requirements) -> Finding:
    if name in AT_FILING:
        return Finding(name, Standing.AT_FILING)
    if not _is_there(name, have, claimant):
        return Finding(name, Standing.MISSING)
    reasons = tuple(_doubts(name, have.capture, rules))
    return Finding(name, Standing.WEAK if reasons else Standing.PRESENT, reasons)


def _is_there(name: Field, have: Have, claimant: Claimant) -> bool:
    match name:
        case Field.MASKED_TEXT:
            return have.has_masked_text
        case Field.THUMBNAIL:
            return have.has_thumbnail
        case Field.CLAIMANT_NAME:
            return claimant.has_name
        case Field.CLAIMANT_EMAIL:
            return claimant.has_email
        case Field.CONTENT_SHA256:
            return bool(have.capture.get("part_hashes"))
        case Field.HTTP_STATUS:
            return bool(_http(have.capture).get("status"))
        case _:
            return bool(have.capture.get(name.value))


def _doubts(name: Field, capture: Capture, rules: Requirements) -> Iterable[str]:
    http = _http(capture)
    match name:
        case Field.SOURCE_URL:
            if not http:
                yield "NOT_FETCHED"
            elif http.get("status") not in rules.good_statuses:
                yield "STATUS_NOT_GOOD"
        case Field.HTTP_STATUS:
            if http.get("status") not in rules.good_statuses:
                yield "STATUS_NOT_GOOD"
        case Field.CONTENT_SHA256:
            if not http:
                yield "NOT_FETCHED"
            elif not http.get("tls_peer_sha256"):
                yield "NOT_ENCRYPTED"
            if _time_between(capture.get("discover_time"), http.get("fetch_time")) > rules.fetched_within:
                yield "FETCHED_LATE"
        case Field.DISCOVER_TIME:
            if _time_between(capture.get("discover_time"), capture.get("publish_time")) > timedelta(0):
                yield "BEFORE_PUBLICATION"
        case _:
            return


def _http(capture: Capture) -> Mapping[str, Json]:
    """What is known of fetching it; nothing where neither an answer nor a time was noted."""
    http = capture.get("http")
    return http if isinstance(http, dict) and (http.get("status") or http.get("fetch_time")) else {}


def _time_between(earlier: Json, later: Json) -> timedelta:
    """How much later; nothing where one of them is not known."""
    if not (isinstance(earlier, str) and isinstance(later, str) and earlier and later):
        return timedelta(0)
    return datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
