"""How is the removal service put together? `python -m services.removal serve|migrate|lint`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import grpc.aio

from misuse.removal.v1 import removal_service_pb2_grpc
from services.chassis import yaml_text
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueHandler, DueItem
from services.chassis.fetch import Fetcher, read_fetch_rules
from services.chassis.idempotency import RequestMemory
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.removal.adapters import backlog
from services.removal.adapters.case_file import CasePeer
from services.removal.adapters.fetching import FetchingWatcher
from services.removal.adapters.intake import Intake
from services.removal.adapters.json_api import ApiDesk
from services.removal.adapters.maildir import Maildir
from services.removal.adapters.no_fetcher import NoFetcher
from services.removal.adapters.policy_files import APPROVALS, SHIPPED, PolicyFiles, lint
from services.removal.adapters.reply_hook import ReplyHook
from services.removal.adapters.rules import RuleBook, load_rules
from services.removal.adapters.store import SqlStore, Surroundings
from services.removal.adapters.transparency import SqlCounts
from services.removal.adapters.ways import Sending, SendingWays
from services.removal.consumer import case_handlers
from services.removal.handlers import COUNT, FOLLOW, PREPARE, SUBMIT, SUBMIT_AGAIN, SUPPLEMENT, Needs
from services.removal.handlers.counting import count, count_at
from services.removal.handlers.preparing import prepare
from services.removal.handlers.replying import receive
from services.removal.handlers.sending import submit
from services.removal.handlers.supplementing import supplement_when_due
from services.removal.handlers.watching import follow
from services.removal.ports import CaseFile, Policies, StatusDesk, Watcher, Ways
from services.removal.servicer import RemovalServicer

MIGRATIONS = Path(__file__).parent / "migrations"
PREPARING_AT_ONCE = 32
SENDING_AT_ONCE = 64
"""More than share a transaction: most of the time a request waits, for its platform or for the next transaction."""
LOOKING_AT_ONCE = 4
GATHER_SECONDS = 0.5
"""How long events that come steadily may gather: a request waits for its platform for minutes."""


@dataclass(frozen=True)
class Removal:
    """The service, wired; what `serve` runs and tests drive."""

    needs: Needs
    store: SqlStore
    servicer: RemovalServicer

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicer."""
        removal_service_pb2_grpc.add_RemovalServiceServicer_to_server(self.servicer, server)

    def preparing(self) -> dict[str, DueHandler]:
        """Due work that asks the case service."""
        return {PREPARE: partial(_prepare, self.needs), SUPPLEMENT: partial(_supplement, self.needs)}

    def counting(self) -> dict[str, DueHandler]:
        """Due work that counts for the public."""
        return {COUNT: partial(_count, self.needs)}

    def sending(self) -> dict[str, DueHandler]:
        """Due work that waits for platforms to take something."""
        return {SUBMIT: partial(_submit, self.needs), SUBMIT_AGAIN: partial(_submit, self.needs)}

    def looking(self) -> dict[str, DueHandler]:
        """Due work that waits for pages."""
        return {FOLLOW: partial(_follow, self.needs)}

    def due(self) -> dict[str, DueHandler]:
        """What is done with each kind of due work."""
        return {**self.preparing(), **self.sending(), **self.looking(), **self.counting()}


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    case_file: CaseFile,
    policies: Policies,
    ways: Ways,
    *,
    watcher: Watcher,
    desk: StatusDesk,
    rules: RuleBook,
) -> Removal:
    """Puts the parts together; connects to nothing."""
    memory = RequestMemory(pepper(config.keys_dir, "requests"), clock)
    around = Surroundings(outbox, keys, memory, pepper(config.keys_dir, "addresses"), partial(_group, policies))
    store = SqlStore(database, around)
    counts = SqlCounts(database, outbox.partitions, partial(_knows, policies))
    needs = Needs(
        store, case_file, policies, ways, watcher, desk, clock, rules.following, rules.guards, rules.replies, counts
    )
    return Removal(needs, store, RemovalServicer(needs, pepper(config.keys_dir, "references")))


async def _prepare(needs: Needs, item: DueItem) -> None:
    await prepare(needs, item.entity_id)


async def _submit(needs: Needs, item: DueItem) -> None:
    await submit(needs, item.kind, item.entity_id)


async def _follow(needs: Needs, item: DueItem) -> None:
    await follow(needs, item.entity_id)


async def _supplement(needs: Needs, item: DueItem) -> None:
    await supplement_when_due(needs, item.entity_id)


async def _count(needs: Needs, item: DueItem) -> None:
    await count(needs)


def _knows(policies: Policies, platform: str, reason: str) -> bool:
    policy = policies.get(platform)
    return policy is not None and policy.rejection(reason) is not None


def _group(policies: Policies, platform: str) -> str:
    policy = policies.get(platform)
    return policy.group if policy else ""


async def serve() -> None:
    """Runs the service until SIGTERM."""
    async with Fetcher(read_fetch_rules(Config.from_env().rules_dir)) as fetcher:
        await _serve(fetcher)


async def _serve(fetcher: Fetcher) -> None:
    config = Config.from_env()
    sending, intake = Sending.from_env(os.environ, config), Intake.from_env(os.environ)
    rules = load_rules(config.rules_dir)
    rules = replace(rules, following=replace(rules.following, sees=sending.look))
    policies = PolicyFiles(yaml_text.in_force(SHIPPED, config.rules_dir, config.service))
    runtime = await Runtime.open(config)
    ways = SendingWays(sending, runtime.clock)
    removal = wire(
        config,
        runtime.database,
        runtime.outbox,
        runtime.keys,
        runtime.clock,
        CasePeer(runtime.peers),
        policies,
        ways,
        watcher=FetchingWatcher(fetcher) if sending.look else NoFetcher(),
        desk=ApiDesk(ways),
        rules=rules,
    )
    runtime.consume(
        "case", case_handlers(removal.store.within, runtime.clock), steady_gather_seconds=GATHER_SECONDS
    )
    # A worker of its own for each: a platform that hangs must not keep the next request from being prepared.
    runtime.due(removal.preparing(), parallel=PREPARING_AT_ONCE)
    runtime.due(removal.sending(), parallel=SENDING_AT_ONCE)
    runtime.due(removal.looking(), parallel=LOOKING_AT_ONCE)
    runtime.due(removal.counting(), parallel=1)
    take = partial(receive, removal.needs)
    if intake.hook_listen:
        runtime.loops.append(partial(ReplyHook(intake.hook_secrets, take).run, intake.hook_listen))
    if intake.maildir is not None:
        runtime.loops.append(Maildir(intake.maildir, intake.authserv_id, take).run)
    runtime.looks.append(backlog.Look())
    await count_at(removal.needs, runtime.clock.now())
    await runtime.serve(removal.register)


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def lint_policies(arguments: list[str]) -> int:
    """Checks the policy templates (of the folder named, or the shipped ones) and says which wait for approval; 1 when
    there is a fault.
    """
    folder = Path(arguments[0]) if arguments else SHIPPED
    faults = lint(folder)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        return 1
    print("The policy templates are in order.")
    for policy in PolicyFiles(folder).all():
        if not policy.approved:
            print(f"{policy.platform} {policy.version}: {policy.digest} waits for two approvals in {APPROVALS}")
    return 0


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
