"""Which texts does a simple expression match? Made at random, for engines that must find them all."""

from __future__ import annotations

import importlib
import random
import string
from collections.abc import Iterable, Sequence
from typing import Any

_sre: Any = importlib.import_module("re._parser")  # untyped
_op: Any = importlib.import_module("re._constants")
_USUAL = "0123456789 abcdexyz.-:/가나다라마호번로으연락전화한국서울"
_CATEGORIES = {
    _op.CATEGORY_DIGIT: string.digits,
    _op.CATEGORY_SPACE: string.whitespace,
    _op.CATEGORY_WORD: f"{string.digits}{string.ascii_letters}_",
}
_MORE = (0, 1, 3, 9, 30)
"""Repeats beyond the fewest that an expression asks for."""


def matching(expression: str, rng: random.Random) -> str:
    """A text whose end is the end of a match; `^` and `$` are line ends."""
    return _sequence(_sre.parse(expression), rng)


def hidden(
    expressions: Sequence[str], count: int, rng: random.Random, around: str
) -> tuple[str, list[tuple[int, int]]]:
    """Matching texts of random ones of the expressions in pieces of another text; (expression, end) of each."""
    pieces: list[str] = []
    ends: list[tuple[int, int]] = []
    length = 0
    for _ in range(count):
        number, start = rng.randrange(len(expressions)), rng.randrange(len(around))
        piece = around[start : start + rng.randrange(300)] + rng.choice(("", " ", "\n"))
        piece += matching(expressions[number], rng)
        pieces.append(piece)
        length += len(piece)
        ends.append((number, length))
    start = rng.randrange(len(around))
    return "".join([*pieces, around[start : start + 200], "\n"]), ends


def _sequence(parsed: Iterable[tuple[Any, Any]], rng: random.Random) -> str:
    return "".join(_part(op, of, rng) for op, of in parsed)


def _part(op: Any, of: Any, rng: random.Random) -> str:
    if op is _op.LITERAL:
        return chr(of)
    if op is _op.IN:
        return _one_of(of, rng)
    if op is _op.NOT_LITERAL:
        return next(char for char in _USUAL if ord(char) != of)
    if op is _op.BRANCH:
        return _sequence(rng.choice(of[1]), rng)
    if op is _op.SUBPATTERN:
        return _sequence(of[3], rng)
    if op is _op.MAX_REPEAT:
        least, most, repeated = of
        times = least + rng.choice(_MORE)
        return "".join(_sequence(repeated, rng) for _ in range(times if most is _op.MAXREPEAT else min(times, most)))
    return "\n" if op is _op.AT else rng.choice(_USUAL)


def _one_of(members: Sequence[tuple[Any, Any]], rng: random.Random) -> str:
    if members[0][0] is _op.NEGATE:
        return rng.choice([char for char in _USUAL if not any(_holds(each, char) for each in members[1:])] or ["é"])
    usual = [char for char in _USUAL if any(_holds(each, char) for each in members)]
    kind, value = rng.choice(members)
    if usual and rng.random() < 0.8:
        return rng.choice(usual)
    if kind is _op.LITERAL:
        return chr(value)
    return chr(rng.randint(*value)) if kind is _op.RANGE else rng.choice(_CATEGORIES[value])


def _holds(member: tuple[Any, Any], char: str) -> bool:
    kind, value = member
    if kind is _op.RANGE:
        return bool(value[0] <= ord(char) <= value[1])
    return char in _CATEGORIES[value] if kind is _op.CATEGORY else bool(ord(char) == value)
