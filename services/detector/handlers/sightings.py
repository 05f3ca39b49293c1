"""What becomes of a subscriber's word that something of hers stands at an address?

The address is looked at later, once, by the policy of fetching. What is seen becomes a signal as a collector's would.
Where the policy refuses, the subscriber's own words become it (the procedure by hand); evidence then shows that
nobody fetched the page, and platforms that want that are told so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import signal_service_pb2 as messages
from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound, ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.telemetry import inject_traceparent
from services.chassis.tokens import current_actor
from services.detector.domain.reports import MOST_NOTE_CHARACTERS, Report, ReportRules, ReportState
from services.detector.domain.signals import MOST_TEXT_BYTES, MOST_VALUE_CHARACTERS
from services.detector.handlers import records
from services.detector.handlers.intake import Incoming, Intake
from services.detector.ports import Begin, Page, Pages, Work
from services.detector.sealing import References, Vault
from services.detector.translate import signal_of, stamp

LOOK_AT_REPORT = "LOOK_AT_REPORT"
"""Due work: look at what a subscriber reported; of one that is ended, forget it."""
COLLECTOR = "user-report"
_TABLE, _COLUMN = "sighting_report", "sealed"
_DAY = timedelta(days=1)
_LATER = frozenset({"CHANNEL_PAUSED", "SPOOL_FULL"})
_GONE = frozenset({404, 410})
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Sightings:
    """Takes reports of subscribers and turns them into signals."""

    begin: Begin
    vault: Vault
    references: References
    clock: Clock
    rules: ReportRules
    pages: Pages
    intake: Intake

    async def take(self, request: channels.ReportUserSightingRequest) -> Report:
        """Takes a report; repeated, the call tells what became of it. Raises InvalidInput, NotFound,
        FailedPrecondition, ResourceExhausted."""
        self._check(request)
        now, caller = self.clock.now(), current_actor().subject
        async with self.begin() as work:
            if known := await work.recall(caller, "ReportUserSighting", request):
                return _found(await work.reports.get(known))
            await self._check_subscriber(work, request.subscriber_id, now)
            report_id = uuid7()
            said = json.dumps({"url": request.source_url, "note": request.note}, ensure_ascii=False).encode()
            report = Report(
                report_id=report_id,
                subscriber_id=request.subscriber_id,
                signal_id=f"{COLLECTOR}:{report_id}",
                channel=self.rules.channel_of(_host(request.source_url)),
                create_time=now,
                sealed=self.vault.seal(request.subscriber_id, _TABLE, report_id, _COLUMN, said),
            )
            await work.reports.add(report)
            await work.schedule(LOOK_AT_REPORT, report_id, now)
            self._record(work, report, "RECEIVED", "", self.rules.version, now)
            await work.remember(caller, "ReportUserSighting", request, report_id)
        return report

    def _check(self, request: channels.ReportUserSightingRequest) -> None:
        rule = self.pages.refusal(request.source_url)
        if rule:
            raise InvalidInput(rule, "Nothing can be looked at there.", violations=[("source_url", rule)])
        note = request.note
        if len(note) > MOST_NOTE_CHARACTERS or not all(c.isprintable() or c in "\n\r\t" for c in note):
            bad = [("note", "NOTE_MALFORMED")]
            raise InvalidInput("NOTE_MALFORMED", "The note is too long, or no text.", violations=bad)

    async def _check_subscriber(self, work: Work, subscriber_id: str, now: datetime) -> None:
        subscriber = await work.subscribers.get(subscriber_id)
        if subscriber is None:
            raise NotFound("SUBSCRIBER_UNKNOWN", "There is no such subscriber.")
        if subscriber.suspended:
            bad = [("subscriber", "SUBSCRIBER_SUSPENDED")]
            raise FailedPrecondition("SUBSCRIBER_SUSPENDED", "Processing is stopped.", violations=bad)
        if await work.reports.since(subscriber_id, now - _DAY) >= self.rules.a_day:
            wait_ms = round(_DAY.total_seconds() * 1000)
            raise ResourceExhausted("TOO_MANY_REPORTS", "Too many reports today.", retry_after_ms=wait_ms)

    async def look(self, report_id: str) -> None:
        """What a due row does. Repeated after a crash it makes the same signal: its id is fixed."""
        async with self.begin() as work:
            report = await work.reports.get(report_id)
            if report is not None and report.state is not ReportState.RECEIVED:
                await work.reports.remove(report_id)
                return
            subscriber = await work.subscribers.get(report.subscriber_id) if report else None
        if report is None or subscriber is None:
            return
        if subscriber.suspended:
            await self._end(report_id, ReportState.NOT_LOOKED_AT, "SUBSCRIBER_SUSPENDED", self.rules.version)
            return
        opened = self.vault.open(report.subscriber_id, _TABLE, report_id, _COLUMN, report.sealed)
        if opened is None:
            return  # erased meanwhile
        said = json.loads(opened)
        page = await self.pages.look(said["url"])
        if page.verdict == "DEFER" and report.tries + 1 < self.rules.looks:
            await self._defer(report_id, page.rule_id, page.retry_after_ms, page.rules_version)
        elif page.verdict == "ALLOW" and page.status in _GONE:
            await self._end(report_id, ReportState.GONE, f"STATUS_{page.status}", page.rules_version)
        else:
            await self._submit(report, said["url"], said["note"], page)

    async def _submit(self, report: Report, url: str, note: str, page: Page) -> None:
        """The signal of what was seen, or of what the subscriber says."""
        message = _signal_of(report, url, note, page, self.clock.now())
        if message is None:
            await self._end(report.report_id, ReportState.NOT_LOOKED_AT, page.rule_id, page.rules_version)
            return
        incoming = Incoming(signal_of(message), message.SerializeToString(), inject_traceparent())
        [outcome] = await self.intake.commit([incoming])
        refused = outcome.refused
        if refused is not None and refused.reason in _LATER and report.tries + 1 < self.rules.looks:
            await self._defer(report.report_id, refused.reason, 0, self.rules.version)
            return
        if refused is None or refused.reason == "SIGNAL_ID_REUSED":
            # An id that is known is this report's own, from before a crash: the page may have changed since.
            await self._end(report.report_id, ReportState.SUBMITTED, page.rule_id, page.rules_version)
        else:
            await self._end(report.report_id, ReportState.REFUSED, refused.reason, self.rules.version)

    async def _defer(self, report_id: str, reason: str, retry_after_ms: int, rule_version: str) -> None:
        now = self.clock.now()
        async with self.begin() as work:
            report = await work.reports.get(report_id, lock=True)
            if report is None:
                return
            pause = self.rules.again * 2**report.tries
            report.defer(reason)
            await work.reports.put(report)
            wait = min(max(pause, timedelta(milliseconds=retry_after_ms)), _LONGEST_WAIT)
            await work.schedule(LOOK_AT_REPORT, report_id, now + wait)
            self._record(work, report, "DEFERRED", reason, rule_version, now)

    async def _end(self, report_id: str, state: ReportState, reason: str, rule_version: str) -> None:
        now = self.clock.now()
        async with self.begin() as work:
            report = await work.reports.get(report_id, lock=True)
            if report is None:
                return
            report.end(state, reason)
            await work.reports.put(report)
            await work.schedule(LOOK_AT_REPORT, report_id, now + self.rules.keep)
            self._record(work, report, state.value, reason, rule_version, now)

    def _record(
        self, work: Work, report: Report, action: str, reason: str, rule_version: str, now: datetime
    ) -> None:
        ref = self.references.signal(report.signal_id)
        record = records.sighting_report(report, action, reason, ref, rule_version, now)
        work.record(report.report_id, records.signed(record, self.references))


def _signal_of(report: Report, url: str, note: str, page: Page, now: datetime) -> messages.Signal | None:
    """None where there is nothing to look at."""
    seen = page.verdict == "ALLOW" and 200 <= page.status < 300 and (page.text or page.title or page.image)
    if seen and page.image:
        parts = [messages.SignalPart(image=page.image)]
    else:
        text = page.text if seen else note
        parts = [messages.SignalPart(text=_cut(text, MOST_TEXT_BYTES))] if text.strip() else []
    if not parts and not (seen and page.title):
        return None
    message = messages.Signal(
        signal_id=report.signal_id,
        channel=report.channel,
        source_type=common.SOURCE_TYPE_USER,
        source_url=url,
        discover_time=stamp(report.create_time),
        parts=parts,
        collection_basis=common.COLLECTION_BASIS_USER_SUBMITTED,
        policy_rule_id=page.rule_id[:64],
    )
    if seen:
        message.capture.http_status = page.status
        message.capture.collector = COLLECTOR
        message.capture.fetch_time.FromDatetime(now)
        if page.title:
            message.metadata.add(name="title", value=page.title[:MOST_VALUE_CHARACTERS])
    return message


def _cut(text: str, most_bytes: int) -> str:
    return text.encode()[:most_bytes].decode("utf-8", "ignore")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _found(report: Report | None) -> Report:
    if report is None:
        raise NotFound("NO_SUCH_REPORT", "The report is remembered no longer.")
    return report
