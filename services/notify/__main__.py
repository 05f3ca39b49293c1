"""How the notify service is put together: `python -m services.notify serve|migrate`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.notify.v1 import notify_service_pb2_grpc
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueItem
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.notify.adapters.bell import PostgresBell
from services.notify.adapters.journal import OutboxJournal
from services.notify.adapters.rules import load_delivery_rules, load_texts
from services.notify.adapters.store import SWEEP, SqlStore, swept_device
from services.notify.consumer import case_handlers, removal_handlers
from services.notify.domain import DeliveryRules, Texts
from services.notify.handlers import Account, Delivering, Telling
from services.notify.ports import Unit
from services.notify.servicer import NotifyServicer

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class Notify:
    """The service, wired; what `main` runs and tests drive."""

    telling: Telling
    delivering: Delivering
    servicer: NotifyServicer
    bell: PostgresBell
    unit_of: Callable[[AsyncSession], Unit]

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        notify_service_pb2_grpc.add_NotifyServiceServicer_to_server(self.servicer, server)

    async def sweep(self, item: DueItem) -> None:
        """Runs a due row of kind SWEEP."""
        await self.delivering.sweep_device(swept_device(item.entity_id))


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    rules: DeliveryRules,
    texts: Texts,
) -> Notify:
    """Puts the parts together; connects to nothing."""
    references = pepper(config.keys_dir, "references")

    def unit_of(session: AsyncSession) -> Unit:
        return Unit(SqlStore(session, keys), OutboxJournal(session, outbox, clock, references))

    @asynccontextmanager
    async def units() -> AsyncIterator[Unit]:
        async with database.begin() as session:
            yield unit_of(session)

    bell = PostgresBell(config.database_url)
    delivering = Delivering(units, clock, rules, bell)
    servicer = NotifyServicer(Account(units, clock, keys), delivering, texts)
    return Notify(Telling(clock, rules, keys), delivering, servicer, bell, unit_of)


async def serve() -> None:
    """Runs the service until SIGTERM."""
    config = Config.from_env()
    rules = load_delivery_rules(config.rules_dir, config.profile)
    texts = load_texts(config.rules_dir)
    runtime = await Runtime.open(config)
    notify = wire(config, runtime.database, runtime.outbox, runtime.keys, runtime.clock, rules, texts)
    runtime.consume("case", case_handlers(notify.telling, notify.unit_of))
    runtime.consume("removal", removal_handlers(notify.telling, notify.unit_of))
    runtime.due({SWEEP: notify.sweep})
    runtime.loops.append(notify.bell.run)
    await runtime.serve(notify.register)


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    verbs = {"serve": serve, "migrate": migrate_database}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m services.notify {'|'.join(verbs)}", file=sys.stderr)
        return 2
    run(verbs[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
