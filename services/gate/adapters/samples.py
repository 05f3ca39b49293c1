"""How do frozen samples lie in PostgreSQL?"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.gate.v1.events_pb2 import SampleFrozen
from misuse.log.v1.record_pb2 import SampleLog
from services.chassis.idempotency import RequestMemory
from services.chassis.outbox import Outbox
from services.gate.adapters.labels import record_of, sample_of
from services.gate.adapters.tables import SampleRow
from services.gate.domain.samples import Sample
from services.gate.ports import Command


class SqlSampleShelf:
    """See ports.SampleShelf."""

    def __init__(self, session: AsyncSession, outbox: Outbox, memory: RequestMemory) -> None:
        self._session = session
        self._outbox = outbox
        self._memory = memory

    async def recall(self, command: Command) -> str | None:
        """See SampleShelf."""
        return await self._memory.recall(
            self._session, command.caller, command.method, command.request_id, command.request
        )

    async def remember(self, command: Command, resource_id: str) -> None:
        """See SampleShelf."""
        await self._memory.remember(
            self._session, command.caller, command.method, command.request_id, command.request, resource_id
        )

    async def put_sample(self, sample: Sample) -> None:
        """See SampleShelf."""
        record = record_of(sample)
        self._session.add(
            SampleRow(
                sample_id=sample.sample_id,
                report_name=sample.plan.report,
                create_time=sample.end_time,
                record=record.sample_log.SerializeToString(deterministic=True),
            )
        )
        self._outbox.record(self._session, sample.sample_id, record)
        event = SampleFrozen(
            sample_id=sample.sample_id,
            report_name=sample.plan.report,
            manifest_sha256=sample.drawn.manifest_sha256,
            policy_version=sample.papers.policy_version,
            quality_version=sample.papers.quality_version,
            decision_ids=[item.decision_id for item in sample.drawn.items],
        )
        self._outbox.event(self._session, sample.sample_id, event)

    async def sample(self, sample_id: str) -> Sample | None:
        """See SampleShelf."""
        row = await self._session.get(SampleRow, sample_id)
        return None if row is None else _sample(row)

    async def samples(self, report: str, before: str, limit: int) -> Sequence[Sample]:
        """See SampleShelf."""
        query = select(SampleRow)
        if report:
            query = query.where(SampleRow.report_name == report)
        if before:
            query = query.where(SampleRow.sample_id < before)
        rows = await self._session.scalars(query.order_by(SampleRow.sample_id.desc()).limit(limit))
        return [_sample(row) for row in rows]


def _sample(row: SampleRow) -> Sample:
    return sample_of(SampleLog.FromString(row.record))
