"""Where is kept what takes long to compile, so that the next start need not do it again?"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from services.chassis.files import make_folder, replace_file


def kept_file(kind: str, name: str) -> Path:
    """A file below `JIKIMI_CACHE_DIR`, else below `.cache` of this tree."""
    return Path(os.environ.get("JIKIMI_CACHE_DIR") or Path(__file__).parents[3] / ".cache") / kind / name


def read_kept(file: Path) -> bytes | None:
    """What was kept; None where nothing was, or where somebody else could have written it."""
    with suppress(OSError), file.open("rb") as kept:
        state = os.fstat(kept.fileno())
        if state.st_uid == os.geteuid() and not state.st_mode & 0o022:
            return kept.read()
    return None


def keep(file: Path, data: bytes) -> None:
    """Keeps it where the folder can be written: a read-only image compiles at every start."""
    with suppress(OSError):
        make_folder(file.parent)
        replace_file(file, data)
