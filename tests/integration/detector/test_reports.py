"""Does a subscriber's report become a signal by the policy alone, and is a scan asked for within its bounds?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
from sqlalchemy import text

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import channel_service_pb2 as channels
from misuse.detector.v1 import events_pb2 as events
from services.chassis.due import DUE
from services.chassis.fetch import Decision, Fetched, Fetcher, Verdict, read_fetch_rules
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.detector.adapters.pages import PublicPages, page_of
from services.detector.handlers.scanning import SCAN_ENDS
from services.detector.handlers.sightings import LOOK_AT_REPORT
from services.detector.ports import Page

MOBILE = "010-0000-4826"
ADDRESS = "https://board.example.com/posts/7"
SEEN = Page("ALLOW", "FETCHED", "1", 200, text=f"연락처 {MOBILE} 입니다", title="게시글")


@contextmanager
def refused(reason: str) -> Iterator[None]:
    try:
        yield
    except grpc.aio.AioRpcError as error:
        assert reason == unwrap(error).reason
    else:
        raise AssertionError("the call was not refused")


@dataclass
class Web:
    """Answers in turn; the last one stays."""

    rules: PublicPages
    answers: list[Page]
    asked: list[str] = field(default_factory=list)

    def refusal(self, address: str) -> str:
        return self.rules.refusal(address)

    async def look(self, address: str) -> Page:
        self.asked.append(address)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def show(world: Any, *answers: Page) -> Web:
    """Lets the detector see these answers."""
    web = Web(PublicPages(read_fetch_rules(), None), list(answers))
    world.detector = replace(world.detector, sightings=replace(world.detector.sightings, pages=web))
    return web


async def report(world: Any, who: str, url: str = ADDRESS, **values: Any) -> Any:
    """What the served detector answers to a report."""
    request = channels.ReportUserSightingRequest(
        **{"subscriber_id": who, "request_id": uuid7(), "source_url": url} | values
    )
    caller = world.metadata("SUBSCRIBER", "PROTECTION", who)
    return await world.channels.ReportUserSighting(request, metadata=caller)


async def work(world: Any, kind: str) -> list[str]:
    """Does what is due of a kind; returns what is still scheduled, earliest first."""
    handlers = {**world.detector.due_handlers(), **world.detector.looking()}
    async with world.database.begin() as session:
        due = (DUE.c.kind == kind) & (DUE.c.due_time <= world.clock.now())
        rows = (await session.execute(DUE.select().where(due))).all()
        await session.execute(DUE.delete().where(due))
    for row in rows:
        await handlers[kind](row)
    async with world.database.begin() as session:
        left = await session.execute(DUE.select().where(DUE.c.kind == kind).order_by(DUE.c.due_time))
        return [row.due_time for row in left]


async def became(world: Any, who: str, request_id: str, url: str = ADDRESS, **values: Any) -> tuple[str, str, str]:
    """(state, reason, next step) by repeating the call."""
    again = await report(world, who, url, request_id=request_id, **values)
    return again.state, again.reason, again.next_step


async def test_what_stands_at_a_reported_address_is_decided_as_every_signal(world):
    who = await world.register()
    await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, MOBILE)
    web = show(world, SEEN)
    first = await report(world, who, request_id="r1", note="여기서 봤어요")
    assert ("RECEIVED", "LOOKED_AT_SOON") == (first.state, first.next_step)
    assert 0 == await world.count("sighting_report WHERE sealed LIKE '%board.example%'")
    await work(world, LOOK_AT_REPORT)
    assert [ADDRESS] == web.asked
    assert 1 == await world.decide()
    [facts] = await world.facts()
    assert (who, common.SOURCE_TYPE_USER, "overseas") == (facts.subscriber_id, facts.source_type, facts.channel)
    assert ("SUBMITTED", "FETCHED", "DECIDED_SOON") == await became(world, who, "r1", note="여기서 봤어요")
    actions = [each.action for each in await world.records("sighting_report_log")]
    assert ["RECEIVED", "SUBMITTED"] == actions
    assert 0 == await world.count("sighting_report WHERE length(sealed) > 0")


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("ftp://board.example.com/", "URL_SCHEME"),
        ("https://user@board.example.com/", "URL_USERINFO"),
        ("https://board.example.com:8443/", "URL_PORT"),
        ("http://127.0.0.1/", "ADDRESS_NOT_PUBLIC"),
        ("http://[::1]/", "ADDRESS_NOT_PUBLIC"),
        ("http://169.254.169.254/latest/meta-data", "ADDRESS_NOT_PUBLIC"),
        ("http://2130706433/", "ADDRESS_NOT_PUBLIC"),
        ("http://0x7f.1/", "ADDRESS_NOT_PUBLIC"),
        ("http://postgres/", "ADDRESS_NOT_PUBLIC"),
        ("http://db.internal/", "ADDRESS_NOT_PUBLIC"),
        ("https://board.example.com/" + "a" * 2048, "URL_TOO_LONG"),
        ("", "URL_SCHEME"),
    ],
)
async def test_an_address_that_leads_inside_is_refused_and_nothing_is_kept(world, url, rule):
    who = await world.register()
    with refused(rule):
        await report(world, who, url)
    assert 0 == await world.count("sighting_report")


async def test_the_fetcher_itself_goes_nowhere_inside(world):
    rules = read_fetch_rules()

    async def inside(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    async with Fetcher(rules, resolver=inside) as fetcher:
        page = await PublicPages(rules, fetcher).look("https://board.example.com/")
    assert ("ALLOW", "") != (page.verdict, page.text)
    assert "" == page.text
    assert "ALLOW" != page.verdict


async def test_where_the_policy_refuses_the_subscribers_words_go_on_and_nothing_is_fetched_again(world):
    who = await world.register()
    await world.watched(who, common.IDENTIFIER_KIND_MOBILE_PHONE, MOBILE)
    web = show(world, Page("REFUSE", "WALL_LOGIN", "1", 200))
    note = f"제 번호 {MOBILE}이 올라와 있어요"
    await report(world, who, request_id="r1", note=note)
    await work(world, LOOK_AT_REPORT)
    assert ("SUBMITTED", "WALL_LOGIN", "DECIDED_SOON") == await became(world, who, "r1", note=note)
    assert 1 == await world.decide()
    assert [who] == [facts.subscriber_id for facts in await world.facts()]
    await report(world, who, request_id="r2")
    await work(world, LOOK_AT_REPORT)
    assert ("NOT_LOOKED_AT", "WALL_LOGIN", "SHOW_US") == await became(world, who, "r2")
    assert (2, 0) == (len(web.asked), await world.decide())


async def test_nothing_is_looked_at_for_somebody_whose_processing_was_stopped_meanwhile(world):
    who = await world.register()
    web = show(world, SEEN)
    await report(world, who, request_id="r1")
    await world.follow(lambda stop: world.detector.following.suspended(stop, who))
    await work(world, LOOK_AT_REPORT)
    [_, told] = await world.records("sighting_report_log")
    assert ("NOT_LOOKED_AT", "SUBSCRIBER_SUSPENDED") == (told.action, told.reason)
    assert ([], 0) == (web.asked, await world.decide())


async def test_without_a_way_out_only_words_are_looked_at(world):
    who = await world.register()
    await report(world, who, request_id="r1")
    await work(world, LOOK_AT_REPORT)
    assert ("NOT_LOOKED_AT", "LOOKING_IS_OFF", "SHOW_US") == await became(world, who, "r1")


async def test_a_host_that_says_later_is_asked_again_with_growing_pauses_and_not_for_ever(world):
    who = await world.register()
    web = show(world, Page("DEFER", "HOST_BUSY", "1", 503, retry_after_ms=60_000))
    await report(world, who, request_id="r1")
    pauses = []
    for _ in range(world.detector.sightings.rules.looks):
        [due] = await work(world, LOOK_AT_REPORT)
        pauses.append((due - world.clock.now()) / timedelta(minutes=1))
        if len(pauses) < world.detector.sightings.rules.looks:
            world.clock.advance(due - world.clock.now())
    assert [10.0, 20.0, 40.0, 80.0, 7 * 24 * 60.0] == pauses
    assert ("NOT_LOOKED_AT", "HOST_BUSY", "SHOW_US") == await became(world, who, "r1")
    assert 5 == len(web.asked)
    world.clock.advance(timedelta(days=7))
    assert [] == await work(world, LOOK_AT_REPORT)
    assert 0 == await world.count("sighting_report")


async def test_what_is_gone_makes_no_signal(world):
    who = await world.register()
    show(world, Page("ALLOW", "FETCHED", "1", 404, text="없는 글입니다"))
    await report(world, who, request_id="r1", note="여기")
    await work(world, LOOK_AT_REPORT)
    assert ("GONE", "STATUS_404", "NOTHING_MORE") == await became(world, who, "r1", note="여기")
    assert 0 == await world.decide()


async def test_a_look_that_is_repeated_after_a_crash_makes_one_signal(world):
    who = await world.register()
    show(world, SEEN, replace(SEEN, text="changed meanwhile"))
    await report(world, who, request_id="r1")
    async with world.detector.store.begin() as opened:
        [row] = (await opened._session.execute(DUE.select().where(DUE.c.kind == LOOK_AT_REPORT))).all()
        report_id = row.entity_id
    sealed = world.detector.sightings
    crashing = replace(sealed, begin=_FailsAt(sealed.begin, 2))
    with pytest.raises(ConnectionError):
        await crashing.look(report_id)
    await sealed.look(report_id)
    assert ("SUBMITTED", "FETCHED", "DECIDED_SOON") == await became(world, who, "r1")
    assert 1 == await world.decide()


class _FailsAt:
    """Opens transactions until the n-th, which fails as when the database is away."""

    def __init__(self, begin: Any, number: int) -> None:
        self._begin, self._left = begin, number

    def __call__(self) -> Any:
        self._left -= 1
        if not self._left:
            raise ConnectionError("away")
        return self._begin()


async def test_reports_have_bounds_and_belong_to_somebody_who_is_processed(world):
    who = await world.register()
    with refused("NOTE_MALFORMED"):
        await report(world, who, note="x" * 2_001)
    with refused("SUBSCRIBER_UNKNOWN"):
        await report(world, uuid7())
    with refused("NOT_OWN_SUBJECT"):
        request = channels.ReportUserSightingRequest(subscriber_id=who, request_id="1", source_url=ADDRESS)
        other = world.metadata("SUBSCRIBER", "PROTECTION", uuid7())
        await world.channels.ReportUserSighting(request, metadata=other)
    for _ in range(world.detector.sightings.rules.a_day):
        await report(world, who)
    with refused("TOO_MANY_REPORTS"):
        await report(world, who)
    await world.follow(lambda stop: world.detector.following.suspended(stop, who))
    with refused("SUBSCRIBER_SUSPENDED"):
        await report(world, who)
    await world.follow(lambda gone: world.detector.following.erase(gone, who))
    assert 0 == await world.count("sighting_report")
    await work(world, LOOK_AT_REPORT)


@pytest.mark.parametrize(
    ("url", "channel"),
    [
        ("https://blog.naver.com/a/1", "naver-search"),
        ("https://www.instagram.com/p/1", "meta"),
        ("https://notinstagram.com/p/1", "overseas"),
        ("https://www.board.co.kr/1", "community"),
    ],
)
def test_an_address_belongs_to_the_channel_of_its_host(heavy, url, channel):
    host = url.split("/")[2]
    assert channel == heavy.rules.reports.channel_of(host)


def test_a_page_is_read_as_its_words_and_old_korean_pages_too() -> None:
    html = "<title>게시판</title><script>var a=1</script><p>전화 010</p><img alt='얼굴 사진'>"
    allowed = Decision(Verdict.ALLOW, "FETCHED", "1")
    for encoding in ("utf-8", "cp949"):
        page = page_of(Fetched(allowed, ADDRESS, 200, "text/html", html.encode(encoding)))
        assert ("게시판", "전화 010\n얼굴 사진") == (page.title, page.text)
    picture = page_of(Fetched(allowed, ADDRESS, 200, "image/png", b"\x89PNG"))
    assert (b"\x89PNG", "") == (picture.image, picture.text)


# --- scans ---


async def scan(world: Any, most: int = 10, channel: str = "community", **values: Any) -> Any:
    request = channels.ScanChannelRequest(channel=channel, max_signals=most, **values)
    return await world.channels.ScanChannel(request, metadata=world.metadata("OPERATOR", "COLLECTION"))


async def seen(world: Any, channel: str = "community") -> channels.Channel:
    """The channel as its collectors see it."""
    request = channels.GetChannelRequest(channel=channel)
    return (await world.channels.GetChannel(request, metadata=world.collector)).channel


async def test_a_scan_is_seen_by_collectors_and_what_they_bring_is_counted(world):
    asked = await scan(world, request_id="s1")
    assert ("REQUESTED", 0) == (asked.state, asked.accepted)
    assert (asked.scan_id, 10) == ((await seen(world)).scan_id, (await seen(world)).scan_max_signals)
    listed = await world.channels.ListChannels(channels.ListChannelsRequest(), metadata=world.collector)
    assert [asked.scan_id] == [each.scan_id for each in listed.channels if each.scan_id]
    signal = world.signal("글", scan_id=asked.scan_id)
    await world.submit(signal)
    await world.submit(signal)
    with pytest.raises(grpc.aio.AioRpcError):
        await world.submit(world.signal("글", scan_id=asked.scan_id, source_url="no address"))
    await world.submit(world.signal("글", scan_id=asked.scan_id, channel="overseas"))
    told = await scan(world, request_id="s1")
    assert (asked.scan_id, 1, 1) == (told.scan_id, told.accepted, told.refused)
    assert asked.scan_id == (await scan(world)).scan_id
    world.clock.advance(world.detector.scanning.rules.run)
    await work(world, SCAN_ENDS)
    assert ("ENDED", 1) == ((await scan(world, request_id="s1")).state, (await scan(world, request_id="s1")).accepted)
    assert "" == (await seen(world)).scan_id
    logs = [(each.reason, each.signals, each.refused) for each in await world.records("channel_scan_log")]
    assert [("SCAN_REQUESTED", 0, 0), ("SCAN_ENDED", 1, 1)] == logs
    assert [asked.scan_id] == [each.scan_id for each in await told_of(world)]


async def told_of(world: Any) -> list[Any]:
    async with world.database.begin() as session:
        rows = await session.execute(text("SELECT payload FROM outbox WHERE event = 'channel_scan_requested'"))
        return [events.ChannelScanRequested.FromString(bytes(row[0])) for row in rows]


async def test_a_scan_that_nobody_answers_is_told_as_such(world):
    await scan(world)
    world.clock.advance(world.detector.scanning.rules.run)
    await work(world, SCAN_ENDS)
    assert "SCAN_UNANSWERED" == (await world.records("channel_scan_log"))[-1].reason


async def test_a_scan_keeps_to_pause_level_and_budget(world):
    for most in (0, 1_001):
        with refused("OUT_OF_BOUNDS"):
            await scan(world, most)
    with refused("NO_SUCH_CHANNEL"):
        await scan(world, channel="nowhere")
    operator = world.metadata("OPERATOR", "COLLECTION")
    pause = channels.PauseChannelRequest(channel="community", paused=True, reason="TEST")
    await world.channels.PauseChannel(pause, metadata=operator)
    with refused("CHANNEL_PAUSED"):
        await scan(world)
    for level, reason in (("BLOCKED", "CHANNEL_PAUSED"), ("MANUAL", "CHANNEL_MANUAL")):
        wanted = await seen(world, "x")
        wanted.level = channels.ChannelLevel.Value(f"CHANNEL_LEVEL_{level}")
        request = channels.UpsertChannelRequest(request_id=uuid7(), channel=wanted)
        await world.channels.UpsertChannel(request, metadata=operator)
        with refused(reason):
            await scan(world, channel="x")
    rules = world.detector.scanning.rules
    step = max(rules.run, rules.between)
    for _ in range(rules.scans_a_day):
        await scan(world, channel="youtube")
        world.clock.advance(rules.run)
        await work(world, SCAN_ENDS)
        world.clock.advance(step - rules.run)
    with refused("SCAN_BUDGET_SPENT"):
        await scan(world, channel="youtube")
    await scan(world, channel="telegram-public")
    world.clock.advance(rules.between / 3)
    assert "REQUESTED" == (await scan(world, channel="telegram-public")).state
