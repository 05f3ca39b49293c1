"""What removal does: prepare requests, send them, watch the pages, read replies, follow the cases, obey commands.
One use case, one function.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.chassis.clock import Clock
from services.removal.domain.following import Rules as FollowingRules
from services.removal.domain.guards import Rules as GuardRules
from services.removal.domain.replies import Rules as ReplyRules
from services.removal.ports import CaseFile, Counts, Policies, StatusDesk, Store, Watcher, Ways

PREPARE = "PREPARE"
"""Due work: make requests of the packed sightings of a case (entity: the case)."""
SUBMIT = "SUBMIT"
"""Due work: send a request (entity: the request)."""
SUBMIT_AGAIN = "SUBMIT_AGAIN"
"""The same after a pause. A kind of its own: a running job that schedules itself would run at once."""
FOLLOW = "FOLLOW"
"""Due work: look at the page of a request and at its clocks (entity: the request)."""
SUPPLEMENT = "SUPPLEMENT"
"""Due work: answer a rejection with evidence and put the request again (entity: the request)."""

COUNT = "COUNT"
"""Due work: count for the public what has happened (one row)."""

DRY_RUN = "DRY_RUN"
ILLEGAL_TRANSITION = "ILLEGAL_TRANSITION"


@dataclass(frozen=True)
class Needs:
    """What the use cases need."""

    store: Store
    case_file: CaseFile
    policies: Policies
    ways: Ways
    watcher: Watcher
    desk: StatusDesk
    clock: Clock
    following: FollowingRules
    guards: GuardRules
    replies: ReplyRules
    counts: Counts
