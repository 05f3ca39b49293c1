"""What a removal request is, and what its moves leave behind."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime

from services.removal.domain.policy import MOST_ATTEMPTS, Path
from services.removal.domain.states import ENDED, SENDABLE, Move, Outcome, State, after

REAPPEARED = "REAPPEARED"
"""Why the next episode was made: what was gone was there again."""
Page = tuple[str, bytes, str]
"""(subscriber, keyed hash of the address, platform): what the episodes of one request have in common."""
LAPSED = "LAPSED"
"""Mark of a request that another episode goes on for."""


def attempt_id(request_id: str, number: int) -> str:
    """Id of an attempt (UUIDv5): the same after every crash, hence the platform's idempotency key."""
    return str(uuid.uuid5(uuid.UUID(request_id), f"attempt:{number}"))


class ResubmissionLimitError(Exception):
    """The request was sent as often as is decent."""


@dataclass
class Attempt:
    """One time the request is put to the platform; sent at most once, asked about as often as needed."""

    number: int
    outcome: Outcome = Outcome.INTENDED
    in_flight: bool = False
    """A process has begun to send it and has not recorded what came of it."""
    tries: int = 0
    """How often sending was begun, under the same idempotency key."""
    send_time: datetime | None = None
    reference: str = ""
    reason: str = ""
    attempt_id: str = ""
    """UUIDv5 of request and number: what a reply may quote, and the platform's idempotency key."""


@dataclass(frozen=True)
class Transition:
    """One move that was made, for log and events."""

    before: State | None
    """None when the request was made."""
    after: State
    move: Move | None
    attempt: int
    version: int
    at: datetime
    reason: str


@dataclass
class Request:
    """A request that a platform take one page down."""

    request_id: str
    subscriber_id: str
    platform: str
    url_ref: bytes
    episode: int
    sighting_id: str
    policy_version: str
    path: Path
    create_time: datetime
    evidence_sealed: bytes = field(default=b"", repr=False)
    state: State = State.DRAFT
    reason: str = ""
    missing: tuple[str, ...] = ()
    version: int = 1
    receive_time: datetime | None = None
    end_time: datetime | None = None
    block_until: datetime | None = None
    submit_time: datetime | None = None
    """When it first went out."""
    state_time: datetime | None = None
    """When it came into its state."""
    slot_time: datetime | None = None
    """When its turn at the platform comes; None where it has none."""
    claim_time: datetime | None = None
    """When the platform said that the content is gone and nobody had looked yet."""
    gone_time: datetime | None = None
    """When it first looked gone, while a further look has to confirm it."""
    looks: int = 0
    """Looks at the page since it came into its state."""
    look_time: datetime | None = None
    """The latest look."""
    released: tuple[str, ...] = ()
    """Holds that were lifted for good: VERDICT by the subscriber, TWO_PEOPLE by review, ALONE by the clock."""
    marks: tuple[str, ...] = ()
    """What was reminded of since it came into its state."""
    groundless: bool = False
    """Whether the platform found no ground for it (Network Act 44-13)."""
    joined_id: str = ""
    """Another subscriber's request about the same page that it waits for; empty for none."""
    previous_id: str = ""
    """Request of the episode before; empty for the first."""
    baseline_sealed: bytes = field(default=b"", repr=False)
    """What the page looked like while the content was there."""
    case_ids: tuple[str, ...] = ()
    attempts: list[Attempt] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list, repr=False)
    """Moves since it was loaded; whoever saves it writes them to log and outbox."""

    def made(self, at: datetime, reason: str = "") -> None:
        """Notes that the request exists now, and why where it is not the first."""
        self.state_time = at
        self.transitions.append(Transition(None, self.state, None, 0, self.version, at, reason))

    def move(self, move: Move, at: datetime, reason: str = "") -> None:
        """Makes a move. Raises IllegalMoveError and changes nothing where it is not possible."""
        before, self.state = self.state, after(self.state, move)
        self.version += 1
        self.reason = reason
        if move is Move.ACCEPT and self.receive_time is None:
            # A resubmission does not restart the clock of TTR.
            self.receive_time = at
        if move is Move.SUBMIT and self.submit_time is None:
            self.submit_time = at
        self.state_time, self.looks, self.marks = at, 0 if self.look_time is None else 1, ()
        self.claim_time = self.gone_time = self.slot_time = None
        self.end_time = at if self.state in ENDED else None
        self.transitions.append(Transition(before, self.state, move, len(self.attempts), self.version, at, reason))

    @property
    def is_new(self) -> bool:
        """Whether it was made since it was loaded, so that nobody knows of it yet."""
        return any(transition.before is None for transition in self.transitions)

    @property
    def page(self) -> Page:
        """What it is about, and for whom."""
        return self.subscriber_id, self.url_ref, self.platform

    @property
    def pending(self) -> Attempt | None:
        """The attempt that is still to be sent, or being sent."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.outcome is Outcome.INTENDED else None

    @property
    def may_be_sent(self) -> bool:
        """Whether the next attempt may go out now: the first by itself, a later one when a person asked for it."""
        return self.state is State.CHECKED or (self.pending is not None and self.state in SENDABLE | {State.UNCERTAIN})

    def next_attempt(self, most: int = MOST_ATTEMPTS) -> Attempt:
        """The pending attempt, or a new one. Raises ResubmissionLimitError."""
        if self.pending is not None:
            return self.pending
        number = len(self.attempts) + 1
        if number > most:
            raise ResubmissionLimitError
        self.attempts.append(Attempt(number, attempt_id=attempt_id(self.request_id, number)))
        return self.attempts[-1]

    def wait(self, reason: str, path: Path | None = None) -> None:
        """Stays where it is; `reason` says what it waits for."""
        self.reason = reason
        self.path = path or self.path

    def accept(self, attempt: Attempt, reference: str, at: datetime) -> None:
        """The platform took it."""
        attempt.outcome, attempt.reference, attempt.in_flight, attempt.reason = Outcome.ACCEPTED, reference, False, ""
        self.groundless = False
        if self.state in SENDABLE:
            attempt.send_time = at
            self.move(Move.SUBMIT, at)
        self.move(Move.ACCEPT, at)

    def sent(self, attempt: Attempt, at: datetime) -> None:
        """It is out; the platform has not said yet that it took it."""
        attempt.outcome, attempt.in_flight, attempt.send_time, attempt.reason = Outcome.SENT, False, at, ""
        self.move(Move.SUBMIT, at)

    def refuse(
        self, attempt: Attempt | None, reason: str, at: datetime, *, most: int = MOST_ATTEMPTS, groundless: bool = False
    ) -> None:
        """The platform rejected it; after the last attempt nothing more can be tried."""
        if self.state in SENDABLE:
            self.move(Move.SUBMIT, at)
        self.groundless = groundless
        self.move(Move.REJECT, at, reason)
        if attempt is not None:
            attempt.outcome, attempt.in_flight, attempt.reason = Outcome.REFUSED, False, reason
            attempt.send_time = attempt.send_time or at
        if len(self.attempts) >= most:
            self.move(Move.GIVE_UP, at, "RESUBMISSION_LIMIT")

    def lose_track(self, attempt: Attempt, reason: str, at: datetime) -> None:
        """It may or may not have arrived."""
        attempt.outcome, attempt.in_flight, attempt.reason = Outcome.UNCERTAIN, False, reason
        if self.state is not State.UNCERTAIN:
            self.move(Move.LOSE_TRACK, at, reason)

    def lapse(self, at: datetime, reason: str) -> None:
        """What was reached is over without another state: it stays in the books as it was, and nobody waits for it."""
        self.end_time = self.end_time or at
        self.reason = reason
        self.mark(LAPSED)

    def mark(self, *names: str) -> None:
        """Notes what was reminded of."""
        self.marks = tuple(dict.fromkeys((*self.marks, *names)))

    def put_off(self, attempt: Attempt, reason: str) -> None:
        """It surely did not arrive, or may be sent again under the same key: later."""
        attempt.in_flight, attempt.reason = False, reason
        self.reason = reason

    def bar(self, attempt: Attempt, reason: str) -> None:
        """The way is closed to a program: the person has to file it."""
        attempt.in_flight, attempt.reason = False, reason
        self.wait(reason, Path.PERSON)
