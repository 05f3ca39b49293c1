"""What time is it for the business rules?

Due rows, retention and windows read this clock, which tests and the demo may move. Tokens, TLS and deadlines
use real time and never come here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from services.chassis.files import replace_file

_LIMIT_S = 20 * 366 * 86_400


class Clock(Protocol):
    """Tells the time, in UTC and aware."""

    def now(self) -> datetime:
        """The current business time."""


class SystemClock:
    """Real time, plus the seconds that the offset file holds (test profile only).

    Every process of a system reads the same file, so that time moves for all at once. A missing file means no
    offset. Raises ValueError when the file does not hold a number of seconds within ± 20 years.
    """

    def __init__(self, offset_file: Path | None = None) -> None:
        self._file = offset_file
        self._seen: tuple[int, int, int] | None = None
        self._offset = timedelta()

    def now(self) -> datetime:
        """Real time plus the offset, in UTC."""
        if self._file is None:
            return datetime.now(UTC)
        return datetime.now(UTC) + self._current_offset(self._file)

    def _current_offset(self, file: Path) -> timedelta:
        try:
            stat = file.stat()
        except FileNotFoundError:
            return timedelta()
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if seen != self._seen:
            self._offset = _read_offset(file)
            self._seen = seen
        return self._offset


class ManualClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        if start.tzinfo is None:
            raise ValueError("a clock starts at an aware time")
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """The time it was set to."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Moves on; never back."""
        if by < timedelta():
            raise ValueError("time does not run back")
        self._now += by


def write_offset(file: Path, offset: timedelta) -> None:
    """Moves the time of every process that reads `file`; the file is replaced whole, never half written."""
    seconds = offset.total_seconds()
    _check(seconds)
    replace_file(file, f"{seconds!r}\n".encode())


def _read_offset(file: Path) -> timedelta:
    try:
        seconds = float(file.read_text(encoding="ascii"))
    except ValueError as error:
        raise ValueError("the clock's offset file does not hold seconds") from error
    _check(seconds)
    return timedelta(seconds=seconds)


def _check(seconds: float) -> None:
    if not -_LIMIT_S <= seconds <= _LIMIT_S:
        raise ValueError("the clock's offset is beyond 20 years")
