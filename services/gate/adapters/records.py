"""How log records lie in PostgreSQL and become the facts that measures take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.signal_pb2 import Band, IdentifierKind, MatchKind, SourceType, UploadSeverity
from misuse.log.v1.record_pb2 import LogRecord, MatchDecisionLog, PreUploadWarningLog
from services.chassis.bus import CURSOR, Event
from services.chassis.database import Database, insert_rows, table_of
from services.chassis.errors import InvalidInput
from services.gate.adapters import labels as label_records
from services.gate.adapters import operations
from services.gate.adapters.tables import LogRecordRow
from services.gate.domain.channels import ChannelLevel, OnboardingStep, Signals
from services.gate.domain.indexes import ReplicaFacts
from services.gate.domain.labels import GivenLabel
from services.gate.domain.leak_signals import Fate, LeakDecision, Place, Refusals
from services.gate.domain.measures import MatchDecision, NotificationFacts
from services.gate.domain.purges import Due, Purged
from services.gate.domain.recurrence import Closing, Find
from services.gate.domain.removals import RemovalStep
from services.gate.domain.rights import RightsStep
from services.gate.domain.samples import Alert, Sample
from services.gate.domain.user_actions import CHOICES, UploadWarning

_ROWS = table_of(LogRecordRow)
_COMMITS = ("OPENED", "SIGHTED", "REOPENED")
"""Transitions that commit a case or a sighting; REVIEW_OPENED does not."""
_FETCH = 5_000
_FATES = {"NONE": Fate.DROPPED, "REVIEW": Fate.IN_REVIEW, "MATCH": Fate.MATCHED}
_WARNED = tuple(name.removeprefix("UPLOAD_SEVERITY_") for name, number in UploadSeverity.items() if number)


async def keep_records(session: AsyncSession, events: Sequence[Event]) -> None:
    """Stores records as published, with what reports select by. Raises InvalidInput RECORD_WITHOUT_BODY."""
    rows = [_row(event) for event in events]
    await insert_rows(session, _ROWS, rows, "DO NOTHING")


def _row(event: Event) -> dict[str, Any]:
    record = event.message
    if not isinstance(record, LogRecord) or (body := record.WhichOneof("body")) is None:
        raise InvalidInput("RECORD_WITHOUT_BODY", "A log record says nothing that is known here.")
    return {
        "publisher": event.publisher,
        "partition": event.partition,
        "position": event.position,
        "record_id": record.record_id,
        "type": body,
        "facet": _facet(record, body),
        "occur_time": record.occur_time.ToDatetime(UTC),
        "entity": record.entity,
        "entity_id": record.entity_id,
        "case_ids": list(record.case_ids),
        "decision_id": record.decision_id,
        "payload": record.SerializeToString(deterministic=True),
    }


def _facet(record: LogRecord, body: str) -> str:
    """The word that reports select by."""
    match body:
        case "match_decision_log":
            return Band.Name(record.match_decision_log.band).removeprefix("BAND_")
        case "case_lifecycle_log":
            return record.case_lifecycle_log.transition
        case "notification_delivery_log":
            return record.notification_delivery_log.action
        case "evidence_pack_log":
            return record.evidence_pack_log.action
        case "pre_upload_warning_log":
            return UploadSeverity.Name(record.pre_upload_warning_log.severity).removeprefix("UPLOAD_SEVERITY_")
        case "user_action_outcome_log":
            return record.user_action_outcome_log.choice
        case "removal_request_log":
            return record.removal_request_log.to_state
        case "approval_log":
            return record.approval_log.action
        case "index_version_log":
            return record.index_version_log.index
        case "sample_log":
            return record.sample_log.report_name
        case "label_log":
            return record.label_log.sample_id or record.label_log.source
        case "review_log":
            return record.review_log.sample_id or record.review_log.action
        case _:
            return ""


@asynccontextmanager
async def view(database: Database) -> AsyncIterator[SqlRecords]:
    """A view of the records that stands still: one read-only snapshot."""
    async with AsyncSession(database.engine) as session, session.begin():
        await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield SqlRecords(session)


class SqlRecords:
    """See ports.Records."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self._signals: dict[tuple[datetime, datetime], Signals] = {}

    async def cut_off(self) -> Mapping[str, int]:
        """See Records. The cursor moves in the transaction that stores the records."""
        query = select(CURSOR.c.publisher, CURSOR.c.partition, CURSOR.c.position).order_by(
            CURSOR.c.publisher, CURSOR.c.partition
        )
        return {f"{row.publisher}/{row.partition}": row.position for row in await self._session.execute(query)}

    async def match_decisions(self, since: datetime, until: datetime) -> Sequence[MatchDecision]:
        """See Records."""
        found: dict[str, MatchDecision] = {}
        async for record in self._read("match_decision_log", ("MATCH",), since, until):
            log = record.match_decision_log
            found[record.decision_id] = MatchDecision(
                decision_id=record.decision_id,
                discover_time=log.discover_time.ToDatetime(UTC),
                decide_time=log.decide_time.ToDatetime(UTC),
                channel_group=log.channel_group,
                kind=MatchKind.Name(log.kind).removeprefix("MATCH_KIND_"),
            )
        return list(found.values())

    async def count(self, record_type: str, facet: str, since: datetime, until: datetime) -> int:
        """See Records."""
        query = select(func.count(func.distinct(_ROWS.c.record_id))).where(
            _ROWS.c.type == record_type, _ROWS.c.facet == facet, _ROWS.c.occur_time.between(since, until)
        )
        return (await self._session.scalar(query)) or 0

    async def commits(self, since: datetime) -> Mapping[str, datetime]:
        """See Records."""
        query = (
            select(_ROWS.c.decision_id, func.min(_ROWS.c.occur_time))
            .where(
                _ROWS.c.type == "case_lifecycle_log",
                _ROWS.c.facet.in_(_COMMITS),
                _ROWS.c.occur_time >= since,
                _ROWS.c.decision_id != "",
            )
            .group_by(_ROWS.c.decision_id)
        )
        return {decision_id: moment for decision_id, moment in await self._session.execute(query)}

    async def dropped(self, since: datetime) -> Set[str]:
        """See Records."""
        query = select(_ROWS.c.decision_id).where(
            _ROWS.c.type == "case_lifecycle_log", _ROWS.c.facet == "DROPPED", _ROWS.c.occur_time >= since
        )
        return set(await self._session.scalars(query))

    async def notifications(self, since: datetime, until: datetime) -> Sequence[NotificationFacts]:
        """See Records. Made in the window: its first record lies in it."""
        found: dict[str, NotificationFacts] = {}
        async for record in self._read("notification_delivery_log", ("QUEUED",), since, until):
            log = record.notification_delivery_log
            found[log.notification_id] = NotificationFacts(log.device_ref, log.device_class, log.subject)
        later = (
            "HANDED_OVER", "ACKNOWLEDGED", "SUPERSEDED", "EXPIRED", "UNDELIVERABLE", "INVALID_TOKEN", "QUIET_HOURS",
        )
        async for record in self._read("notification_delivery_log", later, since, None):
            facts = found.get(record.notification_delivery_log.notification_id)
            if facts is not None:
                _apply(facts, record)
        return list(found.values())

    async def foreign(self, record_type: str, since: datetime, until: datetime) -> int:
        """See Records."""
        return await operations.foreign(self._session, record_type, since, until)

    async def replicas(self, index: str, since: datetime, until: datetime) -> Sequence[ReplicaFacts]:
        """See Records."""
        found: dict[str, ReplicaFacts] = {}
        latest: dict[str, datetime] = {}
        async for record in self._read("index_version_log", (index,), since, until):
            log, said_at = record.index_version_log, record.occur_time.ToDatetime(UTC)
            known = found.get(log.replica)
            longest = max(log.age_ms, known.longest_age_ms if known else 0)
            if known and said_at < latest[log.replica]:
                found[log.replica] = replace(known, longest_age_ms=longest)
                continue
            latest[log.replica] = said_at
            found[log.replica] = ReplicaFacts(log.replica, longest, log.version, log.head_version)
        return list(found.values())

    async def upload_warnings(self, start: datetime, end: datetime) -> Sequence[UploadWarning]:
        """See Records."""
        found: dict[str, UploadWarning] = {}
        async for record in self._read("pre_upload_warning_log", _WARNED, start, end):
            log = record.pre_upload_warning_log
            # Periods follow each other: the end of one is the start of the next.
            if record.occur_time.ToDatetime(UTC) < end:
                found[log.upload_check_id] = UploadWarning(
                    log.upload_check_id, _found(log), UploadSeverity.Name(log.severity).removeprefix("UPLOAD_SEVERITY_")
                )
        return list(found.values())

    async def upload_choices(self, start: datetime) -> Mapping[str, str]:
        """See Records."""
        found: dict[str, str] = {}
        async for record in self._read("user_action_outcome_log", CHOICES, start, None):
            log = record.user_action_outcome_log
            found[log.upload_check_id] = log.choice
        return found

    async def leak_decisions(self, start: datetime, end: datetime) -> AsyncIterator[LeakDecision]:
        """See Records."""
        async for record in self._read("match_decision_log", tuple(_FATES), start, end):
            if record.occur_time.ToDatetime(UTC) < end:
                yield _leak_decision(record.match_decision_log)

    async def refusals(self, start: datetime, end: datetime) -> AsyncIterator[Refusals]:
        """See Records."""
        async for record in self._read("signal_intake_log", ("",), start, end):
            log = record.signal_intake_log
            if not log.accepted and record.occur_time.ToDatetime(UTC) < end:
                yield Refusals(log.reason, log.channel_group, 1)

    async def counts_by_type(self) -> Mapping[str, int]:
        """See Records."""
        query = select(_ROWS.c.type, func.count()).group_by(_ROWS.c.type)
        return {record_type: count for record_type, count in await self._session.execute(query)}

    async def alerts(self, since: datetime, until: datetime, cut_off: Mapping[str, int]) -> Sequence[Alert]:
        """See Records."""
        return await label_records.alerts(self._session, since, until, cut_off)

    async def latest_sample(self, report: str, until: datetime) -> Sample | None:
        """See Records."""
        return await label_records.latest_sample(self._session, report, until)

    async def labels(self, sample_id: str) -> Sequence[GivenLabel]:
        """See Records."""
        return await label_records.labels_of(self._session, sample_id)

    async def void(self, sample_id: str) -> Set[str]:
        """See Records."""
        return await label_records.void(self._session, sample_id)

    async def cases_of(self, decision_ids: Sequence[str], since: datetime) -> Set[str]:
        """See Records."""
        return await label_records.cases_of(self._session, decision_ids, since)

    async def human_waits(self, since: datetime, until: datetime) -> Sequence[float]:
        """See Records."""
        return await label_records.human_waits(self._session, since, until)

    async def missing(self, since: datetime) -> int:
        """See Records."""
        return await operations.missing(self._session, since)

    async def removal_steps(self, since: datetime, until: datetime) -> Sequence[RemovalStep]:
        """See Records."""
        return [operations.removal_step(each) async for each in self._read("removal_request_log", None, since, until)]

    async def closings(self, since: datetime, until: datetime) -> Sequence[Closing]:
        """See Records."""
        return [operations.closing(each) async for each in self._read("case_lifecycle_log", ("CLOSED",), since, until)]

    async def finds(self, since: datetime, until: datetime) -> Sequence[Find]:
        """See Records."""
        return [operations.find(each) async for each in self._read("repost_recurrence_log", None, since, until)]

    async def signals(self, since: datetime, until: datetime) -> Signals:
        """See Records. Both figures of channels want the same window: it is read once a view."""
        if (since, until) not in self._signals:
            counted, refused, repeated = operations.SignalCount(), 0, 0
            async for record in self._read("match_decision_log", None, since, until):
                counted.add(record.match_decision_log)
            async for record in self._read("signal_intake_log", None, since, until):
                refused += not record.signal_intake_log.accepted
                repeated += record.signal_intake_log.duplicate
            self._signals[since, until] = Signals(counted.by_group, len(counted.channels), refused, repeated)
        return self._signals[since, until]

    async def channel_levels(self, until: datetime) -> Sequence[ChannelLevel]:
        """See Records."""
        return [operations.channel_level(each) async for each in self._read("channel_scan_log", None, None, until)]

    async def onboarding_steps(self, until: datetime) -> Sequence[OnboardingStep]:
        """See Records."""
        steps = self._read("channel_onboarding_log", None, None, until)
        return [operations.onboarding_step(each) async for each in steps]

    async def purges_due(self, since: datetime, until: datetime) -> Sequence[Due]:
        """See Records."""
        return [operations.due(each) async for each in self._read("purge_due_log", None, since, until)]

    async def purges_logged(self, since: datetime, until: datetime) -> Sequence[Purged]:
        """See Records."""
        return [operations.purged(each) async for each in self._read("purge_log", None, since, until)]

    async def rights_steps(self, until: datetime) -> Sequence[RightsStep]:
        """See Records."""
        return [operations.rights_step(each) async for each in self._read("rights_request_log", None, None, until)]

    async def _read(
        self, record_type: str, facets: Sequence[str] | None, since: datetime | None, until: datetime | None
    ) -> AsyncIterator[LogRecord]:
        """Records of a type by whoever owns it, with one of the facets if named."""
        query = select(_ROWS.c.payload).where(_ROWS.c.type == record_type)
        if facets is not None:
            query = query.where(_ROWS.c.facet.in_(facets))
        if (owners := operations.OWNERS.get(record_type)) is not None:
            query = query.where(_ROWS.c.publisher.in_(owners))
        if since is not None:
            query = query.where(_ROWS.c.occur_time >= since)
        if until is not None:
            query = query.where(_ROWS.c.occur_time <= until)
        result = await self._session.stream(query.execution_options(yield_per=_FETCH))
        async for payload in result.scalars():
            yield LogRecord.FromString(payload)


def _leak_decision(log: MatchDecisionLog) -> LeakDecision:
    return LeakDecision(
        signal_ref=log.signal_ref,
        fate=_FATES[Band.Name(log.band).removeprefix("BAND_")],
        source_type=SourceType.Name(log.source_type).removeprefix("SOURCE_TYPE_") if log.source_type else "",
        channel_group=log.channel_group,
        of_subscribers=frozenset(
            Place(_kind(hit.kind), hit.field, hit.start, hit.end)
            for hit in log.pii_pattern_match_log.hits
            if hit.watched
        ),
        of_nobody={_kind(each.kind): each.count for each in log.unowned_hits},
    )


def _kind(kind: IdentifierKind.ValueType) -> str:
    return IdentifierKind.Name(kind).removeprefix("IDENTIFIER_KIND_")


def _found(log: PreUploadWarningLog) -> frozenset[str]:
    names = {IdentifierKind.Name(kind).removeprefix("IDENTIFIER_KIND_") for kind in log.kinds}
    names |= {"FACE_OWN"} if log.own_faces else set()
    return frozenset(names | ({"FACE_OTHER"} if log.other_faces else set()))


def _apply(facts: NotificationFacts, record: LogRecord) -> None:
    """What a later record says of a notification."""
    log = record.notification_delivery_log
    match log.action:
        case "HANDED_OVER":
            moment = record.occur_time.ToDatetime(UTC)
            # The first handing over, in whatever order records came.
            if facts.sent_time is None or (moment, log.path) < (facts.sent_time, facts.path):
                facts.sent_time, facts.path = moment, log.path
        case "ACKNOWLEDGED":
            latency = float(log.latency_ms)
            facts.latency_ms = min(facts.latency_ms, latency) if facts.acknowledged else latency
            facts.acknowledged = True
        case "SUPERSEDED":
            facts.superseded = True
        case "EXPIRED" | "UNDELIVERABLE":
            facts.undeliverable = True
        case "INVALID_TOKEN":
            facts.invalid_token = True
        case "QUIET_HOURS":
            facts.held = True
