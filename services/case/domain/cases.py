"""What is a case, and how may it change?

            sighting, reopen
          ┌────────────────────────────────────────────┐
        OPEN ──> ACTION_STARTED ──> WAITING_PLATFORM ──> RESOLVED ──> CLOSED ──> PURGED
                      ^    └──────────────┘ ^               │
                      └─────────────────────┴───────────────┘  new evidence, an open removal request

Every living state may be CLOSED; every state but PURGED may become MERGED and comes back by an un-merge.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.case.domain.priorities import Burst
from services.case.domain.words import CaseKind, CaseState, Priority, PriorityReason, Resolution, Verdict
from services.chassis.errors import FailedPrecondition

_NEVER = datetime.min.replace(tzinfo=UTC)

MOVES: dict[CaseState, frozenset[CaseState]] = {
    CaseState.OPEN: frozenset(
        {CaseState.ACTION_STARTED, CaseState.WAITING_PLATFORM, CaseState.RESOLVED, CaseState.CLOSED}
    ),
    CaseState.ACTION_STARTED: frozenset(
        {CaseState.WAITING_PLATFORM, CaseState.RESOLVED, CaseState.CLOSED}
    ),
    CaseState.WAITING_PLATFORM: frozenset(
        {CaseState.ACTION_STARTED, CaseState.RESOLVED, CaseState.CLOSED}
    ),
    CaseState.RESOLVED: frozenset({CaseState.ACTION_STARTED, CaseState.WAITING_PLATFORM, CaseState.CLOSED}),
    CaseState.CLOSED: frozenset({CaseState.OPEN, CaseState.PURGED}),
    CaseState.PURGED: frozenset(),
    CaseState.MERGED: frozenset(),
}
"""From → to. Merging and un-merging stand beside this table: they change no work."""

_URGENCY = (
    CaseState.WAITING_PLATFORM,
    CaseState.ACTION_STARTED,
    CaseState.OPEN,
    CaseState.RESOLVED,
    CaseState.CLOSED,
    CaseState.PURGED,
)
"""Which state a merged incident takes: the first of these that either side is in."""


def illegal(state: CaseState, to: CaseState) -> FailedPrecondition:
    """The refusal of a move that the table does not hold."""
    return FailedPrecondition(
        "ILLEGAL_TRANSITION",
        "The case is not in a state that allows this.",
        metadata={"from": state.name, "to": to.name},
        violations=[("case", "ILLEGAL_TRANSITION")],
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a case stood when another was merged into it, so that an un-merge can put it back."""

    state: CaseState
    resolution: Resolution
    state_time: datetime
    close_time: datetime | None


@dataclass(slots=True)
class Case:
    """One case. Only the root of a merged incident changes; the others keep what they were when merged."""

    case_id: str
    subscriber_id: str
    kinds: list[CaseKind]
    """The first is the primary one."""
    discover_time: datetime
    create_time: datetime
    update_time: datetime
    latency_ms: int
    root_case_id: str = ""
    state: CaseState = CaseState.OPEN
    resolution: Resolution = Resolution.UNSPECIFIED
    channel_groups: list[str] = field(default_factory=list)
    sighting_count: int = 0
    """Sightings of the whole incident while it is a root."""
    version: int = 1
    verdict: Verdict = Verdict.UNSPECIFIED
    occurrence: int = 0
    """How often it was reopened."""
    due_time: datetime | None = None
    merged_from_state: CaseState | None = None
    """What it was before it became an alias; None while it is a root."""
    merged_from_resolution: Resolution = Resolution.UNSPECIFIED
    state_time: datetime = field(default_factory=lambda: _NEVER)
    """Since when it is in its state; of an alias, in the state that it was merged from."""
    close_time: datetime | None = None
    """When it was closed; None while it is not."""
    reasons: list[PriorityReason] = field(default_factory=list)
    """What makes it urgent: what its sightings say, in order of appearance."""
    burst: Burst = field(default_factory=Burst)
    recurrence_of: str = ""
    """Case that was closed so long before that this one was opened instead; empty for none."""
    priority: Priority = Priority.NORMAL
    deadline_time: datetime | None = None
    """Both as stored: they follow from the reasons and the state by the rules of urgency."""

    def __post_init__(self) -> None:
        self.root_case_id = self.root_case_id or self.case_id
        self.state_time = self.create_time if self.state_time is _NEVER else self.state_time

    @property
    def order(self) -> tuple[datetime, str]:
        """The oldest root of an incident is the one with the least of these."""
        return self.create_time, self.case_id

    @property
    def is_false_positive(self) -> bool:
        """Closed because it is not the subscriber: sightings are counted and nothing else happens."""
        return self.state is CaseState.CLOSED and self.resolution is Resolution.FALSE_POSITIVE

    def move(self, to: CaseState, now: datetime, resolution: Resolution = Resolution.UNSPECIFIED) -> None:
        """Takes a step of the table. Raises FailedPrecondition ILLEGAL_TRANSITION."""
        if to not in MOVES[self.state]:
            raise illegal(self.state, to)
        self.state = to
        self.resolution = resolution
        self.state_time = now
        self.close_time = now if to is CaseState.CLOSED else None
        self.touch(now)

    def reopen(self, now: datetime) -> None:
        """Takes a closed case up again. Raises FailedPrecondition ILLEGAL_TRANSITION."""
        self.move(CaseState.OPEN, now)
        self.occurrence += 1
        self.due_time = None

    def sight(
        self,
        kind: CaseKind,
        channel_group: str,
        discover_time: datetime,
        now: datetime,
        reasons: Collection[PriorityReason] = (),
    ) -> bool:
        """Counts a sighting. Returns True when it opened the closed case again; one that is closed as false
        positive stays closed.
        """
        self.sighting_count += 1
        self._widen([kind], [channel_group], discover_time, reasons)
        if self.state is CaseState.CLOSED and not self.is_false_positive:
            self.reopen(now)
            return True
        self.touch(now)
        return False

    def absorb(self, other: Case, now: datetime) -> bool:
        """Makes `other`, a root, an alias of this root. Returns True when that opened this one again: what
        somebody works on must not vanish in a closed case.
        """
        was = self.state
        first = min((self, other), key=lambda case: (_URGENCY.index(case.state), case.is_false_positive))
        state, resolution = first.state, first.resolution
        reopened = was is CaseState.CLOSED and state is not CaseState.CLOSED
        self.state, self.resolution = state, resolution
        self.state_time, self.close_time = first.state_time, first.close_time
        self.occurrence += reopened
        self.due_time = first.due_time
        self.sighting_count += other.sighting_count
        self._widen(other.kinds, other.channel_groups, other.discover_time, other.reasons)
        self.touch(now)
        other.merged_from_state, other.merged_from_resolution = other.state, other.resolution
        other.state, other.resolution = CaseState.MERGED, Resolution.UNSPECIFIED
        other.root_case_id = self.case_id
        other.touch(now)
        return reopened

    def part(self, now: datetime) -> None:
        """Makes an alias a root again, as it was when it was merged. Raises FailedPrecondition NOT_MERGED."""
        if self.state is not CaseState.MERGED or self.merged_from_state is None:
            raise FailedPrecondition("NOT_MERGED", "The case is not merged.")
        self.state, self.resolution = self.merged_from_state, self.merged_from_resolution
        self.merged_from_state, self.merged_from_resolution = None, Resolution.UNSPECIFIED
        self.root_case_id = self.case_id
        self.touch(now)

    @property
    def standing(self) -> Standing:
        """Where it stands now."""
        return Standing(self.state, self.resolution, self.state_time, self.close_time)

    def took_from(self, alias: Case, before: Standing) -> bool:
        """Whether this root is where it is because `alias` was merged into it, and nothing has moved it since."""
        taken = (alias.merged_from_state, alias.state_time)
        return (self.state, self.state_time) == taken and before != self.standing

    def put_back(self, before: Standing, now: datetime) -> None:
        """Makes a root stand again where it stood before a merge that was taken back."""
        self.state, self.resolution = before.state, before.resolution
        self.state_time, self.close_time = before.state_time, before.close_time
        self.touch(now)

    def touch(self, now: datetime) -> None:
        """Notes a change."""
        self.version += 1
        self.update_time = now

    def _widen(
        self,
        kinds: Collection[CaseKind],
        groups: Collection[str],
        discover_time: datetime,
        reasons: Collection[PriorityReason],
    ) -> None:
        self.reasons.extend(reason for reason in reasons if reason not in self.reasons)
        self.kinds.extend(kind for kind in kinds if kind not in self.kinds)
        self.channel_groups.extend(g for g in groups if g and g not in self.channel_groups)
        self.discover_time = min(self.discover_time, discover_time)
