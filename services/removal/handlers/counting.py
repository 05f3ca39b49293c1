"""How many requests were made, and what became of them, month by month?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.chassis.errors import InvalidInput
from services.removal.handlers import COUNT, Needs
from services.removal.ports import Count

EVERY = timedelta(hours=1)
EVERYTHING = "all"
_MONTH = re.compile(r"20\d\d-(?:0[1-9]|1[0-2])")


async def count(needs: Needs) -> None:
    """Counts what has happened since the last time, and has itself run again. Repeating it changes nothing."""
    await needs.counts.fold()
    await count_at(needs, needs.clock.now() + EVERY)


async def count_at(needs: Needs, at: datetime) -> None:
    """Has it counted at a time."""
    async with needs.store.begin() as work:
        await work.schedule(COUNT, [EVERYTHING], at)


async def list_counts(needs: Needs, first: str, last: str) -> Sequence[Count]:
    """The counts of the months from first to last ("YYYY-MM", UTC), at most twelve. Raises InvalidInput."""
    for name, month in (("first_month", first), ("last_month", last)):
        if not _MONTH.fullmatch(month):
            raise InvalidInput("MONTH_MALFORMED", "A month is YYYY-MM.", violations=[(name, "MONTH_MALFORMED")])
    if not 0 <= _number(last) - _number(first) < 12:
        violation = ("last_month", "TOO_MANY_MONTHS")
        raise InvalidInput(violation[1], "One to twelve months in a row.", violations=[violation])
    return await needs.counts.list_months(first, last)


def _number(month: str) -> int:
    year, _, number = month.partition("-")
    return 12 * int(year) + int(number)
