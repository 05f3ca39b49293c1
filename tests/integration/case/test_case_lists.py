"""Are the right cases listed, in order, page by page, and found by what stands in them?"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from misuse.case.v1 import case_pb2
from misuse.case.v1 import case_service_pb2 as pb
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE, CASE_KIND_PII, MATCH_KIND_PII
from services.case.handlers.search import cover_all
from tests.integration.case.world import START, World, refused


async def listed(world: World, **wanted: Any) -> list[case_pb2.Case]:
    answer = await world.cases.ListCases(pb.ListCasesRequest(**wanted), metadata=world.operator)
    return list(answer.cases)


async def ids(world: World, **wanted: Any) -> list[str]:
    return [case.case_id for case in await listed(world, **wanted)]


async def opened(world: World, person: str, cluster: str, **values: Any) -> str:
    """A case of its own, a minute after the one before."""
    world.clock.advance(timedelta(minutes=1))
    facts = world.facts(person, cluster_id=cluster, **values)
    await world.match(facts)
    [case_id] = await ids(world, decision_id=facts.decision_id)
    return case_id


def stamp(moment: datetime) -> Timestamp:
    value = Timestamp()
    value.FromDatetime(moment)
    return value


# --- filters, orders, pages ---


async def test_each_filter_shows_its_cases_alone(world: World) -> None:
    person, minor = await world.person(), await world.person(birth_year=2010)
    plain = await opened(world, person, "a")
    text = await opened(world, person, "b", kind=MATCH_KIND_PII, doxing=True, channel_group="FORUM_KR")
    young = await opened(world, minor, "c")
    everything = [young, text, plain]
    for wanted, expected in (
        ({}, everything),
        ({"kind": CASE_KIND_PII}, [text]),
        ({"kind": CASE_KIND_FACE}, [young, plain]),
        ({"channel_group": "FORUM_KR"}, [text]),
        ({"subscriber_id": minor}, [young]),
        ({"priorities": [case_pb2.CASE_PRIORITY_NORMAL]}, [plain]),
        ({"priorities": [case_pb2.CASE_PRIORITY_HIGH, case_pb2.CASE_PRIORITY_URGENT]}, [young, text]),
        ({"create_from": stamp(START + timedelta(minutes=3))}, [young]),
        ({"create_until": stamp(START + timedelta(minutes=3))}, [text, plain]),
        ({"deadline_before": stamp(world.clock.now() + timedelta(hours=10))}, [young, text]),
        ({"states": [case_pb2.CASE_STATE_CLOSED]}, []),
    ):
        assert expected == await ids(world, **wanted), wanted


async def test_a_case_shows_what_makes_it_urgent_and_until_when_it_is_due(world: World) -> None:
    minor = await world.person(birth_year=2010)
    await opened(world, minor, "a", name_and_address=True)
    [case] = await listed(world)
    assert (
        case_pb2.CASE_PRIORITY_URGENT,
        [case_pb2.PRIORITY_REASON_MINOR, case_pb2.PRIORITY_REASON_NAME_AND_ADDRESS],
        world.clock.now() + timedelta(hours=1),
    ) == (case.priority, list(case.priority_reasons), case.deadline_time.ToDatetime(world.clock.now().tzinfo))
    await opened(world, minor, "a", sexual_content_reported=True)
    [case] = await listed(world)
    assert case_pb2.PRIORITY_REASON_SEXUAL_CONTENT in case.priority_reasons


async def test_what_the_subscriber_says_makes_the_case_urgent_also_after_an_unmerge(world: World) -> None:
    person = await world.person()
    first, second = await opened(world, person, "a"), await opened(world, person, "b")
    merge = pb.MergeCasesRequest(root_case_id=first, merged_case_id=second, request_id="m")
    await world.cases.MergeCases(merge, metadata=world.operator)
    word = pb.RecordSubscriberVerdictRequest(
        subscriber_id=person,
        case_id=second,
        request_id="v",
        verdict=case_pb2.SUBSCRIBER_VERDICT_ME,
        sexual_content=True,
    )
    said = (await world.cases.RecordSubscriberVerdict(word, metadata=world.subscriber(person))).case
    assert (first, case_pb2.CASE_PRIORITY_URGENT) == (said.case_id, said.priority)
    await world.cases.UnmergeCase(pb.UnmergeCaseRequest(case_id=second, request_id="u"), metadata=world.operator)
    assert [second, first] == await ids(world, priorities=[case_pb2.CASE_PRIORITY_URGENT])
    assert "FLAGGED" in await world.transitions()


async def test_the_orders_put_the_urgent_and_the_nearly_due_first(world: World) -> None:
    person, minor = await world.person(), await world.person(birth_year=2010)
    young = await opened(world, minor, "a")
    plain = await opened(world, person, "b")
    urgent = await opened(world, person, "c", sexual_content_reported=True)
    assert [urgent, young, plain] == await ids(world, order=pb.CASE_ORDER_PRIORITY)
    assert [urgent, young, plain] == await ids(world, order=pb.CASE_ORDER_DEADLINE)
    assert [urgent, plain, young] == await ids(world, order=pb.CASE_ORDER_NEWEST)


@pytest.mark.parametrize("order", [pb.CASE_ORDER_NEWEST, pb.CASE_ORDER_DEADLINE, pb.CASE_ORDER_PRIORITY])
async def test_pages_show_every_case_once_while_others_are_opened(world: World, order: Any) -> None:
    person, minor = await world.person(), await world.person(birth_year=2010)
    expected = {await opened(world, one, f"c{n}") for n in range(4) for one in (person, minor)}
    found, token = list[str](), ""
    while True:
        request = pb.ListCasesRequest(order=order, page_size=3, page_token=token)
        page = await world.cases.ListCases(request, metadata=world.operator)
        found += [case.case_id for case in page.cases]
        token = page.next_page_token
        if not token:
            break
        await opened(world, person, f"late-{len(found)}")
    assert sorted(expected) == sorted(case_id for case_id in found if case_id in expected)
    assert len(found) == len(set(found))


async def test_a_token_of_another_order_is_refused(world: World) -> None:
    person = await world.person()
    for number in range(2):
        await opened(world, person, f"c{number}")
    page = await world.cases.ListCases(pb.ListCasesRequest(page_size=1), metadata=world.operator)
    with refused("BAD_PAGE_TOKEN"):
        await listed(world, page_token=page.next_page_token, order=pb.CASE_ORDER_DEADLINE)


# --- search ---


def texts(world: World, person: str, *said: str) -> list[Any]:
    """Facts of posts whose captures have these masked texts."""
    made = []
    for number, text in enumerate(said):
        facts = world.facts(person, cluster_id=f"t{number}")
        world.detector.captures[facts.decision_id].masked_text = text
        made.append(facts)
    return made


async def test_cases_are_found_by_the_words_of_their_masked_texts(world: World) -> None:
    one, other = await world.person(), await world.person()
    await world.match(*texts(world, one, "강남구에서 010-****-5678", "seller of phones"))
    await world.match(*texts(world, other, "강남구 5679"))
    await world.work()
    found = {"강남구": 2, "강남구 5678": 1, "SELLER": 1, "5679": 1, "없는말": 0, "phones 5678": 0}
    for text, number in found.items():
        assert number == len(await listed(world, text=text)), text
    assert 1 == len(await listed(world, text="강남구", subscriber_id=one))
    with refused("TEXT_WITHOUT_WORDS"):
        await listed(world, text="*")
    with refused("TEXT_TOO_LONG"):
        await listed(world, text="강남" * 100)


async def test_a_merged_case_is_found_under_its_root_and_alone_after_the_unmerge(world: World) -> None:
    person = await world.person()
    await world.match(*texts(world, person, "alpha", "beta"))
    await world.work()
    [alpha], [beta] = await ids(world, text="alpha"), await ids(world, text="beta")
    merge = pb.MergeCasesRequest(root_case_id=alpha, merged_case_id=beta, request_id="m")
    await world.cases.MergeCases(merge, metadata=world.operator)
    assert [alpha] == await ids(world, text="beta")
    await world.cases.UnmergeCase(pb.UnmergeCaseRequest(case_id=beta, request_id="u"), metadata=world.operator)
    assert [beta] == await ids(world, text="beta")


async def test_no_word_of_a_text_lies_in_the_database(world: World) -> None:
    person = await world.person()
    await world.match(*texts(world, person, "zanzibar"))
    await world.work()
    assert 1 == len(await listed(world, text="zanzibar"))
    for (table,) in await world.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        [(rows,)] = await world.sql(f'SELECT count(*) FROM "{table}" t WHERE t::text ILIKE \'%zanzibar%\'')
        assert 0 == rows, table
    assert [("u",)] == await world.sql("SELECT relpersistence::text FROM pg_class WHERE relname = 'search_text'")


async def test_after_a_loss_of_the_tags_a_search_is_refused_until_they_are_made_anew(world: World) -> None:
    person = await world.person()
    await world.match(*texts(world, person, "alpha", "beta"))
    await world.work()
    assert 1 == len(await listed(world, text="alpha"))
    # As after a crash of PostgreSQL.
    await world.sql("TRUNCATE search_text")
    with refused("SEARCH_BEING_REBUILT"):
        await listed(world, text="alpha")
    await world.work()
    assert 1 == len(await listed(world, text="alpha"))
    await cover_all(world.service.units, world.service.needs.rules)
    assert 1 == len(await listed(world, text="beta"))


# --- statistics ---


async def test_statistics_count_roots(world: World) -> None:
    person, minor = await world.person(), await world.person(birth_year=2010)
    await opened(world, minor, "a")
    await opened(world, person, "b", kind=MATCH_KIND_PII, channel_group="FORUM_KR")
    await opened(world, person, "c")
    await world.match(world.facts(person, cluster_id="b", also_cluster_ids=["c"]))
    world.clock.advance(timedelta(hours=5))
    request = pb.GetCaseStatisticsRequest()
    counted = await world.cases.GetCaseStatistics(request, metadata=world.operator)
    assert (2, 4, 1) == (counted.cases, counted.sightings, counted.overdue)
    assert {case_pb2.CASE_STATE_OPEN: 2} == {row.state: row.cases for row in counted.states}
    assert {case_pb2.CASE_PRIORITY_NORMAL: 1, case_pb2.CASE_PRIORITY_HIGH: 1} == {
        row.priority: row.cases for row in counted.priorities
    }
    assert {CASE_KIND_PII: 1, CASE_KIND_FACE: 1} == {row.kind: row.cases for row in counted.kinds}
    assert [("SNS_GLOBAL", 2), ("FORUM_KR", 1)] == [(row.channel_group, row.cases) for row in counted.channel_groups]
    await opened(world, person, "d")
    # Counts of all are counted once for everybody who asks at the same time, and say when.
    again = await world.cases.GetCaseStatistics(request, metadata=world.operator)
    assert (2, counted.count_time) == (again.cases, again.count_time)
    own = pb.GetCaseStatisticsRequest(subscriber_id=person)
    assert 2 == (await world.cases.GetCaseStatistics(own, metadata=world.subscriber(person))).cases
    with refused("NOT_OWN_SUBJECT"):
        await world.cases.GetCaseStatistics(request, metadata=world.subscriber(person))


async def test_two_searches_at_once_do_not_hinder_each_other(world: World) -> None:
    person = await world.person()
    await world.match(*texts(world, person, "alpha"))
    await world.work()
    found = await asyncio.gather(*(listed(world, text="alpha") for _ in range(4)))
    assert [1, 1, 1, 1] == [len(cases) for cases in found]
