"""What do `jikimi backup key|create|tombstones|verify|restore|check` do?"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from jikimi_client.misuse.case import v1 as case_api
from services.console import supervisor
from services.console.backup import checking, making, restoring
from services.console.backup.key_archive import copy_tombstones
from services.console.backup.sealed import make_recovery_key
from services.console.case_commands import check_all
from services.console.client import connections, staff
from services.console.home import Home
from services.console.output import CannotDo, print_rows

SETTLE_SECONDS = 900.0
WHY_TWO = (
    "Keep the two in two places. The data alone are sealed; the keys alone open nothing. "
    "Copy tombstones beside the keys often (`jikimi backup tombstones`): they keep erased people erased."
)


@contextmanager
def _progress() -> Iterator[making.Say]:
    """Shows the step that is under way on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=1.0)

        def say(step: str, share: float) -> None:
            progress.update(task, description=step, completed=share)

        yield say


async def backup_key(home: Home, options: argparse.Namespace) -> int:
    """Makes a recovery key."""
    home.create()
    file = Path(options.file)
    try:
        public = make_recovery_key(file)
    except OSError as error:
        raise CannotDo(f"{file} cannot be made ({type(error).__name__}).") from None
    restoring.keep_recovery_key(home, public)
    facts = {"recovery_key": str(file), "public": public.hex()}
    print_rows(options, facts, ["recovery key", "public half"], [[file, public.hex()]])
    print("Take this file off the machine: only it opens the key archives made from now on.", file=sys.stderr)
    return 0


async def backup_create(home: Home, options: argparse.Namespace) -> int:
    """Saves the running system."""
    data = Path(options.folder)
    keys = Path(options.keys) if options.keys else data.with_name(f"{data.name}.keys")
    with _progress() as say:
        made = await asyncio.to_thread(making.make, home, data, keys, say)
    facts = {
        "backup_id": made.backup_id,
        "data": str(made.data),
        "keys": str(made.keys),
        "data_bytes": made.data_bytes,
        "key_files": made.key_files,
        "tombstones": made.tombstones,
    }
    print_rows(options, facts, list(facts), [list(facts.values())])
    print(WHY_TWO, file=sys.stderr)
    return 0


async def backup_tombstones(home: Home, options: argparse.Namespace) -> int:
    """Copies tombstones that came since."""
    added = copy_tombstones(home, Path(options.folder))
    print_rows(options, {"added": added}, ["added"], [[added]])
    return 0


async def backup_verify(home: Home, options: argparse.Namespace) -> int:
    """Holds the files of a backup against their hashes."""
    with _progress() as say:
        found = making.check_files(Path(options.folder), making.DATA_FILES, say)
        if options.keys and making.check_files(Path(options.keys), making.KEY_FILES, say)["backup_id"] != (
            found["backup_id"]
        ):
            raise CannotDo("Data and keys are of two different backups.")
    facts = {"backup_id": found["backup_id"], "begin_time": found["begin_time"], "whole": True}
    print_rows(options, facts, list(facts), [list(facts.values())])
    return 0


async def backup_restore(home: Home, options: argparse.Namespace) -> int:
    """Brings a backup back, starts the system and checks it. Exit status 1 where the check finds something."""
    wanted = restoring.Wanted(
        data=Path(options.folder),
        keys=Path(options.keys) if options.keys else None,
        recovery_key=Path(options.recovery_key) if options.recovery_key else None,
        tombstones=tuple(Path(each) for each in options.tombstones),
        replace=options.replace,
    )
    with _progress() as say:
        restored = await asyncio.to_thread(restoring.restore, home, wanted, say)
    print(f"Backup {restored.backup_id} is back in {home.path}.", file=sys.stderr)
    if restored.put_aside is not None:
        print(f"The database that was there lies in {restored.put_aside}; delete it in time.", file=sys.stderr)
    if options.stay_down:
        return 0
    if await asyncio.to_thread(supervisor.up, home) != 0:
        return 1
    await erase_again(home)
    return await backup_check(home, options)


async def erase_again(home: Home) -> int:
    """Asks for the erasure of everybody whom a backup brought back although a tombstone lies in a key store; returns
    how many. Asking twice for one erasure does no harm."""
    gone = await asyncio.to_thread(checking.erased_and_back, home)
    async with connections(home) as services:
        stub = services.stub("case", case_api.PrivacyServiceStub, staff("PRIVACY_OFFICER", "RIGHTS"))
        for subscriber_id in gone:
            request_id = secrets.token_hex(16)
            await stub.erase_subscriber(
                case_api.EraseSubscriberRequest(subscriber_id=subscriber_id, request_id=request_id)
            )
    if gone:
        print(f"{len(gone)} erased subscribers were in the backup; they are being erased again.", file=sys.stderr)
    return len(gone)


async def backup_check(home: Home, options: argparse.Namespace) -> int:
    """Waits until the bus has caught up and holds every log against the kept heads. Exit status 1 for a fault."""
    standing = await asyncio.to_thread(checking.wait_until_settled, home, SETTLE_SECONDS)
    async with connections(home) as services:
        log = await check_all(services)
    facts = {
        "settled": standing.settled,
        "unsent": standing.unsent,
        "cursors_ahead": len(standing.ahead),
        "dead_letters": standing.dead_letters,
        "log_chains": log.chains,
        "log_entries": log.entries,
        "log_faults": len(log.faults),
    }
    print_rows(options, facts, [name.replace("_", " ") for name in facts], [list(facts.values())])
    good = standing.settled and not standing.ahead and not standing.dead_letters and not log.faults
    return 0 if good else 1
