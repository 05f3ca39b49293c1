"""How is a request put back after something happened to it, so that nothing about it is forgotten?"""

from __future__ import annotations

from datetime import datetime, timedelta

from services.removal.domain.following import moments, waits_for_person
from services.removal.domain.policy import Path, Policy
from services.removal.domain.request import Request
from services.removal.domain.states import State
from services.removal.handlers import FOLLOW, SUBMIT, Needs
from services.removal.ports import SYSTEM, Cause, Work

HANDED = "HANDED"
"""Mark of a request that the person was told is theirs to file."""
ASKED = "ASKED"
"""Mark of a request that the person was asked about: may it be filed?"""
STANDING = frozenset({State.CHECKED, State.SUPPLEMENTED, State.SUBMITTED, State.RECEIVED, State.TEMP_BLOCKED})
"""Where another's request about the same page is waited for: on its way, with the platform, or done for a while."""
SOON = timedelta(seconds=1)
"""A step that makes no progress is not taken again at once."""


async def keep(
    needs: Needs,
    work: Work,
    request: Request,
    policy: Policy,
    cause: Cause = SYSTEM,
    *,
    not_before: datetime | None = None,
    schedule: bool = True,
) -> None:
    """Saves a request, tells the person when it has become theirs to file, and schedules what comes next; without
    `schedule` the due work that is running stays what comes next.
    """
    now = needs.clock.now()
    told = HANDED if request.path is Path.PERSON else ASKED
    tells = waits_for_person(request) and told not in request.marks
    if not request.is_new and (tells or (request.transitions and request.state not in STANDING)):
        # Whoever waits for it goes on by themselves; nobody waits for one that is made here.
        await work.schedule(SUBMIT, await work.joined_to(request.request_id), now)
    if tells:
        request.mark(told)
        await work.hand_to_person(request, 1, now)
    await work.save(request, cause)
    upcoming = moments(request, policy, needs.following) if schedule else ()
    if upcoming:
        await work.schedule(FOLLOW, [request.request_id], max(upcoming[0].time, not_before or now))
