"""How does somebody follow the decisions about releases without missing one?"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from services.chassis.changes import resume_token, resumed_positions
from services.chassis.errors import ResourceExhausted
from services.gate.ports import Changes, Decision, Shelves

MOST_WATCHERS = 64
_BATCH = 200
_SILENT_ROUNDS = 20
"""Looks without a decision for the caller, after which the token alone is sent: an old one falls out of the outbox."""


@dataclass(frozen=True, slots=True)
class SeenDecision:
    """What a watcher gets: a decision as it is now, or a token alone."""

    token: str
    event: str = ""
    decision: Decision | None = None


@dataclass
class WatchingReleases:
    """Serves those who watch."""

    shelves: Shelves
    changes: Changes
    watchers: int = 0

    async def follow(self, token: str, release: str) -> AsyncGenerator[SeenDecision, None]:
        """Decisions after the token, or from now on; of one release if it is named. Raises InvalidInput
        BAD_RESUME_TOKEN, OutOfRange POSITION_NO_LONGER_KEPT, ResourceExhausted WATCHERS_FULL.
        """
        if self.watchers >= MOST_WATCHERS:
            raise ResourceExhausted("WATCHERS_FULL", "Too many watch already.")
        self.watchers += 1
        try:
            async for seen in self._follow(token, release):
                yield seen
        finally:
            self.watchers -= 1

    async def _follow(self, token: str, release: str) -> AsyncIterator[SeenDecision]:
        heads = await self.changes.heads()
        positions = resumed_positions(token, heads) if token else dict(heads)
        yield SeenDecision(resume_token(positions))
        silent = 0
        while True:
            changes = await self.changes.after(positions, _BATCH)
            shown = False
            for change in changes:
                positions[change.partition] = change.position
                if change.event:
                    decision = await self._decision(change.decision_id)
                    if decision is not None and release in ("", decision.release):
                        shown = True
                        yield SeenDecision(resume_token(positions), change.event, decision)
            silent = 0 if shown else silent + 1
            if silent == _SILENT_ROUNDS:
                silent = 0
                yield SeenDecision(resume_token(positions))
            if not changes:
                await self.changes.wait()

    async def _decision(self, decision_id: str) -> Decision | None:
        async with self.shelves() as shelf:
            return await shelf.decision(decision_id)
