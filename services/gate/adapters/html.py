"""How a report's document becomes one page that a person likes to read.

Self-contained: no script, no font, no picture from elsewhere. Two languages lie in the page and a pair of radio
buttons shows one of them. All geometry is computed here and in `charts`; the templates only place it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from services.gate.adapters.charts import (
    NARROW,
    SMALL,
    STRIP,
    WIDE,
    curve_chart,
    ecdf_chart,
    histogram_chart,
    place,
    spark,
    strip_scale,
)
from services.gate.adapters.words import reason_words, words_of

_TEMPLATES = Path(__file__).parents[1] / "templates"
SIGNS = {"PASSED": "✓", "FAILED": "✕", "INCONCLUSIVE": "?", "ERROR": "!"}


def render(document: Mapping[str, Any]) -> bytes:
    """The page of a figure's report, UTF-8."""
    distribution = document["distribution"]
    page = template("report.html.j2").render(
        r=document,
        histogram=_twice(histogram_chart, distribution),
        ecdf=_twice(ecdf_chart, distribution),
        curves=_curves(document.get("curves", ())),
        strata=_strata(document),
        reasons=[reason_words(reason) for reason in document["reasons"]],
        trend=past_rows(document.get("trend", ())),
        spark=spark([*document.get("trend", ()), as_past(document)], document["threshold"]),
    )
    return page.encode()


@cache
def template(name: str) -> Template:
    """A template of pages; what it writes is escaped, and an unknown name is an error."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = lambda text: re.sub(r"(?<![–\]]) (?![–\[])", "\u00a0", text)
    environment.filters["moment"] = lambda text: text.replace("T", " ").replace("+00:00", " UTC")
    environment.filters["words"] = words_of
    environment.globals["signs"] = SIGNS
    return environment.get_template(name)


def past_rows(trend: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Earlier reports, newest first."""
    return list(reversed(trend))


def as_past(document: Mapping[str, Any]) -> dict[str, Any]:
    """A report as the last point of its own trend."""
    return {"value": document["value"], "outcome": document["outcome"]}


def _twice(draw: Any, data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A chart for wide and for narrow screens; none without points."""
    if data is None or not data["points"]:
        return []
    return [draw(data, WIDE) | {"screen": "wide"}, draw(data, NARROW) | {"screen": "narrow"}]


def _curves(curves: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Curves of all together in full size, those of parts small beside one another."""
    return [
        {
            "name": curve["name"],
            "group": curve["group"],
            "kind": curve["kind"],
            "charts": [curve_chart(curve, SMALL) | {"screen": ""}] if curve["group"] else _twice(curve_chart, curve),
        }
        for curve in curves
        if curve["points"]
    ]


def _strata(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each dimension with a strip per part: interval, point, threshold, all on one scale."""
    dimensions: dict[str, list[Mapping[str, Any]]] = {}
    for stratum in document["strata"]:
        dimensions.setdefault(stratum["dimension"], []).append(stratum)
    worst = {(part["dimension"], part["name"]) for part in document.get("worst", ())}
    return [
        {"name": words_of(name), "rows": _rows(parts, document["threshold"], worst)}
        for name, parts in dimensions.items()
    ]


def _rows(
    parts: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any], worst: set[tuple[str, str]]
) -> list[dict[str, Any]]:
    scale = strip_scale(parts, threshold)
    return [
        {
            "name": part["name"],
            "size": part["size"],
            "value": part["value"]["text"],
            "interval": part["interval"]["text"],
            "holds": part["holds"],
            "small": part["size"] < part.get("required", 0),
            "required": part.get("required", 0),
            "worst": len(parts) > 1 and (part["dimension"], part["name"]) in worst,
            "point": place(part["value"], scale),
            "low": place(part["interval"]["low"], scale),
            "high": place(part["interval"]["high"], scale),
            "threshold": scale.at(threshold["number"]),
            "width": STRIP,
        }
        for part in parts
    ]
