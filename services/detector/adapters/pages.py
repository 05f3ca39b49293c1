"""What stands at an address of the public web, as far as the policy of fetching lets anybody look?"""

from __future__ import annotations

import asyncio
from html.parser import HTMLParser
from typing import Final

from services.chassis.fetch import Fetched, Fetcher, FetchRules, Verdict
from services.chassis.fetch.addresses import Refused, checked_url
from services.detector.domain.reports import is_public_name
from services.detector.ports import Page

ADDRESS_NOT_PUBLIC: Final = "ADDRESS_NOT_PUBLIC"
LOOKING_IS_OFF: Final = "LOOKING_IS_OFF"
_HTML: Final = frozenset({"text/html", "application/xhtml+xml"})
_UNSEEN: Final = frozenset({"script", "style", "noscript", "template", "svg"})
_SAYING: Final = ("alt", "title", "content", "value", "placeholder")
_MOST_CHARACTERS: Final = 1 << 20


class PublicPages:
    """The `Pages` over the fetcher; without one nothing is looked at, and that is said."""

    def __init__(self, rules: FetchRules, fetcher: Fetcher | None) -> None:
        self._rules = rules
        self._fetcher = fetcher

    def refusal(self, address: str) -> str:
        """See the port."""
        try:
            parts = checked_url(address, self._rules)
        except Refused as refusal:
            return refusal.rule_id
        return "" if is_public_name(parts.hostname or "") else ADDRESS_NOT_PUBLIC

    async def look(self, address: str) -> Page:
        """See the port."""
        if self._fetcher is None:
            return Page(Verdict.REFUSE.value, LOOKING_IS_OFF, self._rules.version)
        fetched = await self._fetcher.fetch(address)
        # A long page takes a while to read, and somebody may wait before an upload.
        return await asyncio.to_thread(page_of, fetched)


def page_of(fetched: Fetched) -> Page:
    """What a fetch came to, read: of a page its words, of a picture its bytes."""
    decision = fetched.decision
    facts = (decision.verdict.value, decision.rule_id, decision.rules_version, fetched.status)
    if not decision.allowed:
        return Page(*facts, retry_after_ms=decision.retry_after_ms)
    if fetched.content_type.startswith("image/"):
        return Page(*facts, image=fetched.body)
    text = _decoded(fetched.body)
    if fetched.content_type not in _HTML:
        return Page(*facts, text=text)
    words = _Words()
    words.feed(text)
    words.close()
    return Page(*facts, text="\n".join(words.found), title=" ".join(words.title))


def _decoded(body: bytes) -> str:
    """Text of a page: UTF-8, else the Korean code page that old boards still use (WHATWG names it EUC-KR)."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        text = body.decode("cp949", "replace")
    return text[:_MOST_CHARACTERS]


class _Words(HTMLParser):
    """Gathers what a page says: its text, and the attributes in which words stand."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.title: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An opening tag."""
        if tag in _UNSEEN or tag == "title":
            self._open.append(tag)
        self.found += [value for name, value in attrs if name in _SAYING and value and value.strip()]

    def handle_endtag(self, tag: str) -> None:
        """A closing tag."""
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Text between tags."""
        words = data.strip()
        if not words or (self._open and self._open[-1] in _UNSEEN):
            return
        (self.title if "title" in self._open else self.found).append(words)
