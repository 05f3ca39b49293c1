"""What did the signals of a period hold, and whose was it? LeakSignalSummaryReport."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MAX_ROWS: Final = 128
NOT_SAID: Final = "NOT_SAID"
"""Source type of records from before they told it."""


class Fate(enum.IntEnum):
    """What became of a signal; of several decisions about one signal the highest counts."""

    DROPPED = 1
    """It concerns no subscriber: its content was dropped."""
    IN_REVIEW = 2
    MATCHED = 3


class Place(NamedTuple):
    """Where a hit stands in its signal; two subscribers who watch the same value share it."""

    kind: str
    field: str
    start: int
    end: int


@dataclass(frozen=True)
class LeakDecision:
    """What one decision record says of its signal.

    A signal that concerns nobody has one record, any other one for each subscriber and kind of match; `of_nobody` (hits
    by kind) stands in the first of them only.
    """

    signal_ref: bytes
    fate: Fate
    source_type: str
    channel_group: str
    of_subscribers: frozenset[Place] = frozenset()
    of_nobody: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusals:
    """How many signals the door refused for one reason in one channel group; the group is empty where it is unknown."""

    reason: str
    channel_group: str
    count: int


@dataclass(frozen=True)
class LeakCounts:
    """What signals held and what became of them. `refused` ones were never looked at and are no part of `signals`."""

    dimension: str
    name: str
    signals: int
    with_data: int
    matched: int
    in_review: int
    dropped: int
    refused: int
    hits_of_subscribers: int
    hits_of_nobody: int


@dataclass
class _Signal:
    fate: Fate
    source_type: str
    channel_group: str
    of_subscribers: frozenset[Place]
    of_nobody: Counter[str]

    def rows(self) -> Iterator[tuple[str, str]]:
        yield "total", ""
        yield "source_type", self.source_type or NOT_SAID
        yield "channel_group", self.channel_group

    def kinds(self) -> frozenset[str]:
        return frozenset(self.of_nobody) | {place.kind for place in self.of_subscribers}


class LeakSignals:
    """Counts decisions as they are read; keeps in memory only the signals that concern somebody."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Counter[str]] = {("total", ""): Counter()}
        self._concerning: dict[bytes, _Signal] = {}

    def add(self, decision: LeakDecision) -> None:
        """Takes in a decision, in any order."""
        signal = _Signal(
            decision.fate,
            decision.source_type,
            decision.channel_group,
            decision.of_subscribers,
            Counter(decision.of_nobody),
        )
        if decision.fate is Fate.DROPPED:  # its only record
            self._count(signal)
            return
        known = self._concerning.setdefault(decision.signal_ref, signal)
        if known is not signal:
            known.fate = max(known.fate, signal.fate)
            known.of_subscribers |= signal.of_subscribers
            known.of_nobody += signal.of_nobody

    def refuse(self, refusals: Refusals) -> None:
        """Takes in what the door refused."""
        rows = [("total", ""), ("refusal", refusals.reason)]
        rows += [("channel_group", refusals.channel_group)] if refusals.channel_group else []
        for row in rows:
            self._tally(row)["refused"] += refusals.count

    def summary(self) -> tuple[LeakCounts, Sequence[LeakCounts]]:
        """The total, and a row for each source type, channel group, kind of data and reason of refusal, the largest
        first. A signal with several kinds counts in the row of each. To be asked once."""
        for signal in self._concerning.values():
            self._count(signal)
        self._concerning.clear()
        total = _counts(("total", ""), self._tallies.pop(("total", "")))
        rest = [_counts(row, tally) for row, tally in self._tallies.items()]
        return total, sorted(rest, key=lambda row: (-row.signals - row.refused, row.dimension, row.name))[:MAX_ROWS]

    def _count(self, signal: _Signal) -> None:
        kinds = signal.kinds()
        of_subscribers = Counter(place.kind for place in signal.of_subscribers)
        for row in signal.rows():
            tally = self._tally(row)
            tally["signals"] += 1
            tally[signal.fate.name] += 1
            tally["with_data"] += bool(kinds)
            tally["of_subscribers"] += of_subscribers.total()
            tally["of_nobody"] += signal.of_nobody.total()
        for kind in kinds:
            tally = self._tally(("kind", kind))
            tally["signals"] += 1
            tally["with_data"] += 1
            tally[signal.fate.name] += 1
            tally["of_subscribers"] += of_subscribers[kind]
            tally["of_nobody"] += signal.of_nobody[kind]

    def _tally(self, row: tuple[str, str]) -> Counter[str]:
        return self._tallies.setdefault(row, Counter())


def _counts(row: tuple[str, str], tally: Counter[str]) -> LeakCounts:
    return LeakCounts(
        dimension=row[0],
        name=row[1],
        signals=tally["signals"],
        with_data=tally["with_data"],
        matched=tally[Fate.MATCHED.name],
        in_review=tally[Fate.IN_REVIEW.name],
        dropped=tally[Fate.DROPPED.name],
        refused=tally["refused"],
        hits_of_subscribers=tally["of_subscribers"],
        hits_of_nobody=tally["of_nobody"],
    )
