"""How is a system put under load? Signals over the real door, matches through the detector's outbox."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import signal as signals
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import betterproto
import grpc
import grpc.aio
from sqlalchemy.engine import make_url

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import signal_service_pb2 as api
from misuse.detector.v1.events_pb2 import MatchFacts, SignalMatched
from misuse.log.v1.record_pb2 import FaceMatchDecisionLog, LogRecord, MatchDecisionLog
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import pepper
from services.chassis.outbox import Outbox
from services.console.demo.corpus import FOREIGN_POSTS, NEUTRAL_POSTS, Corpus
from services.console.embedded import Postgres
from tests.scenario.doors import COLLECTOR, SERVICE, signal
from tests.scenario.system import LARGEST_MESSAGE, System

IN_FLIGHT = 256
PARTITIONS = 4
CONSUMERS = ("case", "removal", "notify", "gate")
SIGHTINGS = "SELECT count(*) FROM sighting"
LOGGED = "SELECT count(*) FROM log_entry"


class Counting:
    """A connection that counts rows, without a process for each look."""

    def __init__(self, system: System, service: str) -> None:
        self._url = make_url(Postgres(system.home).url(service))

    async def __aenter__(self) -> Counting:
        url = self._url
        self._connection = await asyncpg.connect(
            host=url.host, port=url.port, user=url.username, password=url.password, database=url.database
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._connection.close()

    async def until(self, query: str, good: Callable[[int], bool], seconds: float = 300.0) -> int:
        """Asks until the number is good. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not good(found := int(await self._connection.fetchval(query))):
                await asyncio.sleep(0.05)
        return found


def pictures_of(corpus: Corpus, times: int) -> list[bytes]:
    """The corpus' readable pictures of nobody enrolled, each so many times, and one in fifty of somebody enrolled, as
    among the texts: far more than the web would show."""
    known, others = list[bytes](), list[bytes]()
    for item in corpus.items:
        if item.refusal or item.duplicate or "truncated" in item.what:
            continue
        parts = [betterproto.which_one_of(part, "content") for part in item.signal.parts]
        pictures = [content for name, content in parts if name == "image" and isinstance(content, bytes)]
        (known if item.faces else others).extend(pictures)
    return [*others * times, *known[: len(others) * times // 49]]


def posts(count: int, mine: str) -> Iterator[str]:
    """Texts, no two alike: two in five name numbers or addresses of nobody, one in fifty names `mine`."""
    for number in range(count):
        if number % 50 == 49:
            yield f"[{number}] 연락처 {mine} 입니다, 퍼가지 마세요"
        elif number % 5 < 2:
            yield f"[{number}] " + FOREIGN_POSTS[number % len(FOREIGN_POSTS)].format(n=number % 10_000)
        else:
            yield f"[{number}] " + NEUTRAL_POSTS[number % len(NEUTRAL_POSTS)]


async def submit(system: System, posted: Sequence[api.Signal]) -> None:
    """Sends signals over one stream and waits until all are decided. Raises AssertionError for a refusal."""
    now = datetime.now(UTC)
    bodies = []
    for each in posted:
        each.discover_time.FromDatetime(now)
        bodies.append(api.SubmitSignalsRequest(signal=each).SerializeToString())
    address = f"127.0.0.1:{system.home.ports()['detector']}"
    options = [("grpc.max_send_message_length", LARGEST_MESSAGE), ("grpc.enable_http_proxy", 0)]
    window = asyncio.Semaphore(IN_FLIGHT)

    async def requests() -> AsyncIterator[bytes]:
        for body in bodies:
            await window.acquire()
            yield body

    credentials = (("authorization", f"Bearer {system.token(COLLECTOR, 'detector')}"),)
    async with Counting(system, "detector") as spool, grpc.aio.insecure_channel(address, options) as channel:
        call: Any = channel.stream_stream(f"{SERVICE}/SubmitSignals")
        async for raw in call(requests(), metadata=credentials):
            window.release()
            answer = api.SubmitSignalsResponse.FromString(raw)
            assert not answer.refusal.reason, answer.refusal.reason
        await spool.until("SELECT count(*) FROM spool", lambda left: left == 0)


def picture_signals(pictures: Sequence[bytes]) -> list[api.Signal]:
    """Each picture as a post of its own."""
    return [signal(f"bench-{secrets.token_hex(12)}", image=data) for data in pictures]


def text_signals(count: int, mine: str) -> list[api.Signal]:
    """Posts of text alone."""
    return [signal(f"bench-{secrets.token_hex(12)}", text=text) for text in posts(count, mine)]


async def matches(system: System, subscribers: Sequence[str], count: int, reposts: float) -> None:
    """Writes so many matches into the detector's outbox and waits until `case` has a sighting of each."""
    rows = _matches(subscribers, count, reposts)
    async with Counting(system, "case") as sightings:
        before = await sightings.until(SIGHTINGS, lambda _: True)
        await _write(system, rows)
        await sightings.until(SIGHTINGS, lambda found: found >= before + count)


async def logged(system: System, entries: int) -> None:
    """Waits until the case log has so many entries."""
    async with Counting(system, "case") as log:
        await log.until(LOGGED, lambda found: found >= entries)


async def log_length(system: System) -> int:
    """Entries of the case log."""
    async with Counting(system, "case") as log:
        return await log.until(LOGGED, lambda _: True)


async def waiting_matches(system: System, subscribers: Sequence[str], count: int, reposts: float) -> Callable[[], Any]:
    """Writes matches while all consumers stand still, waits until the broker has them; the call returned lets `case`
    alone go on and waits until it has a sighting of each."""
    async with Counting(system, "case") as sightings:
        before = await sightings.until(SIGHTINGS, lambda _: True)
    _signal(system, signals.SIGSTOP, CONSUMERS)
    await _write(system, _matches(subscribers, count, reposts))
    async with Counting(system, "detector") as outbox:
        await outbox.until("SELECT count(*) FROM outbox WHERE position IS NULL", lambda left: left == 0)
        await outbox.until("SELECT sum(position - published) FROM outbox_head", lambda left: left == 0)

    async def go() -> None:
        async with Counting(system, "case") as sightings:
            _signal(system, signals.SIGCONT, ("case",))
            await sightings.until(SIGHTINGS, lambda found: found >= before + count)

    return go


def go_on(system: System) -> None:
    """Ends the standing still."""
    _signal(system, signals.SIGCONT, CONSUMERS)


def _signal(system: System, number: signals.Signals, programs: Sequence[str]) -> None:
    children = system.status()["children"]
    for program in programs:
        os.kill(children[program]["pid"], number)


def _matches(subscribers: Sequence[str], count: int, reposts: float) -> list[tuple[str, SignalMatched, LogRecord]]:
    """Matches of the subscribers in turn; a share of them joins a cluster that was seen before."""
    clusters: dict[str, list[str]] = {subscriber: [] for subscriber in subscribers}
    owed = 0.0
    rows = []
    for subscriber in itertools.islice(itertools.cycle(subscribers), count):
        owed += 1 - reposts
        known = clusters[subscriber]
        if owed >= 1 or not known:
            owed -= 1
            known.append(uuid7())
        rows.append(_match(subscriber, secrets.choice(known)))
    return rows


async def _write(system: System, rows: Sequence[tuple[str, SignalMatched, LogRecord]]) -> None:
    """In transactions of 500, as the detector's decisions would be."""
    database = Database(Postgres(system.home).url("detector"))
    outbox = Outbox("detector", PARTITIONS, pepper(system.home.keys("detector"), "outbox"))
    for at in range(0, len(rows), 500):
        async with database.begin() as session:
            for subscriber, matched, record in rows[at : at + 500]:
                outbox.event(session, subscriber, matched)
                outbox.record(session, subscriber, record)
    await database.close()


def _match(subscriber: str, cluster: str) -> tuple[str, SignalMatched, LogRecord]:
    decision, moment = uuid7(), datetime.now(UTC)
    facts = MatchFacts(
        decision_id=decision,
        subscriber_id=subscriber,
        signal_ref=secrets.token_bytes(32),
        kind=common.MATCH_KIND_FACE,
        channel="community",
        channel_group="community",
        source_type=common.SOURCE_TYPE_SNS,
        platform="community",
        cluster_id=cluster,
        cluster_rule="PDQ",
        cluster_rule_version="bench",
        post_ref=secrets.token_bytes(32),
        url_ref=secrets.token_bytes(32),
        template_id=uuid7(),
        rule_version="bench",
    )
    facts.discover_time.FromDatetime(moment)
    facts.decide_time.FromDatetime(moment)
    body = MatchDecisionLog(
        signal_ref=facts.signal_ref,
        band=common.BAND_MATCH,
        kind=common.MATCH_KIND_FACE,
        channel="community",
        channel_group="community",
        rule_version="bench",
        face_match_decision_log=FaceMatchDecisionLog(),
    )
    body.discover_time.FromDatetime(moment)
    body.decide_time.FromDatetime(moment)
    record = LogRecord(
        decision_id=decision, entity="decision", entity_id=decision, entity_version=1, match_decision_log=body
    )
    record.occur_time.FromDatetime(moment)
    return subscriber, SignalMatched(facts=facts), record
