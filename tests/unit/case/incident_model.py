"""The slow and obvious account of incidents: what the use cases must agree with after any sequence of steps.

It keeps every mark that a fact left (key, moment, case), every merge and every parting, and works everything else out
anew from them. `Driver` takes random steps with it and with the use cases, over whatever stores those are given.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.case.domain.cases import MOVES
from services.case.domain.incidents import Facts, Key
from services.case.domain.removals import RemovalState, follow
from services.case.domain.rules import Rules
from services.case.domain.words import (
    CaseKind,
    CaseState,
    KeyKind,
    PriorityReason,
    Resolution,
    SubscriberState,
    Verdict,
)
from services.case.handlers import cases, intake
from services.case.ports import SYSTEM
from services.chassis.errors import ServiceError

START = datetime(2026, 3, 2, tzinfo=UTC)
URGENCY = ("WAITING_PLATFORM", "ACTION_STARTED", "OPEN", "RESOLVED", "CLOSED")
FALSE = Resolution.FALSE_POSITIVE
REASONS = (PriorityReason.SEXUAL_CONTENT, PriorityReason.NAME_AND_ADDRESS)


@dataclass
class Account:
    """What the model knows of one case."""

    number: int
    create_time: datetime
    state: CaseState
    since: datetime
    resolution: Resolution = Resolution.UNSPECIFIED
    closed: datetime | None = None
    occurrence: int = 0
    recurrence_of: str = ""

    def set(self, state: CaseState, now: datetime, resolution: Resolution = Resolution.UNSPECIFIED) -> None:
        self.state, self.since, self.resolution = state, now, resolution
        self.closed = now if state is CaseState.CLOSED else None

    @property
    def standing(self) -> tuple[CaseState, datetime, Resolution, datetime | None]:
        return self.state, self.since, self.resolution, self.closed

    @standing.setter
    def standing(self, value: tuple[CaseState, datetime, Resolution, datetime | None]) -> None:
        self.state, self.since, self.resolution, self.closed = value

    @property
    def is_false(self) -> bool:
        return self.state is CaseState.CLOSED and self.resolution is FALSE


@dataclass(frozen=True)
class Edge:
    """A merge in force."""

    into: str
    now: datetime
    before: tuple[CaseState, datetime, Resolution, datetime | None]
    """Where the root stood before."""


@dataclass
class Model:
    """One subscriber's incidents."""

    rules: Rules
    accounts: dict[str, Account] = field(default_factory=dict)
    marks: list[tuple[Key, datetime, str]] = field(default_factory=list)
    found: dict[str, tuple[Facts, str, datetime]] = field(default_factory=dict)
    """Decision → facts, the case that has them, when."""
    edges: dict[str, Edge] = field(default_factory=dict)
    apart: set[tuple[str, str]] = field(default_factory=set)
    requests: dict[tuple[str, str], RemovalState] = field(default_factory=dict)

    def root(self, case_id: str) -> str:
        while case_id in self.edges:
            case_id = self.edges[case_id].into
        return case_id

    def of(self, root: str) -> Iterator[tuple[Facts, datetime]]:
        return ((facts, now) for facts, case_id, now in self.found.values() if self.root(case_id) == root)

    # --- facts ---

    def take(self, facts: Facts, now: datetime, branch: str) -> str:
        """Puts a fact where it belongs; `branch` is the case that has it, whose id the model cannot make up. Returns
        the case that ought to have it: empty for a new one."""
        rules = self.rules.incident
        kinds, keys = list(rules.windows), set(facts.joining(rules))
        touched = sorted(
            (kinds.index(key.kind), case_id, key)
            for key, moment, case_id in self.marks
            if key in keys and abs(moment - facts.discover_time) <= rules.windows[key.kind]
        )
        live = [hit for hit in touched if not self._past(self.root(hit[1]), facts)]
        if not live:
            past = {self.root(case_id) for _, case_id, _ in touched}
            self._open(facts, now, branch, past)
            return ""
        roots = list(dict.fromkeys(self.root(case_id) for _, case_id, _ in live))
        ordered = sorted(roots, key=self._order)
        root = roots[0] if any(self._parted(a, b) for a in roots for b in roots) else ordered[0]
        for other in ordered:
            if other != root and not self._parted(root, other):
                self._join(root, other, now)
        own = [hit for hit in live if self.root(hit[1]) == root]
        for key, case_id in {(key, case_id) for _, case_id, key in own}:
            self.marks.append((key, facts.discover_time, case_id))
        held = {key for _, _, key in live}
        self.marks += [(key, facts.discover_time, own[0][1]) for key in keys - held]
        self.found[facts.decision_id] = (facts, own[0][1], now)
        account = self.accounts[root]
        if account.state is CaseState.CLOSED and not account.is_false:
            self._reopen(root, now)
        return own[0][1]

    def _past(self, root: str, facts: Facts) -> bool:
        account = self.accounts[root]
        if account.closed is None or account.is_false:
            return False
        return facts.discover_time - account.closed > self.rules.incident.reopen_within

    def _open(self, facts: Facts, now: datetime, branch: str, past: set[str]) -> None:
        last = max(past, key=lambda root: (self.accounts[root].closed or START, root), default="")
        self.accounts[branch] = Account(len(self.accounts), now, CaseState.OPEN, now, recurrence_of=last)
        self.marks += [(key, facts.discover_time, branch) for key in set(facts.joining(self.rules.incident))]
        self.found[facts.decision_id] = (facts, branch, now)

    def _order(self, case_id: str) -> tuple[datetime, str]:
        return self.accounts[case_id].create_time, case_id

    def _parted(self, one: str, other: str) -> bool:
        return any({self.root(a), self.root(b)} == {one, other} for a, b in self.apart)

    def _reopen(self, root: str, now: datetime) -> None:
        self.accounts[root].set(CaseState.OPEN, now)
        self.accounts[root].occurrence += 1

    def _join(self, root: str, other: str, now: datetime) -> None:
        stays, goes = self.accounts[root], self.accounts[other]
        self.edges[other] = Edge(root, now, stays.standing)
        urgent = min((stays, goes), key=lambda each: (URGENCY.index(each.state.name), each.is_false))
        stays.occurrence += stays.state is CaseState.CLOSED and urgent.state is not CaseState.CLOSED
        stays.standing = urgent.standing

    # --- people ---

    def merge(self, root_id: str, other: str, now: datetime) -> str:
        root = self.root(root_id)
        if other in self.edges or other == root:
            return "ALREADY_MERGED"
        self.apart -= {pair for pair in self.apart if {self.root(each) for each in pair} == {root, other}}
        self._join(root, other, now)
        return ""

    def unmerge(self, case_id: str, now: datetime) -> str:
        root = self.root(case_id)
        edge = self.edges.pop(case_id, None)
        if edge is None:
            return "NOT_MERGED"
        self.apart.add((case_id, edge.into))
        stays, goes = self.accounts[root], self.accounts[case_id]
        took = stays.standing[:2] == goes.standing[:2] and stays.standing != edge.before
        if edge.into == root and took and all(when < edge.now for _, when in self.of(root)):
            stays.standing = edge.before
        return ""

    def close(self, case_id: str, resolution: Resolution, now: datetime) -> str:
        account = self.accounts[self.root(case_id)]
        if account.state is CaseState.CLOSED:
            return "ILLEGAL_TRANSITION"
        account.set(CaseState.CLOSED, now, resolution)
        return ""

    def reopen(self, case_id: str, now: datetime) -> str:
        root = self.root(case_id)
        if self.accounts[root].state is not CaseState.CLOSED:
            return "ILLEGAL_TRANSITION"
        self._reopen(root, now)
        return ""

    def not_me(self, case_id: str, now: datetime) -> str:
        self.close(case_id, FALSE, now)
        return ""

    def removal(self, case_id: str, request: str, state: RemovalState, now: datetime) -> None:
        self.requests[case_id, request] = state
        root = self.root(case_id)
        account = self.accounts[root]
        to, resolution = follow([s for (each, _), s in self.requests.items() if self.root(each) == root])
        if to in MOVES[account.state] and account.state is not CaseState.CLOSED:
            account.set(to, now, resolution)

    # --- what must be seen ---

    def shown(self, case_id: str) -> dict[str, object]:
        """What a reader sees of a case."""
        root, account = self.root(case_id), self.accounts[case_id]
        seen: dict[str, object] = {"root": root, "recurrence_of": account.recurrence_of}
        if root != case_id:
            return seen | {"state": CaseState.MERGED}
        facts = [each for each, _ in self.of(root)]
        return seen | {
            "state": account.state,
            "since": account.since,
            "resolution": account.resolution,
            "closed": account.closed,
            "occurrence": account.occurrence,
            "sightings": len(facts),
            "kinds": {each.kind for each in facts},
            "groups": {each.channel_group for each in facts},
            "found": min(each.discover_time for each in facts),
            "reasons": {reason for each in facts for reason in each.reasons},
        }


def shown(case: Any) -> dict[str, object]:
    """The same of a case as stored."""
    seen: dict[str, object] = {"root": case.root_case_id, "recurrence_of": case.recurrence_of}
    if case.state is CaseState.MERGED:
        return seen | {"state": case.state}
    return seen | {
        "state": case.state,
        "since": case.state_time,
        "resolution": case.resolution,
        "closed": case.close_time,
        "occurrence": case.occurrence,
        "sightings": case.sighting_count,
        "kinds": set(case.kinds),
        "groups": set(case.channel_groups),
        "found": case.discover_time,
        # Who counts a burst says SPREADING; bursts have tests of their own.
        "reasons": set(case.reasons) - {PriorityReason.SPREADING},
    }


Units = Callable[[], AbstractAsyncContextManager[Any]]


@dataclass
class Driver:
    """Takes random steps with the use cases and with the model, and compares after each."""

    units: Units
    rules: Rules
    random: random.Random
    people: list[str]
    erase: Callable[[str], Awaitable[None]]
    """Takes away the rows of somebody whose erasure has begun."""
    now: datetime = START
    models: dict[str, Model] = field(default_factory=dict)
    sent: list[Facts] = field(default_factory=list)
    """Everything that was ever delivered, to be delivered again."""
    number: int = 0
    opened: int = 0

    def __post_init__(self) -> None:
        self.models = {person: Model(self.rules) for person in self.people}

    async def step(self) -> None:
        """One step of any kind."""
        self.now += timedelta(minutes=self.random.choice((0, 0, 1, 60, 60 * 24, 60 * 24 * 20)))
        action = self.random.choices(
            (
                self._facts,
                self._merge,
                self._unmerge,
                self._close,
                self._reopen,
                self._not_me,
                self._removal,
                self._gone,
            ),
            (50, 12, 12, 12, 5, 2, 12, 0.3),
        )[0]
        await action()

    # --- facts ---

    async def _facts(self) -> None:
        batch = [self._fact() for _ in range(self.random.choice((1, 1, 1, 1, 2, 3)))]
        async with self.units() as unit:
            await intake.take_in(unit, batch, self.rules, self.now)
        async with self.units() as unit:
            links = await unit.cases.linked({facts.decision_id for facts in batch})
        for facts in {facts.decision_id: facts for facts in batch}.values():
            model = self.models.get(facts.subscriber_id)
            link = links.get(facts.decision_id)
            if model is None:
                assert link is None, "a late fact brought somebody back"
                continue
            assert link is not None
            if facts.decision_id not in model.found:
                expected = model.take(facts, self.now, link.case_id)
                self.opened += not expected
                assert (expected or link.case_id) == link.case_id
                assert expected or list(model.accounts)[-1] == link.case_id
        for facts in batch:
            if facts.subscriber_id in self.models:
                await self._compare(facts.subscriber_id, links[facts.decision_id].case_id)

    def _fact(self) -> Facts:
        if self.sent and self.random.random() < 0.2:
            return self.random.choice(self.sent)
        pick, self.number = self.random, self.number + 1
        kinds = pick.choices(list(KeyKind), (6, 3, 2, 1), k=pick.choice((1, 1, 2, 3, 4)))
        keys = tuple(dict.fromkeys(Key(kind, pick.choice("abcdefgh")) for kind in kinds))
        late = timedelta(days=pick.choice((0, 0, 0, 1, 5, 40, 70, 90)), minutes=pick.choice((0, 0, 30)))
        facts = Facts(
            decision_id=f"{self.people[0][-12:]}-{self.number:08}".ljust(36, "d"),
            subscriber_id=pick.choice(self.people),
            signal_ref=b"",
            kind=pick.choice((CaseKind.FACE, CaseKind.PII)),
            channel="ch",
            channel_group=pick.choice(("SNS", "FORUM")),
            platform="",
            discover_time=self.now - late,
            keys=keys,
            near=frozenset(key.value for key in keys if key.kind is KeyKind.CLUSTER and pick.random() < 0.2),
            reasons=frozenset(pick.choices(REASONS, k=pick.choice((0, 0, 1)))),
        )
        self.sent.append(facts)
        return facts

    # --- people, platforms ---

    async def _merge(self) -> None:
        person, one = self._any()
        other = self._any(person)[1]
        if one and other:
            said = await self._do(lambda unit: cases.merge(unit, one, other, self.rules, self.now, SYSTEM))
            await self._check(person, one, said, self.models[person].merge(one, other, self.now))

    async def _unmerge(self) -> None:
        person, one = self._any()
        if self.models[person].edges and self.random.random() < 0.8:
            one = self.random.choice(list(self.models[person].edges))
        if one:
            said = await self._do(lambda unit: cases.unmerge(unit, one, self.rules, self.now, SYSTEM))
            await self._check(person, one, said, self.models[person].unmerge(one, self.now))

    async def _close(self) -> None:
        person, one = self._any()
        resolution = self.random.choice((Resolution.REMOVED, Resolution.UNRESOLVED, FALSE))
        if one:
            said = await self._do(lambda unit: cases.close(unit, one, resolution, 0, self.now, SYSTEM))
            await self._check(person, one, said, self.models[person].close(one, resolution, self.now))

    async def _reopen(self) -> None:
        person, one = self._any()
        if one:
            said = await self._do(lambda unit: cases.reopen(unit, one, "TEST", self.rules, self.now, SYSTEM))
            await self._check(person, one, said, self.models[person].reopen(one, self.now))

    async def _not_me(self) -> None:
        person, one = self._any()
        if one:
            said = await self._do(lambda unit: cases.take_verdict(unit, person, one, Verdict.NOT_ME, self.now, SYSTEM))
            await self._check(person, one, said, self.models[person].not_me(one, self.now))

    async def _removal(self) -> None:
        """Events of removal requests, in any order, more than once, and several in one transaction."""
        person, one = self._any()
        if not one:
            return
        moves = [
            cases.RemovalMove([one], f"{one[:30]}-{self.random.randrange(3)}".ljust(36, "r"), state)
            for state in self.random.choices(list(RemovalState), k=self.random.randint(1, 3))
        ]
        await self._do(lambda unit: cases.follow_removals(unit, moves, self.rules, self.now))
        for move in moves:
            self.models[person].removal(one, move.removal_request_id, move.state, self.now)
        await self._check(person, one, "", "")

    async def _gone(self) -> None:
        if len(self.models) > 1:
            person = self.random.choice(list(self.models))
            async with self.units() as unit:
                await unit.subscribers.set_state(person, SubscriberState.ERASED, self.now)
            await self.erase(person)
            del self.models[person]

    def _any(self, person: str = "") -> tuple[str, str]:
        person = person or self.random.choice(list(self.models))
        known = list(self.models[person].accounts)
        return person, self.random.choice(known) if known else ""

    async def _do(self, work: Callable[[Any], Any]) -> str:
        try:
            async with self.units() as unit:
                await work(unit)
        except ServiceError as refusal:
            return refusal.reason
        return ""

    async def _check(self, person: str, case_id: str, said: str, expected: str) -> None:
        assert expected == said
        await self._compare(person, case_id)

    async def _compare(self, person: str, *case_ids: str) -> None:
        """These cases and their roots."""
        model = self.models[person]
        async with self.units() as unit:
            for case_id in {*case_ids, *map(model.root, case_ids)}:
                assert model.shown(case_id) == shown(await unit.cases.get(case_id))

    async def compare_all(self) -> None:
        """Every case there is."""
        for person, model in self.models.items():
            await self._compare(person, *model.accounts)
