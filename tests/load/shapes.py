"""How many arrivals a second at which moment? Pure functions of time; their mean is the rate that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Shape = Callable[[float, float], float]
"""(seconds since the start, seconds in all) → share of the mean rate."""

BURST_EVERY, BURST_SECONDS, BURST_CALM = 30.0, 5.0, 0.5
RAMP_FROM = 0.1


def steady(at: float, seconds: float) -> float:
    """The same all the time."""
    return 1.0


def ramp(at: float, seconds: float) -> float:
    """A tenth of the plateau at first, growing through the first half; the second half is the plateau."""
    plateau = 1 / ((1 + RAMP_FROM) / 4 + 0.5)
    return plateau * min(1.0, RAMP_FROM + (1 - RAMP_FROM) * 2 * at / seconds)


def burst(at: float, seconds: float) -> float:
    """Half of the rate, and every half minute five seconds of so much that the mean comes out."""
    peak = (BURST_EVERY - BURST_CALM * (BURST_EVERY - BURST_SECONDS)) / BURST_SECONDS
    return peak if at % BURST_EVERY < BURST_SECONDS else BURST_CALM


SHAPES: Mapping[str, Shape] = {"steady": steady, "ramp": ramp, "burst": burst, "soak": steady}
"""By name; a soak is steady and long."""
