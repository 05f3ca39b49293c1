"""Does the case log hold everything, once, in chains that show a change?"""

from __future__ import annotations

from datetime import timedelta

import pytest

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1.events_pb2 import LogHeadAdvanced
from misuse.log.v1.record_pb2 import LogRecord, MatchDecisionLog
from services.case.records import stamp
from services.chassis.ids import uuid7
from tests.integration.case.world import World, refused


def decided(world: World, decision_id: str) -> LogRecord:
    """What the detector records with every decision."""
    return LogRecord(
        record_id=uuid7(),
        decision_id=decision_id,
        entity="decision",
        entity_id=decision_id,
        service="detector",
        occur_time=stamp(world.clock.now()),
        match_decision_log=MatchDecisionLog(channel="sns-1"),
    )


async def one_case(world: World) -> tuple[str, str]:
    """(case, decision) with a log."""
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.feed(decided(world, facts.decision_id))
    await world.match(facts)
    await world.work()
    [case] = (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    return case.case_id, facts.decision_id


async def bodies(world: World, case_id: str, **page: object) -> list[str]:
    request = pb.ListCaseLogRequest(case_id=case_id, **page)  # type: ignore[arg-type] # fields of the request
    answer = await world.cases.ListCaseLog(request, metadata=world.auditor)
    return [str(entry.record.WhichOneof("body")) for entry in answer.entries]


async def verified(world: World, case_id: str = "") -> pb.VerifyCaseLogResponse:
    return await world.cases.VerifyCaseLog(
        pb.VerifyCaseLogRequest(case_id=case_id), metadata=world.auditor
    )


async def test_a_case_replays_from_decision_to_evidence(world: World) -> None:
    case_id, _ = await one_case(world)
    expected = ["match_decision_log", "case_lifecycle_log", "evidence_pack_log", "case_lifecycle_log"]
    assert expected == await bodies(world, case_id)
    found = await verified(world, case_id)
    assert (True, 1, 4, 4) == (found.valid, found.chains, found.entries, found.head_sequence)
    assert (await verified(world)).valid


async def test_a_record_after_the_case_goes_straight_into_its_chain(world: World) -> None:
    case_id, decision_id = await one_case(world)
    record = decided(world, decision_id)
    await world.feed(record, record)
    await world.feed(record)
    assert 5 == len(await bodies(world, case_id))


async def test_the_log_is_read_in_pages(world: World) -> None:
    case_id, _ = await one_case(world)
    request = pb.ListCaseLogRequest(case_id=case_id, page_size=3)
    first = await world.cases.ListCaseLog(request, metadata=world.auditor)
    request.page_token = first.next_page_token
    second = await world.cases.ListCaseLog(request, metadata=world.auditor)
    assert [1, 2, 3, 4] == [e.sequence for e in (*first.entries, *second.entries)]
    assert "" == second.next_page_token
    with refused("BAD_PAGE_TOKEN"):
        await bodies(world, case_id, page_token="!")


async def test_every_batch_publishes_the_new_heads(world: World) -> None:
    case_id, _ = await one_case(world)
    rows = await world.sql("SELECT payload FROM outbox WHERE event = 'log_head_advanced' ORDER BY seq")
    heads = [LogHeadAdvanced.FromString(row.payload) for row in rows]
    found = await verified(world, case_id)
    last = [head for head in heads if head.chain_id == case_id][-1]
    assert (found.head_sequence, found.head_hash) == (last.sequence, last.head_hash)
    assert any(head.chain_id == "day:detector:2026-03-02" for head in heads)


@pytest.mark.parametrize(
    ("tamper", "reasons"),
    [
        ("UPDATE log_entry SET ciphertext = set_byte(ciphertext, 40, get_byte(ciphertext, 40) # 1) "
         "WHERE chain_id = :case AND sequence = 2", {"HASH_DIFFERS"}),
        ("DELETE FROM log_entry WHERE chain_id = :case AND sequence = 2", {"GAP"}),
        ("DELETE FROM log_entry WHERE chain_id = :case AND sequence = 4", {"TRUNCATED"}),
        ("UPDATE log_entry SET sequence = CASE sequence WHEN 2 THEN -3 ELSE -2 END WHERE chain_id = :case "
         "AND sequence IN (2, 3); UPDATE log_entry SET sequence = -sequence WHERE chain_id = :case AND "
         "sequence < 0", {"HASH_DIFFERS"}),
        ("UPDATE log_chain SET head_hash = previous.entry_hash, sequence = 3 FROM log_entry previous WHERE "
         "log_chain.chain_id = :case AND previous.chain_id = :case AND previous.sequence = 3", {"HEAD_DIFFERS"}),
        ("DELETE FROM log_chain WHERE chain_id = :case", {"HEAD_DIFFERS"}),
    ],
    ids=["flip", "delete", "truncate", "swap", "head-moved-back", "head-deleted"],
)  # fmt: skip
async def test_tampering_is_found(world: World, tamper: str, reasons: set[str]) -> None:
    case_id, _ = await one_case(world)
    for statement in tamper.split(";"):
        await world.sql(statement, case=case_id)
    for found in (await verified(world, case_id), await verified(world)):
        assert not found.valid
        assert reasons <= {fault.reason for fault in found.faults}
        assert {case_id} == {fault.chain_id for fault in found.faults}


async def test_a_merge_writes_both_heads_into_both_chains(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(minutes=1))
    await world.match(world.facts(person, cluster_id="c2"))
    await world.work()
    newer, older = [
        case.case_id
        for case in (await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)).cases
    ]
    heads = {case_id: (await verified(world, case_id)).head_hash for case_id in (older, newer)}
    await world.match(world.facts(person, cluster_id="c1", also_cluster_ids=["c2"]))
    await world.log_own_records()
    for chain in (older, newer):
        request = pb.ListCaseLogRequest(case_id=chain)
        entries = (await world.cases.ListCaseLog(request, metadata=world.auditor)).entries
        [merge] = [e.record.dedup_merge_log for e in entries if e.record.dedup_merge_log.merged_case_id]
        assert (heads[older], heads[newer]) == (merge.root_head_hash, merge.merged_head_hash)
    assert (await verified(world)).valid
