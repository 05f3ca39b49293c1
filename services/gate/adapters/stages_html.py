"""How does the report of a stage become a page? Also: which page belongs to a document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.gate.adapters.charts import spark
from services.gate.adapters.html import as_past, past_rows, render, template
from services.gate.adapters.words import reason_words
from services.gate.domain.stages import STAGE_SCHEMA


def render_document(document: Mapping[str, Any]) -> bytes:
    """The page of a report of either form, UTF-8."""
    return render_stage(document) if document["schema"] == STAGE_SCHEMA else render(document)


def render_stage(document: Mapping[str, Any]) -> bytes:
    """The page of a stage, UTF-8."""
    figures = [
        {
            **figure,
            "words": [reason_words(reason) for reason in figure["reasons"]],
            "spark": spark([*figure["trend"], as_past(figure)], figure["threshold"]),
        }
        for figure in document["reports"]
    ]
    titles = {figure["name"]: figure["title"] for figure in document["reports"]}
    page = template("stage.html.j2").render(
        r=document, figures=figures, titles=titles, trend=past_rows(document["trend"])
    )
    return page.encode()
