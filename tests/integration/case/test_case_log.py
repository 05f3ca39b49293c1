"""Does the case log hold everything, once, in chains that show a change?"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1.events_pb2 import LogHeadAdvanced
from misuse.log.v1.record_pb2 import LogRecord, MatchDecisionLog
from services.case.domain.chain import Head, entry_hash
from services.case.handlers.caselog import Span, verify_log
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


# --- against heads that are kept elsewhere ---


async def kept_heads(world: World, chain_id: str = "") -> list[pb.LogHead]:
    """What the gate would hold: every head that was published."""
    rows = await world.sql("SELECT payload FROM outbox WHERE event = 'log_head_advanced' ORDER BY seq")
    heads = [LogHeadAdvanced.FromString(row.payload) for row in rows]
    return [pb.LogHead(chain_id=h.chain_id, sequence=h.sequence, head_hash=h.head_hash) for h in heads
            if not chain_id or h.chain_id == chain_id]  # fmt: skip


async def checked(world: World, case_id: str, heads: list[pb.LogHead]) -> pb.VerifyCaseLogResponse:
    request = pb.VerifyCaseLogRequest(case_id=case_id, heads=heads)
    return await world.cases.VerifyCaseLog(request, metadata=world.auditor)


async def rewrite(world: World, case_id: str, start: int) -> None:
    """Replaces an entry and computes every hash behind it anew, the head row too: the chain holds in itself."""
    rows = await world.sql(
        "SELECT sequence, previous_hash, ciphertext FROM log_entry WHERE chain_id = :c AND sequence >= :s "
        "ORDER BY sequence", c=case_id, s=start,
    )  # fmt: skip
    previous = rows[0].previous_hash
    for row in rows:
        ciphertext = b"forged" + row.ciphertext if row.sequence == start else row.ciphertext
        digest = entry_hash(row.sequence, previous, ciphertext)
        await world.sql(
            "UPDATE log_entry SET ciphertext = :t, previous_hash = :p, entry_hash = :d "
            "WHERE chain_id = :c AND sequence = :s", t=ciphertext, p=previous, d=digest, c=case_id, s=row.sequence,
        )  # fmt: skip
        previous = digest
    await world.sql("UPDATE log_chain SET head_hash = :d WHERE chain_id = :c", d=previous, c=case_id)


async def test_heads_say_up_to_where_they_speak(world: World) -> None:
    case_id, decision_id = await one_case(world)
    heads = await kept_heads(world, case_id)
    await world.feed(decided(world, decision_id))
    found = await checked(world, case_id, heads)
    assert (True, 5, 4) == (found.valid, found.entries, found.witnessed_entries)


async def test_a_log_that_was_rewritten_as_a_whole_shows_against_the_heads_of_its_batches(world: World) -> None:
    case_id, decision_id = await one_case(world)
    await world.feed(decided(world, decision_id))
    heads = await kept_heads(world, case_id)
    assert {1, 4, 5} >= {head.sequence for head in heads} >= {4, 5}
    await rewrite(world, case_id, 5)
    assert (await checked(world, case_id, [])).valid
    [fault] = (await checked(world, case_id, heads)).faults
    assert ("REWRITTEN", 5, 5) == (fault.reason, fault.sequence, fault.until_sequence)
    assert heads[-1].head_hash == fault.expected_hash != fault.actual_hash


async def test_a_chain_that_is_gone_shows_against_its_head(world: World) -> None:
    case_id, _ = await one_case(world)
    heads = {head.chain_id: head for head in await kept_heads(world)}
    await world.sql("DELETE FROM log_entry WHERE chain_id = :c", c=case_id)
    await world.sql("DELETE FROM log_chain WHERE chain_id = :c", c=case_id)
    request = pb.VerifyCaseLogRequest(heads=heads.values())
    found = await world.cases.VerifyCaseLog(request, metadata=world.auditor)
    assert [(case_id, "TRUNCATED")] == [(fault.chain_id, fault.reason) for fault in found.faults]


@pytest.mark.slow
async def test_spans_of_chains_are_looked_at_once_each(world: World) -> None:
    case_id, _ = await one_case(world)
    await world.match(world.facts(await world.person(), cluster_id="c2"))
    await world.work()
    whole = await verified(world)
    parts = [
        await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(**span), metadata=world.auditor)
        for span in ({"until_chain_id": case_id}, {"after_chain_id": case_id})
    ]
    assert (whole.chains, whole.entries) == (sum(p.chains for p in parts), sum(p.entries for p in parts))


@pytest.mark.parametrize(
    "values",
    [
        {"heads": [pb.LogHead(chain_id="c", sequence=1, head_hash=b"short")]},
        {"heads": [pb.LogHead(sequence=1, head_hash=bytes(32))]},
        {"heads": [pb.LogHead(chain_id="c", sequence=0, head_hash=bytes(32))]},
        {"after_chain_id": "x" * 81},
        {"case_id": uuid7(), "after_chain_id": "x"},
        {"case_id": uuid7(), "heads": [pb.LogHead(chain_id="c", sequence=1, head_hash=bytes(32))]},
    ],
)
async def test_heads_that_are_none_are_refused(world: World, values: dict[str, Any]) -> None:
    with refused("HEADS_MALFORMED"):
        await world.cases.VerifyCaseLog(pb.VerifyCaseLogRequest(**values), metadata=world.auditor)


async def test_a_purge_leaves_the_chain_valid_and_a_missing_payload_without_one_does_not(world: World) -> None:
    case_id, _ = await one_case(world)
    heads = await kept_heads(world, case_id)
    [(owner,)] = await world.sql("SELECT key_owner FROM log_chain WHERE chain_id = :c", c=case_id)
    await world.sql("UPDATE log_entry SET ciphertext = '' WHERE chain_id = :c", c=case_id)
    assert {"PAYLOAD_MISSING"} == {fault.reason for fault in (await checked(world, case_id, heads)).faults}
    world.service.units.keys.destroy(owner)
    found = await checked(world, case_id, heads)
    assert (True, 4, 4, 4) == (found.valid, found.entries, found.purged_entries, found.witnessed_entries)
    answer = await world.cases.ListCaseLog(pb.ListCaseLogRequest(case_id=case_id), metadata=world.auditor)
    assert [False] * 4 == [entry.HasField("record") for entry in answer.entries]


# --- 1,000 random ones ---

_KINDS = ("flip", "delete", "swap", "truncate", "row", "rewrite", "hash", "previous", "head", "blank")


async def tamper(session: AsyncSession, chain_id: str, kind: str, at: int, last: int, rng: random.Random) -> None:
    """Changes what lies in the database as somebody with all rights could."""

    async def run(statement: str, **values: Any) -> Any:
        return await session.execute(text(statement), {"c": chain_id, "s": at} | values)

    match kind:
        case "flip":
            byte = rng.randrange(20, 60)
            await run("UPDATE log_entry SET ciphertext = set_byte(ciphertext, :b, get_byte(ciphertext, :b) # :m) "
                      "WHERE chain_id = :c AND sequence = :s", b=byte, m=1 << rng.randrange(8))  # fmt: skip
        case "delete":
            await run("DELETE FROM log_entry WHERE chain_id = :c AND sequence = :s")
        case "swap":
            other = at + 1 if at < last else at - 1
            for old, new in ((at, -1), (other, at), (-1, other)):
                await run("UPDATE log_entry SET sequence = :n WHERE chain_id = :c AND sequence = :o", o=old, n=new)
        case "truncate":
            await run("DELETE FROM log_entry WHERE chain_id = :c AND sequence >= :s")
            await run("UPDATE log_chain SET sequence = :s - 1, head_hash = coalesce((SELECT entry_hash FROM log_entry "
                      "WHERE chain_id = :c AND sequence = :s - 1), head_hash) WHERE chain_id = :c")  # fmt: skip
        case "row" | "rewrite":
            query = "SELECT sequence, previous_hash, ciphertext FROM log_entry WHERE chain_id = :c AND sequence >= :s"
            rows = (await run(f"{query} ORDER BY sequence")).all()
            previous = rows[0].previous_hash
            for row in rows[:1] if kind == "row" else rows:
                forged = rng.randbytes(40) if row.sequence == at else row.ciphertext
                digest = entry_hash(row.sequence, previous, forged)
                values = {"t": forged, "p": previous, "d": digest, "n": row.sequence}
                await run("UPDATE log_entry SET ciphertext = :t, previous_hash = :p, entry_hash = :d "
                          "WHERE chain_id = :c AND sequence = :n", **values)  # fmt: skip
                previous = digest
            if kind == "rewrite":
                await run("UPDATE log_chain SET head_hash = :d WHERE chain_id = :c", d=previous)
        case "hash":
            await run("UPDATE log_entry SET entry_hash = :h WHERE chain_id = :c AND sequence = :s", h=rng.randbytes(32))
        case "previous":
            await run("UPDATE log_entry SET previous_hash = :h WHERE chain_id = :c AND sequence = :s",
                      h=rng.randbytes(32))  # fmt: skip
        case "head":
            await run("UPDATE log_chain SET head_hash = :h WHERE chain_id = :c", h=rng.randbytes(32))
        case _:
            await run("UPDATE log_entry SET ciphertext = '' WHERE chain_id = :c AND sequence = :s")


@pytest.mark.slow
async def test_random_changes_in_the_database_are_found_where_they_are(world: World) -> None:
    """Each change in a transaction of its own that is taken back: the stored log of one case, 200 times."""
    rng = random.Random(20260304)
    case_id, decision_id = await one_case(world)
    for _ in range(6):
        await world.feed(decided(world, decision_id))
    heads = [(head.chain_id, Head(head.sequence, head.head_hash)) for head in await kept_heads(world, case_id)]
    last = heads[-1][1].sequence
    assert 10 == last
    missed, elsewhere = [], []
    for number in range(200):
        kind, at = _KINDS[number % len(_KINDS)], rng.randrange(1, last + 1)
        async with AsyncSession(world.database.engine) as session, session.begin() as transaction:
            await tamper(session, case_id, kind, at, last, rng)
            found = await verify_log(world.service.units.over(session), Span(case_id), heads)
            await transaction.rollback()
        if not found.faults:
            missed.append((number, kind, at))
            continue
        place = {"head": last, "swap": at if at < last else at - 1}.get(kind, at)
        _, first = found.faults[0]
        if not first.sequence <= place <= max(first.sequence, first.until):
            elsewhere.append((number, kind, place, first))
    assert ([], []) == (missed, elsewhere)
    assert (await checked(world, case_id, await kept_heads(world, case_id))).valid
