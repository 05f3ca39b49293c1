"""How are cases, keys, sightings and aliases stored?

Batches are written with one statement per table. Whoever changes a case holds the lock on its subscriber's row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Integer,
    Row,
    Select,
    SmallInteger,
    Text,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from services.case.adapters.evidence import LATEST, summary_of
from services.case.adapters.evidence_tables import CASE_GUIDANCE
from services.case.adapters.search import Tags
from services.case.adapters.tables import (
    CASE,
    CASE_ALIAS,
    CASE_REMOVAL,
    CASE_SEPARATION,
    INCIDENT_KEY,
    SEARCH_TEXT,
    SIGHTING,
    CaseRow,
    among,
)
from services.case.domain.cases import MOVES, Case, Standing
from services.case.domain.incidents import Book, Facts, Key, Span
from services.case.domain.priorities import Burst, Pace
from services.case.domain.removals import RemovalState
from services.case.domain.rules import IncidentRules
from services.case.domain.words import (
    CaseKind,
    CaseState,
    KeyKind,
    Priority,
    PriorityReason,
    Resolution,
    Verdict,
)
from services.case.ports import (
    Alias,
    Attachments,
    CaseFilter,
    CaseOrder,
    CasePlace,
    Link,
    PackSummary,
    Sighting,
    Statistics,
    Tally,
)
from services.chassis import due
from services.chassis.database import Rows, update_rows, write_together

_SHOWN_AT_MOST = 100
"""Removal requests and merged cases that are listed with a case."""

_HIT = text(
    """
    SELECT k.span_id, k.subscriber_id AS person, k.key_kind, k.key_value, k.case_id AS held_by, k.first_time,
           k.last_time, EXISTS (SELECT FROM case_separation s WHERE s.subscriber_id = k.subscriber_id) AS parted, r.*
    FROM unnest(CAST(:people AS text[]), CAST(:kinds AS text[]), CAST(:keys AS text[])) AS q(person, kind, key)
    JOIN incident_key k ON k.subscriber_id = q.person AND k.key_value = q.key AND k.key_kind = q.kind
    JOIN "case" c ON c.case_id = k.case_id
    JOIN "case" r ON r.case_id = c.root_case_id
    WHERE k.first_time <= :latest AND k.last_time >= :earliest
    ORDER BY k.span_id
    """
)
_PARTED = text(
    """
    SELECT s.subscriber_id, s.case_id, a.root_case_id AS root, s.from_case_id, b.root_case_id AS from_root
    FROM case_separation s
    JOIN "case" a ON a.case_id = s.case_id
    JOIN "case" b ON b.case_id = s.from_case_id
    WHERE s.subscriber_id = ANY(CAST(:people AS text[]))
    """
)
_FORGET_SEPARATION = text(
    """
    DELETE FROM case_separation s USING "case" a, "case" b
    WHERE a.case_id = s.case_id AND b.case_id = s.from_case_id
      AND ((a.root_case_id = :one AND b.root_case_id = :other)
        OR (a.root_case_id = :other AND b.root_case_id = :one))
    """
)
# All figures in one walk: cases that are alike in all of this are few.
_STATISTICS = """
    SELECT state, priority, kinds[1] AS kind, channel_groups, count(*) AS cases,
           sum(sighting_count) AS sightings, count(*) FILTER (WHERE deadline_time < :now) AS overdue
    FROM "case" WHERE state <> :merged {of_whom} GROUP BY state, priority, kinds[1], channel_groups
"""
_STATISTICS_OF_ALL = text(_STATISTICS.format(of_whom=""))
_STATISTICS_OF_ONE = text(_STATISTICS.format(of_whom="AND subscriber_id = :subscriber"))
_MOST_GROUPS = 40
_REASONS = text(
    """
    SELECT r.reason FROM "case" c JOIN sighting s ON s.case_id = c.case_id, unnest(s.reasons) AS r(reason)
    WHERE c.root_case_id = :root GROUP BY r.reason ORDER BY min(s.create_time), r.reason
    """
)
_FLAG = text(
    """
    UPDATE sighting s SET reasons = s.reasons || CAST(:reason AS smallint) FROM "case" c
    WHERE c.root_case_id = :root AND s.case_id = c.case_id AND NOT CAST(:reason AS smallint) = ANY(s.reasons)
    """
)
# Text, for they are part of every batch of events, or of what each pack brings with it.
_LINKED = text(
    """
    SELECT s.decision_id, s.case_id, c.root_case_id, s.subscriber_id FROM sighting s JOIN "case" c USING (case_id)
    WHERE s.decision_id = ANY(CAST(:decisions AS text[]))
    """
)
_FIND = text('SELECT * FROM "case" WHERE case_id = ANY(CAST(:ids AS text[]))')
_MERGED = text(
    """
    SELECT root_case_id, case_id FROM "case"
    WHERE root_case_id = ANY(CAST(:roots AS text[])) AND case_id <> root_case_id ORDER BY case_id
    """
)
_OWNERS = text('SELECT case_id, subscriber_id FROM "case" WHERE case_id = ANY(CAST(:ids AS text[]))')
_ROOTS = text(
    """
    SELECT m.case_id AS member_id, c.* FROM "case" m JOIN "case" c ON c.case_id = m.root_case_id
    WHERE m.case_id = ANY(CAST(:ids AS text[]))
    """
)
_NOTE_REMOVALS = text(
    """
    WITH told AS (
        SELECT * FROM unnest(CAST(:requests AS text[]), CAST(:states AS smallint[])) AS t (request, state)
    ), named AS (
        SELECT p.case_id, t.request, t.state
        FROM unnest(CAST(:case_ids AS text[]), CAST(:of_requests AS text[])) AS p (case_id, request)
        JOIN told t USING (request)
    ), others AS (
        UPDATE case_removal r SET state = t.state FROM told t
        WHERE r.removal_request_id = t.request AND r.state <> t.state
          AND NOT EXISTS (SELECT FROM named n WHERE n.case_id = r.case_id AND n.request = t.request)
    )
    INSERT INTO case_removal (case_id, removal_request_id, state, update_time)
    SELECT case_id, request, state, :now FROM named ORDER BY case_id, request
    ON CONFLICT (case_id, removal_request_id) DO UPDATE SET state = excluded.state, update_time = excluded.update_time
    """
)
_REMOVALS = text(
    """
    SELECT c.root_case_id, r.removal_request_id, r.state FROM "case" c JOIN case_removal r USING (case_id)
    WHERE c.root_case_id = ANY(CAST(:roots AS text[]))
    """
)
_SIGHTINGS = text(
    """
    SELECT q.root, s.* FROM unnest(CAST(:roots AS text[])) AS q(root) CROSS JOIN LATERAL (
        SELECT s.* FROM "case" c JOIN sighting s USING (case_id) WHERE c.root_case_id = q.root
        ORDER BY s.create_time DESC, s.sighting_id DESC LIMIT :most
    ) s
    """
)
_CHANGING = (
    "root_case_id",
    "kinds",
    "state",
    "resolution",
    "channel_groups",
    "sighting_count",
    "discover_time",
    "update_time",
    "version",
    "verdict",
    "occurrence",
    "due_time",
    "merged_from_state",
    "merged_from_resolution",
    "state_time",
    "close_time",
    "reasons",
    "priority",
    "deadline_time",
    "burst_time",
    "burst_count",
)
_SIGHTED = tuple(column.name for column in SIGHTING.c)


class SqlCases:
    """The `CaseStore` over one session."""

    def __init__(self, session: AsyncSession, pace: Pace, tags: Tags) -> None:
        self._session = session
        self._pace = pace
        self._tags = tags

    async def linked(self, decision_ids: Collection[str]) -> Mapping[str, Link]:
        """See `CaseStore`."""
        if not decision_ids:
            return {}
        rows = await self._session.execute(_LINKED, {"decisions": list(decision_ids)})
        return {row[0]: Link(*row[1:]) for row in rows}

    async def owners(self, case_ids: Collection[str]) -> Mapping[str, str]:
        """See `CaseStore`."""
        if not case_ids:
            return {}
        rows = await self._session.execute(_OWNERS, {"ids": list(case_ids)})
        return {row.case_id: row.subscriber_id for row in rows}

    async def books(self, facts: Sequence[Facts], rules: IncidentRules) -> Mapping[str, Book]:
        """See `CaseStore`."""
        books = {fact.subscriber_id: Book(fact.subscriber_id, rules) for fact in facts}
        wanted = list(dict.fromkeys((fact.subscriber_id, *key) for fact in facts for key in fact.joining(rules)))
        times = [fact.discover_time for fact in facts]
        parameters = {
            "people": [person for person, _, _ in wanted],
            "kinds": [str(kind) for _, kind, _ in wanted],
            "keys": [value for _, _, value in wanted],
            "latest": max(times) + rules.widest,
            "earliest": min(times) - rules.widest,
        }
        hits = (await self._session.execute(_HIT, parameters)).all() if wanted else []
        for row in hits:
            book = books[row.person]
            if row.state == CaseState.PURGED.value:
                continue
            if row.case_id not in book.cases:
                book.add_case(case_of(row))
            book.roots[row.held_by] = row.case_id
            book.add_span(_span(row))
        if any(row.parted for row in hits):
            await self._add_separations(books)
        return books

    async def _add_separations(self, books: Mapping[str, Book]) -> None:
        for row in await self._session.execute(_PARTED, {"people": list(books)}):
            book = books[row.subscriber_id]
            if row.root in book.cases and row.from_root in book.cases:
                book.roots[row.case_id], book.roots[row.from_case_id] = row.root, row.from_root
                book.separations.append((row.case_id, row.from_case_id))

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
        """See `CaseStore`."""
        spans = [(span, person) for book in books for span, person in _changed_spans(book)]
        new = [_span_row(span, person) for span, person in spans if not span.span_id]
        stretched = [_stretched(span) for span, _ in spans if span.span_id]
        await write_together(
            self._session,
            [
                Rows(CASE, [self._case_row(case) for case in opened]),
                Rows(CASE, self._changed(changed), key="case_id"),
                Rows(INCIDENT_KEY, new),
                Rows(INCIDENT_KEY, stretched, key="span_id"),
                Rows(SIGHTING, [_sighting_row(sighting) for sighting in sightings]),
                due.scheduled(self._session, reminders),
            ],
        )
        await self._add_aliases(merges, rule_version, now)

    async def find(self, case_ids: Collection[str]) -> Mapping[str, Case]:
        """See `CaseStore`."""
        rows = await self._session.execute(_FIND, {"ids": list(case_ids)})
        return {row.case_id: case_of(row) for row in rows}

    async def get(self, case_id: str) -> Case | None:
        """See `CaseStore`."""
        return (await self.find([case_id])).get(case_id)

    async def roots(self, case_ids: Collection[str]) -> Mapping[str, Case]:
        """See `CaseStore`."""
        rows = (await self._session.execute(_ROOTS, {"ids": list(case_ids)})).all()
        roots = {row.case_id: row for row in rows}
        cases = {case_id: case_of(row) for case_id, row in roots.items()}
        return {row.member_id: cases[row.case_id] for row in rows}

    async def update(self, cases: Sequence[Case]) -> None:
        """See `CaseStore`."""
        await update_rows(self._session, CASE, "case_id", self._changed(cases))

    def _changed(self, cases: Sequence[Case]) -> list[dict[str, Any]]:
        whole = [self._case_row(case) for case in cases]
        return [{name: row[name] for name in ("case_id", *_CHANGING)} for row in whole]

    async def merge(self, aliases: Sequence[Alias], rule_version: str, now: datetime) -> None:
        """See `CaseStore`."""
        for alias in aliases:
            sides = {"one": alias.merged_case_id, "other": alias.into_case_id}
            await self._session.execute(_FORGET_SEPARATION, sides)
        await self._add_aliases(aliases, rule_version, now)

    async def _add_aliases(self, aliases: Sequence[Alias], rule_version: str, now: datetime) -> None:
        for alias in aliases:
            row = {
                "merged_case_id": alias.merged_case_id,
                "into_case_id": alias.into_case_id,
                "rule": str(alias.rule),
                "rule_version": rule_version,
                "create_time": now,
                **_before(alias.before),
            }
            await self._session.execute(insert(CASE_ALIAS).values(row))
            # What had been merged into the alias follows it.
            await self._session.execute(
                update(CASE).where(CASE.c.root_case_id == alias.merged_case_id).values(root_case_id=alias.into_case_id)
            )

    async def tree(self, root_case_id: str) -> tuple[Mapping[str, Case], Sequence[Alias]]:
        """See `CaseStore`."""
        rows = await self._rows(select(CASE).where(CASE.c.root_case_id == root_case_id))
        cases = {row.case_id: case_of(row) for row in rows}
        query = select(CASE_ALIAS).where(CASE_ALIAS.c.merged_case_id.in_(cases))
        found = await self._session.execute(query)
        return cases, [_alias(row) for row in found]

    async def part(self, case_id: str, from_case_id: str, subtree: Collection[str], subscriber_id: str) -> None:
        """See `CaseStore`."""
        await self._session.execute(delete(CASE_ALIAS).where(CASE_ALIAS.c.merged_case_id == case_id))
        await self._session.execute(update(CASE).where(CASE.c.case_id.in_(subtree)).values(root_case_id=case_id))
        # The parted incident gets packs of its own.
        await self._session.execute(update(SIGHTING).where(SIGHTING.c.case_id.in_(subtree)).values(pack_version=None))
        parted = {"case_id": case_id, "from_case_id": from_case_id, "subscriber_id": subscriber_id}
        await self._session.execute(upsert(CASE_SEPARATION).values(parted).on_conflict_do_nothing())

    async def unpacked(self, subscriber_id: str) -> Sequence[str]:
        """See `CaseStore`."""
        query = (
            select(CASE.c.root_case_id)
            .join(SIGHTING, SIGHTING.c.case_id == CASE.c.case_id)
            .where(CASE.c.subscriber_id == subscriber_id, SIGHTING.c.pack_version.is_(None))
            .distinct()
        )
        return (await self._session.scalars(query)).all()

    async def count(self, root_case_id: str) -> Tally:
        """See `CaseStore`."""
        first = func.min(SIGHTING.c.create_time)
        query = (
            select(
                SIGHTING.c.kind,
                SIGHTING.c.channel_group,
                func.count().label("number"),
                func.min(SIGHTING.c.discover_time).label("found"),
                func.max(SIGHTING.c.create_time).label("last"),
            )
            .join(CASE, CASE.c.case_id == SIGHTING.c.case_id)
            .where(CASE.c.root_case_id == root_case_id)
            .group_by(SIGHTING.c.kind, SIGHTING.c.channel_group)
            .order_by(first, SIGHTING.c.kind)
        )
        rows = await self._rows(query)
        reasons = await self._session.scalars(_REASONS, {"root": root_case_id})
        return Tally(
            number=sum(row.number for row in rows),
            kinds=tuple(dict.fromkeys(CaseKind(row.kind) for row in rows)),
            channel_groups=tuple(dict.fromkeys(row.channel_group for row in rows if row.channel_group)),
            discover_time=min((row.found for row in rows), default=None),
            last_time=max((row.last for row in rows), default=None),
            reasons=tuple(PriorityReason(reason) for reason in reasons),
        )

    async def sightings(self, root_case_ids: Collection[str], most: int) -> Mapping[str, Sequence[Sighting]]:
        """See `CaseStore`."""
        found: dict[str, list[Sighting]] = {root: [] for root in root_case_ids}
        if found:
            for row in await self._session.execute(_SIGHTINGS, {"roots": list(found), "most": most}):
                found[row.root].append(_sighting(row))
        return found

    async def page(
        self, wanted: CaseFilter, order: CaseOrder, size: int, after: CasePlace | None
    ) -> Sequence[Case]:
        """See `CaseStore`."""
        query = _ordered(self._filtered(wanted), order, after).limit(size)
        return [case_of(row) for row in await self._rows(query)]

    async def statistics(self, subscriber_id: str, now: datetime) -> Statistics:
        """See `CaseStore`."""
        values = {"now": now, "merged": CaseState.MERGED.value}
        if subscriber_id:
            found = await self._session.execute(_STATISTICS_OF_ONE, values | {"subscriber": subscriber_id})
        else:
            found = await self._session.execute(_STATISTICS_OF_ALL, values)
        return _statistics(found.all(), now)

    async def flag(self, root_case_id: str, reason: PriorityReason) -> None:
        """See `CaseStore`."""
        await self._session.execute(_FLAG, {"root": root_case_id, "reason": reason.value})

    async def attachments(self, root_case_ids: Collection[str]) -> Mapping[str, Attachments]:
        """See `CaseStore`."""
        if not root_case_ids:
            return {}
        packs = await self._packs(root_case_ids)
        removals = await self._pairs(
            select(CASE.c.root_case_id, CASE_REMOVAL.c.removal_request_id)
            .join(CASE, CASE.c.case_id == CASE_REMOVAL.c.case_id)
            .where(among(CASE.c.root_case_id, root_case_ids))
            .distinct()
            .order_by(CASE_REMOVAL.c.removal_request_id)
        )
        merged = await self.merged(root_case_ids)
        guidance = await self._pairs(
            select(CASE_GUIDANCE.c.case_id, CASE_GUIDANCE.c.path_id)
            .where(among(CASE_GUIDANCE.c.case_id, root_case_ids))
            .order_by(CASE_GUIDANCE.c.attach_time, CASE_GUIDANCE.c.path_id)
        )
        return {
            root: Attachments(packs.get(root), removals.get(root, ()), merged[root], guidance.get(root, ()))
            for root in root_case_ids
        }

    async def merged(self, root_case_ids: Collection[str]) -> Mapping[str, tuple[str, ...]]:
        """See `CaseStore`."""
        found = await self._pairs(_MERGED, {"roots": list(root_case_ids)})
        return {root: found.get(root, ()) for root in root_case_ids}

    async def _packs(self, root_case_ids: Collection[str]) -> Mapping[str, PackSummary]:
        rows = await self._session.execute(LATEST, {"cases": list(root_case_ids)})
        return {row.case_id: summary_of(row) for row in rows}

    async def _pairs(
        self, query: Executable, values: Mapping[str, Any] | None = None
    ) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for root, value in (tuple(row) for row in await self._session.execute(query, values)):
            found.setdefault(root, []).append(value)
        return {root: tuple(values[:_SHOWN_AT_MOST]) for root, values in found.items()}

    async def note_removals(
        self, pairs: Collection[tuple[str, str]], states: Mapping[str, RemovalState], now: datetime
    ) -> None:
        """See `CaseStore`."""
        each_once = sorted(set(pairs))
        values = {
            "case_ids": [case_id for case_id, _ in each_once],
            "of_requests": [request for _, request in each_once],
            "requests": list(states),
            "states": [state.value for state in states.values()],
            "now": now,
        }
        await self._session.execute(_NOTE_REMOVALS, values)

    async def removals(self, root_case_ids: Collection[str]) -> Mapping[str, dict[str, RemovalState]]:
        """See `CaseStore`."""
        found: dict[str, dict[str, RemovalState]] = {root: {} for root in root_case_ids}
        for root, request, state in await self._session.execute(_REMOVALS, {"roots": list(root_case_ids)}):
            found[root][request] = RemovalState(state)
        return found

    def _case_row(self, case: Case) -> dict[str, Any]:
        return _case_row(case, self._pace)

    def _filtered(self, wanted: CaseFilter) -> Select[Any]:
        query = select(CASE).where(*_conditions(wanted))
        if wanted.decision_id:
            query = query.where(CASE.c.case_id.in_(_roots_of_decision(wanted.decision_id)))
        if wanted.words is not None:
            query = query.where(CASE.c.case_id.in_(self._roots_with(wanted.words)))
        return query

    def _roots_with(self, words: Collection[str]) -> Select[Any]:
        member = aliased(CaseRow)
        tags = literal(self._tags.of(words), ARRAY(Integer))
        return (
            select(member.root_case_id)
            .join(SEARCH_TEXT, SEARCH_TEXT.c.case_id == member.case_id)
            .where(SEARCH_TEXT.c.tags.bool_op("@>")(tags))
        )

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await self._session.execute(query)).all()
        return rows


def _conditions(wanted: CaseFilter) -> Iterable[ColumnElement[bool]]:
    if wanted.subscriber_id:
        yield CASE.c.subscriber_id == wanted.subscriber_id
    if wanted.states:
        yield CASE.c.state.in_([state.value for state in wanted.states])
    else:
        yield CASE.c.state != CaseState.MERGED.value
    if wanted.kind is not None:
        yield CASE.c.kinds.bool_op("@>")(literal([wanted.kind.value], ARRAY(SmallInteger)))
    if wanted.channel_group:
        yield CASE.c.channel_groups.bool_op("@>")(literal([wanted.channel_group], ARRAY(Text)))
    if wanted.priorities:
        yield CASE.c.priority.in_([priority.value for priority in wanted.priorities])
    if wanted.create_from is not None:
        yield CASE.c.create_time >= wanted.create_from
    if wanted.create_until is not None:
        yield CASE.c.create_time < wanted.create_until
    if wanted.deadline_before is not None:
        yield CASE.c.deadline_time < wanted.deadline_before


def _roots_of_decision(decision_id: str) -> Select[Any]:
    member = aliased(CaseRow)
    return (
        select(member.root_case_id)
        .join(SIGHTING, SIGHTING.c.case_id == member.case_id)
        .where(SIGHTING.c.decision_id == decision_id)
    )


def _ordered(query: Select[Any], order: CaseOrder, after: CasePlace | None) -> Select[Any]:
    match order:
        case CaseOrder.DEADLINE:
            columns = (CASE.c.deadline_time, CASE.c.case_id)
            if after is not None:
                query = query.where(tuple_(*columns) > (after.time, after.case_id))
            return query.where(CASE.c.deadline_time.is_not(None)).order_by(*columns)
        case CaseOrder.PRIORITY:
            urgent = (CASE.c.priority, CASE.c.create_time, CASE.c.case_id)
            if after is not None:
                query = query.where(tuple_(*urgent) < (after.priority.value, after.time, after.case_id))
            return query.order_by(*(column.desc() for column in urgent))
        case CaseOrder.NEWEST:
            newest = (CASE.c.create_time, CASE.c.case_id)
            if after is not None:
                query = query.where(tuple_(*newest) < (after.time, after.case_id))
            return query.order_by(*(column.desc() for column in newest))


def _statistics(rows: Iterable[Any], now: datetime) -> Statistics:
    states, priorities, kinds, groups = Counter[CaseState](), Counter[Priority](), Counter[CaseKind](), Counter[str]()
    overdue = sightings = 0
    for row in rows:
        state = CaseState(row.state)
        states[state] += row.cases
        if MOVES[state] and state is not CaseState.CLOSED:
            priorities[Priority(row.priority)] += row.cases
        kinds[CaseKind(row.kind)] += row.cases
        groups.update(dict.fromkeys(row.channel_groups, row.cases))
        overdue += row.overdue
        sightings += int(row.sightings)
    return Statistics(states, priorities, kinds, dict(groups.most_common(_MOST_GROUPS)), overdue, sightings, now)


def _before(before: Standing | None) -> dict[str, Any]:
    return {
        "before_state": before.state.value if before else None,
        "before_resolution": before.resolution.value if before else None,
        "before_state_time": before.state_time if before else None,
        "before_close_time": before.close_time if before else None,
    }


def _alias(row: Any) -> Alias:
    before = None
    if row.before_state is not None:
        before = Standing(
            CaseState(row.before_state),
            Resolution(row.before_resolution),
            row.before_state_time,
            row.before_close_time,
        )
    return Alias(row.merged_case_id, row.into_case_id, row.rule, before, row.create_time)


def case_of(row: Any) -> Case:
    """A stored case."""
    was = row.merged_from_state
    return Case(
        case_id=row.case_id,
        root_case_id=row.root_case_id,
        subscriber_id=row.subscriber_id,
        kinds=[CaseKind(kind) for kind in row.kinds],
        state=CaseState(row.state),
        resolution=Resolution(row.resolution),
        channel_groups=list(row.channel_groups),
        sighting_count=row.sighting_count,
        discover_time=row.discover_time,
        create_time=row.create_time,
        update_time=row.update_time,
        latency_ms=row.latency_ms,
        version=row.version,
        verdict=Verdict(row.verdict),
        occurrence=row.occurrence,
        due_time=row.due_time,
        merged_from_state=CaseState(was) if was is not None else None,
        merged_from_resolution=Resolution(row.merged_from_resolution),
        state_time=row.state_time,
        close_time=row.close_time,
        reasons=[PriorityReason(reason) for reason in row.reasons],
        burst=Burst(row.burst_time, row.burst_count),
        recurrence_of=row.recurrence_of,
        priority=Priority(row.priority),
        deadline_time=row.deadline_time,
    )


def _case_row(case: Case, pace: Pace) -> dict[str, Any]:
    was = case.merged_from_state
    priority = pace.priority(case.reasons)
    return {
        "case_id": case.case_id,
        "root_case_id": case.root_case_id,
        "subscriber_id": case.subscriber_id,
        "kinds": [kind.value for kind in case.kinds],
        "state": case.state.value,
        "resolution": case.resolution.value,
        "channel_groups": case.channel_groups,
        "sighting_count": case.sighting_count,
        "discover_time": case.discover_time,
        "create_time": case.create_time,
        "update_time": case.update_time,
        "latency_ms": case.latency_ms,
        "version": case.version,
        "verdict": case.verdict.value,
        "occurrence": case.occurrence,
        "due_time": case.due_time,
        "merged_from_state": was.value if was is not None else None,
        "merged_from_resolution": case.merged_from_resolution.value,
        "state_time": case.state_time,
        "close_time": case.close_time,
        "reasons": [reason.value for reason in case.reasons],
        "priority": priority.value,
        "deadline_time": pace.deadline(case.state, case.state_time, priority),
        "burst_time": case.burst.start_time,
        "burst_count": case.burst.count,
        "recurrence_of": case.recurrence_of,
    }


def _span(row: Any) -> Span:
    key = Key(KeyKind(row.key_kind), row.key_value)
    return Span(key, row.held_by, row.first_time, row.last_time, span_id=row.span_id)


def _changed_spans(book: Book) -> Iterable[tuple[Span, str]]:
    return ((span, book.subscriber_id) for spans in book.spans.values() for span in spans if span.changed)


def _span_row(span: Span, subscriber_id: str) -> dict[str, Any]:
    return {
        "subscriber_id": subscriber_id,
        "key_kind": str(span.key.kind),
        "key_value": span.key.value,
        "case_id": span.case_id,
        "first_time": span.first_time,
        "last_time": span.last_time,
    }


def _stretched(span: Span) -> dict[str, Any]:
    return {"span_id": span.span_id, "first_time": span.first_time, "last_time": span.last_time}


def _sighting_row(sighting: Sighting) -> dict[str, Any]:
    return {
        "sighting_id": sighting.sighting_id,
        "decision_id": sighting.decision_id,
        "case_id": sighting.case_id,
        "subscriber_id": sighting.subscriber_id,
        "kind": sighting.kind.value,
        "channel": sighting.channel,
        "channel_group": sighting.channel_group,
        "platform": sighting.platform,
        "discover_time": sighting.discover_time,
        "create_time": sighting.create_time,
        "rule": str(sighting.rule),
        "pack_version": sighting.pack_version,
        "reasons": [reason.value for reason in sighting.reasons],
    }


def _sighting(row: Any) -> Sighting:
    values = {name: getattr(row, name) for name in _SIGHTED}
    reasons = tuple(PriorityReason(reason) for reason in row.reasons)
    return Sighting(**{**values, "kind": CaseKind(row.kind), "reasons": reasons})
