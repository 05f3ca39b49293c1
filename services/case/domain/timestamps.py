"""What does a signed time say, and is it about this content?

The token of the internal time: RFC 3161's facts (policy, message imprint, serial, time) as RFC 8785 JSON, signed with a
key that signs nothing else. It is checked offline with that key. It binds the signature to a time as far as the
service's own clock and key are trusted; a token of an outside authority (RFC 3161) will take the same place.
"""

from __future__ import annotations

from datetime import datetime

from services.case.domain.archive import Json, Sign, statement
from services.case.domain.custody import iso

FORMAT = "jikimi-time/1"
POLICY = "internal"


def time_token(imprint: bytes, serial: str, at: datetime, key_id: str, sign: Sign) -> bytes:
    """A token for the SHA-256 `imprint`."""
    said: dict[str, Json] = {
        "format": FORMAT,
        "policy": POLICY,
        "hash_algorithm": "SHA-256",
        "message_imprint": imprint.hex(),
        "serial": serial,
        "time": iso(at),
        "key_id": key_id,
    }
    return statement(said, sign)
