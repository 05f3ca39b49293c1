"""Is what an answer shows noted before it leaves, by whom, of whom and from where?"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from misuse.case.v1 import case_service_pb2 as cases
from misuse.common.v1.access_pb2 import (
    DATA_CLASS_CASE,
    DATA_CLASS_EVIDENCE,
    DATA_CLASS_NONE,
    PURPOSE_CASE_HANDLING,
    ROLE_APP_BACKEND,
    ROLE_DEVICE,
    ROLE_OPERATOR,
    ROLE_SERVICE_CASE,
    ROLE_SUBSCRIBER,
    AccessRule,
    Role,
)
from services.chassis.reads import Reading, Watch, is_noted, origin_of, things_in
from services.chassis.tokens import Actor

NOW = datetime(2026, 3, 2, tzinfo=UTC)
RULE = AccessRule(roles=[ROLE_OPERATOR], reads=[DATA_CLASS_CASE], read_of=["subscriber_id"])


def actor(role: Role.ValueType = ROLE_OPERATOR) -> Actor:
    return Actor("staff-7", role, PURPOSE_CASE_HANDLING, "case", "", NOW, NOW)


class Noted:
    """Readings, kept in a list."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []

    async def note(self, actor: Actor, reading: Reading) -> None:
        self.readings.append(reading)


def answer(*people: str) -> cases.ListCasesResponse:
    found = cases.ListCasesResponse()
    for person in people:
        found.cases.add(case_id=f"c-{person}", subscriber_id=person)
    return found


def test_ids_are_found_wherever_they_stand_each_once() -> None:
    request = cases.ListCasesRequest(subscriber_id="a")
    assert [("subscriber_id", "a"), ("subscriber_id", "b")] == things_in(
        (request, answer("a", "b", "a")), ["subscriber_id"]
    )
    assert [] == things_in((answer("with blanks in it", "x" * 65),), ["subscriber_id"])


def test_the_log_is_of_people_and_not_of_those_whose_data_it_is() -> None:
    noted = {role for role in Role.values()[1:] if is_noted(actor(role), RULE)}
    assert {ROLE_OPERATOR, ROLE_APP_BACKEND} <= noted
    assert not {ROLE_SUBSCRIBER, ROLE_DEVICE, ROLE_SERVICE_CASE} & noted
    assert not is_noted(actor(), AccessRule(reads=[DATA_CLASS_NONE]))
    assert is_noted(actor(), AccessRule()), "a method of which nobody has thought"


async def test_a_stream_notes_each_thing_once() -> None:
    noted = Noted()
    watch = Watch(noted, "misuse.case.v1.CaseService/WatchCases", RULE, actor(), "ipv4:127.0.0.1:9")
    for people in (("a",), ("a",), ("a", "b"), ()):
        await watch.answered(None, answer(*people))
    assert [["a"], ["b"]] == [[value for _, value in reading.things] for reading in noted.readings]


async def test_an_answer_that_names_nobody_is_noted_once() -> None:
    noted = Noted()
    watch = Watch(noted, "m", AccessRule(reads=[DATA_CLASS_EVIDENCE]), actor(), "")
    for _ in range(2):
        await watch.answered(cases.ExportCaseRequest(case_id="c"), cases.ExportCaseResponse())
    assert [()] == [tuple(reading.things) for reading in noted.readings]


@pytest.mark.parametrize(
    ("said", "kept"), [("", ""), ("AUDIT_2026_03", "AUDIT_2026_03"), ("Kim asked me, 010-0000-0000", "STATED")]
)
async def test_a_reason_in_words_is_only_noted_as_given(said: str, kept: str) -> None:
    noted = Noted()
    watch = Watch(noted, "m", RULE, actor(), "")
    await watch.answered(cases.ExportCaseRequest(case_id="c", reason=said), cases.ExportCaseResponse())
    assert [kept] == [reading.reason for reading in noted.readings]


@pytest.mark.parametrize(
    ("peer", "origin"),
    [
        ("ipv4:127.0.0.1:51234", "LOOPBACK"),
        ("ipv6:%5B::1%5D:51234", "LOOPBACK"),
        ("ipv6:[::1]:51234", "LOOPBACK"),
        ("ipv4:10.1.2.3:51234", "PRIVATE"),
        ("ipv4:8.8.8.8:51234", "PUBLIC"),
        ("unix:/run/jikimi.sock", "LOCAL"),
        ("", "UNKNOWN"),
        ("ipv4:nonsense", "UNKNOWN"),
    ],
)
def test_where_it_came_from_is_a_class_and_no_address(peer: str, origin: str) -> None:
    assert origin == origin_of(peer)
