"""The stores of `case` in memory: what its use cases do without a database. Small, real, and as forgetful between
transactions as the tables: what is read is a copy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.case.domain.cases import Case
from services.case.domain.chain import Head
from services.case.domain.incidents import Book, Facts, Span
from services.case.domain.people import Subscriber
from services.case.domain.priorities import Burst
from services.case.domain.removals import RemovalState
from services.case.domain.rules import IncidentRules
from services.case.domain.words import SubscriberState
from services.case.ports import Alias, Link, Sighting, Tally

_FIELDS = tuple(each.name for each in fields(Case))


def copied(case: Case) -> Case:
    """The case as another transaction would read it."""
    new = object.__new__(Case)
    for name in _FIELDS:
        setattr(new, name, getattr(case, name))
    new.kinds, new.channel_groups, new.reasons = list(case.kinds), list(case.channel_groups), list(case.reasons)
    new.burst = Burst(case.burst.start_time, case.burst.count)
    return new


@dataclass
class MemoryCases:
    """A `CaseStore` with what incidents need of it."""

    cases: dict[str, Case] = field(default_factory=dict)
    spans: list[tuple[str, Span]] = field(default_factory=list)
    sightings: dict[str, Sighting] = field(default_factory=dict)
    """By decision."""
    aliases: dict[str, Alias] = field(default_factory=dict)
    separations: set[tuple[str, str]] = field(default_factory=set)
    requests: dict[tuple[str, str], RemovalState] = field(default_factory=dict)

    async def linked(self, decision_ids: Collection[str]) -> Mapping[str, Link]:
        found = [self.sightings[each] for each in decision_ids if each in self.sightings]
        return {s.decision_id: Link(s.case_id, self._root(s.case_id), s.subscriber_id) for s in found}

    async def owners(self, case_ids: Collection[str]) -> Mapping[str, str]:
        return {case_id: self.cases[case_id].subscriber_id for case_id in case_ids if case_id in self.cases}

    async def books(self, facts: Sequence[Facts], rules: IncidentRules) -> Mapping[str, Book]:
        books = {fact.subscriber_id: Book(fact.subscriber_id, rules) for fact in facts}
        keys = {(fact.subscriber_id, key) for fact in facts for key in fact.joining(rules)}
        for number, (person, span) in enumerate(self.spans):
            if (person, span.key) in keys:
                root, book = self._root(span.case_id), books[person]
                if root not in book.cases:
                    book.add_case(copied(self.cases[root]))
                book.roots[span.case_id] = root
                book.add_span(replace(span, span_id=number + 1, changed=False))
        for one, other in self.separations:
            book_of_one = books.get(self.cases[one].subscriber_id)
            roots = (self._root(one), self._root(other))
            if book_of_one is not None and all(root in book_of_one.cases for root in roots):
                book_of_one.roots[one], book_of_one.roots[other] = roots
                book_of_one.separations.append((one, other))
        return books

    async def save(
        self,
        books: Collection[Book],
        opened: Sequence[Case],
        changed: Sequence[Case],
        sightings: Sequence[Sighting],
        merges: Sequence[Alias],
        reminders: Mapping[tuple[str, str], tuple[datetime, str]],
        rule_version: str,
        now: datetime,
    ) -> None:
        await self.update([*opened, *changed])
        for book in books:
            for span in (span for spans in book.spans.values() for span in spans if span.changed):
                if span.span_id:
                    self.spans[span.span_id - 1] = (book.subscriber_id, span)
                else:
                    self.spans.append((book.subscriber_id, span))
        self.sightings |= {sighting.decision_id: sighting for sighting in sightings}
        self._add(merges, now)

    def _add(self, aliases: Sequence[Alias], now: datetime) -> None:
        for alias in aliases:
            self.aliases[alias.merged_case_id] = replace(alias, create_time=now)
            for case in self.cases.values():
                if case.root_case_id == alias.merged_case_id:
                    case.root_case_id = alias.into_case_id

    async def get(self, case_id: str) -> Case | None:
        return copied(self.cases[case_id]) if case_id in self.cases else None

    async def roots(self, case_ids: Collection[str]) -> Mapping[str, Case]:
        roots = {root: copied(self.cases[root]) for root in map(self._root, case_ids)}
        return {case_id: roots[self._root(case_id)] for case_id in case_ids}

    async def update(self, cases: Sequence[Case]) -> None:
        self.cases |= {case.case_id: copied(case) for case in cases}

    async def merge(self, aliases: Sequence[Alias], rule_version: str, now: datetime) -> None:
        for alias in aliases:
            sides = {alias.merged_case_id, alias.into_case_id}
            gone = {pair for pair in self.separations if {self._stored_root(each) for each in pair} == sides}
            self.separations -= gone
        self._add(aliases, now)

    def _stored_root(self, case_id: str) -> str:
        return self.cases[case_id].root_case_id

    async def tree(self, root_case_id: str) -> tuple[Mapping[str, Case], Sequence[Alias]]:
        members = {c.case_id: copied(c) for c in self.cases.values() if c.root_case_id == root_case_id}
        return members, [alias for each, alias in self.aliases.items() if each in members]

    async def part(self, case_id: str, from_case_id: str, subtree: Collection[str], subscriber_id: str) -> None:
        del self.aliases[case_id]
        for member in subtree:
            self.cases[member].root_case_id = case_id
        self.separations.add((case_id, from_case_id))

    async def count(self, root_case_id: str) -> Tally:
        found = [s for s in self.sightings.values() if self._root(s.case_id) == root_case_id]
        return Tally(
            number=len(found),
            kinds=tuple(dict.fromkeys(s.kind for s in found)),
            channel_groups=tuple(dict.fromkeys(s.channel_group for s in found if s.channel_group)),
            discover_time=min((s.discover_time for s in found), default=None),
            last_time=max((s.create_time for s in found), default=None),
            reasons=tuple(dict.fromkeys(reason for s in found for reason in s.reasons)),
        )

    async def note_removals(
        self, pairs: Collection[tuple[str, str]], states: Mapping[str, RemovalState], now: datetime
    ) -> None:
        self.requests |= {pair: states[pair[1]] for pair in pairs}
        self.requests |= {pair: states[pair[1]] for pair in self.requests if pair[1] in states}

    async def removals(self, root_case_ids: Collection[str]) -> Mapping[str, dict[str, RemovalState]]:
        found: dict[str, dict[str, RemovalState]] = {root: {} for root in root_case_ids}
        for (case_id, request), state in self.requests.items():
            found.get(self._root(case_id), {})[request] = state
        return found

    def _root(self, case_id: str) -> str:
        return self.cases[case_id].root_case_id

    async def erase(self, subscriber_id: str) -> None:
        """Takes away all of one subscriber."""
        gone = {case.case_id for case in self.cases.values() if case.subscriber_id == subscriber_id}
        self.cases = {case_id: case for case_id, case in self.cases.items() if case_id not in gone}
        self.spans = [(person, span) for person, span in self.spans if person != subscriber_id]
        self.sightings = {d: s for d, s in self.sightings.items() if s.subscriber_id != subscriber_id}
        self.aliases = {case_id: alias for case_id, alias in self.aliases.items() if case_id not in gone}
        self.separations = {pair for pair in self.separations if pair[0] not in gone}
        self.requests = {pair: state for pair, state in self.requests.items() if pair[0] not in gone}


@dataclass
class MemorySubscribers:
    """A `SubscriberStore` of people who are there."""

    people: dict[str, Subscriber] = field(default_factory=dict)

    async def lock(self, subscriber_ids: Collection[str]) -> Mapping[str, Subscriber]:
        return {each: self.people[each] for each in subscriber_ids if each in self.people}

    async def set_state(self, subscriber_id: str, state: SubscriberState, now: datetime) -> None:
        self.people[subscriber_id] = replace(self.people[subscriber_id], state=state)


class NoLog:
    """A `LogStore` without an entry."""

    async def heads(self, chain_ids: Collection[str]) -> Mapping[str, Head]:
        return {}


@dataclass
class MemoryUnit:
    """A `Unit` that is its own transaction: each use case here either refuses before it writes, or succeeds."""

    cases: MemoryCases = field(default_factory=MemoryCases)
    subscribers: MemorySubscribers = field(default_factory=MemorySubscribers)
    log: NoLog = field(default_factory=NoLog)
    told: list[str] = field(default_factory=list)
    """Names of the events, in order."""

    def tell(self, key: str, message: Message, traceparent: str | None = None) -> None:
        self.told.append(message.DESCRIPTOR.name)

    def record(self, key: str, record: Any, traceparent: str | None = None) -> None:
        pass

    async def remind(self, kind: str, rows: Mapping[str, tuple[datetime, str]]) -> None:
        pass

    async def forget_reminders(self, kind: str, entity_ids: Collection[str]) -> None:
        pass

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[MemoryUnit]:
        yield self
