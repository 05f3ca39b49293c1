"""What a gate demands: definition, sample, threshold, tests; and which outcome that gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.gate.domain.statistics import Interval

Words = Mapping[str, str]
"""A text in every language: "ko" and "en"."""


class Outcome(StrEnum):
    """What a gate says; only PASSED ships."""

    PASSED = "PASSED"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Too little data, or a test run is missing."""
    ERROR = "ERROR"
    """It could not be measured."""
    FAILED = "FAILED"
    """It was measured and does not hold."""


_BADNESS = (Outcome.PASSED, Outcome.INCONCLUSIVE, Outcome.ERROR, Outcome.FAILED)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst outcome wins: a measured failure before an error, that before too little data.

    Nothing measured is INCONCLUSIVE, never PASSED.
    """
    return max(outcomes, key=_BADNESS.index, default=Outcome.INCONCLUSIVE)


class TestKind(StrEnum):
    """Sorts of test runs that a release needs beside its figures."""

    __test__ = False

    SCENARIO = "SCENARIO"
    REGRESSION = "REGRESSION"
    POLICY = "POLICY"
    ROLLBACK = "ROLLBACK"


class Direction(StrEnum):
    """On which side of the threshold a value passes."""

    AT_MOST = "AT_MOST"
    AT_LEAST = "AT_LEAST"


@dataclass(frozen=True)
class Threshold:
    """The bound that the point value must meet."""

    direction: Direction
    value: float
    unit: str
    """ms, ratio or days."""

    def holds(self, value: float) -> bool:
        """Whether a value meets it; the bound itself does."""
        return value <= self.value if self.direction is Direction.AT_MOST else value >= self.value

    def claimable(self, interval: Interval) -> bool:
        """Whether even the unfavourable end of the interval meets it."""
        return self.holds(interval.high if self.direction is Direction.AT_MOST else interval.low)


@dataclass(frozen=True)
class Parts:
    """Which parts of a sample are judged by themselves, beside the whole; the worst of them decides."""

    dimension: str
    """What they differ in, such as platform."""
    required: int
    """A part of this size is judged; a smaller one is shown."""
    pool_suffices: bool
    """Whether the whole may pass where no part is large enough to be judged."""


@dataclass(frozen=True)
class Population:
    """Who is counted, and as what, for a figure that comes from what happened and not from a sample."""

    parts: Parts | None = None
    counts: tuple[str, ...] = ()
    """States, answers or grounds that count as done."""
    kinds: tuple[str, ...] = ()
    """Kinds that belong to the population at all."""
    not_counted: tuple[str, ...] = ()
    """What is a class of its own by rule."""
    groups: tuple[str, ...] = ()
    """Channel groups that should be covered."""
    least_per_group: int = 0
    """Signals from which a group is covered."""
    follow_up_days: int = 0
    """How long everyone of the closed cohort was watched at least."""
    horizon_days: int = 0
    """How long after its beginning something is watched."""


@dataclass(frozen=True)
class Kpi:
    """A gate as data (`rules/kpis.yaml`)."""

    report: str
    """Name of its report, such as CaseLatencyReport_v1."""
    area: str
    title: Words
    definition: Words
    sources: tuple[str, ...]
    """Record types that it is computed from."""
    window_days: int
    sample_plan: Words
    required_size: int
    estimator: Words
    threshold: Threshold
    also_needs: TestKind
    on_failure: tuple[Words, ...]
    derivation: Words
    """Why the threshold is what it is: a formula over live data, with its step."""
    grace_ms: int = 0
    """How long an expected record may be missing before that counts."""
    population: Population = field(default_factory=Population)


@dataclass(frozen=True)
class Artefact:
    """Something a stage must have brought forth."""

    name: str
    record_type: str
    """Record type whose presence proves it; empty for one that cannot be shown yet."""


@dataclass(frozen=True)
class IndexRule:
    """What is demanded of an index in memory that decisions rest on."""

    index: str
    """By which name records know it."""
    window_minutes: int
    """Records of so many minutes before the judgement count."""
    most_age_ms: int
    """How long a replica may have served without knowing that it held everything committed."""


@dataclass(frozen=True)
class Stage:
    """The exit list of a stage."""

    name: str
    reports: tuple[str, ...]
    tests: tuple[TestKind, ...]
    artefacts: tuple[Artefact, ...]
    indexes: tuple[IndexRule, ...] = ()


@dataclass(frozen=True)
class Gates:
    """All gates and exit lists of one version."""

    version: str
    kpis: Mapping[str, Kpi]
    stages: Mapping[str, Stage]

    def stages_of(self, report: str) -> list[str]:
        """Stages on whose exit list a report stands."""
        return [stage.name for stage in self.stages.values() if report in stage.reports]


@dataclass(frozen=True)
class TestRun:
    """A test run of a release, in counts."""

    __test__ = False

    test_run_id: str
    kind: TestKind
    commit: str
    passed: int
    failed: int
    skipped: int

    @property
    def outcome(self) -> Outcome:
        """Passed when something ran and nothing failed."""
        if self.failed:
            return Outcome.FAILED
        return Outcome.PASSED if self.passed else Outcome.INCONCLUSIVE


def test_outcome(run: TestRun | None) -> tuple[Outcome, str]:
    """What a needed kind of test contributes, with the reason; PASSED has none."""
    if run is None:
        return Outcome.INCONCLUSIVE, "TEST_RUN_MISSING"
    outcome = run.outcome
    reasons = {Outcome.FAILED: "TESTS_FAILED", Outcome.INCONCLUSIVE: "NO_TEST_RAN"}
    return outcome, reasons.get(outcome, "")


def judge(kpi: Kpi, value: float | None, size: int) -> tuple[Outcome, str]:
    """The outcome of a figure alone: the point value decides, on enough data."""
    if value is None or size == 0:
        return Outcome.INCONCLUSIVE, "NO_DATA"
    if size < kpi.required_size:
        return Outcome.INCONCLUSIVE, "SAMPLE_TOO_SMALL"
    if not kpi.threshold.holds(value):
        return Outcome.FAILED, "THRESHOLD_NOT_MET"
    return Outcome.PASSED, ""
