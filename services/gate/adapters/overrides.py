"""How do overridden decisions lie in PostgreSQL?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE, ROLE_RELEASE_MANAGER
from misuse.log.v1.record_pb2 import ApprovalLog, LogRecord
from services.chassis.database import table_of
from services.chassis.grants import Grant, use
from services.chassis.outbox import Outbox
from services.gate.adapters.tables import ReleaseDecisionRow, ReleaseOverrideRow
from services.gate.domain.overrides import Override
from services.gate.ports import Decision

_ROWS = table_of(ReleaseOverrideRow)


class SqlOverrides:
    """See ports.Overrides."""

    def __init__(self, session: AsyncSession, outbox: Outbox) -> None:
        self._session = session
        self._outbox = outbox

    async def of_release(self, release: str) -> Sequence[Override]:
        """See Overrides."""
        query = select(_ROWS).where(_ROWS.c.release == release).order_by(_ROWS.c.create_time, _ROWS.c.decision_id)
        return [_override(row) for row in await self._session.execute(query)]

    async def of_decision(self, decision_id: str) -> Override | None:
        """The override of one decision."""
        query = select(_ROWS).where(_ROWS.c.decision_id == decision_id)
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else _override(row)

    async def is_latest(self, decision: Decision) -> bool:
        """See Overrides."""
        row = ReleaseDecisionRow
        query = (
            select(row.decision_id)
            .where(row.release == decision.release, row.stage == decision.stage)
            .order_by(row.decision_id.desc())
            .limit(1)
        )
        return await self._session.scalar(query) == decision.decision_id

    async def put(self, override: Override, grant: Grant, actor_ref: str) -> None:
        """See Overrides."""
        await use(self._session, grant, override.create_time)
        values = asdict(override) | {"approver_refs": list(override.approver_refs)}
        await self._session.execute(insert(_ROWS).values(values))
        moment = Timestamp()
        moment.FromDatetime(override.create_time)
        record = LogRecord(
            entity="release_decision",
            entity_id=override.decision_id,
            entity_version=2,
            actor_role=ROLE_RELEASE_MANAGER,
            actor_ref=actor_ref,
            purpose=PURPOSE_RELEASE,
            occur_time=moment,
            approval_log=ApprovalLog(
                proposal_id=override.proposal_id,
                kind=grant.kind,
                action="USED",
                body_sha256=grant.body_sha256,
                approvals=len(override.approver_refs),
            ),
        )
        self._outbox.record(self._session, override.release, record)


def _override(row: Any) -> Override:
    return Override(**{**row._asdict(), "approver_refs": tuple(row.approver_refs)})
