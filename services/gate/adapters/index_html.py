"""How do all gates become one page at a glance?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from services.gate.adapters.charts import spark
from services.gate.adapters.html import SIGNS, template

_AREAS = ("detection", "operation", "compliance")


def render_index(document: Mapping[str, Any]) -> bytes:
    """The page, UTF-8. `document` as `overview` gives it."""
    gates = [{**gate, "spark": spark(gate["trend"], gate["threshold"])} for gate in document["gates"]]
    areas = [{"name": area, "gates": [gate for gate in gates if gate["area"] == area]} for area in _AREAS]
    known = Counter(gate["last"]["outcome"] for gate in gates if gate["last"])
    page = template("index.html.j2").render(
        r=document,
        areas=[area for area in areas if area["gates"]],
        counts=[(outcome, known[outcome]) for outcome in SIGNS],
        never=sum(1 for gate in gates if gate["last"] is None),
    )
    return page.encode()
