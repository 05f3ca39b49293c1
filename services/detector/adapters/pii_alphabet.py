"""How characters become single bytes, so that Hyperscan reads Korean as quickly as it reads ASCII.

In UTF-8 a syllable is three bytes, and a class of syllables a tree of byte ranges in every automaton that holds it.
Here characters that no expression tells apart share one byte: text gets a third as long, a class is a class of bytes,
and a match's end counts characters. What is matched is the same or more, never less: where there are more kinds of
characters than bytes, the rarest share one.
"""

from __future__ import annotations

import importlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

_sre: Any = importlib.import_module("re._parser")  # untyped; the parser of `re`, so that both read the same expression
_op: Any = importlib.import_module("re._constants")

Span: TypeAlias = tuple[int, int]
Characters: TypeAlias = tuple[Span, ...]
"""Ascending disjoint spans of code points, ends included."""
Kind: TypeAlias = frozenset[Characters]
"""The parts of expressions that a character satisfies: two of a kind are never told apart."""

ALL: Final = 0x10FFFF
_SYLLABLES: Final = range(0xAC00, 0xD7A4)
_SHARED: Final = 40
"""Bytes for the rarest syllables, several to each."""
_MANY: Final = 100
"""So many characters of a kind stand in any text: they share no byte with another kind. Nor does what is no syllable,
since a sign that is one character would be seen in every syllable beside it."""
_CATEGORIES: Final[dict[Any, Characters]] = {
    _op.CATEGORY_DIGIT: ((0x30, 0x39),),
    _op.CATEGORY_SPACE: ((0x09, 0x0D), (0x20, 0x20)),
    _op.CATEGORY_WORD: ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
}
_ASCII: Final = 0x7F
_Parts: TypeAlias = tuple[tuple[Any, Any], ...]
"""What an expression asks for, one after the other, as the parser of `re` gives it."""
_DEEPEST, _MOST_ALTERNATIVES = 3, 400
"""How deep choices lie in each other, and how many expressions one becomes at most."""
_LARGEST_CASED: Final = 0x1FFF
"""Scripts that tell capitals from small letters, and stand in expressions, lie below."""


class Alphabet:
    """The bytes for the characters of some expressions, read without regard to case.

    Expressions are simple ones of `re`: literals, classes, groups, alternatives, greedy repeats, `^`, `$`; a dot means
    any character. Raises ValueError for others.
    """

    def __init__(self, expressions: Iterable[str]) -> None:
        used: Counter[Characters] = Counter({as_spans([(10, 10)]): 1})
        for each in expressions:
            for leaf, weight in _leaves(_sre.parse(each)):
                used[leaf] += weight
        kinds = _kinds(used)
        code_of = _coded(kinds, used)
        self._table = np.zeros(ALL + 1, np.uint8)
        self._codes: dict[Characters, set[int]] = {leaf: set() for leaf in used}
        for kind, spans in kinds.items():
            for low, high in spans:
                self._table[low : high + 1] = code_of[kind]
            for leaf in kind:
                self._codes[leaf].add(code_of[kind])

    def table(self) -> bytes:
        """The byte of each code point."""
        return self._table.tobytes()

    def codes(self, expression: str) -> frozenset[int]:
        """The bytes of the characters of a class, and of those that share one with them. The class is among the
        expressions."""
        [(leaf, _)] = _leaves(_sre.parse(expression))
        return frozenset(self._codes[leaf])

    def expressions(self, expression: str) -> list[str]:
        """What finds, in a written text, the expression's matches: its alternatives, each by itself, since Hyperscan
        finds a hundred words sooner than one choice among a hundred. Lines stand for texts: `^` and `$` hold there.
        """
        found: list[_Parts] = [tuple(_sre.parse(expression))]
        for _ in range(_DEEPEST):
            found = [each for parts in found for each in _told_apart(parts, _MOST_ALTERNATIVES // len(found))]
        return [self._sequence(parts) for parts in found]

    def _sequence(self, parsed: Iterable[tuple[Any, Any]]) -> str:
        return "".join(self._part(*each) for each in parsed)

    def _part(self, op: Any, of: Any) -> str:
        leaf = _leaf(op, of)
        if leaf is not None:
            return _class(self._codes[leaf])
        if op is _op.ANY:
            return r"[\x00-\xff]"
        if op is _op.BRANCH:
            return f"(?:{'|'.join(self._sequence(each) for each in of[1])})"
        if op is _op.SUBPATTERN:
            return f"(?:{self._sequence(of[3])})"
        if op is _op.MAX_REPEAT:
            least, most, repeated = of
            return f"(?:{self._sequence(repeated)}){{{least},{'' if most is _op.MAXREPEAT else most}}}"
        if op is _op.AT and of in (_op.AT_BEGINNING, _op.AT_END):
            return r"(?:^|\x0a)" if of is _op.AT_BEGINNING else r"(?:$|\x0a)"
        raise ValueError(f"an anchor cannot hold {op}")


def _told_apart(parts: _Parts, most: int) -> list[_Parts]:
    """The expression without its outermost choices, as so many that together match the same; `most` is never passed."""
    found: list[_Parts] = [()]
    for op, of in parts:
        choices = _choices(op, of)
        if len(found) * len(choices) > most:
            choices = [((op, of),)]
        found = [(*each, *choice) for each in found for choice in choices]
    return found


def _choices(op: Any, of: Any) -> list[_Parts]:
    """What a part may stand for: its alternatives, or itself."""
    if op is _op.BRANCH:
        return [tuple(each) for each in of[1]]
    return [tuple(of[3])] if op is _op.SUBPATTERN else [((op, of),)]


def _class(codes: Iterable[int]) -> str:
    return "[" + "".join(rf"\x{code:02x}" for code in sorted(codes)) + "]"


def _leaves(parsed: Sequence[tuple[Any, Any]]) -> Iterator[tuple[Characters, int]]:
    """The characters that an expression asks for, and how much hangs on telling them apart: most in a short word."""
    letters = sum(op is _op.LITERAL and of > _ASCII for op, of in parsed)
    for op, of in parsed:
        leaf = _leaf(op, of)
        if leaf is not None:
            yield leaf, max(1, 60 // max(1, letters) ** 2)
        elif op is _op.BRANCH:
            for each in of[1]:
                yield from _leaves(each)
        elif op is _op.SUBPATTERN:
            yield from _leaves(of[3])
        elif op is _op.MAX_REPEAT:
            yield from _leaves(of[2])


def _leaf(op: Any, of: Any) -> Characters | None:
    """The characters that a part of an expression stands for; None for a part that has parts."""
    if op is _op.LITERAL:
        return as_spans(_cased(of, of))
    if op is _op.NOT_LITERAL:
        return complement(as_spans(_cased(of, of)))
    if op is not _op.IN:
        return None
    spans: list[Span] = []
    for kind, value in of:
        if kind is _op.LITERAL:
            spans += _cased(value, value)
        elif kind is _op.RANGE:
            spans += _cased(*value)
        elif kind is _op.CATEGORY:
            spans += _CATEGORIES[value]
    found = as_spans(spans)
    return complement(found) if of[0][0] is _op.NEGATE else found


def _cased(low: int, high: int) -> list[Span]:
    """The span, and the other case of each letter in it."""
    letters = map(chr, range(low, min(high, _LARGEST_CASED) + 1))
    others = (other for letter in letters for other in (letter.lower(), letter.upper()) if len(other) == 1)
    return [(low, high), *((ord(other), ord(other)) for other in others)]


def as_spans(spans: Iterable[Span]) -> Characters:
    """The same characters as ascending disjoint spans."""
    joined: list[Span] = []
    for low, high in sorted(spans):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def complement(spans: Characters) -> Characters:
    """All other characters."""
    edges = [-1, *(edge for span in spans for edge in span), ALL + 1]
    return tuple((low + 1, high - 1) for low, high in zip(edges[::2], edges[1::2], strict=True) if low + 1 < high)


def _kinds(leaves: Iterable[Characters]) -> dict[Kind, list[Span]]:
    """Which characters no leaf tells apart: for each set of leaves, the spans that lie in exactly those."""
    wanted = list(leaves)
    cuts = sorted({0, ALL + 1, *(edge for spans in wanted for low, high in spans for edge in (low, high + 1))})
    inside: list[list[Characters]] = [[] for _ in cuts]
    for leaf in wanted:
        for low, high in leaf:
            for at in range(bisect_right(cuts, low) - 1, bisect_right(cuts, high)):
                inside[at].append(leaf)
    kinds: dict[Kind, list[Span]] = {}
    for at in range(len(cuts) - 1):
        kinds.setdefault(frozenset(inside[at]), []).append((cuts[at], cuts[at + 1] - 1))
    return kinds


def _coded(kinds: dict[Kind, list[Span]], used: Counter[Characters]) -> dict[Kind, int]:
    """A byte for each kind: printable ASCII is itself, the line end too; what stands in fewest places shares one."""
    plain = {10, *range(0x20, 0x41), *range(0x5B, 0x7F)}
    codes: dict[Kind, int] = {}
    for kind, spans in kinds.items():
        own = [point for low, high in spans for point in range(low, min(high, 0x7E) + 1) if point in plain]
        if own:
            codes[kind] = own[0]
    free = sorted(set(range(1, 256)) - set(codes.values()), reverse=True)
    rest = sorted((kind for kind in kinds if kind not in codes), key=lambda kind: _weight(kind, kinds[kind], used))
    alone = free if len(rest) <= len(free) else free[:-_SHARED]
    codes.update(zip(rest, alone, strict=False))
    shared: Sequence[int] = free[-_SHARED:]
    codes.update((kind, shared[at % _SHARED]) for at, kind in enumerate(rest[len(alone) :]))
    return codes


def _weight(kind: Kind, spans: Sequence[Span], used: Counter[Characters]) -> tuple[bool, int, int]:
    """What most characters are and what is no syllable first, then what matters most in the expressions, then by code
    point."""
    syllables = all(low in _SYLLABLES and high in _SYLLABLES for low, high in spans)
    few = sum(high - low for low, high in spans) < _MANY
    return syllables and few, -sum(used[leaf] for leaf in kind), spans[0][0]
