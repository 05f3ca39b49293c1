"""How are the collectors of a channel asked for a scan, and what came of it?

No collector can be called: each comes by itself. A scan is a word beside its channel that collectors find when they
look at their channels, and an event for those that follow; what they bring with its id is counted.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import events_pb2 as events
from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound, ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.tokens import current_actor
from services.detector.domain.channels import Channel, ChannelLevel
from services.detector.domain.reports import MOST_SCANNED, ReportRules, Scan
from services.detector.handlers import records
from services.detector.ports import Begin, Work
from services.detector.sealing import References

SCAN_ENDS = "SCAN_ENDS"
"""Due work: end a scan whose time is over."""
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scanning:
    """Scans that operators ask for."""

    begin: Begin
    clock: Clock
    references: References
    rules: ReportRules

    async def ask(self, request: channels.ScanChannelRequest, channel_id: str) -> Scan:
        """Asks for one. Repeated with the same request id it tells how far the scan is; while one runs, that one is
        returned."""
        if not 1 <= request.max_signals <= MOST_SCANNED:
            bad = [("max_signals", "OUT_OF_BOUNDS")]
            raise InvalidInput("OUT_OF_BOUNDS", "A scan wants 1 to 1,000 signals.", violations=bad)
        now, caller = self.clock.now(), current_actor().subject
        async with self.begin() as work:
            if request.request_id and (known := await work.recall(caller, "ScanChannel", request)):
                return _found(await work.scans.get(known))
            channel = await work.channels.get(channel_id, lock=True)
            if channel is None:
                raise NotFound("NO_SUCH_CHANNEL", "There is no such channel.")
            _check(channel)
            scan = (await work.scans.running([channel_id], now)).get(channel_id)
            if scan is None:
                await self._check_budget(work, channel_id, now)
                scan = await self._begin(work, channel, request.max_signals, now)
            if request.request_id:
                await work.remember(caller, "ScanChannel", request, scan.scan_id)
        return scan

    async def running(self, channel_ids: Collection[str]) -> dict[str, Scan]:
        """Channel → its scan that runs."""
        async with self.begin() as work:
            return await work.scans.running(channel_ids, self.clock.now())

    async def _check_budget(self, work: Work, channel_id: str, now: datetime) -> None:
        asked = await work.scans.asked_since(channel_id, now - _DAY)
        if asked and now < asked[-1] + self.rules.between:
            wait = asked[-1] + self.rules.between - now
            raise _exhausted("SCAN_TOO_SOON", "The channel was scanned a moment ago.", wait)
        if len(asked) >= self.rules.scans_a_day:
            raise _exhausted("SCAN_BUDGET_SPENT", "The channel has had its scans of the day.", asked[0] + _DAY - now)

    async def _begin(self, work: Work, channel: Channel, most: int, now: datetime) -> Scan:
        scan = Scan(
            scan_id=uuid7(),
            channel=channel.channel,
            channel_group=channel.channel_group,
            level=channel.level.name,
            channel_version=channel.version,
            max_signals=most,
            request_time=now,
            end_time=now + self.rules.run,
        )
        await work.scans.add(scan)
        await work.schedule(SCAN_ENDS, scan.scan_id, scan.end_time)
        work.record(channel.channel, records.signed(records.scan(scan, "SCAN_REQUESTED", now), self.references))
        event = events.ChannelScanRequested(
            scan_id=scan.scan_id, channel=scan.channel, channel_group=scan.channel_group, max_signals=most
        )
        work.event(channel.channel, event)
        return scan

    async def end(self, scan_id: str) -> None:
        """What a due row does: a scan whose time is over ends, whatever it brought."""
        now = self.clock.now()
        async with self.begin() as work:
            scan = await work.scans.get(scan_id, lock=True)
            if scan is None or scan.ended:
                return
            scan.ended = True
            await work.scans.end(scan_id)
            answered = scan.accepted or scan.refused
            work.record(scan.channel, records.scan(scan, "SCAN_ENDED" if answered else "SCAN_UNANSWERED", now))


def _check(channel: Channel) -> None:
    """Raises FailedPrecondition where nothing may be collected, or nothing is: signals are handed in."""
    if channel.paused or channel.level is ChannelLevel.BLOCKED:
        raise _stopped("CHANNEL_PAUSED", "Nothing is collected from this channel.")
    if channel.level is ChannelLevel.MANUAL:
        raise _stopped("CHANNEL_MANUAL", "Signals of this channel are handed in by subscribers.")


def _stopped(reason: str, words: str) -> FailedPrecondition:
    return FailedPrecondition(reason, words, violations=[("channel", reason)])


def _exhausted(reason: str, words: str, wait: timedelta) -> ResourceExhausted:
    return ResourceExhausted(reason, words, retry_after_ms=max(1, round(wait.total_seconds() * 1000)))


def _found(scan: Scan | None) -> Scan:
    if scan is None:
        raise NotFound("NO_SUCH_SCAN", "The scan is remembered no longer.")
    return scan
