"""How are cases, keys, sightings and aliases stored?

Batches are written with one statement per table. Whoever changes a case holds the lock on its subscriber's row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Row,
    Select,
    SmallInteger,
    any_,
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
from services.case.adapters.tables import (
    CASE,
    CASE_ALIAS,
    CASE_REMOVAL,
    CASE_SEPARATION,
    INCIDENT_KEY,
    SIGHTING,
    CaseRow,
    among,
)
from services.case.domain.cases import Case
from services.case.domain.incidents import Book, Facts, Key, Span
from services.case.domain.removals import RemovalState
from services.case.domain.words import CaseKind, CaseState, KeyKind, Resolution, Verdict
from services.case.ports import Alias, Attachments, CaseFilter, Link, PackSummary, Sighting
from services.chassis.database import insert_rows, update_rows

_SHOWN_AT_MOST = 100
"""Removal requests and merged cases that are listed with a case."""

_HIT = text(
    """
    SELECT k.span_id, k.subscriber_id, k.key_kind, k.key_value, k.case_id, k.first_time, k.last_time,
           c.root_case_id
    FROM unnest(CAST(:people AS text[]), CAST(:kinds AS text[]), CAST(:keys AS text[])) AS q(person, kind, key)
    JOIN incident_key k ON k.subscriber_id = q.person AND k.key_value = q.key AND k.key_kind = q.kind
    JOIN "case" c ON c.case_id = k.case_id
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
)
_SIGHTED = tuple(SIGHTING.c)


class SqlCases:
    """The `CaseStore` over one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def linked(self, decision_ids: Collection[str]) -> Mapping[str, Link]:
        """See `CaseStore`."""
        if not decision_ids:
            return {}
        query = (
            select(SIGHTING.c.decision_id, SIGHTING.c.case_id, CASE.c.root_case_id, SIGHTING.c.subscriber_id)
            .join(CASE, CASE.c.case_id == SIGHTING.c.case_id)
            .where(among(SIGHTING.c.decision_id, decision_ids))
        )
        return {row[0]: Link(*row[1:]) for row in await self._session.execute(query)}

    async def owners(self, case_ids: Collection[str]) -> Mapping[str, str]:
        """See `CaseStore`."""
        if not case_ids:
            return {}
        query = select(CASE.c.case_id, CASE.c.subscriber_id).where(among(CASE.c.case_id, case_ids))
        return {row.case_id: row.subscriber_id for row in await self._session.execute(query)}

    async def books(self, facts: Sequence[Facts], window: timedelta) -> Mapping[str, Book]:
        """See `CaseStore`."""
        books = {fact.subscriber_id: Book(fact.subscriber_id, window) for fact in facts}
        wanted = list(dict.fromkeys((fact.subscriber_id, *key) for fact in facts for key in fact.keys))
        times = [fact.discover_time for fact in facts]
        parameters = {
            "people": [person for person, _, _ in wanted],
            "kinds": [str(kind) for _, kind, _ in wanted],
            "keys": [value for _, _, value in wanted],
            "latest": max(times) + window,
            "earliest": min(times) - window,
        }
        hits = (await self._session.execute(_HIT, parameters)).all() if wanted else []
        roots = {row.root_case_id for row in hits}
        for row in await self._rows(select(CASE).where(among(CASE.c.case_id, roots))) if roots else ():
            case = case_of(row)
            if case.state is not CaseState.PURGED:
                books[case.subscriber_id].add_case(case)
        for row in hits:
            book = books[row.subscriber_id]
            if row.root_case_id in book.cases:
                book.roots[row.case_id] = row.root_case_id
                book.add_span(_span(row))
        if hits:
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
        rule_version: str,
        now: datetime,
    ) -> None:
        """See `CaseStore`."""
        await insert_rows(self._session, CASE, [_case_row(case) for case in opened])
        await self.update(changed)
        await self._save_spans([(span, person) for book in books for span, person in _changed_spans(book)])
        await insert_rows(self._session, SIGHTING, [_sighting_row(sighting) for sighting in sightings])
        await self._add_aliases(merges, rule_version, now)

    async def _save_spans(self, spans: Sequence[tuple[Span, str]]) -> None:
        new = [_span_row(span, person) for span, person in spans if not span.span_id]
        await insert_rows(self._session, INCIDENT_KEY, new)
        stretched = [
            {"span_id": span.span_id, "first_time": span.first_time, "last_time": span.last_time}
            for span, _ in spans
            if span.span_id
        ]
        await update_rows(self._session, INCIDENT_KEY, "span_id", stretched)

    async def get(self, case_id: str) -> Case | None:
        """See `CaseStore`."""
        row = (await self._session.execute(select(CASE).where(CASE.c.case_id == case_id))).one_or_none()
        return case_of(row) if row else None

    async def update(self, cases: Sequence[Case]) -> None:
        """See `CaseStore`."""
        whole = [_case_row(case) for case in cases]
        rows = [{name: row[name] for name in ("case_id", *_CHANGING)} for row in whole]
        await update_rows(self._session, CASE, "case_id", rows)

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
        return cases, [Alias(row.merged_case_id, row.into_case_id, row.rule) for row in found]

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

    async def count(self, root_case_id: str) -> tuple[int, Sequence[CaseKind], Sequence[str], datetime | None]:
        """See `CaseStore`."""
        first = func.min(SIGHTING.c.create_time)
        query = (
            select(
                SIGHTING.c.kind,
                SIGHTING.c.channel_group,
                func.count().label("number"),
                func.min(SIGHTING.c.discover_time).label("found"),
            )
            .join(CASE, CASE.c.case_id == SIGHTING.c.case_id)
            .where(CASE.c.root_case_id == root_case_id)
            .group_by(SIGHTING.c.kind, SIGHTING.c.channel_group)
            .order_by(first, SIGHTING.c.kind)
        )
        rows = await self._rows(query)
        kinds = list(dict.fromkeys(CaseKind(row.kind) for row in rows))
        groups = list(dict.fromkeys(row.channel_group for row in rows if row.channel_group))
        found = min((row.found for row in rows), default=None)
        return sum(row.number for row in rows), kinds, groups, found

    async def sightings(self, root_case_id: str, most: int) -> Sequence[Sighting]:
        """See `CaseStore`."""
        query = (
            select(*_SIGHTED)
            .join(CASE, CASE.c.case_id == SIGHTING.c.case_id)
            .where(CASE.c.root_case_id == root_case_id)
            .order_by(SIGHTING.c.create_time.desc(), SIGHTING.c.sighting_id.desc())
            .limit(most)
        )
        return [_sighting(row) for row in await self._session.execute(query)]

    async def page(self, wanted: CaseFilter, size: int, after: tuple[datetime, str] | None) -> Sequence[Case]:
        """See `CaseStore`."""
        order = (CASE.c.create_time, CASE.c.case_id)
        query = _filtered(wanted)
        if after is not None:
            query = query.where(tuple_(*order) < after)
        query = query.order_by(*(column.desc() for column in order)).limit(size)
        return [case_of(row) for row in await self._rows(query)]

    async def attachments(self, root_case_ids: Collection[str]) -> Mapping[str, Attachments]:
        """See `CaseStore`."""
        if not root_case_ids:
            return {}
        packs = await self._packs(root_case_ids)
        removals = await self._pairs(
            select(CASE.c.root_case_id, CASE_REMOVAL.c.removal_request_id)
            .join(CASE, CASE.c.case_id == CASE_REMOVAL.c.case_id)
            .where(CASE.c.root_case_id.in_(root_case_ids))
            .distinct()
            .order_by(CASE_REMOVAL.c.removal_request_id)
        )
        merged = await self._pairs(
            select(CASE.c.root_case_id, CASE.c.case_id)
            .where(CASE.c.root_case_id.in_(root_case_ids), CASE.c.case_id != CASE.c.root_case_id)
            .order_by(CASE.c.case_id)
        )
        return {
            root: Attachments(packs.get(root), removals.get(root, ()), merged.get(root, ())) for root in root_case_ids
        }

    async def _packs(self, root_case_ids: Collection[str]) -> Mapping[str, PackSummary]:
        rows = await self._session.execute(LATEST, {"cases": list(root_case_ids)})
        return {row.case_id: summary_of(row) for row in rows}

    async def _pairs(self, query: Select[Any]) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for root, value in (tuple(row) for row in await self._rows(query)):
            found.setdefault(root, []).append(value)
        return {root: tuple(values[:_SHOWN_AT_MOST]) for root, values in found.items()}

    async def note_removal(
        self, case_ids: Sequence[str], removal_request_id: str, state: RemovalState, now: datetime
    ) -> None:
        """See `CaseStore`."""
        rows = [
            {"case_id": case_id, "removal_request_id": removal_request_id, "state": state.value, "update_time": now}
            for case_id in case_ids
        ]
        statement = upsert(CASE_REMOVAL).values(rows)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["case_id", "removal_request_id"],
                set_={"state": statement.excluded.state, "update_time": statement.excluded.update_time},
            )
        )
        await self._session.execute(
            update(CASE_REMOVAL)
            .where(CASE_REMOVAL.c.removal_request_id == removal_request_id)
            .values(state=state.value)
        )

    async def removals(self, root_case_id: str) -> Sequence[RemovalState]:
        """See `CaseStore`."""
        query = (
            select(CASE_REMOVAL.c.removal_request_id, CASE_REMOVAL.c.state)
            .join(CASE, CASE.c.case_id == CASE_REMOVAL.c.case_id)
            .where(CASE.c.root_case_id == root_case_id)
            .distinct()
        )
        return [RemovalState(row.state) for row in await self._rows(query)]

    async def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await self._session.execute(query)).all()
        return rows


def _filtered(wanted: CaseFilter) -> Select[Any]:
    query = select(CASE)
    if wanted.subscriber_id:
        query = query.where(CASE.c.subscriber_id == wanted.subscriber_id)
    if wanted.states:
        query = query.where(CASE.c.state.in_([state.value for state in wanted.states]))
    else:
        query = query.where(CASE.c.state != CaseState.MERGED.value)
    if wanted.kind is not None:
        query = query.where(literal(wanted.kind.value, SmallInteger()) == any_(CASE.c.kinds))
    if wanted.channel_group:
        query = query.where(literal(wanted.channel_group) == any_(CASE.c.channel_groups))
    if wanted.decision_id:
        member = aliased(CaseRow)
        roots = (
            select(member.root_case_id)
            .join(SIGHTING, SIGHTING.c.case_id == member.case_id)
            .where(SIGHTING.c.decision_id == wanted.decision_id)
        )
        query = query.where(CASE.c.case_id.in_(roots))
    return query


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
    )


def _case_row(case: Case) -> dict[str, Any]:
    was = case.merged_from_state
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
    }


def _span(row: Any) -> Span:
    key = Key(KeyKind(row.key_kind), row.key_value)
    return Span(key, row.case_id, row.first_time, row.last_time, span_id=row.span_id)


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
    }


def _sighting(row: Any) -> Sighting:
    values = row._asdict()
    return Sighting(**{**values, "kind": CaseKind(row.kind)})
