"""Log records in memory, read by the adapters' own translation: what 10,000 histories are measured from."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any

from misuse.common.v1.signal_pb2 import BAND_MATCH, MatchKind
from misuse.log.v1.record_pb2 import LogRecord
from services.gate.adapters import operations, records
from services.gate.domain.channels import ChannelLevel, OnboardingStep, Signals
from services.gate.domain.measures import MatchDecision, NotificationFacts
from services.gate.domain.purges import Due, Purged
from services.gate.domain.recurrence import Closing, Find
from services.gate.domain.removals import RemovalStep
from services.gate.domain.rights import RightsStep

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class MemoryRecords:
    """See services.gate.ports.Records, as far as figures that need no frozen sample are concerned."""

    def __init__(self, delivered: Sequence[tuple[str, LogRecord]], missing: int = 0) -> None:
        self._delivered = [
            (publisher, record.WhichOneof("body"), record.occur_time.ToDatetime(UTC), record)
            for publisher, record in delivered
        ]
        self._missing = missing

    def _of(self, body: str, since: datetime, until: datetime) -> list[LogRecord]:
        owners = operations.OWNERS.get(body)
        return [
            record
            for publisher, kind, time, record in self._delivered
            if kind == body and since <= time <= until and (owners is None or publisher in owners)
        ]

    async def missing(self, since: datetime) -> int:
        return self._missing

    async def foreign(self, record_type: str, since: datetime, until: datetime) -> int:
        return sum(
            kind == record_type and publisher not in operations.OWNERS[record_type] and since <= time <= until
            for publisher, kind, time, _ in self._delivered
        )

    async def removal_steps(self, since: datetime, until: datetime) -> Sequence[RemovalStep]:
        return [operations.removal_step(each) for each in self._of("removal_request_log", since, until)]

    async def closings(self, since: datetime, until: datetime) -> Sequence[Closing]:
        found = self._of("case_lifecycle_log", since, until)
        return [operations.closing(each) for each in found if each.case_lifecycle_log.transition == "CLOSED"]

    async def finds(self, since: datetime, until: datetime) -> Sequence[Find]:
        return [operations.find(each) for each in self._of("repost_recurrence_log", since, until)]

    async def signals(self, since: datetime, until: datetime) -> Signals:
        count, door = operations.SignalCount(), self._of("signal_intake_log", since, until)
        for record in self._of("match_decision_log", since, until):
            count.add(record.match_decision_log)
        refused = sum(not each.signal_intake_log.accepted for each in door)
        return Signals(count.by_group, len(count.channels), refused, len(door) - refused)

    async def channel_levels(self, until: datetime) -> Sequence[ChannelLevel]:
        return [operations.channel_level(each) for each in self._of("channel_scan_log", LONG_AGO, until)]

    async def onboarding_steps(self, until: datetime) -> Sequence[OnboardingStep]:
        return [operations.onboarding_step(each) for each in self._of("channel_onboarding_log", LONG_AGO, until)]

    async def purges_due(self, since: datetime, until: datetime) -> Sequence[Due]:
        return [operations.due(each) for each in self._of("purge_due_log", since, until)]

    async def purges_logged(self, since: datetime, until: datetime) -> Sequence[Purged]:
        return [operations.purged(each) for each in self._of("purge_log", since, until)]

    async def rights_steps(self, until: datetime) -> Sequence[RightsStep]:
        return [operations.rights_step(each) for each in self._of("rights_request_log", LONG_AGO, until)]

    async def match_decisions(self, since: datetime, until: datetime) -> Sequence[MatchDecision]:
        found = {}
        for record in self._of("match_decision_log", since, until):
            log = record.match_decision_log
            if log.band == BAND_MATCH:
                found[record.decision_id] = MatchDecision(
                    record.decision_id, log.discover_time.ToDatetime(UTC), log.decide_time.ToDatetime(UTC),
                    log.channel_group, MatchKind.Name(log.kind).removeprefix("MATCH_KIND_"),
                )  # fmt: skip
        return list(found.values())

    async def commits(self, since: datetime) -> dict[str, datetime]:
        found: dict[str, datetime] = {}
        for record in self._of("case_lifecycle_log", since, datetime.max.replace(tzinfo=UTC)):
            if record.case_lifecycle_log.transition in ("OPENED", "SIGHTED", "REOPENED") and record.decision_id:
                moment = record.occur_time.ToDatetime(UTC)
                found[record.decision_id] = min(found.get(record.decision_id, moment), moment)
        return found

    async def dropped(self, since: datetime) -> Set[str]:
        return set()

    async def count(self, record_type: str, facet: str, since: datetime, until: datetime) -> int:
        return 0

    async def human_waits(self, since: datetime, until: datetime) -> Sequence[float]:
        return []

    async def notifications(self, since: datetime, until: datetime) -> Sequence[NotificationFacts]:
        found: dict[str, NotificationFacts] = {}
        later = []
        for record in self._of("notification_delivery_log", since, until + timedelta(days=1)):
            log = record.notification_delivery_log
            if log.action == "QUEUED":
                found.setdefault(
                    log.notification_id, NotificationFacts(log.device_ref, log.device_class, log.subject)
                )
            else:
                later.append(record)
        for record in later:
            if (facts := found.get(record.notification_delivery_log.notification_id)) is not None:
                records._apply(facts, record)
        return list(found.values())

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"no figure of these histories reads {name}")
