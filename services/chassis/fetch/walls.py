"""Does an answer show content, or a wall in front of it? (Network Act 48: access controls are not got around.)"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from services.chassis.fetch.rules import Patterns, WallRules

_LOOKED_AT: Final = 64 * 1024
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})


def wall_of_status(rules: WallRules, status: int) -> str | None:
    """The rule that an HTTP status names, or None."""
    return rules.statuses.get(status)


def wall_of_address(rules: WallRules, url: str) -> str | None:
    """The rule that a redirect's target names, or None."""
    return _first(rules.paths, urlsplit(url).path)


def wall_of_page(rules: WallRules, content_type: str, body: bytes) -> str | None:
    """The rule that a page names, or None."""
    if content_type not in _HTML:
        return None
    return _first(rules.pages, body[:_LOOKED_AT].decode("utf-8", "replace"))


def _first(patterns: Patterns, text: str) -> str | None:
    return next((rule for rule, each in patterns.items() if any(pattern.search(text) for pattern in each)), None)
