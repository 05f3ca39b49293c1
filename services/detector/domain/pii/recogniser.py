"""What every recogniser of personal data is made of."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.detector.domain.pii.model import Check, Kind, MaskRule

# ASCII: a word boundary between Latin letters and Hangul ("order번호").
_FLAGS = re.IGNORECASE | re.ASCII


class Nearby(enum.StrEnum):
    """What the words around a candidate say: it is something else, nothing, or it is what it looks like."""

    AGAINST = "against"
    ALONE = "alone"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class Context:
    """Words that speak for or against a candidate; before it the nearest label wins.

    `near` and `against` are alternatives of a case-insensitive expression; the windows count characters.
    """

    near: str = ""
    against: str = ""
    before: int = 40
    after: int = 16
    _words: re.Pattern[str] | None = field(init=False, repr=False, default=None)
    _after: re.Pattern[str] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        groups = [f"(?P<{name}>{words})" for name, words in (("near", self.near), ("against", self.against)) if words]
        if groups:
            object.__setattr__(self, "_words", re.compile("|".join(groups), _FLAGS))
        if self.near:
            object.__setattr__(self, "_after", re.compile(self.near, _FLAGS))

    def verdict(self, text: str, start: int, end: int) -> Nearby:
        """What stands before [start, end), else what stands after it on the same line."""
        if self.against and _in_link(text, start):
            return Nearby.AGAINST
        if self._words is not None:
            labels = [label.lastgroup for label in self._words.finditer(text, max(0, start - self.before), start)]
            if labels:
                return Nearby.NEAR if labels[-1] == "near" else Nearby.AGAINST
        if self._after is not None and self._after.search(text, end, min(len(text), end + self.after)):
            return Nearby.NEAR
        return Nearby.ALONE


_LINK: Final = re.compile(r"(?:https?://|www\.)\S*\Z", re.IGNORECASE)


def _in_link(text: str, start: int) -> bool:
    """Numbers inside a link are identifiers of pages, orders, articles."""
    return _LINK.search(text, max(0, start - 120), start) is not None


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts in which the rule must find the value in ⟦brackets⟧, and texts in which it must find nothing."""

    valid: tuple[str, ...]
    invalid: tuple[str, ...] = ()


def unknown(_value: str) -> bool | None:
    """The check of a format without arithmetic."""
    return None


def never(_value: str) -> bool:
    """The format resembles nothing else."""
    return False


def no_canonical(_value: str) -> str:
    """Kinds that are never watched have no comparable form."""
    return ""


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
    `lookalike`: true when the value is as likely something else, so that words nearby must speak for it.
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
    canonical: Callable[[str], str] = no_canonical
    lookalike: Callable[[str], bool] = never
    national: bool = False
    personal: bool = True
    reach: int = 120

    def verify(self, value: str) -> Check:
        """The check's answer as a record states it."""
        answer = self.check(value)
        return Check.UNKNOWN if answer is None else Check.YES if answer else Check.NO


def words(text: str) -> str:
    """An alternation of the words of a text, longest first, so that a longer name is not cut short by a shorter one."""
    return "|".join(sorted((re.escape(word) for word in text.split()), key=len, reverse=True))
