"""How fast are lists, search and counts at 100,000 cases, and does opening one cost more than at 1,000?

Calls go through gRPC on the loopback, one at a time, with a server in this process and a PostgreSQL of its own. Cases,
sightings and keys are multiplied inside of the database, the words of each text are drawn by Zipf's law; what is
measured is the service's own code.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from misuse.case.v1 import case_service_pb2 as pb
from misuse.case.v1 import case_service_pb2_grpc
from misuse.case.v1.case_pb2 import CASE_PRIORITY_URGENT, CASE_STATE_OPEN, CASE_STATE_RESOLVED
from misuse.common.v1.access_pb2 import PURPOSE_CASE_HANDLING, ROLE_OPERATOR
from misuse.common.v1.signal_pb2 import CASE_KIND_PII, CASE_KIND_REDACTION
from services.case.__main__ import MIGRATIONS, CaseService, wire
from services.case.adapters import tables
from services.case.adapters.rules import load_rules
from services.case.adapters.search import Tags
from services.case.domain.cases import Case
from services.case.domain.incidents import Book, Facts, Key, Span
from services.case.domain.people import Profile, Subscriber
from services.case.domain.search import search_words
from services.case.domain.words import CaseKind, CaseState, KeyKind, PriorityReason, Resolution, SubscriberState
from services.case.handlers import intake
from services.case.ports import Sighting
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair
from services.console.embedded import Postgres
from services.console.home import Home
from tests.bench.gallery import Result, Say

FEW, MANY = 1_000, 100_000
EACH = 50
"""Cases of a subscriber."""
CALLS = 200
TARGET_MS, TARGET_RATIO = 100.0, 1.2
OPENINGS, BATCH = 100, 25
"""Transactions that open cases, and facts in each."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SPAN = timedelta(days=365)
GROUPS = ("NAVER", "KAKAO_DAUM", "GOOGLE", "YOUTUBE", "META", "X", "TIKTOK", "TELEGRAM", "FORUM_KR", "LEAKS")
WORDS, WORDS_EACH = 50_000, 30


def measure(runs: int, say: Say) -> list[Result]:
    """Every figure."""
    return asyncio.run(_measure(runs, say))


async def _measure(runs: int, say: Say) -> list[Result]:
    folder = Path(tempfile.mkdtemp(prefix="jikimi-bench-"))
    folder.chmod(0o711)
    server = Postgres(Home(folder / "home"), durable=False)
    server.start()
    try:
        async with _filled(server, folder, "few", FEW, say) as few, _filled(server, folder, "many", MANY, say) as many:
            found = await _reads(many, runs, say)
            return [*found, *await _openings(few, many, runs, say)]
    finally:
        server.destroy()
        shutil.rmtree(folder, ignore_errors=True)


# --- a service with cases ---


@dataclass(frozen=True)
class Filled:
    """The service over a database with cases."""

    service: CaseService
    stub: Any
    issuer: Issuer
    people: Sequence[str]
    cases: Sequence[str]

    @property
    def operator(self) -> Sequence[tuple[str, str]]:
        """Metadata of an operator's call."""
        token = self.issuer.issue("bench", ROLE_OPERATOR, PURPOSE_CASE_HANDLING, "case", 600)
        return [("authorization", f"Bearer {token}")]


@asynccontextmanager
async def _filled(server: Postgres, folder: Path, name: str, count: int, say: Say) -> AsyncIterator[Filled]:
    home = folder / name
    server.sql(f'CREATE DATABASE "{name}" OWNER "case" TEMPLATE template0;')
    await migrate(server.url("case", name), MIGRATIONS)
    config = Config(
        service="case",
        home=home,
        database_url=server.url("case", name),
        keys_dir=home / "keys",
        master_key_file=home / "master.key",
        token_keys_dir=home / "public",
        service_key_file=home / "private" / "case.key",
    )
    home.mkdir(mode=0o700)
    create_master_key(config.master_key_file)
    issuer = create_key_pair(home / "private", config.token_keys_dir, "bench")
    keys = FileKeyStore(config.keys_dir, config.master_key_file)
    database = Database(config.database_url)
    outbox = Outbox("case", config.partitions, pepper(config.keys_dir, "outbox"))
    rules = load_rules()
    service = wire(config, database, outbox, keys, ManualClock(NOW), rules, _NoCaptures(), _NoSigner())
    started = time.monotonic()
    people, cases = await _fill(service, database, Tags(pepper(config.keys_dir, "search")), count)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE"))
    say(f"  {count} cases written in {time.monotonic() - started:.0f} s")
    served, port = build_server(config, service.register)
    await served.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Filled(service, case_service_pb2_grpc.CaseServiceStub(channel), issuer, people, cases)
    await served.stop(None)
    await database.close()


class _NoCaptures:
    async def fetch(self, decision_id: str, purpose: Any) -> bytes | None:
        return None

    async def release(self, decision_ids: Collection[str], purpose: Any) -> None:
        return None


class _NoSigner:
    key_id = "bench"

    def sign(self, content: bytes) -> bytes:
        return b""


async def _fill(service: CaseService, database: Database, tags: Tags, count: int) -> tuple[list[str], list[str]]:
    """Writes cases spread over a year, each with one sighting, one key and the tags of one text: FEW of them by the
    service's own code, the others as copies with ids, times and texts of their own."""
    pick = random.Random(count)
    people = [uuid7() for _ in range(FEW // EACH)]
    made = [_case(pick, pick.choice(people), NOW - SPAN + SPAN * n / FEW) for n in range(FEW)]
    async with service.units() as unit:
        for person in people:
            await unit.subscribers.add(
                Subscriber(person, SubscriberState.ACTIVE, "ko", False, NOW - SPAN), Profile("Bench", "", "")
            )
        sightings = [_sighting(case) for case in made]
        await unit.cases.save([_book(case, service) for case in made], made, [], sightings, [], {}, "bench", NOW)
        await unit.search.mark_complete()
    async with database.engine.connect() as connection:
        for table, columns in _COPIED.items():
            await connection.execute(_copy(table, columns), {"times": count // FEW - 1})
        await _write_tags(connection, tags, pick)
        subscribers = (await connection.scalars(text("SELECT subscriber_id FROM subscriber"))).all()
        await connection.commit()
    return list(subscribers), [case.case_id for case in made]


_OWN_ID = "left({name}, 24) || lpad(to_hex(n), 12, '0')"
"""The first two thirds of a UUIDv7 tell a thousand apart; the rest is the number of the copy."""
_LATER = "{name} + n * interval '5 minutes'"
_COPIED = {
    "subscriber": {"subscriber_id": _OWN_ID},
    "case": {
        "case_id": _OWN_ID,
        "root_case_id": _OWN_ID,
        "subscriber_id": _OWN_ID,
        "create_time": _LATER,
        "discover_time": _LATER,
        "deadline_time": _LATER,
    },
    "sighting": {"sighting_id": _OWN_ID, "decision_id": _OWN_ID, "case_id": _OWN_ID, "subscriber_id": _OWN_ID},
    "incident_key": {"case_id": _OWN_ID, "subscriber_id": _OWN_ID, "key_value": _OWN_ID},
}
"""Table → column → what a copy has in it."""


def _copy(table: str, changed: Mapping[str, str]) -> TextClause:
    names = [column.name for column in tables.Base.metadata.tables[table].columns if column.identity is None]
    values = [changed.get(name, "{name}").format(name=f'"{name}"') for name in names]
    quoted = ", ".join(f'"{name}"' for name in names)
    return text(
        f'INSERT INTO "{table}" ({quoted}) SELECT {", ".join(values)} FROM "{table}", generate_series(1, :times) n'
    )


async def _write_tags(connection: AsyncConnection, tags: Tags, pick: random.Random) -> None:
    known = [tags.of(search_words(f"word{n}", 1))[0] for n in range(WORDS + 1)]
    rows = (await connection.execute(text("SELECT decision_id, case_id, subscriber_id FROM sighting"))).all()
    raw: Any = (await connection.get_raw_connection()).driver_connection
    await raw.copy_records_to_table(
        "search_text",
        columns=["decision_id", "case_id", "subscriber_id", "tags"],
        records=[(*row, sorted({known[_word(pick.random())] for _ in range(WORDS_EACH)})) for row in rows],
    )


def _case(pick: random.Random, person: str, moment: datetime) -> Case:
    state = pick.choices(
        (CaseState.OPEN, CaseState.ACTION_STARTED, CaseState.WAITING_PLATFORM, CaseState.RESOLVED, CaseState.CLOSED),
        (2, 3, 5, 2, 88),
    )[0]
    groups = pick.sample(GROUPS, k=pick.choice((1, 1, 1, 2)))
    return Case(
        case_id=uuid7(),
        subscriber_id=person,
        kinds=[pick.choice((CaseKind.FACE, CaseKind.PII))],
        discover_time=moment - timedelta(seconds=pick.randrange(60)),
        create_time=moment,
        update_time=moment,
        latency_ms=2000,
        state=state,
        resolution=Resolution.REMOVED if state in (CaseState.RESOLVED, CaseState.CLOSED) else Resolution.UNSPECIFIED,
        channel_groups=groups,
        sighting_count=1,
        reasons=pick.choices(list(PriorityReason), k=pick.choice((0, 0, 0, 1, 2))),
        close_time=moment + timedelta(days=9) if state is CaseState.CLOSED else None,
    )


def _sighting(case: Case) -> Sighting:
    return Sighting(
        sighting_id=uuid7(),
        decision_id=uuid7(),
        case_id=case.case_id,
        subscriber_id=case.subscriber_id,
        kind=case.kinds[0],
        channel="bench",
        channel_group=case.channel_groups[0],
        platform="",
        discover_time=case.discover_time,
        create_time=case.create_time,
        rule="OPENED",
    )


def _book(case: Case, service: CaseService) -> Book:
    book = Book(case.subscriber_id, service.needs.rules.incident)
    key = Key(KeyKind.CLUSTER, uuid7())
    book.add_span(Span(key, case.case_id, case.discover_time, case.discover_time, changed=True))
    return book


def _word(share: float) -> int:
    """A number of a word by Zipf's law: the n-th has 1/n of the frequency of the first."""
    return int(math.exp(share * math.log(WORDS)))


# --- what is measured ---


def _reads_of(many: Filled, pick: random.Random) -> dict[str, Callable[[], Awaitable[Any]]]:
    def listed(**wanted: Any) -> Awaitable[Any]:
        answer: Awaitable[Any] = many.stub.ListCases(pb.ListCasesRequest(**wanted), metadata=many.operator)
        return answer

    def stamp(days: int) -> Timestamp:
        value = Timestamp()
        value.FromDatetime(NOW - timedelta(days=days))
        return value

    lists: list[Callable[[], dict[str, Any]]] = [
        lambda: {},
        lambda: {"subscriber_id": pick.choice(many.people)},
        lambda: {"states": [CASE_STATE_OPEN]},
        lambda: {"states": [CASE_STATE_OPEN, CASE_STATE_RESOLVED], "kind": CASE_KIND_PII},
        lambda: {"channel_group": pick.choice(GROUPS)},
        lambda: {"priorities": [CASE_PRIORITY_URGENT], "order": pb.CASE_ORDER_PRIORITY},
        lambda: {"order": pb.CASE_ORDER_DEADLINE},
        lambda: {"deadline_before": stamp(0), "order": pb.CASE_ORDER_DEADLINE},
        lambda: {"create_from": stamp(200), "create_until": stamp(pick.randrange(190, 200))},
        lambda: {"create_until": stamp(pick.randrange(300, 360)), "states": [CASE_STATE_OPEN]},
        lambda: {"channel_group": "NOWHERE"},
        lambda: {"kind": CASE_KIND_REDACTION},
    ]
    words: list[Callable[[], dict[str, Any]]] = [
        lambda: {"text": f"word{pick.randrange(WORDS)}"},
        lambda: {"text": f"word{pick.randrange(100)}"},
        lambda: {"text": "word1"},
        lambda: {"text": f"word1 word{pick.randrange(2, 50)}"},
        lambda: {"text": f"word{pick.randrange(20)}", "subscriber_id": pick.choice(many.people)},
        lambda: {"text": f"word{pick.randrange(2, 20)}", "states": [CASE_STATE_OPEN]},
    ]
    return {
        "ListCases": lambda: listed(**pick.choice(lists)()),
        "ListCases with text": lambda: listed(**pick.choice(words)()),
        "GetCaseStatistics": lambda: many.stub.GetCaseStatistics(pb.GetCaseStatisticsRequest(), metadata=many.operator),
        "ListCases, each further page": _pager(many),
    }


def _pager(many: Filled) -> Callable[[], Awaitable[Any]]:
    token = ""

    async def turn() -> None:
        nonlocal token
        request = pb.ListCasesRequest(page_size=200, page_token=token)
        token = (await many.stub.ListCases(request, metadata=many.operator)).next_page_token

    return turn


async def _reads(many: Filled, runs: int, say: Say) -> list[Result]:
    found = []
    for name, call in _reads_of(many, random.Random(1)).items():
        sample = f"{CALLS} calls of each kind by turns, {MANY} cases"
        result = Result(f"{name}, P95", " ms", sample, target=TARGET_MS, at_most=True)
        for _ in range(runs):
            took, worked = [], time.process_time()
            for _ in range(CALLS):
                started = time.monotonic()
                await call()
                took.append(1000 * (time.monotonic() - started))
            result.note(_p95(took), say)
            own = 1000 * (time.process_time() - worked) / CALLS
            say(
                f"    median {statistics.median(took):.3g} ms, longest {max(took):.3g} ms; "
                f"of a processor {own:.3g} ms a call, client and server without the database"
            )
        found.append(result)
    return found


async def _openings(few: Filled, many: Filled, runs: int, say: Say) -> list[Result]:
    """By turns, so that both meet the same neighbours."""
    sample = f"{OPENINGS} transactions of {BATCH} new cases at {FEW} and at {MANY} by turns"
    cost = Result("opening a case, median", " ms", sample)
    ratio = Result(f"opening at {MANY} ÷ at {FEW}, medians", "", sample, target=TARGET_RATIO, at_most=True)
    late = Result(f"opening at {MANY} ÷ at {FEW}, P95", "", sample, target=TARGET_RATIO, at_most=True)
    for run in range(runs + 1):
        took: dict[str, list[float]] = {"few": [], "many": []}
        for _ in range(OPENINGS):
            took["few"].append(await _open(few))
            took["many"].append(await _open(many))
        small, large = (statistics.median(took[name]) for name in ("few", "many"))
        if run:
            # The first run warms both up.
            cost.note(large / BATCH, say)
            ratio.note(large / small, say)
            late.note(_p95(took["many"]) / _p95(took["few"]), say)
    return [cost, ratio, late]


def _p95(took: Sequence[float]) -> float:
    return sorted(took)[math.ceil(0.95 * len(took)) - 1]


async def _open(filled: Filled) -> float:
    """Milliseconds of one transaction."""
    facts = [_facts(random.choice(filled.people)) for _ in range(BATCH)]
    started = time.monotonic()
    async with filled.service.units() as unit:
        await intake.take_in(unit, facts, filled.service.needs.rules, NOW)
    return 1000 * (time.monotonic() - started)


def _facts(person: str) -> Facts:
    return Facts(
        decision_id=uuid7(),
        subscriber_id=person,
        signal_ref=b"r" * 32,
        kind=CaseKind.FACE,
        channel="bench",
        channel_group=random.choice(GROUPS),
        platform="meta",
        discover_time=NOW,
        keys=(Key(KeyKind.CLUSTER, uuid7()), Key(KeyKind.POST, uuid7())),
    )
