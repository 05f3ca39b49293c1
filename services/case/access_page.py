"""How is the review of the access log shown: as JSON for programs, as one page for people?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

_TEMPLATES = Path(__file__).parent / "templates"


def as_json(report: Mapping[str, object]) -> bytes:
    """The document, UTF-8."""
    return json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False).encode()


def access_page(report: Mapping[str, object]) -> bytes:
    """The same as one self-contained page in Korean and English, UTF-8."""
    return _template().render(r=report).encode()


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = lambda text: text.replace("T", " ").replace("+00:00", " UTC")
    return environment.get_template("access_review.html.j2")
