"""What is seen where nobody may look? Nothing, and it is said so."""

from __future__ import annotations

from services.removal.domain.sight import Decision, Sight

NO_FETCHER = "NO_FETCHER"


class NoFetcher:
    """Looks at nothing: what platforms say of a removal stays unverified until the subscriber confirms it."""

    async def look(self, address: str) -> Sight:
        """See ports.Watcher."""
        return Sight(Decision.REFUSE, NO_FETCHER)
