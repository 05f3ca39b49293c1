"""What does a release rest on that is not code, in what state is it, and what suffers where it is not in order?

Four kinds: data (labels, templates), partners and their interfaces, law and policy, security. The register is data
(`rules/dependencies.yaml`); changes of state are records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.gate.domain.kpis import Outcome, Words


class DependencyKind(StrEnum):
    """Where a dependency lies."""

    DATA = "DATA"
    PARTNER = "PARTNER"
    LAW = "LAW"
    SECURITY = "SECURITY"


class DependencyState(StrEnum):
    """How a dependency stands."""

    HOLDS = "HOLDS"
    """In order."""
    DEGRADED = "DEGRADED"
    """Its degradation is in force; what is measured is measured with it."""
    LOST = "LOST"
    """Gone, and nothing stands in its place yet: what rests on it is not claimed."""


@dataclass(frozen=True)
class Dependency:
    """A dependency as the rules name it."""

    dependency_id: str
    kind: DependencyKind
    title: Words
    owner: str
    """Role that answers for it."""
    since: datetime
    """Since when it holds as far as the rules know."""
    degrades: Words
    """What is done and what is weaker while it is not in order."""
    reports: tuple[str, ...]
    """Reports whose figures it degrades."""
    stages: tuple[str, ...]
    """Stages in whose reports it stands."""


@dataclass(frozen=True)
class Register:
    """All dependencies of one version."""

    version: str
    dependencies: Mapping[str, Dependency]


@dataclass(frozen=True)
class DependencyChange:
    """A change of state as it is kept."""

    change_id: str
    dependency_id: str
    state: DependencyState
    reason: str
    """UPPER_SNAKE."""
    create_time: datetime


@dataclass(frozen=True)
class Standing:
    """A dependency as it stands now."""

    dependency: Dependency
    state: DependencyState
    reason: str
    since: datetime

    @property
    def outcome(self) -> Outcome:
        """What it adds to a judgement: what is lost leaves a figure without a claim, which two people may answer for.

        A degradation in force is part of what was measured, so that the figures themselves answer for it.
        """
        return Outcome.INCONCLUSIVE if self.state is DependencyState.LOST else Outcome.PASSED


def standings(register: Register, changes: Mapping[str, DependencyChange]) -> Sequence[Standing]:
    """Every dependency by id with its latest change (by dependency id), or as the rules ship it."""
    return [_standing(each, changes.get(name)) for name, each in sorted(register.dependencies.items())]


def _standing(dependency: Dependency, change: DependencyChange | None) -> Standing:
    if change is None:
        return Standing(dependency, DependencyState.HOLDS, "", dependency.since)
    return Standing(dependency, change.state, change.reason, change.create_time)


def said(standing: Standing) -> str:
    """The line of a decision's reasons about a dependency that is not in order; empty for one that is."""
    if standing.state is DependencyState.HOLDS:
        return ""
    reason = f" {standing.reason}" if standing.reason else ""
    return f"{standing.dependency.dependency_id}: {standing.outcome} DEPENDENCY_{standing.state}{reason}"
