"""How the gate is put together: `python -m services.gate serve|migrate`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio

from misuse.gate.v1 import gate_service_pb2_grpc
from services.chassis.clock import Clock
from services.chassis.config import MIB, Config, setting
from services.chassis.database import Database
from services.chassis.grants import GrantVerifier
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import keyed_hash, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.chassis.signing import KeyFile
from services.gate.adapters.heads import HEADS_KEY_ID, SignedHeads, SqlHeads, keep_heads
from services.gate.adapters.html import render
from services.gate.adapters.leaks_html import render_leaks
from services.gate.adapters.records import keep_records, view
from services.gate.adapters.rules import load_gates
from services.gate.adapters.samples import SqlSampleShelf
from services.gate.adapters.sampling_rules import load_plans
from services.gate.adapters.shelf import SqlShelf
from services.gate.consumer import PUBLISHERS, Intake
from services.gate.domain.kpis import Gates
from services.gate.domain.samples import Plans
from services.gate.handlers import MEASURES, Gatekeeper, Measure, Overriding
from services.gate.ports import Records, SampleShelf, Shelf, VerifyGrant
from services.gate.sampling import Sampling
from services.gate.servicer import GateServicer, Pages, SignedLog

MIGRATIONS = Path(__file__).parent / "migrations"
MAX_MESSAGE = 6 * MIB
"""A JUnit document of 4 MiB with room for the rest of its request."""


OVERRIDE = "GATE_OVERRIDE"
"""Kind of the grants that the gate takes."""


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
    plans: Plans | None = None,
) -> Gate:
    """Puts the parts together; connects to nothing. Without `plans` samples are drawn by the shipped ones."""
    memory = RequestMemory(pepper(config.keys_dir, "requests"), clock)

    @asynccontextmanager
    async def shelves() -> AsyncIterator[Shelf]:
        async with database.begin() as session:
            yield SqlShelf(session, outbox, memory)

    def views() -> AbstractAsyncContextManager[Records]:
        return view(database)

    @asynccontextmanager
    async def sample_shelves() -> AsyncIterator[SampleShelf]:
        async with database.begin() as session:
            yield SqlSampleShelf(session, outbox, memory)

    gatekeeper = Gatekeeper(gates, views, shelves, clock, code_version, measures)
    sampling = Sampling(plans or load_plans(), views, sample_shelves, clock)
    # The stubs call abstract what the generated base answers with UNIMPLEMENTED (unimplemented.txt).
    reference = partial(_reference, pepper(config.keys_dir, "references"))
    overriding = Overriding(shelves, clock, _verifier(config), reference)
    pages = Pages(render, render_leaks)
    heads_key = KeyFile(config.service_key_file.parent, config.token_keys_dir, HEADS_KEY_ID)
    seal = SignedHeads(heads_key, clock.now)
    heads = SignedLog(SqlHeads(database), seal)
    servicer = GateServicer(gatekeeper, gates, pages, overriding, sampling, heads)  # type: ignore[abstract] # see above
    return Gate(Intake(keep_records, keep_heads, outbox, clock), servicer)


def _verifier(config: Config) -> VerifyGrant:
    verifier = GrantVerifier(config.token_keys_dir, config.service)
    return lambda grant, body, now: verifier.verify(grant, OVERRIDE, body, now)


def _reference(secret: bytes, subject: str) -> str:
    return keyed_hash(secret, "reference", subject).hex()[:16]


async def serve() -> None:
    """Runs the service until SIGTERM."""
    config = Config.from_env(max_message_bytes=MAX_MESSAGE)
    gates = load_gates(config.rules_dir)
    code_version = setting(os.environ, "JIKIMI_CODE_VERSION", "unknown", str)
    runtime = await Runtime.open(config)
    plans = load_plans(config.rules_dir)
    gate = wire(config, runtime.database, runtime.outbox, runtime.clock, gates, code_version, plans=plans)
    for publisher in PUBLISHERS:
        # Records, heads, answers to erasures: nobody waits for any of them.
        runtime.consume(publisher, gate.intake.handlers_of(publisher), gathers=True)
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
