"""Where do data keys live, and how is something sealed with them?

Each owner has one data key per service, kept outside the database and its backups, wrapped by a master key.
To destroy the key is to erase what it sealed, in every backup too. A tombstone under a keyed name stays, so
that the key is never made anew and nobody can list who was erased.

Master key file: one key of 32 bytes in hex a line; the first wraps, all unwrap (that is how it is rotated, see
`key_rotation.py`). A process that runs notices a change of the file.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError

from services.chassis.errors import FailedPrecondition
from services.chassis.files import make_folder, sync_folder, write_once

KEY_BYTES = 32
NONCE_BYTES = 24
SEAL_OVERHEAD = 1 + NONCE_BYTES + 16
"""Bytes that `seal` adds: version, nonce, authentication tag."""

_VERSION = b"\x01"
_KEY_ID_BYTES = 8
_CACHE_SIZE = 4096
_NAME = re.compile(r"[0-9a-f]{64}")


class Unsealable(Exception):
    """A sealed value that this key and context do not open: wrong key, wrong place, or changed bytes."""


class MasterKeyMismatch(Exception):
    """A data key was wrapped by a master key that the master key file does not hold."""


class KeyDestroyed(FailedPrecondition):
    """The owner was erased; there is no key and there will be none."""

    def __init__(self) -> None:
        super().__init__("OWNER_ERASED", "The owner of this data has been erased.")


class KeyStore(Protocol):
    """One data key of 32 bytes per owner. Calls touch the disk or the network for at most milliseconds."""

    def get(self, owner: str) -> bytes | None:
        """The owner's key; None when there is none or it was destroyed."""

    def get_or_create(self, owner: str) -> bytes:
        """The owner's key, made now if need be; of several callers at once all get the same. Raises
        KeyDestroyed.
        """

    def destroy(self, owner: str) -> None:
        """Ends the key for ever and leaves a tombstone; harmless to repeat or without a key. The tombstone of an owner
        written `kind:name` tells the kind: a copy of the store that is put back may then tell a key that was used up
        from a person who was erased."""

    def destroyed(self, owner: str) -> bool:
        """Whether `destroy` was called for this owner."""


class FileKeyStore:
    """Keys as files in 256 folders, named by a keyed hash of the owner.

    Processes may share the folder. Destroying unlinks the file: on flash storage old blocks may outlive that,
    but they hold the key only as wrapped by the master key.
    """

    def __init__(self, folder: Path, master_key_file: Path, cache_size: int = _CACHE_SIZE) -> None:
        """Raises ValueError when the master key file is not one, OSError when it is missing."""
        self._masters = MasterKeys(master_key_file)
        self._keys = folder / "keys"
        self._tombstones = folder / "tombstones"
        for part in (self._keys, self._tombstones):
            make_folder(part)
        self._names = pepper(folder, "names")
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_size = cache_size

    def __repr__(self) -> str:
        return f"FileKeyStore({len(self._cache)} keys cached)"

    def get(self, owner: str) -> bytes | None:
        """See KeyStore. Raises MasterKeyMismatch or Unsealable when the stored key cannot be unwrapped."""
        name = self._name(owner)
        # Another process may have destroyed it since it was cached.
        if self._ended(name):
            self._cache.pop(name, None)
            return None
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        try:
            wrapped = self._file(self._keys, name).read_bytes()
        except FileNotFoundError:
            return None
        return self._remember(name, self._unwrap(name, wrapped))

    def get_or_create(self, owner: str) -> bytes:
        """See KeyStore. Raises KeyDestroyed, and what `get` raises."""
        key = self.get(owner)
        if key is not None:
            return key
        if self.destroyed(owner):
            raise KeyDestroyed
        return self._create(owner)

    def destroy(self, owner: str) -> None:
        """See KeyStore. Durable when it returns."""
        name = self._name(owner)
        # The tombstone comes first: a crash in between must not leave a key that can be used or made anew.
        self._write(self._tombstones, name, _kind_of(owner))
        self._cache.pop(name, None)
        file = self._file(self._keys, name)
        file.unlink(missing_ok=True)
        if file.parent.is_dir():
            sync_folder(file.parent)

    def destroyed(self, owner: str) -> bool:
        """See KeyStore."""
        return self._ended(self._name(owner))

    def _create(self, owner: str) -> bytes:
        name = self._name(owner)
        wrapped = self._write(self._keys, name, self._wrap(name, secrets.token_bytes(KEY_BYTES)))
        if self.destroyed(owner):
            # It was destroyed while it was made.
            self._file(self._keys, name).unlink(missing_ok=True)
            raise KeyDestroyed
        return self._remember(name, self._unwrap(name, wrapped))

    def _write(self, folder: Path, name: str, content: bytes) -> bytes:
        file = self._file(folder, name)
        make_folder(file.parent)
        return write_once(file, content)

    def _remember(self, name: str, key: bytes) -> bytes:
        self._cache[name] = key
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)
        return key

    def _name(self, owner: str) -> str:
        return keyed_hash(self._names, owner).hex()

    def _ended(self, name: str) -> bool:
        # Asked at every use of every key: a Path made and asked costs several times the look itself.
        try:
            os.stat(f"{self._tombstones}/{name[:2]}/{name}")  # noqa: PTH116
        except FileNotFoundError:
            return False
        return True

    def _file(self, folder: Path, name: str) -> Path:
        return folder / name[:2] / name

    def _wrap(self, name: str, key: bytes) -> bytes:
        return self._masters.wrap(name, key)

    def _unwrap(self, name: str, wrapped: bytes) -> bytes:
        return self._masters.unwrap(name, wrapped)


class MasterKeys:
    """The keys of a master key file as it is now: a look at its time before each use, some microseconds."""

    def __init__(self, file: Path) -> None:
        """Raises ValueError when the file is not one, OSError when it is missing."""
        self._file = file
        self._stamp = _stamp(file)
        self._keys = read_master_keys(file)

    def __repr__(self) -> str:
        return f"MasterKeys({len(self._keys)})"

    @property
    def ids(self) -> list[str]:
        """Ids, hexadecimal; the first is of the key that wraps."""
        return [key_id.hex() for key_id in self._current()]

    def wrap(self, name: str, key: bytes) -> bytes:
        """A data key as it is stored under a name."""
        key_id, master = next(iter(self._current().items()))
        return key_id + seal(master, key, name.encode())

    def unwrap(self, name: str, wrapped: bytes) -> bytes:
        """The data key. Raises MasterKeyMismatch, Unsealable."""
        master = self._current().get(wrapped[:_KEY_ID_BYTES])
        if master is None:
            raise MasterKeyMismatch("a data key was wrapped by another master key")
        return unseal(master, wrapped[_KEY_ID_BYTES:], name.encode())

    def _current(self) -> dict[bytes, bytes]:
        stamp = _stamp(self._file)
        if stamp != self._stamp:
            self._keys, self._stamp = read_master_keys(self._file), stamp
        return self._keys


def wrapped_by(wrapped: bytes) -> str:
    """Id, hexadecimal, of the master key that wrapped a stored data key."""
    return wrapped[:_KEY_ID_BYTES].hex()


def tombstones(folder: Path) -> Iterator[tuple[str, bytes]]:
    """The tombstones of a key store: (name, kind). A name is a keyed hash; the kind is what stands before the colon in
    the name of an owner that is nobody, such as b"spool", and empty for a person."""
    for file in sorted((folder / "tombstones").glob("??/*")):
        if not file.name.startswith("."):
            yield file.name, file.read_bytes()


def bury(folder: Path, name: str, kind: bytes = b"") -> bool:
    """Sets a tombstone that another copy of the store has, and ends the key of that name if it is here: who was erased
    stays erased. Returns whether there was a key. Harmless to repeat."""
    if not _NAME.fullmatch(name):
        raise ValueError("this is not the name of a tombstone")
    tombstone, key = (folder / part / name[:2] / name for part in ("tombstones", "keys"))
    make_folder(tombstone.parent)
    write_once(tombstone, kind)
    if not key.exists():
        return False
    key.unlink()
    sync_folder(key.parent)
    return True


def create_master_key(file: Path) -> None:
    """Makes a master key file (mode 0600); an existing one is kept."""
    make_folder(file.parent)
    if not file.exists():
        write_once(file, f"{secrets.token_hex(KEY_BYTES)}\n".encode())


def pepper(folder: Path, name: str) -> bytes:
    """A secret of 32 bytes that belongs to a folder: made at first use, the same for every process from then
    on.
    """
    make_folder(folder)
    file = folder / f"{name}.pepper"
    value = file.read_bytes() if file.exists() else write_once(file, secrets.token_bytes(KEY_BYTES))
    if len(value) != KEY_BYTES:
        raise ValueError("a pepper file does not hold 32 bytes")
    return value


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypts and authenticates with XChaCha20-Poly1305 under a random nonce.

    `aad` names the place of the value (table, column, row id): the result opens there and nowhere else.
    """
    nonce = secrets.token_bytes(NONCE_BYTES)
    return _VERSION + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, aad, nonce, key)


def unseal(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Opens what `seal` made with the same key and `aad`. Raises Unsealable."""
    if len(sealed) < SEAL_OVERHEAD or sealed[:1] != _VERSION:
        raise Unsealable("not a sealed value")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, aad, nonce, key)
    except CryptoError:
        raise Unsealable("the key or the place is wrong, or the bytes were changed") from None


def keyed_hash(pepper: bytes, *parts: str | bytes) -> bytes:
    """32 bytes of keyed BLAKE2b over the parts with their lengths: ("ab", "c") is not ("a", "bc")."""
    digest = blake2b(key=pepper, digest_size=32)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.digest()


def _kind_of(owner: str) -> bytes:
    """What stands before the colon: the owner is a thing. People are named by bare ids."""
    kind, colon, _ = owner.partition(":")
    return kind.encode() if colon else b""


def read_master_keys(file: Path) -> dict[bytes, bytes]:
    """The keys of a master key file by their ids, in their order. Raises ValueError, OSError."""
    try:
        keys = [bytes.fromhex(line) for line in file.read_text(encoding="ascii").split()]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise ValueError("the master key file does not hold keys of 32 bytes in hex")
    return {blake2b(key, digest_size=_KEY_ID_BYTES, person=b"master-key-id").digest(): key for key in keys}


def _stamp(file: Path) -> tuple[int, int]:
    """Changes with the file: a file that is replaced is another one."""
    status = file.stat()
    return status.st_ino, status.st_mtime_ns
