"""Does an erasure end only when nobody holds anything, and does nothing bring the person back?"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import events_pb2, privacy_service_pb2, privacy_service_pb2_grpc
from misuse.case.v1 import subscriber_service_pb2 as sb
from misuse.case.v1.case_pb2 import CASE_STATE_PURGED, CASE_STATE_RESOLVED
from misuse.common.v1.access_pb2 import PURPOSE_RIGHTS, ROLE_PRIVACY_OFFICER
from misuse.detector.v1 import events_pb2 as detector
from misuse.log.v1.record_pb2 import LogRecord
from misuse.removal.v1 import events_pb2 as removal
from misuse.removal.v1.removal_service_pb2 import RemovalState
from services.case.adapters.tables import Base
from services.case.consumer import ANSWERS
from services.chassis.bus import Event
from services.chassis.ids import uuid7
from tests.integration.case.world import Metadata, World, refused

OTHERS = ("detector", "removal", "notify", "gate")
MAY_NAME = frozenset({"outbox", "erasure"})
"""Events name people by opaque ids for as long as the outbox keeps them; an erasure does until it is complete."""


def officer(world: World) -> Metadata:
    return world.signed(ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS, "officer-1")


def privacy(world: World) -> privacy_service_pb2_grpc.PrivacyServiceAsyncStub:
    return privacy_service_pb2_grpc.PrivacyServiceStub(world.channel)  # type: ignore[return-value] # grpc.aio's channel


async def erase(world: World, person: str, request_id: str = "e1") -> str:
    request = privacy_service_pb2.EraseSubscriberRequest(subscriber_id=person, request_id=request_id)
    return str((await privacy(world).EraseSubscriber(request, metadata=officer(world))).erasure_id)


async def erasures(world: World) -> list[Any]:
    request = privacy_service_pb2.ListErasuresRequest()
    return list((await privacy(world).ListErasures(request, metadata=officer(world))).erasures)


async def answer(world: World, person: str, round_number: int, *services: str) -> None:
    """These services say that they have done the round."""
    for service in services:
        [(kind, handler)] = world.service.following.erasures(world.service.erasing, service).items()
        assert ANSWERS[service] is kind
        message: Any = kind(subscriber_id=person, round=round_number)  # type: ignore[call-arg] # all have both
        event = Event(service, 0, 1, uuid7(), "", message)
        async with world.database.begin() as session:
            await handler(session, [event])


async def naming(world: World, *words: str) -> dict[str, int]:
    """Table → rows in which any of the words stands."""
    found = {}
    for name in Base.metadata.tables:
        for word in words:
            [(count,)] = await world.sql(f'SELECT count(*) FROM "{name}" t WHERE t::text LIKE :word', word=f"%{word}%")
            found[name] = found.get(name, 0) + count
    return {name: count for name, count in found.items() if count}


async def busy(world: World) -> tuple[str, str]:
    """(somebody with a packed case, a further sighting, a review item, an upload warning and consents; the case)."""
    person = await world.person()
    scopes = (sb.CONSENT_SCOPE_SERVICE, sb.CONSENT_SCOPE_REMOVAL)
    for scope in scopes:
        request = sb.RecordConsentRequest(subscriber_id=person, request_id=uuid7(), scope=scope, text_version="1")
        await world.people.RecordConsent(request, metadata=world.subscriber(person))
    await world.match(world.facts(person, cluster_id="c1"), world.facts(person, cluster_id="c1"))
    await world.ask(world.facts(person))
    await world.work()
    mine = pb.ListCasesRequest(subscriber_id=person)
    [case] = (await world.cases.ListCases(mine, metadata=world.operator)).cases
    await world.feed(warned(world, person))
    return person, str(case.case_id)


def warned(world: World, person: str) -> detector.UploadWarned:
    event = detector.UploadWarned(subscriber_id=person, case_id=uuid7(), upload_check_id=uuid7())
    event.occur_time.FromDatetime(world.clock.now())
    return event


async def erased(world: World) -> tuple[str, str]:
    """Somebody `busy` for whom everybody has answered the last round."""
    person, case_id = await busy(world)
    await erase(world, person)
    await world.work()
    await answer(world, person, 1, *OTHERS)
    world.clock.advance(world.service.erasing.rules.settle)
    await world.work()
    await answer(world, person, 2, *OTHERS)
    return person, case_id


@pytest.mark.slow
async def test_nothing_names_an_erased_subscriber_and_no_key_opens_what_was_theirs(world: World) -> None:
    person, case_id = await erased(world)
    keys = world.service.units.keys
    assert (True, None) == (keys.destroyed(person), keys.get(person))
    assert {"outbox"} >= (await naming(world, person)).keys()
    assert [(person,)] == [(event.subscriber_id,) for event in await world.events(events_pb2.SubscriberErased)]
    [shown] = await erasures(world)
    assert shown.HasField("complete_time")
    assert ([], False, 2) == (list(shown.waiting_for), shown.overdue, shown.round)
    transitions = [record.subscriber_log.transition for record in await world.records()]
    assert ["REGISTERED", "LEFT", "ERASURE_REQUESTED", "ERASED"] == [each for each in transitions if each]
    assert not [record for record in await world.records() if person in str(record)]
    with refused("SUBSCRIBER_UNKNOWN"):
        request = sb.GetSubscriberRequest(subscriber_id=person)
        await world.people.GetSubscriber(request, metadata=world.signed(ROLE_PRIVACY_OFFICER, PURPOSE_RIGHTS))
    with refused("NOT_PACKED_YET"):
        await _pack(world, case_id)


async def _pack(world: World, case_id: str) -> None:
    request = pb.GetEvidencePackRequest(case_id=case_id)
    async for _ in world.cases.GetEvidencePack(request, metadata=world.operator):
        pass


@pytest.mark.slow
async def test_the_log_of_a_purged_case_holds_and_says_that_it_was_purged(world: World) -> None:
    _, case_id = await erased(world)
    await world.work()
    verified = await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(), metadata=world.auditor)
    assert (True, []) == (verified.valid, list(verified.faults))
    entries = (await world.cases.ListCaseLog(pb.ListCaseLogRequest(case_id=case_id), metadata=world.auditor)).entries
    readable = [entry.record.case_lifecycle_log.transition for entry in entries if entry.HasField("record")]
    assert ["PURGED"] == readable
    assert len(entries) > 3
    shown = (await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.operator)).case
    assert CASE_STATE_PURGED == shown.state


async def test_a_key_that_is_to_be_destroyed_is_on_the_due_list_before_it_is(world: World) -> None:
    person, _ = await busy(world)
    await erase(world, person)
    [due] = [record for record in await world.records() if record.HasField("purge_due_log")]
    assert not [record for record in await world.records() if record.HasField("purge_log")]
    await world.work()
    [done] = [record for record in await world.records() if record.HasField("purge_log")]
    assert (due.entity, due.entity_id) == (done.entity, done.entity_id)
    assert ("SUBSCRIBER_KEY", due.purge_due_log.due_time) == (done.purge_log.item_kind, done.purge_log.due_time)


async def test_an_erasure_is_complete_when_everybody_has_answered_both_rounds(world: World) -> None:
    person, _ = await busy(world)
    await erase(world, person)
    await world.work()

    async def waiting() -> list[str]:
        [shown] = await erasures(world)
        return list(shown.waiting_for)

    assert sorted(OTHERS) == await waiting()
    await answer(world, person, 1, "notify", "gate", "notify")
    await answer(world, person, 2, "detector")
    assert ["detector", "removal"] == await waiting()
    await answer(world, person, 1, "detector", "removal")
    assert [] == await waiting()
    assert [] == await world.events(events_pb2.SubscriberErased)
    world.clock.advance(world.service.erasing.rules.settle)
    await world.work()
    await answer(world, person, 2, "detector", "removal", "notify")
    assert ["gate"] == await waiting()
    await answer(world, person, 2, "gate")
    assert 1 == len(await world.events(events_pb2.SubscriberErased))
    rounds = [event.round for event in await world.events(events_pb2.SubscriberErasureRequested)]
    assert [1, 2] == rounds


async def test_who_does_not_answer_is_asked_again_and_shown_as_late(world: World) -> None:
    person, _ = await busy(world)
    await erase(world, person)
    await world.work()
    await answer(world, person, 1, "detector", "notify", "gate")
    rules = world.service.erasing.rules
    world.clock.advance(rules.ask_again)
    await world.work()
    assert [1, 1] == [event.round for event in await world.events(events_pb2.SubscriberErasureRequested)]
    assert [False] == [shown.overdue for shown in await erasures(world)]
    world.clock.advance(rules.complete_within)
    await world.work()
    assert [(True, ["removal"])] == [(shown.overdue, list(shown.waiting_for)) for shown in await erasures(world)]


async def test_what_comes_late_is_dropped_and_brings_nobody_back(world: World) -> None:
    person, case_id = await erased(world)
    before = await world.sql('SELECT count(*) FROM "case"')
    facts = removal.RemovalFacts(
        removal_request_id=uuid7(), subscriber_id=person, case_ids=[case_id], platform="meta",
        state=RemovalState.REMOVAL_STATE_REMOVED,
    )
    told = len(await world.events())
    await world.match(world.facts(person))
    await world.ask(world.facts(person))
    await world.feed(warned(world, person), removal.RemovalCompleted(facts=facts))
    for record in [record for record in await world.records() if case_id in record.case_ids][:3]:
        again = LogRecord.FromString(record.SerializeToString())
        again.record_id = uuid7()
        await world.feed(again, publisher="removal")
    await world.work()
    assert before == await world.sql('SELECT count(*) FROM "case"')
    assert {"outbox"} >= (await naming(world, person)).keys()
    assert told == len(await world.events())
    told_of = [record.case_lifecycle_log for record in await world.records()]
    assert ["SUBSCRIBER_ERASED"] * 3 == [each.reason for each in told_of if each.transition == "DROPPED"]
    verified = await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(), metadata=world.auditor)
    assert verified.valid
    shown = (await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.operator)).case
    assert shown.state not in (CASE_STATE_RESOLVED,)


async def test_records_are_logged_where_the_key_store_knows_of_an_erasure_before_the_database(world: World) -> None:
    person, case_id = await busy(world)
    records = [record for record in await world.records() if case_id in record.case_ids]
    world.service.units.keys.destroy(person)
    late = LogRecord.FromString(records[0].SerializeToString())
    late.record_id = uuid7()
    await world.feed(late, publisher="removal")
    entries = (await world.cases.ListCaseLog(pb.ListCaseLogRequest(case_id=case_id), metadata=world.auditor)).entries
    assert [late.record_id] == [entry.record.record_id for entry in entries if entry.HasField("record")]
    verified = await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(), metadata=world.auditor)
    assert verified.valid


class _Interrupted(Exception):
    """The process died here."""


class _DyingKeys:
    """A key store in a process that dies before, or after, the first key is destroyed."""

    def __init__(self, keys: Any, *, after: bool) -> None:
        self._keys, self._after, self._alive = keys, after, True

    def destroy(self, owner: str) -> None:
        if self._after or not self._alive:
            self._keys.destroy(owner)
        if self._alive:
            self._alive = False
            raise _Interrupted


@pytest.mark.parametrize("after", [False, True], ids=["before the key is gone", "after"])
async def test_a_crash_in_the_middle_is_made_good_and_loses_no_record(world: World, after: bool) -> None:
    person, case_id = await busy(world)
    erasing = world.service.erasing
    dying = replace(erasing, keys=_DyingKeys(erasing.keys, after=after))
    erasure_id = await erase(world, person)
    with pytest.raises(_Interrupted):
        await dying.go_on(erasure_id)
    # What arrives now belongs to a case whose subscriber is half gone.
    await world.log_own_records()
    await world.match(world.facts(person))
    assert [] == await world.events(events_pb2.ErasureCompleted)
    world.clock.advance(erasing.rules.ask_again)
    await world.work()
    assert world.service.units.keys.destroyed(person)
    assert 1 == len(await world.events(events_pb2.ErasureCompleted))
    assert {"outbox", "erasure"} >= (await naming(world, person)).keys()
    verified = await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(), metadata=world.auditor)
    assert verified.valid
    purged = [r for r in await world.records() if r.case_lifecycle_log.transition == "PURGED"]
    assert 2 == len({record.entity_id for record in purged})
    assert case_id in {record.entity_id for record in purged}


async def test_asking_twice_is_one_erasure_and_registering_again_makes_a_stranger(world: World) -> None:
    person, _ = await busy(world)
    first = await erase(world, person)
    assert [first, first] == [await erase(world, person), await erase(world, person, "e2")]
    await world.work()
    for round_number in (1, 2):
        await answer(world, person, round_number, *OTHERS)
        world.clock.advance(world.service.erasing.rules.settle)
        await world.work()
    assert first == await erase(world, person)
    with refused("SUBSCRIBER_UNKNOWN"):
        await erase(world, person, "e3")
    with refused("SUBSCRIBER_HAS_LEFT"):
        request = sb.ResumeSubscriberRequest(subscriber_id=person)
        await world.people.ResumeSubscriber(request, metadata=world.subscriber(person))
    again = await world.person()
    assert again != person
    await world.match(world.facts(again, cluster_id="c1"))
    mine = pb.ListCasesRequest(subscriber_id=again)
    [case] = (await world.cases.ListCases(mine, metadata=world.operator)).cases
    assert 1 == case.sighting_count


async def test_a_merged_case_is_purged_with_its_root_and_cannot_be_parted(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="a"), world.facts(person, cluster_id="b"))
    mine = pb.ListCasesRequest(subscriber_id=person)
    root, other = (await world.cases.ListCases(mine, metadata=world.operator)).cases
    merge = pb.MergeCasesRequest(root_case_id=root.case_id, merged_case_id=other.case_id, request_id="m")
    await world.cases.MergeCases(merge, metadata=world.operator)
    await erase(world, person)
    await world.work()
    with refused("NOT_MERGED"):
        part = pb.UnmergeCaseRequest(case_id=other.case_id, request_id="u")
        await world.cases.UnmergeCase(part, metadata=world.operator)
    assert [] == (await world.cases.ListCases(mine, metadata=world.operator)).cases


async def test_stopping_is_immediate(world: World) -> None:
    person, _ = await busy(world)
    await erase(world, person)
    assert "subscriber_suspended" in await world.events()
    assert 2 == len(await world.events(events_pb2.ConsentWithdrawn))
    world.clock.advance(timedelta(seconds=1))
    await world.match(world.facts(person, cluster_id="new"))
    assert "SUBSCRIBER_LEAVING" in [record.case_lifecycle_log.reason for record in await world.records()]
