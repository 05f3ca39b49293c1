"""Does every data key outlive a change of the master key, whatever services do meanwhile, and does the old one open
nothing any more?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.key_rotation import KeyInUse, add_master_key, count_by_master_key, retire_master_key, rewrap
from services.chassis.keys import FileKeyStore, MasterKeyMismatch, MasterKeys, create_master_key


@pytest.fixture
def master(tmp_path: Path) -> Path:
    file = tmp_path / "secrets" / "case.master"
    create_master_key(file)
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def silent(_looked: int) -> None:
    """Nobody watches the progress."""


def store(folder: Path, master: Path) -> FileKeyStore:
    """A process that has just started: nothing cached."""
    return FileKeyStore(folder, master)


def fill(folder: Path, master: Path, people: int) -> dict[str, bytes]:
    keys = store(folder, master)
    return {f"person-{number}": keys.get_or_create(f"person-{number}") for number in range(people)}


def read(folder: Path, master: Path, people: dict[str, bytes]) -> dict[str, bytes | None]:
    keys = store(folder, master)
    return {person: keys.get(person) for person in people}


def test_data_keys_stay_what_they_were(folder: Path, master: Path) -> None:
    people = fill(folder, master, 50)
    [old] = MasterKeys(master).ids
    new = add_master_key(master)
    assert {old: 50} == count_by_master_key(folder)
    assert people == read(folder, master, people)
    looked: list[int] = []
    assert (50, 0) == (rewrap(folder, master, looked.append), rewrap(folder, master, silent))
    assert ({new: 50}, 50) == (count_by_master_key(folder), sum(looked))
    assert people == read(folder, master, people)


def test_retired_master_key_opens_nothing(folder: Path, master: Path, tmp_path: Path) -> None:
    people = fill(folder, master, 3)
    stolen = tmp_path / "stolen.master"
    stolen.write_bytes(master.read_bytes())
    [old] = MasterKeys(master).ids
    add_master_key(master)
    rewrap(folder, master, silent)
    retire_master_key(folder, master, old)
    assert people == read(folder, master, people)
    with pytest.raises(MasterKeyMismatch):
        store(folder, stolen).get("person-0")


def test_master_key_that_is_needed_is_not_retired(folder: Path, master: Path) -> None:
    fill(folder, master, 3)
    [old] = MasterKeys(master).ids
    for needed in (old, add_master_key(master)):
        before = master.read_bytes()
        with pytest.raises(KeyInUse):
            retire_master_key(folder, master, needed)
        with pytest.raises(KeyInUse):
            retire_master_key(folder, master, old)
        assert before == master.read_bytes()


def test_rotation_that_was_broken_off_goes_on(folder: Path, master: Path) -> None:
    people = fill(folder, master, 40)
    [old] = MasterKeys(master).ids
    new = add_master_key(master)

    class BrokenOff(Exception):
        pass

    def say(looked: int) -> None:
        raise BrokenOff

    # Half of the store is wrapped by the new key, as after a kill.
    half = MasterKeys(master)
    for number, file in enumerate(sorted((folder / "keys").glob("??/*"))):
        if number % 2:
            file.write_bytes(half.wrap(file.name, half.unwrap(file.name, file.read_bytes())))
    assert {old: 20, new: 20} == count_by_master_key(folder)
    with pytest.raises(BrokenOff):
        rewrap(folder, master, say)
    assert people == read(folder, master, people)
    rewrap(folder, master, silent)
    assert {new: 40} == count_by_master_key(folder)


def test_process_that_runs_takes_the_new_key_up(folder: Path, master: Path) -> None:
    running = store(folder, master)
    running.get_or_create("before")
    new = add_master_key(master)
    running.get_or_create("after")
    assert 1 == count_by_master_key(folder)[new]
    rewrap(folder, master, silent)
    retire_master_key(folder, master, MasterKeys(master).ids[1])
    assert store(folder, master).get("after") == running.get("after")


@pytest.fixture
def busy(folder: Path, master: Path) -> Iterator[list[str]]:
    """A process that makes and destroys keys without pause; the list tells whom it destroyed."""
    destroyed: list[str] = []
    stop = threading.Event()

    def work() -> None:
        keys, number = store(folder, master), 0
        while not stop.is_set():
            number += 1
            keys.get_or_create(f"fleeting-{number}")
            if number % 3:
                keys.destroy(f"fleeting-{number}")
                destroyed.append(f"fleeting-{number}")

    thread = threading.Thread(target=work)
    thread.start()
    yield destroyed
    stop.set()
    thread.join()


def test_erased_people_do_not_come_back_by_a_rotation(folder: Path, master: Path, busy: list[str]) -> None:
    people = fill(folder, master, 30)
    for _ in range(5):
        add_master_key(master)
        rewrap(folder, master, silent)
    gone = list(busy)
    names = store(folder, master)
    assert people == read(folder, master, people)
    assert [] == [who for who in gone if names.get(who) is not None]
    assert [] == [who for who in gone if _key_file(names, folder, who).exists()]


def _key_file(keys: FileKeyStore, folder: Path, owner: str) -> Path:
    name = keys._name(owner)
    return folder / "keys" / name[:2] / name
