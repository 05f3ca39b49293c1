"""How the gate is put together: `python -m services.gate serve|migrate`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from misuse.gate.v1 import gate_service_pb2_grpc
from services.chassis.clock import Clock
from services.chassis.config import MIB, Config, setting
from services.chassis.database import Database
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.gate.adapters.html import render
from services.gate.adapters.records import keep_records, view
from services.gate.adapters.rules import load_gates
from services.gate.adapters.shelf import SqlShelf, keep_heads
from services.gate.consumer import PUBLISHERS, Intake
from services.gate.domain.kpis import Gates
from services.gate.handlers import MEASURES, Gatekeeper, Measure
from services.gate.ports import Records, Shelf
from services.gate.servicer import GateServicer

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_MESSAGE = 6 * MIB
"""A JUnit document of 4 MiB with room for the rest of its request."""


@dataclass(frozen=True)
class Gate:
    """The service, wired; what `main` runs and tests drive."""

    intake: Intake
    servicer: GateServicer

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        gate_service_pb2_grpc.add_GateServiceServicer_to_server(self.servicer, server)


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    clock: Clock,
    gates: Gates,
    code_version: str,
    measures: Mapping[str, Measure] = MEASURES,
) -> Gate:
    """Puts the parts together; connects to nothing."""
    memory = RequestMemory(pepper(config.keys_dir, "requests"), clock)

    @asynccontextmanager
    async def shelves() -> AsyncIterator[Shelf]:
        async with database.begin() as session:
            yield SqlShelf(session, outbox, memory)

    def views() -> AbstractAsyncContextManager[Records]:
        return view(database)

    gatekeeper = Gatekeeper(gates, views, shelves, clock, code_version, measures)
    # The stubs call abstract what the generated base answers with UNIMPLEMENTED (unimplemented.txt).
    servicer = GateServicer(gatekeeper, gates, render)  # type: ignore[abstract] # see above
    return Gate(Intake(keep_records, keep_heads, outbox, clock), servicer)


async def serve() -> None:
    """Runs the service until SIGTERM."""
    config = Config.from_env(max_message_bytes=MAX_MESSAGE)
    gates = load_gates(config.rules_dir)
    code_version = setting(os.environ, "JIKIMI_CODE_VERSION", "unknown", str)
    runtime = await Runtime.open(config)
    gate = wire(config, runtime.database, runtime.outbox, runtime.clock, gates, code_version)
    for publisher in PUBLISHERS:
        runtime.consume(publisher, gate.intake.handlers_of(publisher))
    await runtime.serve(gate.register)


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    verbs = {"serve": serve, "migrate": migrate_database}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m services.gate {'|'.join(verbs)}", file=sys.stderr)
        return 2
    run(verbs[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
