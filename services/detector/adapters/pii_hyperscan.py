"""How Hyperscan finds the places where personal data can be, so that exact patterns look only there.

A pass over texts as they came answers three questions: is there any place at all, where, and can normalisation
change anything that matters? Most texts end with the first. Only where a sign of disguise stands is the text normalised
and looked through again. Many texts are passed over at once, as lines of one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, Final, TypeAlias

from services.detector.adapters.kept import keep, kept_file, read_kept
from services.detector.adapters.pii_alphabet import LINE_END, Alphabet
from services.detector.domain.pii import RECOGNISERS, Rules, Scanner, WholeText
from services.detector.domain.pii.normalise import (
    FOREIGN,
    HARMLESS,
    HARMLESS_CHARACTER,
    SIGNS_OF_FOLDING,
    SIGNS_OF_VEILING,
    View,
    fold,
    unveil,
)
from services.detector.domain.pii.recogniser import END_OF_MANY_DIGITS, Recogniser
from services.detector.domain.pii.scan import Sight, Windows

RULES_FILE: Final = Path(__file__).parents[1] / "rules" / "pii.yaml"
Found: TypeAlias = list[tuple[int, int]]
Plan: TypeAlias = tuple[tuple[str, ...], ...]
"""For each number that is reported the expressions that report it: all that decides what a database is."""
_DIGITS, _HARMLESS, _FOLDING, _VEILING = 1, 2, 4, 8
_DISGUISED: Final = _FOLDING | _VEILING
_REACH: Final = 64
"""Characters beyond a window that words nearby may reach."""


@dataclass(slots=True)
class _Seen:
    """What the first pass tells of a text."""

    text: str
    written: bytes
    signs: int = 0
    """Of `_DIGITS` and the others those that stand in it."""
    ends: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    """(characters before the end of an anchor, recognisers that have it)."""


class HyperscanEngine:
    """Passes over many texts at once with the recognisers' anchors; yields merged windows around their matches.

    Not to be shared between threads: one scratch space, guarded by Hyperscan against concurrent use.
    Raises ImportError where the hyperscan package does not load on this machine.
    """

    def __init__(self, recognisers: Sequence[Recogniser] = RECOGNISERS) -> None:
        self._recognisers = recognisers
        few = sorted({anchor for each in recognisers if not each.many_digits for anchor in each.anchors})
        many = sorted({anchor for each in recognisers if each.many_digits for anchor in each.anchors})
        signs = (END_OF_MANY_DIGITS, HARMLESS, "|".join((*SIGNS_OF_FOLDING, FOREIGN)), "|".join(SIGNS_OF_VEILING))
        self._alphabet = Alphabet([*few, *many, *signs])
        self._users = [[i for i, each in enumerate(recognisers) if anchor in each.anchors] for anchor in few]
        self._users_of_many = [[i for i, each in enumerate(recognisers) if anchor in each.anchors] for anchor in many]
        self._places = self._opened(*few, *signs)
        self._many = self._opened(*many)

    def look(self, texts: Sequence[str]) -> Mapping[int, Sight]:
        """See the port. Texts without any place are not normalised, nor those without a sign of disguise."""
        sights: dict[int, Sight] = {}
        plain: dict[int, _Seen] = {}
        disguised: dict[int, _Seen] = {}
        for at, each in self._seen(texts).items():
            if each.signs & _DISGUISED:
                disguised[at] = each
            elif each.ends or each.signs & _DIGITS:
                plain[at] = each
        for at, windows in self._windows(plain):
            if plain[at].signs & _HARMLESS and _touched(texts[at], windows):
                disguised[at] = plain[at]
            else:
                sights[at] = View(texts[at]), windows
        if disguised:
            sights |= self._undone(disguised)
        return sights

    def _undone(self, disguised: Mapping[int, _Seen]) -> Iterator[tuple[int, Sight]]:
        """What is to be seen of texts in which a sign of disguise stands."""
        views = {
            at: fold(each.text) if each.signs & (_HARMLESS | _FOLDING) else View(each.text)
            for at, each in disguised.items()
        }
        seen = self._seen_again(disguised, views)
        views |= {at: unveil(views[at]) for at, each in seen.items() if each.signs & _VEILING}
        seen = self._seen_again(seen, views)
        for at, windows in self._windows(seen):
            yield at, (views[at], windows)

    def _seen_again(self, seen: Mapping[int, _Seen], views: Mapping[int, View]) -> Mapping[int, _Seen]:
        """The same, looked at anew where the view is another text than was seen."""
        changed = [at for at, each in seen.items() if views[at].text != each.text]
        if not changed:
            return seen
        anew = self._seen([views[at].text for at in changed])
        return {
            **{at: each for at, each in seen.items() if views[at].text == each.text},
            **{changed[number]: each for number, each in anew.items()},
        }

    def _seen(self, texts: Sequence[str]) -> dict[int, _Seen]:
        """What the first pass finds, by the number of the text; texts without any match are left out."""
        written = self._written(texts)
        limits = list(accumulate([len(text) + 1 for text in texts]))
        anchors = len(self._users)
        seen: dict[int, _Seen] = {}
        for expression, end in _pass(self._places, written):
            number = bisect_left(limits, end)
            text = texts[number]
            start = limits[number] - len(text) - 1
            each = seen.get(number)
            if each is None:
                each = seen[number] = _Seen(text, written[start : start + len(text)])
            if expression < anchors:
                each.ends.append((min(end - start, len(text)), self._users[expression]))
            else:
                each.signs |= 1 << expression - anchors
        return seen

    def _windows(self, seen: Mapping[int, _Seen]) -> Iterator[tuple[int, Sequence[tuple[int, Windows]]]]:
        """Windows of the recognisers that have an anchor in a text, in the recognisers' order; texts without any are
        left out."""
        self._find_many([each for each in seen.values() if each.signs & _DIGITS])
        for at, each in seen.items():
            if each.ends:
                yield at, self._windows_around(each.ends, len(each.text))

    def _windows_around(self, ends: list[tuple[int, Sequence[int]]], length: int) -> Sequence[tuple[int, Windows]]:
        if len(ends) == 1:
            [(at, users)] = ends
            return [(user, _merged((at,), self._recognisers[user], length)) for user in users]
        ends.sort(key=_by_end)
        places = _places(ends)
        return [(user, _merged(places[user], self._recognisers[user], length)) for user in sorted(places)]

    def _find_many(self, seen: Sequence[_Seen]) -> None:
        """Adds the anchors of recognisers that need many digits."""
        if not seen:
            return
        written = b"\n".join([*(each.written for each in seen), b""])
        limits = list(accumulate(len(each.written) + 1 for each in seen))
        for expression, end in _pass(self._many, written):
            number = bisect_left(limits, end)
            each = seen[number]
            at = end - limits[number] + len(each.written) + 1
            each.ends.append((min(at, len(each.written)), self._users_of_many[expression]))

    def _written(self, texts: Sequence[str]) -> bytes:
        """Texts as lines: what finds an expression at the end of a text finds it at a line's."""
        return self._alphabet.written(LINE_END.join([*texts, ""]))

    def _opened(self, *expressions: str) -> Any:
        """A database of expressions all whose matches are reported, with a scratch space of its own. Compiling takes
        seconds, so what was compiled is kept: in this process, and in a file."""
        import hyperscan  # not on every architecture: WholeText takes its place

        plan: Plan = tuple(tuple(self._alphabet.expressions(each)) for each in expressions)
        database = _loaded(_kept(plan))
        if database is None:
            database = hyperscan.loadb(_compiled(plan), hyperscan.HS_MODE_BLOCK)
        database.scratch = hyperscan.Scratch(database)
        return database


def _kept(plan: Plan) -> Path:
    return kept_file("hyperscan", f"{sha256(repr(plan).encode()).hexdigest()}.hsdb")


def _loaded(file: Path) -> Any:
    """What was kept; None where nothing was, or where it is of another version or machine or spoilt (Hyperscan
    checks)."""
    import hyperscan

    if (data := read_kept(file)) is not None:
        with suppress(hyperscan.HyperscanError):
            return hyperscan.loadb(data, hyperscan.HS_MODE_BLOCK)
    return None


@cache
def _compiled(plan: Plan) -> bytes:
    """The database, serialised, and kept where the folder can be written."""
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    numbered = [(number, each) for number, expressions in enumerate(plan) for each in expressions]
    database.compile(
        expressions=[each.encode() for _, each in numbered],
        ids=[number for number, _ in numbered],
        elements=len(numbered),
        flags=[0] * len(numbered),
    )
    data: bytes = hyperscan.dumpb(database)
    keep(_kept(plan), data)
    return data


def _pass(database: Any, data: bytes) -> Found:
    """(expression, end) of every match."""
    found: Found = []

    def collect(expression: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found.append((expression, end))

    database.scan(data, match_event_handler=collect)
    return found


def _touched(text: str, places: Iterable[tuple[int, Windows]]) -> bool:
    """Whether a character that folding changes stands in sight of a window."""
    return any(
        HARMLESS_CHARACTER.search(text, max(0, low - _REACH), high + _REACH)
        for _, windows in places
        for low, high in windows
    )


def _by_end(place: tuple[int, Sequence[int]]) -> int:
    return place[0]


def _places(ends: Sequence[tuple[int, Sequence[int]]]) -> dict[int, list[int]]:
    """For each recogniser the characters before each of its anchors' ends, ascending as `ends` are."""
    places: dict[int, list[int]] = {}
    for at, users in ends:
        for user in users:
            places.setdefault(user, []).append(at)
    return places


def _merged(places: Sequence[int], recogniser: Recogniser, length: int) -> Windows:
    back, ahead = recogniser.reach, recogniser.ahead or recogniser.reach
    merged: list[tuple[int, int]] = []
    low, high = max(0, places[0] - back), places[0] + ahead
    for place in places:
        if place - back > high:
            merged.append((low, high))
            low = place - back
        high = place + ahead
    merged.append((low, min(high, length)))
    return merged


def build_scanner(rules_file: Path = RULES_FILE) -> Scanner:
    """The scanner of the service: Hyperscan where it loads, the reference engine elsewhere (same hits, slower)."""
    rules = Rules.parse(rules_file.read_text(encoding="utf-8"))
    try:
        return Scanner(rules, HyperscanEngine())
    except ImportError:
        return Scanner(rules, WholeText())
