"""What do the raw log records say of case latency? A calculation of its own: nothing of the gate's code is used here.

Plain integers of microseconds; the 95th percentile is the nearest rank (the smallest value that at least 95 % do not
exceed). A record that came twice counts once; of several commits of a decision the first counts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from misuse.common.v1.signal_pb2 import BAND_MATCH, MatchKind
from misuse.log.v1.record_pb2 import LogRecord

COMMITS = ("OPENED", "SIGHTED", "REOPENED")
"""Transitions by which a decision has its case or its sighting in one."""


@dataclass(frozen=True)
class Event:
    """A decision of the MATCH band and what became of it. Times are microseconds since the epoch."""

    decision_id: str
    discovered: int
    decided: int
    committed: int | None
    """None where it never was."""
    transition: str
    """OPENED or SIGHTED, DROPPED where its subscriber is not processed; empty where nothing came."""
    channel_group: str
    kind: str

    @property
    def latency_ms(self) -> float:
        """Discovery to commit, never below zero; infinite where nothing was committed."""
        return math.inf if self.committed is None else max(0, self.committed - self.discovered) / 1000


@dataclass
class Raw:
    """What the records hold."""

    events: list[Event] = field(default_factory=list)
    decided_signals: set[bytes] = field(default_factory=set)
    """References of signals that have a decision, of whatever band."""
    records: int = 0
    bands: Counter[str] = field(default_factory=Counter)
    intake: Counter[str] = field(default_factory=Counter)
    """Records of the door: DUPLICATE or the reason of a refusal."""

    @property
    def latencies_ms(self) -> list[float]:
        """Of the events that count, in order."""
        return sorted(event.latency_ms for event in self.events if event.transition != "DROPPED")


def read(payloads: Iterable[bytes]) -> Raw:
    """Reads serialised records, in any order, repeated or not."""
    raw = Raw()
    seen: set[str] = set()
    decisions: dict[str, LogRecord] = {}
    commits: dict[str, tuple[int, str]] = {}
    dropped: set[str] = set()
    for payload in payloads:
        record = LogRecord.FromString(payload)
        if record.record_id in seen:
            continue
        seen.add(record.record_id)
        body = record.WhichOneof("body")
        if body == "match_decision_log":
            raw.decided_signals.add(record.match_decision_log.signal_ref)
            matched = record.match_decision_log.band == BAND_MATCH
            raw.bands["MATCH" if matched else "OTHER"] += 1
            if matched:
                decisions[record.decision_id] = record
        elif body == "signal_intake_log":
            log = record.signal_intake_log
            raw.intake["DUPLICATE" if log.duplicate else log.reason or "ACCEPTED"] += 1
        elif body == "case_lifecycle_log" and record.decision_id:
            transition = record.case_lifecycle_log.transition
            if transition in COMMITS:
                found = (_micros(record.occur_time), transition)
                commits[record.decision_id] = min(found, commits.get(record.decision_id, found))
            elif transition == "DROPPED":
                dropped.add(record.decision_id)
    raw.records = len(seen)
    raw.events = [_event(record, commits, dropped) for record in decisions.values()]
    return raw


def _event(record: LogRecord, commits: Mapping[str, tuple[int, str]], dropped: set[str]) -> Event:
    log = record.match_decision_log
    committed, transition = commits.get(record.decision_id, (None, ""))
    if committed is None and record.decision_id in dropped:
        transition = "DROPPED"
    return Event(
        decision_id=record.decision_id,
        discovered=_micros(log.discover_time),
        decided=_micros(log.decide_time),
        committed=committed,
        transition=transition,
        channel_group=log.channel_group,
        kind=MatchKind.Name(log.kind).removeprefix("MATCH_KIND_"),
    )


def _micros(moment: Any) -> int:
    return int(moment.seconds) * 1_000_000 + int(moment.nanos) // 1000


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """The percentile of values in ascending order. Raises ValueError for none."""
    if not ordered:
        raise ValueError("there is nothing to take a percentile of")
    return ordered[-(-percent * len(ordered) // 100) - 1]


def write_events(file: Path, events: Iterable[Event]) -> None:
    """One JSON object a line, in the order of discovery: opaque ids, times in microseconds since the epoch."""
    with file.open("w", encoding="utf-8") as out:
        for event in sorted(events, key=lambda each: (each.discovered, each.decision_id)):
            latency = None if event.committed is None else event.latency_ms
            out.write(json.dumps(vars(event) | {"latency_ms": latency}) + "\n")
