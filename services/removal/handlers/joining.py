"""Whose request goes on with another's about the same page?

Several subscribers may stand on one page. To ask a platform for it again while it is dealing with it gets requests
called duplicate and groundless (Network Act 44-13). So a request waits for an earlier one about the same page, sent for
somebody else, where the mandates of both say that they may be joined, and nowhere else. It is looked after like any
other meanwhile; nothing passes from one to the other but that the page was seen to be gone.
"""

from __future__ import annotations

from services.removal.domain.filing import Mandate, Scope
from services.removal.domain.guards import ALONE, JOINED
from services.removal.domain.policy import Policy
from services.removal.domain.request import Request
from services.removal.domain.states import State
from services.removal.handlers import Needs
from services.removal.handlers.keeping import STANDING
from services.removal.handlers.watching import see_removed
from services.removal.ports import Note, Work

PARTED = "PARTED"


async def join(needs: Needs, work: Work, request: Request, policy: Policy, mandate: Mandate | None) -> bool:
    """Whether the request is not to be filed (now): it waits for another's, or that one ended with the content gone.
    The caller has locked the request and saves it.
    """
    if request.joined_id and await _ended_well(work, request):
        request.joined_id = ""
        see_removed(request, JOINED, needs.clock.now())
        return True
    other = await _other(needs, work, request, policy, mandate)
    if other != request.joined_id:
        note = Note("JOIN", JOINED if other else PARTED, rule_version=request.policy_version)
        await work.note(request, note, needs.clock.now())
    request.joined_id = other
    if other:
        request.wait(JOINED)
    elif request.reason == JOINED:
        request.wait("")
    return bool(other)


async def _other(needs: Needs, work: Work, request: Request, policy: Policy, mandate: Mandate | None) -> str:
    """The request to wait for; empty for none. What was begun to be sent waits for nobody: it may have arrived."""
    begun = request.pending is not None and request.pending.tries > 0
    if mandate is None or Scope.JOIN not in mandate.scope or begun or ALONE in request.released:
        return ""
    now = needs.clock.now()
    for request_id, subscriber_id in await work.others_about(request, STANDING):
        if any(item.covers(policy.platform, now, Scope.JOIN) for item in await work.mandates(subscriber_id)):
            return request_id
    return ""


async def _ended_well(work: Work, request: Request) -> bool:
    other = await work.request(request.joined_id, lock=False)
    return other is not None and other.state is State.REMOVED
