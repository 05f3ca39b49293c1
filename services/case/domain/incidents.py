"""Which incident does a fact belong to?

Two facts of one subscriber are the same incident when they share a key (content cluster, watched identifier,
post) and were found no further apart than the window. An incident is a connected component of that relation,
so the partition does not depend on the order in which facts arrive: each key keeps the spans of time in which
it was seen, a fact joins every span that its time comes near to, and spans that it bridges become one
incident.

An un-merge by a person is remembered as a separation: no fact merges the two sides again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from services.case.domain.cases import Case
from services.case.domain.words import RULE_OF_KEY, Band, CaseKind, KeyKind, Rule

_STRENGTH = {kind: number for number, kind in enumerate(KeyKind)}


class Key(NamedTuple):
    """One thing by which facts are joined."""

    kind: KeyKind
    value: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the detector says about one subscriber and one content."""

    decision_id: str
    subscriber_id: str
    signal_ref: bytes
    kind: CaseKind
    channel: str
    channel_group: str
    platform: str
    discover_time: datetime
    keys: tuple[Key, ...]
    band: Band = Band.MATCH
    traceparent: str = ""


@dataclass(slots=True)
class Span:
    """The time over which a key was seen, and the case that it was first attached to (never another)."""

    key: Key
    case_id: str
    first_time: datetime
    last_time: datetime
    span_id: int = 0
    """0 until stored."""
    changed: bool = False

    def reaches(self, moment: datetime, window: timedelta) -> bool:
        """Whether a fact of that moment is within the window."""
        return self.first_time - window <= moment <= self.last_time + window

    def stretch(self, moment: datetime) -> None:
        """Takes the moment into the span."""
        if not self.first_time <= moment <= self.last_time:
            self.first_time = min(self.first_time, moment)
            self.last_time = max(self.last_time, moment)
            self.changed = True


@dataclass(frozen=True, slots=True)
class Opened:
    """A new incident."""

    case: Case


@dataclass(frozen=True, slots=True)
class Joined:
    """One more sighting of a known incident."""

    case: Case
    """The root."""
    branch_id: str
    """The case whose key was hit: an un-merge gives the sighting back to it."""
    rule: Rule
    reopened: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """The fact showed that several incidents are one."""

    joined: Joined
    merged: tuple[Case, ...]
    """Roots that became aliases, the oldest first."""


Assignment = Opened | Joined | Merged


@dataclass
class Book:
    """What is known of one subscriber's incidents, as far as the facts at hand may touch it."""

    subscriber_id: str
    window: timedelta
    spans: dict[Key, list[Span]] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    """Roots by id."""
    roots: dict[str, str] = field(default_factory=dict)
    """Any case id → its root as stored; follow with `root_of`."""
    separations: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of case ids that a person parted."""

    def add_span(self, span: Span) -> None:
        """Makes a span known."""
        self.spans.setdefault(span.key, []).append(span)

    def add_case(self, case: Case) -> None:
        """Makes a root known."""
        self.cases[case.case_id] = case
        self.roots[case.case_id] = case.case_id

    def root_of(self, case_id: str) -> str:
        """The root of a case, merges of this book included."""
        while (parent := self.roots[case_id]) != case_id:
            case_id = parent
        return case_id

    def hits(self, facts: Facts) -> list[Span]:
        """Spans that the facts touch, the strongest kind of key first, then the oldest case."""
        found = [
            span
            for key in facts.keys
            for span in self.spans.get(key, ())
            if span.reaches(facts.discover_time, self.window)
        ]
        return sorted(found, key=lambda span: (_STRENGTH[span.key.kind], span.case_id))

    def parted(self, one: str, other: str) -> bool:
        """Whether a person said that these two roots are different incidents."""
        return any({self.root_of(a), self.root_of(b)} == {one, other} for a, b in self.separations)

    def attach(self, facts: Facts, branch_id: str) -> None:
        """Remembers the keys of facts that belong to `branch_id`. A key that another incident has, from which a
        person parted this one, stays with that one.
        """
        hits = self.hits(facts)
        root_id = self.root_of(branch_id)
        for span in hits:
            if self.root_of(span.case_id) == root_id:
                span.stretch(facts.discover_time)
        for key in dict.fromkeys(facts.keys).keys() - {span.key for span in hits}:
            moment = facts.discover_time
            self.add_span(Span(key, branch_id, moment, moment, changed=True))


def assign(facts: Facts, book: Book, now: datetime, new_case_id: str) -> Assignment:
    """Puts facts into the book: opens, joins or merges. The caller has made sure that the decision is new."""
    hits = book.hits(facts)
    if not hits:
        return _open(facts, book, now, new_case_id)
    root, others = _choose(hits, book)
    merged, reopened = [], False
    for other in others:
        if not book.parted(root.case_id, other.case_id):
            reopened |= root.absorb(other, now)
            book.roots[other.case_id] = root.case_id
            del book.cases[other.case_id]
            merged.append(other)
    reopened |= root.sight(facts.kind, facts.channel_group, facts.discover_time, now)
    strongest = next(span for span in hits if book.root_of(span.case_id) == root.case_id)
    book.attach(facts, strongest.case_id)
    joined = Joined(root, strongest.case_id, RULE_OF_KEY[strongest.key.kind], reopened)
    return Merged(joined, tuple(merged)) if merged else joined


def _choose(hits: list[Span], book: Book) -> tuple[Case, list[Case]]:
    """The root that stays and the others: the oldest stays, except where a person parted two of them; there
    the strongest key decides.
    """
    ids = dict.fromkeys(book.root_of(span.case_id) for span in hits)
    roots = sorted((book.cases[case_id] for case_id in ids), key=lambda case: case.order)
    apart = any(book.parted(a.case_id, b.case_id) for a in roots for b in roots)
    root = book.cases[next(iter(ids))] if apart else roots[0]
    return root, [case for case in roots if case is not root]


def _open(facts: Facts, book: Book, now: datetime, case_id: str) -> Opened:
    case = Case(
        case_id=case_id,
        subscriber_id=facts.subscriber_id,
        kinds=[facts.kind],
        channel_groups=[facts.channel_group] if facts.channel_group else [],
        discover_time=facts.discover_time,
        create_time=now,
        update_time=now,
        latency_ms=latency_ms(facts.discover_time, now),
        sighting_count=1,
    )
    book.add_case(case)
    book.attach(facts, case_id)
    return Opened(case)


def latency_ms(discover_time: datetime, now: datetime) -> int:
    """Discovery to now; 0 where the collector's clock is ahead."""
    return max(0, int((now - discover_time) / timedelta(milliseconds=1)))
