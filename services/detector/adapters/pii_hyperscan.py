"""How Hyperscan finds the places where personal data can be, so that exact patterns look only there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from services.detector.domain.pii import RECOGNISERS, Rules, Scanner, WholeText
from services.detector.domain.pii.recogniser import Recogniser
from services.detector.domain.pii.scan import Windows

RULES_FILE: Final = Path(__file__).parents[1] / "rules" / "pii.yaml"


class HyperscanEngine:
    """One pass over the text with all recognisers' anchors; yields merged windows around their matches.

    Not to be shared between threads: one scratch space, guarded by Hyperscan against concurrent use.
    Raises ImportError where the hyperscan package does not load on this machine.
    """

    def __init__(self, recognisers: Sequence[Recogniser] = RECOGNISERS) -> None:
        import hyperscan  # not on every architecture: WholeText takes its place

        self._recognisers = recognisers
        anchors = sorted({anchor for each in recognisers for anchor in each.anchors})
        self._users = [[i for i, each in enumerate(recognisers) if anchor in each.anchors] for anchor in anchors]
        # No UCP: normalised text has ASCII digits only, and Unicode classes make compilation five times slower.
        flags = hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8
        self._database: Any = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[anchor.encode() for anchor in anchors],
            ids=list(range(len(anchors))),
            elements=len(anchors),
            flags=[flags] * len(anchors),
        )

    def windows(self, text: str) -> Iterable[tuple[int, Windows]]:
        """Windows of the recognisers that have an anchor in the text, in the recognisers' order."""
        data = text.encode("utf-8", "replace")  # a lone surrogate becomes "?": one character either way
        ends: dict[int, list[int]] = {}

        def collect(anchor: int, _start: int, end: int, _flags: int, _context: object) -> None:
            ends.setdefault(anchor, []).append(end)

        self._database.scan(data, match_event_handler=collect)
        if not ends:
            return ()
        chars = None if len(data) == len(text) else _char_offsets(data, ends.values())
        return self._merged(ends, chars, len(text))

    def _merged(
        self, ends: dict[int, list[int]], chars: dict[int, int] | None, length: int
    ) -> Iterable[tuple[int, Windows]]:
        places: dict[int, list[int]] = {}
        for anchor, found in ends.items():
            offsets = found if chars is None else [chars[end] for end in found]
            for user in self._users[anchor]:
                places.setdefault(user, []).extend(offsets)
        for user in sorted(places):
            yield user, _windows(sorted(places[user]), self._recognisers[user].reach, length)


def _char_offsets(data: bytes, groups: Iterable[Iterable[int]]) -> dict[int, int]:
    """The number of characters before each byte offset; offsets lie on character borders."""
    offsets: dict[int, int] = {}
    before = chars = 0
    for end in sorted({end for group in groups for end in group}):
        chars += len(data[before:end].decode())
        offsets[end] = chars
        before = end
    return offsets


def _windows(places: list[int], reach: int, length: int) -> Windows:
    merged: list[tuple[int, int]] = []
    low, high = max(0, places[0] - reach), places[0] + reach
    for place in places:
        if place - reach > high:
            merged.append((low, high))
            low = place - reach
        high = place + reach
    return [*merged, (low, min(high, length))]


def build_scanner(rules_file: Path = RULES_FILE) -> Scanner:
    """The scanner of the service: Hyperscan where it loads, the reference engine elsewhere (same hits, slower)."""
    rules = Rules.parse(rules_file.read_text(encoding="utf-8"))
    try:
        return Scanner(rules, HyperscanEngine())
    except ImportError:
        return Scanner(rules, WholeText())
