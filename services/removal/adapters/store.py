"""How are requests, mandates and sightings kept in PostgreSQL?

One `SqlWork` is one transaction. Saving a request adds the log record and the event of each of its transitions to
the same transaction. Statements are most of what a request costs, so a transaction remembers what it has locked and
writes nothing that has not changed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from google.protobuf.message import Message
from sqlalchemy import JSON, and_, bindparam, delete, distinct, exists, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from misuse.removal.v1 import events_pb2
from services.chassis import due
from services.chassis.database import Database, insert_rows, update_rows
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyDestroyed, KeyStore, keyed_hash, seal, unseal
from services.chassis.outbox import Outbox
from services.chassis.telemetry import inject_traceparent
from services.removal.adapters.tables import (
    AttemptRow,
    GateRow,
    MandateRow,
    ReplyRow,
    RequestCaseRow,
    RequestRow,
    SightingRow,
    SubscriberRow,
    VoteRow,
)
from services.removal.domain.filing import NO_CONSENT, SUSPENDED, Evidence, Mandate, Scope
from services.removal.domain.guards import Gate
from services.removal.domain.policy import Path
from services.removal.domain.request import Attempt, Request
from services.removal.domain.states import Outcome, State
from services.removal.metrics import count_move
from services.removal.ports import PREPARED, SYSTEM, Cause, Listing, Note, Sighting, StoredReply, Subscriber
from services.removal.translate import event_of, handed_to_person, record_of, record_of_mandate, record_of_note

# Plain rows, not mapped objects: within one transaction an entity is read, written and read again, and the
# session's identity map would answer with the first reading.
_REQUEST, _ATTEMPT, _SIGHTING = RequestRow.__table__, AttemptRow.__table__, SightingRow.__table__
_SUBSCRIBER, _MANDATE = SubscriberRow.__table__, MandateRow.__table__
_GATE, _REPLY = GateRow.__table__, ReplyRow.__table__

MOST_MANDATES = 100
MOST_OTHERS = 5
"""Requests of others about one page that are asked whether they may be joined."""
MOST_HELD = 10_000
"""Requests that are set going at once when a platform is released."""
_FIXED = (
    "request_id", "subscriber_id", "platform", "url_ref", "episode", "sighting_id", "create_time", "previous_id",
)  # fmt: skip
"""Columns of a request that never change."""
_SAVED = (
    "state", "reason", "policy_version", "path", "missing", "evidence_sealed", "version", "receive_time",
    "end_time", "block_until", "submit_time", "state_time", "slot_time", "claim_time", "gone_time", "looks",
    "look_time", "released", "marks", "groundless", "baseline_sealed", "joined_id",
)  # fmt: skip
"""Columns of a request that change."""
_ATTEMPT_SAVED = ("outcome", "in_flight", "tries", "send_time", "reference", "reason", "attempt_id")


def _update(key: str, columns: Sequence[str]) -> str:
    return f"({key}) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in columns)


_SAVE_REQUEST = _update("request_id", _SAVED)
_SAVE_ATTEMPT = _update("request_id, number", _ATTEMPT_SAVED)
# A request with its attempts and cases in one statement: it is read some ten times on its way.
_ATTEMPTS = (
    select(
        func.json_agg(
            aggregate_order_by(
                func.json_build_array(AttemptRow.number, *(_ATTEMPT.c[name] for name in _ATTEMPT_SAVED)),
                AttemptRow.number,
            ),
            type_=JSON,
        )
    )
    .where(AttemptRow.request_id == RequestRow.request_id)
    .scalar_subquery()
)
_CASES = (
    select(func.array_agg(aggregate_order_by(distinct(RequestCaseRow.case_id), RequestCaseRow.case_id)))
    .where(RequestCaseRow.request_id == RequestRow.request_id)
    .scalar_subquery()
)
_WHOLE = select(_REQUEST, _ATTEMPTS.label("attempts"), _CASES.label("case_ids"))
_UNLOCKED = _WHOLE.where(RequestRow.request_id == bindparam("wanted"))
_LOCKED = _UNLOCKED.with_for_update(of=_REQUEST)
# What every sighting asks for is built once: building costs about as much as asking.
_LATEST = (
    _WHOLE.where(
        RequestRow.subscriber_id == bindparam("subscriber"),
        RequestRow.url_ref == bindparam("url_ref"),
        RequestRow.platform == bindparam("platform"),
    )
    .order_by(RequestRow.episode.desc())
    .limit(1)
    .with_for_update(of=_REQUEST)
)
_SUBSCRIBER_OF = select(_SUBSCRIBER).where(SubscriberRow.subscriber_id == bindparam("wanted"))
_SUBSCRIBER_LOCKED = _SUBSCRIBER_OF.with_for_update()
_SIGHTING_OF = select(_SIGHTING).where(SightingRow.sighting_id == bindparam("wanted"))
_UNPREPARED = (
    select(_SIGHTING)
    .where(
        SightingRow.case_id == bindparam("wanted"), SightingRow.outcome.in_(["PENDING", NO_CONSENT, SUSPENDED])
    )
    .order_by(SightingRow.sighting_id)
)
_GATE_OF = select(_GATE).where(GateRow.platform == bindparam("wanted")).with_for_update()
_MANDATES_OF = (
    select(_MANDATE)
    .where(MandateRow.subscriber_id == bindparam("wanted"))
    .order_by(MandateRow.create_time.desc(), MandateRow.mandate_id)
    .limit(MOST_MANDATES)
)
_INSERT_LINK = (
    f"INSERT INTO {RequestCaseRow.__tablename__} (request_id, case_id, via, closed) "
    "VALUES (:request, :case, '', false) ON CONFLICT DO NOTHING"
)
_LINK = text(_INSERT_LINK)
_SAVE_SIGHTING = text(
    f"UPDATE {SightingRow.__tablename__} SET outcome = :outcome, request_id = :request WHERE sighting_id = :sighting"
)
_PREPARED = text(
    f"WITH linked AS ({_INSERT_LINK}) UPDATE {SightingRow.__tablename__} SET outcome = :outcome, request_id = :request "
    "WHERE sighting_id = :sighting"
)
_JOINED_TO = text(
    f"SELECT request_id FROM {RequestRow.__tablename__} "
    "WHERE joined_id = ANY(CAST(:wanted AS text[])) AND joined_id <> '' ORDER BY request_id"
)
_WORKED = text(f"UPDATE {GateRow.__tablename__} SET failures = 0 WHERE platform = :platform AND failures <> 0")


@dataclass(frozen=True)
class Surroundings:
    """What every transaction needs."""

    outbox: Outbox
    keys: KeyStore
    memory: RequestMemory
    pepper: bytes
    group_of: Callable[[str], str]
    """Platform → its channel group."""


class SqlStore:
    """Opens transactions."""

    def __init__(self, database: Database, surroundings: Surroundings) -> None:
        self._database = database
        self._surroundings = surroundings

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SqlWork]:
        """See ports.Store."""
        async with self._database.begin() as session:
            work = SqlWork(session, self._surroundings)
            yield work
            await work.finish()

    def within(self, session: AsyncSession) -> SqlWork:
        """The work of a transaction that somebody else opened (a batch of events), and who finishes it."""
        return SqlWork(session, self._surroundings)


class SqlWork:
    """One transaction; see ports.Work."""

    def __init__(self, session: AsyncSession, surroundings: Surroundings) -> None:
        self._session = session
        self._around = surroundings
        self._subscribers: dict[str, Subscriber] = {}
        """Those that this transaction has locked."""
        self._stored: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        """What the database holds of requests that this transaction has locked or written, and of their attempts."""
        self._due: dict[tuple[str, str], datetime] = {}

    async def finish(self) -> None:
        """Writes what was put off to the end of the transaction."""
        trace = inject_traceparent()
        rows, self._due = {row: (at, trace) for row, at in self._due.items()}, {}
        await due.schedule_many(self._session, rows)

    # --- requests ---

    async def request(self, request_id: str, *, lock: bool = True) -> Request | None:
        """See ports.Work."""
        found = await self._one(_LOCKED if lock else _UNLOCKED, {"wanted": request_id})
        return self._locked(found) if lock else found

    async def latest(self, subscriber_id: str, url_ref: bytes, platform: str) -> Request | None:
        """See ports.Work."""
        page = {"subscriber": subscriber_id, "url_ref": url_ref, "platform": platform}
        return self._locked(await self._one(_LATEST, page))

    def _locked(self, request: Request | None) -> Request | None:
        if request is not None:
            self._stored[request.request_id] = _rows_of(request)
        return request

    async def list_requests(self, listing: Listing) -> Sequence[Request]:
        """See ports.Work."""
        query = _WHOLE.order_by(RequestRow.create_time.desc(), RequestRow.request_id.desc())
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
        return [_request(row) for row in await self._session.execute(query.limit(listing.size))]

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
        row, attempts = _rows_of(request)
        stored, tried = self._stored.get(request.request_id, ({}, []))
        if row != stored:
            await insert_rows(self._session, _REQUEST, [row], _SAVE_REQUEST)
        await insert_rows(self._session, _ATTEMPT, [one for one in attempts if one not in tried], _SAVE_ATTEMPT)
        self._stored[request.request_id] = row, attempts
        for transition in request.transitions:
            count_move(request, transition)
            record = record_of(request, transition, cause, self._around.group_of(request.platform))
            self._around.outbox.record(self._session, request.subscriber_id, record)
            event = event_of(request, transition)
            if event is not None:
                self._around.outbox.event(self._session, request.subscriber_id, event)
        request.transitions.clear()

    async def _one(self, query: Any, values: Mapping[str, Any] | None = None) -> Request | None:
        row = (await self._session.execute(query, values)).one_or_none()
        return None if row is None else _request(row)

    async def quoting(self, attempt_ids: Sequence[str], references: Sequence[str], platform: str) -> Sequence[str]:
        """See ports.Work."""
        ours, theirs = AttemptRow.attempt_id.in_(attempt_ids), AttemptRow.reference.in_(references)
        named = or_(and_(AttemptRow.attempt_id != "", ours), and_(AttemptRow.reference != "", theirs))
        query = select(AttemptRow.request_id).where(named).distinct().limit(3)
        if platform:
            own = exists().where(RequestRow.request_id == AttemptRow.request_id, RequestRow.platform == platform)
            query = query.where(own)
        return (await self._session.execute(query)).scalars().all()

    async def others_about(self, request: Request, states: Collection[State]) -> Sequence[tuple[str, str]]:
        """See ports.Work. One transaction at a time looks for others about a page: of two requests that are sent at the
        same moment the second finds the first."""
        page = f"{request.platform}:{request.url_ref.hex()}"
        await self._session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(page, 0))))
        tried = exists().where(AttemptRow.request_id == RequestRow.request_id, AttemptRow.tries > 0)
        query = (
            select(RequestRow.request_id, RequestRow.subscriber_id)
            .where(
                RequestRow.url_ref == request.url_ref,
                RequestRow.platform == request.platform,
                RequestRow.subscriber_id != request.subscriber_id,
                RequestRow.state.in_([state.value for state in states]),
                RequestRow.joined_id == "",
                RequestRow.path != Path.PERSON,
                tried,
            )
            .order_by(RequestRow.create_time, RequestRow.request_id)
            .limit(MOST_OTHERS)
        )
        return [(row.request_id, row.subscriber_id) for row in await self._session.execute(query)]

    async def joined_to(self, request_id: str) -> Sequence[str]:
        """See ports.Work."""
        return (await self._session.execute(_JOINED_TO, {"wanted": [request_id]})).scalars().all()

    async def joined_to_those_of(self, subscriber_id: str) -> Sequence[str]:
        """See ports.Work."""
        own = select(RequestRow.request_id).where(RequestRow.subscriber_id == subscriber_id)
        ids = list((await self._session.execute(own)).scalars())
        return (await self._session.execute(_JOINED_TO, {"wanted": ids})).scalars().all()

    async def note(self, subject: Request | str, note: Note, at: datetime, cause: Cause = SYSTEM) -> None:
        """See ports.Work."""
        key = subject if isinstance(subject, str) else subject.subscriber_id
        self._around.outbox.record(self._session, key, record_of_note(subject, note, at, cause))

    async def hand_to_person(self, request: Request, occurrence: int, at: datetime) -> None:
        """See ports.Work."""
        event = handed_to_person(request, occurrence, at)
        self._around.outbox.event(self._session, request.subscriber_id, event)

    # --- platforms ---

    async def gate(self, platform: str) -> Gate:
        """See ports.Work."""
        row = (await self._session.execute(_GATE_OF, {"wanted": platform})).one_or_none()
        if row is None:
            await self._session.execute(insert(_GATE).values(asdict(Gate(platform))).on_conflict_do_nothing())
            row = (await self._session.execute(_GATE_OF, {"wanted": platform})).one()
        return Gate(**row._mapping)

    async def save_gate(self, gate: Gate) -> None:
        """See ports.Work."""
        await update_rows(self._session, _GATE, "platform", [asdict(gate)])

    async def gates(self) -> Sequence[Gate]:
        """See ports.Work."""
        return [Gate(**row._mapping) for row in await self._session.execute(select(_GATE))]

    async def worked(self, platform: str) -> None:
        """See ports.Work."""
        await self._session.execute(_WORKED, {"platform": platform})

    async def decided(self, platform: str, since: datetime) -> tuple[int, int]:
        """See ports.Work."""
        ended = RequestRow.state.in_([State.REMOVED, State.TEMP_BLOCKED, State.DEINDEXED, State.UNVERIFIED])
        refused = RequestRow.state.in_([State.REJECTED, State.SUPPLEMENTED, State.UNRESOLVED])
        query = select(func.count().filter(RequestRow.groundless), func.count()).where(
            RequestRow.platform == platform, RequestRow.state_time >= since, or_(ended, refused, RequestRow.groundless)
        )
        groundless, decided = (await self._session.execute(query)).one()
        return groundless, decided

    async def held_at(self, platform: str, reasons: Sequence[str]) -> Sequence[str]:
        """See ports.Work."""
        query = (
            select(RequestRow.request_id)
            .where(
                RequestRow.platform == platform,
                RequestRow.state.in_([State.CHECKED, State.SUPPLEMENTED]),
                RequestRow.reason.in_(reasons),
            )
            .order_by(RequestRow.request_id)
            .limit(MOST_HELD)
        )
        return (await self._session.execute(query)).scalars().all()

    async def vote(self, subject: str, actor: str, at: datetime) -> int:
        """See ports.Work."""
        values = {"subject": subject, "actor_ref": actor, "vote_time": at}
        await self._session.execute(insert(VoteRow).values(values).on_conflict_do_nothing())
        query = select(func.count()).select_from(VoteRow).where(VoteRow.subject == subject)
        return int(await self._session.scalar(query) or 0)

    async def forget_votes(self, subject: str) -> None:
        """See ports.Work."""
        await self._session.execute(delete(VoteRow).where(VoteRow.subject == subject))

    # --- replies ---

    async def add_reply(self, reply: StoredReply) -> bool:
        """See ports.Work."""
        statement = insert(ReplyRow).values(asdict(reply)).on_conflict_do_nothing().returning(ReplyRow.reply_id)
        return (await self._session.execute(statement)).one_or_none() is not None

    async def replies(self, request_id: str) -> int:
        """See ports.Work."""
        query = select(func.count()).select_from(ReplyRow).where(ReplyRow.request_id == request_id)
        return int(await self._session.scalar(query) or 0)

    async def open_replies(self, size: int, after: str) -> Sequence[StoredReply]:
        """See ports.Work."""
        query = (
            select(_REPLY)
            .where(ReplyRow.outcome.in_(["UNCLEAR", "NOT_PROVED"]), ReplyRow.reply_id > after)
            .order_by(ReplyRow.reply_id)
            .limit(size)
        )
        return [StoredReply(**row._mapping) for row in await self._session.execute(query)]

    async def settle_reply(self, reply_id: str, request_id: str) -> bool:
        """See ports.Work."""
        statement = (
            update(ReplyRow)
            .where(ReplyRow.reply_id == reply_id, ReplyRow.request_id == request_id)
            .values(outcome="SETTLED", text_sealed=b"")
            .returning(ReplyRow.reply_id)
            .execution_options(synchronize_session=False)
        )
        return (await self._session.execute(statement)).one_or_none() is not None

    # --- cases ---

    async def link(self, request_id: str, case_id: str) -> None:
        """See ports.Work."""
        await self._session.execute(_LINK, {"request": request_id, "case": case_id})

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
        if subscriber_id in self._subscribers:
            return replace(self._subscribers[subscriber_id])
        query, wanted = _SUBSCRIBER_LOCKED if lock else _SUBSCRIBER_OF, {"wanted": subscriber_id}
        row = (await self._session.execute(query, wanted)).one_or_none()
        if row is None:
            fresh = asdict(Subscriber(subscriber_id))
            await self._session.execute(insert(_SUBSCRIBER).values(fresh).on_conflict_do_nothing())
            row = (await self._session.execute(query, wanted)).one()
        found = Subscriber(row.subscriber_id, row.language, row.suspended, row.removal_consent)
        if lock:
            self._subscribers[subscriber_id] = replace(found)
        return found

    async def save_subscriber(self, subscriber: Subscriber) -> None:
        """See ports.Work."""
        if subscriber.subscriber_id in self._subscribers:
            self._subscribers[subscriber.subscriber_id] = replace(subscriber)
        await self._session.execute(
            update(SubscriberRow)
            .where(SubscriberRow.subscriber_id == subscriber.subscriber_id)
            .values(asdict(subscriber))
            .execution_options(synchronize_session=False)
        )

    async def sighting(self, sighting_id: str) -> Sighting | None:
        """See ports.Work."""
        row = (await self._session.execute(_SIGHTING_OF, {"wanted": sighting_id})).one_or_none()
        return None if row is None else Sighting(**row._mapping)

    async def add_sightings(self, sightings: Sequence[Sighting]) -> None:
        """See ports.Work."""
        await insert_rows(self._session, _SIGHTING, [asdict(sighting) for sighting in sightings], "DO NOTHING")

    async def save_sighting(self, sighting: Sighting) -> None:
        """See ports.Work."""
        values = {"outcome": sighting.outcome, "request": sighting.request_id, "sighting": sighting.sighting_id}
        await self._session.execute(_SAVE_SIGHTING, values)

    async def prepared(self, sighting: Sighting, request_id: str) -> None:
        """See ports.Work."""
        values = {"request": request_id, "case": sighting.case_id, "sighting": sighting.sighting_id}
        await self._session.execute(_PREPARED, values | {"outcome": PREPARED})

    async def unprepared(self, case_id: str) -> Sequence[Sighting]:
        """See ports.Work."""
        return [Sighting(**row._mapping) for row in await self._session.execute(_UNPREPARED, {"wanted": case_id})]

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
        rows = (await self._session.execute(_MANDATES_OF, {"wanted": subscriber_id})).all()
        return [
            Mandate(
                row.mandate_id,
                tuple(row.platforms),
                row.document_sha256,
                row.expire_time,
                row.revoke_time,
                tuple(Scope(item) for item in row.scope),
            )
            for row in rows
        ]

    async def save_mandate(self, subscriber_id: str, mandate: Mandate, at: datetime, cause: Cause) -> None:
        """See ports.Work."""
        values = asdict(mandate) | {"platforms": list(mandate.platforms), "scope": list(mandate.scope)}
        statement = insert(MandateRow).values(subscriber_id=subscriber_id, create_time=at, **values)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["mandate_id"], set_={"revoke_time": mandate.revoke_time})
        )
        self._around.outbox.record(self._session, subscriber_id, record_of_mandate(mandate, at, cause))

    # --- erasure ---

    def erased(self, subscriber_id: str) -> bool:
        """See ports.Work."""
        return self._around.keys.destroyed(subscriber_id)

    async def erase(self, subscriber_id: str, asked: int) -> None:
        """See ports.Work."""
        # The key comes first: a crash in between leaves rows that nobody can read, and a repeat deletes them.
        self._around.keys.destroy(subscriber_id)
        requests = select(RequestRow.request_id).where(RequestRow.subscriber_id == subscriber_id)
        cases = select(SightingRow.case_id).where(SightingRow.subscriber_id == subscriber_id)
        await self._session.execute(
            delete(due.DUE).where(or_(due.DUE.c.entity_id.in_(requests), due.DUE.c.entity_id.in_(cases)))
        )
        own = RequestRow.subscriber_id == subscriber_id
        self._subscribers.pop(subscriber_id, None)
        self._stored.clear()
        subjects = select(func.concat("request:", RequestRow.request_id)).where(own)
        await self._session.execute(delete(VoteRow).where(VoteRow.subject.in_(subjects)))
        for table in (_REQUEST, _SIGHTING, _MANDATE, _SUBSCRIBER):
            await self._session.execute(delete(table).where(table.c.subscriber_id == subscriber_id))
        completed = events_pb2.ErasureCompleted(subscriber_id=subscriber_id, round=asked)
        self._around.outbox.event(self._session, subscriber_id, completed)

    # --- later, once ---

    async def schedule(self, kind: str, entity_ids: Sequence[str], at: datetime) -> None:
        """See ports.Work."""
        for item in entity_ids:
            self._due[kind, item] = min(at, self._due.get((kind, item), at))

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
        data = json.loads(unseal(self._key(request), request.evidence_sealed, _place(request)))
        return Evidence(**{**data, "content_sha256": tuple(data["content_sha256"])})

    def seal_baseline(self, request: Request, content: bytes) -> bytes:
        """See ports.Work."""
        return seal(self._around.keys.get_or_create(request.subscriber_id), content, _place(request, "baseline_sealed"))

    def unseal_baseline(self, request: Request) -> bytes:
        """See ports.Work."""
        return unseal(self._key(request), request.baseline_sealed, _place(request, "baseline_sealed"))

    def seal_reply(self, request: Request, reply_id: str, text: str) -> bytes:
        """See ports.Work."""
        key = self._around.keys.get_or_create(request.subscriber_id)
        return seal(key, text.encode("utf-8", "replace"), _place(request, f"reply|{reply_id}"))

    def unseal_reply(self, request: Request, reply: StoredReply) -> str:
        """See ports.Work."""
        return unseal(self._key(request), reply.text_sealed, _place(request, f"reply|{reply.reply_id}")).decode()

    def message_ref(self, platform: str, message_id: str) -> bytes:
        """See ports.Work."""
        return keyed_hash(self._around.pepper, "reply", platform, message_id)

    def _key(self, request: Request) -> bytes:
        key = self._around.keys.get(request.subscriber_id)
        if key is None:
            raise KeyDestroyed
        return key

    def url_ref(self, normalised: str) -> bytes:
        """See ports.Work."""
        return keyed_hash(self._around.pepper, "url", normalised)


def _place(request: Request, column: str = "evidence_sealed") -> bytes:
    return f"removal_request|{request.request_id}|{column}".encode()


def _rows_of(request: Request) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the database holds of a request, and of its attempts."""
    row = {name: getattr(request, name) for name in (*_FIXED, *_SAVED)}
    row |= {name: list(getattr(request, name)) for name in ("missing", "released", "marks")}
    return row, [{"request_id": request.request_id, **asdict(attempt)} for attempt in request.attempts]


def _attempt(values: Sequence[Any]) -> Attempt:
    number, outcome, in_flight, tries, send_time, *words = values
    sent = datetime.fromisoformat(send_time).astimezone(UTC) if send_time else None
    return Attempt(number, Outcome(outcome), in_flight, tries, sent, *words)


def _request(row: Any) -> Request:
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
        submit_time=row.submit_time,
        state_time=row.state_time,
        slot_time=row.slot_time,
        claim_time=row.claim_time,
        gone_time=row.gone_time,
        looks=row.looks,
        look_time=row.look_time,
        released=tuple(row.released),
        marks=tuple(row.marks),
        groundless=row.groundless,
        joined_id=row.joined_id,
        previous_id=row.previous_id,
        baseline_sealed=bytes(row.baseline_sealed),
        case_ids=tuple((row.case_ids or ())[:100]),
        attempts=[_attempt(values) for values in row.attempts or ()],
    )
