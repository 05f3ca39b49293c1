"""Do keys outlive crashes and other processes, and not their destruction?"""

from __future__ import annotations

import multiprocessing
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.keys import (
    SEAL_OVERHEAD,
    FileKeyStore,
    KeyDestroyed,
    MasterKeyMismatch,
    Unsealable,
    create_master_key,
    keyed_hash,
    pepper,
    seal,
    unseal,
)

KEY = bytes(range(32))


@pytest.fixture
def master(tmp_path: Path) -> Path:
    file = tmp_path / "secrets" / "master.key"
    create_master_key(file)
    return file


def store(tmp_path: Path, master: Path) -> FileKeyStore:
    return FileKeyStore(tmp_path / "keys", master)


def test_an_owner_keeps_one_key_over_restarts(tmp_path: Path, master: Path) -> None:
    first = store(tmp_path, master)
    assert first.get("s-1") is None
    key = first.get_or_create("s-1")
    assert len(key) == 32
    assert first.get("s-1") == key == store(tmp_path, master).get_or_create("s-1")
    assert first.get_or_create("s-2") != key


def test_a_destroyed_key_is_gone_for_every_process_and_never_comes_back(tmp_path: Path, master: Path) -> None:
    here, there = store(tmp_path, master), store(tmp_path, master)
    here.get_or_create("s-1")
    there.get_or_create("s-1")
    here.destroy("s-1")
    for one in (here, there, store(tmp_path, master)):
        assert one.get("s-1") is None
        assert one.destroyed("s-1")
        with pytest.raises(KeyDestroyed):
            one.get_or_create("s-1")


def test_destroying_is_harmless_to_repeat_and_needs_no_key(tmp_path: Path, master: Path) -> None:
    keys = store(tmp_path, master)
    for _ in range(2):
        keys.destroy("never seen")
    assert keys.destroyed("never seen")
    assert not keys.destroyed("s-1")


def test_a_crash_between_tombstone_and_unlink_leaves_no_usable_key(tmp_path: Path, master: Path) -> None:
    keys = store(tmp_path, master)
    keys.get_or_create("s-1")
    wrapped = {file: file.read_bytes() for file in (tmp_path / "keys" / "keys").rglob("*") if file.is_file()}
    keys.destroy("s-1")
    for file, content in wrapped.items():
        file.write_bytes(content)
    assert store(tmp_path, master).get("s-1") is None


def test_nothing_on_disk_names_an_owner_or_holds_a_bare_key(tmp_path: Path, master: Path) -> None:
    keys = store(tmp_path, master)
    key = keys.get_or_create("subscriber-77")
    keys.destroy("subscriber-88")
    files = [file for file in (tmp_path / "keys").rglob("*") if file.is_file()]
    assert len(files) == 3
    assert not any("subscriber" in str(file) for file in files)
    assert not any(key in file.read_bytes() for file in files)
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_another_master_key_is_a_typed_error(tmp_path: Path, master: Path) -> None:
    store(tmp_path, master).get_or_create("s-1")
    other = tmp_path / "other.key"
    create_master_key(other)
    with pytest.raises(MasterKeyMismatch):
        store(tmp_path, other).get("s-1")


def test_a_rotated_master_key_still_opens_old_keys(tmp_path: Path, master: Path) -> None:
    key = store(tmp_path, master).get_or_create("s-1")
    new = tmp_path / "new.key"
    create_master_key(new)
    new.write_text(new.read_text() + master.read_text())
    rotated = store(tmp_path, new)
    assert rotated.get("s-1") == key
    rotated.get_or_create("s-2")
    with pytest.raises(MasterKeyMismatch):
        store(tmp_path, master).get("s-2")


def test_a_wrapped_key_put_under_another_name_does_not_open(tmp_path: Path, master: Path) -> None:
    keys = store(tmp_path, master)
    keys.get_or_create("s-1")
    (one,) = [file for file in (tmp_path / "keys" / "keys").rglob("*") if file.is_file()]
    stolen = one.read_bytes()
    keys.get_or_create("s-2")
    (two,) = [file for file in (tmp_path / "keys" / "keys").rglob("*") if file.is_file() and file != one]
    two.write_bytes(stolen)
    with pytest.raises(Unsealable):
        store(tmp_path, master).get("s-2")


@pytest.mark.parametrize("content", ["", "abc", "zz" * 32, "00" * 31])
def test_a_master_key_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.key"
    file.write_text(content)
    with pytest.raises(ValueError, match="master key file"):
        store(tmp_path, file)


def _create_in_process(folder: str, master: str, out: multiprocessing.Queue[bytes]) -> None:
    keys = FileKeyStore(Path(folder), Path(master))
    out.put(b"".join(keys.get_or_create(f"s-{number}") for number in range(20)))


@pytest.mark.slow
def test_processes_that_create_at_once_get_the_same_keys(tmp_path: Path, master: Path) -> None:
    context = multiprocessing.get_context("spawn")
    out: multiprocessing.Queue[bytes] = context.Queue()
    folder = str(tmp_path / "keys")
    workers = [context.Process(target=_create_in_process, args=(folder, str(master), out)) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = {out.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(answers) == 1


def test_threads_that_create_and_destroy_at_once_end_with_no_key(tmp_path: Path, master: Path) -> None:
    keys = [store(tmp_path, master) for _ in range(2)]

    def create(owner: str) -> None:
        with suppress(KeyDestroyed):
            keys[0].get_or_create(owner)

    for number in range(20):
        owner = f"s-{number}"
        racing = [
            threading.Thread(target=create, args=(owner,)),
            threading.Thread(target=keys[1].destroy, args=(owner,)),
        ]
        for thread in racing:
            thread.start()
        for thread in racing:
            thread.join()
        assert keys[0].get(owner) is None
    assert [file for file in (tmp_path / "keys" / "keys").rglob("*") if file.is_file()] == []


def test_the_cache_is_bounded(tmp_path: Path, master: Path) -> None:
    keys = FileKeyStore(tmp_path / "keys", master, cache_size=3)
    made = {f"s-{number}": keys.get_or_create(f"s-{number}") for number in range(6)}
    assert repr(keys) == "FileKeyStore(3 keys cached)"
    assert {owner: keys.get(owner) for owner in made} == made


def test_a_pepper_is_made_once(tmp_path: Path) -> None:
    assert pepper(tmp_path, "a") == pepper(tmp_path, "a") != pepper(tmp_path, "b")
    (tmp_path / "short.pepper").write_bytes(b"x")
    with pytest.raises(ValueError, match="32 bytes"):
        pepper(tmp_path, "short")


@given(st.binary(max_size=300), st.binary(max_size=50))
def test_what_is_sealed_opens_with_key_and_place_only(plaintext: bytes, aad: bytes) -> None:
    sealed = seal(KEY, plaintext, aad)
    assert unseal(KEY, sealed, aad) == plaintext
    assert len(sealed) == len(plaintext) + SEAL_OVERHEAD
    for key, value, place in (
        (bytes(32), sealed, aad),
        (KEY, sealed, aad + b"x"),
        (KEY, sealed[:-1], aad),
        (KEY, b"\x02" + sealed[1:], aad),
        (KEY, sealed[:-1] + bytes([sealed[-1] ^ 1]), aad),
    ):
        with pytest.raises(Unsealable):
            unseal(key, value, place)


def test_equal_plaintexts_do_not_look_equal() -> None:
    assert seal(KEY, b"same", b"") != seal(KEY, b"same", b"")


def test_a_keyed_hash_depends_on_the_key_and_on_where_parts_end() -> None:
    assert len(keyed_hash(KEY, "ab", "c")) == 32
    assert keyed_hash(KEY, "ab", "c") == keyed_hash(KEY, b"ab", b"c")
    different = [
        keyed_hash(KEY, "ab", "c"),
        keyed_hash(KEY, "a", "bc"),
        keyed_hash(KEY, "abc"),
        keyed_hash(bytes(32), "ab", "c"),
    ]
    assert len(set(different)) == 4
