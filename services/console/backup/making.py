"""How is a running system saved?

One copy of the PostgreSQL cluster holds the five databases as of one moment. Separate dumps would not do: a consumer
whose cursor is newer than its publisher's outbox would skip what the publisher stamps next with the same positions.

A data folder holds `manifest.json`, `base.tar.gz`, `pg_wal.tar.gz`, `backup_manifest`; a key folder `manifest.json`,
`keys.sealed` and the growing `tombstones/`. A folder without its manifest.json is an unfinished backup: the next run
with the same folders begins it anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.chassis.ids import uuid7
from services.console.backup.key_archive import KeyPacking, copy_tombstones
from services.console.backup.sealed import SealedWriter, read_key
from services.console.embedded import Postgres
from services.console.home import SERVICES, Home, exclusive, write_private
from services.console.output import CannotDo
from services.console.supervisor import schema_digest

FORMAT = 1
DATA_FILES = ("base.tar.gz", "pg_wal.tar.gz", "backup_manifest")
KEY_FILES = ("keys.sealed",)
BLOCK = 1024 * 1024
_PROGRESS = re.compile(rb"(\d+)/(\d+) kB")

Say = Callable[[str, float], None]
"""Is told what is being done and the share of it that is done, 0 to 1."""


@dataclass(frozen=True)
class Made:
    """A finished backup."""

    backup_id: str
    data: Path
    keys: Path
    data_bytes: int
    key_files: int
    tombstones: int


def recovery_public(home: Home) -> Path:
    """Where a home keeps the public half of its recovery key."""
    return home.path / "backup" / "recovery.pub"


def make(home: Home, data: Path, keys: Path, say: Say) -> Made:
    """Saves the running system of a home into two folders. Raises CannotDo, HomeUnusable."""
    data, keys = data.absolute(), keys.absolute()
    if data == keys or data.is_relative_to(keys) or keys.is_relative_to(data):
        raise CannotDo("Data and keys belong in two places: whoever has both reads everything, erased people included.")
    if not recovery_public(home).exists():
        raise CannotDo("There is no recovery key yet; make one with `jikimi backup key FILE` and keep FILE elsewhere.")
    public = read_key(recovery_public(home))
    if not Postgres(home).ready():
        raise CannotDo("The database does not run; start it with `jikimi up`.")
    with exclusive(home.path / "backup" / ".lock"):
        return _make(home, data, keys, public, say)


def _make(home: Home, data: Path, keys: Path, public: bytes, say: Say) -> Made:
    for folder, names in ((data, DATA_FILES), (keys, KEY_FILES)):
        _empty(folder, names)
    backup_id, begun = uuid7(), datetime.now(UTC)
    with SealedWriter(keys / KEY_FILES[0], public) as sealed:
        packing = KeyPacking(home, sealed)
        say("keys", 0.0)
        packed = packing.take()
        _copy_cluster(home, data, say)
        say("keys", 0.5)
        packed += packing.take()
        manifest = _manifest(backup_id, begun, data, DATA_FILES, say)
        manifest["schemas"] = {service: schema_digest(service) for service in SERVICES}
        text = json.dumps(manifest, indent=1).encode()
        packing.close(json.dumps({"backup_id": backup_id, "data_manifest": hashlib.sha256(text).hexdigest()}).encode())
    buried = copy_tombstones(home, keys)
    key_manifest = _manifest(backup_id, begun, keys, KEY_FILES, say)
    write_private(keys / "manifest.json", json.dumps(key_manifest, indent=1).encode())
    write_private(data / "manifest.json", text)
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    return Made(backup_id, data, keys, size, packed, buried)


def _empty(folder: Path, names: tuple[str, ...]) -> None:
    """Makes the folder, or clears what an interrupted run left. Raises CannotDo for a folder with anything else."""
    if (folder / "manifest.json").exists():
        raise CannotDo(f"{folder} holds a finished backup; name another folder.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = [each for each in folder.iterdir() if not each.name.startswith(".")]
    if foreign := [each for each in there if each.name not in {*names, "tombstones"}]:
        raise CannotDo(f"{folder} holds something else ({len(foreign)} names); name an empty folder.")
    for each in there:
        if each.name != "tombstones":
            each.unlink()


def _copy_cluster(home: Home, data: Path, say: Say) -> None:
    part = data / ".part"
    shutil.rmtree(part, ignore_errors=True)
    process = Postgres(home).start_base_backup(part)
    try:
        words = _follow(process, say)
        if process.wait() != 0:
            raise CannotDo(f"The database could not be copied: {words[-300:].decode(errors='replace').strip()}")
        for name in DATA_FILES:
            (part / name).rename(data / name)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        shutil.rmtree(part, ignore_errors=True)


def _follow(process: subprocess.Popen[bytes], say: Say) -> bytes:
    """Tells of the progress that pg_basebackup prints; returns its last words."""
    words = b""
    while process.stderr is not None and (piece := process.stderr.read1(65_536)):  # type: ignore[attr-defined] # a buffered pipe
        words = (words + piece)[-4096:]
        if found := _PROGRESS.findall(piece):
            done, whole = (int(number) for number in found[-1])
            say("database", min(1.0, done / max(whole, 1)))
    return words


def _manifest(backup_id: str, begun: datetime, folder: Path, names: tuple[str, ...], say: Say) -> dict[str, Any]:
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": digest(folder / name, say)} for name in names}
    return {"format": FORMAT, "backup_id": backup_id, "begin_time": begun.isoformat(), "files": files}


def digest(file: Path, say: Say) -> str:
    """SHA-256 of a file, hexadecimal."""
    size, done, hashed = file.stat().st_size, 0, hashlib.sha256()
    with file.open("rb") as source:
        while block := source.read(BLOCK):
            hashed.update(block)
            done += len(block)
            say(f"hash of {file.name}", done / max(size, 1))
    return hashed.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a finished backup says of itself. Raises CannotDo."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
        known = manifest["format"] == FORMAT and bool(manifest["backup_id"]) and isinstance(manifest["files"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        raise CannotDo(f"{folder} holds no finished backup.") from None
    if not known:
        raise CannotDo(f"{folder} holds a backup of another format.")
    return manifest


def check_files(folder: Path, names: tuple[str, ...], say: Say) -> dict[str, Any]:
    """The manifest, once every file is what it says. Raises CannotDo naming the file that is not."""
    manifest = read_manifest(folder)
    for name in names:
        said = manifest["files"].get(name, {})
        if not (folder / name).is_file() or digest(folder / name, say) != said.get("sha256"):
            raise CannotDo(f"{folder / name} is not what was saved: missing, cut or changed.")
    return manifest
