"""Which file of rules is in force, and how is it read?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# libyaml where PyYAML was built with it: a service reads its rules at every start, ten times as fast.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def in_force(shipped: Path, operators: Path | None, service: str) -> Path:
    """The operator's file of that name, `<operators>/<service>/…`, where there is one, else the shipped one.

    `operators` is what JIKIMI_RULES_DIR names; it holds what differs and nothing else.
    """
    own = operators / service / shipped.name if operators else None
    return own if own and own.exists() else shipped


def parse(text: str | bytes) -> Any:
    """What one document of YAML says, as plain Python values; nothing in it can make an object or run code.

    Raises `yaml.YAMLError` where it is none.
    """
    return yaml.load(text, _SafeLoader)  # one of the two safe loaders


def read(shipped: Path, operators: Path | None, service: str) -> Any:
    """What the file in force says. Raises OSError and `yaml.YAMLError`."""
    return parse(in_force(shipped, operators, service).read_text(encoding="utf-8"))
