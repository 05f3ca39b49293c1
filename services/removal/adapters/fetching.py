"""What does the fetcher's answer tell about a page?"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from services.chassis.fetch import Fetched, Fetcher, Verdict
from services.removal.domain.sight import LARGEST_BODY, Decision, Sight


class FetchingWatcher:
    """Looks at pages within the fetch policy; whoever opened the fetcher closes it."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def look(self, address: str) -> Sight:
        """See ports.Watcher."""
        return sight_of(await self._fetcher.fetch(address))


def sight_of(fetched: Fetched) -> Sight:
    """A wall and a refusal are the policy's REFUSE, with the rule's id; a busy host is its DEFER."""
    decision = fetched.decision
    if decision.verdict is not Verdict.ALLOW:
        later = timedelta(milliseconds=decision.retry_after_ms) if decision.retry_after_ms else None
        return Sight(Decision(decision.verdict.value), decision.rule_id, fetched.status, retry_after=later)
    return Sight(
        Decision.ALLOW,
        decision.rule_id,
        fetched.status,
        hashlib.sha256(fetched.body).digest(),
        fetched.body[:LARGEST_BODY],
        fetched.content_type,
    )
