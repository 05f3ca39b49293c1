"""When does a request need attention next, and what for?

Every time here is business time, counted from the moment the request came into its state; what was done in that
state is noted in the request, so that a crash, a late worker or a clock that jumps repeats nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.removal.domain.guards import WAITS_FOR_VERDICT
from services.removal.domain.policy import Path, Policy
from services.removal.domain.request import LAPSED, Request
from services.removal.domain.sight import SightRules
from services.removal.domain.states import SENDABLE, State

NO_ACKNOWLEDGEMENT = "NO_ACKNOWLEDGEMENT"
OVERDUE = "OVERDUE"
SILENCE = "SILENCE"
PERSON_DID_NOT_FILE = "PERSON_DID_NOT_FILE"
NO_VERDICT = "NO_VERDICT"
NOBODY_ANSWERED = "NOBODY_ANSWERED"
REMINDED = "REMINDED"


class Step(StrEnum):
    """What is to be done."""

    LOOK = "LOOK"
    MARK = "MARK"
    """Note that a time has passed."""
    REMIND = "REMIND"
    """Tell the person that it is theirs to file, or to say that it may be filed."""
    SUPPLEMENT = "SUPPLEMENT"
    GIVE_UP = "GIVE_UP"
    PART = "PART"
    """Wait no longer for another subscriber's request about the same page."""


@dataclass(frozen=True)
class Rules:
    """The rules of `rules/following.yaml`."""

    version: str
    sight: SightRules
    look_after: tuple[timedelta, ...]
    """Looks at a page that somebody was asked to take down, from the change of state; rising."""
    watch_after: tuple[timedelta, ...]
    """Looks at a page whose content is gone, from its end; the last one ends the repost watch."""
    blind: timedelta
    """How long a temporary measure lasts that a page shows (Network Act 44-2: at most thirty days)."""
    confirm_after: timedelta
    """Between a look that finds content perhaps gone and the one that confirms it."""
    later: timedelta
    """After a look that was not possible, where nobody says when it is."""
    remind_after: tuple[timedelta, ...]
    """Reminders of a person who has to file, from the change of state."""
    person_gives_up: timedelta
    """A request that nobody files, or that a person had to decide, ends after this."""
    most_episodes: int
    """Episodes of one page; a content that comes back more often is left to a person."""
    sees: bool = True
    """Whether this process looks at pages at all; without, later looks ask platforms that tell how a request stands."""


@dataclass(frozen=True)
class Moment:
    """A step and its time."""

    time: datetime
    step: Step
    name: str = ""


def waits_for_person(request: Request) -> bool:
    """Whether nothing goes on before the subscriber does something: files it, or says that it may be filed."""
    asked = request.path is Path.PERSON or request.reason == WAITS_FOR_VERDICT
    return asked and request.state in SENDABLE


def moments(request: Request, policy: Policy, rules: Rules) -> tuple[Moment, ...]:
    """What is still to be done about a request in its state, the earliest first; past times are overdue."""
    if LAPSED in request.marks:
        return ()
    since = request.state_time or request.create_time
    found = [*_timers(request, policy, rules, since), *_looks(request, rules, since)]
    return tuple(sorted(found, key=lambda moment: moment.time))


def _timers(request: Request, policy: Policy, rules: Rules, since: datetime) -> Iterator[Moment]:
    expected = policy.expected
    match request.state:
        case State.SUBMITTED:
            yield from _mark(request, since + expected.acknowledge, NO_ACKNOWLEDGEMENT)
            yield Moment(since + expected.give_up, Step.GIVE_UP, SILENCE)
        case State.RECEIVED:
            yield from _mark(request, since + expected.decide, OVERDUE)
            yield Moment(since + expected.give_up, Step.GIVE_UP, SILENCE)
        case State.REJECTED:
            if Step.SUPPLEMENT not in request.marks:
                yield Moment(since + policy.resubmission.pause, Step.SUPPLEMENT)
            yield Moment(since + rules.person_gives_up, Step.GIVE_UP, NOBODY_ANSWERED)
        case State.CHECKED | State.SUPPLEMENTED if waits_for_person(request):
            for number, pause in enumerate(rules.remind_after):
                if f"{REMINDED}_{number}" not in request.marks:
                    yield Moment(since + pause, Step.REMIND, f"{REMINDED}_{number}")
            end = PERSON_DID_NOT_FILE if request.path is Path.PERSON else NO_VERDICT
            yield Moment(since + rules.person_gives_up, Step.GIVE_UP, end)
        case State.CHECKED | State.SUPPLEMENTED if request.joined_id:
            yield Moment(since + expected.give_up, Step.PART)


def _looks(request: Request, rules: Rules, since: datetime) -> Iterator[Moment]:
    if request.gone_time is not None:
        yield Moment(request.gone_time + rules.confirm_after, Step.LOOK)
        return
    if request.claim_time is not None:
        yield Moment(request.claim_time, Step.LOOK)
        return
    match request.state:
        case State.CHECKED | State.SUPPLEMENTED if request.path is not Path.PERSON:
            # One look before anybody was asked: what later ones are compared with. Joined to another's request it is
            # looked after like one that was sent.
            schedule: tuple[timedelta, ...] = rules.look_after if request.joined_id else ()
        case State.TEMP_BLOCKED:
            if request.end_time is None and request.block_until is not None:
                yield Moment(request.block_until, Step.LOOK)
            return
        case State.REMOVED | State.UNVERIFIED:
            schedule = rules.watch_after
        case State.CHECKED | State.SUBMITTED | State.RECEIVED | State.REJECTED | State.UNCERTAIN:
            schedule = rules.look_after
        case _:
            return
    # The first look is at once: a request that was looked at before begins with the second (Request.move), and so does
    # every request where nobody looks at pages, for then the first could but find that it sees nothing.
    times = (timedelta(), *schedule)
    number = request.looks if rules.sees else max(1, request.looks)
    if number < len(times):
        yield Moment(since + times[number], Step.LOOK)


def _mark(request: Request, time: datetime, name: str) -> Iterator[Moment]:
    if name not in request.marks:
        yield Moment(time, Step.MARK, name)
