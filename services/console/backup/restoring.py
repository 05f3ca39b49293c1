"""How does a saved system come back?

Stage by stage, each of which is harmless to repeat: `restore.json` in the home says how far it got. While it lies there
the system does not start; the same command goes on where it stopped, another backup is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.chassis.files import sync_folder
from services.chassis.keys import tombstones
from services.console.backup.key_archive import PARTS, bury_again, unpack
from services.console.backup.making import DATA_FILES, KEY_FILES, Say, check_files, recovery_public
from services.console.backup.sealed import read_key
from services.console.embedded import Nats, Postgres
from services.console.home import SERVICES, Home, write_private
from services.console.output import CannotDo
from services.console.supervisor import RESTORE_NOTE, sole_supervisor


@dataclass(frozen=True)
class Wanted:
    """What is to come back, and from where."""

    data: Path
    keys: Path | None
    """Folder of the key archive; None where the home's own keys survived."""
    recovery_key: Path | None
    tombstones: tuple[Path, ...]
    """Further folders with copies of tombstones, newer than that beside the key archive."""
    replace: bool
    """Whether a database that is there may be put aside."""


@dataclass(frozen=True)
class Restored:
    """What came back."""

    backup_id: str
    put_aside: Path | None
    """Where the database lies that was there before."""


def restore(home: Home, wanted: Wanted, say: Say) -> Restored:
    """Brings a backup back into a home that does not run. Raises CannotDo, HomeUnusable."""
    home.create()
    with sole_supervisor(home) as alone:
        if not alone:
            raise CannotDo("The system runs; stop it with `jikimi down`.")
        return _Restoring(home, wanted, say).run()


class _Restoring:
    def __init__(self, home: Home, wanted: Wanted, say: Say) -> None:
        self.home = home
        self.wanted = wanted
        self.say = say
        self.note = home.path / RESTORE_NOTE
        self.staged = home.path / "keys.restored"
        self.aside: Path | None = None

    def run(self) -> Restored:
        manifest = check_files(self.wanted.data, DATA_FILES, self.say)
        backup_id = str(manifest["backup_id"])
        begun, done = self.note.exists(), self._done(backup_id)
        stages: dict[str, Callable[[], None]] = {"keys": self._keys, "data": self._data, "bus": self._bus}
        if self.wanted.keys is not None:
            self._check_keys(self.wanted.keys, backup_id)
        if not begun:
            self._refuse_what_is_there()
            self._write_note(backup_id, done)
        for stage, work in stages.items():
            if stage not in done:
                self.say(stage, 0.0)
                work()
                done.append(stage)
                self._write_note(backup_id, done)
        self.note.unlink()
        return Restored(backup_id, self.aside)

    def _done(self, backup_id: str) -> list[str]:
        if not self.note.exists():
            return []
        said = json.loads(self.note.read_bytes())
        if said["backup_id"] != backup_id:
            raise CannotDo("Another backup is half restored here; finish that one, or empty the home.")
        return list(said["done"])

    def _write_note(self, backup_id: str, done: list[str]) -> None:
        write_private(self.note, json.dumps({"backup_id": backup_id, "done": done}).encode())

    def _refuse_what_is_there(self) -> None:
        if Postgres(self.home).data.exists() and not self.wanted.replace:
            raise CannotDo("There is a database in this home; --replace puts it aside.")
        has_keys = any(_key_files(self.home))
        if has_keys and self.wanted.keys is not None:
            raise CannotDo("This home has its keys, which are newer than any backup of them; leave --keys out.")
        if not has_keys and self.wanted.keys is None:
            raise CannotDo("This home has no keys, and without them the data says nothing; name --keys.")

    def _check_keys(self, folder: Path, backup_id: str) -> None:
        if self.wanted.recovery_key is None:
            raise CannotDo("The key archive is sealed; name the recovery key with --recovery-key.")
        if check_files(folder, KEY_FILES, self.say)["backup_id"] != backup_id:
            raise CannotDo("Data and keys are of two different backups.")

    def _keys(self) -> None:
        if self.wanted.keys is None or self.wanted.recovery_key is None:
            return
        shutil.rmtree(self.staged, ignore_errors=True)
        self.staged.mkdir(mode=0o700)
        note = json.loads(unpack(self.wanted.keys / KEY_FILES[0], read_key(self.wanted.recovery_key), self.staged))
        text = (self.wanted.data / "manifest.json").read_bytes()
        if note["data_manifest"] != hashlib.sha256(text).hexdigest():
            raise CannotDo("The manifest of the data was changed after the backup.")
        staged = Home(self.staged)
        for service in SERVICES:
            bring_back_things(staged.keys(service))
        for copy in (self.wanted.keys, *self.wanted.tombstones):
            bury_again(copy, staged)
        for part in PARTS:
            shutil.rmtree(self.home.path / part, ignore_errors=True)
            (self.staged / part).rename(self.home.path / part)
        shutil.rmtree(self.staged)
        sync_folder(self.home.path)
        self.home.create()

    def _data(self) -> None:
        postgres = Postgres(self.home)
        # A cluster without a finished stage is one that was there before, or one that this stage just made: the
        # second try puts it aside as well and loses nothing.
        self.aside = postgres.put_aside() or self.aside
        postgres.adopt(self._lay_cluster)

    def _lay_cluster(self, folder: Path) -> None:
        for number, (archive, place) in enumerate((("base.tar.gz", folder), ("pg_wal.tar.gz", folder / "pg_wal"))):
            place.mkdir(mode=0o700, exist_ok=True)
            with tarfile.open(self.wanted.data / archive, "r:gz") as tar:
                tar.extractall(place, filter="tar")  # refuses what would lie outside, keeps modes
            self.say("database", (number + 1) / 2)

    def _bus(self) -> None:
        """What the broker holds is of a time that is undone; relays and consumers fill it anew from the databases. The
        stamp of the schema goes too: older data are migrated at the next start."""
        shutil.rmtree(Nats(self.home).folder / "store", ignore_errors=True)
        for stale in ("schema.json", "status.json"):
            (self.home.path / stale).unlink(missing_ok=True)


def _key_files(home: Home) -> list[Path]:
    return [file for service in SERVICES for file in home.keys(service).glob("*.pepper")]


def bring_back_things(store: Path) -> None:
    """Keys of things, such as an hour's spool, may have been destroyed while the data was copied: the data still need
    them, and they are destroyed again when it is time. A person's tombstone stays."""
    for name, kind in list(tombstones(store)):
        if kind and (store / "keys" / name[:2] / name).exists():
            (store / "tombstones" / name[:2] / name).unlink()


def keep_recovery_key(home: Home, public: bytes) -> None:
    """Makes this the recovery key that backups of a home are sealed to."""
    file = recovery_public(home)
    file.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(file, f"{public.hex()}\n".encode())
