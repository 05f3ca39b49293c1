"""What removal does: prepare requests, send them, watch the pages, read replies, follow the cases, obey commands.
One use case, one function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.chassis.clock import Clock
from services.chassis.together import Together
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


MOMENT_S = 0.1
"""How long what comes steadily may gather for one transaction: a request waits for four, and nobody for it."""


def _queue() -> Together[Any]:
    return Together(moment=MOMENT_S)


@dataclass(frozen=True)
class Queues:
    """The transactions that requests share on their way: what one request costs is mostly their statements."""

    reading: Together[Any] = field(default_factory=_queue)
    making: Together[Any] = field(default_factory=_queue)
    beginning: Together[Any] = field(default_factory=_queue)
    recording: Together[Any] = field(default_factory=_queue)


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
    queues: Queues = field(default_factory=Queues)
