"""How do changes of dependencies lie in PostgreSQL?"""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import PURPOSE_RELEASE, ROLE_RELEASE_MANAGER
from misuse.log.v1.record_pb2 import DependencyLog, LogRecord
from services.chassis.database import table_of
from services.chassis.outbox import Outbox
from services.gate.adapters.tables import DependencyChangeRow
from services.gate.domain.dependencies import DependencyChange, DependencyState, Register, Standing

_ROWS = table_of(DependencyChangeRow)
_MOST_REPORTS = 32


class SqlDependencyChanges:
    """See ports.DependencyChanges."""

    def __init__(self, session: AsyncSession, outbox: Outbox) -> None:
        self._session = session
        self._outbox = outbox

    async def latest(self) -> Mapping[str, DependencyChange]:
        """See DependencyChanges."""
        query = select(_ROWS).ext(distinct_on(_ROWS.c.dependency_id))
        rows = await self._session.execute(query.order_by(_ROWS.c.dependency_id, _ROWS.c.change_id.desc()))
        return {
            row.dependency_id: DependencyChange(
                row.change_id, row.dependency_id, DependencyState(row.state), row.reason, row.create_time
            )
            for row in rows
        }

    async def put(self, before: Standing, change: DependencyChange, register: Register, actor_ref: str) -> None:
        """See DependencyChanges."""
        dependency = before.dependency
        count = select(func.count()).select_from(_ROWS).where(_ROWS.c.dependency_id == change.dependency_id)
        earlier = await self._session.scalar(count) or 0
        await self._session.execute(
            insert(_ROWS).values(
                change_id=change.change_id,
                dependency_id=change.dependency_id,
                state=change.state.value,
                reason=change.reason,
                create_time=change.create_time,
            )
        )
        moment = Timestamp()
        moment.FromDatetime(change.create_time)
        record = LogRecord(
            entity="dependency",
            entity_id=change.dependency_id,
            entity_version=earlier + 1,
            actor_role=ROLE_RELEASE_MANAGER,
            actor_ref=actor_ref,
            purpose=PURPOSE_RELEASE,
            occur_time=moment,
            dependency_log=DependencyLog(
                dependency_id=change.dependency_id,
                kind=dependency.kind.value,
                from_state=before.state.value,
                to_state=change.state.value,
                reason=change.reason,
                degraded_reports=dependency.reports[:_MOST_REPORTS],
                register_version=register.version,
            ),
        )
        self._outbox.record(self._session, change.dependency_id, record)
