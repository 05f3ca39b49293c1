"""What do forms and mail servers answer, and is it understood?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.clock import ManualClock
from services.chassis.fetch import Fetcher, read_fetch_rules
from services.chassis.ids import uuid7
from services.removal.adapters.fetching import FetchingWatcher
from services.removal.adapters.http_form import HttpForm
from services.removal.adapters.mail import Mail, MailServer
from services.removal.adapters.policy_files import PolicyFiles
from services.removal.adapters.rules import load_rules
from services.removal.domain.filing import Claimant, Evidence
from services.removal.domain.sight import Finding, baseline_of, judge
from services.removal.ports import Accepted, Answer, Barred, Filing, Later, Refused, Sent, Unknown
from tests.simulators.pages import Pages
from tests.simulators.platform import PlatformSimulator

POLICIES = PolicyFiles()
EVIDENCE = Evidence("https://example.com/1", "1", "example", "2026-03-02T00:00:00Z")
CLOCK = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformSimulator]:
    """A platform whose patience is short."""
    with PlatformSimulator(tmp_path, hang_s=0.1) as simulator:
        yield simulator


def filing(platform_id: str) -> Filing:
    """What would be filed there."""
    policy = POLICIES.get(platform_id)
    assert policy is not None
    return POLICIES.render(policy, EVIDENCE, Claimant("홍길동"), None, reference="r")


async def by_form(platform: PlatformSimulator, key: str = "k", path: str = "/naver/form") -> Answer:
    """Files at naver."""
    policy = POLICIES.get("naver")
    assert policy is not None
    return await HttpForm().send(policy, f"http://127.0.0.1:{platform.http_port}{path}", filing("naver"), key)


async def by_mail(platform: PlatformSimulator, recipient: str, *, final_hop: bool = True) -> Answer:
    """Mails to a mailbox of the simulator."""
    policy = POLICIES.get("community")
    assert policy is not None
    server = MailServer("127.0.0.1", platform.smtp_port, final_hop, "removal@jikimi.invalid")
    return await Mail(server, CLOCK).send(policy, recipient, filing("community"), "key-1")


@pytest.mark.parametrize(
    ("lie", "answer"),
    [
        ("", Accepted("NAVER-0001")),
        ("reject", Refused("EVIDENCE_INSUFFICIENT")),
        ("429", Later("HTTP_429", 1.0)),
        ("500", Later("HTTP_500")),
        ("503", Later("HTTP_503")),
        ("hang", Later("CONNECTION_FAILED")),
        ("lost_answer", Later("CONNECTION_FAILED")),
        ("silent", Sent()),
        ("redirect", Unknown("REDIRECTED")),
        ("captcha", Barred("CAPTCHA")),
        ("login", Barred("LOGIN_WALL")),
    ],
)
async def test_answers_of_a_form(platform: PlatformSimulator, lie: str, answer: Answer) -> None:
    platform.mailroom.tell("naver", *[lie] if lie else [])
    assert answer == await by_form(platform)


async def test_a_form_that_is_gone_needs_a_person(platform: PlatformSimulator) -> None:
    assert Barred("FORM_GONE") == await by_form(platform, path="/nowhere")


async def test_a_platform_that_is_not_there_is_asked_later(tmp_path: Path) -> None:
    with PlatformSimulator(tmp_path) as stopped:
        pass
    assert Later("CONNECTION_FAILED") == await by_form(stopped)


async def test_the_same_key_is_the_same_submission(platform: PlatformSimulator) -> None:
    first, again, other = await by_form(platform), await by_form(platform), await by_form(platform, uuid7())
    assert first == again
    assert first != other
    assert 2 == len(platform.mailroom.forms)


def test_a_restarted_platform_remembers(tmp_path: Path) -> None:
    with PlatformSimulator(tmp_path) as before:
        reference = before.mailroom.take_form("x", "key", {})
    with PlatformSimulator(tmp_path) as after:
        assert reference == after.mailroom.take_form("x", "key", {})


@pytest.mark.parametrize(
    ("lie", "answer"),
    [
        ("", Accepted("COMMUNITY-0001")),
        ("450", Later("SMTP_450")),
        ("550", Refused("SMTP_550")),
        ("lost_answer", Unknown("NO_REPLY_TO_DATA")),
    ],
)
async def test_answers_of_a_mail_server(platform: PlatformSimulator, lie: str, answer: Answer) -> None:
    platform.mailroom.tell("community", *[lie] if lie else [])
    assert answer == await by_mail(platform, "community@simulator.invalid")


async def test_a_relays_word_is_not_the_platforms(platform: PlatformSimulator) -> None:
    assert Sent() == await by_mail(platform, "community@simulator.invalid", final_hop=False)


async def test_a_mail_arrives_whole_and_says_who_sent_it(platform: PlatformSimulator) -> None:
    await by_mail(platform, "community@simulator.invalid")
    [mail] = platform.mailroom.mails
    expected = filing("community")
    assert ("<key-1@jikimi.invalid>", expected.subject) == (mail["message_id"], mail["subject"])
    assert expected.body.strip() == mail["body"].strip()


async def test_a_mail_server_that_is_not_there(platform: PlatformSimulator) -> None:
    policy = POLICIES.get("telegram")
    assert policy is not None
    server = MailServer("127.0.0.1", platform.smtp_port, True, "removal@jikimi.invalid")
    nobody = replace(server, port=1)
    answer = await Mail(nobody, CLOCK).send(policy, "a@simulator.invalid", filing("telegram"), "k")
    assert Later("CONNECTION_FAILED") == answer


async def test_the_fetcher_sees_what_the_judgement_needs() -> None:
    shipped = read_fetch_rules()
    rules = load_rules().following.sight

    async def here(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with Pages() as pages:
        address = f"http://www.example.com:{pages.port}/board?no=1"
        local = replace(
            shipped,
            also_public=(ipaddress.ip_network("127.0.0.0/8"),),
            ports=frozenset({pages.port}),
            budget=replace(shipped.budget, min_interval_ms=0),
        )
        found = {}
        async with Fetcher(local, resolver=here) as fetcher:
            watcher = FetchingWatcher(fetcher)
            before = baseline_of(await watcher.look(address), rules)
            for state in ("there", "gone", "dead", "login", "wall", "soft", "changed", "broken"):
                pages.tell(address, state)
                found[state] = judge(await watcher.look(address), before, rules).finding
    assert {
        "there": Finding.PRESENT,
        "gone": Finding.GONE,
        "dead": Finding.GONE,
        "login": Finding.UNSEEN,
        "wall": Finding.UNSEEN,
        "soft": Finding.LOOKS_GONE,
        "changed": Finding.LOOKS_GONE,
        "broken": Finding.LATER,
    } == found
