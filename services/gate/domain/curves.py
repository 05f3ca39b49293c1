"""What does a figure look like over time, drawn from the data that it was computed from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.gate.domain.kpis import Words

MAX_POINTS = 400
"""Points of one curve."""
MAX_CURVES = 16
"""Curves of one report: all, and the largest parts."""


class CurveKind(StrEnum):
    """What the share of a curve says."""

    SURVIVAL = "SURVIVAL"
    """Share that has not come to its end yet (Kaplan–Meier); begins at 1 and falls."""
    INCIDENCE = "INCIDENCE"
    """Share to which it has happened; begins at 0 and rises."""
    ECDF = "ECDF"
    """Share of values that are not above; begins at 0 and rises."""


@dataclass(frozen=True)
class CurvePoint:
    """Where a step curve goes to a new height."""

    at: float
    """In the unit of its curve."""
    share: float
    """0 to 1, from here until the next point."""
    low: float | None = None
    """Lower end of the 95 % band; None where there is none."""
    high: float | None = None
    """Upper end of the 95 % band."""
    at_risk: int | None = None
    """How many were still observed just before; None where everyone always is."""


@dataclass(frozen=True)
class Curve:
    """A step curve."""

    name: Words
    kind: CurveKind
    unit: str
    """Of the axis: ms or days."""
    points: Sequence[CurvePoint]
    """By `at`, at most MAX_POINTS."""
    group: str = ""
    """Part of the sample, named as its stratum is; empty for all."""
    censored: Sequence[float] = ()
    """When observations ended without the end, at most MAX_POINTS."""
    threshold: float | None = None
    """On the axis; None where the threshold is not a time."""
    target: float | None = None
    """Share at which the figure is read, such as 0.5 for a median."""
