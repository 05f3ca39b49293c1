"""Reposts fall into the cluster of the original in the transaction that decides; what was not seen for long is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import text

from misuse.common.v1 import signal_pb2 as common
from services.chassis.clock import ManualClock
from services.detector.domain.decisions import Decision
from services.detector.domain.signals import Signal
from services.detector.evaluate_dedup.texts import CHANGES
from services.detector.evaluate_dedup.transforms import transforms
from services.detector.handlers.remembering import PURGE_CONTENTS
from services.detector.ports import Analysis, Analyst, Beginning, Kept, KnownContent
from tests.integration.detector.conftest import pictures_named

MOBILE = common.IDENTIFIER_KIND_MOBILE_PHONE
NUMBER = "010-2345-6789"
LEAK = "판매자 정보 공유합니다 010-2345-6789 홍길동 서울 세종대로 110-4 입금하지 마세요 조심하세요 여러분"
FORM = "사기꾼 신고합니다 전화 010-2345-6789 계좌 {} 금액 {} 입금했는데 연락이 없습니다 조심하세요"
PICTURE_CHANGES = ("jpeg 30", "crop 10 %", "rotate 5°", "mirror", "frame", "caption bar", "screenshot")


@pytest.fixture(scope="module")
def portrait():
    try:
        [data, other] = pictures_named(["obama.jpg", "obama2.jpg"])
    except FileNotFoundError:
        pytest.skip("the demo's pictures are not fetched: run `make setup`")
    return data, other


def changed(data: bytes, name: str) -> bytes:
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", transforms()[name](bgr))[1].tobytes()


@pytest.mark.slow
async def test_every_changed_copy_of_a_picture_falls_into_its_cluster(world, portrait):
    data, other = portrait
    who = await world.register("FACE_TEMPLATE")
    await world.enrolled(who, other)
    await world.submit(world.signal(data))
    for name in PICTURE_CHANGES:
        await world.submit(world.signal(changed(data, name)))
    await world.submit(world.signal(other))
    await world.decide()
    facts = await world.facts()
    clusters = [each.cluster_id for each in facts]
    assert len(PICTURE_CHANGES) + 2 == len(facts)
    assert {clusters[0]} == set(clusters[:-1])
    assert clusters[0] != clusters[-1], "another photo of the same person is another content"
    rules = world.detector.deciding.likeness.rule_version
    assert {rules} == {each.cluster_rule_version for each in facts}
    assert 0 < max(each.cluster_distance_milli for each in facts) <= 1000


@pytest.mark.parametrize("name", ["spaced out", "quoted with a comment", "full width", "truncated"])
async def test_a_reposted_text_falls_into_its_cluster(world, name):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    await world.submit(world.signal(CHANGES[name](LEAK) + f" {NUMBER}"))
    await world.decide()
    assert 1 == len({each.cluster_id for each in await world.facts()})


async def test_a_form_with_other_numbers_in_it_is_another_content(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    for account, amount in (("110-234-567890", "350,000"), ("302-8812-901234", "1,290,000")):
        await world.submit(world.signal(FORM.format(account, amount)))
    await world.decide()
    assert 2 == len({each.cluster_id for each in await world.facts()})


async def test_a_repost_is_known_after_a_restart(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    world.detector.deciding.remembering.memory.forget(who)
    await world.submit(world.signal("[펌] " + LEAK))
    await world.decide()
    assert ["NEW", "TEXT"] == [each.cluster_rule for each in await world.facts()]


async def test_contents_not_seen_for_a_year_are_purged_with_a_record_and_others_stay(world, heavy):
    days = heavy.rules.review.content_days
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.submit(world.signal("전혀 다른 글입니다 물건 팝니다 연락은 010-2345-6789 로 주세요 서울 강남"))
    await world.decide()
    world.clock.advance(timedelta(days=20))
    await world.submit(world.signal(LEAK))
    await world.decide()
    [first, other, _] = await world.facts()
    due = await due_time(world, who)
    assert due == world.clock.now() + timedelta(days=days - 20)
    remembering = world.detector.deciding.remembering
    world.clock.advance(timedelta(days=days - 21))
    await remembering.purge(who)
    assert 2 == await world.count("content")
    world.clock.advance(timedelta(days=1))
    await remembering.purge(who)
    assert 1 == await world.count(f"content WHERE cluster_id = '{first.cluster_id}'")
    assert 0 == await world.count(f"content WHERE cluster_id = '{other.cluster_id}'")
    assert ["CONTENT"] == [record.item_kind for record in await world.records("purge_log")]
    assert world.clock.now() + timedelta(days=20) == await due_time(world, who)
    world.clock.advance(timedelta(days=20))
    await remembering.purge(who)
    assert (0, 2) == (await world.count("content"), len(await world.records("purge_log")))


class Slow:
    """An analyst, or what it found, over which so much time passes that what was found holds no longer."""

    def __init__(self, whole: Analyst | Analysis, clock: ManualClock) -> None:
        self._whole, self._clock = whole, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def analyse(self, signals: Sequence[Signal]) -> list[Slow]:
        return [Slow(analysis, self._clock) for analysis in self._whole.analyse(signals)]

    def keep(self, decision: Decision) -> Kept:
        self._clock.advance(timedelta(days=200))
        return self._whole.keep(decision)


async def test_a_find_that_holds_no_longer_has_no_content_kept_longer(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    world.clock.advance(timedelta(days=2))
    await world.submit(world.signal(LEAK))
    deciding = world.detector.deciding
    world.detector = replace(world.detector, deciding=replace(deciding, analyst=Slow(deciding.analyst, world.clock)))
    await world.decide()
    assert (1, 0) == (len(await world.facts()), await world.count("content WHERE seen_time IS NOT NULL"))


async def test_memory_holds_nothing_longer_than_the_table_may(world, heavy):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    memory = world.detector.deciding.remembering.memory
    assert memory.get(who, world.clock.now()) is not None
    assert memory.get(who, world.clock.now() + timedelta(days=heavy.rules.review.content_days)) is None


async def test_an_erased_subscriber_leaves_no_due_row(world):
    who = await world.register()
    await world.watched(who, MOBILE, NUMBER)
    await world.submit(world.signal(LEAK))
    await world.decide()
    assert 1 == await world.count(f"due WHERE kind = '{PURGE_CONTENTS}'")
    async with world.database.begin() as session:
        await world.detector.following.erase(world.detector.store.within(session), who)
    assert (0, 0) == (await world.count("content"), await world.count(f"due WHERE kind = '{PURGE_CONTENTS}'"))


async def test_only_the_newest_contents_are_read_page_by_page(world):
    who = await world.register()
    async with world.database.begin() as session:
        work = world.detector.store.within(session)
        for number in range(7):
            await session.execute(
                text(
                    "INSERT INTO content (subscriber_id, cluster_id, medium, content_ref, fingerprint, create_time)"
                    " VALUES (:who, :cluster, 2, :ref, :print, :now)"
                ),
                {"who": who, "cluster": str(number), "ref": bytes([number]), "print": b"x", "now": world.clock.now()},
            )
        assert {who: Beginning(0, world.clock.now())} == await work.contents.beginnings([who], 7)
        after = (await work.contents.beginnings([who], 5))[who].after
        pages: list[list[KnownContent]] = []
        while page := await work.contents.since(who, pages[-1][-1].content_id if pages else after, 2):
            pages.append(page)
    assert [["2", "3"], ["4", "5"], ["6"]] == [[row.cluster_id for row in page] for page in pages]


async def due_time(world, who):
    async with world.database.begin() as session:
        query = text("SELECT due_time FROM due WHERE kind = :kind AND entity_id = :who")
        return await session.scalar(query, {"kind": PURGE_CONTENTS, "who": who})


async def test_what_a_transaction_failed_to_schedule_the_next_one_schedules(world):
    who, remembering = await world.register(), world.detector.deciding.remembering
    async with world.detector.store.begin() as work:
        first = await remembering.held(work, [who])
        await remembering.catch_up(work, first, {}, world.detector.deciding._beside)
        # The lock is given on with the rollback, before the first one notes that it failed.
        next_one = await remembering.held(work, [who])
        remembering.settled(first, committed=False)
        assert {(PURGE_CONTENTS, who)} == set(remembering.purges(next_one))
        remembering.settled(next_one, committed=True)
        assert not remembering.purges(next_one)
