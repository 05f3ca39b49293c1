"""What the gate's use cases need from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from google.protobuf.message import Message

from services.chassis.grants import Grant
from services.gate.domain.channels import ChannelLevel, OnboardingStep, Signals
from services.gate.domain.indexes import ReplicaFacts
from services.gate.domain.kpis import Outcome, TestKind, TestRun
from services.gate.domain.labels import GivenLabel
from services.gate.domain.leak_signals import LeakDecision, Refusals
from services.gate.domain.measures import MatchDecision, NotificationFacts
from services.gate.domain.overrides import Override
from services.gate.domain.purges import Due, Purged
from services.gate.domain.recurrence import Closing, Find
from services.gate.domain.removals import RemovalStep
from services.gate.domain.report import Report
from services.gate.domain.rights import RightsStep
from services.gate.domain.samples import Alert, Sample
from services.gate.domain.user_actions import UploadWarning


@dataclass(frozen=True)
class Decision:
    """A judgement about a release."""

    decision_id: str
    release: str
    stage: str
    outcome: Outcome
    reasons: Sequence[str]
    create_time: datetime
    reports: Sequence[Report]
    override: Override | None = None
    """By which two people let the release go out although it is INCONCLUSIVE."""


@dataclass(frozen=True)
class Command:
    """A call that must not be done twice."""

    caller: str
    method: str
    request_id: str
    request: Message


@dataclass(frozen=True)
class RecordedRun:
    """A test run as it is kept."""

    run: TestRun
    release: str
    junit_sha256: bytes
    create_time: datetime


@dataclass(frozen=True, slots=True)
class LogHead:
    """Where a chain of the case log ended, as it was published."""

    chain_id: str
    sequence: int
    head_hash: bytes
    update_time: datetime


class Heads(Protocol):
    """The heads of the case log that the gate keeps."""

    async def last(self, after: str, limit: int) -> Sequence[LogHead]:
        """The last head of every chain behind a chain id, in the order of the ids."""

    async def of(self, chain_id: str, after: tuple[int, bytes], limit: int) -> Sequence[LogHead]:
        """Every head of a chain behind a (sequence, hash), in that order."""


Sealed = Callable[[Sequence[LogHead]], bytes]
"""A signed document that says which heads the gate holds."""


class Records(Protocol):
    """Log records as they were at one moment; nothing that arrives meanwhile is seen."""

    async def cut_off(self) -> Mapping[str, int]:
        """publisher/partition → last position that is in this view."""

    async def match_decisions(self, since: datetime, until: datetime) -> Sequence[MatchDecision]:
        """Decisions of the MATCH band, once each."""

    async def count(self, record_type: str, facet: str, since: datetime, until: datetime) -> int:
        """Records of a type with a facet (band, transition or action)."""

    async def commits(self, since: datetime) -> Mapping[str, datetime]:
        """Decision → when its case was opened or its sighting committed, the earliest time each."""

    async def dropped(self, since: datetime) -> Set[str]:
        """Decisions that opened nothing because their subscriber is not processed."""

    async def notifications(self, since: datetime, until: datetime) -> Sequence[NotificationFacts]:
        """Notifications made in the window, with all that is known of them since."""

    async def foreign(self, record_type: str, since: datetime, until: datetime) -> int:
        """Records of a type that came from somebody who does not write it; they count nowhere."""

    async def replicas(self, index: str, since: datetime, until: datetime) -> Sequence[ReplicaFacts]:
        """What each replica said of an index, each replica once."""

    async def upload_warnings(self, start: datetime, end: datetime) -> Sequence[UploadWarning]:
        """Warnings before uploads that were shown from `start` to before `end`."""

    async def upload_choices(self, start: datetime) -> Mapping[str, str]:
        """Upload check → what was chosen, since a time."""

    def leak_decisions(self, start: datetime, end: datetime) -> AsyncIterator[LeakDecision]:
        """Decisions about signals from `start` to before `end`, those about nobody included, as they are read."""

    def refusals(self, start: datetime, end: datetime) -> AsyncIterator[Refusals]:
        """Signals that the door refused from `start` to before `end`, one by one."""

    async def counts_by_type(self) -> Mapping[str, int]:
        """Records by type."""

    async def alerts(self, since: datetime, until: datetime, cut_off: Mapping[str, int]) -> Sequence[Alert]:
        """Decisions of the MATCH band, once each, without those that opened nothing because their subscriber is not
        processed. Records beyond the cut-off (publisher/partition → position) do not count."""

    async def latest_sample(self, report: str, until: datetime) -> Sample | None:
        """The sample that was frozen last for a report."""

    async def labels(self, sample_id: str) -> Sequence[GivenLabel]:
        """Labels given for a sample, in the order of their times."""

    async def void(self, sample_id: str) -> Set[str]:
        """Decisions of a sample that can no longer be labelled."""

    async def cases_of(self, decision_ids: Sequence[str], since: datetime) -> Set[str]:
        """The cases that these decisions opened or joined, since a time."""

    async def human_waits(self, since: datetime, until: datetime) -> Sequence[float]:
        """Milliseconds from coming in to the first MATCH or NO_MATCH of each item in the review band."""

    async def missing(self, since: datetime) -> int:
        """Records that were published before others of the window and are not here: gaps in the positions."""

    async def removal_steps(self, since: datetime, until: datetime) -> Sequence[RemovalStep]:
        """Changes of removal requests, as often as they were recorded."""

    async def closings(self, since: datetime, until: datetime) -> Sequence[Closing]:
        """Closings of cases, as often as they were recorded."""

    async def finds(self, since: datetime, until: datetime) -> Sequence[Find]:
        """Content of closed cases that was found again, as often as it was recorded."""

    async def signals(self, since: datetime, until: datetime) -> Signals:
        """Signals that were decided, each once, and those that the door refused or had before."""

    async def channel_levels(self, until: datetime) -> Sequence[ChannelLevel]:
        """Every change of a channel so far."""

    async def onboarding_steps(self, until: datetime) -> Sequence[OnboardingStep]:
        """Every step of a new channel so far."""

    async def purges_due(self, since: datetime, until: datetime) -> Sequence[Due]:
        """What became subject to purge and is due from a time on, as often as it was recorded until another."""

    async def purges_logged(self, since: datetime, until: datetime) -> Sequence[Purged]:
        """What was purged since a time, as often as it was recorded."""

    async def rights_steps(self, until: datetime) -> Sequence[RightsStep]:
        """Every step of a rights request so far, as often as it was recorded."""


class Shelf(Protocol):
    """What the gate itself keeps, inside one transaction."""

    async def recall(self, command: Command) -> str | None:
        """The id that this very command made before. Raises AlreadyExists for another request."""

    async def remember(self, command: Command, resource_id: str) -> None:
        """Notes what the command made."""

    async def put_decision(self, decision: Decision, cut_off: Mapping[str, int]) -> None:
        """Stores a decision with its reports, its log record and its event."""

    async def put_run(self, run: RecordedRun) -> None:
        """Stores a test run."""

    async def run(self, test_run_id: str) -> TestRun | None:
        """A test run."""

    async def latest_runs(self, release: str) -> Mapping[TestKind, TestRun]:
        """The latest run of each kind."""

    async def decision(self, decision_id: str) -> Decision | None:
        """A decision with its reports."""

    async def latest_decision(self, release: str) -> Decision | None:
        """The latest decision about a release."""

    async def report(self, report_id: str) -> Report | None:
        """A report."""

    async def reports(self, name: str, before: str, limit: int) -> Sequence[Report]:
        """Reports, newest first, below a report id if given, without their documents."""

    @property
    def overrides(self) -> Overrides:
        """Overridden decisions."""

    async def last_reports(self, names: Sequence[str]) -> Mapping[str, Report]:
        """The last report of each name, without its document."""


class Overrides(Protocol):
    """Decisions that were overridden, inside the transaction of a shelf."""

    async def of_release(self, release: str) -> Sequence[Override]:
        """Overrides of a release, oldest first."""

    async def is_latest(self, decision: Decision) -> bool:
        """Whether no later decision judges the same release at the same stage."""

    async def put(self, override: Override, grant: Grant, actor_ref: str) -> None:
        """Stores an override with its log record and notes that the grant was used. Raises AlreadyExists GRANT_USED."""
class SampleShelf(Protocol):
    """Frozen samples, inside one transaction."""

    async def recall(self, command: Command) -> str | None:
        """The id that this very command made before. Raises AlreadyExists for another request."""

    async def remember(self, command: Command, resource_id: str) -> None:
        """Notes what the command made."""

    async def put_sample(self, sample: Sample) -> None:
        """Stores a sample with its log record and its event."""

    async def sample(self, sample_id: str) -> Sample | None:
        """A sample with its items."""

    async def samples(self, report: str, before: str, limit: int) -> Sequence[Sample]:
        """Samples, newest first, below an id if given, of a report if named."""


class Views(Protocol):
    """Opens a view of the records."""

    def __call__(self) -> AbstractAsyncContextManager[Records]:
        """A view that stands still while it is open."""


class Shelves(Protocol):
    """Starts transactions; leaving the block without an error commits."""

    def __call__(self) -> AbstractAsyncContextManager[Shelf]:
        """A new transaction."""


class SampleShelves(Protocol):
    """Starts transactions over samples; leaving the block without an error commits."""

    def __call__(self) -> AbstractAsyncContextManager[SampleShelf]:
        """A new transaction."""


Render = Callable[[Mapping[str, object]], bytes]
"""Draws a report's document as one HTML page, UTF-8."""

VerifyGrant = Callable[[bytes, bytes, datetime], Grant]
"""Checks (grant, body, now) for an override. Raises PermissionDenied with a reason that begins with GRANT_."""
