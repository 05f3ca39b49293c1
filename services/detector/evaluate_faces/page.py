"""How an evaluation's document becomes one page that a person likes to read, and a few lines for a terminal.

Self-contained: no script, no font, no picture from elsewhere. Two languages lie in the page and a pair of radio
buttons shows one of them. All geometry is computed here; the template only places it.
"""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from PIL import Image

from services.detector.adapters.images import UnreadableImage, read_picture
from services.detector.evaluate_faces.data import Listed
from services.detector.evaluate_faces.subject import Subject

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 320, 58, 18, 14, 46
"""A chart and its margins, in SVG user units."""
SMALL = (300, 150)
"""A histogram."""
LEAST_RATE = 1e-6
"""Where logarithmic axes of rates end; what is rarer stands there."""
THUMBNAIL = 112


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
        return round(self.start + (bounded - low) / (high - low) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Series:
    """One line: its name, its points, and whether each point is marked."""

    name: Mapping[str, str]
    points: Sequence[tuple[float, float]]
    marked: bool = False
    band: Sequence[tuple[float, float]] = ()
    """Lower and upper end at each point."""


def shown(subject: Subject) -> list[dict[str, str]]:
    """A few pictures whose licence allows it, as data URIs with licence and source; none otherwise."""
    allowed = tuple(subject.plan.shown_licences)
    listed = [each for each in subject.data.listed if each.licence.casefold().startswith(allowed)]
    count = min(subject.plan.most_shown, len(listed))
    chosen = random.Random(subject.plan.seed).sample(listed, count)
    uris = [(_thumbnail(each), each) for each in chosen]
    return [{"uri": uri, "licence": each.licence, "source": each.source} for uri, each in uris if uri]


def _thumbnail(listed: Listed) -> str:
    try:
        image = Image.fromarray(read_picture(listed.read(), 2 * THUMBNAIL).pixels)
    except UnreadableImage:
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def render(document: Mapping[str, Any], pictures: Sequence[Mapping[str, str]] = ()) -> str:
    """The page."""
    return _template().render(
        r=document,
        pictures=pictures,
        charts=_charts(document),
        histograms=[_histogram(name, each) for name, each in document.get("histograms", {}).items()],
        scores=_SCORES,
        rates=_RATES,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rate"] = rate_text
    return environment.get_template("page.html.j2")


def rate_text(value: float | None) -> str:
    """A share for people: `.9823`, `1.2e-05` where it is tiny, `–` for none."""
    if value is None or value == 0:
        return "–" if value is None else "0"
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4f}".removeprefix("0") if value < 0.99995 else "1"


def _charts(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    charts = {}
    if curves := document.get("curves"):
        det = [Series(_SCORES[name], [(far, frr) for _, far, frr in points if far]) for name, points in curves.items()]
        roc = [Series(line.name, [(far, 1 - frr) for far, frr in line.points]) for line in det]
        charts["roc"] = _chart(roc, _false_axis(1.0), _share_axis(min(0.9, _least(roc))), "FAR", "TPR")
        charts["det"] = _chart(det, _false_axis(1.0), _missed_axis(), "FAR (FMR)", "FRR (FNMR)")
    if sizes := [each for each in document.get("gallery_sizes", ()) if each["curve"]]:
        lines = [_of_gallery(each["templates"], each["curve"]) for each in sizes]
        charts["sizes"] = _chart(lines, _false_axis(1.0, 1e-4), _missed_axis(), "FPIR", "FNIR")
    if rows := document.get("face_sizes"):
        lines = [_of_size(rows, name, text) for name, text in _FACE_SIZE_LINES]
        charts["face_sizes"] = _chart(lines, _pixel_axis([row["side_px"] for row in rows]), _share_axis(0.0), "px", "")
    return charts


def _plain(text: str) -> Mapping[str, str]:
    return {"ko": text, "en": text}


def _of_gallery(templates: int, curve: Sequence[tuple[float, float, float]]) -> Series:
    return Series(_plain(f"N = {templates}"), [(fpir, fnir) for _, fpir, fnir in curve if fpir])


def _of_size(rows: Sequence[Mapping[str, Any]], name: str, text: Mapping[str, str]) -> Series:
    kept = [row for row in rows if row[name] is not None]
    points = [(row["side_px"], row[name]) for row in kept]
    return Series(text, points, marked=True, band=[tuple(row[f"{name}_interval"]) for row in kept])


def _least(lines: Sequence[Series]) -> float:
    return min((y for line in lines for x, y in line.points if 1e-5 <= x <= 1e-2), default=0.9)


@dataclass(frozen=True)
class Axis:
    """A scale for either direction, and the values written beside it."""

    scale: Callable[[float, float], Scale]
    ticks: Sequence[tuple[float, str]]


def _false_axis(most: float, least: float = LEAST_RATE) -> Axis:
    decades = range(round(math.log10(least)), round(math.log10(most)) + 1)
    return Axis(lambda a, b: Scale(least, most, a, b, logarithmic=True), [(10.0**d, _power(d)) for d in decades])


def _missed_axis() -> Axis:
    values = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    return Axis(lambda a, b: Scale(values[0], 1.0, a, b, logarithmic=True), [(v, f"{v:g}") for v in values])


def _share_axis(least: float) -> Axis:
    low = math.floor(least * 20) / 20
    steps = 5
    values = [low + (1 - low) * step / steps for step in range(steps + 1)]
    return Axis(lambda a, b: Scale(low, 1.0, a, b), [(v, f"{v:.2f}") for v in values])


def _pixel_axis(sides: Sequence[int]) -> Axis:
    low, high = min(sides) / 1.1, max(sides) * 1.1
    return Axis(lambda a, b: Scale(low, high, a, b, logarithmic=True), [(side, str(side)) for side in sides])


def _power(exponent: int) -> str:
    return "1" if not exponent else "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _chart(lines: Sequence[Series], across: Axis, up: Axis, x_name: str, y_name: str) -> dict[str, Any]:
    x, y = across.scale(LEFT, WIDTH - RIGHT), up.scale(HEIGHT - BOTTOM, TOP)
    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "base": HEIGHT - BOTTOM,
        "x_ticks": [{"at": x.at(value), "text": text} for value, text in across.ticks],
        "y_ticks": [{"at": y.at(value), "text": text} for value, text in up.ticks],
        "x_name": x_name,
        "y_name": y_name,
        "lines": [_line(at, line, x, y) for at, line in enumerate(lines)],
    }


def _line(number: int, line: Series, x: Scale, y: Scale) -> dict[str, Any]:
    places = [(x.at(a), y.at(b)) for a, b in line.points]
    return {
        "colour": number % 6,
        "name": line.name,
        "path": " ".join(f"{'L' if at else 'M'}{a} {b}" for at, (a, b) in enumerate(places)),
        "marks": places if line.marked else [],
        "whiskers": [(a, y.at(low), y.at(high)) for (a, _), (low, high) in zip(places, line.band, strict=False)],
    }


def _histogram(name: str, counts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Both kinds of pairs as densities, each filling the height, over −0.4 to 1."""
    width, height = SMALL
    steps = len(counts["genuine"])
    first = round(steps * 0.3)
    x = Scale(first, steps, 6, width - 6)
    areas = {}
    for kind, values in counts.items():
        top = max(values[first:], default=0) or 1
        y = Scale(0, top, height - 22, 8)
        corners = [f"H{x.at(at)} V{y.at(value)} H{x.at(at + 1)}" for at, value in enumerate(values) if at >= first]
        areas[kind] = f"M{x.at(first)} {y.at(0)} " + " ".join(corners) + f" V{y.at(0)} Z"
    ticks = [{"at": x.at(steps * (value + 1) / 2), "text": f"{value:g}"} for value in (-0.25, 0, 0.25, 0.5, 0.75)]
    sizes = {kind: sum(values) for kind, values in counts.items()}
    return {"name": name, "width": width, "height": height, "areas": areas, "ticks": ticks, "sizes": sizes}


def table(document: Mapping[str, Any]) -> str:
    """The figures that matter, for a terminal."""
    model, sheet = document["model"], document["datasheet"]
    lines = [
        f"faces: rules {model['rules']}, {model['model_id']} + {model['second_model_id']}, {model['engine_id']}",
        f"{sheet['pictures']} pictures of {sheet['people']} people, {sheet['faces_found']} faces found",
    ]
    for name, title in (("stream", "as shipped"), ("stream_held_out", "thresholds learnt from other people")):
        if name in document:
            lines += _stream_lines(document[name], title)
    by_size = ("fpir", "fnir", "fpir_match_or_review", "fnir_match_or_review")
    lines += [f"N = {each['templates']:<6} {_named(each, by_size)}" for each in document.get("gallery_sizes", ())]
    for score, rates in document.get("tpr_at_far_by_score", {}).items():
        figures = "  ".join(f"{rate} {_number(at['tpr'])} (≥ {at['threshold']:.3f})" for rate, at in rates.items())
        lines.append(f"TPR at FAR, {score:9} {figures}")
    for each in document.get("pair_sets", ()):
        lines.append(f"set {each['set']}: {each['same']} same, {each['different']} different, "
                     f"best accuracy {_number(each['best_accuracy'])}")
    for row in document.get("face_sizes", ()):
        figures = "  ".join(f"{name} {_number(row[name])}" for name in ("found", "match", "match_or_review"))
        width, height = row["picture_px"]
        lines.append(f"face of {row['side_px']} px: {figures} ({row['pictures']} pictures of {width} × {height})")
    lines += [f"{name}: {text['en']}" for name, text in sheet["populations"].items()]
    return "\n".join(lines)


def _stream_lines(stream: Mapping[str, Any], title: str) -> list[str]:
    lines = [f"{title}: {stream['splits']} splits, N = {stream['templates']}, {stream['events']} events each"]
    for name, spread in stream["spread"].items():
        low, high = stream["interval"][name]
        lines.append(f"  {name:26} {spread['mean']:.4f} ± {spread['sd']:.4f} (splits {spread['least']:.4f} to "
                     f"{spread['most']:.4f}; 95 % {low:.4f} to {high:.4f})")
    missed = ", ".join(f"{name} {share:.4f}" for name, share in stream["misses"].items())
    return [*lines, f"  not matched, of enrolled people's: {missed or 'none'}",
            f"  wrongly named, per split: {stream['false_per_split'] or 'nobody'}"]


def _named(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return "  ".join(f"{name} {_number(row['mean'][name])}" for name in names)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


_FACE_SIZE_LINES: Sequence[tuple[str, Mapping[str, str]]] = (
    ("found", {"ko": "찾음", "en": "found"}),
    ("match_or_review", {"ko": "MATCH 또는 REVIEW", "en": "MATCH or REVIEW"}),
    ("match", {"ko": "MATCH", "en": "MATCH"}),
)
_SCORES: Mapping[str, Mapping[str, str]] = {
    "first": {"ko": "첫 임베더", "en": "first embedder"},
    "mirrored": {"ko": "첫 임베더 + 거울상", "en": "with mirror image"},
    "fused": {"ko": "두 임베더 결합", "en": "both embedders, fused"},
}
_RATES: Mapping[str, Mapping[str, str]] = {
    "precision": {"ko": "정밀도 (MATCH)", "en": "Precision of MATCH"},
    "recall_match": {"ko": "재현율 (MATCH)", "en": "Recall of MATCH"},
    "recall_match_or_review": {"ko": "재현율 (MATCH 또는 REVIEW)", "en": "Recall of MATCH or REVIEW"},
    "precision_match_or_review": {"ko": "정밀도 (MATCH 또는 REVIEW)", "en": "Precision of MATCH or REVIEW"},
    "fpir": {"ko": "FPIR (MATCH)", "en": "FPIR of MATCH"},
    "fpir_match_or_review": {"ko": "FPIR (MATCH 또는 REVIEW)", "en": "FPIR of MATCH or REVIEW"},
    "fnir": {"ko": "FNIR (MATCH)", "en": "FNIR of MATCH"},
    "fnir_match_or_review": {"ko": "FNIR (MATCH 또는 REVIEW)", "en": "FNIR of MATCH or REVIEW"},
    "second_looks": {"ko": "두 번째로 본 비율", "en": "Share looked at twice"},
}
