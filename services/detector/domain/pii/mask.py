"""What a text looks like once its personal data is covered: same length, same separators, per-kind readable rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from services.detector.domain.pii.hits import Hit
from services.detector.domain.pii.model import Kind, MaskRule

STAR: Final = "*"
_LONGEST_SNIPPET: Final = 1_000


def mask(text: str, hits: Iterable[Hit]) -> str:
    """Cover the hits of this text; the result has the text's length. `hits` must come from the same text."""
    chars = list(text)
    for hit in hits:
        chars[hit.start : hit.end] = _covered(text[hit.start : hit.end], hit)
    return "".join(chars)


def snippet(text: str, hits: Sequence[Hit], radius: int) -> str:
    """Masked text around the hits, at most `radius` characters either side and 1,000 in all; gaps read ' … '."""
    covered = mask(text, hits)
    pieces: list[str] = []
    done = 0
    for hit in sorted(hits, key=lambda each: each.start):
        start, end = max(done, hit.start - radius), min(len(text), hit.end + radius)
        if end <= done:
            continue
        joined = start <= done and pieces
        pieces.append(covered[start:end] if joined else (" … " if start else "") + covered[start:end])
        done = end
    tail = " … " if pieces and done < len(text) else ""
    return " ".join(("".join(pieces) + tail).split())[:_LONGEST_SNIPPET]


def _covered(value: str, hit: Hit) -> str:
    keep = _KEPT[hit.mask_rule](value)
    return "".join(c if i in keep or not (c.isalnum() or _is_sign(c, hit)) else STAR for i, c in enumerate(value))


def _is_sign(char: str, hit: Hit) -> bool:
    """A password's punctuation is part of the secret; whitespace never is."""
    return hit.kind is Kind.CREDENTIAL and not char.isspace()


def _digits(value: str) -> list[int]:
    return [index for index, char in enumerate(value) if char.isdecimal()]


def _nothing(_value: str) -> set[int]:
    return set()


def _everything(value: str) -> set[int]:
    return set(range(len(value)))


def _phone(value: str) -> set[int]:
    """The last four digits, as delivery notes print it; nothing of a number that is partly spelled out."""
    places = _digits(value)
    return set(places[-4:]) if len(places) >= 9 else set()


def _card(value: str) -> set[int]:
    """Issuer (first six) and last four, the most PCI DSS 3.4.1 lets be shown."""
    places = _digits(value)
    return set(places[:6] + places[-4:]) if len(places) >= 14 else set(places[-4:])


def _email(value: str) -> set[int]:
    """The first two characters and the host; one character of short names; nothing of a disguised address."""
    at = value.find("@")
    if at < 1:
        return set()
    return set(range(min(2, at - 1))) | set(range(at, len(value)))


def _first(value: str) -> set[int]:
    places = [index for index, char in enumerate(value) if char.isalnum()]
    return set(places[:2])


def _last_three(value: str) -> set[int]:
    return set(_digits(value)[-3:])


def _address(value: str) -> set[int]:
    """Province and district (the first two words) of a Korean address; nothing of any other."""
    if not any("가" <= char <= "힣" for char in value):
        return set()
    ends = [index for index, char in enumerate(value) if char == " "]
    kept = range(ends[1]) if len(ends) > 2 else range(0)
    return {index for index in kept if not value[index].isdecimal()}


def _name(value: str) -> set[int]:
    """The family name (first character)."""
    return {0} if len(value) > 1 else set()


_KEPT: Final[dict[MaskRule, Callable[[str], set[int]]]] = {
    MaskRule.ALL: _nothing,
    MaskRule.NONE: _everything,
    MaskRule.PHONE: _phone,
    MaskRule.CARD: _card,
    MaskRule.EMAIL: _email,
    MaskRule.KEEP_FIRST: _first,
    MaskRule.KEEP_LAST_THREE: _last_three,
    MaskRule.ADDRESS: _address,
    MaskRule.NAME: _name,
}
