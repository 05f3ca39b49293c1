"""How are requests, mandates and sightings kept in PostgreSQL?

One `SqlWork` is one transaction. Saving a request adds the log record and the event of each of its transitions to
the same transaction. Statements are most of what a request costs, so a transaction remembers what it has locked,
writes nothing that has not changed, and writes everything with one statement: at its end, or before it asks for
something else.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

from google.protobuf.message import Message
from sqlalchemy import (
    ARRAY,
    JSON,
    Result,
    Text,
    and_,
    any_,
    bindparam,
    delete,
    distinct,
    exists,
    func,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from misuse.removal.v1 import events_pb2
from services.chassis import due
from services.chassis.database import Database, Rows, table_of, write_together
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
from services.removal.domain.request import Attempt, Page, Request
from services.removal.domain.states import Outcome, State
from services.removal.metrics import count_move
from services.removal.ports import PREPARED, SYSTEM, Cause, Listing, Note, Sighting, StoredReply, Subscriber
from services.removal.translate import event_of, handed_to_person, record_of, record_of_mandate, record_of_note

# Plain rows, not mapped objects: within one transaction an entity is read, written and read again, and the
# session's identity map would answer with the first reading.
_REQUEST, _ATTEMPT, _SIGHTING = table_of(RequestRow), table_of(AttemptRow), table_of(SightingRow)
_SUBSCRIBER, _MANDATE = table_of(SubscriberRow), table_of(MandateRow)
_GATE, _REPLY, _LINK = table_of(GateRow), table_of(ReplyRow), table_of(RequestCaseRow)

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
_GATE_SAVED = ("held", "pause_until", "failures", "minute_time", "day_time")
_SAVE_GATE = _update("platform", _GATE_SAVED)
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
_WANTED = bindparam("wanted", type_=ARRAY(Text))
_WHOLE = select(_REQUEST, _ATTEMPTS.label("attempts"), _CASES.label("case_ids"))
_UNLOCKED = _WHOLE.where(RequestRow.request_id == bindparam("wanted"))
_LOCKED = _UNLOCKED.with_for_update(of=_REQUEST)
# Of several at once those that nobody else holds: who waits for one while holding others would invite deadlocks.
_ALL = _WHOLE.where(RequestRow.request_id == any_(_WANTED)).order_by(_REQUEST.c.request_id)
_ALL_LOCKED = _ALL.with_for_update(of=_REQUEST)
_ALL_FREE = _ALL.with_for_update(of=_REQUEST, skip_locked=True)
_NEWEST = text(
    f"""
    SELECT newest.request_id
    FROM unnest(CAST(:subscribers AS text[]), CAST(:urls AS bytea[]), CAST(:platforms AS text[])) AS page (s, u, p)
    CROSS JOIN LATERAL (
        SELECT request_id FROM {RequestRow.__tablename__}
        WHERE subscriber_id = page.s AND url_ref = page.u AND platform = page.p
        ORDER BY episode DESC LIMIT 1
    ) AS newest
    """
)
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
_SUBSCRIBERS = (
    f"SELECT subscriber_id, language, suspended, removal_consent FROM {SubscriberRow.__tablename__} "
    "WHERE subscriber_id = ANY(CAST(:wanted AS text[]))"
)
_MEET = text(_SUBSCRIBERS)
_MEET_LOCKED = text(f"{_SUBSCRIBERS} ORDER BY subscriber_id FOR UPDATE")
_MEET_FREE = text(f"{_SUBSCRIBERS} ORDER BY subscriber_id FOR UPDATE SKIP LOCKED")
_SIGHTING_OF = select(_SIGHTING).where(SightingRow.sighting_id == bindparam("wanted"))
_SIGHTINGS_OF = select(_SIGHTING).where(SightingRow.sighting_id == any_(_WANTED))
_UNPREPARED = (
    select(_SIGHTING)
    .where(
        SightingRow.case_id == any_(_WANTED), SightingRow.outcome.in_(["PENDING", NO_CONSENT, SUSPENDED])
    )
    .order_by(SightingRow.sighting_id)
)
_GATES_OF = text(
    f"SELECT * FROM {GateRow.__tablename__} WHERE platform = ANY(CAST(:wanted AS text[])) ORDER BY platform FOR UPDATE"
)
_GATE_OF = select(_GATE).where(GateRow.platform == bindparam("wanted")).with_for_update()
_MANDATES_OF = (
    select(_MANDATE)
    .where(MandateRow.subscriber_id == bindparam("wanted"))
    .order_by(MandateRow.create_time.desc(), MandateRow.mandate_id)
    .limit(MOST_MANDATES)
)
_MANDATES_OF_ALL = text(
    f"""
    SELECT own.* FROM unnest(CAST(:wanted AS text[])) AS who (id)
    CROSS JOIN LATERAL (
        SELECT * FROM {MandateRow.__tablename__} WHERE subscriber_id = who.id
        ORDER BY create_time DESC, mandate_id LIMIT {MOST_MANDATES}
    ) AS own
    ORDER BY own.create_time DESC, own.mandate_id
    """
)
_SAVE_SIGHTING = text(
    f"UPDATE {SightingRow.__tablename__} SET outcome = :outcome, request_id = :request WHERE sighting_id = :sighting"
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


@dataclass
class _Unsaved:
    """What a transaction has still to write, by key: of each row the last version."""

    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    links: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    added: dict[str, dict[str, Any]] = field(default_factory=dict)
    prepared: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Sightings that have their request."""
    due: dict[tuple[str, str], tuple[datetime, str]] = field(default_factory=dict)

    def parts(self) -> list[Rows]:
        """What is to be written, due rows excepted: they are never read here."""
        parts = [
            Rows(_REQUEST, list(self.requests.values()), _SAVE_REQUEST),
            Rows(_ATTEMPT, list(self.attempts.values()), _SAVE_ATTEMPT),
            Rows(_LINK, list(self.links.values()), "DO NOTHING"),
            Rows(_GATE, list(self.gates.values()), _SAVE_GATE),
            # Nobody prepares what the same transaction adds.
            Rows(_SIGHTING, list(self.added.values()), "DO NOTHING")
            if self.added
            else Rows(_SIGHTING, list(self.prepared.values()), key="sighting_id"),
        ]
        return [part for part in parts if part.rows]


class SqlWork:
    """One transaction; see ports.Work."""

    def __init__(self, session: AsyncSession, surroundings: Surroundings) -> None:
        self._session = session
        self._around = surroundings
        self._subscribers: dict[str, Subscriber] = {}
        """Those that this transaction has locked."""
        self._stored: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
        """What the database holds of requests that this transaction has locked or written, and of their attempts."""
        self._unsaved = _Unsaved()
        # What was read for several at once, so that asking for each is no statement.
        self._met: dict[str, Subscriber] = {}
        self._mandates: dict[str, list[Mandate]] = {}
        self._sightings: dict[str, Sighting | None] = {}
        self._latest: dict[Page, Request | None] = {}
        self._gates: dict[str, Gate] = {}

    async def finish(self) -> None:
        """Writes what was put off to the end of the transaction."""
        unsaved, self._unsaved = self._unsaved, _Unsaved()
        await write_together(self._session, [*unsaved.parts(), due.scheduled(self._session, unsaved.due)])

    async def _execute(self, query: Any, values: Mapping[str, Any] | None = None) -> Result[Any]:
        """Asks, or writes at once; what was put off goes before."""
        if parts := self._unsaved.parts():
            self._unsaved = _Unsaved(due=self._unsaved.due)
            await write_together(self._session, parts)
        found: Result[Any] = await self._session.execute(query, values)
        return found

    # --- requests ---

    async def requests(self, request_ids: Collection[str], *, wait: bool) -> Mapping[str, Request]:
        """See ports.Work."""
        query = _ALL_LOCKED if wait else _ALL_FREE
        found = [_request(row) for row in await self._execute(query, {"wanted": list(request_ids)})]
        for request in found:
            self._locked(request)
        return {request.request_id: request for request in found}

    async def request(self, request_id: str, *, lock: bool = True) -> Request | None:
        """See ports.Work."""
        found = await self._one(_LOCKED if lock else _UNLOCKED, {"wanted": request_id})
        return self._locked(found) if lock else found

    async def latest(self, subscriber_id: str, url_ref: bytes, platform: str) -> Request | None:
        """See ports.Work."""
        if (subscriber_id, url_ref, platform) in self._latest:
            return self._latest[subscriber_id, url_ref, platform]
        page = {"subscriber": subscriber_id, "url_ref": url_ref, "platform": platform}
        return self._locked(await self._one(_LATEST, page))

    async def look_up(self, pages: Collection[Page]) -> None:
        """See ports.Work."""
        asked = sorted(pages)
        values = {
            "subscribers": [subscriber_id for subscriber_id, _, _ in asked],
            "urls": [url_ref for _, url_ref, _ in asked],
            "platforms": [platform for _, _, platform in asked],
        }
        newest = list((await self._execute(_NEWEST, values)).scalars())
        self._latest |= dict.fromkeys(pages)
        for request in [await self.request(request_id) for request_id in newest]:
            if request is not None:
                self._latest[request.page] = request

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
        return [_request(row) for row in await self._execute(query.limit(listing.size))]

    async def waiting(self, subscriber_id: str, states: Sequence[State], reasons: Sequence[str]) -> Sequence[str]:
        """See ports.Work."""
        query = select(RequestRow.request_id).where(
            RequestRow.subscriber_id == subscriber_id, RequestRow.state.in_([state.value for state in states])
        )
        if reasons:
            query = query.where(RequestRow.reason.in_(reasons))
        return (await self._execute(query.order_by(RequestRow.request_id))).scalars().all()

    async def save(self, request: Request, cause: Cause = SYSTEM) -> None:
        """See ports.Work."""
        row, attempts = _rows_of(request)
        stored, tried = self._stored.get(request.request_id, ({}, []))
        if row != stored:
            self._unsaved.requests[request.request_id] = row
        for attempt in attempts:
            if attempt not in tried:
                self._unsaved.attempts[request.request_id, attempt["number"]] = attempt
        if request.page in self._latest:
            self._latest[request.page] = request
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
        row = (await self._execute(query, values)).one_or_none()
        return None if row is None else _request(row)

    async def quoting(self, attempt_ids: Sequence[str], references: Sequence[str], platform: str) -> Sequence[str]:
        """See ports.Work."""
        ours, theirs = AttemptRow.attempt_id.in_(attempt_ids), AttemptRow.reference.in_(references)
        named = or_(and_(AttemptRow.attempt_id != "", ours), and_(AttemptRow.reference != "", theirs))
        query = select(AttemptRow.request_id).where(named).distinct().limit(3)
        if platform:
            own = exists().where(RequestRow.request_id == AttemptRow.request_id, RequestRow.platform == platform)
            query = query.where(own)
        return (await self._execute(query)).scalars().all()

    async def others_about(self, request: Request, states: Collection[State]) -> Sequence[tuple[str, str]]:
        """See ports.Work. One transaction at a time looks for others about a page: of two requests that are sent at the
        same moment the second finds the first."""
        page = f"{request.platform}:{request.url_ref.hex()}"
        await self._execute(select(func.pg_advisory_xact_lock(func.hashtextextended(page, 0))))
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
        return [(row.request_id, row.subscriber_id) for row in await self._execute(query)]

    async def joined_to(self, request_id: str) -> Sequence[str]:
        """See ports.Work."""
        return (await self._execute(_JOINED_TO, {"wanted": [request_id]})).scalars().all()

    async def joined_to_those_of(self, subscriber_id: str) -> Sequence[str]:
        """See ports.Work."""
        own = select(RequestRow.request_id).where(RequestRow.subscriber_id == subscriber_id)
        ids = list((await self._execute(own)).scalars())
        return (await self._execute(_JOINED_TO, {"wanted": ids})).scalars().all()

    async def note(self, subject: Request | str, note: Note, at: datetime, cause: Cause = SYSTEM) -> None:
        """See ports.Work."""
        key = subject if isinstance(subject, str) else subject.subscriber_id
        self._around.outbox.record(self._session, key, record_of_note(subject, note, at, cause))

    async def hand_to_person(self, request: Request, occurrence: int, at: datetime) -> None:
        """See ports.Work."""
        event = handed_to_person(request, occurrence, at)
        self._around.outbox.event(self._session, request.subscriber_id, event)

    # --- platforms ---

    async def open_gates(self, platforms: Collection[str]) -> None:
        """See ports.Work."""
        if platforms:
            for row in await self._execute(_GATES_OF, {"wanted": list(platforms)}):
                self._gates[row.platform] = Gate(**row._mapping)

    async def gate(self, platform: str) -> Gate:
        """See ports.Work."""
        if platform in self._gates:
            return self._gates[platform]
        row = (await self._execute(_GATE_OF, {"wanted": platform})).one_or_none()
        if row is None:
            await self._execute(insert(_GATE).values(asdict(Gate(platform))).on_conflict_do_nothing())
            row = (await self._execute(_GATE_OF, {"wanted": platform})).one()
        return Gate(**row._mapping)

    async def save_gate(self, gate: Gate) -> None:
        """See ports.Work."""
        self._unsaved.gates[gate.platform] = asdict(gate)

    async def gates(self) -> Sequence[Gate]:
        """See ports.Work."""
        return [Gate(**row._mapping) for row in await self._execute(select(_GATE))]

    async def worked(self, platform: str) -> None:
        """See ports.Work."""
        if (known := self._gates.get(platform)) is not None:
            known.failures = 0
        await self._execute(_WORKED, {"platform": platform})

    async def decided(self, platform: str, since: datetime) -> tuple[int, int]:
        """See ports.Work."""
        ended = RequestRow.state.in_([State.REMOVED, State.TEMP_BLOCKED, State.DEINDEXED, State.UNVERIFIED])
        refused = RequestRow.state.in_([State.REJECTED, State.SUPPLEMENTED, State.UNRESOLVED])
        query = select(
            func.count().filter(RequestRow.groundless).label("groundless"), func.count().label("decided")
        ).where(
            RequestRow.platform == platform, RequestRow.state_time >= since, or_(ended, refused, RequestRow.groundless)
        )
        found = (await self._execute(query)).one()._mapping
        return found["groundless"], found["decided"]

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
        return (await self._execute(query)).scalars().all()

    async def vote(self, subject: str, actor: str, at: datetime) -> int:
        """See ports.Work."""
        values = {"subject": subject, "actor_ref": actor, "vote_time": at}
        await self._execute(insert(VoteRow).values(values).on_conflict_do_nothing())
        query = select(func.count()).select_from(VoteRow).where(VoteRow.subject == subject)
        return int((await self._execute(query)).scalar() or 0)

    async def forget_votes(self, subject: str) -> None:
        """See ports.Work."""
        await self._execute(delete(VoteRow).where(VoteRow.subject == subject))

    # --- replies ---

    async def add_reply(self, reply: StoredReply) -> bool:
        """See ports.Work."""
        statement = insert(ReplyRow).values(asdict(reply)).on_conflict_do_nothing().returning(ReplyRow.reply_id)
        return (await self._execute(statement)).one_or_none() is not None

    async def replies(self, request_id: str) -> int:
        """See ports.Work."""
        query = select(func.count()).select_from(ReplyRow).where(ReplyRow.request_id == request_id)
        return int((await self._execute(query)).scalar() or 0)

    async def open_replies(self, size: int, after: str) -> Sequence[StoredReply]:
        """See ports.Work."""
        query = (
            select(_REPLY)
            .where(ReplyRow.outcome.in_(["UNCLEAR", "NOT_PROVED"]), ReplyRow.reply_id > after)
            .order_by(ReplyRow.reply_id)
            .limit(size)
        )
        return [StoredReply(**row._mapping) for row in await self._execute(query)]

    async def settle_reply(self, reply_id: str, request_id: str) -> bool:
        """See ports.Work."""
        statement = (
            update(ReplyRow)
            .where(ReplyRow.reply_id == reply_id, ReplyRow.request_id == request_id)
            .values(outcome="SETTLED", text_sealed=b"")
            .returning(ReplyRow.reply_id)
            .execution_options(synchronize_session=False)
        )
        return (await self._execute(statement)).one_or_none() is not None

    # --- cases ---

    async def link(self, request_id: str, case_id: str) -> None:
        """See ports.Work."""
        self._unsaved.links[request_id, case_id] = {
            "request_id": request_id, "case_id": case_id, "via": "", "closed": False,
        }  # fmt: skip

    async def merge_cases(self, root_case_id: str, merged_case_id: str) -> None:
        """See ports.Work."""
        query = select(RequestCaseRow.request_id).where(RequestCaseRow.case_id == merged_case_id).distinct()
        ids = (await self._execute(query)).scalars().all()
        if ids:
            rows = [
                {"request_id": request_id, "case_id": root_case_id, "via": merged_case_id, "closed": False}
                for request_id in ids
            ]
            await self._execute(insert(RequestCaseRow).values(rows).on_conflict_do_nothing())

    async def unmerge_case(self, root_case_id: str, case_id: str) -> None:
        """See ports.Work."""
        await self._execute(
            delete(RequestCaseRow).where(RequestCaseRow.case_id == root_case_id, RequestCaseRow.via == case_id)
        )

    async def close_case(self, case_id: str) -> Sequence[str]:
        """See ports.Work."""
        await self._execute(
            update(SightingRow)
            .where(SightingRow.case_id == case_id, SightingRow.outcome != "PREPARED")
            .values(outcome="CASE_CLOSED")
            .execution_options(synchronize_session=False)
        )
        touched = await self._mark(case_id, closed=True)
        still_open = select(RequestCaseRow.request_id).where(
            RequestCaseRow.request_id.in_(touched), RequestCaseRow.closed.is_(False)
        )
        held = set((await self._execute(still_open)).scalars())
        return [request_id for request_id in touched if request_id not in held]

    async def reopen_case(self, case_id: str) -> bool:
        """See ports.Work."""
        await self._mark(case_id, closed=False)
        reopened = await self._execute(
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
        return sorted(set((await self._execute(statement)).scalars()))

    # --- subscribers, sightings, mandates ---

    async def meet(
        self, subscriber_ids: Collection[str], *, lock: bool = False, wait: bool = True
    ) -> Collection[str]:
        """See ports.Work."""
        query = (_MEET_LOCKED if wait else _MEET_FREE) if lock else _MEET
        met: dict[str, list[Mandate]] = {}
        if not subscriber_ids:
            return ()
        for row in await self._execute(query, {"wanted": list(subscriber_ids)}):
            met[row.subscriber_id] = []
            known = self._subscribers if lock else self._met
            known[row.subscriber_id] = Subscriber(**row._mapping)
        if met:
            for row in await self._execute(_MANDATES_OF_ALL, {"wanted": list(met)}):
                met[row.subscriber_id].append(_mandate(row))
        self._mandates |= met
        return met.keys()

    async def subscriber(self, subscriber_id: str, *, lock: bool = False) -> Subscriber:
        """See ports.Work."""
        known = self._subscribers.get(subscriber_id) or (None if lock else self._met.get(subscriber_id))
        if known is not None:
            return replace(known)
        query, wanted = _SUBSCRIBER_LOCKED if lock else _SUBSCRIBER_OF, {"wanted": subscriber_id}
        row = (await self._execute(query, wanted)).one_or_none()
        if row is None:
            fresh = asdict(Subscriber(subscriber_id))
            await self._execute(insert(_SUBSCRIBER).values(fresh).on_conflict_do_nothing())
            row = (await self._execute(query, wanted)).one()
        found = Subscriber(row.subscriber_id, row.language, row.suspended, row.removal_consent)
        if lock:
            self._subscribers[subscriber_id] = replace(found)
        return found

    async def save_subscriber(self, subscriber: Subscriber) -> None:
        """See ports.Work."""
        self._met.pop(subscriber.subscriber_id, None)
        if subscriber.subscriber_id in self._subscribers:
            self._subscribers[subscriber.subscriber_id] = replace(subscriber)
        await self._execute(
            update(SubscriberRow)
            .where(SubscriberRow.subscriber_id == subscriber.subscriber_id)
            .values(asdict(subscriber))
            .execution_options(synchronize_session=False)
        )

    async def sighting(self, sighting_id: str) -> Sighting | None:
        """See ports.Work."""
        if sighting_id in self._sightings:
            return self._sightings[sighting_id]
        row = (await self._execute(_SIGHTING_OF, {"wanted": sighting_id})).one_or_none()
        return None if row is None else Sighting(**row._mapping)

    async def read_sightings(self, sighting_ids: Collection[str]) -> None:
        """See ports.Work."""
        self._sightings |= dict.fromkeys(sighting_ids)
        for row in await self._execute(_SIGHTINGS_OF, {"wanted": list(sighting_ids)}):
            self._sightings[row.sighting_id] = Sighting(**row._mapping)

    async def add_sightings(self, sightings: Sequence[Sighting]) -> None:
        """See ports.Work."""
        for sighting in sightings:
            self._unsaved.added.setdefault(sighting.sighting_id, asdict(sighting))

    async def save_sighting(self, sighting: Sighting) -> None:
        """See ports.Work."""
        self._sightings.pop(sighting.sighting_id, None)
        values = {"outcome": sighting.outcome, "request": sighting.request_id, "sighting": sighting.sighting_id}
        await self._execute(_SAVE_SIGHTING, values)

    async def prepared(self, sighting: Sighting, request_id: str) -> None:
        """See ports.Work."""
        self._sightings.pop(sighting.sighting_id, None)
        self._unsaved.prepared[sighting.sighting_id] = {
            "sighting_id": sighting.sighting_id, "outcome": PREPARED, "request_id": request_id,
        }  # fmt: skip
        await self.link(request_id, sighting.case_id)

    async def unprepared(self, case_ids: Collection[str]) -> Sequence[Sighting]:
        """See ports.Work."""
        values = {"wanted": list(case_ids)}
        return [Sighting(**row._mapping) for row in await self._execute(_UNPREPARED, values)]

    async def held_cases(self, subscriber_id: str) -> Sequence[str]:
        """See ports.Work."""
        query = select(SightingRow.case_id).where(
            and_(
                SightingRow.subscriber_id == subscriber_id,
                SightingRow.outcome != "PREPARED",
                SightingRow.outcome.in_([NO_CONSENT, SUSPENDED]),
            )
        )
        return (await self._execute(query.distinct())).scalars().all()

    async def mandates(self, subscriber_id: str) -> Sequence[Mandate]:
        """See ports.Work."""
        if subscriber_id in self._mandates:
            return self._mandates[subscriber_id]
        rows = (await self._execute(_MANDATES_OF, {"wanted": subscriber_id})).all()
        return [_mandate(row) for row in rows]

    async def save_mandate(self, subscriber_id: str, mandate: Mandate, at: datetime, cause: Cause) -> None:
        """See ports.Work."""
        self._mandates.pop(subscriber_id, None)
        values = asdict(mandate) | {"platforms": list(mandate.platforms), "scope": list(mandate.scope)}
        statement = insert(MandateRow).values(subscriber_id=subscriber_id, create_time=at, **values)
        await self._execute(
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
        await self._execute(
            delete(due.DUE).where(or_(due.DUE.c.entity_id.in_(requests), due.DUE.c.entity_id.in_(cases)))
        )
        own = RequestRow.subscriber_id == subscriber_id
        for known in (self._subscribers, self._met, self._mandates, self._sightings, self._latest, self._stored):
            known.clear()
        subjects = select(func.concat("request:", RequestRow.request_id)).where(own)
        await self._execute(delete(VoteRow).where(VoteRow.subject.in_(subjects)))
        for table in (_REQUEST, _SIGHTING, _MANDATE, _SUBSCRIBER):
            await self._execute(delete(table).where(table.c.subscriber_id == subscriber_id))
        completed = events_pb2.ErasureCompleted(subscriber_id=subscriber_id, round=asked)
        self._around.outbox.event(self._session, subscriber_id, completed)

    # --- later, once ---

    async def schedule(self, kind: str, entity_ids: Sequence[str], at: datetime) -> None:
        """See ports.Work."""
        trace = inject_traceparent()
        for item in entity_ids:
            self._unsaved.due[kind, item] = min((at, trace), self._unsaved.due.get((kind, item), (at, trace)))

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


def _mandate(row: Any) -> Mandate:
    return Mandate(
        row.mandate_id,
        tuple(row.platforms),
        row.document_sha256,
        row.expire_time,
        row.revoke_time,
        tuple(Scope(item) for item in row.scope),
    )


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
