"""What of a home's keys belongs in a backup, and how do they come back without bringing anybody back who was erased?

A key archive holds, sealed: each service's key store (wrapped data keys, peppers, tombstones), the master keys, the
token and signing keys, the passwords. Beside it lies, open, a copy of the tombstones that grows between backups: names
that are keyed hashes, which list nobody. A tombstone in it wins over a key in the archive.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from services.chassis.files import make_folder, write_once
from services.chassis.keys import bury, tombstones
from services.console.backup.sealed import SealedReader, SealedWriter
from services.console.home import SERVICES, Home, write_private
from services.console.output import CannotDo

PARTS = ("keys", "tokens", "secrets")
MEMBER_BYTES = 1024 * 1024
"""Largest file of a key store: a master key file with thousands of lines is smaller."""


@dataclass
class KeyPacking:
    """Puts a home's keys into an archive, in two passes around the copy of the data.

    The first pass takes keys that may be destroyed while the data is copied, the second those that were made
    meanwhile or changed: so the archive has a key for whatever the data holds.
    """

    home: Home
    out: SealedWriter
    _seen: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A stream of blocks is written: tarfile asks its file object for `write` alone.
        self._tar = tarfile.open(mode="w|", fileobj=cast(IO[bytes], self.out))  # noqa: SIM115  `close` ends it

    def take(self) -> int:
        """One pass; returns how many files it added."""
        added = 0
        for file in _files(self.home):
            name = str(file.relative_to(self.home.path))
            try:
                changed, content = file.stat().st_mtime_ns, file.read_bytes()
            except FileNotFoundError:
                continue  # destroyed since it was listed
            if self._seen.get(name) != changed:
                self._add(name, content)
                self._seen[name] = changed
                added += 1
        return added

    def close(self, note: bytes) -> None:
        """Ends the archive with what says to which data it belongs."""
        self._add("backup.json", note)
        self._tar.close()

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))


def unpack(archive: Path, private: bytes, folder: Path) -> bytes:
    """Lays the files of an archive below an empty folder and returns its note. Raises NotOpened, CannotDo."""
    note = b""
    with SealedReader(archive, private) as sealed:
        with tarfile.open(mode="r|", fileobj=cast(IO[bytes], sealed)) as tar:
            for member in tar:
                content = _content(tar, member)
                if member.name == "backup.json":
                    note = content
                else:
                    _lay(folder, member.name, content)
        sealed.drain()
    return note


def copy_tombstones(home: Home, folder: Path) -> int:
    """Adds the tombstones of people that the copy beside a key archive does not have yet; returns how many."""
    added = 0
    for service in SERVICES:
        for name, kind in tombstones(home.keys(service)):
            place = folder / "tombstones" / service / name[:2] / name
            if kind or place.exists():
                continue
            make_folder(place.parent)
            write_once(place, b"")
            added += 1
    return added


def bury_again(folder: Path, home: Home) -> int:
    """Ends in a home the keys of everybody for whom a tombstone lies in the copy; returns how many keys that were."""
    return sum(bury(home.keys(service), name) for service in SERVICES for name in _copied(folder, service))


def _copied(folder: Path, service: str) -> Iterator[str]:
    for file in sorted((folder / "tombstones" / service).glob("??/*")):
        yield file.name


def _files(home: Home) -> Iterable[Path]:
    for part in PARTS:
        for file in sorted((home.path / part).rglob("*")):
            # A name with a dot in front is being written.
            if file.is_file() and not file.is_symlink() and not file.name.startswith("."):
                yield file


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member) if member.isfile() and member.size <= MEMBER_BYTES else None
    if source is None:
        raise CannotDo("The key archive holds what is no key file.")
    return source.read()


def _lay(folder: Path, name: str, content: bytes) -> None:
    place = (folder / name).resolve()
    if not place.is_relative_to(folder.resolve()) or name.split("/")[0] not in PARTS:
        raise CannotDo("The key archive holds a file outside of the keys.")
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(place, content)
