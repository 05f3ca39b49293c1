"""Which of a subscriber's earlier contents a new one is compared with, and how long they are remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.detector.domain.decisions import ReviewRules
from services.detector.handlers import records
from services.detector.ports import Begin, Known, KnownContent, Likeness, Work
from services.detector.sealing import Vault

MOST_COMPARED = 10_000
"""Earlier contents of a subscriber that a new one is compared with, the newest first; of each medium."""
PURGE_CONTENTS = "PURGE_CONTENTS"
"""Due row of a subscriber's contents: it comes when the first was not seen for too long."""
MOST_PURGED = 500
"""Contents in one transaction; what is left comes in the next."""
_PAGE = 500
_NEWS = 16
"""Contents of each subscriber that are asked for in one go; who has more is asked about alone."""


@dataclass(slots=True)
class _Held:
    """A subscriber's contents in memory: up to which row, and until when all of them may be remembered."""

    known: Known
    last: int
    until: datetime


class Memory:
    """Comparable forms of subscribers' contents, bounded; what it lacks is read from the table. A picture takes up to
    17 kB, a text 1 kB."""

    def __init__(self, most_contents: int = 2 * MOST_COMPARED) -> None:
        self._most = most_contents
        self._of: OrderedDict[str, _Held] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0

    def get(self, subscriber_id: str, now: datetime) -> _Held | None:
        """What is held of a subscriber; None where one of the contents may no longer be remembered."""
        held = self._of.get(subscriber_id)
        if held is not None and held.until <= now:
            self.forget(subscriber_id)
            return None
        return held

    def put(self, subscriber_id: str, held: _Held) -> None:
        """Keeps a subscriber's contents; the subscribers not asked for longest go first."""
        self._of[subscriber_id] = held
        self._of.move_to_end(subscriber_id)
        self._total += len(held.known) - self._sizes.get(subscriber_id, 0)
        self._sizes[subscriber_id] = len(held.known)
        while self._total > self._most and len(self._of) > 1:
            self.forget(next(iter(self._of)))

    def forget(self, subscriber_id: str) -> None:
        """Drops what is held of a subscriber."""
        self._of.pop(subscriber_id, None)
        self._total -= self._sizes.pop(subscriber_id, 0)


@dataclass(frozen=True)
class Remembering:
    """Reads earlier contents, and forgets them in time."""

    begin: Begin
    vault: Vault
    clock: Clock
    likeness: Likeness
    rules: ReviewRules
    memory: Memory = field(default_factory=Memory)

    @property
    def kept(self) -> timedelta:
        """How long a content is remembered after it was last seen."""
        return timedelta(days=self.rules.content_days)

    async def contents_of(
        self, work: Work, subscriber_ids: Collection[str], beside: Callable[..., Awaitable[object]]
    ) -> Mapping[str, Known]:
        """The contents of each subscriber, the newest MOST_COMPARED. Only under the locks on them. `beside` runs
        something heavy beside the event loop. What came since the last look is asked for all at once."""
        now, held = self.clock.now(), dict[str, _Held]()
        for subscriber_id in sorted(subscriber_ids):
            known = self.memory.get(subscriber_id, now)
            held[subscriber_id] = known or await self._from_the_start(work, subscriber_id, now)
        found = await work.contents.since_each({who: each.last for who, each in held.items()}, _NEWS) if held else {}
        for subscriber_id, rows in found.items():
            each = held[subscriber_id]
            await beside(self._take, subscriber_id, each, rows)
            while len(rows) in (_NEWS, _PAGE):
                if rows := await work.contents.since(subscriber_id, each.last, _PAGE):
                    await beside(self._take, subscriber_id, each, rows)
        for subscriber_id, each in held.items():
            self.memory.put(subscriber_id, each)
        return {subscriber_id: each.known for subscriber_id, each in held.items()}

    async def _from_the_start(self, work: Work, subscriber_id: str, now: datetime) -> _Held:
        """Also makes sure that the contents are purged one day, whichever release remembered them."""
        oldest = await work.contents.next_purge(subscriber_id)
        until = (oldest or now) + self.kept
        await work.schedule(PURGE_CONTENTS, subscriber_id, until)
        after = await work.contents.newest(subscriber_id, MOST_COMPARED)
        return _Held(self.likeness.nothing_known(), after, until)

    def _take(self, subscriber_id: str, held: _Held, rows: Sequence[KnownContent]) -> None:
        for row in rows:
            # All rows of a subscriber are sealed for one place: their ids are not known before they are stored.
            data = self.vault.open(subscriber_id, "content", subscriber_id, "fingerprint", row.sealed)
            if data is not None:
                held.known.add(row.medium, row.cluster_id, self.likeness.read(row.medium, data))
            held.last = row.content_id
        held.known.forget(MOST_COMPARED)

    async def purge(self, subscriber_id: str) -> None:
        """What a due row does: deletes contents that were not seen for too long, and comes again for the next."""
        now = self.clock.now()
        async with self.begin() as work:
            if await work.subscribers.get(subscriber_id) is None:
                return
            for gone in await work.contents.purge(subscriber_id, now - self.kept, MOST_PURGED):
                due_time = gone.seen_time + self.kept
                record = records.purge("CONTENT", gone.cluster_id, due_time, "CONTENT_NOT_SEEN_AGAIN", now)
                work.record(subscriber_id, record)
            if (oldest := await work.contents.next_purge(subscriber_id)) is not None:
                await work.schedule(PURGE_CONTENTS, subscriber_id, oldest + self.kept)
        self.memory.forget(subscriber_id)
