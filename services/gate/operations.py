"""What does the gate read for the figures of operation and compliance, and over which time?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta

from services.gate.domain.channels import channel_coverage, onboarding
from services.gate.domain.kpis import Kpi
from services.gate.domain.measures import Measurement
from services.gate.domain.purges import purge_audit, reconcile
from services.gate.domain.recurrence import reappearances, recurrence
from services.gate.domain.removals import Requests, removal_success, requests_of, time_to_removal
from services.gate.domain.rights import rights_in_time
from services.gate.ports import Records

SIGNAL_DAYS = 30
"""Signals of so many days say how many a channel brings a day."""
BLOCK_DAYS = 60
"""A block that showed its content again in the window began at most so long before it: it lasts thirty days (Network
Act 44-2) and may be prolonged once."""
LONGEST_RETENTION_DAYS = 366
"""What is due was listed at most so long ago."""
_MARGIN = timedelta(hours=1)
"""Clocks of services differ."""

Measure = Callable[[Kpi, Records, datetime], Awaitable[Measurement]]


def complete(measure: Measure) -> Measure:
    """The same measurement, which also says how many records of its window are missing."""

    async def checked(kpi: Kpi, records: Records, now: datetime) -> Measurement:
        measured = await measure(kpi, records, now)
        return replace(measured, missing=await records.missing(now - timedelta(days=kpi.window_days)))

    return checked


async def measure_removal_success(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of RemovalSuccessRateReport_v1."""
    return await _of_requests(removal_success, kpi, records, now)


async def measure_time_to_removal(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of PlatformTTRReport_v1."""
    return await _of_requests(time_to_removal, kpi, records, now)


async def _of_requests(
    figures: Callable[[Kpi, Requests, datetime], Measurement], kpi: Kpi, records: Records, now: datetime
) -> Measurement:
    since = now - timedelta(days=kpi.window_days)
    steps = await records.removal_steps(since, now)
    measured = figures(kpi, requests_of(kpi, steps, since, now), now)
    return replace(measured, records={"removal_request_log": len(steps)})


async def measure_recurrence(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of RepostRecurrenceReport_v1."""
    since = now - timedelta(days=kpi.window_days)
    closings = await records.closings(since, now)
    finds = await records.finds(since, now)
    steps = await records.removal_steps(since - timedelta(days=BLOCK_DAYS), now)
    measured = recurrence(kpi, closings, [*finds, *reappearances(steps)], now)
    read = {
        "case_lifecycle_log": len(closings),
        "repost_recurrence_log": len(finds),
        "removal_request_log": len(steps),
    }
    return replace(measured, records=read)


async def measure_coverage(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of ChannelCoverageReport_v1."""
    signals = await records.signals(now - timedelta(days=kpi.window_days), now)
    levels = await records.channel_levels(now)
    measured = channel_coverage(kpi, signals, levels)
    return replace(
        measured,
        records={
            "match_decision_log": signals.total,
            "signal_intake_log": signals.refused + signals.duplicate,
            "channel_scan_log": len(levels),
        },
    )


async def measure_onboarding(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of ChannelOnboardingLeadtimeReport_v1."""
    steps = await records.onboarding_steps(now)
    signals = await records.signals(now - timedelta(days=SIGNAL_DAYS), now)
    measured = onboarding(kpi, steps, signals, SIGNAL_DAYS, now)
    return replace(measured, records={"channel_onboarding_log": len(steps)})


async def measure_purges(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of PurgeAuditReport_v1."""
    since = now - timedelta(days=kpi.window_days)
    listed_since = since - timedelta(days=LONGEST_RETENTION_DAYS)
    due = await records.purges_due(listed_since, now)
    purged = await records.purges_logged(listed_since, now)
    measured = purge_audit(kpi, reconcile(kpi, due, purged, now))
    return replace(measured, records={"purge_due_log": len(due), "purge_log": len(purged)})


async def measure_rights(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of RightsRequestSLAReport_v1."""
    steps = await records.rights_steps(now)
    measured = rights_in_time(kpi, steps, now - timedelta(days=kpi.window_days), now)
    return replace(measured, records={"rights_request_log": len(steps)})
