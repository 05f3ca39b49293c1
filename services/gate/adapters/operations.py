"""How do log records become the facts that figures of operation and compliance are computed from?

Whatever the records say is handed on as they say it, repeats and contradictions included: what can be counted is for
the measures to decide.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.signal_pb2 import CaseKind
from misuse.log.v1.record_pb2 import LogRecord, MatchDecisionLog
from services.chassis.bus import CURSOR
from services.chassis.database import table_of
from services.gate.adapters.tables import LogRecordRow
from services.gate.domain.channels import ChannelLevel, OnboardingStep
from services.gate.domain.purges import Due, Purged
from services.gate.domain.recurrence import Closing, Find
from services.gate.domain.removals import RemovalStep
from services.gate.domain.rights import RightsStep

_ROWS = table_of(LogRecordRow)
OWNERS = {
    "signal_intake_log": ("detector",),
    "match_decision_log": ("detector",),
    "channel_scan_log": ("detector",),
    "channel_onboarding_log": ("detector",),
    "case_lifecycle_log": ("case",),
    "repost_recurrence_log": ("case",),
    "rights_request_log": ("case",),
    "label_log": ("case",),
    "removal_request_log": ("removal",),
    "notification_delivery_log": ("notify",),
}
"""Who writes which records: one of another publisher says nothing. What is not here, several services write."""

# The record behind a gap says when it was: what was lost before the window began is no concern of it. Only when the
# counts differ are the gaps themselves looked for. A lane without a record may be one of domain events.
_SHORT = text(
    f"""
    SELECT r.publisher, r.partition
    FROM (
        SELECT publisher, partition, count(*) AS held, max(position) AS last FROM {_ROWS.name} GROUP BY 1, 2
    ) AS r LEFT JOIN {CURSOR.name} AS c ON c.publisher = r.publisher AND c.partition = r.partition
    WHERE r.held < greatest(r.last, coalesce(c.position, 0))
    """
)
_GAPS = text(
    f"""
    SELECT coalesce(sum(gap), 0) FROM (
        SELECT position - lag(position, 1, 0) OVER (ORDER BY position) - 1 AS gap, occur_time
        FROM {_ROWS.name} WHERE publisher = :publisher AND partition = :partition
    ) AS steps WHERE gap > 0 AND occur_time >= :since
    """
)
_END = text(
    f"""
    SELECT greatest(c.position - (
        SELECT max(position) FROM {_ROWS.name} WHERE publisher = :publisher AND partition = :partition
    ), 0) FROM {CURSOR.name} AS c WHERE c.publisher = :publisher AND c.partition = :partition
    """
)


async def missing(session: AsyncSession, since: datetime) -> int:
    """See ports.Records. Positions of a publisher's partition are gap-free from 1 on."""
    found = 0
    for publisher, partition in (await session.execute(_SHORT)).all():
        lane = {"publisher": publisher, "partition": partition}
        found += int(await session.scalar(_GAPS, {**lane, "since": since}) or 0)
        found += int(await session.scalar(_END, lane) or 0)
    return found


async def foreign(session: AsyncSession, record_type: str, since: datetime, until: datetime) -> int:
    """Records of a type from publishers that do not write it."""
    query = select(func.count()).where(
        _ROWS.c.type == record_type,
        _ROWS.c.occur_time.between(since, until),
        _ROWS.c.publisher.not_in(OWNERS[record_type]),
    )
    return (await session.scalar(query)) or 0


def removal_step(record: LogRecord) -> RemovalStep:
    """A change of a removal request."""
    log = record.removal_request_log
    return RemovalStep(
        request_id=log.removal_request_id,
        version=record.entity_version,
        time=record.occur_time.ToDatetime(UTC),
        to_state=log.to_state,
        platform=log.platform,
        receive_time=_time(log, "receive_time"),
        block_until=_time(log, "block_until_time"),
        previous_id=log.previous_request_id,
        case_ids=tuple(record.case_ids),
    )


def closing(record: LogRecord) -> Closing:
    """A closing of a case."""
    log = record.case_lifecycle_log
    kind = CaseKind.Name(log.kind).removeprefix("CASE_KIND_") if log.kind in CaseKind.values() else "UNKNOWN"
    case_id = record.case_ids[0] if record.case_ids else ""
    return Closing(case_id, record.occur_time.ToDatetime(UTC), kind, log.resolution)


def find(record: LogRecord) -> Find:
    """Content of a closed case that was found again."""
    log = record.repost_recurrence_log
    return Find(
        case_id=log.closed_case_id,
        time=log.found_time.ToDatetime(UTC),
        after_block=log.rule == "REMOVAL_RECHECK" and log.resolution == "TEMP_BLOCKED",
        close_time=log.close_time.ToDatetime(UTC),
    )


def channel_level(record: LogRecord) -> ChannelLevel:
    """A change of a channel."""
    log = record.channel_scan_log
    moment = record.occur_time.ToDatetime(UTC)
    return ChannelLevel(log.channel, log.channel_group, log.level, log.reason, record.entity_version, moment)


def onboarding_step(record: LogRecord) -> OnboardingStep:
    """A step of a new channel."""
    log = record.channel_onboarding_log
    return OnboardingStep(log.channel, log.channel_group, log.step, log.step_time.ToDatetime(UTC))


def due(record: LogRecord) -> Due:
    """An entry of a due list."""
    log = record.purge_due_log
    return Due((log.item_kind, record.entity_id), log.due_time.ToDatetime(UTC), log.rule)


def purged(record: LogRecord) -> Purged:
    """Something that was purged."""
    log = record.purge_log
    item = (log.item_kind, record.entity_id)
    return Purged(item, record.occur_time.ToDatetime(UTC), log.due_time.ToDatetime(UTC), record.record_id)


def rights_step(record: LogRecord) -> RightsStep:
    """A step of a rights request."""
    log = record.rights_request_log
    moment = record.occur_time.ToDatetime(UTC)
    return RightsStep(log.rights_request_id, log.type, log.to_state, moment, _time(log, "due_time"))


class SignalCount:
    """Counts signals, each once, however many decisions there are about it."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.by_group: defaultdict[str, int] = defaultdict(int)
        self.channels: set[str] = set()

    def add(self, log: MatchDecisionLog) -> None:
        """A decision about a signal."""
        # Eight bytes of a keyed hash: two of ten million signals are taken for one once in 400,000 windows.
        key = int.from_bytes(log.signal_ref[:8])
        if key not in self._seen:
            self._seen.add(key)
            self.by_group[log.channel_group or "UNKNOWN"] += 1
            self.channels.add(log.channel)


def _time(message: object, field: str) -> datetime | None:
    """A time that may be unset."""
    if not message.HasField(field):  # type: ignore[attr-defined] # of any of the messages above
        return None
    value: Timestamp = getattr(message, field)
    return value.ToDatetime(UTC)
