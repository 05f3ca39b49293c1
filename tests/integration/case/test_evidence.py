"""Does every sighting become evidence that anybody can check?"""

from __future__ import annotations

import json
import zipfile
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest

from misuse.case.v1 import case_pb2, events_pb2
from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1.case_pb2 import CASE_STATE_ACTION_STARTED
from misuse.case.v1.subscriber_service_pb2 import (
    CONSENT_SCOPE_REMOVAL,
    RecordConsentRequest,
    ResumeSubscriberRequest,
    SuspendSubscriberRequest,
)
from services.case.__main__ import main
from services.case.evidence_verify import verify
from services.chassis.errors import Unavailable
from tests.integration.case.world import URL, World, refused


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
    key = str(tmp_path / "public" / "case-evidence.pub")
    assert 0 == main(["evidence", "verify", str(file), "--public-key", key, "--json"])
    assert json.loads(capsys.readouterr().out)["valid"]


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
        } == set(pack.namelist())
        capture = json.loads(pack.read(f"{folder}/capture.json"))
        manifest = json.loads(pack.read("manifest.json"))
    assert (URL, "77", "sns-1") == (capture["source_url"], capture["post_id"], capture["channel"])
    assert ["FETCHED", "PACKED"] == [entry["action"] for entry in manifest["custody"]]


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
