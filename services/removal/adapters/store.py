"""How are requests, mandates and sightings kept in PostgreSQL?

One `SqlWork` is one transaction. Saving a request adds the log record and the event of each of its transitions to
the same transaction.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, cast

from google.protobuf.message import Message
from sqlalchemy import and_, delete, exists, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from misuse.removal.v1 import events_pb2
from services.chassis import due
from services.chassis.database import Database
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyDestroyed, KeyStore, keyed_hash, seal, unseal
from services.chassis.outbox import Outbox
from services.chassis.telemetry import inject_traceparent
from services.removal.adapters.tables import (
    AttemptRow,
    MandateRow,
    RequestCaseRow,
    RequestRow,
    SightingRow,
    SubscriberRow,
)
from services.removal.domain.filing import NO_CONSENT, SUSPENDED, Evidence, Mandate
from services.removal.domain.policy import Path
from services.removal.domain.request import Attempt, Request
from services.removal.domain.states import Outcome, State
from services.removal.ports import SYSTEM, Cause, Listing, Sighting, Subscriber
from services.removal.translate import event_of, record_of, record_of_mandate

# Plain rows, not mapped objects: within one transaction an entity is read, written and read again, and the
# session's identity map would answer with the first reading.
_REQUEST, _ATTEMPT, _SIGHTING = RequestRow.__table__, AttemptRow.__table__, SightingRow.__table__
_SUBSCRIBER, _MANDATE = SubscriberRow.__table__, MandateRow.__table__

MOST_MANDATES = 100
_SAVED = (
    "state", "reason", "policy_version", "path", "missing", "evidence_sealed", "version", "receive_time",
    "end_time", "block_until",
)  # fmt: skip
"""Columns of a request that change; the others never do."""


@dataclass(frozen=True)
class Surroundings:
    """What every transaction needs."""

    outbox: Outbox
    keys: KeyStore
    memory: RequestMemory
    pepper: bytes


class SqlStore:
    """Opens transactions."""

    def __init__(self, database: Database, surroundings: Surroundings) -> None:
        self._database = database
        self._surroundings = surroundings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SqlWork]:
        """See ports.Store."""
        async with self._database.begin() as session:
            yield SqlWork(session, self._surroundings)

    def within(self, session: AsyncSession) -> SqlWork:
        """The work of a transaction that somebody else opened (a batch of events)."""
        return SqlWork(session, self._surroundings)


class SqlWork:
    """One transaction; see ports.Work."""

    def __init__(self, session: AsyncSession, surroundings: Surroundings) -> None:
        self._session = session
        self._around = surroundings

    # --- requests ---

    async def request(self, request_id: str, *, lock: bool = True) -> Request | None:
        """See ports.Work."""
        query = select(_REQUEST).where(RequestRow.request_id == request_id)
        return await self._one(query.with_for_update() if lock else query)

    async def latest(self, subscriber_id: str, url_ref: bytes, platform: str) -> Request | None:
        """See ports.Work."""
        query = (
            select(_REQUEST)
            .where(
                RequestRow.subscriber_id == subscriber_id,
                RequestRow.url_ref == url_ref,
                RequestRow.platform == platform,
            )
            .order_by(RequestRow.episode.desc())
            .limit(1)
        )
        return await self._one(query.with_for_update())

    async def list_requests(self, listing: Listing) -> Sequence[Request]:
        """See ports.Work."""
        query = select(_REQUEST).order_by(RequestRow.create_time.desc(), RequestRow.request_id.desc())
        if listing.subscriber_id:
            query = query.where(RequestRow.subscriber_id == listing.subscriber_id)
        if listing.states:
            query = query.where(RequestRow.state.in_([state.value for state in listing.states]))
        if listing.case_id:
            query = query.where(
                exists().where(
                    RequestCaseRow.request_id == RequestRow.request_id, RequestCaseRow.case_id == listing.case_id
                )
            )
        if listing.after is not None:
            query = query.where(tuple_(RequestRow.create_time, RequestRow.request_id) < listing.after)
        return await self._load((await self._session.execute(query.limit(listing.size))).all())

    async def waiting(self, subscriber_id: str, states: Sequence[State], reasons: Sequence[str]) -> Sequence[str]:
        """See ports.Work."""
        query = select(RequestRow.request_id).where(
            RequestRow.subscriber_id == subscriber_id, RequestRow.state.in_([state.value for state in states])
        )
        if reasons:
            query = query.where(RequestRow.reason.in_(reasons))
        return (await self._session.execute(query.order_by(RequestRow.request_id))).scalars().all()

    async def save(self, request: Request, cause: Cause = SYSTEM) -> None:
        """See ports.Work."""
        values = {name: getattr(request, name) for name in _SAVED} | {"missing": list(request.missing)}
        fixed = {
            name: getattr(request, name)
            for name in ("subscriber_id", "platform", "url_ref", "episode", "sighting_id", "create_time")
        }
        statement = insert(RequestRow).values(request_id=request.request_id, **fixed, **values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["request_id"], set_=values))
        await self._save_attempts(request)
        for transition in request.transitions:
            self._around.outbox.record(self._session, request.subscriber_id, record_of(request, transition, cause))
            event = event_of(request, transition)
            if event is not None:
                self._around.outbox.event(self._session, request.subscriber_id, event)
        request.transitions.clear()

    async def _save_attempts(self, request: Request) -> None:
        for attempt in request.attempts:
            values = asdict(attempt)
            statement = insert(AttemptRow).values(request_id=request.request_id, **values)
            await self._session.execute(
                statement.on_conflict_do_update(index_elements=["request_id", "number"], set_=values)
            )

    async def _one(self, query: Any) -> Request | None:
        loaded = await self._load((await self._session.execute(query)).all())
        return loaded[0] if loaded else None

    async def _load(self, rows: Sequence[Any]) -> list[Request]:
        ids = [row.request_id for row in rows]
        if not ids:
            return []
        attempts, cases = defaultdict(list), defaultdict(list)
        found = select(_ATTEMPT).where(AttemptRow.request_id.in_(ids)).order_by(AttemptRow.number)
        for row in await self._session.execute(found):
            attempts[row.request_id].append(_attempt(row))
        linked = (
            select(RequestCaseRow.request_id, RequestCaseRow.case_id)
            .where(RequestCaseRow.request_id.in_(ids))
            .distinct()
            .order_by(RequestCaseRow.request_id, RequestCaseRow.case_id)
        )
        for request_id, case_id in await self._session.execute(linked):
            cases[request_id].append(case_id)
        return [_request(row, attempts[row.request_id], cases[row.request_id]) for row in rows]

    # --- cases ---

    async def link(self, request_id: str, case_id: str) -> None:
        """See ports.Work."""
        statement = insert(RequestCaseRow).values(request_id=request_id, case_id=case_id, via="", closed=False)
        await self._session.execute(statement.on_conflict_do_nothing())

    async def merge_cases(self, root_case_id: str, merged_case_id: str) -> None:
        """See ports.Work."""
        query = select(RequestCaseRow.request_id).where(RequestCaseRow.case_id == merged_case_id).distinct()
        ids = (await self._session.execute(query)).scalars().all()
        if ids:
            rows = [
                {"request_id": request_id, "case_id": root_case_id, "via": merged_case_id, "closed": False}
                for request_id in ids
            ]
            await self._session.execute(insert(RequestCaseRow).values(rows).on_conflict_do_nothing())

    async def unmerge_case(self, root_case_id: str, case_id: str) -> None:
        """See ports.Work."""
        await self._session.execute(
            delete(RequestCaseRow).where(RequestCaseRow.case_id == root_case_id, RequestCaseRow.via == case_id)
        )

    async def close_case(self, case_id: str) -> Sequence[str]:
        """See ports.Work."""
        await self._session.execute(
            update(SightingRow)
            .where(SightingRow.case_id == case_id, SightingRow.outcome != "PREPARED")
            .values(outcome="CASE_CLOSED")
            .execution_options(synchronize_session=False)
        )
        touched = await self._mark(case_id, closed=True)
        still_open = select(RequestCaseRow.request_id).where(
            RequestCaseRow.request_id.in_(touched), RequestCaseRow.closed.is_(False)
        )
        held = set((await self._session.execute(still_open)).scalars())
        return [request_id for request_id in touched if request_id not in held]

    async def reopen_case(self, case_id: str) -> bool:
        """See ports.Work."""
        await self._mark(case_id, closed=False)
        reopened = await self._session.execute(
            update(SightingRow)
            .where(SightingRow.case_id == case_id, SightingRow.outcome == "CASE_CLOSED")
            .values(outcome="PENDING")
            .returning(SightingRow.sighting_id)
            .execution_options(synchronize_session=False)
        )
        return bool(reopened.all())

    async def _mark(self, case_id: str, *, closed: bool) -> list[str]:
        """Marks the case and those whose root it is; returns the requests that belong to it."""
        root = aliased(RequestCaseRow)
        merged_into_it = exists().where(
            root.request_id == RequestCaseRow.request_id,
            root.case_id == case_id,
            root.via == RequestCaseRow.case_id,
        )
        statement = (
            update(RequestCaseRow)
            .where(or_(RequestCaseRow.case_id == case_id, merged_into_it))
            .values(closed=closed)
            .returning(RequestCaseRow.request_id)
            .execution_options(synchronize_session=False)
        )
        return sorted(set((await self._session.execute(statement)).scalars()))

    # --- subscribers, sightings, mandates ---

    async def subscriber(self, subscriber_id: str, *, lock: bool = False) -> Subscriber:
        """See ports.Work."""
        fresh = asdict(Subscriber(subscriber_id))
        await self._session.execute(insert(SubscriberRow).values(fresh).on_conflict_do_nothing())
        query = select(_SUBSCRIBER).where(SubscriberRow.subscriber_id == subscriber_id)
        row = (await self._session.execute(query.with_for_update() if lock else query)).one()
        return Subscriber(row.subscriber_id, row.language, row.suspended, row.removal_consent)

    async def save_subscriber(self, subscriber: Subscriber) -> None:
        """See ports.Work."""
        await self._session.execute(
            update(SubscriberRow)
            .where(SubscriberRow.subscriber_id == subscriber.subscriber_id)
            .values(asdict(subscriber))
            .execution_options(synchronize_session=False)
        )

    async def sighting(self, sighting_id: str) -> Sighting | None:
        """See ports.Work."""
        query = select(_SIGHTING).where(SightingRow.sighting_id == sighting_id)
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else Sighting(**row._mapping)

    async def add_sightings(self, sightings: Sequence[Sighting]) -> None:
        """See ports.Work."""
        if sightings:
            rows = [asdict(sighting) for sighting in sightings]
            await self._session.execute(insert(SightingRow).values(rows).on_conflict_do_nothing())

    async def save_sighting(self, sighting: Sighting) -> None:
        """See ports.Work."""
        await self._session.execute(
            update(SightingRow)
            .where(SightingRow.sighting_id == sighting.sighting_id)
            .values(outcome=sighting.outcome, request_id=sighting.request_id)
            .execution_options(synchronize_session=False)
        )

    async def unprepared(self, case_id: str) -> Sequence[Sighting]:
        """See ports.Work."""
        waits = SightingRow.outcome.in_(["PENDING", NO_CONSENT, SUSPENDED])
        query = select(_SIGHTING).where(SightingRow.case_id == case_id, waits).order_by(SightingRow.sighting_id)
        return [Sighting(**row._mapping) for row in await self._session.execute(query)]

    async def held_cases(self, subscriber_id: str) -> Sequence[str]:
        """See ports.Work."""
        query = select(SightingRow.case_id).where(
            and_(
                SightingRow.subscriber_id == subscriber_id,
                SightingRow.outcome != "PREPARED",
                SightingRow.outcome.in_([NO_CONSENT, SUSPENDED]),
            )
        )
        return (await self._session.execute(query.distinct())).scalars().all()

    async def mandates(self, subscriber_id: str) -> Sequence[Mandate]:
        """See ports.Work."""
        query = (
            select(_MANDATE)
            .where(MandateRow.subscriber_id == subscriber_id)
            .order_by(MandateRow.create_time.desc(), MandateRow.mandate_id)
            .limit(MOST_MANDATES)
        )
        rows = (await self._session.execute(query)).all()
        return [
            Mandate(row.mandate_id, tuple(row.platforms), row.document_sha256, row.expire_time, row.revoke_time)
            for row in rows
        ]

    async def save_mandate(self, subscriber_id: str, mandate: Mandate, at: datetime, cause: Cause) -> None:
        """See ports.Work."""
        values = asdict(mandate) | {"platforms": list(mandate.platforms)}
        statement = insert(MandateRow).values(subscriber_id=subscriber_id, create_time=at, **values)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["mandate_id"], set_={"revoke_time": mandate.revoke_time})
        )
        self._around.outbox.record(self._session, subscriber_id, record_of_mandate(mandate, at, cause))

    # --- erasure ---

    def erased(self, subscriber_id: str) -> bool:
        """See ports.Work."""
        return self._around.keys.destroyed(subscriber_id)

    async def erase(self, subscriber_id: str) -> None:
        """See ports.Work."""
        # The key comes first: a crash in between leaves rows that nobody can read, and a repeat deletes them.
        self._around.keys.destroy(subscriber_id)
        requests = select(RequestRow.request_id).where(RequestRow.subscriber_id == subscriber_id)
        cases = select(SightingRow.case_id).where(SightingRow.subscriber_id == subscriber_id)
        await self._session.execute(
            delete(due.DUE).where(or_(due.DUE.c.entity_id.in_(requests), due.DUE.c.entity_id.in_(cases)))
        )
        for table in (_REQUEST, _SIGHTING, _MANDATE, _SUBSCRIBER):
            await self._session.execute(delete(table).where(table.c.subscriber_id == subscriber_id))
        completed = events_pb2.ErasureCompleted(subscriber_id=subscriber_id)
        self._around.outbox.event(self._session, subscriber_id, completed)

    # --- later, once ---

    async def schedule(self, kind: str, entity_ids: Sequence[str], at: datetime) -> None:
        """See ports.Work."""
        trace = inject_traceparent()
        await due.schedule_many(self._session, {(kind, item): (at, trace) for item in entity_ids})

    async def recall(self, caller: str, method: str, request: Message) -> str | None:
        """See ports.Work."""
        request_id = cast(Any, request).request_id
        return await self._around.memory.recall(self._session, caller, method, request_id, request)

    async def remember(self, caller: str, method: str, request: Message, resource_id: str) -> None:
        """See ports.Work."""
        request_id = cast(Any, request).request_id
        await self._around.memory.remember(self._session, caller, method, request_id, request, resource_id)

    # --- what only the subscriber's key opens ---

    def seal(self, request: Request, evidence: Evidence) -> bytes:
        """See ports.Work."""
        plain = json.dumps(asdict(evidence), ensure_ascii=False, sort_keys=True).encode()
        return seal(self._around.keys.get_or_create(request.subscriber_id), plain, _place(request))

    def unseal(self, request: Request) -> Evidence:
        """See ports.Work."""
        key = self._around.keys.get(request.subscriber_id)
        if key is None:
            raise KeyDestroyed
        data = json.loads(unseal(key, request.evidence_sealed, _place(request)))
        return Evidence(**{**data, "content_sha256": tuple(data["content_sha256"])})

    def url_ref(self, normalised: str) -> bytes:
        """See ports.Work."""
        return keyed_hash(self._around.pepper, "url", normalised)


def _place(request: Request) -> bytes:
    return f"removal_request|{request.request_id}|evidence_sealed".encode()


def _attempt(row: Any) -> Attempt:
    return Attempt(row.number, Outcome(row.outcome), row.in_flight, row.tries, row.send_time, row.reference, row.reason)


def _request(row: Any, attempts: list[Attempt], cases: list[str]) -> Request:
    return Request(
        request_id=row.request_id,
        subscriber_id=row.subscriber_id,
        platform=row.platform,
        url_ref=bytes(row.url_ref),
        episode=row.episode,
        sighting_id=row.sighting_id,
        policy_version=row.policy_version,
        path=Path(row.path),
        create_time=row.create_time,
        evidence_sealed=bytes(row.evidence_sealed),
        state=State(row.state),
        reason=row.reason,
        missing=tuple(row.missing),
        version=row.version,
        receive_time=row.receive_time,
        end_time=row.end_time,
        block_until=row.block_until,
        case_ids=tuple(cases[:100]),
        attempts=attempts,
    )
