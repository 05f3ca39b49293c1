"""Which incident does a fact belong to?

Two facts of one subscriber are the same incident when they share a key (content cluster, watched identifier,
post, account dump) and were found no further apart than the window of that kind of key. An incident is a connected
component of that relation, so the partition does not depend on the order in which facts arrive: each key keeps the
spans of time in which it was seen, a fact joins every span that its time comes near to, and spans that it bridges
become one incident.

An un-merge by a person is remembered as a separation: no fact merges the two sides again. An incident that was closed
long before is not opened again: a new one names it, and has the keys from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from services.case.domain.cases import Case, Standing
from services.case.domain.rules import IncidentRules
from services.case.domain.words import (
    RULE_OF_KEY,
    Band,
    CaseKind,
    CaseState,
    KeyKind,
    PriorityReason,
    Resolution,
    Rule,
)


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
    near: frozenset[str] = frozenset()
    """Content clusters among the keys that the content is near to without being put there."""
    cluster_rule: str = ""
    """How the detector found the content cluster."""
    reasons: frozenset[PriorityReason] = frozenset()
    """What in it makes a case urgent."""

    def joining(self, rules: IncidentRules) -> tuple[Key, ...]:
        """The keys by which the rules join it."""
        dumped = any(key.kind is KeyKind.DUMP for key in self.keys)
        return tuple(
            key
            for key in self.keys
            if key.kind in rules.windows
            and (not dumped or key.kind in rules.dump_keys)
            and (key.value not in self.near or self.kind in rules.near)
        )


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
class Recurrence:
    """Content of a closed incident was found again."""

    case_id: str
    """The case that had been closed."""
    close_time: datetime
    resolution: Resolution
    outcome: str
    """REOPENED, MERGED, LINKED."""
    rule: Rule


@dataclass(frozen=True, slots=True)
class Opened:
    """A new incident."""

    case: Case
    recurrences: tuple[Recurrence, ...] = ()


@dataclass(frozen=True, slots=True)
class Joined:
    """One more sighting of a known incident."""

    case: Case
    """The root."""
    branch_id: str
    """The case whose key was hit: an un-merge gives the sighting back to it."""
    rule: Rule
    reopened: bool
    reasons: frozenset[PriorityReason] = frozenset()
    """What makes the sighting urgent."""
    recurrences: tuple[Recurrence, ...] = ()


@dataclass(frozen=True, slots=True)
class Merged:
    """The fact showed that several incidents are one."""

    joined: Joined
    merged: tuple[tuple[Case, Standing], ...]
    """Roots that became aliases, the oldest first, each with where the root stood before."""


Assignment = Opened | Joined | Merged


@dataclass
class Book:
    """What is known of one subscriber's incidents, as far as the facts at hand may touch it."""

    subscriber_id: str
    rules: IncidentRules
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

    def hits(self, moment: datetime, keys: tuple[Key, ...]) -> list[Span]:
        """Spans that facts of that moment with these keys touch, the strongest kind of key first, then the oldest
        case."""
        windows = self.rules.windows
        found = [
            span for key in keys for span in self.spans.get(key, ()) if span.reaches(moment, windows[key.kind])
        ]
        if len(found) < 2:
            return found
        strength = {kind: number for number, kind in enumerate(windows)}
        return sorted(found, key=lambda span: (strength[span.key.kind], span.case_id))

    def is_past(self, span: Span, facts: Facts) -> bool:
        """Whether the incident was closed so long before the facts were found that they do not open it again."""
        case = self.cases[self.root_of(span.case_id)]
        if case.state is not CaseState.CLOSED or case.is_false_positive or case.close_time is None:
            return False
        return facts.discover_time - case.close_time > self.rules.reopen_within

    def parted(self, one: str, other: str) -> bool:
        """Whether a person said that these two roots are different incidents."""
        return any({self.root_of(a), self.root_of(b)} == {one, other} for a, b in self.separations)

    def attach(self, moment: datetime, keys: tuple[Key, ...], branch_id: str, hits: list[Span]) -> None:
        """Remembers the keys of facts of that moment that belong to `branch_id`. A key that another incident has, from
        which a person parted this one, stays with that one.
        """
        root_id = self.root_of(branch_id)
        for span in hits:
            if self.root_of(span.case_id) == root_id:
                span.stretch(moment)
        held = {span.key for span in hits}
        for key in dict.fromkeys(keys):
            if key not in held:
                self.add_span(Span(key, branch_id, moment, moment, changed=True))


def assign(facts: Facts, book: Book, now: datetime, new_case_id: str) -> Assignment:
    """Puts facts into the book: opens, joins or merges. The caller has made sure that the decision is new."""
    keys = facts.joining(book.rules)
    touched = book.hits(facts.discover_time, keys)
    hits = [span for span in touched if not book.is_past(span, facts)]
    if not hits:
        return _open(facts, keys, book, now, new_case_id, touched)
    root, others = _choose(hits, book)
    again = [_recurrence(root, facts, "REOPENED", hits, book)]
    merged, reopened = [], False
    for other in others:
        if not book.parted(root.case_id, other.case_id):
            again.append(_recurrence(other, facts, "MERGED", hits, book))
            merged.append((other, root.standing))
            reopened |= root.absorb(other, now)
            book.roots[other.case_id] = root.case_id
            del book.cases[other.case_id]
    reasons = _count(root, facts, now, book.rules)
    reopened |= root.sight(facts.kind, facts.channel_group, facts.discover_time, now, sorted(reasons))
    strongest = next(span for span in hits if book.root_of(span.case_id) == root.case_id)
    book.attach(facts.discover_time, keys, strongest.case_id, hits)
    found = tuple(recurrence for recurrence in again if recurrence)
    joined = Joined(root, strongest.case_id, _rule(strongest, facts), reopened, reasons, found)
    return Merged(joined, tuple(merged)) if merged else joined


def _count(root: Case, facts: Facts, now: datetime, rules: IncidentRules) -> frozenset[PriorityReason]:
    """Counts a sighting of a burst. Returns what makes it urgent: the one that shows the spreading says so."""
    root.burst.add(now, rules.burst)
    spreads = root.burst.count == rules.burst.spreading
    return facts.reasons | {PriorityReason.SPREADING} if spreads else facts.reasons


def _rule(span: Span, facts: Facts) -> Rule:
    if span.key.kind is KeyKind.CLUSTER and span.key.value in facts.near and facts.kind is CaseKind.FACE:
        return Rule.SAME_PERSON_NEAR_PICTURE
    return RULE_OF_KEY[span.key.kind]


def _recurrence(case: Case, facts: Facts, outcome: str, hits: list[Span], book: Book) -> Recurrence | None:
    """That a closed root was found again after its closing; None where it was not. To be asked before it changes."""
    if case.state is not CaseState.CLOSED or case.is_false_positive or case.close_time is None:
        return None
    if facts.discover_time <= case.close_time:
        return None
    rule = next(_rule(span, facts) for span in hits if book.root_of(span.case_id) == case.case_id)
    return Recurrence(case.case_id, case.close_time, case.resolution, outcome, rule)


def _choose(hits: list[Span], book: Book) -> tuple[Case, list[Case]]:
    """The root that stays and the others: the oldest stays, except where a person parted two of them; there
    the strongest key decides.
    """
    ids = dict.fromkeys(book.root_of(span.case_id) for span in hits)
    if len(ids) == 1:
        return book.cases[next(iter(ids))], []
    roots = sorted((book.cases[case_id] for case_id in ids), key=lambda case: case.order)
    apart = any(book.parted(a.case_id, b.case_id) for a in roots for b in roots)
    root = book.cases[next(iter(ids))] if apart else roots[0]
    return root, [case for case in roots if case is not root]


def _open(
    facts: Facts, keys: tuple[Key, ...], book: Book, now: datetime, case_id: str, past: list[Span]
) -> Opened:
    roots = [book.cases[root] for root in dict.fromkeys(book.root_of(span.case_id) for span in past)]
    again = [_recurrence(root, facts, "LINKED", past, book) for root in roots]
    last = max(roots, key=lambda root: (root.close_time or root.create_time, root.case_id), default=None)
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
        reasons=sorted(facts.reasons),
        recurrence_of=last.case_id if last else "",
    )
    case.burst.add(now, book.rules.burst)
    book.add_case(case)
    book.attach(facts.discover_time, keys, case_id, [])
    return Opened(case, tuple(recurrence for recurrence in again if recurrence))


def latency_ms(discover_time: datetime, now: datetime) -> int:
    """Discovery to now; 0 where the collector's clock is ahead."""
    return max(0, int((now - discover_time) / timedelta(milliseconds=1)))
