"""What do the removal requests of an incident make of its state?

A case follows its worst open request: it waits for a platform while one is with a platform, is in our hands
while one is open otherwise, and is resolved when all have ended.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from services.case.domain.words import CaseState, Resolution


class RemovalState(IntEnum):
    """The states of a removal request, as its events tell them."""

    DRAFT = 1
    CHECKED = 2
    SUBMITTED = 3
    RECEIVED = 4
    REMOVED = 5
    TEMP_BLOCKED = 6
    DEINDEXED = 7
    UNVERIFIED = 8
    REJECTED = 9
    SUPPLEMENTED = 10
    UNCERTAIN = 11
    UNRESOLVED = 12
    WITHDRAWN = 13


_WITH_PLATFORM = frozenset({RemovalState.SUBMITTED, RemovalState.RECEIVED})
_ENDED = {
    # The worst first: it names the resolution of the case.
    RemovalState.UNRESOLVED: Resolution.UNRESOLVED,
    RemovalState.UNVERIFIED: Resolution.UNRESOLVED,
    RemovalState.TEMP_BLOCKED: Resolution.TEMP_BLOCKED,
    RemovalState.DEINDEXED: Resolution.DEINDEXED,
    RemovalState.REMOVED: Resolution.REMOVED,
    RemovalState.WITHDRAWN: Resolution.WITHDRAWN,
}


def follow(requests: Collection[RemovalState]) -> tuple[CaseState, Resolution]:
    """The state and resolution that these requests (at least one) ask for."""
    if _WITH_PLATFORM & set(requests):
        return CaseState.WAITING_PLATFORM, Resolution.UNSPECIFIED
    if any(request not in _ENDED for request in requests):
        return CaseState.ACTION_STARTED, Resolution.UNSPECIFIED
    worst = next(state for state in _ENDED if state in requests)
    return CaseState.RESOLVED, _ENDED[worst]
