"""What do `jikimi keys list|rotate|retire` do?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from services.console import keyring
from services.console.home import Home
from services.console.output import CannotDo, print_rows


async def keys_list(home: Home, options: argparse.Namespace) -> int:
    """Lists key ids; never a key."""
    found: list[keyring.Key] = []
    for family in keyring.FAMILIES:
        try:
            found += keyring.keys_of(home, family)
        except CannotDo:
            continue  # not made yet
    rows = [[key.family, key.key_id, key.state, key.uses or ""] for key in found]
    facts = [{"family": key.family, "key_id": key.key_id, "state": key.state, "uses": key.uses} for key in found]
    print_rows(options, facts, ["keys", "key id", "", "data keys"], rows)
    return 0


async def keys_rotate(home: Home, options: argparse.Namespace) -> int:
    """Brings new keys into use."""
    rows, restart = [], set[str]()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("")

        def say(step: str, done: int, whole: int) -> None:
            progress.update(task, description=step, completed=done, total=max(whole, 1))

        for family in _families(options):
            key = await asyncio.to_thread(keyring.rotate, home, family, say, datetime.now(UTC))
            restart |= set(keyring.needs_restart(family))
            rows.append([key.family, key.key_id])
    print_rows(options, [{"family": family, "key_id": key_id} for family, key_id in rows], ["keys", "in use now"], rows)
    if restart:
        print(f"Taken up at the next start of {', '.join(sorted(restart))}: `jikimi restart`.", file=sys.stderr)
    return 0


async def keys_retire(home: Home, options: argparse.Namespace) -> int:
    """Makes old keys unusable."""
    rows = []
    for family in _families(options):
        gone = await asyncio.to_thread(keyring.retire, home, family, datetime.now(UTC), at_once=options.at_once)
        rows += [[family, key_id] for key_id in gone]
    print_rows(options, [{"family": family, "key_id": key_id} for family, key_id in rows], ["keys", "retired"], rows)
    return 0


def _families(options: argparse.Namespace) -> list[str]:
    asked = options.family
    chosen = [family for family in keyring.FAMILIES if family == asked or family.startswith(f"{asked}:")]
    if not chosen:
        raise CannotDo(f"There are no such keys; known are {', '.join(keyring.FAMILIES)}, and master for all masters.")
    return chosen
