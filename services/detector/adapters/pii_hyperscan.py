"""How Hyperscan finds the places where personal data can be, so that exact patterns look only there.

One pass over the text as it came answers three questions at once: is there any place at all, where, and can
normalisation change anything that matters? Most texts end with the first. Only where a sign of disguise stands is the
text normalised and looked through again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

from services.chassis.files import make_folder, replace_file
from services.detector.domain.pii import RECOGNISERS, Rules, Scanner, WholeText
from services.detector.domain.pii.normalise import (
    FOREIGN_BYTES,
    HARMLESS_CHARACTER,
    HARMLESS_SIGN,
    SIGNS_OF_FOLDING,
    SIGNS_OF_VEILING,
    View,
    fold,
    unveil,
)
from services.detector.domain.pii.recogniser import MANY_DIGITS, Recogniser
from services.detector.domain.pii.scan import Windows

RULES_FILE: Final = Path(__file__).parents[1] / "rules" / "pii.yaml"
Found: TypeAlias = list[tuple[int, int]]
Expressions: TypeAlias = tuple[str, ...]
Plan: TypeAlias = tuple[tuple[str, int], ...]
"""(expression, Hyperscan's flags) by number: all that decides what a database is."""
_NOWHERE: Final[tuple[View, Sequence[tuple[int, Windows]]]] = (View(""), ())
_SIGHT: Final = 64
"""Characters beyond a window that words nearby may reach."""


class HyperscanEngine:
    """Passes over the text with the recognisers' anchors; yields merged windows around their matches.

    Not to be shared between threads: one scratch space, guarded by Hyperscan against concurrent use.
    Raises ImportError where the hyperscan package does not load on this machine.
    """

    def __init__(self, recognisers: Sequence[Recogniser] = RECOGNISERS) -> None:
        self._recognisers = recognisers
        few = sorted({anchor for each in recognisers if not each.many_digits for anchor in each.anchors})
        many = sorted({anchor for each in recognisers if each.many_digits for anchor in each.anchors})
        signs = (MANY_DIGITS, *SIGNS_OF_VEILING, *SIGNS_OF_FOLDING)
        self._users = [[i for i, each in enumerate(recognisers) if anchor in each.anchors] for anchor in few]
        self._users_of_many = [[i for i, each in enumerate(recognisers) if anchor in each.anchors] for anchor in many]
        self._anchors = len(few)
        self._veiling = self._anchors + 1
        self._folding = self._veiling + len(SIGNS_OF_VEILING)
        self._harmless = self._folding + len(SIGNS_OF_FOLDING) + 1
        self._database = _opened(tuple(few), signs, (FOREIGN_BYTES, HARMLESS_SIGN))
        self._digits = _opened(tuple(many))

    def look(self, text: str) -> tuple[View, Iterable[tuple[int, Windows]]]:
        """See the port. Texts without any place are not normalised, nor those without a sign of disguise."""
        data = _encoded(text)
        found = _pass(self._database, data)
        if not found:
            return _NOWHERE
        matched = {expression for expression, _ in found}
        harmless = self._harmless in matched
        matched.discard(self._harmless)
        if not matched:
            return _NOWHERE
        highest = max(matched)
        if highest < self._veiling:
            places = self._windows(text, data, found)
            if not harmless or not _touched(text, places):
                return View(text), places
        view = View(text)
        if harmless or highest >= self._folding:
            view = fold(text)
            if view.text != text:
                data = _encoded(view.text)
                found = _pass(self._database, data)
        if any(self._veiling <= each < self._folding for each, _ in found):
            folded, view = view, unveil(view)
            if view.text != folded.text:
                data = _encoded(view.text)
                found = _pass(self._database, data)
        return view, self._windows(view.text, data, found)

    def bare_pass(self, text: str) -> int:
        """The number of matches of both databases in a normalised text: what the engine alone costs."""
        data = _encoded(text)
        return len(_pass(self._database, data)) + len(_pass(self._digits, data))

    def _windows(self, text: str, data: bytes, found: Found) -> Sequence[tuple[int, Windows]]:
        """Windows of the recognisers that have an anchor in the text, in the recognisers' order."""
        ends = [(end, self._users[expression]) for expression, end in found if expression < self._anchors]
        if any(expression == self._anchors for expression, _ in found):
            ends += [(end, self._users_of_many[expression]) for expression, end in _pass(self._digits, data)]
        if not ends:
            return ()
        ends.sort(key=_by_end)
        places = _places(ends, None if len(data) == len(text) else data)
        length = len(text)
        return [(user, _merged(places[user], self._recognisers[user], length)) for user in sorted(places)]


def _opened(anchors: Expressions, once: Expressions = (), over_bytes: Expressions = ()) -> Any:
    """A database of anchors, all whose matches are reported, and of expressions that are reported once; with a scratch
    space of its own. Compiling takes seconds, so what was compiled is kept: in this process, and in `kept_folder`.
    """
    import hyperscan  # not on every architecture: WholeText takes its place

    # No UCP: normalised text has ASCII digits only, and Unicode classes make compilation five times slower.
    flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8
    single = hyperscan.HS_FLAG_SINGLEMATCH
    plan: Plan = (
        *((expression, flags) for expression in anchors),
        *((expression, flags | single) for expression in once),
        *((expression, single) for expression in over_bytes),
    )
    database = _loaded(_kept(plan))
    if database is None:
        database = hyperscan.loadb(_compiled(plan), hyperscan.HS_MODE_BLOCK)
    database.scratch = hyperscan.Scratch(database)
    return database


def kept_folder() -> Path:
    """Where compiled databases are kept: `JIKIMI_CACHE_DIR`, else `.cache` of this tree."""
    return Path(os.environ.get("JIKIMI_CACHE_DIR") or Path(__file__).parents[3] / ".cache") / "hyperscan"


def _kept(plan: Plan) -> Path:
    return kept_folder() / f"{sha256(repr(plan).encode()).hexdigest()}.hsdb"


def _loaded(file: Path) -> Any:
    """What was kept; None where nothing was, where it is of another version or machine or spoilt (Hyperscan checks), or
    where somebody else could have written it.
    """
    import hyperscan

    with suppress(OSError, hyperscan.HyperscanError), file.open("rb") as kept:
        state = os.fstat(kept.fileno())
        if state.st_uid == os.geteuid() and not state.st_mode & 0o022:
            return hyperscan.loadb(kept.read(), hyperscan.HS_MODE_BLOCK)
    return None


@cache
def _compiled(plan: Plan) -> bytes:
    """The database, serialised, and kept where the folder can be written."""
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[expression.encode() for expression, _ in plan],
        ids=list(range(len(plan))),
        elements=len(plan),
        flags=[flags for _, flags in plan],
    )
    data: bytes = hyperscan.dumpb(database)
    with suppress(OSError):  # a read-only image compiles at every start
        make_folder(kept_folder())
        replace_file(_kept(plan), data)
    return data


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")  # a lone surrogate becomes "?": one character either way


def _pass(database: Any, data: bytes) -> Found:
    """(expression, end in bytes) of every match."""
    found: Found = []

    def collect(expression: int, _start: int, end: int, _flags: int, _context: object) -> None:
        found.append((expression, end))

    database.scan(data, match_event_handler=collect)
    return found


def _touched(text: str, places: Iterable[tuple[int, Windows]]) -> bool:
    """Whether a character that folding changes stands in sight of a window."""
    return any(
        HARMLESS_CHARACTER.search(text, max(0, low - _SIGHT), high + _SIGHT)
        for _, windows in places
        for low, high in windows
    )


def _by_end(place: tuple[int, Sequence[int]]) -> int:
    return place[0]


def _places(ends: Sequence[tuple[int, Sequence[int]]], data: bytes | None) -> dict[int, list[int]]:
    """For each recogniser the characters before each of its anchors' ends, ascending. `ends` ascend and count bytes of
    `data`; without it they count characters."""
    places: dict[int, list[int]] = {}
    before = at = 0
    for end, users in ends:
        if data is None:
            at = end
        elif end != before:
            at += len(data[before:end].decode())
            before = end
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
