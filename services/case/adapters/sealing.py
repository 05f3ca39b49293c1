"""How is a value sealed under its owner's key? Within one transaction each key is fetched once."""

from __future__ import annotations

from services.chassis.keys import KeyStore, seal, unseal


class Sealing:
    """Seals and opens values of any owner. A place is `table/row id/column`."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._fetched: dict[str, bytes] = {}

    def seal(self, owner: str, plaintext: bytes, place: str) -> bytes:
        """Ciphertext that opens in this place only. Raises KeyDestroyed."""
        key = self._fetched.get(owner)
        if key is None:
            key = self._fetched[owner] = self._keys.get_or_create(owner)
        return seal(key, plaintext, place.encode())

    def open(self, owner: str, sealed: bytes, place: str) -> bytes | None:
        """The plaintext; None when the owner's key is gone. Raises Unsealable for changed bytes."""
        key = self._fetched.get(owner) or self._keys.get(owner)
        if key is None:
            return None
        self._fetched[owner] = key
        return unseal(key, sealed, place.encode())

    def destroyed(self, owner: str) -> bool:
        """Whether the owner was erased."""
        return self._keys.destroyed(owner)
