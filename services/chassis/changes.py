"""How does somebody follow what a service has published without missing any of it?

The outbox keeps it for two weeks. Positions of a partition are given out after the commit and have no gaps, so that a
row that commits late gets a late position: who has read up to a position has missed nothing. A resume token holds the
position up to which each partition was shown.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, text

from services.chassis.database import Database
from services.chassis.errors import InvalidInput, OutOfRange
from services.chassis.outbox import OUTBOX_HEAD

_PAUSE_S = 0.5
"""Between two looks, unless something is committed here before."""
_SETTLE_S = 0.05
"""From a commit to the position that the relay gives it, mostly."""
_MAX_TOKEN = 8192
_VERSION = b"\x01"
_PLACE = struct.Struct(">HQ")

_AFTER = text(
    """
    SELECT n.partition, n.position AS seen, h.position AS head, o.position, o.event, o.payload
    FROM unnest(CAST(:partitions AS int[]), CAST(:positions AS bigint[])) AS n(partition, position)
    LEFT JOIN outbox_head h ON h.partition = n.partition
    LEFT JOIN LATERAL (
        SELECT position, event, payload FROM outbox
        WHERE partition = n.partition AND position > n.position
        ORDER BY position LIMIT :most
    ) o ON true
    ORDER BY n.partition, o.position
    """
)


@dataclass(frozen=True, slots=True)
class Published:
    """Something that was published, at its place."""

    partition: int
    position: int
    event: str
    payload: bytes


class PublishedChanges:
    """Reads what lies in some partitions of the outbox."""

    def __init__(self, database: Database, partitions: Iterable[int]) -> None:
        self._database = database
        self._lane = tuple(partitions)
        self._committed = database.wakeup("outbox")

    async def heads(self) -> Mapping[int, int]:
        """Partition → last position given out."""
        async with self._database.begin() as session:
            rows = await session.execute(select(OUTBOX_HEAD.c.partition, OUTBOX_HEAD.c.position))
            found = {row.partition: row.position for row in rows}
        return {partition: found.get(partition, 0) for partition in self._lane}

    async def after(self, positions: Mapping[int, int], most: int) -> Sequence[Published]:
        """What follows the positions, at most so many of each partition, without gaps. Raises OutOfRange
        POSITION_NO_LONGER_KEPT where the next one is gone, or was never given out.
        """
        values = {"partitions": list(positions), "positions": list(positions.values()), "most": most}
        async with self._database.begin() as session:
            rows = (await session.execute(_AFTER, values)).all()
        expected = {partition: position + 1 for partition, position in positions.items()}
        found = []
        for row in rows:
            if row.position is None:
                if row.seen != (row.head or 0):
                    raise _gone()
                continue
            if row.position != expected[row.partition]:
                raise _gone()
            expected[row.partition] += 1
            found.append(Published(row.partition, row.position, row.event, row.payload))
        return found

    async def wait(self) -> None:
        """Returns after a pause that is short while much happens."""
        self._committed.clear()
        try:
            async with asyncio.timeout(_PAUSE_S):
                await self._committed.wait()
                await asyncio.sleep(_SETTLE_S)
        except TimeoutError:
            return


def resume_token(positions: Mapping[int, int]) -> str:
    """Partition → position, as a caller keeps it."""
    places = b"".join(_PLACE.pack(partition, position) for partition, position in sorted(positions.items()))
    return base64.urlsafe_b64encode(_VERSION + places).decode()


def resumed_positions(token: str, heads: Mapping[int, int]) -> dict[int, int]:
    """Where the token says that each partition was left. Raises InvalidInput BAD_RESUME_TOKEN, OutOfRange for positions
    that were never given out: the token is of another system, or of one that was set back.
    """
    try:
        data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        if len(token) > _MAX_TOKEN or data[:1] != _VERSION:
            raise ValueError("not one of ours")
        found = dict(_PLACE.iter_unpack(data[1:]))
    except (ValueError, binascii.Error, struct.error):
        found = {}
    if set(found) != set(heads):
        violation = ("resume_token", "BAD_RESUME_TOKEN")
        raise InvalidInput(violation[1], "The resume token is not one of ours.", violations=[violation])
    if any(found[partition] > head for partition, head in heads.items()):
        raise _gone()
    return found


def _gone() -> OutOfRange:
    return OutOfRange("POSITION_NO_LONGER_KEPT", "The changes after this token are no longer kept.")
