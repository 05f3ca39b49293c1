"""Which replies does a person have to read?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.removal.handlers import Needs
from services.removal.ports import StoredReply


@dataclass(frozen=True)
class ReadReply:
    """A reply with its text. Personal data."""

    reply: StoredReply
    text: str = field(repr=False)


async def open_replies(needs: Needs, size: int, after: str) -> Sequence[ReadReply]:
    """A page of them, oldest first, after an id."""
    async with needs.store.begin() as work:
        found = []
        for reply in await work.open_replies(size, after):
            request = await work.request(reply.request_id, lock=False)
            if request is not None:
                found.append(ReadReply(reply, work.unseal_reply(request, reply)))
        return found
