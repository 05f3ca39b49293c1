"""How the notify service is put together: `python -m services.notify serve|migrate|lint`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

import grpc.aio
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.notify.v1 import notify_service_pb2_grpc
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueHandler, DueItem
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Loop, Runtime
from services.chassis.server import run
from services.notify.adapters import backlog
from services.notify.adapters.alternatives import CONTACT, DIGEST, FALL_BACK
from services.notify.adapters.bell import PostgresBell
from services.notify.adapters.deliveries import SWEEP
from services.notify.adapters.intake import Intake
from services.notify.adapters.journal import OutboxJournal
from services.notify.adapters.rules import load_delivery_rules
from services.notify.adapters.store import SqlStore
from services.notify.adapters.texts import lint, load_texts
from services.notify.adapters.ways import Outside, Ways
from services.notify.consumer import case_handlers, removal_handlers
from services.notify.domain.delivery import DeliveryRules
from services.notify.domain.delivery import Path as Way
from services.notify.domain.quiet import DEFAULT_ZONE
from services.notify.handlers.account import Account
from services.notify.handlers.acknowledging import Acknowledging
from services.notify.handlers.contacts import Contacts
from services.notify.handlers.falling_back import FallingBack
from services.notify.handlers.streaming import Streaming
from services.notify.handlers.sweeping import Sweeping
from services.notify.handlers.telling import Telling
from services.notify.ports import Texts, Unit
from services.notify.servicer import NotifyServicer

MIGRATIONS = Path(__file__).parent / "migrations"
GATHER_SECONDS = 0.2
"""How long events that come steadily may gather before people are told of them."""


@dataclass(frozen=True)
class Notify:
    """The service, wired; what `main` runs and tests drive."""

    telling: Telling
    contacts: Contacts
    streaming: Streaming
    acknowledging: Acknowledging
    sweeping: Sweeping
    falling_back: FallingBack
    servicer: NotifyServicer
    bell: PostgresBell
    units: Callable[[], AbstractAsyncContextManager[Unit]]
    unit_of: Callable[[AsyncSession], Unit]

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        notify_service_pb2_grpc.add_NotifyServiceServicer_to_server(self.servicer, server)

    @property
    def loops(self) -> Sequence[Loop]:
        """What runs as long as the service does."""
        return (self.bell.run, self.streaming.run, self.acknowledging.run)

    def due(self) -> Mapping[str, DueHandler]:
        """What is done with each kind of due work."""
        return {SWEEP: self._sweep, DIGEST: self._digest, FALL_BACK: self._fall_back, CONTACT: self._contact}

    async def begin(self, clock: Clock) -> None:
        """Has everything looked at that became due while no replica ran."""
        async with self.units() as unit:
            await unit.store.look_at([clock.now()])

    async def _sweep(self, item: DueItem) -> None:
        await self.sweeping.sweep()

    async def _digest(self, item: DueItem) -> None:
        subscriber_id, _, digest_id = item.entity_id.partition("/")
        async with self.units() as unit:
            await self.telling.tell_digest(unit, subscriber_id, digest_id)

    async def _fall_back(self, item: DueItem) -> None:
        await self.falling_back.run(item.entity_id)

    async def _contact(self, item: DueItem) -> None:
        subscriber_id, path, change_id = item.entity_id.split("/")
        await self.contacts.take_effect(subscriber_id, Way(path), change_id)


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    rules: DeliveryRules,
    texts: Texts,
    outside: Outside,
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
    telling = Telling(clock, rules, keys)
    contacts = Contacts(units, clock, rules, keys, telling)
    streaming = Streaming(units, clock, rules, bell)
    acknowledging = Acknowledging(units, clock)
    return Notify(
        telling=telling,
        contacts=contacts,
        streaming=streaming,
        acknowledging=acknowledging,
        sweeping=Sweeping(units, clock, rules, texts, outside.pusher),
        falling_back=FallingBack(units, clock, rules, texts, outside.messengers),
        servicer=NotifyServicer(Account(units, clock, keys), contacts, streaming, acknowledging, texts),
        bell=bell,
        units=units,
        unit_of=unit_of,
    )


async def serve() -> None:
    """Runs the service until SIGTERM. Raises ZoneInfoNotFoundError where this machine has no time zones (tzdata)."""
    config = Config.from_env()
    ZoneInfo(DEFAULT_ZONE)
    rules = load_delivery_rules(config.rules_dir, config.profile)
    texts = load_texts(config.rules_dir)
    ways = Ways.from_env(os.environ, config)
    intake = Intake.from_env(os.environ, ways.secret)
    runtime = await Runtime.open(config)
    outside = ways.open(runtime.clock)
    notify = wire(config, runtime.database, runtime.outbox, runtime.keys, runtime.clock, rules, texts, outside)
    about = (notify.telling, notify.unit_of)
    runtime.consume("case", case_handlers(*about), steady_gather_seconds=GATHER_SECONDS)
    runtime.consume("removal", removal_handlers(*about), steady_gather_seconds=GATHER_SECONDS)
    runtime.due(notify.due())
    runtime.loops.extend(notify.loops)
    runtime.loops.extend(intake.loops(notify.falling_back.take))
    runtime.looks.append(backlog.look)
    await notify.begin(runtime.clock)
    try:
        await runtime.serve(notify.register)
    finally:
        await outside.close()


def lint_texts(arguments: Sequence[str]) -> int:
    """Checks the texts (of the folder of rules named, or the shipped ones); 1 when there is a fault."""
    faults = lint(Path(arguments[0]) if arguments else None)
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        print("The texts are in order.")
    return 1 if faults else 0


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    if arguments[:1] == ["lint"] and len(arguments) <= 2:
        return lint_texts(arguments[1:])
    verbs = {"serve": serve, "migrate": migrate_database}
    if len(arguments) != 1 or arguments[0] not in verbs:
        print(f"usage: python -m services.notify {'|'.join(verbs)}|lint [FOLDER]", file=sys.stderr)
        return 2
    run(verbs[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
