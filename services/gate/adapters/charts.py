"""Where does each line of a chart go? All geometry of pages, computed from the numbers of a document.

Charts are drawn twice, for a wide and for a narrow screen: a picture that only shrinks has letters that nobody reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from services.gate.domain.measures import duration_text

STRIP = 260
"""Width of the strip that shows one part of the sample."""
SPARK_WIDTH, SPARK_HEIGHT, SPARK_EDGE = 132, 34, 5
BARS = 24
"""Columns of a distribution."""
_TICK_GAP = 62
_NICE_MS = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 259_200_000, 604_800_000,
    1_209_600_000, 2_592_000_000,
]  # fmt: skip
_STEPS = (1, 2, 5, 10, 12, 24, 36, 48, 72, 120, 168, 240, 336, 480, 720, 1440)
_HOUR_MS = 3_600_000.0


@dataclass(frozen=True)
class Frame:
    """A chart's size and margins, in SVG user units."""

    width: int
    height: int
    left: int = 46
    right: int = 20
    top: int = 16
    bottom: int = 38

    def edges(self) -> dict[str, int]:
        """For the template."""
        return {
            "width": self.width,
            "height": self.height,
            "left": self.left,
            "right": self.width - self.right,
            "top": self.top,
            "base": self.height - self.bottom,
        }


WIDE, NARROW, SMALL = Frame(720, 300), Frame(340, 250), Frame(300, 190, 42, 12, 12, 34)


@dataclass(frozen=True)
class Scale:
    """Places values between two ends, linearly or by their logarithm; what lies outside sticks to the end."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Position of a value, one decimal."""
        low, high, bounded = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, bounded = math.log(low), math.log(high), math.log(bounded)
        share = (bounded - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)


def ecdf_chart(distribution: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """The empirical distribution as steps over a logarithmic axis of time."""
    points: Sequence[tuple[float, float]] = distribution["points"]
    threshold = distribution["threshold"]
    x = _log_scale([value for value, _ in points] + ([threshold] if threshold else []), frame)
    y = _shares(frame)
    line = _steps(points, x, y)
    return frame.edges() | {
        "line": line,
        "area": f"{line} V{y.at(0)} H{x.at(points[0][0])} Z" if points else "",
        "x_ticks": _time_ticks(x),
        "y_ticks": _share_ticks(y),
        "level": {"at": y.at(0.95), "text": "95 %"} if threshold else None,
        "threshold": _mark(x, threshold, duration_text(threshold), frame) if threshold else None,
    }


def histogram_chart(distribution: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """How many fall into each of the columns of a logarithmic axis of time, with the threshold as a line."""
    points: Sequence[tuple[float, float]] = distribution["points"]
    threshold = distribution["threshold"]
    x = _log_scale([value for value, _ in points] + ([threshold] if threshold else []), frame)
    edges = [x.low * (x.high / x.low) ** (n / BARS) for n in range(BARS + 1)]
    heights = [_share_at(points, high) - _share_at(points, low) for low, high in pairwise(edges)]
    top = max([*heights, 0.01])
    y = Scale(0.0, top, frame.height - frame.bottom, frame.top)
    columns = [
        {
            "x": x.at(low),
            "y": y.at(height),
            "width": round(x.at(high) - x.at(low) - 1, 1),
            "height": round(y.at(0) - y.at(height), 1),
            "beyond": threshold is not None and low >= threshold * 0.999,
        }
        for (low, high), height in zip(pairwise(edges), heights, strict=True)
        if height > 0
    ]
    return frame.edges() | {
        "columns": columns,
        "x_ticks": _time_ticks(x),
        "y_ticks": [{"at": y.at(top * part), "text": f"{top * part:.1%}"} for part in (0, 0.5, 1)],
        "threshold": _mark(x, threshold, duration_text(threshold), frame) if threshold else None,
    }


def curve_chart(curve: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """A step curve with its band, marks where observation ended, the level it is read at, and the threshold."""
    points = curve["points"]
    rising = curve["kind"] != "SURVIVAL"
    threshold, target = curve["threshold"], curve["target"]
    x = _linear_scale(curve, frame)
    y = _shares(frame)
    start = 0.0 if rising else 1.0
    line = _held(((at, share) for at, share, *_ in points), start, x, y)
    lows = [(at, share if low is None else low) for at, share, low, _, _ in points]
    highs = [(at, share if high is None else high) for at, share, _, high, _ in points]
    banded = any(low is not None for _, _, low, _, _ in points)
    return frame.edges() | {
        "line": line,
        "band": f"{_held(highs, start, x, y)} {_back(lows, start, x, y)} Z" if banded else "",
        "censored": [{"x": x.at(at), "y": y.at(_height(points, at, start))} for at in curve["censored"]],
        "x_ticks": _unit_ticks(x, curve["unit"]),
        "y_ticks": _share_ticks(y),
        "level": {"at": y.at(target), "text": f"{target:.0%}"} if target is not None else None,
        "threshold": _mark(x, threshold, _axis_text(threshold, curve["unit"]), frame) if threshold else None,
        "at_risk": points[0][4] if points else None,
    }


def strip_scale(parts: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any]) -> Scale:
    """One scale for all parts of a dimension, with room around them and the threshold on it."""
    ends = [part["value"] for part in parts]
    ends += [part["interval"][end] for part in parts for end in ("low", "high") if part["interval"][end]]
    numbers = [end["number"] for end in ends if end["number"] is not None] + [threshold["number"]]
    if threshold["unit"] != "ratio":
        return Scale(max(min(numbers), 1.0) / 1.5, max(numbers) * 1.5, 6, STRIP - 6, logarithmic=True)
    if threshold["direction"] == "AT_MOST":
        return Scale(0.0, min(1.0, max(numbers) * 1.15), 6, STRIP - 6)
    low = min(numbers)
    return Scale(max(0.0, low - (1 - low) * 0.15), 1.0, 6, STRIP - 6)


def place(number: Mapping[str, Any] | None, scale: Scale) -> float | None:
    """Where a number stands; infinity stands at the right end, nothing nowhere."""
    if number is None or (number["number"] is None and not number["infinite"]):
        return None
    return scale.end if number["infinite"] else scale.at(number["number"])


def spark(trend: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A small line of earlier values with the threshold across it; None for fewer than two values."""
    numbers = [past["value"]["number"] for past in trend if past["value"]["number"] is not None]
    if sum(1 for past in trend if _has_value(past)) < 2:
        return None
    bounds = _spark_bounds(numbers, threshold["number"] if threshold else None)
    spread = (max(bounds) - min(bounds)) or abs(max(bounds)) or 1.0
    low, high = min(bounds) - spread * 0.12, max(bounds) + spread * 0.12
    y = Scale(low, high, SPARK_HEIGHT - SPARK_EDGE, SPARK_EDGE)
    x = Scale(0, max(len(trend) - 1, 1), SPARK_EDGE, SPARK_WIDTH - SPARK_EDGE)
    dots = [
        {
            "x": x.at(number),
            "y": y.at(high if past["value"]["infinite"] else past["value"]["number"]),
            "outcome": past["outcome"],
        }
        for number, past in enumerate(trend)
        if _has_value(past)
    ]
    return {
        "width": SPARK_WIDTH,
        "height": SPARK_HEIGHT,
        "line": "M" + " L".join(f"{dot['x']} {dot['y']}" for dot in dots),
        "dots": dots,
        "threshold": y.at(threshold["number"]) if threshold and low <= threshold["number"] <= high else None,
    }


def _spark_bounds(numbers: Sequence[float], threshold: float | None) -> list[float]:
    """The values, and the threshold where it is near enough to leave the values their shape."""
    if not numbers:
        return [threshold or 1.0]
    spread = max(numbers) - min(numbers)
    near = threshold is not None and min(abs(threshold - n) for n in numbers) <= 4 * max(spread, abs(threshold) * 0.02)
    return [*numbers, *([threshold] if near and threshold is not None else [])]


def _has_value(past: Mapping[str, Any]) -> bool:
    return past["value"]["infinite"] or past["value"]["number"] is not None


def _shares(frame: Frame) -> Scale:
    return Scale(0.0, 1.0, frame.height - frame.bottom, frame.top)


def _share_ticks(y: Scale) -> list[dict[str, Any]]:
    return [{"at": y.at(share), "text": f"{share:.0%}"} for share in (0, 0.25, 0.5, 0.75, 1)]


def _mark(x: Scale, value: float, text: str, frame: Frame) -> dict[str, Any]:
    """A line across the chart; its words stand on the side that has room."""
    at = x.at(value)
    aside = {"text_at": at - 8, "anchor": "end"} if at > frame.width / 2 else {"text_at": at + 8, "anchor": "start"}
    return {"at": at, "text": text, **aside}


def _steps(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    if not points:
        return ""
    path = [f"M{x.at(points[0][0])} {y.at(0)}"]
    path += [f"H{x.at(value)} V{y.at(share)}" for value, share in points]
    return " ".join([*path, f"H{x.end}"])


def _held(points: Any, start: float, x: Scale, y: Scale) -> str:
    """A curve that keeps its height until the next point."""
    path = [f"M{x.start} {y.at(start)}"]
    path += [f"H{x.at(at)} V{y.at(share)}" for at, share in points]
    return " ".join([*path, f"H{x.end}"])


def _back(points: Sequence[tuple[float, float]], start: float, x: Scale, y: Scale) -> str:
    """The lower edge of a band, from right to left."""
    path = []
    last = points[-1][1] if points else start
    path.append(f"L{x.end} {y.at(last)}")
    for number in range(len(points) - 1, -1, -1):
        before = points[number - 1][1] if number else start
        path.append(f"H{x.at(points[number][0])} V{y.at(before)}")
    return " ".join([*path, f"H{x.start}"])


def _height(points: Sequence[Sequence[Any]], at: float, start: float) -> float:
    """How high a step curve is at a place."""
    share = start
    for point in points:
        if point[0] > at:
            break
        share = point[1]
    return share


def _share_at(points: Sequence[tuple[float, float]], value: float) -> float:
    share = 0.0
    for at, height in points:
        if at > value:
            break
        share = height
    return share


def _log_scale(values: Sequence[float], frame: Frame) -> Scale:
    low, high = max(min(values, default=1.0), 1.0), max(max(values, default=10.0), 10.0)
    return Scale(low / 1.6, high * 1.6, frame.left, frame.width - frame.right, logarithmic=True)


def _linear_scale(curve: Mapping[str, Any], frame: Frame) -> Scale:
    ends = [point[0] for point in curve["points"]] + list(curve["censored"])
    high = max([*ends, (curve["threshold"] or 0.0) * 1.15, 1e-9])
    return Scale(0.0, high * 1.03, frame.left, frame.width - frame.right)


def _time_ticks(x: Scale) -> list[dict[str, Any]]:
    """Round times that lie on the axis, far enough apart to be read."""
    ticks: list[dict[str, Any]] = []
    for value in _NICE_MS:
        at = x.at(value)
        if x.low <= value <= x.high and (not ticks or at - ticks[-1]["at"] >= _TICK_GAP) and at <= x.end - 14:
            ticks.append({"at": at, "text": duration_text(value).replace(".00", "")})
    return ticks


def _unit_ticks(x: Scale, unit: str) -> list[dict[str, Any]]:
    """Round hours or days from 0 on."""
    one = _HOUR_MS if unit == "ms" else 1.0
    most = (x.end - x.start) / _TICK_GAP
    step = next((step for step in _STEPS if x.high / (step * one) <= most), max(1.0, x.high / one / most))
    count = int(x.high / (step * one))
    values = [n * step * one for n in range(count + 1)]
    return [{"at": x.at(value), "text": _axis_text(value, unit)} for value in values if x.at(value) <= x.end - 10]


def _axis_text(value: float, unit: str) -> str:
    return f"{value / _HOUR_MS:g} h" if unit == "ms" else f"{value:g} d"
