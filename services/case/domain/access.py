"""Who read what, and which of it must somebody look at?"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from statistics import median

from services.chassis.errors import InvalidInput

REPORT = "AccessReviewReport_v1"
DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
LISTED_AT_MOST = 500
_MONTH = re.compile(r"(20\d\d)-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class AccessRules:
    """The rules of `rules/access.yaml`."""

    version: str
    keep: timedelta
    zone: timezone
    """Where the people work. An offset: slim images hold no table of time zones, and Korea has no summer time."""
    working_days: tuple[str, ...]
    working_from: int
    working_to: int
    """Hours of the day, the second exclusive."""
    unusual_times: int
    unusual_people: int
    downloads: tuple[str, ...]

    def working(self, moment: datetime) -> bool:
        """Whether a moment lies within working hours."""
        local = moment.astimezone(self.zone)
        return DAYS[local.weekday()] in self.working_days and self.working_from <= local.hour < self.working_to

    def month(self, text: str, now: datetime) -> tuple[datetime, datetime]:
        """First moment of a month, and of the next. Raises InvalidInput MONTH_MALFORMED, also for one to come."""
        match = _MONTH.fullmatch(text)
        if match is not None:
            start = datetime(int(match[1]), int(match[2]), 1, tzinfo=self.zone)
            if start <= now:
                following = (start + timedelta(days=32)).replace(day=1)
                return start.astimezone(UTC), following.astimezone(UTC)
        violation = ("month", "MONTH_MALFORMED")
        raise InvalidInput(violation[1], "A month that has begun is written yyyy-mm.", violations=[violation])


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """One thing of one person that somebody read."""

    entry_id: str
    reading_id: str
    subscriber_id: str | None
    """None where the data was nobody's, or of somebody who is erased."""
    method: str
    classes: tuple[int, ...]
    role: int
    actor: str
    """Staff id, sealed where stored."""
    actor_ref: str
    purpose: int
    origin: str
    field: str
    thing_id: str
    reason: str
    occur_time: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """Readings of one actor by one method for one purpose in one hour."""

    role: str
    purpose: str
    method: str
    actor_ref: str
    hour: datetime
    readings: int


@dataclass(frozen=True, slots=True)
class Download:
    """Data that was taken away."""

    occur_time: datetime
    role: str
    purpose: str
    method: str
    actor_ref: str
    reason: str


Json = dict[str, object]


def review(
    month: str,
    usage: Sequence[Usage],
    people: Mapping[tuple[str, str], int],
    downloads: Sequence[Download],
    rules: AccessRules,
    now: datetime,
) -> Json:
    """The report of a month. `people`: (role, actor) → how many subscribers they read of."""
    outside = Counter[tuple[str, str]]()
    for each in usage:
        if not rules.working(each.hour):
            outside[each.role, each.actor_ref] += each.readings
    return {
        "report": REPORT,
        "month": month,
        "time_zone": str(rules.zone),
        "rule_version": rules.version,
        "create_time": now.isoformat(timespec="seconds"),
        "readings": sum(each.readings for each in usage),
        "readers": len({(each.role, each.actor_ref) for each in usage}),
        "by_role_and_purpose": _counted(usage),
        "unusual_volume": _unusual(people, rules),
        "outside_working_hours": [
            {"role": role, "actor_ref": ref, "readings": count}
            for (role, ref), count in outside.most_common(LISTED_AT_MOST)
        ],
        "downloads": [_shown(each) for each in downloads[:LISTED_AT_MOST]],
        "downloads_in_all": len(downloads),
        "downloads_without_reason": sum(not each.reason for each in downloads),
    }


def _counted(usage: Sequence[Usage]) -> list[Json]:
    counts = Counter[tuple[str, str, str]]()
    for each in usage:
        counts[each.role, each.purpose, each.method] += each.readings
    return [
        {"role": role, "purpose": purpose, "method": method, "readings": count}
        for (role, purpose, method), count in sorted(counts.items())
    ]


def _unusual(people: Mapping[tuple[str, str], int], rules: AccessRules) -> list[Json]:
    """Whoever read of far more people than others of the same role usually do."""
    of_role: dict[str, list[int]] = defaultdict(list)
    for (role, _), count in people.items():
        of_role[role].append(count)
    found = []
    for (role, ref), count in sorted(people.items(), key=lambda item: -item[1]):
        usual = median(of_role[role])
        alone = len(of_role[role]) == 1
        if count >= rules.unusual_people and (alone or count > rules.unusual_times * usual):
            found.append({"role": role, "actor_ref": ref, "people": count, "median_of_role": usual})
    return found[:LISTED_AT_MOST]


def _shown(each: Download) -> Json:
    return {
        "occur_time": each.occur_time.isoformat(timespec="seconds"),
        "role": each.role,
        "purpose": each.purpose,
        "method": each.method,
        "actor_ref": each.actor_ref,
        "reason": each.reason,
    }
