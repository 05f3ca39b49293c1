"""The service `case` over loopback and real PostgreSQL, with its events fed by hand and its clock in our hands."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.message import Message
from sqlalchemy import delete, select, text, update

from misuse.case.v1 import (
    case_service_pb2_grpc,
    review_service_pb2_grpc,
    subscriber_service_pb2,
    subscriber_service_pb2_grpc,
)
from misuse.common.v1.access_pb2 import (
    PURPOSE_AUDIT,
    PURPOSE_CASE_HANDLING,
    PURPOSE_ENROLMENT,
    PURPOSE_PROTECTION,
    PURPOSE_REVIEW,
    ROLE_APP_BACKEND,
    ROLE_AUDITOR,
    ROLE_OPERATOR,
    ROLE_REVIEWER,
    ROLE_SUBSCRIBER,
    Purpose,
)
from misuse.common.v1.signal_pb2 import (
    BAND_MATCH,
    COLLECTION_BASIS_PUBLIC_ACCESS,
    MATCH_KIND_FACE,
    MATCH_KIND_PII,
    SOURCE_TYPE_SNS,
)
from misuse.detector.v1.events_pb2 import MatchFacts, ReviewNeeded, SignalMatched
from misuse.detector.v1.signal_service_pb2 import Capture
from misuse.log.v1.record_pb2 import LogRecord
from services.case.__main__ import CaseService
from services.chassis.bus import Event
from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.due import DUE, DueItem
from services.chassis.errors import ServiceError, Unavailable
from services.chassis.ids import uuid7
from services.chassis.outbox import OUTBOX, event_name
from services.chassis.rpc import unwrap
from services.chassis.tokens import Issuer

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
URL = "https://sns.example/secret-post/77"
Metadata = Sequence[tuple[str, str]]


@dataclass
class FakeDetector:
    """Keeps captures as the detector does, until they are released."""

    captures: dict[str, Capture] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """What was fetched and released in turn: (FETCHED or RELEASED, decision)."""
    down: bool = False
    unable: set[str] = field(default_factory=set)
    """Decisions of which it cannot give the capture."""

    async def fetch(self, decision_id: str, purpose: Purpose.ValueType) -> bytes | None:
        if self.down or decision_id in self.unable:
            raise Unavailable("PEER_DOWN", "The detector is down.")
        self.calls.append(("FETCHED", decision_id))
        capture = self.captures.get(decision_id)
        return capture.SerializeToString(deterministic=True) if capture else None

    async def release(self, decision_ids: Collection[str], purpose: Purpose.ValueType) -> None:
        for decision_id in decision_ids:
            self.released.append(decision_id)
            self.calls.append(("RELEASED", decision_id))
            self.captures.pop(decision_id, None)


@dataclass
class World:
    """What a test drives."""

    service: CaseService
    database: Database
    clock: ManualClock
    issuer: Issuer
    detector: FakeDetector
    home: Path
    cases: case_service_pb2_grpc.CaseServiceAsyncStub
    people: subscriber_service_pb2_grpc.SubscriberServiceAsyncStub
    reviews: review_service_pb2_grpc.ReviewServiceAsyncStub
    channel: grpc.aio.Channel
    port: int = 0
    """Of the service, for clients of another kind."""
    taken: int = 0
    """Last outbox row that was fed back as a record."""

    # --- tokens ---

    def signed(self, role: Any, purpose: Any, subject: str = "staff-1") -> Metadata:
        return [("authorization", f"Bearer {self.issuer.issue(subject, role, purpose, 'case', 60)}")]

    @property
    def backend(self) -> Metadata:
        return self.signed(ROLE_APP_BACKEND, PURPOSE_ENROLMENT, "app")

    @property
    def operator(self) -> Metadata:
        return self.signed(ROLE_OPERATOR, PURPOSE_CASE_HANDLING)

    @property
    def auditor(self) -> Metadata:
        return self.signed(ROLE_AUDITOR, PURPOSE_AUDIT)

    def reviewer(self, name: str) -> Metadata:
        return self.signed(ROLE_REVIEWER, PURPOSE_REVIEW, name)

    @property
    def operator_reviews(self) -> Metadata:
        return self.signed(ROLE_OPERATOR, PURPOSE_REVIEW)

    def subscriber(self, subscriber_id: str) -> Metadata:
        return self.signed(ROLE_SUBSCRIBER, PURPOSE_PROTECTION, subscriber_id)

    # --- what comes in ---

    async def person(self, **values: Any) -> str:
        request = subscriber_service_pb2.RegisterSubscriberRequest(
            **{"request_id": uuid7(), "display_name": "김하나", "contact_email": "hana@example.org"} | values
        )
        answer = await self.people.RegisterSubscriber(request, metadata=self.backend)
        return str(answer.subscriber.subscriber_id)

    def facts(self, subscriber_id: str, **values: Any) -> MatchFacts:
        """Facts of a face in a post; a capture lies ready at the detector."""
        decision_id = uuid7()
        found = self.clock.now() - timedelta(seconds=2)
        defaults: dict[str, Any] = {
            "decision_id": decision_id,
            "subscriber_id": subscriber_id,
            "signal_ref": decision_id.encode()[:32],
            "kind": MATCH_KIND_FACE,
            "channel": "sns-1",
            "channel_group": "SNS_GLOBAL",
            "source_type": SOURCE_TYPE_SNS,
            "platform": "meta",
            "discover_time": found,
            "decide_time": found,
        }
        facts = MatchFacts(**defaults | values)
        self.detector.captures[facts.decision_id] = capture_of(facts)
        return facts

    def event(self, facts: MatchFacts) -> Event:
        """The detector's word that these facts match, as the consumer gets it."""
        message = SignalMatched(facts=facts)
        return Event("detector", 0, 1, uuid7(), "", message)

    async def feed(self, *messages: Message, publisher: str = "detector") -> None:
        """Applies events of a publisher in one transaction, runs for one handler together as the consumer does."""
        following = self.service.following
        handlers = {
            **following.signals(), **following.removals(), **following.records(), **following.samples(),
        }  # fmt: skip
        events = [
            Event(publisher, 0, number + 1, uuid7(), "", message)
            for number, message in enumerate(messages)
        ]
        async with self.database.begin() as session:
            for handler, run in groupby(events, key=lambda event: handlers[type(event.message)]):
                await handler(session, list(run))

    async def match(self, *facts: MatchFacts) -> None:
        await self.feed(*(SignalMatched(facts=fact) for fact in facts))

    async def ask(self, *facts: MatchFacts) -> None:
        await self.feed(*(ReviewNeeded(facts=fact) for fact in facts))

    async def work(self) -> None:
        """Lets the first packing delay pass, runs what is due until nothing is, then brings our own records into
        the case log.
        """
        self.clock.advance(self.service.needs.rules.pack_after)
        while items := await self._due():
            for item in items:
                same = (DUE.c.kind == item.kind) & (DUE.c.entity_id == item.entity_id)
                async with self.database.begin() as session:
                    # As the worker holds it: a handler may schedule its own row for later.
                    await session.execute(update(DUE).where(same).values(lease_until=datetime.max.replace(tzinfo=UTC)))
                await self.service.due()[item.kind](item)
                async with self.database.begin() as session:
                    held = same & DUE.c.lease_until.is_not(None)
                    await session.execute(delete(DUE).where(held, DUE.c.generation == item.generation))
                    await session.execute(update(DUE).where(held).values(lease_until=None))
        await self.log_own_records()

    async def _due(self) -> list[DueItem]:
        columns = [DUE.c[name] for name in DueItem.__dataclass_fields__]
        async with self.database.begin() as session:
            rows = await session.execute(select(*columns).where(DUE.c.due_time <= self.clock.now()))
            return [DueItem(*row) for row in rows]

    async def due_item(self, kind: str, entity_id: str) -> DueItem:
        """The row of scheduled work."""
        columns = [DUE.c[name] for name in DueItem.__dataclass_fields__]
        async with self.database.begin() as session:
            query = select(*columns).where(DUE.c.kind == kind, DUE.c.entity_id == entity_id)
            return DueItem(*(await session.execute(query)).one())

    async def log_own_records(self) -> None:
        async with self.database.begin() as session:
            query = select(OUTBOX.c.seq, OUTBOX.c.payload).where(
                OUTBOX.c.event == "recorded", OUTBOX.c.seq > self.taken
            )
            rows = (await session.execute(query.order_by(OUTBOX.c.seq))).all()
        if rows:
            self.taken = rows[-1].seq
            await self.feed(*(LogRecord.FromString(row.payload) for row in rows), publisher="case")

    # --- what went out ---

    async def events(self, kind: type[Message] | None = None) -> list[Any]:
        """Events in order: names, or the messages of one kind."""
        async with self.database.begin() as session:
            query = select(OUTBOX.c.event, OUTBOX.c.payload).where(
                OUTBOX.c.event.not_in(["recorded", "log_head_advanced"])
            )
            rows = (await session.execute(query.order_by(OUTBOX.c.seq))).all()
        if kind is None:
            return [row.event for row in rows]
        return [kind.FromString(row.payload) for row in rows if row.event == event_name(kind)]

    async def records(self) -> list[LogRecord]:
        async with self.database.begin() as session:
            query = select(OUTBOX.c.payload).where(OUTBOX.c.event == "recorded").order_by(OUTBOX.c.seq)
            return [LogRecord.FromString(payload) for payload in await session.scalars(query)]

    async def transitions(self) -> list[str]:
        found = [record.case_lifecycle_log.transition for record in await self.records()]
        return [transition for transition in found if transition]

    async def sql(self, statement: str, **values: Any) -> Any:
        async with self.database.begin() as session:
            return (await session.execute(text(statement), values)).all()


def capture_of(facts: MatchFacts) -> Capture:
    """What the detector keeps of a post with a picture."""
    capture = Capture(
        decision_id=facts.decision_id,
        subscriber_id=facts.subscriber_id,
        channel=facts.channel,
        channel_group=facts.channel_group,
        source_type=facts.source_type,
        source_url=URL,
        post_id="77",
        discover_time=facts.discover_time,
        collection_basis=COLLECTION_BASIS_PUBLIC_ACCESS,
        masked_text="call 010-****-5678",
        redacted_thumbnail=b"\xff\xd8thumbnail",
        candidate_crop=b"\xff\xd8candidate",
        template_crop=b"\xff\xd8template",
    )
    capture.part_hashes.add(part="image.0", sha256=bytes(range(32)), size_bytes=1234)
    capture.decision.band = BAND_MATCH
    capture.decision.kind = facts.kind or MATCH_KIND_PII
    capture.decision.rule_version = "rules-1"
    return capture


@contextmanager
def refused(reason: str) -> Iterator[None]:
    """The call inside is refused with this reason."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        found: ServiceError = unwrap(error)
        assert reason == found.reason
    else:
        raise AssertionError("the call was not refused")
