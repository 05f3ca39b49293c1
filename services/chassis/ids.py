"""How are ids made and checked?

Ids are UUID version 7 (RFC 9562): they sort by creation time, which keeps index inserts together. Sorting is
a convenience and never a cursor: rows commit in another order.
"""

from __future__ import annotations

import os
import re
import time

from services.chassis.errors import InvalidInput

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def uuid7() -> str:
    """A new id, lower case with hyphens: 48 bits of milliseconds, 12 of the fraction, 62 of chance (method
    3).
    """
    nanoseconds = time.time_ns()
    milliseconds, rest = divmod(nanoseconds, 1_000_000)
    fraction = (rest << 12) // 1_000_000
    chance = int.from_bytes(os.urandom(8), "big") & 0x3FFF_FFFF_FFFF_FFFF
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | chance
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def created_at(value: str) -> float:
    """When an id of `uuid7` was made, seconds since the epoch; 0.0 for another id."""
    try:
        return int(value[:8] + value[9:13], 16) / 1000 if value[14:15] == "7" else 0.0
    except ValueError:
        return 0.0


def parse_uuid(value: str, field: str) -> str:
    """The id in its one spelling (lower case, hyphens). Raises InvalidInput naming `field`, never the value.
    """
    lowered = value.lower()
    if not _UUID.fullmatch(lowered):
        raise InvalidInput("ID_MALFORMED", "An id is not a UUID.", violations=[(field, "ID_MALFORMED")])
    return lowered
