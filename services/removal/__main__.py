"""How is the removal service put together? `python -m services.removal serve|migrate|lint`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio

from misuse.removal.v1 import removal_service_pb2_grpc
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueHandler, DueItem
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.removal.adapters.case_file import CasePeer
from services.removal.adapters.policy_files import SHIPPED, PolicyFiles, lint
from services.removal.adapters.store import SqlStore, Surroundings
from services.removal.adapters.ways import Sending, SendingWays
from services.removal.consumer import case_handlers
from services.removal.handlers import PREPARE, SUBMIT, SUBMIT_AGAIN, Needs
from services.removal.handlers.preparing import prepare
from services.removal.handlers.sending import submit
from services.removal.ports import CaseFile, Policies, Ways
from services.removal.servicer import RemovalServicer

MIGRATIONS = Path(__file__).parent / "migrations"
SENDING_AT_ONCE = 8


@dataclass(frozen=True)
class Removal:
    """The service, wired; what `serve` runs and tests drive."""

    needs: Needs
    store: SqlStore
    servicer: RemovalServicer

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        removal_service_pb2_grpc.add_RemovalServiceServicer_to_server(self.servicer, server)

    def due(self) -> dict[str, DueHandler]:
        """What is done with each kind of due work."""
        return {
            PREPARE: partial(_prepare, self.needs),
            SUBMIT: partial(_submit, self.needs),
            SUBMIT_AGAIN: partial(_submit, self.needs),
        }


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    case_file: CaseFile,
    policies: Policies,
    ways: Ways,
) -> Removal:
    """Puts the parts together; connects to nothing."""
    memory = RequestMemory(pepper(config.keys_dir, "requests"), clock)
    around = Surroundings(outbox, keys, memory, pepper(config.keys_dir, "addresses"))
    store = SqlStore(database, around)
    needs = Needs(store, case_file, policies, ways, clock)
    return Removal(needs, store, RemovalServicer(needs, pepper(config.keys_dir, "references")))


async def _prepare(needs: Needs, item: DueItem) -> None:
    await prepare(needs, item.entity_id)


async def _submit(needs: Needs, item: DueItem) -> None:
    await submit(needs, item.kind, item.entity_id)


async def serve() -> None:
    """Runs the service until SIGTERM."""
    config = Config.from_env()
    sending = Sending.from_env(os.environ, config)
    policies = PolicyFiles(config.rules_dir or SHIPPED)
    runtime = await Runtime.open(config)
    removal = wire(
        config,
        runtime.database,
        runtime.outbox,
        runtime.keys,
        runtime.clock,
        CasePeer(runtime.peers),
        policies,
        SendingWays(sending, runtime.clock),
    )
    runtime.consume("case", case_handlers(removal.store.within, runtime.clock))
    runtime.due(removal.due(), parallel=SENDING_AT_ONCE)
    await runtime.serve(removal.register)


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def lint_policies(arguments: list[str]) -> int:
    """Checks the policy templates (of the folder named, or the shipped ones); 1 when there is a fault."""
    faults = lint(Path(arguments[0]) if arguments else SHIPPED)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("The policy templates are in order.")
    return 1 if faults else 0


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if verb == "lint" and len(rest) <= 1:
        return lint_policies(rest)
    verbs = {"serve": serve, "migrate": migrate_database}
    if verb not in verbs or rest:
        print("usage: python -m services.removal serve|migrate|lint [FOLDER]", file=sys.stderr)
        return 2
    run(verbs[verb]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
