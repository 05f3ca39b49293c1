"""How do facts of the detector become cases? A batch of any size costs the same number of statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from misuse.case.v1 import events_pb2
from services.case import records
from services.case.domain.cases import Case
from services.case.domain.chain import Head
from services.case.domain.incidents import Book, Facts, Joined, Merged, Opened, Recurrence, assign
from services.case.domain.people import Subscriber
from services.case.domain.rules import Rules
from services.case.domain.words import CaseState, PriorityReason, Rule, SubscriberState
from services.case.ports import DIGEST, PACK, RELEASE, SYSTEM, Alias, Sighting, Unit, Who
from services.chassis.errors import NotFound
from services.chassis.ids import uuid7


@dataclass
class _Changes:
    """What a batch has done so far."""

    opened: dict[str, Case] = field(default_factory=dict)
    changed: dict[str, Case] = field(default_factory=dict)
    sightings: list[Sighting] = field(default_factory=list)
    merges: list[Alias] = field(default_factory=list)
    reminders: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)
    """(kind, case) → when, and the trace of the cause; the first to ask sets the time."""

    def touch(self, case: Case) -> None:
        """Notes a case that must be written; a new one is written whole anyway."""
        if case.case_id not in self.opened:
            self.changed[case.case_id] = case

    def remind(self, kind: str, case_id: str, moment: datetime, traceparent: str) -> None:
        """Asks for a pack or a digest."""
        self.reminders.setdefault((kind, case_id), (moment, traceparent))


@dataclass(frozen=True)
class _Intake:
    """One batch on its way."""

    unit: Unit
    rules: Rules
    now: datetime
    who: Who
    changes: _Changes = field(default_factory=_Changes)

    async def place(self, facts: Facts, book: Book, subscriber: Subscriber) -> Case:
        """Puts one fact where it belongs and tells of it. Returns the root."""
        match assign(facts, book, self.now, uuid7()):
            case Opened(case=case, recurrences=recurrences):
                self._opened(case, facts, subscriber)
                self._recurred(case, recurrences, facts)
            case Joined() as joined:
                case = joined.case
                self._joined(joined, facts)
            case Merged(joined=joined, merged=aliases):
                case = joined.case
                for alias, before in aliases:
                    self.changes.merges.append(Alias(alias.case_id, case.case_id, joined.rule, before))
                    await self._merged(joined, alias, facts)
                self._joined(joined, facts)
        return case

    def _opened(self, case: Case, facts: Facts, subscriber: Subscriber) -> None:
        self.changes.opened[case.case_id] = case
        self._sighted(facts, case.case_id, Rule.OPENED, facts.reasons)
        self.changes.remind(PACK, case.case_id, self.now + self.rules.pack_after, facts.traceparent)
        event = events_pb2.CaseOpened(
            case_id=case.case_id,
            subscriber_id=facts.subscriber_id,
            kind=records.kind_number(facts.kind),
            channel_group=facts.channel_group,
            discover_time=records.stamp(facts.discover_time),
            create_time=records.stamp(self.now),
            language=subscriber.language,
        )
        record = records.lifecycle(case, "OPENED", "", self.now, facts=facts, who=self.who)
        self.unit.tell(facts.subscriber_id, event, facts.traceparent)
        self.unit.record(facts.subscriber_id, record, facts.traceparent)

    def _joined(self, joined: Joined, facts: Facts) -> None:
        case, state = joined.case, joined.case.state.name
        self.changes.touch(case)
        sighting = self._sighted(facts, joined.branch_id, joined.rule, joined.reasons)
        burst = self.rules.incident.burst
        flood = case.burst.untold(burst) > 0
        if not case.is_false_positive:
            after = burst.repack_after if flood else self.rules.repack_after
            self.changes.remind(PACK, case.case_id, self.now + after, facts.traceparent)
        if not flood:
            event = events_pb2.CaseSighted(
                case_id=case.case_id,
                subscriber_id=facts.subscriber_id,
                sighting_id=sighting.sighting_id,
                sighting_count=case.sighting_count,
                channel_group=facts.channel_group,
            )
            self.unit.tell(facts.subscriber_id, event, facts.traceparent)
        elif not case.is_false_positive:
            start = case.burst.start_time or self.now
            self.changes.remind(DIGEST, case.case_id, start + burst.within, facts.traceparent)
        if joined.reopened:
            self._reopened(case, facts)
            state = CaseState.CLOSED.name
        for record in (
            records.lifecycle(case, "SIGHTED", state, self.now, facts=facts, who=self.who),
            records.joined(case, joined, self.rules.incident.version, facts, self.now),
        ):
            self.unit.record(facts.subscriber_id, record, facts.traceparent)
        self._recurred(case, joined.recurrences, facts)

    def _recurred(self, case: Case, recurrences: Sequence[Recurrence], facts: Facts) -> None:
        for recurrence in recurrences:
            record = records.recurred(case, recurrence, self.rules.incident.version, facts, self.now)
            self.unit.record(facts.subscriber_id, record, facts.traceparent)

    def _reopened(self, case: Case, facts: Facts) -> None:
        event = events_pb2.CaseReopened(
            case_id=case.case_id,
            subscriber_id=case.subscriber_id,
            reason="SIGHTED_AGAIN",
            occurrence=case.occurrence,
        )
        record = records.lifecycle(case, "REOPENED", CaseState.CLOSED.name, self.now, reason="SIGHTED_AGAIN")
        self.unit.tell(case.subscriber_id, event, facts.traceparent)
        self.unit.record(case.subscriber_id, record, facts.traceparent)

    async def _merged(self, joined: Joined, alias: Case, facts: Facts) -> None:
        self.changes.touch(alias)
        for kind in (PACK, DIGEST):
            self.changes.reminders.pop((kind, alias.case_id), None)
        self.changes.remind(PACK, joined.case.case_id, self.now + self.rules.repack_after, facts.traceparent)
        await tell_merge(
            self.unit,
            joined.case,
            alias,
            joined.rule,
            self.rules.incident.version,
            self.now,
            who=self.who,
            traceparent=facts.traceparent,
        )

    def _sighted(
        self, facts: Facts, case_id: str, rule: Rule, reasons: Collection[PriorityReason]
    ) -> Sighting:
        sighting = Sighting(
            sighting_id=uuid7(),
            decision_id=facts.decision_id,
            case_id=case_id,
            subscriber_id=facts.subscriber_id,
            kind=facts.kind,
            channel=facts.channel,
            channel_group=facts.channel_group,
            platform=facts.platform,
            discover_time=facts.discover_time,
            create_time=self.now,
            rule=rule,
            reasons=tuple(sorted(reasons)),
        )
        self.changes.sightings.append(sighting)
        return sighting


async def take_in(
    unit: Unit, facts: Sequence[Facts], rules: Rules, now: datetime, who: Who = SYSTEM
) -> Mapping[str, str]:
    """Opens, joins or merges cases for facts that the detector or a reviewer is sure of. Returns decision →
    root case for all that have one now; decisions taken in before change nothing. Raises NotFound
    SUBSCRIBER_UNKNOWN.
    """
    active, subscribers = await processed(unit, facts, now)
    known = await unit.cases.linked([fact.decision_id for fact in active])
    cases = {decision_id: link.root_case_id for decision_id, link in known.items()}
    fresh = {fact.decision_id: fact for fact in active if fact.decision_id not in known}
    if not fresh:
        return cases
    books = await unit.cases.books(list(fresh.values()), rules.incident)
    intake = _Intake(unit, rules, now, who)
    placed = list[tuple[Facts, Case]]()
    for fact in fresh.values():
        person = subscribers[fact.subscriber_id]
        weighed = replace(fact, reasons=fact.reasons | {PriorityReason.MINOR}) if person.minor else fact
        placed.append((weighed, await intake.place(weighed, books[person.subscriber_id], person)))
    done = intake.changes
    await unit.cases.save(
        list(books.values()),
        list(done.opened.values()),
        list(done.changed.values()),
        done.sightings,
        done.merges,
        done.reminders,
        rules.incident.version,
        now,
    )
    for fact, case in placed:
        cases[fact.decision_id] = books[fact.subscriber_id].root_of(case.case_id)
    return cases


async def processed(
    unit: Unit, facts: Sequence[Facts], now: datetime
) -> tuple[list[Facts], Mapping[str, Subscriber]]:
    """Locks the subscribers and returns the facts of those who are processed; the others' facts are dropped
    with a record, and what the detector keeps of them is released. Raises NotFound SUBSCRIBER_UNKNOWN.
    """
    subscribers = await unit.subscribers.lock({fact.subscriber_id for fact in facts})
    active = []
    for fact in facts:
        subscriber = subscribers.get(fact.subscriber_id)
        if subscriber is None:
            raise NotFound("SUBSCRIBER_UNKNOWN", "The facts concern nobody who is registered.")
        if subscriber.state is SubscriberState.ACTIVE:
            active.append(fact)
            continue
        record = records.dropped(fact, f"SUBSCRIBER_{subscriber.state.name}", now)
        unit.record(fact.subscriber_id, record, fact.traceparent)
        await unit.remind(RELEASE, {fact.decision_id: (now, fact.traceparent)})
    return active, subscribers


async def tell_merge(
    unit: Unit,
    root: Case,
    alias: Case,
    rule: Rule,
    rule_version: str,
    now: datetime,
    *,
    who: Who = SYSTEM,
    traceparent: str | None = None,
) -> None:
    """Tells of a merge; both chains get both heads."""
    heads = await unit.log.heads([root.case_id, alias.case_id])
    pair = heads.get(root.case_id, Head()), heads.get(alias.case_id, Head())
    before = alias.merged_from_state.name if alias.merged_from_state else ""
    event = events_pb2.CaseMerged(
        root_case_id=root.case_id, merged_case_id=alias.case_id, subscriber_id=root.subscriber_id
    )
    unit.tell(root.subscriber_id, event, traceparent)
    for record in (
        records.lifecycle(alias, "MERGED", before, now, who=who),
        records.merged(root, alias, rule, rule_version, now, pair, who=who),
    ):
        unit.record(root.subscriber_id, record, traceparent)
