"""Do the records let anybody count how long a new channel took, and what was due to be purged?"""

from __future__ import annotations

from datetime import datetime, timedelta

import grpc.aio
import pytest

from misuse.common.v1.signal_pb2 import SOURCE_TYPE_WEB
from misuse.detector.v1 import channel_service_pb2 as channels
from services.chassis.rpc import unwrap
from services.detector.translate import stamp


async def upsert(world, version: int = 0, *, paused: bool = False, level=channels.CHANNEL_LEVEL_PUBLIC,
                 required: datetime | None = None) -> channels.Channel:  # fmt: skip
    wanted = channels.Channel(
        channel="new-board", channel_group="community", display_name="New board", source_type=SOURCE_TYPE_WEB,
        level=level, paused=paused, version=version,
    )  # fmt: skip
    request = channels.UpsertChannelRequest(
        request_id=f"request-{version}-{paused}-{level}", channel=wanted, require_time=stamp(required)
    )
    answer = await world.channels.UpsertChannel(request, metadata=world.metadata("OPERATOR", "COLLECTION"))
    return answer.channel


async def steps(world) -> list[tuple[str, datetime]]:
    found = await world.records("channel_onboarding_log")
    return [(each.step, each.step_time.ToDatetime(world.clock.now().tzinfo)) for each in found]


async def test_a_new_channel_tells_when_it_was_asked_for_and_when_its_signals_are_let_in(world):
    start = world.clock.now()
    asked = start - timedelta(days=3)
    stored = await upsert(world, paused=True, required=asked)
    assert [("REQUIRED", asked)] == await steps(world)
    world.clock.advance(timedelta(days=2))
    stored = await upsert(world, stored.version, level=channels.CHANNEL_LEVEL_BLOCKED)
    assert 1 == len(await steps(world))
    stored = await upsert(world, stored.version)
    assert [("REQUIRED", asked), ("LIVE", start + timedelta(days=2))] == await steps(world)
    await upsert(world, stored.version, level=channels.CHANNEL_LEVEL_OFFICIAL)
    assert 2 == len(await steps(world))


async def test_a_channel_that_is_made_without_a_word_was_asked_for_now(world):
    await upsert(world)
    assert [("REQUIRED", world.clock.now()), ("LIVE", world.clock.now())] == await steps(world)


@pytest.mark.parametrize("days", [-1, 367])
async def test_a_channel_cannot_have_been_asked_for_in_the_future_or_too_long_ago(world, days):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await upsert(world, required=world.clock.now() - timedelta(days=days))
    assert "OUT_OF_BOUNDS" == unwrap(refused.value).reason
    assert [] == await steps(world)


async def test_a_spool_key_is_listed_as_due_before_it_is_purged(world):
    await world.submit(world.signal("글"))
    await world.decide()
    world.clock.advance(timedelta(hours=2))
    await world.detector.sweeping.sweep()
    assert ["SPOOL_KEY"] == [each.item_kind for each in await world.records("purge_due_log")]
    assert [] == await world.records("purge_log")
    world.detector.sweeping.settle_seconds = 0.0
    await world.detector.sweeping.sweep()
    [due], [done] = await world.records("purge_due_log"), await world.records("purge_log")
    assert (due.item_kind, due.rule) == (done.item_kind, done.rule)
