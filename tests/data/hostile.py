"""Which texts are made to cost more than their length? Each by name, of any number of characters."""

from __future__ import annotations

from collections.abc import Callable

HOSTILE: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "0" * n,
    "mobile prefixes": lambda n: "010-" * (n // 4),
    "grouped digits": lambda n: "1234 " * (n // 5),
    "hyphens": lambda n: "1-" * (n // 2),
    "letters before @": lambda n: "a" * n,
    "at signs": lambda n: "a@" * (n // 2),
    "dots": lambda n: "a." * (n // 2 - 1) + "@",
    "provinces": lambda n: "서울" * (n // 2),
    "districts": lambda n: "강남구 " * (n // 4),
    "roads": lambda n: "서울 강남구 테헤란로 " * (n // 12),
    "long syllables": lambda n: "가" * n,
    "roads without end": lambda n: "로1" * (n // 2),
    "words": lambda n: "Aa " * (n // 3),
    "apartments": lambda n: "12 Apt. 1 " * (n // 10),
    "labels": lambda n: "전화번호: " * (n // 6),
    "spelled digits": lambda n: "공" * n,
    "spoken digits": lambda n: "one " * (n // 4),
    "gaps": lambda n: "1 " * (n // 2),
    "ibans": lambda n: "GB12 " * (n // 5),
    "passwords": lambda n: "pw: " * (n // 4),
    "links": lambda n: "http://" * (n // 7),
    "zero width": lambda n: "\u200b" * n,
    "brackets": lambda n: "[at]" * (n // 4),
    "marks": lambda n: "e" + "\u0301" * (n - 1),
}
