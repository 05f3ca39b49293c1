"""How many notifications a second reach how many devices, and is each told once and in order?

One notify service with its PostgreSQL and NATS; the events come as `case` would publish them. A swarm of devices
streams or is woken, shows each notification once and acknowledges in batches. Some devices are away, some tokens are
not valid any more, and the push gateway fails now and then. The swarm shares the machine with the service.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import yaml
from sqlalchemy.engine import make_url

from misuse.case.v1 import case_pb2
from misuse.case.v1 import events_pb2 as case_events
from misuse.common.v1.access_pb2 import (
    PURPOSE_NOTIFICATION,
    PURPOSE_PROTECTION,
    ROLE_APP_BACKEND,
    ROLE_DEVICE,
)
from misuse.common.v1.signal_pb2 import CASE_KIND_FACE
from misuse.notify.v1 import notify_service_pb2 as pb
from misuse.notify.v1 import notify_service_pb2_grpc
from services.chassis.broker import Broker
from services.chassis.database import Database
from services.chassis.ids import uuid7
from services.chassis.keys import pepper
from services.chassis.outbox import Outbox, Relay
from services.chassis.tasks import end
from services.chassis.tokens import Issuer
from services.console.embedded import Nats, Postgres
from services.console.home import Home
from services.console.supervisor import ROOT, make_keys, migrate, service_environment, serving
from services.notify.adapters.rules import read
from tests.bench.machine import Meter
from tests.load import profile as sampling
from tests.simulators.ways import Ways

PARTITIONS = 4
AWAY, INVALID = 10, 2
"""Per cent of the devices that are away, and whose token is not valid any more."""
FAIL_EVERY = 20
"""The push gateway fails once in so many messages."""
BATCH_SECONDS = 0.05
"""A device gathers for so long what it acknowledges together."""
CHANNELS = 8
Say = Callable[[str], object]


@dataclass
class Phone:
    """A simulated device."""

    subscriber_id: str
    kind: str
    """STREAM, PUSH, AWAY, INVALID."""
    shown: list[str] = field(default_factory=list)
    """Ids in the order in which they were shown, each once."""
    repeats: int = 0
    """How often one came again, and was dropped."""
    unsaid: list[str] = field(default_factory=list)
    acknowledged: int = 0

    @property
    def live(self) -> bool:
        """Whether the person has it in hand."""
        return self.kind in ("STREAM", "PUSH")

    def show(self, notification_id: str) -> bool:
        """Shows it unless it was shown; whether there is something new to acknowledge."""
        if notification_id in self.shown:
            self.repeats += 1
            return False
        self.shown.append(notification_id)
        self.unsaid.append(notification_id)
        return True


@dataclass
class Outcome:
    """What came of it."""

    devices: int
    notifications: int
    to_live: int
    acknowledged: int
    """Of those to live devices."""
    repeats_dropped: int
    told_twice: int
    """Shown although the same thing was shown on this device under another id."""
    out_of_order: int
    """Shown after a later one of the same case."""
    invalid_tokens: int
    seconds: float
    rss_mib: tuple[float, float, float]
    """Of the service: with all devices connected, half way, at the end."""
    meter: Meter

    @property
    def rate(self) -> float:
        """Acknowledged by live devices ÷ made for them."""
        return self.acknowledged / self.to_live

    @property
    def per_second(self) -> float:
        """Deliveries acknowledged a second of wall time."""
        return self.acknowledged / self.seconds

    @property
    def per_own_second(self) -> float:
        """The same by processor seconds of service, database and broker: what neighbours do hardly matters."""
        own = sum(self.meter.cores[name] for name in ("notify", "postgres", "nats")) * self.meter.wall_s
        return self.acknowledged / own


@dataclass
class Machine:
    """The servers of one run."""

    home: Home
    ways: Ways
    pid: int
    sampled: bool

    @property
    def issuer(self) -> Issuer:
        """Signs tokens of the swarm."""
        return Issuer.from_file(self.home.path / "tokens" / "private" / "issuer.key")

    @property
    def address(self) -> str:
        """Of the service."""
        return f"127.0.0.1:{self.home.ports()['notify']}"

    def programs(self) -> Mapping[str, int]:
        """For the meter."""
        return {"notify": self.pid, "postgres": Postgres(self.home).pid() or 0, "nats": Nats(self.home).pid() or 0}

    def rss_mib(self) -> float:
        """Memory of the service."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024, 1)


@contextmanager
def machine(profile: Path | None = None) -> Iterator[Machine]:
    """PostgreSQL, NATS, the ways out and a notify service, in a folder of their own; with `profile` samples of what it
    spends its processor time on go there."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-notices-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    postgres, nats = Postgres(home), Nats(home)
    with Ways(fail_every=FAIL_EVERY, gone=lambda token: token.startswith("INVALID"), keep=False) as ways:
        process = None
        try:
            postgres.start()
            nats.start()
            make_keys(home)
            migrate(home, ["case", "notify"])
            process = _service(home, folder, ways, profile)
            yield Machine(home, ways, process.pid, profile is not None)
        finally:
            if process is not None:
                process.terminate()
                process.wait(30)
            nats.stop()
            postgres.destroy()
            shutil.rmtree(folder, ignore_errors=True)


def _service(home: Home, folder: Path, ways: Ways, profile: Path | None) -> subprocess.Popen[bytes]:
    rules = folder / "rules" / "notify"
    rules.mkdir(parents=True)
    data = read(None, "delivery.yaml")
    # As in production, but every notice by itself.
    data["test"] = data["production"] | {"at_once": 10_000}
    (rules / "delivery.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    environment = service_environment(home, "notify") | {
        "JIKIMI_PROFILE": "test",
        "JIKIMI_RULES_DIR": str(rules.parent),
        "JIKIMI_NOTIFY_PUSH_HOOK": ways.push_hook,
        "JIKIMI_MAX_CONCURRENT_RPCS": "50000",
    }
    if profile:
        environment |= sampling.environment(profile, environment.get("PYTHONPATH", ""))
    with (home.logs / "notify.jsonl").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.notify", "serve"],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    deadline = time.monotonic() + 120
    while not serving(home.ports()["notify"]):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((home.logs / "notify.jsonl").read_text()[-2000:])
        time.sleep(0.2)
    return process


class Swarm:
    """The devices, all in this process."""

    def __init__(self, issuer: Issuer, phones: Sequence[Phone], channels: Sequence[grpc.aio.Channel]) -> None:
        self._issuer = issuer
        self.phones = phones
        self._by_token = {f"{phone.kind}-{phone.subscriber_id}": phone for phone in phones}
        stubs: list[Any] = [notify_service_pb2_grpc.NotifyServiceStub(channel) for channel in channels]
        self._stub_of = {phone.subscriber_id: stubs[n % len(stubs)] for n, phone in enumerate(phones)}
        self._tokens: dict[str, str] = {}
        """Subject → its token: a device keeps it for as long as it lives."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.acknowledged = 0

    async def register(self, at_once: int = 32) -> None:
        """Registers every device, all with a push token."""
        turn = asyncio.Semaphore(at_once)

        async def one(token: str, phone: Phone) -> None:
            async with turn:
                await self._stub_of[phone.subscriber_id].RegisterDevice(
                    pb.RegisterDeviceRequest(
                        subscriber_id=phone.subscriber_id, device_id="phone", os="android", push_token=token
                    ),
                    metadata=self._metadata("bench", ROLE_APP_BACKEND, PURPOSE_PROTECTION, ""),
                )

        await asyncio.gather(*(one(token, phone) for token, phone in self._by_token.items()))

    def connect(self) -> None:
        """Opens the streams of those that stream."""
        for phone in self.phones:
            if phone.kind == "STREAM":
                self._start(self._stream(phone))

    def on_push(self, token: str, payload: bytes) -> None:
        """What a provider carries to a device; called by the gateway's thread."""
        phone = self._by_token[token]
        if phone.live:
            self._loop.call_soon_threadsafe(self._arrived, phone, str(json.loads(payload)["id"]))

    async def close(self) -> None:
        """Switches all devices off."""
        await end(*self._tasks)

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stream(self, phone: Phone) -> None:
        while True:
            metadata = self._metadata(phone.subscriber_id, ROLE_DEVICE, PURPOSE_NOTIFICATION, "phone")
            request = pb.StreamNotificationsRequest(subscriber_id=phone.subscriber_id)
            try:
                async for answer in self._stub_of[phone.subscriber_id].StreamNotifications(request, metadata=metadata):
                    self._arrived(phone, answer.notification.notification_id)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(1.0)

    def _arrived(self, phone: Phone, notification_id: str) -> None:
        waiting = bool(phone.unsaid)
        if phone.show(notification_id) and not waiting:
            self._start(self._acknowledge(phone))

    async def _acknowledge(self, phone: Phone) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        ids, phone.unsaid = phone.unsaid, []
        request = pb.AcknowledgeNotificationsRequest(subscriber_id=phone.subscriber_id, notification_ids=ids)
        metadata = self._metadata(phone.subscriber_id, ROLE_DEVICE, PURPOSE_NOTIFICATION, "phone")
        for _ in range(10):
            try:
                answer = await self._stub_of[phone.subscriber_id].AcknowledgeNotifications(
                    request, metadata=metadata, timeout=60
                )
            except grpc.aio.AioRpcError:
                await asyncio.sleep(1.0)
                continue
            phone.acknowledged += answer.acknowledged
            self.acknowledged += answer.acknowledged
            return

    def _metadata(self, subject: str, role: Any, purpose: Any, device_id: str) -> list[tuple[str, str]]:
        if subject not in self._tokens:
            self._tokens[subject] = self._issuer.issue(subject, role, purpose, "notify", 3_600, device_id)
        return [("authorization", f"Bearer {self._tokens[subject]}")]


def phones_of(devices: int) -> list[Phone]:
    """Devices of every kind in their shares; of the live ones every second streams."""
    kinds = []
    for number in range(devices):
        share = number % 100
        rest = "INVALID" if share < AWAY + INVALID else ("STREAM" if number % 2 else "PUSH")
        kinds.append("AWAY" if share < AWAY else rest)
    return [Phone(uuid7(), kind) for kind in kinds]


def events_of(phones: Sequence[Phone], notices: int) -> Iterator[Any]:
    """So many events, person by person in turn; cases open and close."""
    rounds = -(-notices // len(phones))
    made = 0
    open_cases: dict[str, str] = {}
    for number in range(rounds):
        for phone in phones:
            if made == notices:
                return
            made += 1
            who = phone.subscriber_id
            if number % 2 == 0:
                open_cases[who] = uuid7()
                yield case_events.CaseOpened(
                    case_id=open_cases[who], subscriber_id=who, kind=CASE_KIND_FACE, channel_group="NAVER"
                )
            else:
                yield case_events.CaseClosed(
                    case_id=open_cases[who], subscriber_id=who, resolution=case_pb2.RESOLUTION_REMOVED
                )


@asynccontextmanager
async def case_publisher(home: Home) -> AsyncIterator[Callable[[Sequence[Any]], Any]]:
    """Publishes events as `case` does: through its outbox and relay."""
    database, broker = Database(Postgres(home).url("case")), Broker(Nats(home).url("case"), "case")
    await broker.connect()
    outbox = Outbox("case", PARTITIONS, pepper(home.keys("case"), "outbox"))
    relay = asyncio.create_task(Relay(database, broker, "case", PARTITIONS).run())

    async def publish(events: Sequence[Any]) -> None:
        for at in range(0, len(events), 500):
            async with database.begin() as session:
                for event in events[at : at + 500]:
                    outbox.event(session, event.subscriber_id, event)

    try:
        yield publish
    finally:
        await end(relay)
        await broker.close()
        await database.close()


async def swarm_over(machine: Machine, devices: int, notices: int, patience_s: float, say: Say) -> Outcome:
    """One run: as fast as it goes, until every live device has acknowledged everything or patience ends."""
    phones = phones_of(devices)
    events = list(events_of(phones, notices))
    live = {phone.subscriber_id for phone in phones if phone.live}
    to_live = sum(event.subscriber_id in live for event in events)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(machine.address, options) for _ in range(CHANNELS)]
    swarm = Swarm(machine.issuer, phones, channels)
    machine.ways.on_push = swarm.on_push
    async with case_publisher(machine.home) as publish:
        await swarm.register()
        swarm.connect()
        await asyncio.sleep(min(10.0, 1.0 + devices / 500))
        say(f"{devices} devices are registered")
        memory = [machine.rss_mib()]
        with Meter(machine.programs()) as meter:
            started = time.monotonic()
            if machine.sampled:
                sampling.forget(machine.pid)
            await publish(events)
            say(f"{notices} events are written after {time.monotonic() - started:.1f} s")
            await _until(lambda: swarm.acknowledged > 0, started + patience_s)
            say(f"the first is acknowledged after {time.monotonic() - started:.1f} s")
            await _until(lambda: swarm.acknowledged >= to_live / 2, started + patience_s)
            memory.append(machine.rss_mib())
            await _until(lambda: swarm.acknowledged >= to_live, started + patience_s)
            seconds = time.monotonic() - started
        memory.append(machine.rss_mib())
    told_twice, out_of_order, made = await _compared(machine.home, phones)
    refused = await _refused(machine.home, sum(phone.kind == "INVALID" for phone in phones), started + patience_s)
    await swarm.close()
    for channel in channels:
        await channel.close()
    acknowledged = sum(phone.acknowledged for phone in phones if phone.live)
    repeats = sum(phone.repeats for phone in phones)
    return Outcome(
        devices, made, to_live, acknowledged, repeats, told_twice, out_of_order, refused, seconds,
        (memory[0], memory[1], memory[2]), meter,
    )


async def _until(reached: Callable[[], bool], deadline: float) -> None:
    while not reached() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


async def _compared(home: Home, phones: Sequence[Phone]) -> tuple[int, int, int]:
    """(told twice, out of order, made) by what the service remembers of every notification."""
    connection = await asyncpg.connect(_dsn(home))
    rows = await connection.fetch("SELECT notification_id, case_id, subject, state, occurrence FROM notification")
    await connection.close()
    about = {row[0]: tuple(row[1:]) for row in rows}
    twice = disorder = 0
    for phone in phones:
        twice += sum(number - 1 for number in Counter(about[each] for each in phone.shown).values())
        by_case = defaultdict(list)
        for each in phone.shown:
            by_case[about[each][0]].append(each)
        disorder += sum(a > b for ids in by_case.values() for a, b in pairwise(ids))
    return twice, disorder, len(rows)


async def _refused(home: Home, expected: int, deadline: float) -> int:
    """Devices whose token was refused, once they are as many as expected or patience ends."""
    connection = await asyncpg.connect(_dsn(home))
    while True:
        found = int(await connection.fetchval("SELECT count(*) FROM device WHERE refused_time IS NOT NULL"))
        if found >= expected or time.monotonic() > deadline:
            await connection.close()
            return found
        await asyncio.sleep(0.2)


def _dsn(home: Home) -> str:
    return make_url(Postgres(home).url("notify")).set(drivername="postgresql").render_as_string(hide_password=False)


def measure(
    devices: int, notices: int, say: Say, patience_s: float = 300.0, profile: Path | None = None
) -> Outcome:
    """A run with servers of its own. The processor's load by others is printed beside it."""
    with machine(profile) as servers:
        outcome = asyncio.run(swarm_over(servers, devices, notices, patience_s, say))
    if profile:
        say(sampling.text_of(profile))
    say(
        f"  {outcome.acknowledged} of {outcome.to_live} to live devices acknowledged in {outcome.seconds:.1f} s"
        f" (load {os.getloadavg()[0]:.1f}); {outcome.told_twice} told twice, {outcome.out_of_order} out of order,"
        f" {outcome.repeats_dropped} repeats dropped, {outcome.invalid_tokens} tokens refused;"
        f" service {'/'.join(map(str, outcome.rss_mib))} MiB; {outcome.meter.limit()}"
    )
    return outcome
