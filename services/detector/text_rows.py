"""What a file of texts holds: rows of JSON lines with `id` and `text`, and which of them cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

LONGEST_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line."""


@dataclass(frozen=True, slots=True)
class Row:
    """One usable line: its number from 1, its `id` (a string or a number as given), its text, all its members."""

    line: int
    id: str | int
    text: str = field(repr=False)
    members: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A line that is no row. `reason`: LINE_TOO_LONG, NOT_UTF8, NOT_JSON, NOT_AN_OBJECT, NO_ID, NO_TEXT,
    BAD_ENTITIES."""

    line: int
    reason: str


def read_rows(source: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[Row | BrokenRow]:
    """Every line that is not blank, in order; one that is broken harms no other. Holds one line at a time."""
    number = 0
    while line := source.readline(longest + 1):
        number += 1
        too_long = len(line) > longest
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(longest)
        if too_long:
            yield BrokenRow(number, "LINE_TOO_LONG")
        elif line.strip():
            yield _row(number, line)


def _row(number: int, line: bytes) -> Row | BrokenRow:
    try:
        members = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BrokenRow(number, "NOT_UTF8")
    except (ValueError, RecursionError):
        return BrokenRow(number, "NOT_JSON")
    if not isinstance(members, dict):
        return BrokenRow(number, "NOT_AN_OBJECT")
    row_id, text = members.get("id"), members.get("text")
    if isinstance(row_id, bool) or not isinstance(row_id, str | int):
        return BrokenRow(number, "NO_ID")
    if not isinstance(text, str):
        return BrokenRow(number, "NO_TEXT")
    return Row(number, row_id, text, members)
