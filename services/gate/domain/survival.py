"""How long does something take that has not happened to everybody yet?

Sources: Kaplan and Meier, JASA 53 (1958) 457-481; Greenwood's variance with the log-log band, Kalbfleisch and Prentice,
The Statistical Analysis of Failure Time Data (2nd ed. 2002), section 1.4; the interval of the median from that band,
Brookmeyer and Crowley, Biometrics 38 (1982) 29-41.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from services.gate.domain.curves import MAX_POINTS, CurvePoint
from services.gate.domain.statistics import CONFIDENCE, Interval


@dataclass(frozen=True, slots=True)
class Observation:
    """Somebody who was watched for a time, at the end of which it happened or nobody watched any more."""

    time: float
    happened: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Where the estimated share that still waits goes down."""

    at: float
    share: float
    low: float
    high: float
    at_risk: int


def kaplan_meier(observations: Iterable[Observation], confidence: float = CONFIDENCE) -> list[Step]:
    """The product-limit estimate with its pointwise band, one step for each time at which it happened.

    Whoever stops being watched at a time was still at risk at that time. Where the share falls to 0 its variance is not
    defined: the band keeps its upper end from the step before.
    """
    watched = list(observations)
    happened = Counter(each.time for each in watched if each.happened)
    left = Counter(each.time for each in watched)
    at_risk, share, spread, high = len(watched), 1.0, 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    steps: list[Step] = []
    for time in sorted(left):
        if events := happened[time]:
            share *= 1 - events / at_risk
            if events < at_risk:
                spread += events / (at_risk * (at_risk - events))
                low, high = _band(share, spread, z)
            else:
                share, low = 0.0, 0.0
            steps.append(Step(time, share, low, high, at_risk))
        at_risk -= left[time]
    return steps


def _band(share: float, spread: float, z: float) -> tuple[float, float]:
    """The ends of log(-log S) ± z·se, as shares."""
    logarithm = math.log(share)
    reach = math.exp(z * math.sqrt(spread) / -logarithm)
    return math.exp(logarithm * reach), math.exp(logarithm / reach)


def median(steps: Sequence[Step]) -> float:
    """The first time at which half or fewer still wait; infinite where that is not reached."""
    return next((step.at for step in steps if _half(step.share)), math.inf)


def median_interval(steps: Sequence[Step]) -> Interval:
    """Where the band crosses one half; an end that is not reached is infinite."""
    low = next((step.at for step in steps if _half(step.low)), math.inf)
    high = next((step.at for step in steps if _half(step.high)), math.inf)
    return Interval(low, high)


def _half(share: float) -> bool:
    # A product of fractions that is one half by arithmetic comes out a little above or below it.
    return share <= 0.5 + 1e-12


def points(steps: Sequence[Step]) -> list[CurvePoint]:
    """The curve for drawing: it begins at 1, and a long one is thinned."""
    stride = math.ceil(len(steps) / (MAX_POINTS - 2)) if steps else 1
    shown = [step for number, step in enumerate(steps) if number % stride == 0 or number == len(steps) - 1]
    start = CurvePoint(0.0, 1.0, at_risk=steps[0].at_risk if steps else 0)
    return [start, *(CurvePoint(step.at, step.share, step.low, step.high, step.at_risk) for step in shown)]
