"""How does a service's `__main__` put the chassis together?

`Runtime.open(config)` makes what every service has; `consume` and `due` add its loops; `serve` runs it all.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import Purpose
from misuse.log.v1.record_pb2 import LogRecord
from misuse.ops.v1 import ops_pb2, ops_pb2_grpc
from services.chassis.backlog import Backlog, Look
from services.chassis.broker import Broker
from services.chassis.bus import STEADY_GATHER_SECONDS, Consumer, Handler, Step
from services.chassis.clock import Clock, SystemClock
from services.chassis.config import Config
from services.chassis.database import Database, is_transient
from services.chassis.due import DueHandler, DueWorker
from services.chassis.errors import Unavailable
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import FileKeyStore, KeyStore, pepper
from services.chassis.ops import Index, OpsServicer
from services.chassis.outbox import Outbox, Relay, republish
from services.chassis.reads import OutboxReadings
from services.chassis.rpc import Peers, unwrap
from services.chassis.rules import RuleFolders
from services.chassis.server import Background, serve
from services.chassis.tasks import end
from services.chassis.telemetry import Telemetry
from services.chassis.tls import client_context
from services.chassis.tokens import IssuerFile

Loop = Callable[[], Awaitable[None]]
START_SECONDS = 60.0
"""How long a service that starts waits for its database and the broker."""


@dataclass
class Runtime:
    """What every service has, already connected."""

    config: Config
    telemetry: Telemetry
    clock: Clock
    database: Database
    broker: Broker
    outbox: Outbox
    keys: KeyStore
    peers: Peers
    loops: list[Loop] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    """What else is counted of this service's backlog."""

    @classmethod
    async def open(cls, config: Config) -> Runtime:
        """Connects, waiting for database and broker as long as a start may take. Raises their drivers' errors when they
        are not there by then, or refuse."""
        telemetry = Telemetry.start(config)
        database = Database(config.database_url)
        tls = client_context(config.tls_dir)
        broker = Broker(config.nats_url, config.service, tls=tls, replicas=config.stream_replicas)
        await once_there(database.ping)
        await once_there(broker.connect)
        clock = SystemClock(config.clock_file)
        return cls(
            config=config,
            telemetry=telemetry,
            clock=clock,
            database=database,
            broker=broker,
            outbox=Outbox(config.service, config.partitions, pepper(config.keys_dir, "outbox")),
            keys=FileKeyStore(config.keys_dir, config.master_key_file),
            peers=Peers(config, IssuerFile(config.service_key_file).current),
            loops=[
                Relay(database, broker, config.service, config.partitions).run,
                partial(_forget_requests, database, clock),
            ],
        )

    def consume(
        self,
        publisher: str,
        handlers: Mapping[type[Message], Handler],
        *,
        yields_to: Consumer | None = None,
        gathers: bool | None = None,
        steady_gather_seconds: float = STEADY_GATHER_SECONDS,
        step: Step | None = None,
    ) -> Consumer:
        """Adds a consumer of a publisher's events; `yields_to` names one that goes before it under load, `gathers` says
        that nobody waits for what it does, `steady_gather_seconds` how long events that come steadily may gather,
        `step` with whom it shares transactions."""
        consumer = Consumer(
            self.database,
            self.broker,
            publisher,
            handlers,
            self._republish(publisher),
            service=self.config.service,
            partitions=self.config.partitions,
            yields_to=yields_to,
            gathers=gathers,
            steady_gather_seconds=steady_gather_seconds,
            step=step,
        )
        self.consumers.append(consumer)
        self.loops.append(consumer.run)
        return consumer

    def due(self, handlers: Mapping[str, DueHandler], *, parallel: int = 4) -> DueWorker:
        """Adds a worker of due rows."""
        worker = DueWorker(self.database, self.clock, handlers, parallel=parallel)
        self.loops.append(worker.run)
        return worker

    async def serve(
        self,
        register: Callable[[grpc.aio.Server], None],
        *,
        ready: Callable[[], bool] | None = None,
        index: Index | None = None,
        background: Sequence[Background] = (),
        parts: Mapping[str, bool] | None = None,
    ) -> None:
        """Serves until SIGTERM; OpsService is added here."""
        own = Path(__file__).parents[1] / self.config.service
        given = self.config.rules_dir
        instead = (given / self.config.service, given / self.config.service / "policies") if given else ()
        rules = RuleFolders((own / "rules", own / "policies"), instead)
        ops = OpsServicer(self.config.service, self.database, self.broker, self.clock, self.consumers, index, rules)

        self.loops.append(partial(self._tell_rules, rules))
        if self.config.metrics_port:
            backlog = Backlog(self.database, self.clock, self.consumers, self.looks)
            self.loops += [backlog.run, backlog.watch_loop]

        def register_all(server: grpc.aio.Server) -> None:
            register(server)
            ops_pb2_grpc.add_OpsServiceServicer_to_server(ops, server)

        loops = [*(until_halted(loop) for loop in self.loops), *background]
        # What is loaded by now stays: to look through all of it for garbage again and again, as the collector would,
        # stops the process for a tenth of a second each time.
        gc.collect()
        gc.freeze()
        try:
            await serve(
                self.config,
                register_all,
                telemetry=self.telemetry,
                background=loops,
                ready=ready,
                parts=parts,
                readings=OutboxReadings(self.database, self.outbox, self.clock),
            )
        finally:
            await self.close()

    async def _tell_rules(self, rules: RuleFolders) -> None:
        """A change of a rule comes with a start: from the records of starts an auditor sees each. Tried until the
        database takes it; then there is nothing left to do but to be there."""
        service = self.config.service
        record = LogRecord(
            entity="service",
            entity_id=service,
            purpose=Purpose.PURPOSE_OPERATIONS,
            rules_in_force_log=rules.in_force(),
        )
        record.occur_time.FromDatetime(self.clock.now())
        while not await self._recorded(service, record):
            await asyncio.sleep(1.0)
        await asyncio.Event().wait()

    async def _recorded(self, service: str, record: LogRecord) -> bool:
        try:
            async with self.database.begin() as session:
                self.outbox.record(session, service, record)
        except Exception as error:
            if not is_transient(error):
                raise
            return False
        return True

    async def close(self) -> None:
        """Closes all connections."""
        await self.peers.close()
        await self.broker.close()
        await self.database.close()

    def _republish(self, publisher: str) -> Callable[[int, int], Awaitable[None]]:
        async def ask(partition: int, position: int) -> None:
            request = ops_pb2.RepublishRequest(partition=partition, from_position=position)
            try:
                if publisher == self.config.service:
                    # Its own events: the same code without the call to itself.
                    await republish(self.database, self.broker, publisher, partition, position)
                    return
                stub = self.peers.stub(publisher, ops_pb2_grpc.OpsServiceStub, Purpose.PURPOSE_OPERATIONS)
                await stub.Republish(request, timeout=60)
            except grpc.aio.AioRpcError as error:
                raise Unavailable("REPUBLISH_FAILED", "The publisher did not publish again.") from unwrap(error)

        return ask


async def once_there(reach: Callable[[], Awaitable[None]]) -> None:
    """Services and servers start side by side, on one machine as in a cluster: who comes first waits."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while True:
        try:
            await reach()
            return
        except Exception as error:
            passes = is_transient(error) or Broker.is_trouble(error)
            if not passes or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.1)


async def _forget_requests(database: Database, clock: Clock) -> None:
    """Purges remembered requests past their seven days, once an hour."""
    memory = RequestMemory(b"", clock)
    while True:
        try:
            async with database.begin() as session:
                await memory.purge(session)
        except Exception as error:
            if not is_transient(error):
                raise
        await asyncio.sleep(3600)


def until_halted(loop: Loop) -> Background:
    """A loop that runs until the server halts; if it ends by itself, so does the process."""

    async def background(halt: asyncio.Event) -> None:
        work = asyncio.ensure_future(loop())
        waiting = asyncio.create_task(halt.wait())
        try:
            await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            await end(work, waiting)

    return background
