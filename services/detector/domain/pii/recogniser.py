"""What every recogniser of personal data is made of."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.detector.domain.pii.model import Kind, MaskRule

_MARGIN: Final = 16
"""Characters beyond a window that look-around of context words may need."""
LINK: Final = re.compile(r"https?://|www\.")
"""What the word before a number begins with where the number is part of a link, in small letters."""
LONGEST_LINK: Final = 120
"""Characters before a number in which a link is sought."""


class Nearby(enum.StrEnum):
    """What the words around a candidate say: it is something else, nothing, or it is what it looks like."""

    AGAINST = "against"
    ALONE = "alone"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class Context:
    """Words that speak for or against a candidate; before it the nearest label wins.

    `near` and `against` are alternatives of an expression over small letters, ASCII where it says "word" so that Latin
    letters end at Hangul ("order번호"); the windows count characters.
    """

    near: str = ""
    against: str = ""
    before: int = 40
    after: int = 16
    _near: re.Pattern[str] | None = field(init=False, repr=False, default=None)
    _against: re.Pattern[str] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        for name, alternatives in (("_near", self.near), ("_against", self.against)):
            if alternatives:
                object.__setattr__(self, name, re.compile(_guarded(alternatives), re.ASCII))

    def expressions(self) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
        """Of the words that speak for and against; both are sought in small letters."""
        return self._near, self._against

    def verdict(self, text: str, start: int, end: int) -> Nearby:
        """What stands before [start, end), else what stands after it on the same line."""
        if self.against and _in_link(text, start):
            return Nearby.AGAINST
        low = max(0, start - self.before)
        seen = text[max(0, low - _MARGIN) : end + self.after + _MARGIN].lower()
        shift = max(0, low - _MARGIN)
        near = _last(self._near, seen, low - shift, start - shift)
        against = _last(self._against, seen, low - shift, start - shift)
        if near >= 0 or against >= 0:
            return Nearby.NEAR if near >= against else Nearby.AGAINST
        if self._near is not None and self._near.search(seen, end - shift, end - shift + self.after):
            return Nearby.NEAR
        return Nearby.ALONE


def _guarded(alternatives: str) -> str:
    """The expression behind a look at the next character: most places fail there, and cheaply."""
    starts = _starts(alternatives)
    return f"(?=[{re.escape(''.join(sorted(starts)))}])(?:{alternatives})" if starts else alternatives


def _starts(alternatives: str) -> frozenset[str]:
    """The characters that a match may begin with; empty where that is not plain to see."""
    found: set[str] = set()
    for alternative in _split(alternatives):
        plain = re.sub(r"^(?:\\b|\(\?<![^)]*\))+", "", alternative)
        if plain.startswith("(?:"):
            inner = _starts(plain[3 : _closing(plain)])
            if not inner or plain[_closing(plain) + 1 : _closing(plain) + 2] in set("?*{"):
                return frozenset()
            found |= inner
        elif not plain or plain[0] in "[(.^$\\" or plain[1:2] in set("?*{"):
            return frozenset()
        else:
            found.add(plain[0])
    return frozenset(found)


def _split(alternatives: str) -> list[str]:
    depth, parts = 0, [""]
    for char in alternatives:
        depth += (char == "(") - (char == ")")
        if char == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _closing(group: str) -> int:
    depth = 0
    for at, char in enumerate(group):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return at
    raise ValueError("unbalanced expression")


def _last(pattern: re.Pattern[str] | None, text: str, low: int, high: int) -> int:
    """Where the last match ends; -1 without one."""
    found = -1
    if pattern is not None:
        for match in pattern.finditer(text, low, high):
            found = match.end()
    return found


def _in_link(text: str, start: int) -> bool:
    """Numbers inside a link are identifiers of pages, orders, articles."""
    before = text[max(0, start - LONGEST_LINK) : start]
    if not before or before[-1].isspace():
        return False
    return LINK.search(before.split()[-1].lower()) is not None


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts in which the rule must find the value in ⟦brackets⟧, and texts in which it must find nothing."""

    valid: tuple[str, ...]
    invalid: tuple[str, ...] = ()


NINE_DIGITS: Final = r"(?:^|[^0-9a-z])[0-9]{9}"
"""The anchor of every number of nine digits or more without separators: told once for each."""


def unknown(_value: str) -> bool | None:
    """The check of a format without arithmetic."""
    return None


def never(_value: str) -> bool:
    """The format resembles nothing else."""
    return False


# Labels of numbers that are not personal data. The nearest label before a candidate decides.
OTHER_NUMBERS = (
    "(?:주문|송장|등기|택배|배송|일련|시리얼|제품|상품|접수|예약|승인|거래|관리|문서|참조"
    "|조회|바코드|쿠폰|학번|수험|송금|"
    "사건|영수증|타임스탬프|게시글|상품권|가맹점|인증|이벤트|할인|추천인|초대|회원|고객"
    r"|우편|사원|티켓|허가|인보이스|증권)\s?(?:번호|코드|no\.?)|배송\s?조회|주문|송장|등기"
    "|바코드|좌표|위도|경도|쿠폰|버전|영수증|타임스탬프|시리얼|품번|모델|상품권|사번|"
    r"\border\b|tracking|\bisbn|serial|\binvoice\b|barcode|\bimei\b|\bsku\b|epoch"
    r"|timestamp|\bversion\b|\bver\.|\bmodel\b|"
    r"\bticket\b|\bcommit\b|\blot\s?(?:no|number)|\bparts?\s?(?:no|number)|\breference\b"
    r"|\bcoupon\b|\bbuild\b|\bcode\b|"
    r"\b(?:lat|lng|lon|latitude|longitude)\b"
)


@dataclass(frozen=True, slots=True)
class Recogniser:
    """One format of one kind of personal data.

    `pattern`: exact expression over normalised text; the group `v`, where there is one, is the value. It must be
    bounded in length and free of nested backtracking, so that a scan stays linear.
    `anchors`: simple expressions (no look-around, at least one ASCII or Hangul literal or class); every match of
    `pattern` holds a match of one of them, at most `reach` characters from either end, look-around included.
    `ahead`: characters beyond an anchor's end that a match and its look-around may take; 0 stands for `reach`.
    `watchable`: a value has a comparable form (canonical.py), so that a person can have it watched; never for national
    identifiers and credentials.
    `lookalike`: true when the value is as likely something else, so that words nearby must speak for it.
    `in_context_only`: the anchors demand the context's words too, so no rule may count a candidate without them.
    `source`: where the format is laid down.
    """

    rule_id: str
    kind: Kind
    pattern: re.Pattern[str]
    anchors: tuple[str, ...]
    source: str
    examples: Examples
    check: Callable[[str], bool | None] = unknown
    context: Context = Context()
    mask: MaskRule = MaskRule.ALL
    watchable: bool = False
    lookalike: Callable[[str], bool] = never
    national: bool = False
    personal: bool = True
    reach: int = 120
    ahead: int = 0
    in_context_only: bool = False


def words(text: str) -> str:
    """An alternation of the words of a text, longest first, so that a longer name is not cut short by a shorter one."""
    return "|".join(sorted((re.escape(word) for word in text.split()), key=len, reverse=True))
