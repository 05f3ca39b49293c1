"""Are these quiet hours, by the clock on the person's wall?"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DEFAULT_ZONE = "Asia/Seoul"


def quiet_until(now: datetime, zone: str, start_minute: int, end_minute: int) -> datetime | None:
    """When the quiet hours end that `now` lies in, UTC; None outside of them, or where there are none.

    Minutes are after midnight in `zone` (IANA), -1 for none; equal ones mean none. Where clocks are put back within
    quiet hours, they end at the later of the two; where an end is skipped, as many minutes after the gap as it lay
    within. A zone that the system's data do not know (any more) counts as the default one.
    """
    if start_minute < 0 or end_minute < 0 or start_minute == end_minute:
        return None
    place = _place(zone)
    today = now.astimezone(place).date()
    # Hours over midnight began yesterday.
    for day in (today - timedelta(days=1), today):
        start = _instant(day, start_minute, place, fold=0)
        last_day = day if start_minute < end_minute else day + timedelta(days=1)
        end = max(_instant(last_day, end_minute, place, fold) for fold in (0, 1))
        if start <= now < end:
            return end
    return None


def _place(zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(DEFAULT_ZONE)


def _instant(day: date, minute: int, place: ZoneInfo, fold: int) -> datetime:
    """A reading of the wall clock as UTC (PEP 495: `fold` tells the second of two equal readings)."""
    reading = datetime.combine(day, time(minute // 60, minute % 60, fold=fold), place)
    return reading.astimezone(UTC)
