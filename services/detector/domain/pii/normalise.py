"""How text is made comparable before matching, and how a place in it leads back to the original.

Two steps. *Folding* undoes typography: full-width and circled digits, zero-width characters, dash variants,
conjoining Hangul. *Unveiling* undoes deliberate disguise: digits spelled out in Korean or English, letters in
place of digits, gaps between single digits, 골뱅이, [at], 쩜, (dot). Each step is a list of replacements, so every
stretch of the result maps back to the exact stretch of the original that it stands for.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple


class Replacement(NamedTuple):
    """Characters [start, end) of a text are to read `text`."""

    start: int
    end: int
    text: str

    def __repr__(self) -> str:
        """Without the text."""
        return f"Replacement(start={self.start}, end={self.end})"


class View(NamedTuple):
    """A rewritten text with the way back: parallel, ascending positions of each replacement."""

    text: str
    new_starts: tuple[int, ...] = ()
    new_ends: tuple[int, ...] = ()
    old_starts: tuple[int, ...] = ()
    old_ends: tuple[int, ...] = ()
    parent: View | None = None

    def __repr__(self) -> str:
        """Without the text."""
        return f"View({len(self.text)} characters)"

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The smallest stretch of the original text that [start, end) of this view stands for."""
        if self.new_starts:
            start, end = self._old_start(start), self._old_end(end)
        return self.parent.origin(start, end) if self.parent else (start, end)

    def _old_start(self, position: int) -> int:
        # Replacements that end at or before the position lie behind it, deleted ones included.
        index = bisect_right(self.new_ends, position)
        if index < len(self.new_starts) and self.new_starts[index] <= position:
            return self.old_starts[index]
        if index == 0:
            return position
        return self.old_ends[index - 1] + position - self.new_ends[index - 1]

    def _old_end(self, position: int) -> int:
        # Only replacements that begin before the position reach into the stretch.
        index = bisect_left(self.new_starts, position)
        if index == 0:
            return position
        if position <= self.new_ends[index - 1]:
            return self.old_ends[index - 1]
        return self.old_ends[index - 1] + position - self.new_ends[index - 1]


def rewrite(parent: View, replacements: Iterable[Replacement]) -> View:
    """Apply ascending, non-overlapping replacements; the same view when there are none."""
    pieces: list[str] = []
    spans: list[tuple[int, int, int, int]] = []
    done = length = 0
    for start, end, text in replacements:
        pieces += (parent.text[done:start], text)
        length += start - done
        if not len(text) == end - start == 1:  # one character for one keeps every place as it is
            spans.append((length, length + len(text), start, end))
        length += len(text)
        done = end
    if not done:
        return parent
    pieces.append(parent.text[done:])
    if not spans:
        return View("".join(pieces), parent=parent)
    new_starts, new_ends, old_starts, old_ends = zip(*spans, strict=True)
    return View("".join(pieces), new_starts, new_ends, old_starts, old_ends, parent)


# --- folding -------------------------------------------------------------------------------------------------

_INVISIBLE: Final = frozenset(
    chr(code)
    for low, high in (
        (0x00, 0x08),
        (0x0E, 0x1F),
        (0x7F, 0x84),
        (0x86, 0x9F),
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x61C, 0x61C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180E),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x20E3, 0x20E3),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF9, 0xFFFB),
        (0xE0000, 0xE007F),
        (0xE0100, 0xE01EF),
    )
    for code in range(low, high + 1)
)
_DASHES: Final = frozenset("‐‑‒–—―⁃−﹘﹣－⸺⸻ー〜～∼╌─━┄ㅡ᠆۔˗‾⎯﹉")
_DOTS: Final = frozenset("。．｡․")
# What needs no folding: printable ASCII, whitespace, composed Hangul and compatibility jamo (ㅋㅋ must stay as it
# is: NFKC would turn it into conjoining jamo). U+3161 ㅡ is taken out because it serves as a dash.
_PLAIN = "\t\n\r -~가-힣ㄱ-ㅠㅢㅣ"
# Frequent characters that folding leaves as they are: quotes, arrows, shapes, symbols, kana, ideographs, emoji.
KEPT: Final = (
    "·×÷‘’“”•※₩€←-⇿∀-∂■-◿☀-❵➔-➿、〈-】ぁ-ゖァ-・一-鿿🇦-🇿🌀-🗿😀-🙏🚀-🛿🤀-🧿🩰-🫿"
)
# Frequent characters that folding changes, and that matter beside digits and Latin letters only.
_HARMLESS: Final = "…ㅡ–—～\ufe0f\u200d"
_MARKS = "\u0300-\u036f\u1161-\u11ff\u3099\u309a"
_UNUSUAL: Final = re.compile(
    f"[0-9]\ufe0f?\u20e3|[A-Za-z]?[\u0300-\u036f]{{1,16}}|[{KEPT}][{_MARKS}]{{1,16}}|[^{_PLAIN}{KEPT}][{_MARKS}]{{0,16}}"
)
_ANY_MARK: Final = re.compile(f"[\u20e3{_MARKS}]")
_ANY_UNUSUAL: Final = re.compile(f"[^{_PLAIN}{KEPT}]")


@lru_cache(maxsize=8192)
def _folded(cluster: str) -> str:
    # Dashes first: NFKC would turn ㅡ into a conjoining vowel.
    visible = "".join("-" if char in _DASHES else char for char in cluster if char not in _INVISIBLE)
    return "".join(_plain_char(char) for char in unicodedata.normalize("NFKC", visible))


def _plain_char(char: str) -> str:
    if char in _DASHES:
        return "-"
    if char in _DOTS:
        return "."
    if char in _INVISIBLE:
        return ""
    if char in "ıİ":  # `re` takes them for i when case is ignored, Hyperscan does not
        return "i"
    digit = unicodedata.decimal(char, None)
    return char if digit is None else str(digit)


def fold(text: str) -> View:
    """Undo typography; NFKC except for compatibility jamo, dashes to '-', invisible characters removed."""
    view = View(text)
    if (text.isascii() and text.isprintable()) or not _ANY_UNUSUAL.search(text):
        return view
    return rewrite(view, _foldings(text))


def _foldings(text: str) -> Iterator[Replacement]:
    # Without marks that join the character before them, a character is a cluster: the plain class is far quicker.
    clusters = _UNUSUAL if _ANY_MARK.search(text) else _ANY_UNUSUAL
    for match in clusters.finditer(text):
        folded = _folded(match[0])
        if folded != match[0]:
            yield Replacement(match.start(), match.end(), folded)


# --- unveiling -----------------------------------------------------------------------------------------------

_KOREAN_DIGITS: Final = {
    **dict(zip("공영빵일이삼사오육륙칠팔구", "0001234566789", strict=True)),
    **dict(zip("零〇一二三四五六七八九", "00123456789", strict=True)),
}
_ENGLISH_DIGITS: Final = {
    word: str(digit)
    for digit, words in enumerate(
        ("zero|oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    )
    for word in words.split("|")
}
_HANGUL_DIGIT = "공영빵일이삼사오육륙칠팔구零〇一二三四五六七八九"
# One spelled digit, then at most three separators or a spoken dash ("일이삼사에 오육칠팔", "다시", "하이픈").
_SPELLED_RUN: Final = re.compile(
    f"(?:[0-9{_HANGUL_DIGIT}](?:[ .,_/·~()-]{{0,3}}+|[ ]?(?:에|다시|하이픈|대시)[ ]?)"
    f"(?=[0-9{_HANGUL_DIGIT}])){{7,40}}+"
    rf"[0-9{_HANGUL_DIGIT}]"
)
_SPELLED: Final = re.compile(f"[{_HANGUL_DIGIT}]")
# What a run of spelled digits holds, and prose seldom: three on end, one between figures, or, however far apart, the
# zero that phone numbers begin with and three more.
_SYMBOL: Final = f"[0-9{_HANGUL_DIGIT}]"
_LOOSE: Final = f"[ .,_/·~(){_HARMLESS}-]{{0,5}}"
_SPELLED_SIGNS: Final = (
    f"[{_HANGUL_DIGIT}]{_SYMBOL}{_SYMBOL}|[0-9][{_HANGUL_DIGIT}]{{1,2}}[0-9]",
    f"[공영빵零〇]{_LOOSE}{_SYMBOL}{_LOOSE}{_SYMBOL}{_LOOSE}{_SYMBOL}"
    f"|0{_LOOSE}(?:[{_HANGUL_DIGIT}]|1{_LOOSE}[{_HANGUL_DIGIT}]){_LOOSE}{_SYMBOL}{_LOOSE}{_SYMBOL}",
)
# Hints: cheap looks that decide whether a costly pattern is worth its while.
_SPELLED_HINT: Final = re.compile("|".join(_SPELLED_SIGNS))
_SPOKEN_DASH: Final = re.compile(r"에|다시|하이픈|대시")
_WORD = "(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|[0-9])"
_WORD_RUN: Final = re.compile(
    rf"(?<![A-Za-z0-9]){_WORD}(?:[ ,.\-]{{0,3}}{_WORD}){{6,24}}+(?![A-Za-z0-9])", re.IGNORECASE
)
_SPOKEN_DIGIT: Final = re.compile("|".join(_ENGLISH_DIGITS), re.IGNORECASE)
_WORD_TOKEN: Final = re.compile(rf"{_WORD}|[ ,.\-]+", re.IGNORECASE)
_LETTERS_AS_DIGITS: Final = str.maketrans("oOㅇlI|", "000111")
_LETTER_RUN: Final = re.compile(
    "(?<![A-Za-z0-9])[0oOㅇ][1lI|ㅣ][0oOㅇ][ .,_/·)-]{0,3}[0-9oOlI]{3,4}[ .,_/·-]{0,3}[0-9oOlI]{4}(?![A-Za-z0-9])"
)
_LETTER_HINT: Final = re.compile(r"[0oOㅇ][1lI|ㅣ][0oOㅇ][ .,_/·)-]{0,3}[0-9oOlI]{3}")
_GAP_HINT: Final = re.compile(r"[0-9][ .\-_·*,/]{1,3}[0-9][ .\-_·*,/]{1,3}[0-9][ .\-_·*,/]{1,3}[0-9]")
_GAP_RUN: Final = re.compile(r"(?<![0-9])[0-9](?:[ .\-_·*,/]{1,3}+[0-9](?![0-9])){8,20}+")
_GAP: Final = re.compile(r"[^0-9]+")
_AT = r"(?:[ ]{0,2}(?:골뱅이|앳|[\[({<]\s?(?:at|a|골뱅이|앳|@)\s?[\])}>])[ ]{0,2}|[ ]{0,2}@[ ]{0,2})"
_DOT = (
    r"(?:[ ]{0,2}(?:쩜|점|닷|[\[({<]\s?(?:dot|점|쩜|닷|\.)\s?[\])}>])[ ]{0,2}"
    r"|[ ]{1,2}dot[ ]{1,2}|[ ]?\.[ ]?)"
)
_TLD = r"(?:[A-Za-z]{2,12}|컴|콤|넷|케이알|씨오)"
_PROVIDERS: Final = {
    "네이버": "naver",
    "다음": "daum",
    "한메일": "hanmail",
    "지메일": "gmail",
    "구글": "google",
    "네이트": "nate",
    "핫메일": "hotmail",
    "카카오": "kakao",
    "아웃룩": "outlook",
    "야후": "yahoo",
    "컴": "com",
    "콤": "com",
    "넷": "net",
    "케이알": "kr",
    "씨오": "co",
}
_PROVIDER = "|".join(name for name in _PROVIDERS if len(name) > 1)
_LOCAL = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}+"
_VEILED_EMAIL: Final = re.compile(
    rf"(?<![A-Za-z0-9._%+@-])(?P<local>{_LOCAL}(?:(?:쩜|닷|[\["
    rf"({{<]\s?(?:dot|점|쩜)\s?[\])}}>]|[ ]{{1,2}}dot[ ]{{1,2}}){_LOCAL}){{0,2}})"
    rf"(?:(?P<at>{_AT})(?P<domain>(?:[A-Za-z0-9-]{{1,63}}+|{_PROVIDER})(?:{_DOT}{_TLD}){{0,3}})"
    f"|(?P<word_at>[ ]{{1,2}}at[ ]{{1,2}})(?P<word_domain>[A-Za-z0-9-]{{1,63}}+"
    # "at alex dot carter (at) example": the plain word is no sign where a clear one follows.
    rf"(?:[ ]{{1,2}}dot[ ]{{1,2}}[A-Za-z]{{2,12}}){{1,3}})(?!{_AT}))"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_EMAIL_SIGNS: Final = ("@", "골뱅이", "앳", " at ", "at)", "at]", "at}", "at>", "(a)", "[a]", "{a}")
_EMAIL_TOKEN: Final = re.compile(
    r"[ ]*(?:[\[({<]\s?(?:dot|점|쩜|닷|\.)\s?[\])}>]|쩜|점|닷|(?<=[ ])dot(?=[ ])|\.)[ ]*|" + "|".join(_PROVIDERS),
    re.IGNORECASE,
)


def _table(text: str) -> list[str]:
    return text.split()


_COMMON_TLDS: Final = frozenset(
    _table("""
    com net org kr co io me edu gov info biz jp us uk de fr cn tv ac re pe or go
    """)
)


def normalise(text: str) -> View:
    """Fold, then unveil: the text that patterns are matched against, with the way back to the original."""
    return unveil(fold(text))


def unveil(view: View) -> View:
    """Undo deliberate disguise in a folded text."""
    if _SPELLED_HINT.search(view.text):
        view = rewrite(view, _spelled_digits(view.text))
    lower = view.text.lower()
    if sum(map(lower.count, _ENGLISH_DIGITS)) >= 3:
        view = rewrite(view, _english_digits(view.text))
    if _LETTER_HINT.search(view.text):
        view = rewrite(view, _letters_as_digits(view.text))
    if _GAP_HINT.search(view.text):
        view = rewrite(view, _gaps(view.text))
    if any(sign in lower for sign in _EMAIL_SIGNS):
        view = rewrite(view, _veiled_emails(view.text))
    return view


def _spelled_digits(text: str) -> Iterator[Replacement]:
    for run in _SPELLED_RUN.finditer(text):
        if len(_SPELLED.findall(run[0])) < 2:
            continue
        first, last = _phone_inside(run)
        for index in range(first, last):
            digit = _KOREAN_DIGITS.get(text[index])
            if digit is not None:
                yield Replacement(index, index + 1, digit)
            elif text[index] != " " and (dash := _SPOKEN_DASH.match(text, index, last)):
                yield Replacement(index, dash.end(), "-")


def _phone_inside(run: re.Match[str]) -> tuple[int, int]:
    """Cut a run of spelled digits to its mobile number, so that a particle read as a digit (…팔이에요) stays out."""
    places = [run.start() + i for i, c in enumerate(run[0]) if (c.isascii() and c.isdigit()) or c in _KOREAN_DIGITS]
    digits = "".join(_KOREAN_DIGITS.get(run.string[place], run.string[place]) for place in places)
    begin = next(
        (i for i in range(4) if re.match("01[016789]", digits[i:]) and (i == 0 or places[i] - places[i - 1] > 1)), None
    )
    if begin is None or len(places) < begin + 10:
        return run.span()
    return places[begin], places[min(begin + 11, len(places)) - 1] + 1


def _english_digits(text: str) -> Iterator[Replacement]:
    for run in _WORD_RUN.finditer(text):
        if len(_SPOKEN_DIGIT.findall(run[0])) < 3:  # figures with a stray "one" are no spelled number
            continue
        for token in _WORD_TOKEN.finditer(text, *run.span()):
            word = token[0].lower()
            digit = _ENGLISH_DIGITS.get(word, word if word.isdigit() else "")
            if digit != token[0]:
                yield Replacement(token.start(), token.end(), digit)


def _letters_as_digits(text: str) -> Iterator[Replacement]:
    for run in _LETTER_RUN.finditer(text):
        read = run[0].replace("ㅣ", "1").translate(_LETTERS_AS_DIGITS)
        for offset, (old, new) in enumerate(zip(run[0], read, strict=True)):
            if old != new:
                yield Replacement(run.start() + offset, run.start() + offset + 1, new)


def _gaps(text: str) -> Iterator[Replacement]:
    for run in _GAP_RUN.finditer(text):
        for gap in _GAP.finditer(text, *run.span()):
            yield Replacement(gap.start(), gap.end(), "")


def _veiled_emails(text: str) -> Iterator[Replacement]:
    for match in _VEILED_EMAIL.finditer(text):
        group = "domain" if match["at"] else "word_domain"
        domain = _EMAIL_TOKEN.sub(lambda token: _plain_token(token[0]), match[group])
        if "." not in domain:
            if match[group] not in _PROVIDERS:
                continue
            domain += ".net" if domain in {"daum", "hanmail"} else ".com"
        if any(gap in match[0] for gap in " \t") and domain.rsplit(".", 1)[1].lower() not in _COMMON_TLDS:
            continue
        local = _EMAIL_TOKEN.sub(lambda token: _plain_token(token[0]), match["local"])
        if f"{local}@{domain}" != match[0]:
            yield Replacement(*match.span("local"), local)
            yield Replacement(*match.span("at" if match["at"] else "word_at"), "@")
            yield Replacement(*match.span(group), domain)


def _plain_token(token: str) -> str:
    return _PROVIDERS.get(token, ".")


# --- when normalisation can matter ---------------------------------------------------------------------------
# Expressions for an engine without look-around, to be used without regard to case. A text in which no sign of disguise
# stands is found in as it is: normalisation would change nothing there, or only what no pattern looks at. Property
# tests hold this against the plain way. Both lists may say yes too often, never too rarely.

_SYMBOLS: Final = "←-⇿☀-❵➔-➿🇦-🇿🌀-🗿😀-🙏🚀-🛿🤀-🧿🩰-🫿"
_SAID: Final = "(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)"
_GAPS: Final = f"[ .,_/·){_HARMLESS}-]{{0,5}}"
FOREIGN: Final = f"[^{_PLAIN}{KEPT}{_HARMLESS}]"
"""A sign of folding: every character that folding may change and that is not harmless."""
HARMLESS: Final = f"[{_HARMLESS}]"
"""Folding changes it, but matters only beside `SENSITIVE` characters, or where a match is near."""
SENSITIVE: Final = "[0-9a-z@]"
SENSITIVE_REACH: Final = 9
"""Characters from a harmless one to a sensitive one at which folding matters."""
JOINER: Final = "[\ufe0f\u200d]"
"""Harmless behind a symbol or another joiner; elsewhere a sign of folding."""
JOINED: Final = f"[{_SYMBOLS}\ufe0f\u200d]"
SIGNS_OF_VEILING: Final = (
    *_SPELLED_SIGNS,
    rf"{_SAID}[ ,.{_HARMLESS}-]{{0,5}}(?:[0-9][ ,.{_HARMLESS}-]{{0,5}}){{0,11}}{_SAID}",
    rf"(?:[oㅇ][1lㅣi|][0oㅇ]|[0oㅇ][lㅣi|][0oㅇ]|[0oㅇ][1lㅣi|][oㅇ]){_GAPS}[0-9oli]{{3}}",
    rf"010{_GAPS}[0-9oli]{{0,3}}[oli]",
    rf"010{_GAPS}[0-9oli]{{3,4}}{_GAPS}[0-9]{{0,3}}[oli]",
    rf"[0-9](?:[ .\-_·*,/{_HARMLESS}]{{1,5}}[0-9]){{8}}",
    "골뱅이|앳",
    r"[\[({<][^a-z0-9@]?(?:at|a|@)[^a-z0-9@]?[\])}>]",
    r"[ ]at[ ]{1,2}[a-z0-9-]+[ ]{1,2}dot[ ]",
    rf"[a-z0-9._+-][ ]{{1,2}}@|@[ ]{{1,2}}[a-z0-9]|@[ ]{{0,2}}(?:{_PROVIDER})",
    r"@[a-z0-9.-]+(?:[ ]{0,2}(?:쩜|점|닷|[\[({<][^a-z0-9]?(?:dot|점|쩜|닷|\.))|[ ]{1,2}dot[ ]|[ ]\.|\.[ ][a-z]"
    r"|\.[ ]?(?:컴|콤|넷|케이알|씨오))",
    r"(?:쩜|닷|(?:dot|점)[^a-z0-9]?[\])}>]|[ ]dot[ ]{1,2})[a-z0-9][a-z0-9._+-]*@",
)
