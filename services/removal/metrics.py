"""What does removal count and measure?"""

from __future__ import annotations

from services.chassis.metrics import LONG_EDGES_S, counter, gauge, histogram
from services.removal.domain.request import Request, Transition
from services.removal.domain.states import ENDED as END_STATES
from services.removal.domain.states import State

MOVES = counter("jikimi_removal_moves_total", "How do removal requests move on, by platform?", "platform", "state")
ENDED = counter(
    "jikimi_removal_ended_total",
    "How do requests end that a platform had received: with the content gone, or without, by platform?",
    "platform",
    "outcome",
)
TIME_TO_REMOVAL = histogram(
    "jikimi_removal_seconds",
    "How long after its acceptance is content seen to be gone, by platform?",
    "platform",
    edges=LONG_EDGES_S,
)
REQUESTS = gauge("jikimi_removal_requests", "How many requests are in which state?", "state")
SILENT = gauge(
    "jikimi_removal_silent",
    "How many requests did a platform receive more than three days ago, and nothing came?",
    "platform",
)


def count_move(request: Request, transition: Transition) -> None:
    """Counts a move. Success is what the gate takes for it: gone, or blinded for a time, after the platform received
    it. What the subscriber took back is no failure of anybody."""
    MOVES.add(request.platform, transition.after.value)
    if request.receive_time is None:
        return
    if transition.before is not State.TEMP_BLOCKED and transition.after in (State.REMOVED, State.TEMP_BLOCKED):
        ENDED.add(request.platform, "gone")
        TIME_TO_REMOVAL.observe(max(0.0, (transition.at - request.receive_time).total_seconds()), request.platform)
    elif transition.after in END_STATES - {State.REMOVED, State.WITHDRAWN}:
        ENDED.add(request.platform, "not_gone")
