"""How are the rules read from their file?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from services.case.domain.rules import Rules

SHIPPED = Path(__file__).parent.parent / "rules"
"""The rules that come with the service."""


class RulesError(Exception):
    """A rule is missing, unknown or out of bounds; names the rule."""


def load_rules(folder: Path | None = None) -> Rules:
    """Reads `case.yaml` of the folder (default: the shipped ones). Raises RulesError."""
    data = yaml.safe_load(((folder or SHIPPED) / "case.yaml").read_text(encoding="utf-8"))
    read = _Reader(data)
    rules = Rules(
        incident_version=read("incident", "version", _name),
        window=timedelta(days=read("incident", "window_days", _whole(1, 3650))),
        evidence_version=read("evidence", "version", _name),
        pack_after=timedelta(milliseconds=read("evidence", "pack_after_ms", _whole(0, 3_600_000))),
        repack_after=timedelta(milliseconds=read("evidence", "repack_after_ms", _whole(0, 3_600_000))),
        max_items=read("evidence", "max_items", _whole(1, 2000)),
        keep_versions=read("evidence", "keep_versions", _whole(1, 100)),
        required=read("evidence", "required", _names),
        close_after=timedelta(days=read("lifecycle", "close_after_days", _whole(0, 3650))),
        give_up_after=timedelta(days=read("lifecycle", "close_without_action_days", _whole(1, 3650))),
        review_lease=timedelta(minutes=read("review", "lease_minutes", _whole(1, 1440))),
        review_labels=read("review", "labels", _whole(1, 10)),
    )
    read.finish()
    return rules


class _Reader:
    def __init__(self, data: object) -> None:
        if not isinstance(data, dict) or not all(isinstance(part, dict) for part in data.values()):
            raise RulesError("the rules are not sections of values")
        self._data: dict[str, dict[str, object]] = {name: dict(part) for name, part in data.items()}

    def __call__(self, section: str, name: str, parse: Callable[[object], Any]) -> Any:
        try:
            return parse(self._data[section].pop(name))
        except (KeyError, ValueError):
            raise RulesError(f"{section}.{name} is missing or out of bounds") from None

    def finish(self) -> None:
        """Raises RulesError for a rule that nobody reads: most likely a misspelt one."""
        for section, rest in self._data.items():
            for name in rest:
                raise RulesError(f"{section}.{name} is not a rule")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise ValueError
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(_name(item) for item in value)
