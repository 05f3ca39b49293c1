"""Does every incident become exactly one case?"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import events_pb2
from misuse.case.v1.case_pb2 import (
    CASE_STATE_CLOSED,
    CASE_STATE_MERGED,
    CASE_STATE_OPEN,
    RESOLUTION_REMOVED,
    SUBSCRIBER_VERDICT_NOT_ME,
)
from misuse.case.v1.subscriber_service_pb2 import SuspendSubscriberRequest
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE, CASE_KIND_PII, MATCH_KIND_PII
from misuse.detector.v1.events_pb2 import ReviewNeeded, SignalMatched
from services.chassis.ids import uuid7
from tests.integration.case.world import World, refused


async def listed(world: World, **wanted: object) -> list[str]:
    answer = await world.cases.ListCases(pb.ListCasesRequest(**wanted), metadata=world.operator)  # type: ignore[arg-type] # fields of the request
    return [case.case_id for case in answer.cases]


async def test_a_match_opens_a_case_and_tells_of_it(world: World) -> None:
    person = await world.person(language="en")
    await world.match(world.facts(person, cluster_id="c1"))
    [opened] = await world.events(events_pb2.CaseOpened)
    assert [opened.case_id] == await listed(world, subscriber_id=person)
    assert ("en", CASE_KIND_FACE, "SNS_GLOBAL") == (opened.language, opened.kind, opened.channel_group)
    [record] = [r for r in await world.records() if r.case_lifecycle_log.transition]
    assert ("OPENED", 2000, [opened.case_id]) == (
        record.case_lifecycle_log.transition,
        record.case_lifecycle_log.latency_ms,
        list(record.case_ids),
    )


async def test_a_repost_joins_the_open_case(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    await world.match(world.facts(person, cluster_id="c1", channel_group="FORUM_KR"))
    [case_id] = await listed(world)
    shown = await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.operator)
    assert (2, ["SNS_GLOBAL", "FORUM_KR"]) == (shown.case.sighting_count, list(shown.case.channel_groups))
    assert ["SAME_CLUSTER", "OPENED"] == [sighting.rule for sighting in shown.sightings]
    assert ["subscriber_registered", "case_opened", "case_sighted"] == await world.events()


async def test_a_decision_counts_once(world: World) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.match(facts, facts)
    await world.match(facts)
    assert 1 == (await world.events()).count("case_opened")
    assert 0 == (await world.events()).count("case_sighted")


async def test_face_and_text_of_one_post_are_one_case(world: World) -> None:
    person, post = await world.person(), bytes(range(32))
    await world.match(
        world.facts(person, cluster_id="c1", post_ref=post),
        world.facts(person, kind=MATCH_KIND_PII, watch_ids=["w1"], post_ref=post),
    )
    answer = await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)
    assert [[CASE_KIND_FACE, CASE_KIND_PII]] == [list(case.kinds) for case in answer.cases]


async def test_the_same_content_of_two_people_is_two_cases(world: World) -> None:
    one, other = await world.person(), await world.person()
    await world.match(world.facts(one, cluster_id="c1"), world.facts(other, cluster_id="c1"))
    assert 2 == len(await listed(world))
    assert 1 == len(await listed(world, subscriber_id=one))


async def test_facts_that_join_two_cases_merge_them_into_the_older(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(minutes=1))
    await world.match(world.facts(person, cluster_id="c2"))
    newer, older = await listed(world)
    bridge = world.facts(person, cluster_id="c3", also_cluster_ids=["c1", "c2"])
    await world.match(bridge)
    assert [older] == await listed(world)
    assert [older] == await listed(world, decision_id=bridge.decision_id)
    [merged] = await world.events(events_pb2.CaseMerged)
    assert (older, newer) == (merged.root_case_id, merged.merged_case_id)
    by_alias = await world.cases.GetCase(pb.GetCaseRequest(case_id=newer), metadata=world.operator)
    assert (older, 3, [newer]) == (
        by_alias.case.case_id,
        by_alias.case.sighting_count,
        list(by_alias.case.merged_case_ids),
    )
    assert [newer] == await listed(world, states=[CASE_STATE_MERGED])


async def test_an_unmerged_case_gets_its_sightings_back_and_stays_apart(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(minutes=1))
    await world.match(world.facts(person, cluster_id="c2"))
    newer, older = await listed(world)
    await world.match(world.facts(person, cluster_id="c1", also_cluster_ids=["c2"]))
    await world.match(world.facts(person, cluster_id="c2"))
    request = pb.UnmergeCaseRequest(case_id=newer, request_id="u1")
    parted = (await world.cases.UnmergeCase(request, metadata=world.operator)).case
    assert (newer, 2, CASE_STATE_OPEN) == (parted.root_case_id, parted.sighting_count, parted.state)
    await world.match(world.facts(person, cluster_id="c1", also_cluster_ids=["c2"]))
    await world.match(world.facts(person, cluster_id="c2"))
    shown = await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)
    assert {newer: 3, older: 3} == {case.case_id: case.sighting_count for case in shown.cases}
    # A person may put them together again, and then facts may too.
    again = pb.MergeCasesRequest(root_case_id=older, merged_case_id=newer, request_id="m1")
    assert 6 == (await world.cases.MergeCases(again, metadata=world.operator)).case.sighting_count
    assert [] == await world.sql("SELECT 1 FROM case_separation")


async def test_a_chain_of_merges_unmerges_with_what_was_merged_into_it(world: World) -> None:
    person = await world.person()
    for cluster in ("c1", "c2", "c3"):
        await world.match(world.facts(person, cluster_id=cluster))
        world.clock.advance(timedelta(minutes=1))
    third, second, first = await listed(world)
    for number, (root, alias) in enumerate([(second, third), (first, second)]):
        request = pb.MergeCasesRequest(root_case_id=root, merged_case_id=alias, request_id=f"m{number}")
        await world.cases.MergeCases(request, metadata=world.operator)
    assert [first] == await listed(world)
    await world.cases.UnmergeCase(
        pb.UnmergeCaseRequest(case_id=second, request_id="u"), metadata=world.operator
    )
    shown = await world.cases.ListCases(pb.ListCasesRequest(), metadata=world.operator)
    assert {second: [third], first: []} == {c.case_id: list(c.merged_case_ids) for c in shown.cases}


async def test_merging_is_refused_where_it_makes_no_sense(world: World) -> None:
    one, other = await world.person(), await world.person()
    await world.match(*(world.facts(p, cluster_id=c) for p, c in ((one, "a"), (one, "b"), (other, "c"))))
    ids = {
        case.sightings[0].decision_id: case.case.case_id
        for case in [
            await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.operator)
            for case_id in await listed(world)
        ]
    }
    mine = await listed(world, subscriber_id=one)
    [theirs] = await listed(world, subscriber_id=other)
    assert 3 == len(ids)

    async def merge(root: str, alias: str) -> None:
        request = pb.MergeCasesRequest(root_case_id=root, merged_case_id=alias, request_id=uuid7())
        await world.cases.MergeCases(request, metadata=world.operator)

    with refused("DIFFERENT_SUBSCRIBERS"):
        await merge(mine[0], theirs)
    await merge(mine[0], mine[1])
    with refused("ALREADY_MERGED"):
        await merge(mine[0], mine[1])
    with refused("NOT_MERGED"):
        await world.cases.UnmergeCase(
            pb.UnmergeCaseRequest(case_id=theirs, request_id="u"), metadata=world.operator
        )


async def test_a_match_opens_a_closed_case_again(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    [case_id] = await listed(world)
    close = pb.CloseCaseRequest(case_id=case_id, request_id="c", resolution=RESOLUTION_REMOVED)
    closed = (await world.cases.CloseCase(close, metadata=world.operator)).case
    assert (CASE_STATE_CLOSED, RESOLUTION_REMOVED) == (closed.state, closed.resolution)
    await world.match(world.facts(person, cluster_id="c1"))
    [reopened] = await world.events(events_pb2.CaseReopened)
    assert (case_id, "SIGHTED_AGAIN", 1) == (reopened.case_id, reopened.reason, reopened.occurrence)
    assert ["OPENED", "CLOSED", "REOPENED", "SIGHTED"] == await world.transitions()


async def test_a_false_positive_stays_closed_and_counts(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    [case_id] = await listed(world)
    word = pb.RecordSubscriberVerdictRequest(
        subscriber_id=person, case_id=case_id, request_id="v", verdict=SUBSCRIBER_VERDICT_NOT_ME
    )
    await world.cases.RecordSubscriberVerdict(word, metadata=world.subscriber(person))
    await world.match(world.facts(person, cluster_id="c1"))
    case = (await world.cases.GetCase(pb.GetCaseRequest(case_id=case_id), metadata=world.operator)).case
    assert (CASE_STATE_CLOSED, 2) == (case.state, case.sighting_count)
    assert [] == await world.events(events_pb2.CaseReopened)
    assert ["NOT_ME"] == [r.label_log.verdict for r in await world.records() if r.label_log.verdict]


async def test_content_found_after_the_window_is_a_new_case(world: World) -> None:
    person = await world.person()
    await world.match(world.facts(person, cluster_id="c1"))
    world.clock.advance(timedelta(days=91))
    await world.match(world.facts(person, cluster_id="c1"))
    assert 2 == len(await listed(world))


async def test_facts_of_a_suspended_subscriber_open_nothing_and_leave_a_record(world: World) -> None:
    person = await world.person()
    await world.people.SuspendSubscriber(
        SuspendSubscriberRequest(subscriber_id=person), metadata=world.subscriber(person)
    )
    facts = world.facts(person, cluster_id="c1")
    await world.match(facts)
    await world.work()
    assert [facts.decision_id] == world.detector.released
    assert [] == await listed(world)
    [record] = [r for r in await world.records() if r.case_lifecycle_log.transition]
    log = record.case_lifecycle_log
    assert ("DROPPED", "SUBSCRIBER_SUSPENDED") == (log.transition, log.reason)


async def test_a_batch_with_merges_ends_as_single_events_do(world: World) -> None:
    one, other = await world.person(), await world.person()
    keys = [("a", []), ("b", []), ("c", []), ("d", ["a", "b"]), ("e", ["d", "c"]), ("f", [])]
    await world.match(*(world.facts(one, cluster_id=c, also_cluster_ids=also) for c, also in keys))
    for cluster, also in keys:
        await world.match(world.facts(other, cluster_id=cluster, also_cluster_ids=also))
    batch = await world.cases.ListCases(pb.ListCasesRequest(subscriber_id=one), metadata=world.operator)
    single = await world.cases.ListCases(pb.ListCasesRequest(subscriber_id=other), metadata=world.operator)
    assert [1, 5] == sorted(case.sighting_count for case in batch.cases)
    assert [1, 5] == sorted(case.sighting_count for case in single.cases)


async def test_batches_about_the_same_people_do_not_wait_for_each_other_in_a_circle(world: World) -> None:
    people = [await world.person() for _ in range(8)]
    for _ in range(3):
        batches = [
            [kind(facts=world.facts(who)) for kind, who in zip([SignalMatched, ReviewNeeded] * 4, order, strict=True)]
            for order in (people, people[::-1])
        ]
        await asyncio.gather(*(world.feed(*batch) for batch in batches))
    assert 24 == len(await listed(world))
    assert [(24,)] == [tuple(row) for row in await world.sql("SELECT count(*) FROM review_item")]
