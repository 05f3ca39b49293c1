"""Do archives of keys open for the recovery key alone, and does an erased person stay erased in them?"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from services.chassis.keys import FileKeyStore, bury, create_master_key, tombstones
from services.console.backup import restoring
from services.console.backup.key_archive import KeyPacking, bury_again, copy_tombstones, unpack
from services.console.backup.making import DATA_FILES, check_files, make, read_manifest
from services.console.backup.sealed import (
    FRAME_BYTES,
    NotOpened,
    SealedReader,
    SealedWriter,
    make_recovery_key,
    read_key,
)
from services.console.home import SERVICES, Home
from services.console.output import CannotDo


@pytest.fixture
def recovery(tmp_path: Path) -> tuple[Path, bytes]:
    file = tmp_path / "recovery.key"
    return file, make_recovery_key(file)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with master keys and nobody in it."""
    made = Home(tmp_path / "home")
    made.create()
    for service in SERVICES:
        create_master_key(made.path / "keys" / f"{service}.master")
    return made


def store(home: Home, service: str = "case") -> FileKeyStore:
    return FileKeyStore(home.keys(service), home.path / "keys" / f"{service}.master")


def silent(_step: str, _share: float) -> None:
    """Nobody watches the progress."""


# --- sealed files ---


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])
def test_sealed_file_opens_with_the_recovery_key(tmp_path: Path, recovery: tuple[Path, bytes], size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    with SealedWriter(tmp_path / "sealed", recovery[1]) as out:
        out.write(content[: size // 3])
        out.write(content[size // 3 :])
    with SealedReader(tmp_path / "sealed", read_key(recovery[0])) as sealed:
        assert content == sealed.read(size + 1)


def _sealed(file: Path, public: bytes) -> bytes:
    with SealedWriter(file, public) as out:
        out.write(b"a" * (2 * FRAME_BYTES))
    return file.read_bytes()


@pytest.mark.parametrize("at", [0, 8, 90, 120, 500, -1])
def test_changed_byte_is_noticed(tmp_path: Path, recovery: tuple[Path, bytes], at: int) -> None:
    changed = bytearray(_sealed(tmp_path / "sealed", recovery[1]))
    changed[at] ^= 1
    (tmp_path / "sealed").write_bytes(changed)
    with pytest.raises(NotOpened), SealedReader(tmp_path / "sealed", read_key(recovery[0])) as sealed:
        sealed.drain()


@pytest.mark.parametrize("left_out", [1, 17, FRAME_BYTES, FRAME_BYTES + 21])
def test_file_that_ends_early_is_noticed(tmp_path: Path, recovery: tuple[Path, bytes], left_out: int) -> None:
    whole = _sealed(tmp_path / "sealed", recovery[1])
    (tmp_path / "sealed").write_bytes(whole[:-left_out])
    with pytest.raises(NotOpened), SealedReader(tmp_path / "sealed", read_key(recovery[0])) as sealed:
        sealed.drain()


def test_other_recovery_key_opens_nothing(tmp_path: Path, recovery: tuple[Path, bytes]) -> None:
    _sealed(tmp_path / "sealed", recovery[1])
    make_recovery_key(tmp_path / "other.key")
    with pytest.raises(NotOpened), SealedReader(tmp_path / "sealed", read_key(tmp_path / "other.key")) as sealed:
        sealed.drain()


# --- keys ---


def _archive(home: Home, file: Path, public: bytes) -> None:
    with SealedWriter(file, public) as sealed:
        packing = KeyPacking(home, sealed)
        packing.take()
        packing.close(b"{}")


def test_keys_come_back_as_they_were(home: Home, tmp_path: Path, recovery: tuple[Path, bytes]) -> None:
    key = store(home).get_or_create("somebody")
    _archive(home, tmp_path / "keys.sealed", recovery[1])
    other = Home(tmp_path / "other")
    unpack(tmp_path / "keys.sealed", read_key(recovery[0]), other.path)
    assert key == store(other).get("somebody")


def test_nothing_of_a_key_lies_open_in_the_archive(home: Home, tmp_path: Path, recovery: tuple[Path, bytes]) -> None:
    store(home).get_or_create("somebody")
    _archive(home, tmp_path / "keys.sealed", recovery[1])
    archive = (tmp_path / "keys.sealed").read_bytes()
    master = (home.path / "keys" / "case.master").read_text().strip()
    assert not any(secret in archive for secret in (master.encode(), bytes.fromhex(master), b"case.master"))


def test_who_was_erased_after_the_backup_stays_erased(home: Home, tmp_path: Path, recovery: tuple[Path, bytes]) -> None:
    keys = store(home)
    kept = keys.get_or_create("kept")
    keys.get_or_create("erased")
    _archive(home, tmp_path / "keys.sealed", recovery[1])
    keys.destroy("erased")
    assert (1, 0) == (copy_tombstones(home, tmp_path / "copy"), copy_tombstones(home, tmp_path / "copy"))
    other = Home(tmp_path / "other")
    unpack(tmp_path / "keys.sealed", read_key(recovery[0]), other.path)
    assert 1 == bury_again(tmp_path / "copy", other)
    assert (None, kept, True) == (
        store(other).get("erased"),
        store(other).get("kept"),
        store(other).destroyed("erased"),
    )


def test_tombstone_tells_a_thing_from_a_person_and_neither_name(home: Home) -> None:
    keys = store(home)
    for owner in ("spool:2026-01-01T00:1", "0193a2"):
        keys.get_or_create(owner)
        keys.destroy(owner)
    assert [b"", b"spool"] == sorted(kind for _, kind in tombstones(home.keys("case")))


def test_key_destroyed_between_the_passes_is_still_in_the_archive(
    home: Home, tmp_path: Path, recovery: tuple[Path, bytes]
) -> None:
    keys = store(home)
    key = keys.get_or_create("spool:1")
    with SealedWriter(tmp_path / "keys.sealed", recovery[1]) as sealed:
        packing = KeyPacking(home, sealed)
        packing.take()
        keys.destroy("spool:1")
        late = keys.get_or_create("made meanwhile")
        packing.take()
        packing.close(b"{}")
    other = Home(tmp_path / "other")
    unpack(tmp_path / "keys.sealed", read_key(recovery[0]), other.path)
    restoring.bring_back_things(other.keys("case"))
    assert (key, late) == (store(other).get("spool:1"), store(other).get("made meanwhile"))


def test_name_that_is_no_tombstone_is_refused(home: Home) -> None:
    with pytest.raises(ValueError, match="not the name"):
        bury(home.keys("case"), "../../case.master")


# --- what is refused ---


def test_data_and_keys_in_one_place_are_refused(home: Home, tmp_path: Path) -> None:
    for keys in (tmp_path / "saved", tmp_path / "saved" / "keys", tmp_path):
        with pytest.raises(CannotDo, match="two places"):
            make(home, tmp_path / "saved", keys, silent)


def test_backup_without_a_recovery_key_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="recovery key"):
        make(home, tmp_path / "saved", tmp_path / "keys", silent)


def _saved(folder: Path) -> None:
    """Files that are what their manifest says, as far as hashes go."""
    folder.mkdir()
    for name in DATA_FILES:
        (folder / name).write_bytes(name.encode())
    hashes = {name: {"bytes": len(name), "sha256": _hash(name)} for name in DATA_FILES}
    manifest = {"format": 1, "backup_id": "b", "begin_time": "2026-01-01T00:00:00+00:00", "files": hashes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@pytest.mark.parametrize("name", DATA_FILES)
def test_changed_and_missing_files_are_named(tmp_path: Path, name: str) -> None:
    _saved(tmp_path / "saved")
    assert "b" == check_files(tmp_path / "saved", DATA_FILES, silent)["backup_id"]
    (tmp_path / "saved" / name).write_bytes(b"changed")
    with pytest.raises(CannotDo, match=name):
        check_files(tmp_path / "saved", DATA_FILES, silent)
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(CannotDo, match=name):
        check_files(tmp_path / "saved", DATA_FILES, silent)


def test_folder_without_a_manifest_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="no finished backup"):
        read_manifest(tmp_path)


def _wanted(folder: Path, keys: Path | None = None, *, replace: bool = False) -> restoring.Wanted:
    return restoring.Wanted(folder, keys, None, (), replace)


def test_data_without_any_keys_are_refused(tmp_path: Path) -> None:
    _saved(tmp_path / "saved")
    with pytest.raises(CannotDo, match="no keys"):
        restoring.restore(Home(tmp_path / "empty"), _wanted(tmp_path / "saved"), silent)


def test_database_that_is_there_is_not_overwritten(home: Home, tmp_path: Path) -> None:
    _saved(tmp_path / "saved")
    store(home).get_or_create("somebody")
    (home.path / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(CannotDo, match="--replace"):
        restoring.restore(home, _wanted(tmp_path / "saved"), silent)


def test_half_restored_home_takes_no_other_backup(home: Home, tmp_path: Path) -> None:
    _saved(tmp_path / "saved")
    (home.path / "restore.json").write_text(json.dumps({"backup_id": "another", "done": ["keys"]}))
    with pytest.raises(CannotDo, match="half restored"):
        restoring.restore(home, _wanted(tmp_path / "saved"), silent)
