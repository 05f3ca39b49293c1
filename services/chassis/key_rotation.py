"""How does a master key change while services run?

A new key goes first into the master key file: it wraps from then on, the old ones still unwrap. Then every data key is
wrapped anew, file by file; each file says which key wrapped it, so that a run that was broken off goes on where it was.
Only when nothing is wrapped by an old key any more may that key leave the file: from then on nothing opens with it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from services.chassis.files import replace_file, sync_folder
from services.chassis.keys import KEY_BYTES, MasterKeyMismatch, MasterKeys, read_master_keys, wrapped_by

Say = Callable[[int], None]
"""Is told how many data keys were looked at since it was told last."""
_SAY_EVERY = 1_000


class KeyInUse(Exception):
    """A master key that still wraps data keys, or the one that wraps now, cannot be retired. Holds no secret."""


def add_master_key(file: Path) -> str:
    """Puts a new key first and returns its id, hexadecimal. Raises ValueError, OSError."""
    keys = [key.hex() for key in read_master_keys(file).values()]
    _write(file, [secrets.token_hex(KEY_BYTES), *keys])
    return MasterKeys(file).ids[0]


def count_by_master_key(folder: Path) -> Counter[str]:
    """Master key id → how many data keys of a store it wraps."""
    return Counter(wrapped_by(content) for _, content in _data_keys(folder))


def rewrap(folder: Path, file: Path, say: Say) -> int:
    """Wraps by the first master key whatever another one wrapped; returns how many data keys that were. Services may
    read, make and destroy keys meanwhile. Harmless to repeat. Raises MasterKeyMismatch, Unsealable."""
    masters, done, looked = MasterKeys(file), 0, 0
    for name, content in _data_keys(folder):
        if wrapped_by(content) != masters.ids[0]:
            done += _rewrap(folder, masters, name, content)
        looked += 1
        if looked % _SAY_EVERY == 0:
            say(_SAY_EVERY)
    say(looked % _SAY_EVERY)
    return done


def retire_master_key(folder: Path, file: Path, key_id: str) -> None:
    """Takes a key out of the file. Raises KeyInUse while anything needs it, KeyError for one that is not there.

    A process that was just about to store a key may have wrapped it a moment ago: whoever calls lets some seconds pass
    after `add_master_key`. What was stored in the very instant of the retirement brings the key back.
    """
    keys = read_master_keys(file)
    ids = [each.hex() for each in keys]
    if key_id not in ids:
        raise KeyError(key_id)
    if key_id == ids[0] or count_by_master_key(folder)[key_id]:
        raise KeyInUse(key_id)
    before = [key.hex() for key in keys.values()]
    _write(file, [key for each, key in zip(ids, before, strict=True) if each != key_id])
    if count_by_master_key(folder)[key_id]:
        _write(file, before)
        raise KeyInUse(key_id)


def _rewrap(folder: Path, masters: MasterKeys, name: str, content: bytes) -> int:
    place = folder / "keys" / name[:2] / name
    try:
        wrapped = masters.wrap(name, masters.unwrap(name, content))
    except MasterKeyMismatch:
        if not place.exists():
            return 0
        raise
    replace_file(place, wrapped)
    if (folder / "tombstones" / name[:2] / name).exists():
        # It was destroyed after it was read: what was just written must not stay. Who destroys sets the tombstone
        # first, so that one of us two sees the other.
        place.unlink(missing_ok=True)
        sync_folder(place.parent)
        return 0
    return 1


def _data_keys(folder: Path) -> Iterator[tuple[str, bytes]]:
    """(name, wrapped key) of every data key, one folder after the other."""
    for part in sorted((folder / "keys").glob("??")):
        for file in sorted(part.iterdir()):
            if file.name.startswith("."):
                continue  # is being written
            try:
                yield file.name, file.read_bytes()
            except FileNotFoundError:
                continue  # destroyed since it was listed


def _write(file: Path, keys: list[str]) -> None:
    replace_file(file, "".join(f"{key}\n" for key in keys).encode())
