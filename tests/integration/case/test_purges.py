"""Does the list of purges say what the records say, of every service, with proof?"""

from __future__ import annotations

from datetime import datetime, timedelta

from misuse.case.v1 import privacy_service_pb2 as pb
from misuse.log.v1.record_pb2 import LogRecord, PurgeDueLog, PurgeLog
from services.case.records import stamp
from services.chassis.ids import uuid7
from tests.integration.case.rights_world import ask, officer, privacy, purges, reject
from tests.integration.case.world import World, refused

HOUR = timedelta(hours=1)


def due(world: World, item_id: str, when: datetime, service: str = "detector") -> LogRecord:
    body = PurgeDueLog(item_kind="SPOOL_KEY", due_time=stamp(when), rule="RULE")
    return record(world, item_id, service, purge_due_log=body)


def purged(world: World, item_id: str, when: datetime, service: str = "detector") -> LogRecord:
    body = PurgeLog(item_kind="SPOOL_KEY", due_time=stamp(when), rule="RULE")
    return record(world, item_id, service, purge_log=body)


def record(world: World, item_id: str, service: str, **body: object) -> LogRecord:
    return LogRecord(
        record_id=uuid7(), entity="spool_key", entity_id=item_id, service=service, entity_version=1,
        occur_time=stamp(world.clock.now()), **body,  # type: ignore[arg-type] # one of two bodies
    )  # fmt: skip


async def shown(world: World, state: str = "") -> list[tuple[str, str, str]]:
    return [(each.service, each.item_id, each.state) for each in await purges(world, state)]


async def test_what_is_due_is_listed_by_deadline_until_its_purge_is_on_record(world: World) -> None:
    now = world.clock.now()
    await world.feed(due(world, "late", now - HOUR), due(world, "b", now + HOUR), due(world, "a", now + 2 * HOUR))
    everything = [("detector", "late", "OVERDUE"), ("detector", "b", "DUE"), ("detector", "a", "DUE")]
    assert everything == await shown(world)
    told = purged(world, "late", now - HOUR)
    await world.feed(told, told)
    assert everything[1:] == await shown(world)
    [proved] = await purges(world, "PURGED")
    assert ("late", told.record_id, True) == (proved.item_id, proved.record_id, proved.chain_id.startswith("day:"))
    [(entry_hash,)] = await world.sql(
        "SELECT entry_hash FROM log_entry WHERE chain_id = :chain AND sequence = :at",
        chain=proved.chain_id, at=proved.sequence,
    )  # fmt: skip
    assert entry_hash == proved.entry_hash


async def test_records_may_come_in_any_order_and_again(world: World) -> None:
    now = world.clock.now()
    late, early = due(world, "x", now), purged(world, "x", now)
    await world.feed(early)
    await world.feed(late, early, late)
    assert [] == await shown(world)
    assert [("detector", "x", "PURGED")] == await shown(world, "PURGED")


async def test_the_same_id_of_two_services_is_two_things(world: World) -> None:
    now = world.clock.now()
    await world.feed(due(world, "x", now), due(world, "x", now, "notify"), purged(world, "x", now, "notify"))
    assert ([("detector", "x", "DUE")], [("notify", "x", "PURGED")]) == (
        await shown(world), await shown(world, "PURGED"),
    )  # fmt: skip


async def test_pages_show_everything_once(world: World) -> None:
    now = world.clock.now()
    await world.feed(*(due(world, f"d{n}", now + n * HOUR) for n in range(5)))
    await world.feed(*(purged(world, f"p{n}", now) for n in range(5)))
    for state, names in (("DUE", ["d0", "d1", "d2", "d3", "d4"]), ("PURGED", ["p0", "p1", "p2", "p3", "p4"])):
        found: list[str] = []
        token = ""
        while True:
            items = await purges(world, state, page_size=2, page_token=token)
            found += [each.item_id for each in items]
            token = await _next(world, state, token)
            if not token:
                break
        assert names == sorted(found)


async def _next(world: World, state: str, token: str) -> str:
    request = pb.ListPurgeItemsRequest(state=state, page_size=2, page_token=token)
    return str((await privacy(world).ListPurgeItems(request, metadata=officer(world))).next_page_token)


async def test_what_a_law_holds_back_is_listed_with_its_reason(world: World) -> None:
    person = await world.person()
    kept, refused_ = await ask(world, person, "DELETION"), await ask(world, person, "DELETION")
    await reject(world, kept.rights_request_id, "LAW_REQUIRES_RETENTION")
    await reject(world, refused_.rights_request_id, "IDENTITY_UNPROVED")
    [held] = await purges(world, "HELD")
    assert ("HELD", "LAW_REQUIRES_RETENTION", kept.rights_request_id) == (held.state, held.rule, held.item_id)
    with refused("STATE_UNKNOWN"):
        await purges(world, "LOST")


async def test_old_purges_leave_the_list_and_their_records_stay(world: World) -> None:
    await world.feed(purged(world, "x", world.clock.now()))
    world.clock.advance(world.service.rights.rules.keep_purged + timedelta(days=1))
    await world.service.purging.forget_when_due()
    assert [] == await purges(world, "PURGED")
    assert [(1,)] == await world.sql("SELECT count(*) FROM log_entry")
