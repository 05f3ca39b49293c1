"""What does a look at a page tell: is the content still there?

A look never proves more than it can: a wall in front of the page, a refusal by the fetch policy or an error of the
server say nothing. 404, 410 and 451 say that it is gone. A page that answers 200 is compared with what it looked like
while the content was there: a file by its hash, a page by a sketch of its visible text (the smallest hashes of its
three-word shingles, Broder 1997), because clocks, counters and advertisements change the hash of a living page at
every visit.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from html.parser import HTMLParser

SKETCH = 128
"""Hashes in a sketch; the similarity it estimates is off by about 1/√128."""
LARGEST_BODY = 1024 * 1024
"""Bytes of a page that are looked at."""
_SHINGLE = 3
_OPENING = 1500
"""Characters of visible text in which a page says that it has nothing to show."""
_GONE = frozenset({404, 410, 451})
"""451: unavailable for legal reasons (RFC 7725)."""
_WALLED = frozenset({401, 402, 403, 407})
_SILENT = frozenset({"script", "style", "noscript", "template", "svg"})


class Decision(StrEnum):
    """What the fetch policy allows."""

    ALLOW = "ALLOW"
    DEFER = "DEFER"
    REFUSE = "REFUSE"


@dataclass(frozen=True)
class Sight:
    """What was seen at an address. The page may hold personal data: it stays in memory and out of `repr`."""

    decision: Decision
    rule_id: str
    """Rule of the fetch policy that decided."""
    status: int = 0
    """HTTP status of the last answer; 0 where nobody answered."""
    body_sha256: bytes = b""
    body: bytes = field(default=b"", repr=False)
    """At most LARGEST_BODY bytes of it."""
    media_type: str = ""
    login_wall: bool = False
    """Whether a log-in, a CAPTCHA or a payment stands before the page."""
    retry_after: timedelta | None = None


class Finding(StrEnum):
    """What a look tells."""

    PRESENT = "PRESENT"
    GONE = "GONE"
    LOOKS_GONE = "LOOKS_GONE"
    """A further look has to confirm it."""
    BLINDED = "BLINDED"
    """It is hidden for a time, and the page says so; a further look has to confirm it."""
    UNSEEN = "UNSEEN"
    """Nobody may or can look."""
    LATER = "LATER"
    """Nobody could look now."""


@dataclass(frozen=True)
class Judgement:
    """A finding, and why."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class SightRules:
    """When a page that answers is not what it was."""

    changed_below: float
    """Similarity to the first look below which a page counts as changed."""
    soft_404: tuple[re.Pattern[str], ...]
    """Words of a page that has nothing to show and answers 200 all the same."""
    blinded: tuple[re.Pattern[str], ...]
    """Words of a page that was blinded for a time."""
    wall: tuple[re.Pattern[str], ...]
    """Words of a page that shows nothing before a log-in."""
    wall_words: int
    """A page of more words than this is no wall."""


@dataclass(frozen=True)
class Baseline:
    """What the page looked like while the content was there."""

    sha256: str
    is_page: bool
    sketch: tuple[int, ...]
    says_missing: bool
    """Whether it held the words of a missing or blinded page even then."""

    def to_bytes(self) -> bytes:
        """For keeping under seal."""
        return json.dumps([self.sha256, self.is_page, self.sketch, self.says_missing]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Baseline:
        """The inverse of `to_bytes`."""
        sha256, is_page, sketch, says_missing = json.loads(content)
        return cls(sha256, is_page, tuple(sketch), says_missing)


def judge(sight: Sight, baseline: Baseline | None, rules: SightRules) -> Judgement:
    """What a look tells, given what was there before (None: nobody has looked yet)."""
    if sight.decision is not Decision.ALLOW:
        finding = Finding.UNSEEN if sight.decision is Decision.REFUSE else Finding.LATER
        return Judgement(finding, sight.decision.value)
    if sight.login_wall or sight.status in _WALLED:
        return Judgement(Finding.UNSEEN, "LOGIN_WALL")
    if sight.status in _GONE:
        return Judgement(Finding.GONE, f"HTTP_{sight.status}")
    if sight.status != 200:
        return Judgement(Finding.LATER, f"HTTP_{sight.status}" if sight.status else "NO_ANSWER")
    return _judge_page(sight, baseline, rules)


def baseline_of(sight: Sight, rules: SightRules) -> Baseline:
    """What to compare later looks with."""
    is_page = _is_page(sight)
    text = _visible(sight) if is_page else ""
    return Baseline(sight.body_sha256.hex(), is_page, sketch(text), _says(rules.soft_404 + rules.blinded, text))


def sketch(text: str) -> tuple[int, ...]:
    """The smallest hashes of the shingles of a text, at most SKETCH of them, in order."""
    words = text.split()
    count = max(1, len(words) - _SHINGLE + 1)
    shingles = {" ".join(words[start : start + _SHINGLE]) for start in range(count)}
    return tuple(heapq.nsmallest(SKETCH, map(_hash, shingles)))


def similarity(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Estimated share of shingles that two texts have in common, 0 to 1."""
    least = heapq.nsmallest(SKETCH, set(one) | set(other))
    common = set(one) & set(other)
    return sum(item in common for item in least) / len(least) if least else 1.0


def _judge_page(sight: Sight, baseline: Baseline | None, rules: SightRules) -> Judgement:
    if not _is_page(sight):
        changed = baseline is not None and not baseline.is_page and baseline.sha256 != sight.body_sha256.hex()
        return Judgement(Finding.LOOKS_GONE, "CONTENT_CHANGED") if changed else Judgement(Finding.PRESENT, "HTTP_200")
    text = _visible(sight)
    if len(text.split()) <= rules.wall_words and _says(rules.wall, text):
        return Judgement(Finding.UNSEEN, "LOGIN_WALL")
    if baseline is None or not baseline.says_missing:
        if _says(rules.blinded, text):
            return Judgement(Finding.BLINDED, "BLINDED")
        if _says(rules.soft_404, text):
            return Judgement(Finding.LOOKS_GONE, "SOFT_404")
    if baseline is not None and similarity(sketch(text), baseline.sketch) < rules.changed_below:
        return Judgement(Finding.LOOKS_GONE, "CONTENT_CHANGED")
    return Judgement(Finding.PRESENT, "HTTP_200")


def _is_page(sight: Sight) -> bool:
    return "html" in sight.media_type.lower() or not sight.media_type


def _says(patterns: tuple[re.Pattern[str], ...], text: str) -> bool:
    return any(pattern.search(text[:_OPENING]) for pattern in patterns)


def _visible(sight: Sight) -> str:
    reader = _VisibleText()
    reader.feed(sight.body[:LARGEST_BODY].decode("utf-8", "replace"))
    return " ".join(" ".join(reader.found).split())


def _hash(shingle: str) -> int:
    return int.from_bytes(hashlib.blake2b(shingle.encode("utf-8", "replace"), digest_size=6).digest())


class _VisibleText(HTMLParser):
    """The text of a page as a reader sees it, its title first, and which pictures it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag in ("img", "video", "source"):
            # Without its query: only the name of the picture says which one it is.
            self.found.extend((value or "").partition("?")[0] for name, value in attrs if name == "src")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)
