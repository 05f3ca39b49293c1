"""How are the rules of evidence and guidance read from their files?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path as File
from typing import Any

from services.case.adapters.rules import SHIPPED, RulesError
from services.case.domain.guidance import Guidance, Path
from services.case.domain.requirements import Field, Requirements
from services.chassis import yaml_text

_LANGUAGES = {"ko", "en"}
_SOURCES = {"WEB", "SNS", "FORUM", "DARK_WEB", "LEAK_INDEX", "PUBLIC_GUIDANCE", "USER"}
_KINDS = {"FACE", "PII"}
_PATHS_AT_MOST = 10
"""As many as the contract has room for in a case."""


def load_requirements(folder: File | None = None) -> Requirements:
    """Reads `evidence.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    data = _mapping(_read(folder, "evidence.yaml"), {"version", "platforms", "otherwise", "weak"}, "evidence")
    weak = _mapping(data["weak"], {"good_statuses", "fetched_within_hours"}, "evidence.weak")
    platforms = data["platforms"]
    if not isinstance(platforms, dict):
        raise RulesError("evidence.platforms is not a mapping")
    return Requirements(
        version=_text(data["version"], "evidence.version"),
        platforms={_text(name, "evidence.platforms"): _fields(listed, name) for name, listed in platforms.items()},
        otherwise=_fields(data["otherwise"], "otherwise"),
        good_statuses=frozenset(_number(status, 100, 599, "good_statuses") for status in weak["good_statuses"]),
        fetched_within=timedelta(hours=_number(weak["fetched_within_hours"], 1, 8760, "fetched_within_hours")),
    )


def load_guidance(folder: File | None = None) -> Guidance:
    """Reads `guidance.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    data = _mapping(_read(folder, "guidance.yaml"), {"version", "paths"}, "guidance")
    if not isinstance(data["paths"], list) or len(data["paths"]) > _PATHS_AT_MOST:
        raise RulesError("guidance.paths is not a list of at most ten")
    paths = [_path(each) for each in data["paths"]]
    if len({path.path_id for path in paths}) != len(paths):
        raise RulesError("guidance.paths has an id twice")
    return Guidance(_text(data["version"], "guidance.version"), paths)


def _path(value: object) -> Path:
    names = {"id", "name", "offers", "url", "phone", "source_types", "kinds"}
    data = _mapping(value, names, "guidance.paths")
    url, phone = data["url"], data["phone"]
    if not (isinstance(url, str) and isinstance(phone, str) and (url.startswith("https://") or (phone and not url))):
        raise RulesError("guidance.paths has neither an address by https nor a telephone number")
    return Path(
        path_id=_text(data["id"], "guidance.id"),
        name=_words(data["name"]),
        offers=_words(data["offers"]),
        url=url,
        phone=phone,
        source_types=_subset(data["source_types"], _SOURCES, "source_types"),
        kinds=_subset(data["kinds"], _KINDS, "kinds"),
    )


def _read(folder: File | None, name: str) -> object:
    return yaml_text.read(SHIPPED / name, folder, "case")


def _mapping(value: object, names: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise RulesError(f"{where} does not have exactly {', '.join(sorted(names))}")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise RulesError(f"{where} is not a short text")
    return value


def _number(value: object, low: int, high: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RulesError(f"{where} is out of bounds")
    return value


def _fields(value: object, where: object) -> tuple[Field, ...]:
    if not isinstance(value, list) or not value:
        raise RulesError(f"evidence.{where} is not a list")
    try:
        return tuple(Field(name) for name in value)
    except ValueError:
        raise RulesError(f"evidence.{where} has an unknown field") from None


def _words(value: object) -> Mapping[str, str]:
    words = _mapping(value, _LANGUAGES, "guidance words")
    if not all(isinstance(text, str) and 1 <= len(text) <= 200 for text in words.values()):
        raise RulesError("guidance words are texts of at most 200 characters")
    return words


def _subset(value: Sequence[object], known: set[str], where: str) -> frozenset[str]:
    if not isinstance(value, list) or not set(value) <= known or not value:
        raise RulesError(f"guidance.{where} has an unknown word")
    return frozenset(value)
