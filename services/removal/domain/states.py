"""Where a removal request stands, and how it may move on.

The diagram in README.md shows the same table; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum


class State(StrEnum):
    """Where a request stands; the names of the contract without their prefix."""

    DRAFT = "DRAFT"
    CHECKED = "CHECKED"
    SUBMITTED = "SUBMITTED"
    RECEIVED = "RECEIVED"
    REMOVED = "REMOVED"
    TEMP_BLOCKED = "TEMP_BLOCKED"
    DEINDEXED = "DEINDEXED"
    UNVERIFIED = "UNVERIFIED"
    REJECTED = "REJECTED"
    SUPPLEMENTED = "SUPPLEMENTED"
    UNCERTAIN = "UNCERTAIN"
    UNRESOLVED = "UNRESOLVED"
    WITHDRAWN = "WITHDRAWN"


class Move(StrEnum):
    """What may happen to a request."""

    CHECK = "CHECK"
    """Every required field is there."""
    SUBMIT = "SUBMIT"
    """It was sent."""
    ACCEPT = "ACCEPT"
    """The platform itself took it: the denominator of success."""
    REJECT = "REJECT"
    """The platform refused it."""
    REPORT_REMOVED = "REPORT_REMOVED"
    """The platform says that the content is gone."""
    SEE_REMOVED = "SEE_REMOVED"
    """We saw that it is gone."""
    SEE_PRESENT = "SEE_PRESENT"
    """We, or the subscriber, saw that it is still there although the platform said otherwise."""
    BLOCK = "BLOCK"
    """The platform blinded it for a time (Network Act 44-2)."""
    DEINDEX = "DEINDEX"
    """Search does not find it any more."""
    SUPPLEMENT = "SUPPLEMENT"
    """Evidence was added after a rejection."""
    LOSE_TRACK = "LOSE_TRACK"
    """It may or may not have been sent: a person decides."""
    GIVE_UP = "GIVE_UP"
    """Nothing more can be tried."""
    WITHDRAW = "WITHDRAW"
    """It was taken back."""


class Outcome(StrEnum):
    """What became of one attempt."""

    INTENDED = "INTENDED"
    SENT = "SENT"
    ACCEPTED = "ACCEPTED"
    REFUSED = "REFUSED"
    UNCERTAIN = "UNCERTAIN"


class IllegalMoveError(Exception):
    """A move that the state does not allow; nothing was changed."""

    def __init__(self, state: State, move: Move) -> None:
        super().__init__(f"{move} is not possible in {state}")
        self.state = state
        self.move = move


ENDED = frozenset({State.REMOVED, State.DEINDEXED, State.UNVERIFIED, State.UNRESOLVED, State.WITHDRAWN})
"""Nobody waits for anything any more. A temporary block is not an end: it is looked at again when it is over."""
SENDABLE = frozenset({State.CHECKED, State.SUPPLEMENTED})
"""The next attempt may be sent from here."""
LOOKED_AT = frozenset(
    {
        State.CHECKED,
        State.SUBMITTED,
        State.RECEIVED,
        State.TEMP_BLOCKED,
        State.UNVERIFIED,
        State.REJECTED,
        State.SUPPLEMENTED,
        State.UNCERTAIN,
    }
)
"""Whatever its state, content that is seen to be gone is removed; a page may also go before anybody was asked."""


def after(state: State, move: Move) -> State:
    """The state after `move`. Raises IllegalMoveError where the move is not possible."""
    match state, move:
        case State.DRAFT, Move.CHECK:
            return State.CHECKED
        case ((State.CHECKED | State.SUPPLEMENTED | State.UNCERTAIN), Move.SUBMIT):
            return State.SUBMITTED
        case ((State.SUBMITTED | State.UNCERTAIN), Move.ACCEPT):
            return State.RECEIVED
        case ((State.SUBMITTED | State.UNCERTAIN | State.RECEIVED), Move.REJECT):
            return State.REJECTED
        case ((State.RECEIVED | State.TEMP_BLOCKED), Move.REPORT_REMOVED):
            return State.UNVERIFIED
        case _, Move.SEE_REMOVED if state in LOOKED_AT:
            return State.REMOVED
        case State.UNVERIFIED, Move.SEE_PRESENT:
            return State.RECEIVED
        case ((State.RECEIVED | State.UNVERIFIED), Move.BLOCK):
            return State.TEMP_BLOCKED
        case ((State.RECEIVED | State.UNVERIFIED), Move.DEINDEX):
            return State.DEINDEXED
        case State.REJECTED, Move.SUPPLEMENT:
            return State.SUPPLEMENTED
        case ((State.CHECKED | State.SUPPLEMENTED | State.SUBMITTED), Move.LOSE_TRACK):
            return State.UNCERTAIN
        case _, Move.GIVE_UP if state in LOOKED_AT and state is not State.UNVERIFIED:
            return State.UNRESOLVED
        case _, Move.WITHDRAW if state not in ENDED and state is not State.TEMP_BLOCKED:
            return State.WITHDRAWN
        case _:
            raise IllegalMoveError(state, move)


def transitions() -> Iterator[tuple[State, Move, State]]:
    """Every legal move, as (from, move, to)."""
    for state in State:
        for move in Move:
            try:
                yield state, move, after(state, move)
            except IllegalMoveError:
                continue
