"""How does mail come into a service?

The mail relay delivers into a maildir (new, cur, tmp). A mail is read once, taken in, and deleted; one that nobody here
knows what to do with is flagged in `cur` for a person and goes after some days.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final, TypeAlias

from services.chassis.database import is_transient
from services.chassis.telemetry import logger

log = logger(__name__)

LARGEST_MAIL: Final = 1024 * 1024
"""Bytes of a mail that are read."""
POLL_S: Final = 5.0
KEPT_FLAGGED: Final = timedelta(days=14)
"""How long a flagged mail lies in `cur`; real time."""
MOST_AT_ONCE: Final = 100

Take: TypeAlias = Callable[[bytes], Awaitable[bool]]
"""Takes the start of a mail in; False where nobody knows what it is about."""


class Maildir:
    """Takes in what lies in one maildir."""

    def __init__(self, folder: Path, take: Take) -> None:
        self._folder = folder
        self._take = take

    async def run(self) -> None:
        """Looks every few seconds until cancelled."""
        while True:
            try:
                await self.take()
            except Exception as error:
                if not is_transient(error) and not isinstance(error, OSError):
                    raise
                log.warning("maildir_unreachable", error=type(error).__name__)
            await asyncio.sleep(POLL_S)

    async def take(self) -> int:
        """Takes in what is there now; returns how many. Raises OSError, and what taking in raises."""
        self._purge()
        files = sorted((self._folder / "new").glob("*"))[:MOST_AT_ONCE]
        for file in files:
            if await self._take(_start_of(file)):
                file.unlink()
            else:
                (self._folder / "cur").mkdir(mode=0o700, exist_ok=True)
                file.rename(self._folder / "cur" / f"{file.name}:2,F")
        return len(files)

    def _purge(self) -> None:
        oldest = time.time() - KEPT_FLAGGED.total_seconds()
        for file in (self._folder / "cur").glob("*:2,F"):
            if file.stat().st_mtime < oldest:
                file.unlink()


def _start_of(file: Path) -> bytes:
    with file.open("rb") as mail:
        return mail.read(LARGEST_MAIL)
