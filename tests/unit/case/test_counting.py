"""Are cases counted as often as needed and no more often?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.case.handlers.counting import FRESH_SECONDS, Counting
from services.case.ports import Statistics

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass
class Store:
    """A unit whose cases are only counted; it says how often."""

    asked: list[str] = field(default_factory=list)

    @property
    def cases(self) -> Store:
        return self

    async def statistics(self, subscriber_id: str, now: datetime) -> Statistics:
        self.asked.append(subscriber_id)
        await asyncio.sleep(0)
        return Statistics({}, {}, {}, {}, 0, len(self.asked), now)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Store]:
        yield self


async def test_who_asks_at_once_gets_one_count_and_later_a_new_one() -> None:
    store, seconds = Store(), [100.0]
    counting = Counting(store, lambda: NOW, lambda: seconds[0])  # type: ignore[arg-type] # the part that is used
    assert [1, 1, 1] == [each.sightings for each in await asyncio.gather(*(counting.count() for _ in range(3)))]
    seconds[0] += FRESH_SECONDS
    assert 2 == (await counting.count()).sightings


async def test_a_subscribers_own_cases_are_counted_each_time() -> None:
    store = Store()
    counting = Counting(store, lambda: NOW)  # type: ignore[arg-type] # the part that is used
    for _ in range(2):
        await counting.count("somebody")
    assert ["somebody", "somebody"] == store.asked
