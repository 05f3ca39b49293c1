"""Which figure does a history have whose truth is known?

Makes log records of things that happened, as services would write them: removal requests, closings and finds, purges,
rights requests, channels, signals, notices. Whoever asks for a thing knows what an honest observer would count. Nothing
of `services` is used, so that the truth is not the gate's own opinion. `disturbed` delivers the same records as a bad
day would: twice, late, out of order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from misuse.common.v1.signal_pb2 import BAND_MATCH, CASE_KIND_FACE, CASE_KIND_PII, CASE_KIND_PRE_UPLOAD, MATCH_KIND_FACE
from misuse.log.v1.record_pb2 import (
    CaseLifecycleLog,
    ChannelOnboardingLog,
    LogRecord,
    MatchDecisionLog,
    NotificationDeliveryLog,
    PurgeDueLog,
    PurgeLog,
    RemovalRequestLog,
    RepostRecurrenceLog,
    RightsRequestLog,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GROUPS = ("naver", "kakao", "google", "youtube", "meta", "x", "tiktok", "telegram", "community", "overseas")


@dataclass
class History:
    """Records by publisher, in the order of writing, with what is true of them."""

    now: datetime
    chance: random.Random
    records: list[tuple[str, LogRecord]] = field(default_factory=list)
    numbers: int = 0

    def new_id(self, sort: str) -> str:
        """An id that no other thing of this history has."""
        self.numbers += 1
        return f"{sort}-{self.numbers:08d}"

    def add(self, publisher: str, time: datetime, **fields: object) -> None:
        """A record; its id is its own."""
        record = LogRecord(record_id=self.new_id("record"), **fields)  # type: ignore[arg-type] # any field of a record
        record.occur_time.FromDatetime(time)
        self.records.append((publisher, record))

    # --- removal ---

    def request(
        self,
        platform: str,
        receive: datetime | None,
        end: datetime | None = None,
        end_state: str = "REMOVED",
        *,
        resubmitted: bool = False,
        previous: str = "",
        cases: Sequence[str] = (),
        created: datetime | None = None,
    ) -> str:
        """A removal request: made, sent, received, perhaps rejected and sent again, perhaps ended."""
        request_id = self.new_id("request")
        start = created or (receive or self.now - DAY) - HOUR
        moves: list[tuple[str, datetime]] = [
            ("DRAFT", start),
            ("CHECKED", start + timedelta(seconds=1)),
            ("SUBMITTED", start + timedelta(seconds=2)),
        ]
        if receive is not None:
            moves.append(("RECEIVED", receive))
            if resubmitted:
                again = receive + timedelta(minutes=5)
                moves += [("REJECTED", again), ("SUPPLEMENTED", again), ("SUBMITTED", again), ("RECEIVED", again)]
        if end is not None:
            moves.append((end_state, end))
        before = ""
        for version, (state, time) in enumerate(moves, 1):
            log = RemovalRequestLog(
                removal_request_id=request_id, platform=platform, from_state=before, to_state=state,
                episode=2 if previous else 1, previous_request_id=previous,
            )  # fmt: skip
            if receive is not None and time >= receive:
                log.receive_time.FromDatetime(receive)
            self.add(
                "removal", time, entity="removal_request", entity_id=request_id, entity_version=version,
                case_ids=list(cases), removal_request_log=log,
            )  # fmt: skip
            before = state
        return request_id

    # --- cases ---

    def closing(
        self, close: datetime, resolution: str = "REMOVED", kind: int = CASE_KIND_FACE, case_id: str = ""
    ) -> str:
        """A case that was closed."""
        case_id = case_id or self.new_id("case")
        log = CaseLifecycleLog(
            transition="CLOSED", from_state="RESOLVED", to_state="CLOSED", kind=kind, resolution=resolution  # type: ignore[arg-type] # an enum's number
        )
        self.add("case", close, case_ids=[case_id], entity="case", entity_id=case_id, case_lifecycle_log=log)
        return case_id

    def found_again(self, case_id: str, close: datetime, found: datetime, *, blocked: bool = False) -> None:
        """Content of a closed case that was found again."""
        log = RepostRecurrenceLog(
            closed_case_id=case_id, resolution="TEMP_BLOCKED" if blocked else "REMOVED", case_id=case_id,
            outcome="REOPENED", rule="REMOVAL_RECHECK" if blocked else "SAME_CLUSTER",
        )  # fmt: skip
        log.close_time.FromDatetime(close)
        log.found_time.FromDatetime(found)
        self.add("case", found, case_ids=[case_id], repost_recurrence_log=log)

    def decision(self, discover: datetime, latency: timedelta | None, group: str = "naver") -> str:
        """An alert, and its case after a time; None: there never was one."""
        decision_id = self.new_id("decision")
        self.signal(discover, group, decision_id=decision_id)
        if latency is not None:
            opened = CaseLifecycleLog(transition="OPENED", to_state="OPEN", kind=CASE_KIND_FACE)
            case_id = self.new_id("case")
            self.add("case", discover + latency, case_ids=[case_id], decision_id=decision_id, case_lifecycle_log=opened)
        return decision_id

    # --- channels ---

    def signal(self, time: datetime, group: str, *, decision_id: str = "") -> None:
        """A signal that was decided."""
        log = MatchDecisionLog(
            signal_ref=self.chance.randbytes(32), band=BAND_MATCH, kind=MATCH_KIND_FACE, channel=f"{group}-1",
            channel_group=group,
        )  # fmt: skip
        log.discover_time.FromDatetime(time)
        log.decide_time.FromDatetime(time)
        self.add("detector", time, decision_id=decision_id or self.new_id("decision"), match_decision_log=log)

    def onboarding(self, channel: str, required: datetime | None, live: datetime | None) -> None:
        """A new channel on its way."""
        for step, time in (("REQUIRED", required), ("LIVE", live)):
            if time is not None:
                log = ChannelOnboardingLog(channel=channel, channel_group="naver", step=step)
                log.step_time.FromDatetime(time)
                self.add("detector", time, entity="channel", entity_id=channel, channel_onboarding_log=log)

    # --- purges ---

    def purge(self, kind: str, due: datetime | None, done: datetime | None, listed: datetime | None = None) -> str:
        """Something that was to be purged, or was, or both."""
        item = self.new_id("item")
        if due is not None:
            entry = PurgeDueLog(item_kind=kind, rule="RETENTION")
            entry.due_time.FromDatetime(due)
            self.add("detector", listed or due - DAY, entity=kind.lower(), entity_id=item, purge_due_log=entry)
        if done is not None:
            log = PurgeLog(item_kind=kind, rule="RETENTION")
            log.due_time.FromDatetime(due or done)
            self.add("detector", done, entity=kind.lower(), entity_id=item, purge_log=log)
        return item

    # --- rights ---

    def right(
        self, kind: str, received: datetime, due: datetime, answered: datetime | None, answer: str = "FULFILLED"
    ) -> None:
        """A request about one's own data."""
        request_id = self.new_id("right")
        for state, time in (("RECEIVED", received), (answer, answered)):
            if time is not None:
                log = RightsRequestLog(rights_request_id=request_id, type=kind, to_state=state)
                log.due_time.FromDatetime(due)
                self.add("case", time, entity="rights_request", entity_id=request_id, rights_request_log=log)

    # --- notifications ---

    def notice(self, queued: datetime, *actions: str, publisher: str = "notify") -> None:
        """A notification with what became of it, a second apart."""
        notification_id = self.new_id("notice")
        for number, action in enumerate(("QUEUED", *actions)):
            log = NotificationDeliveryLog(
                notification_id=notification_id, action=action, device_ref="device", device_class="android",
                subject="CASE_OPENED", path="STREAM",
            )  # fmt: skip
            self.add(publisher, queued + timedelta(seconds=number), notification_delivery_log=log)


def disturbed(history: History, chance: random.Random, *, most_repeats: int = 2) -> list[tuple[str, LogRecord]]:
    """The same records as a bad day delivers them: some several times, all in any order."""
    delivered = list(history.records)
    for publisher, record in history.records:
        for _ in range(chance.randrange(most_repeats + 1) if chance.random() < 0.2 else 0):
            again = LogRecord()
            again.CopyFrom(record)
            delivered.append((publisher, again))
    chance.shuffle(delivered)
    return delivered


__all__ = ["CASE_KIND_FACE", "CASE_KIND_PII", "CASE_KIND_PRE_UPLOAD", "DAY", "GROUPS", "HOUR", "History", "disturbed"]
