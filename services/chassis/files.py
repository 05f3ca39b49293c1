"""How does a small file get written so that no crash and no second process can spoil it?

The content goes to a temporary file, is synced, takes its name in one step, and then the folder is synced.
Files and folders made here are readable by their owner only, unless somebody asks for more.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_once(file: Path, content: bytes) -> bytes:
    """Creates `file`, or leaves it as it is when somebody was faster. Returns what the file holds now."""
    new = _temporary(file, content)
    try:
        os.link(new, file)
    except FileExistsError:
        return file.read_bytes()
    finally:
        new.unlink()
        sync_folder(file.parent)
    return content


def replace_file(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Creates or replaces `file`: a reader sees the old content or the new, never a part. Of `mode` the process's umask
    takes away what it always does."""
    _temporary(file, content, mode).replace(file)
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Creates a folder with its parents, durably."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(file: Path, content: bytes, mode: int = 0o600) -> Path:
    new = file.with_name(f".{file.name}.{secrets.token_hex(6)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:  # a full disk, an interruption: a part of a file is of no use to anybody
        new.unlink()
        raise
    return new
