"""The gallery in memory follows the table of templates, whatever happens to either."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from misuse.detector.v1 import enrollment_service_pb2 as enrolment
from misuse.log.v1.record_pb2 import IndexVersionLog, LogRecord
from misuse.ops.v1 import ops_pb2
from services.chassis.clock import ManualClock
from services.chassis.database import Database
from services.chassis.errors import FailedPrecondition
from services.chassis.idempotency import RequestMemory
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key
from services.chassis.ops import OpsServicer
from services.chassis.outbox import Outbox
from services.chassis.tasks import end
from services.detector.__main__ import FOLLOW_SECONDS, _workers
from services.detector.adapters.enrolled import DatabaseFeed, EnrolledFaces, publish_freshness, vectors_to_bytes
from services.detector.adapters.store import Store
from services.detector.domain.ownership import FaceTemplate, OwnershipState
from services.detector.handlers.freshness import Reporting
from services.detector.ports import Work
from services.detector.sealing import Vault
from tests.integration.detector.conftest import START

FIRST, SECOND, DIMENSION = "first-model", "second-model", 32
VALID = START + timedelta(days=30)
LIMIT_SECONDS = 5.0
"""Within which no replica may find an erased template."""


def unit(seed: int, dimension: int = DIMENSION) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class Replica:
    """One detector's gallery on the shared database, with connections and a key store of its own."""

    database: Database
    store: Store
    keys: FileKeyStore
    clock: ManualClock
    enrolled: EnrolledFaces
    feed: DatabaseFeed

    async def put(self, seed: int, state: OwnershipState = OwnershipState.VERIFIED, **changes: Any) -> FaceTemplate:
        """A template of somebody new."""
        template = FaceTemplate(uuid7(), uuid7(), state, START, VALID, 1, (FIRST, SECOND), 1)
        template = replace(template, **changes)
        await self.put_all([(seed, template)])
        return template

    async def put_all(
        self, templates: Sequence[tuple[int, FaceTemplate]], model_id: str = FIRST, dimension: int = DIMENSION
    ) -> None:
        vault = Vault(self.keys)
        async with self.store.begin() as work:
            for seed, each in templates:
                data = vectors_to_bytes({model_id: unit(seed, dimension), SECOND: unit(seed + 500, 8)})
                sealed = vault.seal(each.subscriber_id, "face_template", each.template_id, "vectors", data)
                await work.templates.add(each, sealed, b"a crop")

    async def change(self, template: FaceTemplate, state: OwnershipState) -> None:
        async with self.store.begin() as work:
            await work.templates.change(replace(template, state=state, version=template.version + 1))

    def finds(self, seed: int) -> str | None:
        """The template that the gallery finds for a face; None where nothing is near."""
        for each in self.enrolled.candidates(unit(seed)[np.newaxis], 1)[0]:
            return each.template_id if each.score > 0.99 else None
        return None


@asynccontextmanager
async def replica(url: str, folder: Path, page: int = 1000) -> AsyncIterator[Replica]:
    create_master_key(folder / "master.key")
    database, keys, clock = (
        Database(url),
        FileKeyStore(folder / "keys", folder / "master.key"),
        ManualClock(START),
    )
    store = Store(database, Outbox("detector", 4, b"k" * 32), RequestMemory(b"s" * 32, clock))
    enrolled = EnrolledFaces(FIRST, SECOND, DIMENSION)
    feed = DatabaseFeed(store.quietly, Vault(keys), enrolled, clock.now, page)
    yield Replica(database, store, keys, clock, enrolled, feed)
    await database.close()


@asynccontextmanager
async def following(feed: DatabaseFeed) -> AsyncIterator[None]:
    """As the service follows."""

    async def loop() -> None:
        while True:
            await feed.refresh()
            await asyncio.sleep(FOLLOW_SECONDS)

    task = asyncio.create_task(loop())
    yield
    await end(task)


@pytest.fixture
async def one(empty_url: str, tmp_path: Path) -> AsyncIterator[Replica]:
    async with replica(empty_url, tmp_path) as found:
        yield found


async def test_only_what_is_verified_and_not_expired_is_matched(one: Replica) -> None:
    verified = await one.put(1)
    for seed, state in enumerate(OwnershipState, 2):
        if state is not OwnershipState.VERIFIED:
            await one.put(seed, state)
    await one.put(20, expire_time=START)
    await one.put(21, expire_time=None)
    await one.feed.refresh()
    assert (verified.template_id, 1) == (one.finds(1), len(one.enrolled))
    assert all(one.finds(seed) is None for seed in (2, 3, 4, 5, 6, 20, 21))
    [held] = [one.enrolled.gallery.entry(verified.template_id)]
    assert held is not None and held.second is not None
    assert np.allclose(unit(501, 8), held.second)


async def test_it_is_filled_page_by_page_and_ready_only_then(empty_url: str, tmp_path: Path) -> None:
    async with replica(empty_url, tmp_path, page=7) as one:
        templates = [FaceTemplate(uuid7(), uuid7(), OwnershipState.VERIFIED, START, VALID, 1, (), 1) for _ in range(24)]
        await one.put_all(list(enumerate(templates)))
        assert not one.enrolled.loaded.is_set()
        await one.feed.refresh()
        assert one.enrolled.loaded.is_set()
        assert (24, 24) == (len(one.enrolled), one.enrolled.version)
        assert [each.template_id for each in templates] == [one.finds(seed) for seed in range(24)]


@pytest.mark.slow
async def test_an_erased_template_is_found_by_no_replica_within_seconds(empty_url: str, tmp_path: Path) -> None:
    async with replica(empty_url, tmp_path) as here, replica(empty_url, tmp_path) as there:
        async with following(here.feed), following(there.feed):
            template = await here.put(1)
            await here.feed.refresh()
            await asyncio.wait_for(found(there, 1, template.template_id), 10)
            started = time.monotonic()
            await here.change(template, OwnershipState.ERASED)
            await here.feed.refresh()
            assert here.finds(1) is None
            await asyncio.wait_for(found(there, 1, None), LIMIT_SECONDS)
        assert time.monotonic() - started < LIMIT_SECONDS
        assert here.enrolled.version == there.enrolled.version


async def found(one: Replica, seed: int, template_id: str | None) -> None:
    while one.finds(seed) != template_id:
        await asyncio.sleep(0.02)


async def test_the_call_that_erases_returns_when_no_search_finds_the_template(world: Any) -> None:
    detector = world.detector
    who = await world.register("FACE_TEMPLATE")
    vector = unit(1, 512)
    template = FaceTemplate(
        uuid7(), who, OwnershipState.VERIFIED, START, VALID, 1, (detector.enrolled.gallery.model_id,), 1
    )
    data = vectors_to_bytes({detector.enrolled.gallery.model_id: vector})
    async with detector.store.begin() as work:
        sealed = Vault(world.keys).seal(who, "face_template", template.template_id, "vectors", data)
        await work.templates.add(template, sealed, None)
    await detector.feed.refresh()
    assert who == detector.enrolled.candidates(vector[np.newaxis], 1)[0][0].subscriber_id
    request = enrolment.EraseFaceTemplateRequest(subscriber_id=who, template_id=template.template_id)
    await world.enrolment.EraseFaceTemplate(request, metadata=world.backend)
    assert [[]] == detector.enrolled.candidates(vector[np.newaxis], 1)


async def test_a_slow_reader_does_not_put_back_what_was_erased_meanwhile(one: Replica) -> None:
    template = await one.put(1)
    has_read, go_on, numbers = asyncio.Event(), asyncio.Event(), itertools.count(1)

    @asynccontextmanager
    async def slow() -> AsyncIterator[Work]:
        number = next(numbers)
        async with one.store.quietly() as work:
            yield work
        if number == 2:  # after the version: the changes
            has_read.set()
            await go_on.wait()

    feed = DatabaseFeed(slow, Vault(one.keys), one.enrolled, one.clock.now)
    reading = asyncio.create_task(feed.refresh())
    await has_read.wait()
    await one.change(template, OwnershipState.ERASED)
    erasing = asyncio.create_task(feed.refresh())
    await asyncio.wait([erasing], timeout=0.3)
    go_on.set()
    await asyncio.gather(reading, erasing)
    assert (None, 0) == (one.finds(1), len(one.enrolled))


async def test_a_database_restored_to_an_earlier_day_is_taken_over_while_the_old_gallery_serves(one: Replica) -> None:
    stays = await one.put(1)
    later = await one.put(2)
    await one.feed.refresh()
    assert (stays.template_id, later.template_id) == (one.finds(1), one.finds(2))
    async with one.database.begin() as session:
        await session.execute(text("DELETE FROM face_template WHERE template_id = :id"), {"id": later.template_id})
        await session.execute(text("UPDATE gallery_version SET version = 1"))
    await one.feed.refresh()
    assert stays.template_id == one.finds(1)
    begun = time.monotonic()
    await one.feed.rebuild()
    assert (stays.template_id, None, 1) == (one.finds(1), one.finds(2), one.enrolled.version)
    assert one.enrolled.age_seconds <= time.monotonic() - begun  # what the rebuild read counts from then on
    new = await one.put(3)
    await one.feed.refresh()
    assert (new.template_id, 2) == (one.finds(3), one.enrolled.version)


async def test_a_damaged_template_and_one_without_its_key_harm_no_other(one: Replica) -> None:
    damaged, erased = await one.put(1), await one.put(2)
    sound = await one.put(3)
    of_another_model = FaceTemplate(uuid7(), uuid7(), OwnershipState.VERIFIED, START, VALID, 1, (), 1)
    await one.put_all([(4, of_another_model)], model_id="yesterdays-model")
    await one.put_all([(5, replace(of_another_model, template_id=uuid7()))], dimension=DIMENSION - 1)
    one.keys.destroy(erased.subscriber_id)
    async with one.database.begin() as session:
        query = "UPDATE face_template SET vectors = overlay(vectors placing 'x' from 40) WHERE template_id = :id"
        await session.execute(text(query), {"id": damaged.template_id})
    await one.feed.refresh()
    assert [None, None, sound.template_id, None] == [one.finds(seed) for seed in (1, 2, 3, 4)]
    assert 1 == len(one.enrolled)


async def test_nothing_is_decided_before_the_gallery_is_there(world: Any) -> None:
    world.detector.enrolled.loaded.clear()
    assert not world.detector.ready()
    workers = [asyncio.create_task(loop()) for loop in _workers(world.detector, world.database, 1)]
    await world.submit(world.signal("a post"))
    await asyncio.sleep(0.3)
    assert 1 == await world.count("spool")
    await world.detector.feed.refresh()
    async with asyncio.timeout(10):
        while await world.count("spool"):
            await asyncio.sleep(0.05)
    assert world.detector.ready()
    await end(*workers)


async def test_freshness_is_measured(one: Replica) -> None:
    publish_freshness(one.enrolled)
    await one.put(1)
    await asyncio.sleep(0.2)
    before = shown()
    await one.feed.refresh()
    after = shown()
    assert (0, 0, 1, 1) == (
        before["jikimi_gallery_version"],
        before["jikimi_gallery_templates"],
        after["jikimi_gallery_version"],
        after["jikimi_gallery_templates"],
    )
    assert 0.2 <= before["jikimi_gallery_age_seconds"] > after["jikimi_gallery_age_seconds"]


def shown() -> dict[str, float]:
    return {
        sample.name: sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name.startswith("jikimi_gallery_")
    }


async def recorded(one: Replica) -> list[IndexVersionLog]:
    async with one.database.begin() as session:
        rows = await session.execute(text("SELECT payload FROM outbox WHERE event = 'recorded' ORDER BY seq"))
        return [LogRecord.FromString(bytes(row[0])).index_version_log for row in rows]


async def test_a_replica_records_how_current_it_is_once_a_minute_of_business_time(one: Replica) -> None:
    reporting = Reporting(one.store.begin, one.clock, one.enrolled, "a", timedelta(minutes=1))
    await reporting.report()
    assert await recorded(one) == []  # nothing is served before the first loading
    await one.put(1)
    await one.feed.refresh()
    await reporting.report()
    await one.put(2)
    await asyncio.sleep(0.05)
    await one.feed.refresh()
    await reporting.report()
    one.clock.advance(timedelta(hours=72))
    await reporting.report()
    first, second = await recorded(one)
    assert [(x.index, x.replica, x.version, x.head_version, x.entries) for x in (first, second)] == [
        ("face_gallery", "a", 1, 1, 1),
        ("face_gallery", "a", 2, 2, 2),
    ]
    assert second.age_ms >= 50  # the longest stretch between two looks at the table, not the moment's


async def test_a_record_that_could_not_be_written_leaves_its_age_to_the_next(one: Replica) -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        raise ConnectionError
        yield

    await one.feed.refresh()
    await asyncio.sleep(0.05)
    await one.feed.refresh()
    with pytest.raises(ConnectionError):
        await Reporting(broken, one.clock, one.enrolled, "a", timedelta(minutes=1)).report()
    await Reporting(one.store.begin, one.clock, one.enrolled, "a", timedelta(minutes=1)).report()
    assert (await recorded(one))[0].age_ms >= 50


async def test_an_operator_has_the_gallery_built_anew_while_it_serves(empty_url: str, tmp_path: Path) -> None:
    async with replica(empty_url, tmp_path, page=7) as one:
        ops = OpsServicer("detector", one.database, None, one.clock, (), one.feed)  # type: ignore[arg-type] # no bus here
        with pytest.raises(FailedPrecondition) as refused:
            await ops.RebuildIndex(ops_pb2.RebuildIndexRequest(), None)
        assert refused.value.reason == "INDEX_NOT_LOADED"
        templates = [FaceTemplate(uuid7(), uuid7(), OwnershipState.VERIFIED, START, VALID, 1, (), 1) for _ in range(24)]
        await one.put_all(list(enumerate(templates)))
        await one.feed.refresh()
        one.enrolled.gallery.remove([templates[3].template_id])  # memory and table differ, and no version tells
        answers = [await ops.RebuildIndex(ops_pb2.RebuildIndexRequest(), None) for _ in range(2)]
        assert [each.started for each in answers] == [True, False]
        seen = []
        work = asyncio.create_task(one.feed.rebuild())
        while not work.done():
            state = await ops.GetIndexVersion(ops_pb2.GetIndexVersionRequest(), None)
            seen.append((state.rebuilding, state.rebuild_version, state.version))
            assert one.finds(5) == templates[5].template_id
            await asyncio.sleep(0)
        await work
        assert {(True, 7, 24), (True, 14, 24)} <= set(seen)
        state = await ops.GetIndexVersion(ops_pb2.GetIndexVersionRequest(), None)
        assert (state.rebuilding, state.version, state.head_version, state.entries) == (False, 24, 24, 24)
        assert one.finds(3) == templates[3].template_id
