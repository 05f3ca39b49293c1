"""How is a file sealed so that whoever holds the recovery key opens it, and nobody else?

A fresh key encrypts the content in frames (libsodium's secretstream, XChaCha20-Poly1305: no frame can be changed,
moved, or left out, and a file that ends too early is noticed); that key is sealed to the public half of the recovery
key (X25519, a libsodium sealed box). So a backup can be made unattended by a machine that cannot open it.

File: 8 bytes magic, 80 bytes sealed key, 24 bytes header, then frames of `length (4 bytes, big endian), ciphertext`.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_ABYTES,
    crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_KEYBYTES,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE,
)
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.utils import random

from services.console.output import CannotDo

FRAME_BYTES = 1024 * 1024
_MAGIC = b"JIKIMI\x00\x01"
_SEALED_KEY_BYTES = 80
_KEY_LETTERS = 64


class NotOpened(CannotDo):
    """A sealed file that this recovery key does not open, or that was changed or cut."""


def make_recovery_key(private: Path) -> bytes:
    """Writes the private half to a new file, 0600, hexadecimal, and returns the public half. Raises FileExistsError."""
    key = PrivateKey.generate()
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.write(f"{bytes(key).hex()}\n")
    return bytes(key.public_key)


def read_key(file: Path) -> bytes:
    """32 bytes of a file that holds one half of a recovery key. Raises CannotDo."""
    try:
        text = file.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text) if len(text) == _KEY_LETTERS else b""
    except (OSError, ValueError):
        key = b""
    if not key:
        raise CannotDo(f"{file} is not a recovery key.")
    return key


class SealedWriter:
    """Seals what is written to it. Complete only once it is closed without an error."""

    def __init__(self, file: Path, public: bytes) -> None:
        """`public` is the public half of the recovery key."""
        key = random(crypto_secretstream_xchacha20poly1305_KEYBYTES)
        self._state = crypto_secretstream_xchacha20poly1305_state()
        header = crypto_secretstream_xchacha20poly1305_init_push(self._state, key)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._out: IO[bytes] = os.fdopen(descriptor, "wb")
        self._out.write(_MAGIC + SealedBox(PublicKey(public)).encrypt(key) + header)
        self._waiting = bytearray()

    def __enter__(self) -> SealedWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._frame(bytes(self._waiting), crypto_secretstream_xchacha20poly1305_TAG_FINAL)
            self._out.flush()
            os.fsync(self._out.fileno())
        self._out.close()

    def write(self, data: bytes) -> int:
        """Adds bytes."""
        self._waiting += data
        while len(self._waiting) > FRAME_BYTES:
            self._frame(bytes(self._waiting[:FRAME_BYTES]), crypto_secretstream_xchacha20poly1305_TAG_MESSAGE)
            del self._waiting[:FRAME_BYTES]
        return len(data)

    def _frame(self, plain: bytes, tag: int) -> None:
        sealed = crypto_secretstream_xchacha20poly1305_push(self._state, plain, None, tag)
        self._out.write(len(sealed).to_bytes(4, "big") + sealed)


class SealedReader:
    """Reads what a SealedWriter wrote. Every call may raise NotOpened: what was read before it is not to be used."""

    def __init__(self, file: Path, private: bytes) -> None:
        """`private` is the private half of the recovery key. The file is opened with the `with` block."""
        self._file = file
        self._private = private
        self._plain = bytearray()
        self._ended = False
        self._state = crypto_secretstream_xchacha20poly1305_state()

    def __enter__(self) -> SealedReader:
        self._in = self._file.open("rb")
        try:
            self._begin()
        except BaseException:
            self._in.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()

    def read(self, size: int) -> bytes:
        """The next bytes, fewer at the end only."""
        while len(self._plain) < size and not self._ended:
            self._plain += self._next()
        taken = bytes(self._plain[:size])
        del self._plain[:size]
        return taken

    def drain(self) -> None:
        """Reads on to the end, so that a file that was cut is noticed."""
        while not self._ended:
            self._next()

    def _begin(self) -> None:
        if self._in.read(len(_MAGIC)) != _MAGIC:
            raise NotOpened(f"{self._file.name} is not a sealed archive.")
        try:
            key = SealedBox(PrivateKey(self._private)).decrypt(self._in.read(_SEALED_KEY_BYTES))
        except CryptoError:
            raise NotOpened(f"The recovery key does not open {self._file.name}.") from None
        header = self._in.read(crypto_secretstream_xchacha20poly1305_HEADERBYTES)
        try:
            crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, key)
        except (CryptoError, ValueError):
            raise self._broken() from None

    def _next(self) -> bytes:
        length = int.from_bytes(self._in.read(4), "big")
        if not 0 < length <= FRAME_BYTES + crypto_secretstream_xchacha20poly1305_ABYTES:
            raise self._broken()
        try:
            plain, tag = crypto_secretstream_xchacha20poly1305_pull(self._state, self._in.read(length), None)
        except (CryptoError, ValueError):
            raise self._broken() from None
        self._ended = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL
        return bytes(plain)

    def _broken(self) -> NotOpened:
        return NotOpened(f"{self._file.name} was changed or is not whole.")
