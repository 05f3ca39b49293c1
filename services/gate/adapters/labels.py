"""How do samples and labels stand in log records, and how are they read back?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import ColumnElement, Select, Text, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE
from misuse.common.v1.signal_pb2 import MatchKind
from misuse.log.v1.record_pb2 import (
    LogRecord,
    SampleEvaluationLog,
    SampleItem,
    SampleLog,
    SampleStratum,
)
from services.chassis.database import table_of
from services.gate.adapters.operations import OWNERS
from services.gate.adapters.tables import LogRecordRow
from services.gate.domain.labels import GivenLabel
from services.gate.domain.report import Report
from services.gate.domain.samples import Alert, Design, Drawn, Papers, Plan, Sample, Stratum

_ROWS = table_of(LogRecordRow)
_FETCH = 5_000
_KIND = "MATCH_KIND_"


async def alerts(
    session: AsyncSession, since: datetime, until: datetime, cut_off: Mapping[str, int]
) -> Sequence[Alert]:
    """See ports.Records."""
    within = _ROWS.c.occur_time.between(since, until)
    dropped = {
        record.decision_id
        async for record in _read(session, cut_off, "case_lifecycle_log", "DROPPED", _ROWS.c.occur_time >= since)
    }
    found: dict[str, Alert] = {}
    async for record in _read(session, cut_off, "match_decision_log", "MATCH", within):
        log = record.match_decision_log
        if record.decision_id not in dropped:
            kind = MatchKind.Name(log.kind).removeprefix(_KIND)
            found[record.decision_id] = Alert(record.decision_id, log.channel_group, kind)
    return list(found.values())


async def latest_sample(session: AsyncSession, report: str, until: datetime) -> Sample | None:
    """See ports.Records."""
    query = _of("sample_log", report).where(_ROWS.c.occur_time <= until)
    query = query.order_by(_ROWS.c.occur_time.desc(), _ROWS.c.entity_id.desc()).limit(1)
    row = (await session.execute(query)).one_or_none()
    return None if row is None else sample_of(LogRecord.FromString(row.payload).sample_log)


async def labels_of(session: AsyncSession, sample_id: str) -> Sequence[GivenLabel]:
    """See ports.Records."""
    rows = await session.execute(_of("label_log", sample_id).order_by(_ROWS.c.occur_time))
    return [given_label(LogRecord.FromString(row.payload)) for row in rows]


def given_label(record: LogRecord) -> GivenLabel:
    """The label that a record states."""
    log = record.label_log
    return GivenLabel(
        decision_id=record.decision_id,
        labeller=record.actor_ref,
        source=log.source,
        verdict=log.verdict,
        time=record.occur_time.ToDatetime(UTC),
        review_ms=log.review_ms,
        policy_version=log.policy_version,
    )


async def void(session: AsyncSession, sample_id: str) -> Set[str]:
    """See ports.Records."""
    read = [LogRecord.FromString(row.payload) for row in await session.execute(_of("review_log", sample_id))]
    return {record.decision_id for record in read if record.review_log.action == "VOID"}


async def cases_of(session: AsyncSession, decision_ids: Sequence[str], since: datetime) -> Set[str]:
    """See ports.Records."""
    wanted = _ROWS.c.decision_id == any_(literal(list(decision_ids), ARRAY(Text)))
    query = select(_ROWS.c.case_ids).where(
        _ROWS.c.type == "case_lifecycle_log",
        _ROWS.c.facet.in_(("OPENED", "SIGHTED")),
        _ROWS.c.occur_time >= since,
        wanted,
    )
    return {case_id for case_ids in await session.scalars(query) for case_id in case_ids}


async def human_waits(session: AsyncSession, since: datetime, until: datetime) -> Sequence[float]:
    """See ports.Records."""
    query = _of("label_log", "REVIEWER").where(_ROWS.c.occur_time.between(since, until))
    first: dict[str, int] = {}
    for row in await session.execute(query):
        record = LogRecord.FromString(row.payload)
        log = record.label_log
        if log.verdict != "UNSURE" and log.wait_ms:
            first[record.decision_id] = min(log.wait_ms, first.get(record.decision_id, log.wait_ms))
    return [float(wait) for wait in first.values()]


def _of(record_type: str, facet: str) -> Select[Any]:
    columns = (_ROWS.c.publisher, _ROWS.c.partition, _ROWS.c.position, _ROWS.c.payload)
    query = select(*columns).where(_ROWS.c.type == record_type, _ROWS.c.facet == facet)
    owners = OWNERS.get(record_type)
    return query if owners is None else query.where(_ROWS.c.publisher.in_(owners))


async def _read(
    session: AsyncSession, cut_off: Mapping[str, int], record_type: str, facet: str, within: ColumnElement[bool]
) -> AsyncIterator[LogRecord]:
    query = _of(record_type, facet).where(within)
    result = await session.stream(query.execution_options(yield_per=_FETCH))
    async for row in result:
        if row.position <= cut_off.get(f"{row.publisher}/{row.partition}", 0):
            yield LogRecord.FromString(row.payload)


def record_of(sample: Sample) -> LogRecord:
    """The log record of a sample."""
    drawn, papers = sample.drawn, sample.papers
    body = SampleLog(
        sample_id=sample.sample_id,
        report_name=sample.plan.report,
        design=sample.plan.design.value,
        seed=sample.seed,
        start_time=_stamp(sample.start_time),
        end_time=_stamp(sample.end_time),
        expire_time=_stamp(sample.expire_time),
        cut_off=[f"{place}={position}" for place, position in sorted(sample.cut_off.items())][:1024],
        population_size=drawn.population_size,
        population_sha256=drawn.population_sha256,
        manifest_sha256=drawn.manifest_sha256,
        strata=[
            SampleStratum(name=part.name, population=part.population, size=part.size, drawn=part.drawn)
            for part in drawn.strata
        ],
        items=[
            SampleItem(
                decision_id=item.decision_id, channel_group=item.channel_group, kind=MatchKind.Value(_KIND + item.kind)
            )
            for item in drawn.items
        ],
        plan_version=sample.plan_version,
        policy_version=papers.policy_version,
        policy_sha256=papers.policy_sha256,
        quality_version=papers.quality_version,
        quality_sha256=papers.quality_sha256,
        kinds=sorted(sample.plan.kinds),
        size=sample.plan.size,
        spare=sample.plan.spare,
    )
    return LogRecord(
        entity="sample",
        entity_id=sample.sample_id,
        entity_version=1,
        purpose=PURPOSE_RELEASE,
        occur_time=_stamp(sample.end_time),
        sample_log=body,
    )


def sample_of(log: SampleLog) -> Sample:
    """The sample that a record states."""
    strata = tuple(Stratum(part.name, part.population, part.size, part.drawn) for part in log.strata)
    items = tuple(
        Alert(item.decision_id, item.channel_group, MatchKind.Name(item.kind).removeprefix(_KIND))
        for item in log.items
    )
    return Sample(
        sample_id=log.sample_id,
        plan=Plan(log.report_name, Design(log.design), frozenset(log.kinds), log.size, log.spare),
        seed=log.seed,
        start_time=log.start_time.ToDatetime(UTC),
        end_time=log.end_time.ToDatetime(UTC),
        expire_time=log.expire_time.ToDatetime(UTC),
        cut_off={place: int(position) for place, _, position in (line.partition("=") for line in log.cut_off)},
        drawn=Drawn(log.population_size, log.population_sha256, log.manifest_sha256, strata, items),
        plan_version=log.plan_version,
        papers=Papers(log.policy_version, log.policy_sha256, log.quality_version, log.quality_sha256),
    )


def evaluation_of(report: Report) -> LogRecord | None:
    """The record that a report was computed from the labels of a sample; None where it rests on none."""
    frozen = report.document["sample"].get("frozen")
    if not frozen:
        return None
    body = SampleEvaluationLog(
        evaluation_id=report.report_id,
        sample_id=frozen["sample_id"],
        report_name=report.name,
        release=report.release,
        outcome=report.outcome.value,
        manifest_sha256=bytes.fromhex(frozen["manifest_sha256"]),
    )
    return LogRecord(
        entity="sample",
        entity_id=frozen["sample_id"],
        entity_version=1,
        purpose=PURPOSE_RELEASE,
        occur_time=_stamp(report.create_time),
        sample_evaluation_log=body,
    )


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
