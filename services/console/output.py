"""How do commands read what is there, and how do they show it?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

Row = Sequence[object]
T = TypeVar("T")

PAGE = 200
PAGES = 50
"""Pages that one command reads at most: 10,000 rows."""
IDS = frozenset({"case", "request", "id", "template", "subscriber", "decision", "signal_id", "account", "check"})


class CannotDo(Exception):
    """What was asked cannot be done; the text says why."""


async def everything(page: Callable[[str], Awaitable[tuple[list[T], str]]]) -> list[T]:
    """All rows of a paged list, at most PAGES pages."""
    rows, token = await page("")
    found = list(rows)
    for _ in range(PAGES):
        if not token:
            break
        rows, token = await page(token)
        found += rows
    return found


def print_rows(options: argparse.Namespace, facts: object, headings: Sequence[str], rows: Sequence[Row]) -> None:
    """Facts as JSON for programs, rows as a table for people."""
    if options.json:
        print(json.dumps(facts, ensure_ascii=False, default=str))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        # An id that is cut cannot be copied into the next command.
        table.add_column(heading, no_wrap=heading in IDS, min_width=36 if heading in IDS else None)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table if rows else "Nothing there.")


def name_of(value: Any) -> str:
    """An enum's name without the prefix of its type."""
    return str(getattr(value, "name", value) or "")


def time_of(value: datetime | None) -> str:
    """A time as this machine's clock shows it; empty for none."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else ""


def present(value: T | None) -> T:
    """A part of an answer that must be there. Raises CannotDo."""
    if value is None:
        raise CannotDo("The service's answer is incomplete.")
    return value


def read_file(file: Path) -> bytes:
    """A file that was named. Raises CannotDo."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise CannotDo(f"{file} cannot be read ({type(error).__name__}).") from None
