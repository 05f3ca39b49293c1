"""What may subscribers report, and what may be asked of collectors?"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

MOST_NOTE_CHARACTERS: Final = 2_000
MOST_SCANNED: Final = 1_000
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa")


class ReportState(StrEnum):
    """What became of a report."""

    RECEIVED = "RECEIVED"
    SUBMITTED = "SUBMITTED"
    GONE = "GONE"
    NOT_LOOKED_AT = "NOT_LOOKED_AT"
    REFUSED = "REFUSED"


NEXT_STEPS: Final[Mapping[ReportState, str]] = {
    ReportState.RECEIVED: "LOOKED_AT_SOON",
    ReportState.SUBMITTED: "DECIDED_SOON",
    ReportState.GONE: "NOTHING_MORE",
    ReportState.NOT_LOOKED_AT: "SHOW_US",
    ReportState.REFUSED: "SHOW_US",
}


@dataclass(frozen=True, slots=True)
class ReportRules:
    """The rules of `rules/reports.yaml`, where each field is explained."""

    version: str
    a_day: int
    looks: int
    again: timedelta
    keep: timedelta
    hosts: Mapping[str, str]
    elsewhere: str
    run: timedelta
    between: timedelta
    scans_a_day: int

    @classmethod
    def read(cls, data: Any) -> ReportRules:
        """Raises KeyError or ValueError."""
        sightings, scans = data["sightings"], data["scans"]
        numbers = {name: int(sightings[name]) for name in ("a_day", "looks", "again_minutes", "keep_days")}
        numbers |= {f"scan_{name}": int(scans[name]) for name in ("run_minutes", "between_minutes", "a_day")}
        if not all(1 <= number <= 10_000 for number in numbers.values()):
            raise ValueError("reports.yaml: a number is out of bounds")
        return cls(
            version=str(data["version"]),
            a_day=numbers["a_day"],
            looks=numbers["looks"],
            again=timedelta(minutes=numbers["again_minutes"]),
            keep=timedelta(days=numbers["keep_days"]),
            hosts={str(host): str(channel) for host, channel in sightings["hosts"].items()},
            elsewhere=str(sightings["elsewhere"]),
            run=timedelta(minutes=numbers["scan_run_minutes"]),
            between=timedelta(minutes=numbers["scan_between_minutes"]),
            scans_a_day=numbers["scan_a_day"],
        )

    def channel_of(self, host: str) -> str:
        """The channel that a host belongs to: that of its longest known ending."""
        labels = host.lower().rstrip(".").split(".")
        endings = (".".join(labels[at:]) for at in range(len(labels)))
        return next((self.hosts[ending] for ending in endings if ending in self.hosts), self.elsewhere)


def is_public_name(host: str) -> bool:
    """Whether a host of an address can be of the public internet, by its form alone. Where a name leads is checked
    again on the connected socket."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        labels = host.lower().rstrip(".").split(".")
    # What parsers of old read as an IPv4 address (RFC 6943, 3.1.1): all digits, or hexadecimal, as the last label.
    last = labels[-1]
    return len(labels) > 1 and last not in _LOCAL_NAMES and not last.isdigit() and not last.startswith("0x")


@dataclass(slots=True)
class Report:
    """Where a subscriber saw something. `sealed` holds address and note until they have become a signal."""

    report_id: str
    subscriber_id: str
    signal_id: str
    channel: str
    create_time: datetime
    sealed: bytes = field(repr=False)
    state: ReportState = ReportState.RECEIVED
    reason: str = ""
    tries: int = 0

    def defer(self, reason: str) -> None:
        """Notes a look that was too early."""
        self.tries += 1
        self.reason = reason

    def end(self, state: ReportState, reason: str) -> None:
        """Ends it; what was said is kept no longer."""
        self.state, self.reason, self.sealed = state, reason, b""


@dataclass(slots=True)
class Scan:
    """A scan of a channel that was asked for. `end_time` is when it ends by itself, or ended."""

    scan_id: str
    channel: str
    channel_group: str
    level: str
    channel_version: int
    max_signals: int
    request_time: datetime
    end_time: datetime
    ended: bool = False
    accepted: int = 0
    refused: int = 0
