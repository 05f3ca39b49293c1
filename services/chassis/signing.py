"""With which key does a service sign what it hands out?"""

from __future__ import annotations

from pathlib import Path

from nacl.signing import SigningKey

from misuse.common.v1.access_pb2 import ROLE_UNSPECIFIED
from services.chassis.tokens import create_key_pair


class KeyFile:
    """An Ed25519 key in the folder of private keys; its public part lies beside those of the token issuers."""

    def __init__(self, private_dir: Path, public_dir: Path, key_id: str) -> None:
        """Makes the pair at first use. Raises OSError, ValueError for a file that is not a key."""
        # A role that no token may carry: this key signs what it is for and never an actor.
        create_key_pair(private_dir, public_dir, key_id, [ROLE_UNSPECIFIED])
        name, seed = (private_dir / f"{key_id}.key").read_text(encoding="ascii").split()
        self._key = SigningKey(bytes.fromhex(seed))
        self._key_id = name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._key_id})"

    @property
    def key_id(self) -> str:
        """Name of the key."""
        return self._key_id

    def sign(self, content: bytes) -> bytes:
        """Ed25519 (RFC 8032) signature, 64 bytes."""
        return self._key.sign(content).signature
