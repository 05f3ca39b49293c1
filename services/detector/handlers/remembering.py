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
NEWS = 16
"""Contents of each subscriber that are asked for in one go; who has more is asked about alone."""


@dataclass(slots=True)
class Held:
    """A subscriber's contents in memory: up to which row, and until when all of them may be remembered."""

    known: Known
    last: int
    until: datetime
    new: bool = False
    """True while it is not committed that they are purged then."""


class Memory:
    """Comparable forms of subscribers' contents, bounded; what it lacks is read from the table. A picture takes up to
    17 kB, a text 1 kB."""

    def __init__(self, most_contents: int = 2 * MOST_COMPARED) -> None:
        self._most = most_contents
        self._of: OrderedDict[str, Held] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._total = 0

    def get(self, subscriber_id: str, now: datetime) -> Held | None:
        """What is held of a subscriber; None where one of the contents may no longer be remembered."""
        held = self._of.get(subscriber_id)
        if held is not None and held.until <= now:
            self.forget(subscriber_id)
            return None
        return held

    def put(self, subscriber_id: str, held: Held) -> None:
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

    async def held(self, work: Work, subscriber_ids: Collection[str]) -> Mapping[str, Held]:
        """The contents of each subscriber as far as they are in memory; of the others, where to begin reading the
        newest MOST_COMPARED. Only under the locks on them."""
        now, held, missing = self.clock.now(), dict[str, Held](), list[str]()
        for subscriber_id in subscriber_ids:
            if (known := self.memory.get(subscriber_id, now)) is None:
                missing.append(subscriber_id)
            else:
                held[subscriber_id] = known
        if missing:
            for subscriber_id, begins in (await work.contents.beginnings(missing, MOST_COMPARED)).items():
                until = (begins.oldest or now) + self.kept
                held[subscriber_id] = Held(self.likeness.nothing_known(), begins.after, until, new=True)
        return held

    async def catch_up(
        self,
        work: Work,
        held: Mapping[str, Held],
        newer: Mapping[str, Sequence[KnownContent]],
        beside: Callable[..., Awaitable[object]],
    ) -> None:
        """Takes in what came since, of which `newer` are the first NEWS of each subscriber, and keeps all in memory.
        `beside` runs something heavy beside the event loop."""
        if newer:
            await beside(self._take, held, newer)
        for subscriber_id, rows in newer.items():
            while len(rows) in (NEWS, _PAGE):
                if rows := await work.contents.since(subscriber_id, held[subscriber_id].last, _PAGE):
                    await beside(self._take, held, {subscriber_id: rows})
        for subscriber_id, each in held.items():
            self.memory.put(subscriber_id, each)

    def purges(self, held: Mapping[str, Held]) -> Mapping[tuple[str, str], datetime]:
        """What has to be due so that contents are purged one day, whichever release remembered them."""
        return {(PURGE_CONTENTS, subscriber_id): each.until for subscriber_id, each in held.items() if each.new}

    def settled(self, held: Mapping[str, Held], *, committed: bool) -> None:
        """Notes whether what `purges` tells of was committed."""
        for subscriber_id, each in held.items():
            if each.new and not committed:
                # It stays new: with the rollback the lock went on to whoever may have found it in memory already.
                self.memory.forget(subscriber_id)
            elif committed:
                each.new = False

    def _take(self, held: Mapping[str, Held], newer: Mapping[str, Sequence[KnownContent]]) -> None:
        for subscriber_id, rows in newer.items():
            each = held[subscriber_id]
            for row in rows:
                # All rows of a subscriber are sealed for one place: their ids are not known before they are stored.
                data = self.vault.open(subscriber_id, "content", subscriber_id, "fingerprint", row.sealed)
                if data is not None:
                    each.known.add(row.medium, row.cluster_id, self.likeness.read(row.medium, data))
                each.last = row.content_id
            each.known.forget(MOST_COMPARED)

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
