"""Does the detector erase somebody whatever happens in the middle, and answer each round?"""

from __future__ import annotations

import pytest
from sqlalchemy import text

from misuse.case.v1 import events_pb2 as case
from misuse.common.v1 import signal_pb2 as common
from services.chassis.bus import Event
from services.chassis.ids import uuid7
from services.detector.adapters.tables import Base
from services.detector.consumer import case_handlers

LEAK = "연락처 010 0000 1234 입니다"


class _Died(Exception):
    """The process ended before the commit."""


async def asked(world, who: str, round_number: int, *, die: bool = False) -> None:
    """The event of `case`, applied as the consumer does."""
    event = case.SubscriberErasureRequested(subscriber_id=who, round=round_number)
    handler = case_handlers(world.detector.following, world.detector.store.within)[type(event)]
    async with world.database.begin() as session:
        await handler(session, [Event("case", 0, 1, uuid7(), "", event)])
        if die:
            raise _Died


async def naming(world, who: str) -> dict[str, int]:
    """Table → rows that name somebody, but those that wait to be published as they are."""
    counts = {}
    async with world.database.begin() as session:
        for name in Base.metadata.tables.keys() - {"outbox"}:
            query = text(f'SELECT count(*) FROM "{name}" t WHERE t::text LIKE :who')
            counts[name] = int(await session.scalar(query, {"who": f"%{who}%"}) or 0)
    return {name: count for name, count in counts.items() if count}


async def test_an_erasure_without_its_commit_is_made_good_and_the_second_round_takes_what_came_between(world) -> None:
    who = await world.register()
    await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, "010-0000-1234")
    await world.submit(world.signal(LEAK))
    await world.decide()
    with pytest.raises(_Died):
        await asked(world, who, 1, die=True)
    assert world.keys.destroyed(who)
    assert {"subscriber", "watched_identifier", "decision", "content"} <= (await naming(world, who)).keys()
    await world.submit(world.signal(LEAK))
    await world.decide()
    await asked(world, who, 1)
    assert {} == await naming(world, who)
    async with world.database.begin() as session:
        late = "INSERT INTO known_device (subscriber_id, device_ref, note_time) VALUES (:who, 'x', :now)"
        await session.execute(text(late), {"who": who, "now": world.clock.now()})
    await asked(world, who, 2)
    assert {} == await naming(world, who)
    assert [1, 2] == [event.round for event in await world.published("erasure_completed")]
    assert 1 == len(await world.facts())
