"""What becomes of a signal whose decision fails: by its own fault, by the store's, or because the detector dies."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text

from misuse.common.v1 import signal_pb2 as common
from services.chassis.due import DueItem
from services.detector.adapters.spool import SqlSpool
from services.detector.domain.channels import Channel
from services.detector.domain.clusters import Near
from services.detector.domain.signals import Signal
from services.detector.handlers.deciding import DECIDE_SIGNAL, PICTURES, TEXTS
from services.detector.handlers.intake import KnownChannels
from services.detector.ports import Analysis, Analyst, Content, Likeness, Work
from tests.integration.detector.conftest import running

MOBILE = common.IDENTIFIER_KIND_MOBILE_PHONE
LEAK = "판매자 연락처 010 2345 6789 입니다"
POISON = "poison"


class Fragile:
    """An analyst that fails over every signal in which POISON stands."""

    def __init__(self, analyst: Analyst) -> None:
        self._analyst = analyst
        self.error: Exception = ArithmeticError("over this signal")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._analyst, name)

    def analyse(self, signals: Sequence[Signal]) -> Sequence[Analysis]:
        if any(POISON in (part.text or "") for signal in signals for part in signal.parts):
            raise self.error
        return self._analyst.analyse(signals)


def fragile(world) -> Fragile:
    """Puts a fragile analyst into the world's detector."""
    analyst = Fragile(world.detector.deciding.analyst)
    world.detector = replace(world.detector, deciding=replace(world.detector.deciding, analyst=analyst))
    return analyst


async def letters(world) -> list[tuple[str, str, str]]:
    async with world.database.begin() as session:
        rows = await session.execute(text("SELECT event, event_id, reason FROM dead_letter ORDER BY dead_letter_id"))
        return [tuple(row) for row in rows]


async def test_a_signal_that_breaks_its_analysis_is_kept_aside_and_its_neighbours_are_decided(world):
    who = await world.register()
    await world.watched(who, MOBILE, "010-2345-6789")
    fragile(world)
    await world.submit(world.signal(LEAK))
    await world.submit(world.signal(POISON))
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert 2 == len(await world.facts())
    assert [(DECIDE_SIGNAL, "2", "BUG_ARITHMETICERROR")] == await letters(world)
    assert 1 == await world.count("spool WHERE parked")
    assert not world.detector.deciding.stopped


async def test_the_replay_of_a_signal_that_was_kept_aside_decides_it(world):
    who = await world.register()
    await world.watched(who, MOBILE, "010-2345-6789")
    analyst = fragile(world)
    await world.submit(world.signal(f"{POISON} {LEAK}"))
    await world.decide()
    assert [] == await world.facts()
    mended = replace(world.detector.deciding, analyst=analyst._analyst)
    world.detector = replace(world.detector, deciding=mended)
    item = DueItem(DECIDE_SIGNAL, "1", world.clock.now(), 1, 0, "")
    await world.detector.due_handlers()[DECIDE_SIGNAL](item)
    assert 1 == await world.decide()
    assert (1, 0) == (len(await world.facts()), await world.count("spool"))


@pytest.mark.parametrize("error", [OSError("a key cannot be read"), ConnectionResetError("the store is away")])
async def test_what_passes_by_itself_is_never_counted_against_a_signal(world, error):
    fragile(world).error = error
    await world.submit(world.signal(POISON))
    for _ in range(10):
        with pytest.raises(type(error)):
            await world.detector.deciding.batch(TEXTS)
    assert 1 == await world.count("spool WHERE attempts = 0 AND NOT parked AND lease IS NULL")


async def test_while_what_pictures_need_is_away_they_wait_untouched(world):
    whole = world.detector.deciding
    away = replace(whole, paused=lambda lane: lane.pictures)
    await world.submit(world.signal("글"))
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(picture, "PNG")
    await world.submit(world.signal(picture.getvalue()))
    assert [1, 0] == [await away.batch(TEXTS), await away.batch(PICTURES)]
    assert 1 == await world.count("spool WHERE pictures AND attempts = 0 AND NOT parked AND lease IS NULL")
    assert 1 == await whole.batch(PICTURES)


async def test_so_many_signals_kept_aside_in_a_row_stop_their_lane_until_one_is_replayed(world, heavy):
    fragile(world)
    limit = heavy.rules.review.stop_after
    for number in range(limit + 3):
        await world.submit(world.signal(f"{POISON} {number}"))
    await world.decide()
    assert limit == len(await letters(world))
    assert (True, False) == (world.detector.deciding.stopped, world.detector.ready())
    await world.detector.deciding.free("1")
    assert world.detector.ready()


async def test_a_signal_whose_key_is_gone_is_kept_aside_not_deleted(world):
    await world.submit(world.signal("글"))
    async with world.database.begin() as session:
        await session.execute(text("UPDATE spool SET key_id = 'spool:lost'"))
    await world.decide()
    assert [(DECIDE_SIGNAL, "1", "SPOOL_KEY_MISSING")] == await letters(world)
    assert 1 == await world.count("spool WHERE parked")


class Incomparable:
    """A likeness that fails over every comparison."""

    def __init__(self, likeness: Likeness) -> None:
        self._likeness = likeness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._likeness, name)

    def near(self, new: Content, known: Sequence[tuple[str, object]]) -> list[Near]:
        raise ArithmeticError("over this content")


async def test_a_signal_that_cannot_be_compared_is_kept_aside_and_the_rest_of_its_batch_is_decided(world):
    who = await world.register()
    await world.watched(who, MOBILE, "010-2345-6789")
    deciding = world.detector.deciding
    world.detector = replace(world.detector, deciding=replace(deciding, likeness=Incomparable(deciding.likeness)))
    for words in (LEAK, "전화는 010-2345-6789", "날씨가 좋네요"):
        await world.submit(world.signal(words))
    await world.decide()
    assert [(DECIDE_SIGNAL, "2", "BUG_ARITHMETICERROR")] == await letters(world)
    assert (1, 1) == (len(await world.facts()), await world.count("spool"))


async def test_two_deaths_over_a_signal_lose_nothing(empty_url, tmp_path, heavy):
    for death in range(2):
        async with running(empty_url, tmp_path, heavy) as world:
            if death == 0:
                who = await world.register()
                await world.watched(who, MOBILE, "010-2345-6789")
                await world.submit(world.signal(LEAK))
            async with world.database.begin() as session:
                taken = await SqlSpool(session).take(
                    False, 10, f"dead-{death}", world.detector.deciding.owner, datetime.now(UTC) + timedelta(days=1)
                )
            assert [death] == [row.attempts for row in taken]
    async with running(empty_url, tmp_path, heavy) as world:
        assert 1 == await world.decide()
        assert (1, 0) == (len(await world.facts()), await world.count("dead_letter"))


async def test_a_signal_that_failed_before_has_its_turn_while_others_keep_coming(world):
    who = await world.register()
    await world.watched(who, MOBILE, "010-2345-6789")
    await world.submit(world.signal(LEAK))
    async with world.database.begin() as session:
        await session.execute(text("UPDATE spool SET attempts = 1"))
    for _ in range(2):
        await world.submit(world.signal("날씨가 좋네요"))
        await world.detector.deciding.batch(TEXTS)
    assert (1, 1) == (len(await world.facts()), await world.count("spool"))


class Channels(KnownChannels):
    """Channels that cannot be read at first."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 1

    async def known(self, work: Work) -> Mapping[str, Channel]:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError("the store is away")
        return await super().known(work)


async def test_signals_are_free_at_once_where_the_store_goes_away_while_they_are_taken(world):
    deciding = replace(world.detector.deciding, channels=Channels())
    await world.submit(world.signal("글"))
    with pytest.raises(ConnectionResetError):
        await deciding.batch(TEXTS)
    assert 1 == await deciding.batch(TEXTS)
    assert 0 == await world.count("spool")


async def test_a_signal_over_which_the_detector_died_again_and_again_is_kept_aside(world, heavy):
    await world.submit(world.signal("글"))
    async with world.database.begin() as session:
        await session.execute(text("UPDATE spool SET attempts = :most"), {"most": heavy.rules.review.attempts})
    await world.decide()
    assert [(DECIDE_SIGNAL, "1", "BREAKS_ITS_WORKER")] == await letters(world)
