"""The recognisers' expressions as C, so that no rule is written twice.

Each expression becomes a backtracking matcher that takes the same turns as `re` does, from the parse tree that `re`
itself makes of it. Characters that no expression tells apart are of one *kind*: a text is turned into kinds once, and
what an expression asks of a character is a comparison or one bit of a table. Words nearby are sought in small letters;
here the kinds themselves know of capitals.
"""

from __future__ import annotations

import importlib
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeAlias

from services.detector.adapters.pii_alphabet import ALL, Characters, as_spans, complement
from services.detector.adapters.pii_core import tables
from services.detector.domain.pii import RECOGNISERS
from services.detector.domain.pii.normalise import FOREIGN, HARMLESS, JOINED, JOINER, SENSITIVE, SENSITIVE_REACH
from services.detector.domain.pii.recogniser import LINK, Recogniser

_sre: Any = importlib.import_module("re._parser")  # untyped; the parser of `re`, so that both read the same expression
_compiler: Any = importlib.import_module("re._compiler")
_op: Any = importlib.import_module("re._constants")

Node: TypeAlias = tuple[Any, Any]
Nodes: TypeAlias = Sequence[Node]
Kinds: TypeAlias = frozenset[int]

_FLAGS: Final = re.IGNORECASE | re.ASCII | re.UNICODE
_PAGE: Final = 256
_SWITCH: Final = 6
"""From so many alternatives on the first character chooses among them."""
_REPEATS: Final = (_op.MAX_REPEAT, _op.MIN_REPEAT, _op.POSSESSIVE_REPEAT)
_UNBOUNDED: Final = 2**31 - 1
_MOST_TURNS: Final = 64
"""Of a repeated group: each takes some room on the stack."""
MOST_GROUPS, MOST_COUNTERS = 8, 128
"""As matching.h has room for."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What is to be compiled. `small`: it is meant for text in small letters."""

    pattern: re.Pattern[str]
    small: bool = False

    def parsed(self) -> Any:
        """The parse tree."""
        return _sre.parse(self.pattern.pattern, int(self.pattern.flags))


def expressions_of(recogniser: Recogniser) -> tuple[Expression, Expression | None, Expression | None]:
    """The exact expression, and the words that speak for and against."""
    near, against = recogniser.context.expressions()
    return (
        Expression(recogniser.pattern),
        Expression(near, small=True) if near else None,
        Expression(against, small=True) if against else None,
    )


def expressions(recognisers: Sequence[Recogniser] = RECOGNISERS) -> list[Expression]:
    """All of them, each once: their places are their numbers in the compiled module."""
    wanted = (each for recogniser in recognisers for each in expressions_of(recogniser) if each is not None)
    return list(dict.fromkeys([LINK_EXPRESSION, *wanted]))


LINK_EXPRESSION: Final = Expression(LINK, small=True)
_CLASSES: Final = {
    "space": re.compile(r"\s"),
    "foreign": re.compile(FOREIGN),
    "harmless": re.compile(HARMLESS),
    "sensitive": re.compile(SENSITIVE, re.IGNORECASE),
    "joiner": re.compile(JOINER),
    "joined": re.compile(JOINED),
}
"""Characters that the core itself must know: `is_space` and so on."""


def source(recognisers: Sequence[Recogniser] = RECOGNISERS) -> str:
    """The header `rules.h`: kinds of characters, tables, a matcher for each expression.

    Raises ValueError for an expression with a part that has no equal here.
    """
    return expressions_source(expressions(recognisers)) + tables.source()


def expressions_source(wanted: Sequence[Expression]) -> str:
    """The C of some expressions. Raises ValueError as `source` does."""
    kinds = _Kinds.of([*wanted, *map(Expression, _CLASSES.values())])
    matchers = [_Matcher(number, each, kinds) for number, each in enumerate(wanted)]
    code = [
        *(
            f"static inline int is_{name}(int kind) {{ return {kinds.test(kinds.of_class(pattern), 'kind')}; }}"
            for name, pattern in _CLASSES.items()
        ),
        *(each.written() for each in matchers),
    ]
    return "\n".join(
        (
            "/* Made by generate.py from the recognisers; not to be changed by hand. */",
            *kinds.tables(),  # the classes are known once the matchers are written
            *code,
            "static const struct expression EXPRESSIONS[] = {",
            *(each.entry() for each in matchers),
            "};",
            f"enum {{ EXPRESSION_COUNT = {len(matchers)}, LINK_EXPRESSION = 0, SENSITIVE_REACH = {SENSITIVE_REACH} }};",
            "",
        )
    )


# --- which characters a part of an expression stands for ------------------------------------------------------


def _is_leaf(op: Any) -> bool:
    return op in (_op.LITERAL, _op.NOT_LITERAL, _op.IN, _op.ANY)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One character of an expression: its code in the parse tree, and what it is read with."""

    written: str
    flags: int
    small: bool
    op: Any = field(compare=False)
    of: Any = field(compare=False)

    @classmethod
    def at(cls, node: Node, flags: int, small: bool) -> _Leaf:
        return cls(repr(node), flags & (_FLAGS | re.DOTALL), small, *node)


@cache
def _characters(leaf: _Leaf) -> Characters:
    """The code points that `re` takes for it. Letters with another case are tried one by one, for `re` has rules of its
    own for them; the others are read from the expression."""
    found = _as_written(leaf.op, leaf.of, leaf.flags)
    if not leaf.small and not leaf.flags & re.IGNORECASE:
        return found
    parsed = _sre.SubPattern(_sre.State(), [(leaf.op, leaf.of)])
    pattern = _compiler.compile(parsed, leaf.flags)
    cased = _cased()
    if leaf.small:
        taken = [ord(char) for char in cased if pattern.match(char.lower())]
    else:
        taken = [ord(char) for char in cased if pattern.match(char)]
    apart = as_spans([(ord(char), ord(char)) for char in cased])
    return as_spans([*_without(found, apart), *((point, point) for point in taken)])


@cache
def _cased() -> tuple[str, ...]:
    letters = (chr(point) for point in range(ALL + 1))
    return tuple(each for each in letters if each.lower() != each or each.upper() != each or each.casefold() != each)


@cache
def _category(name: str, ascii_only: bool) -> Characters:
    tests: dict[str, Callable[[str], bool]] = {
        "DIGIT": str.isdecimal,
        "SPACE": str.isspace,
        "WORD": lambda char: char.isalnum() or char == "_",
    }
    limit = 0x7F if ascii_only else ALL
    inside = tests[name]
    points = [point for point in range(limit + 1) if inside(chr(point))]
    if ascii_only and name == "SPACE":
        points = [ord(char) for char in " \t\n\r\f\v"]
    return as_spans([(point, point) for point in points])


def _as_written(op: Any, of: Any, flags: int) -> Characters:
    if op is _op.LITERAL:
        return ((of, of),)
    if op is _op.NOT_LITERAL:
        return complement(((of, of),))
    if op is _op.ANY:
        return ((0, ALL),) if flags & re.DOTALL else complement(((10, 10),))
    found: list[tuple[int, int]] = []
    for kind, value in of:
        if kind is _op.LITERAL:
            found.append((value, value))
        elif kind is _op.RANGE:
            found.append(value)
        elif kind is _op.CATEGORY:
            name = str(value).removeprefix("CATEGORY_")
            plain = _category(name.removeprefix("NOT_"), bool(flags & re.ASCII))
            found += complement(plain) if name.startswith("NOT_") else plain
        elif kind is not _op.NEGATE:
            raise ValueError(f"a class cannot hold {kind}")
    return complement(as_spans(found)) if of[0][0] is _op.NEGATE else as_spans(found)


def _without(some: Characters, others: Characters) -> Characters:
    cut: list[tuple[int, int]] = []
    rest = complement(others)
    at = 0
    for low, high in some:
        while at and rest[at - 1][1] >= low:
            at -= 1
        while at < len(rest) and rest[at][0] <= high:
            if rest[at][1] >= low:
                cut.append((max(low, rest[at][0]), min(high, rest[at][1])))
            at += 1
    return tuple(cut)


_WORD: Final = [(_op.CATEGORY, _op.CATEGORY_WORD)]


def _word(flags: int, small: bool) -> _Leaf:
    return _Leaf.at((_op.IN, _WORD), flags & ~re.IGNORECASE, small)


def _leaves(nodes: Nodes, flags: int, small: bool) -> Iterator[_Leaf]:
    """Every character asked for, and what word boundaries need."""
    for op, of in nodes:
        if _is_leaf(op):
            yield _Leaf.at((op, of), flags, small)
        elif op is _op.AT and of is _op.AT_BOUNDARY:
            yield _word(flags, small)
        elif op is _op.AT:
            yield _Leaf.at((_op.LITERAL, 10), flags, small)
        elif op is _op.BRANCH:
            for each in of[1]:
                yield from _leaves(each, flags, small)
        elif op is _op.SUBPATTERN:
            yield from _leaves(of[3], (flags | of[1]) & ~of[2], small)
        elif op in _REPEATS:
            yield from _leaves(of[2], flags, small)
        elif op in (_op.ASSERT, _op.ASSERT_NOT):
            yield from _leaves(of[1], flags, small)
        elif op is _op.ATOMIC_GROUP:
            yield from _leaves(of, flags, small)
        elif op is not _op.GROUPREF:
            raise ValueError(f"an expression cannot hold {op}")


class _Kinds:
    """Numbers for the kinds of characters, and which of them each leaf takes."""

    def __init__(self, leaves: Iterable[_Leaf]) -> None:
        by_leaf = {leaf: _characters(leaf) for leaf in dict.fromkeys(leaves)}
        wanted = list(dict.fromkeys(by_leaf.values()))
        self._spans: list[list[tuple[int, int]]] = []
        taking: list[set[int]] = [set() for _ in wanted]
        for number, (kind, places) in enumerate(_told_apart(wanted).items()):
            self._spans.append(places)
            for each in kind:
                taking[each].add(number)
        kinds_of = dict(zip(wanted, map(frozenset, taking), strict=True))
        self._of = {leaf: kinds_of[characters] for leaf, characters in by_leaf.items()}
        self._classes: dict[Kinds, int] = {}

    @classmethod
    def of(cls, wanted: Iterable[Expression]) -> _Kinds:
        """The kinds of some expressions."""
        parsed = ((each, each.parsed()) for each in wanted)
        return cls(leaf for each, tree in parsed for leaf in _leaves(tree, tree.state.flags, each.small))

    def of_leaf(self, leaf: _Leaf) -> Kinds:
        """The kinds that a leaf takes."""
        return self._of[leaf]

    def of_class(self, pattern: re.Pattern[str]) -> Kinds:
        """The kinds that an expression of one character takes."""
        tree = Expression(pattern).parsed()
        [leaf] = _leaves(tree, tree.state.flags, False)
        return self._of[leaf]

    def test(self, kinds: Kinds, of: str) -> str:
        """C that is true where the kind `of` is among some."""
        if len(kinds) == len(self._spans):
            return "1"
        if not kinds:
            return "0"
        if len(kinds) <= 2:
            return "(" + " || ".join(f"{of} == {kind}" for kind in sorted(kinds)) + ")"
        number = self._classes.setdefault(kinds, len(self._classes))
        return f"IN(class_{number}, {of})"

    def tables(self) -> list[str]:
        """C: the kind of each character, by pages, and a table of bits for each class that was asked for."""
        kind_of = [0] * (ALL + 1)
        for number, places in enumerate(self._spans):
            for low, high in places:
                kind_of[low : high + 1] = [number] * (high - low + 1)
        pages: dict[tuple[int, ...], int] = {}
        page_of = [
            pages.setdefault(tuple(kind_of[low : low + _PAGE]), len(pages)) for low in range(0, ALL + 1, _PAGE)
        ]
        return [
            f"static const uint16_t PAGE_OF[{len(page_of)}] = {{{_numbers(page_of)}}};",
            f"static const uint16_t KINDS[{len(pages)}][{_PAGE}] = {{",
            *(f"{{{_numbers(page)}}}," for page in pages),
            "};",
            *(
                f"static const uint32_t class_{number}[{len(bits)}] = {{{_numbers(bits)}}};"
                for bits, number in ((self._bits(kinds), number) for kinds, number in self._classes.items())
            ),
        ]

    def _bits(self, kinds: Kinds) -> list[int]:
        bits = [0] * (len(self._spans) // 32 + 1)
        for kind in kinds:
            bits[kind >> 5] |= 1 << (kind & 31)
        return bits


def _told_apart(wanted: Sequence[Characters]) -> dict[frozenset[int], list[tuple[int, int]]]:
    """For each set of classes the spans of the characters that lie in exactly those."""
    cuts = sorted({0, ALL + 1, *(edge for each in wanted for low, high in each for edge in (low, high + 1))})
    inside: list[list[int]] = [[] for _ in cuts]
    for number, each in enumerate(wanted):
        for low, high in each:
            for at in range(bisect_right(cuts, low) - 1, bisect_right(cuts, high)):
                inside[at].append(number)
    kinds: dict[frozenset[int], list[tuple[int, int]]] = {}
    for at in range(len(cuts) - 1):
        kinds.setdefault(frozenset(inside[at]), []).append((cuts[at], cuts[at + 1] - 1))
    return kinds


def _numbers(values: Iterable[int]) -> str:
    return ",".join(map(str, values))


# --- matchers -------------------------------------------------------------------------------------------------

First: TypeAlias = Kinds | None
"""The kinds of which one must come next; None where nothing need come, or nothing is known."""


class _Matcher:
    """The C of one expression.

    A function takes a place and answers whether all that follows matches from there. What is to follow is a function
    too, so that a choice tries its alternatives in their order, and goes back to the next.
    """

    def __init__(self, number: int, expression: Expression, kinds: _Kinds) -> None:
        self._name = f"e{number}"
        self._small = expression.small
        self._kinds = kinds
        self._tree = expression.parsed()
        self._functions: list[str] = []
        self._counters = 0
        if self._tree.state.groups > MOST_GROUPS:
            raise ValueError(f"an expression has at most {MOST_GROUPS - 1} groups")

    def written(self) -> str:
        """All functions, the search last."""
        flags = self._tree.state.flags
        first = self._first(self._tree, flags, None)
        if first is None or self._tree.getwidth()[0] == 0:
            raise ValueError("an expression must not match nothing")
        start = self._function(self._sequence(self._tree, "done", None, flags))
        if self._counters > MOST_COUNTERS:
            raise ValueError(f"an expression has at most {MOST_COUNTERS} repeated groups")
        declared = [f"static int {self._name}_{at}(struct match *m, int p);" for at in range(len(self._functions))]
        search = (
            f"static int {self._name}_search(struct match *m, int low) {{\n"
            f"for (int p = low; p < m->end; p++)\n"
            f"if ({self._kinds.test(first, 'm->kinds[p]')} && {start}(m, p)) {{ m->start = p; return 1; }}\n"
            "return 0;\n}"
        )
        return "\n".join([*declared, *self._functions, search])

    def entry(self) -> str:
        """The row of the table of expressions: the search, and the groups that may hold the value; the first that is
        set does."""
        groups = self._tree.state.groupdict
        values = [groups[name] for name in ("v", "w", "x") if name in groups]
        return f"{{{self._name}_search, {{{_numbers([*values, 0, 0, 0][:3])}}}}},"

    def _function(self, body: str) -> str:
        name = f"{self._name}_{len(self._functions)}"
        self._functions.append(f"static int {name}(struct match *m, int p) {{\n{body}\n}}")
        return name

    def _taken(self, node: Node, flags: int) -> Kinds:
        return self._kinds.of_leaf(_Leaf.at(node, flags, self._small))

    def _is(self, kinds: Kinds, at: str) -> str:
        return self._kinds.test(kinds, f"m->kinds[{at}]")

    def _may(self, first: First, at: str) -> str:
        """C: whether what must come next can come at a place."""
        return "1" if first is None else f"({at} < m->end && {self._is(first, at)})"

    def _sequence(self, nodes: Nodes, then: str, follow: First, flags: int) -> str:
        """C that matches parts one after the other from `p`, then calls `then`, before which `follow` must come."""
        lines: list[str] = []
        for at, (op, of) in enumerate(nodes):
            rest = nodes[at + 1 :]
            if _is_leaf(op):
                lines.append(f"if (p >= m->end || !{self._is(self._taken((op, of), flags), 'p')}) return 0;\np++;")
            elif op is _op.AT:
                lines.append(f"if (!{self._place(of, flags)}) return 0;")
            elif op in (_op.ASSERT, _op.ASSERT_NOT):
                lines.append(self._look(op, of[0], of[1], flags))
            elif op is _op.ATOMIC_GROUP or (op is _op.POSSESSIVE_REPEAT and not _is_single(of[2])):
                least, most, body = (1, 1, of) if op is _op.ATOMIC_GROUP else of
                lines.append(self._kept_group(least, most, body, flags))
            elif op in _REPEATS and _is_single(of[2]) and self._is_determined(op, of, rest, follow, flags):
                lines.append(self._run(of, flags) + f"if (n < {of[0]}) return 0;\np += n;\n}}")
            elif op is _op.SUBPATTERN and of[0] is None and (flags | of[1]) & ~of[2] == flags:
                return "\n".join([*lines, self._sequence([*of[3], *rest], then, follow, flags)])
            elif op is _op.GROUPREF:
                lines.append(self._same_again(of, flags))
            else:
                onward, needed = then, follow
                if rest:
                    onward = self._function(self._sequence(rest, then, follow, flags))
                    needed = self._first(rest, flags, follow)
                return "\n".join([*lines, self._choice((op, of), onward, needed, flags)])
        return "\n".join([*lines, f"return {then}(m, p);"])

    def _is_determined(self, op: Any, of: Any, rest: Nodes, follow: First, flags: int) -> bool:
        """Whether no fewer repeats than all can be followed by what follows."""
        least, most, body = of
        if op is _op.POSSESSIVE_REPEAT or least == most:
            return True
        following = self._first(rest, flags, follow)
        return op is _op.MAX_REPEAT and following is not None and not following & self._taken(body[0], flags)

    def _run(self, of: Any, flags: int) -> str:
        """C that opens a block and counts in `n` how often one character is repeated."""
        most = f"m->end - p < {of[1]} ? m->end - p : {of[1]}" if of[1] < _UNBOUNDED else "m->end - p"
        return (
            f"{{\nint n = 0, most = {most};\n"
            f"while (n < most && {self._is(self._taken(of[2][0], flags), 'p + n')}) n++;\n"
        )

    def _choice(self, node: Node, then: str, follow: First, flags: int) -> str:
        """C for a part that may match in several ways, before `then`."""
        op, of = node
        if op is _op.BRANCH:
            return self._alternatives(of[1], then, follow, flags)
        if op is _op.SUBPATTERN:
            return self._group(of, then, follow, flags)
        if op is _op.MAX_REPEAT and _is_single(of[2]):
            return (
                self._run(of, flags) + f"for (; n >= {of[0]}; n--)\n"
                f"if ({self._may(follow, 'p + n')} && {then}(m, p + n)) return 1;\nreturn 0;\n}}"
            )
        if op is _op.MIN_REPEAT and _is_single(of[2]):
            one = f"p < m->end && {self._is(self._taken(of[2][0], flags), 'p')}"
            return (
                f"int n = 0;\nfor (; n < {of[0]}; n++, p++) if (!({one})) return 0;\n"
                f"for (;; n++, p++) {{\nif ({self._may(follow, 'p')} && {then}(m, p)) return 1;\n"
                f"if (n >= {min(of[1], _UNBOUNDED)} || !({one})) return 0;\n}}"
            )
        if op is _op.MAX_REPEAT:
            return self._repeated_group(of, then, follow, flags)
        raise ValueError(f"an expression cannot hold {op} here")

    def _alternatives(self, alternatives: Sequence[Nodes], then: str, follow: First, flags: int) -> str:
        tried = [
            (self._first(each, flags, follow), self._function(self._sequence(each, then, follow, flags)))
            for each in alternatives
        ]
        if len(tried) < _SWITCH or any(first is None for first, _ in tried):
            turns = [f"if ({self._may(first, 'p')} && {name}(m, p)) return 1;" for first, name in tried]
            return "\n".join([*turns, "return 0;"])
        by_kind: dict[int, list[str]] = {}
        for first, name in tried:
            for kind in first or ():
                by_kind.setdefault(kind, []).append(name)
        kinds_of: dict[tuple[str, ...], list[int]] = {}
        for kind, names in by_kind.items():
            kinds_of.setdefault(tuple(names), []).append(kind)
        cases = [
            "".join(f"case {kind}: " for kind in sorted(kinds))
            + "return " + " || ".join(f"{name}(m, p)" for name in names) + ";"
            for names, kinds in kinds_of.items()
        ]
        return "\n".join(["if (p >= m->end) return 0;", "switch (m->kinds[p]) {", *cases, "default: return 0;", "}"])

    def _group(self, of: Any, then: str, follow: First, flags: int) -> str:
        number, added, removed, body = of
        inner = (flags | added) & ~removed
        if number is None:
            return self._alternatives([body], then, follow, inner) if inner != flags else self._sequence(
                body, then, follow, flags
            )
        closed = self._function(_with_set(f"m->marks[{2 * number + 1}]", "p", f"{then}(m, p)"))
        opened = self._function(self._sequence(body, closed, follow, inner))
        return _with_set(f"m->marks[{2 * number}]", "p", f"{opened}(m, p)")

    def _repeated_group(self, of: Any, then: str, follow: First, flags: int) -> str:
        least, most, body = of
        if body.getwidth()[0] == 0 or most > _MOST_TURNS:
            raise ValueError(f"a repeated group must not match nothing, nor more than {_MOST_TURNS} times")
        first = self._first(body, flags, None)
        if (least, most) == (0, 1):
            once = self._function(self._sequence(body, then, follow, flags))
            return f"if ({self._may(first, 'p')} && {once}(m, p)) return 1;\nreturn {then}(m, p);"
        count, self._counters = f"m->counts[{self._counters}]", self._counters + 1
        # The turn calls itself through the body, so its name is needed before it is written.
        turn = self._function("")
        again = None if first is None or follow is None else first | follow
        inner = self._function(self._sequence(body, turn, again, flags))
        self._functions[int(turn.rpartition("_")[2])] = (
            f"static int {turn}(struct match *m, int p) {{\nint n = {count};\n"
            f"if (n < {most} && {self._may(first, 'p')}) {{\n{count} = n + 1;\n"
            f"if ({inner}(m, p)) return 1;\n{count} = n;\n}}\n"
            f"return n >= {least} && {self._may(follow, 'p')} && {then}(m, p);\n}}"
        )
        return _with_set(count, "0", f"{turn}(m, p)")

    def _kept_group(self, least: int, most: int, body: Any, flags: int) -> str:
        """C for a group that is never given back: as often as it matches."""
        if body.getwidth()[0] == 0 and most > 1:
            raise ValueError("a repeated group must not match nothing")
        _refuse_groups(body)
        once = self._function(self._sequence(body, "done", None, flags))
        return (
            f"{{\nint n = 0;\nwhile (n < {min(most, _UNBOUNDED)} && {once}(m, p)) {{ p = m->stop; n++; }}\n"
            f"if (n < {least}) return 0;\n}}"
        )

    def _look(self, op: Any, direction: int, body: Any, flags: int) -> str:
        """C for a look ahead or behind."""
        wanted = op is _op.ASSERT
        if direction > 0:
            at, room = "p", "p < m->end"
        else:
            width, most = body.getwidth()
            if width != most:
                raise ValueError("a look behind has one width")
            at, room = f"p - {width}", f"p >= {width}"
        if _is_single(body):
            seen = f"({room} && {self._is(self._taken(body[0], flags), at)})"
        else:
            _refuse_groups(body)
            inside = self._function(self._sequence(body, "done", None, flags))
            first = self._first(body, flags, None) if direction > 0 else None
            room = "1" if direction > 0 else room
            seen = f"({room} && {self._may(first, at)} && {inside}(m, {at}))"
        return f"if ({'!' if wanted else ''}{seen}) return 0;"

    def _place(self, of: Any, flags: int) -> str:
        """C for a place between characters."""
        if of is _op.AT_BOUNDARY:
            kinds = self._kinds.of_leaf(_word(flags, self._small))
            after = f"(p < m->end && {self._is(kinds, 'p')})"
            return f"({after} != (p > 0 && {self._is(kinds, 'p - 1')}))"
        if of is _op.AT_END_STRING:
            return "(p == m->end)"
        if of is _op.AT_END and not flags & re.MULTILINE:
            line_end = self._taken((_op.LITERAL, 10), flags)
            return f"(p == m->end || (p + 1 == m->end && {self._is(line_end, 'p')}))"
        raise ValueError(f"an expression cannot hold {of}")

    def _same_again(self, number: int, flags: int) -> str:
        if flags & re.IGNORECASE:
            raise ValueError("a group is repeated as it was written")
        return (
            f"{{\nint low = m->marks[{2 * number}], n = m->marks[{2 * number + 1}] - low;\n"
            "if (low < 0 || n < 0 || n > m->end - p) return 0;\n"
            "if (memcmp(m->text + low, m->text + p, n * sizeof *m->text)) return 0;\n"
            "p += n;\n}"
        )

    def _first(self, nodes: Nodes, flags: int, follow: First) -> First:
        """What must come next where parts are to match, and `follow` after them."""
        for node in reversed(nodes):
            follow = self._first_of(node, flags, follow)
        return follow

    def _first_of(self, node: Node, flags: int, follow: First) -> First:
        op, of = node
        if _is_leaf(op):
            return self._taken(node, flags)
        if op is _op.BRANCH:
            return _either(self._first(each, flags, follow) for each in of[1])
        if op is _op.SUBPATTERN:
            return self._first(of[3], (flags | of[1]) & ~of[2], follow)
        if op is _op.ATOMIC_GROUP:
            return self._first(of, flags, follow)
        if op in _REPEATS:
            if of[2].getwidth()[0] == 0:
                return None
            once = self._first(of[2], flags, None)
            return once if of[0] else _either((once, follow))
        if op is _op.ASSERT and of[0] > 0:
            ahead = self._first(of[1], flags, None)
            return follow if ahead is None else ahead if follow is None else ahead & follow
        if op is _op.ASSERT_NOT and of[0] > 0 and _is_single(of[1]) and follow is not None:
            return follow - self._taken(of[1][0], flags)
        return None if op is _op.GROUPREF else follow


def _is_single(nodes: Nodes) -> bool:
    return len(nodes) == 1 and _is_leaf(nodes[0][0])


def _either(firsts: Iterable[First]) -> First:
    found: set[int] = set()
    for first in firsts:
        if first is None:
            return None
        found |= first
    return frozenset(found)


def _refuse_groups(nodes: Nodes) -> None:
    """Raises ValueError for a group that is to be remembered where it is not given back."""
    for op, of in nodes:
        if op is _op.SUBPATTERN and of[0] is not None:
            raise ValueError("a look and what is never given back hold no group that is remembered")
        for each in of[1] if op is _op.BRANCH else _bodies(op, of):
            _refuse_groups(each)


def _bodies(op: Any, of: Any) -> list[Nodes]:
    if op is _op.SUBPATTERN:
        return [of[3]]
    if op in _REPEATS:
        return [of[2]]
    if op in (_op.ASSERT, _op.ASSERT_NOT):
        return [of[1]]
    return [of] if op is _op.ATOMIC_GROUP else []


def _with_set(what: str, value: str, tried: str) -> str:
    """C that sets something while more is tried, and puts it back where that fails."""
    return f"int old = {what};\n{what} = {value};\nif ({tried}) return 1;\n{what} = old;\nreturn 0;"
