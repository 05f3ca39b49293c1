"""Does every sighting become evidence that anybody can check?"""

from __future__ import annotations

import asyncio
import hashlib
import json
import zipfile
from dataclasses import replace
from datetime import UTC, timedelta
from io import BytesIO
from pathlib import Path

import grpc
import grpc.aio
import pytest

from misuse.case.v1 import case_pb2, events_pb2
from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import review_service_pb2 as rv
from misuse.case.v1.case_pb2 import (
    CASE_STATE_ACTION_STARTED,
    CASE_STATE_RESOLVED,
    RESOLUTION_FALSE_POSITIVE,
    RESOLUTION_UNRESOLVED,
)
from misuse.case.v1.subscriber_service_pb2 import (
    CONSENT_SCOPE_REMOVAL,
    RecordConsentRequest,
    ResumeSubscriberRequest,
    SuspendSubscriberRequest,
)
from misuse.common.v1.access_pb2 import (
    PURPOSE_AUDIT,
    PURPOSE_CASE_HANDLING,
    PURPOSE_PROTECTION,
    ROLE_AUDITOR,
    ROLE_OPERATOR,
    ROLE_SUBSCRIBER,
)
from misuse.removal.v1 import events_pb2 as removal
from misuse.removal.v1.removal_service_pb2 import RemovalState
from services.case.__main__ import main
from services.case.evidence_verify import verify
from services.case.ports import PACK
from services.chassis.due import DueItem
from services.chassis.errors import Unavailable
from services.chassis.ids import uuid7
from tests.integration.case.world import URL, Metadata, World, refused


async def fetched(world: World, case_id: str, version: int = 0) -> tuple[case_pb2.EvidencePackSummary, bytes]:
    request = pb.GetEvidencePackRequest(case_id=case_id, version=version)
    chunks = [chunk async for chunk in world.cases.GetEvidencePack(request, metadata=world.operator)]
    return chunks[0].summary, b"".join(chunk.chunk for chunk in chunks)


async def only_case(world: World) -> case_pb2.Case:
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    return case


async def test_a_case_gets_a_pack_that_verifies_offline(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.match(facts)
    await world.work()
    case = await only_case(world)
    summary, archive = await fetched(world, case.case_id)
    assert (CASE_STATE_ACTION_STARTED, summary) == (case.state, case.evidence)
    file = tmp_path / "pack.zip"
    file.write_bytes(archive)
    found = verify(file, tmp_path / "public")
    assert ((), case.case_id, 1, summary.manifest_sha256.hex()) == (
        found.faults,
        found.case_id,
        found.items,
        found.manifest_sha256,
    )
    keys = [f"--public-key={tmp_path}/public/{name}.pub" for name in ("case-evidence", "case-time")]
    assert 0 == main(["evidence", "verify", str(file), *keys, "--json"])
    assert json.loads(capsys.readouterr().out)["valid"]
    assert 3 == main(["evidence", "verify", str(file), *keys[1:]])
    assert "First wrong: manifest.sig: KEY_UNKNOWN" in capsys.readouterr().out
    file.write_bytes(archive[:-1])
    assert 1 == main(["evidence", "verify", str(file), *keys])
    assert "First wrong: (directory): BYTES_DIFFER" in capsys.readouterr().out
    assert 3 == main(["evidence", "verify", str(tmp_path / "nothing.zip"), *keys])


async def test_a_pack_holds_what_removal_needs(world: World) -> None:
    person = await world.person()
    await world.people.RecordConsent(
        RecordConsentRequest(
            subscriber_id=person, request_id="r", scope=CONSENT_SCOPE_REMOVAL, text_version="1"
        ),
        metadata=world.subscriber(person),
    )
    await world.match(world.facts(person, cluster_id="c1"))
    await world.work()
    [packed] = await world.events(events_pb2.EvidencePacked)
    assert (True, 1, ["meta"]) == (
        packed.removal_consent,
        packed.version,
        [sighting.platform for sighting in packed.sightings],
    )
    _, archive = await fetched(world, packed.case_id, packed.version)
    folder = f"items/{packed.sightings[0].sighting_id}"
    with zipfile.ZipFile(BytesIO(archive)) as pack:
        assert {f"{folder}/{name}" for name in ("capture.json", "decision.json", "masked.txt", "thumbnail.jpg")} | {
            "manifest.json",
            "manifest.sig",
            "manifest.time",
            "EvidencePackReport.json",
            "report.html",
        } == set(pack.namelist())
        capture = json.loads(pack.read(f"{folder}/capture.json"))
        manifest = json.loads(pack.read("manifest.json"))
    assert (URL, "77", "sns-1") == (capture["source_url"], capture["post_id"], capture["channel"])
    assert ["CAPTURED", "REDUCED", "PULLED", "PACKED"] == [entry["action"] for entry in manifest["custody"]]


async def test_a_repost_makes_a_new_version_that_tells_of_the_new_sighting_only(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    await world.work()
    await world.match(world.facts(person, cluster_id="c1"), world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(seconds=10))
    await world.work()
    events = await world.events(events_pb2.EvidencePacked)
    assert [(1, 1), (2, 2)] == [(event.version, len(event.sightings)) for event in events]
    assert 3 == len(world.detector.released)
    await world.work()
    assert 2 == len(await world.events(events_pb2.EvidencePacked))


async def test_a_capture_that_is_gone_is_recorded_and_not_filed(world: World) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    world.detector.captures.clear()
    await world.match(facts)
    await world.work()
    [packed] = await world.events(events_pb2.EvidencePacked)
    assert [] == list(packed.sightings)
    logs = [r.evidence_pack_log for r in await world.records() if r.evidence_pack_log.action]
    assert ["BUILT", "INCOMPLETE"] == [log.action for log in logs]
    assert {"source_url", "part_hashes", "decision"} <= set(logs[1].missing_fields)


async def test_nothing_is_lost_while_the_detector_is_down(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1"))
    world.detector.down = True
    with pytest.raises(Unavailable):
        await world.work()
    with refused("NOT_PACKED_YET"):
        await fetched(world, (await only_case(world)).case_id)
    world.detector.down = False
    await world.work()
    assert 1 == len(await world.events(events_pb2.EvidencePacked))


async def test_evidence_waits_while_processing_is_stopped(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    stop, go_on = SuspendSubscriberRequest(subscriber_id=person), ResumeSubscriberRequest(subscriber_id=person)
    await world.people.SuspendSubscriber(stop, metadata=world.subscriber(person))
    await world.work()
    assert [] == await world.events(events_pb2.EvidencePacked)
    await world.people.ResumeSubscriber(go_on, metadata=world.subscriber(person))
    await world.work()
    assert 1 == len(await world.events(events_pb2.EvidencePacked))


async def test_a_merged_incident_has_one_pack_of_everything(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(minutes=1))
    await world.match(world.facts(person, cluster_id="c2"))
    await world.work()
    await world.match(world.facts(person, cluster_id="c1", also_cluster_ids=["c2"]))
    world.clock.advance(timedelta(minutes=1))
    await world.work()
    case = await only_case(world)
    _, archive = await fetched(world, case.case_id)
    with zipfile.ZipFile(BytesIO(archive)) as pack:
        manifest = json.loads(pack.read("manifest.json"))
    assert (3, list(case.merged_case_ids)) == (len(manifest["items"]), manifest["merged_case_ids"])


async def test_evidence_of_another_is_not_found_and_reading_is_recorded(world: World) -> None:
    person, other = await world.person(), await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    await world.work()
    case_id = (await only_case(world)).case_id
    request = pb.GetEvidencePackRequest(case_id=case_id)
    with refused("CASE_UNKNOWN"):
        [chunk async for chunk in world.cases.GetEvidencePack(request, metadata=world.subscriber(other))]
    [chunk async for chunk in world.cases.GetEvidencePack(request, metadata=world.subscriber(person))]
    read = [r for r in await world.records() if r.evidence_pack_log.action == "READ"]
    assert [16] == [len(record.actor_ref) for record in read]


async def test_no_address_or_picture_lies_open_in_a_table(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    await world.work()
    tables = await world.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    for needle in (URL.encode(), b"thumbnail", "김하나".encode(), b"hana@example.org"):
        for (table,) in tables:
            # Names from the catalogue, so nothing is injected.
            query = f'SELECT count(*) FROM "{table}" t WHERE t::text LIKE :hex'  # see above
            rows = await world.sql(query, hex=f"%{needle.hex()}%")
            assert [(0,)] == rows


async def test_a_burst_of_reposts_is_one_pack(world: World) -> None:
    person = await world.person()
    for _ in range(4):
        await world.match(world.facts(person, cluster_id="c1"))
        world.clock.advance(timedelta(milliseconds=100))
    await world.work()
    [packed] = await world.events(events_pb2.EvidencePacked)
    assert (1, 4) == (packed.version, len(packed.sightings))


async def repacked(world: World, person: str, times: int) -> str:
    """A case with so many versions of its pack."""
    for _ in range(times):
        await world.match(world.facts(person, cluster_id="c1"))
        world.clock.advance(world.service.needs.rules.repack_after)
        await world.work()
    return (await only_case(world)).case_id


@pytest.mark.slow
async def test_old_versions_keep_their_manifest_and_the_last_three_everything(world: World) -> None:
    case_id = await repacked(world, await world.person(), 5)
    names = {}
    for version in range(1, 6):
        summary, archive = await fetched(world, case_id, version)
        assert (version, len(archive)) == (summary.version, summary.size_bytes)
        with zipfile.ZipFile(BytesIO(archive)) as pack:
            names[version] = len(pack.namelist())
            manifest = pack.read("manifest.json")
        assert hashlib.sha256(manifest).digest() == summary.manifest_sha256
    assert {1: 4, 2: 4, 3: 17, 4: 21, 5: 25} == names
    logs = [r.evidence_pack_log for r in await world.records()]
    assert 2 == len([log for log in logs if log.action == "SUPERSEDED"])


async def test_a_full_archive_leaves_the_oldest_out_and_says_so(world: World) -> None:
    person, needs = await world.person(), world.service.packing
    world.service = replace(world.service, packing=replace(needs, most_bytes=60_000))
    facts = [world.facts(person, cluster_id="c1") for _ in range(4)]
    for each in facts:
        world.detector.captures[each.decision_id].masked_text = "x" * 12_000
    await world.match(*facts)
    await world.work()
    [packed] = await world.events(events_pb2.EvidencePacked)
    logs = [r.evidence_pack_log for r in await world.records()]
    omitted = [log for log in logs if log.action == "OMITTED"]
    assert 4 == len(packed.sightings) + len(omitted)
    assert 0 < len(omitted) < 4
    _, archive = await fetched(world, packed.case_id)
    assert len(archive) <= 60_000
    # Nothing is new, so nothing is packed again.
    await world.service.due()[PACK](DueItem(PACK, packed.case_id, world.clock.now(), 1, 0, ""))
    assert 1 == len(await world.events(events_pb2.EvidencePacked))


async def test_cases_that_are_due_together_are_packed_each_for_itself(world: World, tmp_path: Path) -> None:
    people = [await world.person() for _ in range(4)]
    facts = [world.facts(person, cluster_id=f"c{number}") for number, person in enumerate(people)]
    await world.match(*facts, world.facts(people[0], cluster_id="c0"))
    world.detector.unable.add(facts[3].decision_id)
    world.clock.advance(world.service.needs.rules.pack_after)
    found = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    of_owner = {case.subscriber_id: case.case_id for case in found}
    ids = [of_owner[person] for person in people]
    pack = world.service.due()[PACK]
    outcomes = await asyncio.gather(
        *(pack(DueItem(PACK, case_id, world.clock.now(), 1, 0, "")) for case_id in ids), return_exceptions=True
    )
    assert [None, None, None] == outcomes[:3]
    assert isinstance(outcomes[3], Unavailable)
    told = {event.case_id: event for event in await world.events(events_pb2.EvidencePacked)}
    assert set(ids[:3]) == set(told)
    assert [2, 1, 1] == [len(told[case_id].sightings) for case_id in ids[:3]]
    assert {each.decision_id for each in facts[:3]} < set(world.detector.released)
    for case_id in ids[:3]:
        summary, archive = await fetched(world, case_id)
        assert told[case_id].manifest_sha256 == summary.manifest_sha256
        with zipfile.ZipFile(BytesIO(archive)) as zipped:
            manifest = json.loads(zipped.read("manifest.json"))
        assert {case_id} == {item["case_id"] for item in manifest["items"]}


async def test_of_cases_that_are_due_together_no_more_is_held_at_once_than_of_the_largest_pack(world: World) -> None:
    facts = [world.facts(await world.person(), cluster_id=f"c{number}") for number in range(3)]
    await world.match(*facts)
    needs = world.service.packing
    world.service = replace(world.service, packing=replace(needs, rules=replace(needs.rules, max_items=1)))
    world.clock.advance(needs.rules.pack_after)
    found = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    pack = world.service.due()[PACK]
    await asyncio.gather(*(pack(DueItem(PACK, case.case_id, world.clock.now(), 1, 0, "")) for case in found))
    assert ["FETCHED", "RELEASED"] * 3 == [did for did, _ in world.detector.calls]
    assert {each.decision_id for each in facts} == set(world.detector.released)


async def test_packs_that_are_asked_for_together_are_answered_and_recorded_each_for_itself(world: World) -> None:
    for number in range(2):
        await world.match(world.facts(await world.person(), cluster_id=f"c{number}"))
    await world.work()
    first, second = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    asked = [first.case_id, uuid7(), second.case_id, first.case_id]
    answers = await asyncio.gather(*(fetched(world, case_id) for case_id in asked), return_exceptions=True)
    assert isinstance(answers.pop(1), grpc.aio.AioRpcError)
    assert [first.evidence, second.evidence, first.evidence] == [summary for summary, _ in answers]
    read = [r for r in await world.records() if r.evidence_pack_log.action == "READ"]
    assert sorted([first.case_id, second.case_id, first.case_id]) == sorted(r.case_ids[0] for r in read)
    touches = await world.sql("SELECT case_id FROM custody WHERE action = 'READ'")
    assert sorted(r.case_ids[0] for r in read) == sorted(row.case_id for row in touches)


async def test_of_calls_that_are_answered_together_each_has_its_own_right_name_and_purpose(world: World) -> None:
    mine, other = [await world.person() for _ in range(2)]
    await world.match(world.facts(mine, cluster_id="c1"))
    await world.work()
    case_id = (await only_case(world)).case_id
    callers = {
        (ROLE_SUBSCRIBER, PURPOSE_PROTECTION): mine,
        (ROLE_OPERATOR, PURPOSE_CASE_HANDLING): "operator-1",
        (ROLE_AUDITOR, PURPOSE_AUDIT): "auditor-1",
    }
    tokens = [world.signed(*standing, name) for standing, name in callers.items()]

    async def read(token: Metadata) -> bytes:
        request = pb.GetEvidencePackRequest(case_id=case_id)
        return b"".join([each.chunk async for each in world.cases.GetEvidencePack(request, metadata=token)])

    refused_one, *packs = await asyncio.gather(*map(read, [world.subscriber(other), *tokens]), return_exceptions=True)
    assert isinstance(refused_one, grpc.aio.AioRpcError)
    assert refused_one.code() is grpc.StatusCode.NOT_FOUND
    assert [packs[0]] * 3 == packs
    read_by = [r for r in await world.records() if r.evidence_pack_log.action == "READ"]
    assert set(callers) == {(record.actor_role, record.purpose) for record in read_by}
    assert 3 == len(read_by) == len({record.actor_ref for record in read_by})


async def test_custody_is_the_same_before_and_after_the_crops_are_put_away(world: World) -> None:
    person = await world.person()
    await world.ask(world.facts(person, cluster_id="c1"))

    async def says(name: str) -> None:
        request = rv.LeaseReviewItemsRequest(max_items=1)
        [item] = (await world.reviews.LeaseReviewItems(request, metadata=world.reviewer(name))).items
        label = rv.SubmitLabelRequest(review_item_id=item.review_item_id, request_id=name, label=rv.LABEL_MATCH)
        await world.reviews.SubmitLabel(label, metadata=world.reviewer(name))

    async def taken_over() -> list[tuple[str, str]]:
        _, archive = await fetched(world, (await only_case(world)).case_id)
        with zipfile.ZipFile(BytesIO(archive)) as pack:
            custody = json.loads(pack.read("manifest.json"))["custody"]
        return [(entry["time"], entry["sha256_after"]) for entry in custody if entry["action"] == "PULLED"]

    await says("ann")
    await world.work()
    before = await taken_over()
    await says("bob")
    await repacked(world, person, 1)
    assert before == (await taken_over())[:1]
    read = [r.access_log.method for r in await world.records() if r.access_log.method]
    assert ["LeaseReviewItems", "GetCapture", "LeaseReviewItems"] == read


async def test_a_case_that_nobody_can_act_on_ends_unresolved(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1", platform=""))
    await world.work()
    world.clock.advance(timedelta(days=29))
    await world.work()
    assert CASE_STATE_ACTION_STARTED == (await only_case(world)).state
    world.clock.advance(timedelta(days=2))
    await world.work()
    assert CASE_STATE_RESOLVED == (await only_case(world)).state
    resolved = next(r for r in await world.records() if r.case_lifecycle_log.transition == "RESOLVED")
    assert "NO_ACTION_POSSIBLE" == resolved.case_lifecycle_log.reason
    world.clock.advance(timedelta(days=8))
    await world.work()
    [closed] = await world.events(events_pb2.CaseClosed)
    assert RESOLUTION_UNRESOLVED == closed.resolution


async def test_a_case_with_a_removal_request_is_not_given_up(world: World) -> None:
    await world.match(world.facts(await world.person(), cluster_id="c1"))
    await world.work()
    case_id, request_id = (await only_case(world)).case_id, uuid7()
    for kind, state in ((removal.RemovalReceived, "RECEIVED"), (removal.RemovalRejected, "REJECTED")):
        number = RemovalState.Value(f"REMOVAL_STATE_{state}")
        facts = removal.RemovalFacts(removal_request_id=request_id, case_ids=[case_id], state=number)
        await world.feed(kind(facts=facts), publisher="removal")
    world.clock.advance(timedelta(days=60))
    await world.work()
    assert CASE_STATE_ACTION_STARTED == (await only_case(world)).state


async def test_a_resolved_case_that_is_seen_again_gets_the_whole_time_again(world: World) -> None:
    person = await world.person()
    case_id = await repacked(world, person, 1)
    ended = removal.RemovalFacts(
        removal_request_id=uuid7(), case_ids=[case_id], state=RemovalState.REMOVAL_STATE_REMOVED
    )
    world.clock.advance(timedelta(days=20))
    await world.feed(removal.RemovalCompleted(facts=ended), publisher="removal")
    await repacked(world, person, 1)
    due = (await only_case(world)).due_time.ToDatetime(UTC)
    assert timedelta(days=29) < due - world.clock.now() <= timedelta(days=30)
    [(row,)] = await world.sql("SELECT due_time FROM due WHERE kind = 'GIVE_UP'")
    assert due == row


async def test_what_a_false_positive_only_counted_is_packed_when_it_is_opened_again(world: World) -> None:
    person = await world.person()
    case_id = await repacked(world, person, 1)
    close = pb.CloseCaseRequest(case_id=case_id, request_id="c", resolution=RESOLUTION_FALSE_POSITIVE)
    await world.cases.CloseCase(close, metadata=world.operator)
    await repacked(world, person, 1)
    assert 1 == len(await world.events(events_pb2.EvidencePacked))
    again = pb.ReopenCaseRequest(case_id=case_id, request_id="r", reason="MISTAKE")
    await world.cases.ReopenCase(again, metadata=world.operator)
    await world.work()
    assert [1, 1] == [len(event.sightings) for event in await world.events(events_pb2.EvidencePacked)]
