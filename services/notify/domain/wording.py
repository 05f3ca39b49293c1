"""Which particle follows a Korean word, and which number an English one has?"""

from __future__ import annotations

_FIRST, _LAST = ord("가"), ord("힣")
_FINALS = 28
_RIEUL = 8
_DIGIT_FINALS = {"0": 21, "1": 8, "2": 0, "3": 16, "4": 0, "5": 0, "6": 1, "7": 8, "8": 8, "9": 0}
"""Finals of the digits as they are read: 영, 일, 이, 삼, 사, 오, 육, 칠, 팔, 구."""


def final_of(word: str) -> int | None:
    """Number of the last syllable's final consonant (Unicode 3.12), 0 for none; None where the reading is not known."""
    last = word.rstrip("'\"’”)").strip()[-1:]
    if last and _FIRST <= ord(last) <= _LAST:
        return (ord(last) - _FIRST) % _FINALS
    return _DIGIT_FINALS.get(last)


def josa(word: str, pair: str) -> str:
    """The word with its particle; `pair` names the one after a consonant and the one after a vowel: "이/가", "을/를",
    "은/는", "과/와", "으로/로" (로 after ㄹ as well). Both are written where the reading is not known: "NAVER이(가)".
    Raises ValueError for a malformed pair.
    """
    after_consonant, slash, after_vowel = pair.partition("/")
    if not (slash and after_consonant and after_vowel):
        raise ValueError("a pair of particles reads like 이/가")
    final = final_of(word)
    if final is None:
        both = "(으)로" if pair == "으로/로" else f"{after_consonant}({after_vowel})"
        return word + both
    vowel_like = final == 0 or (final == _RIEUL and pair == "으로/로")
    return word + (after_vowel if vowel_like else after_consonant)


def counted(number: int | str, one: str, many: str = "") -> str:
    """"1 notice", "2 notices": the number with the form of the noun that English wants (CLDR: one, other)."""
    form = one if int(number) == 1 else many or f"{one}s"
    return f"{int(number):,} {form}"
