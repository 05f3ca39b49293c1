"""How does a UserActionOutcomeReport become a page?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.gate.adapters.html import template
from services.gate.adapters.leaks_html import NAMES

Words = Mapping[str, str]
_PARTS: Final[Sequence[tuple[str, Words]]] = (
    ("blurred", {"ko": "가림", "en": "blurred"}),
    ("cancelled", {"ko": "취소", "en": "cancelled"}),
    ("went_on", {"ko": "그대로 올림", "en": "went on"}),
    ("no_answer", {"ko": "답 없음", "en": "no answer"}),
    ("open", {"ko": "아직 열림", "en": "open"}),
)
_DIMENSIONS: Final[Sequence[tuple[str, Words]]] = (
    ("severity", {"ko": "심각도", "en": "Severity"}),
    ("kind", {"ko": "발견한 것", "en": "What was found"}),
)
_NAMES: Final[Mapping[str, Words]] = {
    **NAMES,
    "FACE_OWN": {"ko": "본인 얼굴", "en": "Own face"},
    "FACE_OTHER": {"ko": "다른 사람 얼굴", "en": "Another person's face"},
    "HIGH": {"ko": "높음", "en": "High"},
    "MEDIUM": {"ko": "보통", "en": "Medium"},
    "LOW": {"ko": "낮음", "en": "Low"},
}


def render_actions(document: Mapping[str, object]) -> bytes:
    """The page, UTF-8. `document`: start, end, total, rows and cut_off as in the contract."""
    facts: Any = document
    dimensions = [
        {"name": name, "rows": [_row(row) for row in facts["rows"] if row["dimension"] == key]}
        for key, name in _DIMENSIONS
    ]
    page = template("actions.html.j2").render(
        r=facts,
        total=_row(facts["total"]),
        dimensions=[dimension for dimension in dimensions if dimension["rows"]],
        parts=[{"key": key, "name": name} for key, name in _PARTS],
    )
    return page.encode()


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The counts of a row and their shares of all warnings in it."""
    answered = sum(row[key] for key, _ in _PARTS[:-1])
    counts = {key: row[key] for key, _ in _PARTS[:-1]} | {"open": row["shown"] - answered}
    whole = max(1, row["shown"])
    return {
        "words": _NAMES.get(row["name"], {"ko": row["name"], "en": row["name"]}),
        "shown": row["shown"],
        "counts": counts,
        "percents": {key: 100 * count / whole for key, count in counts.items()},
        "heeded": (row["blurred"] + row["cancelled"]) / whole,
    }
