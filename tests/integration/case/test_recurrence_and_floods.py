"""What becomes of content that comes back, and of content that comes a thousand times?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import events_pb2
from misuse.case.v1.case_pb2 import (
    CASE_STATE_CLOSED,
    CASE_STATE_OPEN,
    PRIORITY_REASON_SPREADING,
    RESOLUTION_REMOVED,
    Case,
)
from misuse.common.v1.signal_pb2 import MATCH_KIND_PII, SOURCE_TYPE_LEAK_INDEX
from misuse.log.v1.record_pb2 import RepostRecurrenceLog
from misuse.removal.v1 import events_pb2 as removal
from services.case.domain.removals import RemovalState
from services.chassis.ids import uuid7
from tests.integration.case.world import World

REPOSTS = 1000


async def listed(world: World, **wanted: Any) -> list[Case]:
    answer = await world.cases.ListCases(pb.ListCasesRequest(**wanted), metadata=world.operator)
    return list(answer.cases)


async def closed(world: World, person: str, cluster: str = "c1") -> str:
    """A case that was opened and closed as removed."""
    facts = world.facts(person, cluster_id=cluster)
    await world.match(facts)
    [case] = await listed(world, decision_id=facts.decision_id)
    close = pb.CloseCaseRequest(case_id=case.case_id, request_id=uuid7(), resolution=RESOLUTION_REMOVED)
    await world.cases.CloseCase(close, metadata=world.operator)
    return case.case_id


async def recurrences(world: World) -> list[RepostRecurrenceLog]:
    return [r.repost_recurrence_log for r in await world.records() if r.HasField("repost_recurrence_log")]


async def test_a_repost_soon_after_the_closing_opens_the_case_again_and_leaves_what_the_gate_counts(
    world: World,
) -> None:
    person = await world.person()
    case_id = await closed(world, person)
    when = world.clock.now()
    world.clock.advance(timedelta(days=29))
    facts = world.facts(person, cluster_id="c1", channel_group="FORUM_KR")
    await world.match(facts, world.facts(person, cluster_id="c1"))
    [case] = await listed(world)
    assert (case_id, CASE_STATE_OPEN, 1, "") == (
        case.case_id,
        case.state,
        case.occurrence,
        case.recurrence_of_case_id,
    )
    [log] = await recurrences(world)
    assert (case_id, case_id, "REOPENED", "SAME_CLUSTER", "REMOVED", "FORUM_KR") == (
        log.closed_case_id,
        log.case_id,
        log.outcome,
        log.rule,
        log.resolution,
        log.channel_group,
    )
    assert (when, facts.discover_time) == (log.close_time.ToDatetime(when.tzinfo), log.found_time)


async def test_a_repost_long_after_the_closing_opens_a_case_that_names_the_old_one(world: World) -> None:
    person = await world.person()
    case_id = await closed(world, person)
    world.clock.advance(timedelta(days=31))
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(days=1))
    await world.match(world.facts(person, cluster_id="c1"))
    new, old = await listed(world)
    assert (case_id, CASE_STATE_CLOSED) == (old.case_id, old.state)
    assert (case_id, 2) == (new.recurrence_of_case_id, new.sighting_count)
    assert [("LINKED", new.case_id)] == [(log.outcome, log.case_id) for log in await recurrences(world)]


async def test_content_that_a_platform_shows_again_opens_the_closed_case_and_recurs(world: World) -> None:
    case_id = await closed(world, await world.person())
    facts = removal.RemovalFacts(
        removal_request_id=uuid7(), case_ids=[case_id], state=RemovalState.DRAFT.value  # type: ignore[arg-type] # a number
    )
    again = removal.ContentReappeared(facts=facts)
    await world.feed(again, again, publisher="removal")
    [case] = await listed(world)
    assert 1 == case.occurrence
    assert CASE_STATE_CLOSED != case.state
    assert ["REMOVAL_RECHECK"] == [log.rule for log in await recurrences(world)]
    assert ["CONTENT_REAPPEARED"] == [event.reason for event in await world.events(events_pb2.CaseReopened)]


async def test_what_one_dump_says_is_one_case_and_what_the_next_says_another(world: World) -> None:
    person = await world.person()
    for dump, watch in ((b"1" * 32, "mail"), (b"1" * 32, "phone"), (b"2" * 32, "mail")):
        await world.match(
            world.facts(
                person,
                kind=MATCH_KIND_PII,
                watch_ids=[watch],
                dump_ref=dump,
                source_type=SOURCE_TYPE_LEAK_INDEX,
                cluster_id="same rows",
            )
        )
    assert [1, 2] == [case.sighting_count for case in await listed(world)]
    rules = [r.dedup_merge_log.rule for r in await world.records() if r.HasField("dedup_merge_log")]
    assert ["SAME_DUMP"] == rules


async def test_a_join_says_by_which_rule_and_names_both_sides(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    near = world.facts(person, cluster_id="c2", also_cluster_ids=["c1"], cluster_rule="PDQ")
    await world.match(near)
    [case] = await listed(world)
    [log] = [r.dedup_merge_log for r in await world.records() if r.HasField("dedup_merge_log")]
    assert ("SAME_PERSON_NEAR_PICTURE", "incident-2", case.case_id, case.case_id, near.signal_ref, "PDQ") == (
        log.rule,
        log.rule_version,
        log.root_case_id,
        log.branch_case_id,
        log.signal_ref,
        log.cluster_rule,
    )


async def test_a_thousand_reposts_in_a_minute_are_one_case_some_notices_and_one_digest(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    reposts = [world.facts(person, cluster_id="c1", channel_group=f"GROUP_{n % 3}") for n in range(REPOSTS)]
    for start in range(0, REPOSTS, 100):
        await world.match(*reposts[start : start + 100])
        world.clock.advance(timedelta(seconds=6))
    [case] = await listed(world)
    assert REPOSTS + 1 == case.sighting_count
    assert PRIORITY_REASON_SPREADING in case.priority_reasons
    told = world.service.needs.rules.incident.burst.told_singly
    assert told - 1 == len(await world.events(events_pb2.CaseSighted))
    assert [] == await world.events(events_pb2.CaseSightingsDigested)
    world.clock.advance(timedelta(hours=1))
    for _ in range(2):
        await world.service.due()["DIGEST"](await world.due_item("DIGEST", case.case_id))
    [digest] = await world.events(events_pb2.CaseSightingsDigested)
    assert (case.case_id, REPOSTS + 1 - told, REPOSTS + 1) == (
        digest.case_id,
        digest.sightings,
        digest.sighting_count,
    )
    assert {"SNS_GLOBAL", "GROUP_0", "GROUP_1", "GROUP_2"} == set(digest.channel_groups)
    # Each sighting has its records all the same: the gate counts them.
    assert REPOSTS == (await world.transitions()).count("SIGHTED")


async def test_an_unmerge_gives_the_root_the_state_back_that_the_merge_took_from_it(world: World) -> None:
    person = await world.person()
    root = await closed(world, person, "c1")
    await world.match(world.facts(person, cluster_id="c2"))
    [other] = await listed(world, states=[CASE_STATE_OPEN])
    world.clock.advance(timedelta(minutes=1))
    merge = pb.MergeCasesRequest(root_case_id=root, merged_case_id=other.case_id, request_id="m")
    assert CASE_STATE_OPEN == (await world.cases.MergeCases(merge, metadata=world.operator)).case.state
    unmerge = pb.UnmergeCaseRequest(case_id=other.case_id, request_id="u")
    parted = (await world.cases.UnmergeCase(unmerge, metadata=world.operator)).case
    back = (await world.cases.GetCase(pb.GetCaseRequest(case_id=root), metadata=world.operator)).case
    assert (CASE_STATE_OPEN, CASE_STATE_CLOSED, RESOLUTION_REMOVED) == (parted.state, back.state, back.resolution)
    assert [root, root] == [event.case_id for event in await world.events(events_pb2.CaseClosed)]
    assert "PUT_BACK" in await world.transitions()


async def test_what_was_found_after_the_merge_keeps_the_root_open_after_the_unmerge(world: World) -> None:
    person = await world.person()
    root = await closed(world, person, "c1")
    await world.match(world.facts(person, cluster_id="c2"))
    [other] = await listed(world, states=[CASE_STATE_OPEN])
    merge = pb.MergeCasesRequest(root_case_id=root, merged_case_id=other.case_id, request_id="m")
    await world.cases.MergeCases(merge, metadata=world.operator)
    await world.match(world.facts(person, cluster_id="c1"))
    unmerge = pb.UnmergeCaseRequest(case_id=other.case_id, request_id="u")
    await world.cases.UnmergeCase(unmerge, metadata=world.operator)
    assert [CASE_STATE_OPEN, CASE_STATE_OPEN] == [case.state for case in await listed(world)]
