"""Does a case leave as one archive that is checked without a server, and what becomes of public guidance?"""

from __future__ import annotations

import json
import random
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from misuse.case.v1 import case_pb2, events_pb2
from misuse.case.v1 import case_service_pb2 as pb
from misuse.common.v1.signal_pb2 import SOURCE_TYPE_LEAK_INDEX
from misuse.log.v1.record_pb2 import GuidanceLog
from services.case.__main__ import main
from services.case.domain.archive import Json, statement, walk, write
from services.case.domain.case_archive import HEADS_FORMAT
from services.case.evidence_verify import PublicKeys, Verification, verify, verify_bytes
from services.chassis.signing import KeyFile
from tests.integration.case.test_case_log import kept_heads, one_case
from tests.integration.case.world import World, refused


def signed_heads(world: World, heads: list[pb.LogHead]) -> bytes:
    """A document as the gate gives it."""
    key = KeyFile(world.home / "gate", world.home / "public", "gate-heads")
    entries: list[Json] = [
        {"chain_id": head.chain_id, "sequence": head.sequence, "head_hash": head.head_hash.hex()} for head in heads
    ]
    said: dict[str, Json] = {"format": HEADS_FORMAT, "key_id": key.key_id, "time": "t", "heads": entries}
    return statement(said, key.sign)


async def exported(world: World, case_id: str, *documents: bytes, reason: str = "audit 7") -> bytes:
    request = pb.ExportCaseRequest(case_id=case_id, reason=reason, head_documents=documents)
    chunks = [chunk async for chunk in world.cases.ExportCase(request, metadata=world.auditor)]
    assert [36, *[0] * (len(chunks) - 1)] == [len(chunk.export_id) for chunk in chunks]
    return b"".join(chunk.chunk for chunk in chunks)


def places(found: Verification) -> list[tuple[str, str]]:
    return [(fault.place, fault.reason) for fault in found.faults]


async def test_an_export_holds_case_log_evidence_and_heads_and_is_checked_offline(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case_id, _ = await one_case(world)
    document = signed_heads(world, await kept_heads(world, case_id))
    file = tmp_path / "case.zip"
    file.write_bytes(await exported(world, case_id, document))
    found = verify(file, tmp_path / "public")
    assert ([], True, case_id) == (places(found), found.exported, found.case_id)
    assert found.log is not None
    assert (1, 4, 4) == (found.log.chains, found.log.entries, found.log.witnessed)
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        case = json.loads(archive.read("case.json"))
        line = json.loads(archive.read(f"log/{case_id}.jsonl").splitlines()[1])
        manifest = json.loads(archive.read("manifest.json"))
    expected = {"case.json", "heads/0.json", f"log/{case_id}.jsonl", f"packs/{case_id}-v1.zip"}
    assert expected == {name for name in names if not name.startswith("manifest")}
    assert (case_id, 1, "OPENED") == (
        case["case"]["case_id"],
        len(case["sightings"]),
        line["record"]["case_lifecycle_log"]["transition"],
    )
    assert "audit 7" == manifest["reason"]
    assert 0 == main(["evidence", "verify", str(file), f"--public-key={tmp_path}/public"])
    assert "4 entries in 1 chains; heads that the gate holds speak for 4." in capsys.readouterr().out


async def test_an_export_is_recorded_with_who_and_why(world: World) -> None:
    case_id, _ = await one_case(world)
    await exported(world, case_id)
    records = [r for r in await world.records() if r.evidence_pack_log.action in ("EXPORTED", "VERIFIED")]
    assert ["VERIFIED", "EXPORTED"] == [record.evidence_pack_log.action for record in records]
    assert [16, 16] == [len(record.actor_ref) for record in records]
    archive = await exported(world, case_id)
    with zipfile.ZipFile(BytesIO(archive)) as read:
        custody = json.loads(read.read("case.json"))["custody"]
    assert [("VERIFIED", "before an export"), ("EXPORTED", "audit 7"), ("VERIFIED", "before an export")] == [
        (touch["action"], touch["why"]) for touch in custody
    ]
    assert [(0,)] == await world.sql("SELECT count(*) FROM custody t WHERE t::text LIKE '%audit 7%'")


async def test_heads_that_the_gate_did_not_sign_speak_for_nothing(world: World, tmp_path: Path) -> None:
    case_id, _ = await one_case(world)
    stranger = KeyFile(tmp_path / "other", tmp_path / "others", "gate-heads")
    signed_heads(world, [])
    said: dict[str, Json] = {"format": HEADS_FORMAT, "key_id": "gate-heads", "time": "t", "heads": []}
    content = await exported(world, case_id, statement(said, stranger.sign))
    found = verify_bytes(content, PublicKeys([tmp_path / "public"]))
    assert [("heads/0.json", "SIGNATURE_INVALID")] == places(found)


async def test_a_log_that_was_rewritten_before_the_export_shows_against_the_heads_in_it(
    world: World, tmp_path: Path
) -> None:
    case_id, _ = await one_case(world)
    head = (await kept_heads(world, case_id))[-1]
    other = pb.LogHead(chain_id=case_id, sequence=head.sequence, head_hash=bytes(32))
    content = await exported(world, case_id, signed_heads(world, [other]))
    found = verify_bytes(content, PublicKeys([tmp_path / "public"]))
    assert [(f"log/{case_id}.jsonl#1-4", "REWRITTEN")] == places(found)


async def test_a_case_without_its_key_is_exported_as_far_as_it_is_there(world: World, tmp_path: Path) -> None:
    case_id, _ = await one_case(world)
    document = signed_heads(world, await kept_heads(world, case_id))
    [(owner,)] = await world.sql("SELECT key_owner FROM log_chain WHERE chain_id = :c", c=case_id)
    world.service.units.keys.destroy(owner)
    content = await exported(world, case_id, document)
    found = verify_bytes(content, PublicKeys([tmp_path / "public"]))
    assert found.log is not None
    assert ([], 4, 4) == (places(found), found.log.entries, found.log.witnessed)
    files = {member.name: member.content or b"" for member in walk(content).members}
    lines = [json.loads(line) for line in files[f"log/{case_id}.jsonl"].splitlines()]
    assert [None] * 4 == [line["record"] for line in lines]
    assert [] == [name for name in files if name.startswith("packs/")]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"reason": ""}, "REASON_MALFORMED"),
        ({"reason": "x" * 257}, "REASON_MALFORMED"),
        ({"reason": "a", "head_documents": [b"{"]}, "HEADS_MALFORMED"),
        ({"reason": "a", "head_documents": [b"{}"] * 17}, "HEADS_MALFORMED"),
        ({"reason": "a", "case_id": "01a20303-f247-762c-972e-b1cf9a7efa8c"}, "CASE_UNKNOWN"),
    ],
)
async def test_what_cannot_be_exported_is_refused(world: World, values: dict[str, object], reason: str) -> None:
    case_id, _ = await one_case(world)
    request = pb.ExportCaseRequest(**{"case_id": case_id} | values)  # type: ignore[arg-type] # fields of the request
    with refused(reason):
        [chunk async for chunk in world.cases.ExportCase(request, metadata=world.auditor)]


@pytest.mark.slow
async def test_random_changes_of_an_export_are_found_where_they_are(world: World, tmp_path: Path) -> None:
    case_id, _ = await one_case(world)
    whole = await exported(world, case_id, signed_heads(world, await kept_heads(world, case_id)))
    keys, rng = PublicKeys([tmp_path / "public"]), random.Random(20260305)
    files = {member.name: member.content or b"" for member in walk(whole).members}
    missed, elsewhere = [], []
    for number in range(300):
        name = rng.choice(list(files))
        content = bytearray(files[name])
        at = rng.randrange(len(content))
        changes = (content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :], content[:at])
        changed = write((files | {name: bytes(changes[number % 2])}).items())
        found = verify_bytes(changed, keys)
        if found.valid:
            missed.append((number, name))
        elif found.faults[0].place != name:
            elsewhere.append((number, name, found.faults[0]))
    assert ([], []) == (missed, elsewhere)


# --- guidance ---


async def leaked(world: World) -> tuple[str, case_pb2.Case]:
    """(Subscriber, case) of data in a leak index."""
    person = await world.person()
    facts = world.facts(person, cluster_id="c1", platform="")
    world.detector.captures[facts.decision_id].source_type = SOURCE_TYPE_LEAK_INDEX
    await world.match(facts)
    await world.work()
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    return person, case


async def report_of(world: World, case_id: str) -> dict[str, object]:
    request = pb.GetEvidencePackRequest(case_id=case_id)
    chunks = [chunk.chunk async for chunk in world.cases.GetEvidencePack(request, metadata=world.operator)]
    with zipfile.ZipFile(BytesIO(b"".join(chunks))) as pack:
        report: dict[str, object] = json.loads(pack.read("EvidencePackReport.json"))
    return report


async def test_a_find_in_a_leak_index_brings_public_guidance_and_one_on_a_platform_none(world: World) -> None:
    _, case = await leaked(world)
    assert ["communications-review-1377", "digital-sex-crime-victim-support", "eraser-service", "kisa-118"] == sorted(
        case.guidance
    )
    shown = await world.cases.GetCase(pb.GetCaseRequest(case_id=case.case_id), metadata=world.operator)
    [kisa] = [path for path in shown.guidance if path.path_id == "kisa-118"]
    assert ("118", "KISA 118 상담센터") == (kisa.phone, kisa.name_ko)
    assert case_pb2.GUIDANCE_OUTCOME_UNSPECIFIED == kisa.outcome
    await world.match(world.facts(await world.person(), cluster_id="c2"))
    await world.work()
    newest = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases[0]
    assert [] == list(newest.guidance)


async def test_what_the_subscriber_says_stands_in_the_next_pack(world: World) -> None:
    person, case = await leaked(world)
    assert "UNSPECIFIED" == (await report_of(world, case.case_id))["verdict"]
    verdict = pb.RecordSubscriberVerdictRequest(
        subscriber_id=person, case_id=case.case_id, request_id="1", verdict=case_pb2.SUBSCRIBER_VERDICT_ME
    )
    await world.cases.RecordSubscriberVerdict(verdict, metadata=world.subscriber(person))
    for _ in range(2):
        await world.work()
    assert "ME" == (await report_of(world, case.case_id))["verdict"]
    assert [(1, 1), (2, 0)] == [(e.version, len(e.sightings)) for e in await world.events(events_pb2.EvidencePacked)]


async def test_what_the_subscriber_did_with_guidance_is_recorded_and_shown_in_the_next_pack(world: World) -> None:
    person, case = await leaked(world)
    request = pb.RecordGuidanceOutcomeRequest(
        subscriber_id=person,
        case_id=case.case_id,
        request_id="1",
        path_id="kisa-118",
        outcome=case_pb2.GUIDANCE_OUTCOME_HELPED,
    )
    for _ in range(2):
        answer = await world.cases.RecordGuidanceOutcome(request, metadata=world.subscriber(person))
        assert case_pb2.GUIDANCE_OUTCOME_HELPED == answer.guidance.outcome
    world.clock.advance(world.service.needs.rules.repack_after)
    await world.work()
    assert [1, 2] == [event.version for event in await world.events(events_pb2.EvidencePacked)]
    guidance = (await report_of(world, case.case_id))["guidance"]
    assert isinstance(guidance, list)
    assert {"kisa-118": "HELPED", "eraser-service": "UNSPECIFIED"}.items() <= {
        path["path_id"]: path["outcome"] for path in guidance
    }.items()
    logs: list[GuidanceLog] = [r.guidance_log for r in await world.records() if r.guidance_log.action]
    assert [("ATTACHED", ""), ("ANSWERED", "HELPED")] == [(log.action, log.outcome) for log in logs]


@pytest.mark.parametrize(
    ("path_id", "outcome", "reason"),
    [("kisa-119", 2, "GUIDANCE_UNKNOWN"), ("kisa-118", 0, "FIELD_MISSING"), ("", 2, "PATH_ID_MALFORMED")],
)
async def test_answers_about_other_guidance_are_refused(
    world: World, path_id: str, outcome: int, reason: str
) -> None:
    person, case = await leaked(world)
    request = pb.RecordGuidanceOutcomeRequest(
        subscriber_id=person,
        case_id=case.case_id,
        request_id="1",
        path_id=path_id,
        outcome=outcome,  # type: ignore[arg-type] # a number of the contract
    )
    with refused(reason):
        await world.cases.RecordGuidanceOutcome(request, metadata=world.subscriber(person))
    other = await world.person()
    request.subscriber_id, request.path_id, request.outcome = other, "kisa-118", case_pb2.GUIDANCE_OUTCOME_HELPED
    with refused("CASE_UNKNOWN"):
        await world.cases.RecordGuidanceOutcome(request, metadata=world.subscriber(other))
