"""How is `case` put together? `python -m services.case serve|migrate|evidence verify|report FILE…`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc.aio

from misuse.case.v1 import (
    approval_service_pb2_grpc,
    case_service_pb2_grpc,
    privacy_service_pb2_grpc,
    review_service_pb2_grpc,
    subscriber_service_pb2_grpc,
)
from misuse.common.v1.access_pb2 import Purpose
from misuse.detector.v1.signal_service_pb2_grpc import SignalServiceStub
from services.case.adapters import backlog
from services.case.adapters.approvals import SignedGrants
from services.case.adapters.captures import DetectorCaptures
from services.case.adapters.changes import SqlChanges
from services.case.adapters.evidence_rules import load_guidance, load_requirements
from services.case.adapters.pages import HtmlPages
from services.case.adapters.rules import (
    load_access_rules,
    load_approval_rules,
    load_erasure_rules,
    load_rights_rules,
    load_rules,
)
from services.case.adapters.search import Tags
from services.case.adapters.signing import FileSigner
from services.case.adapters.timestamps import TIME_KEY_ID, OwnTime
from services.case.adapters.unit import SqlUnits, reference
from services.case.consumer import ANSWERS, RECORDED_BY, Following
from services.case.domain.rules import Rules
from services.case.handlers import cases, packing, review, search
from services.case.handlers.access import AccessKeeping
from services.case.handlers.approving import Approving
from services.case.handlers.counting import Counting
from services.case.handlers.erasing import Erasing
from services.case.handlers.exporting import Exporting
from services.case.handlers.purging import Purging
from services.case.handlers.rights import Rights
from services.case.handlers.watching import Watching
from services.case.ports import (
    CLOSE,
    COVER,
    DIGEST,
    ERASURE,
    EXPIRE_PROPOSAL,
    GIVE_UP,
    PACK,
    PURGE_ACCESS,
    PURGE_LIST,
    RELEASE,
    REVIEW_DUE,
    RIGHTS_ANSWER,
    RIGHTS_DUE,
    Captures,
    Signer,
)
from services.case.servicer.approvals import ApprovalServicer
from services.case.servicer.calls import Needs
from services.case.servicer.cases import CaseServicer
from services.case.servicer.privacy import PrivacyServicer
from services.case.servicer.reviews import ReviewServicer
from services.case.servicer.subscribers import SubscriberServicer
from services.chassis.bus import YIELD_SECONDS, Consumer, Step, until_calm
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueHandler, DueItem
from services.chassis.grants import KEY_ID as GRANT_KEY
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run
from services.chassis.together import MOST, Left, Piece, Together

MIGRATIONS = Path(__file__).parent / "migrations"
MATCHES_GATHER_SECONDS = 0.15
"""How long matches that come steadily may gather: the first after a calm opens its case at once."""
PACK_SECONDS = 0.5
"""Where cases become due for packing steadily, so long they gather for one transaction."""
PATIENT = frozenset({PACK, COVER, DIGEST})
"""Due work of which a burst of matches brings a row for each case."""
REMOVALS_GATHER_SECONDS = 0.5
"""How long news of removals that come steadily may gather: platforms take minutes."""


@dataclass(frozen=True)
class CaseService:
    """The service, wired; what `serve` runs and tests drive."""

    units: SqlUnits
    needs: Needs
    packing: packing.Packing
    following: Following
    erasing: Erasing
    approving: Approving
    access: AccessKeeping
    rights: Rights
    purging: Purging
    packs: Together[str] = field(default_factory=partial(Together, moment=PACK_SECONDS))

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers."""
        served = CaseServicer(self.needs)
        reviewed = ReviewServicer(self.needs)
        approvals = ApprovalServicer(self.needs, self.approving)
        privacy = PrivacyServicer(self.needs, self.erasing, self.access, self.rights, self.purging)
        people = SubscriberServicer(self.needs)
        case_service_pb2_grpc.add_CaseServiceServicer_to_server(served, server)
        subscriber_service_pb2_grpc.add_SubscriberServiceServicer_to_server(people, server)
        review_service_pb2_grpc.add_ReviewServiceServicer_to_server(reviewed, server)
        approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(approvals, server)
        privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(privacy, server)

    def due(self) -> dict[str, Callable[[DueItem], Awaitable[None]]]:
        """What is done later."""
        return {
            PACK: self._pack,
            CLOSE: self._close,
            GIVE_UP: self._give_up,
            RELEASE: self._release,
            DIGEST: self._digest,
            COVER: self._cover,
            ERASURE: self._erase,
            EXPIRE_PROPOSAL: self._expire_proposal,
            PURGE_ACCESS: self._purge_access,
            REVIEW_DUE: self._escalate,
            RIGHTS_DUE: self._remind_of_right,
            RIGHTS_ANSWER: self._purge_right_answer,
            PURGE_LIST: self._forget_purges,
        }

    async def _pack(self, item: DueItem) -> None:
        await self.packs(item.entity_id, self._pack_together)

    async def _pack_together(self, pieces: Sequence[Piece[str]], _alone: bool) -> Sequence[Left | None]:
        await packing.pack_cases(self.packing, pieces)
        return [None] * len(pieces)

    async def _digest(self, item: DueItem) -> None:
        async with self.units() as unit:
            await cases.digest_when_due(unit, item.entity_id, self.needs.rules, self.needs.now())

    async def _cover(self, item: DueItem) -> None:
        await search.cover_all(self.units, self.needs.rules)

    async def _close(self, item: DueItem) -> None:
        async with self.units() as unit:
            await cases.close_when_due(unit, item.entity_id, self.needs.now())

    async def _give_up(self, item: DueItem) -> None:
        async with self.units() as unit:
            await cases.give_up_when_due(unit, item.entity_id, self.needs.rules, self.needs.now())

    async def _erase(self, item: DueItem) -> None:
        await self.erasing.go_on(item.entity_id)

    async def _expire_proposal(self, item: DueItem) -> None:
        await self.approving.expire_when_due(item.entity_id)

    async def _purge_access(self, item: DueItem) -> None:
        await self.access.purge_when_due()

    async def _remind_of_right(self, item: DueItem) -> None:
        await self.rights.remind_when_due(item.entity_id)

    async def _purge_right_answer(self, item: DueItem) -> None:
        await self.rights.purge_answer(item.entity_id, item.due_time)

    async def _forget_purges(self, item: DueItem) -> None:
        await self.purging.forget_when_due()

    async def _escalate(self, item: DueItem) -> None:
        async with self.units() as unit:
            await review.escalate(unit, item.entity_id, self.needs.rules, self.needs.now())

    async def _release(self, item: DueItem) -> None:
        await review.release(self.units, self.needs.captures, item.entity_id)


def wire(
    config: Config,
    database: Database,
    outbox: Outbox,
    keys: KeyStore,
    clock: Clock,
    rules: Rules,
    captures: Captures,
    signer: Signer,
) -> CaseService:
    """Puts the parts together; connects to nothing."""
    references = pepper(config.keys_dir, "references")
    tags = Tags(pepper(config.keys_dir, "search"))
    units = SqlUnits(database, outbox, keys, references, clock, pace=rules.pace, tags=tags)
    approvals = load_approval_rules(config.rules_dir)
    granting = FileSigner(config.service_key_file.parent, config.token_keys_dir, GRANT_KEY)
    guidance = load_guidance(config.rules_dir)
    rights = load_rights_rules(config.rules_dir)
    erasing = Erasing(units, keys, load_erasure_rules(config.rules_dir), rights, clock.now)
    purging = Purging(units, rights, clock.now)
    time_key = FileSigner(config.service_key_file.parent, config.token_keys_dir, TIME_KEY_ID)
    timestamps = OwnTime(time_key, clock.now)
    return CaseService(
        units=units,
        needs=Needs(
            units,
            rules,
            clock.now,
            captures,
            partial(reference, references),
            Watching(units, SqlChanges(database, config.partitions)),
            guidance,
            Exporting(signer, timestamps),
            Counting(units, clock.now),
        ),
        packing=packing.Packing(
            units,
            captures,
            signer,
            timestamps,
            rules,
            load_requirements(config.rules_dir),
            guidance,
            HtmlPages(),
            clock.now,
        ),
        following=Following(units.over, rules, clock.now, purging),
        erasing=erasing,
        access=AccessKeeping(units, load_access_rules(config.rules_dir), clock.now),
        approving=Approving(units, SignedGrants(granting, approvals), approvals, clock.now),
        rights=Rights(units, erasing, rights, clock.now),
        purging=purging,
    )


async def serve() -> None:
    """Runs the service until SIGTERM."""
    config = Config.from_env()
    rules = load_rules(config.rules_dir)
    signer = FileSigner(config.service_key_file.parent, config.token_keys_dir)
    runtime = await Runtime.open(config)

    def stub(purpose: Purpose.ValueType) -> SignalServiceStub:
        return runtime.peers.stub("detector", SignalServiceStub, purpose)

    service = wire(
        config,
        runtime.database,
        runtime.outbox,
        runtime.keys,
        runtime.clock,
        rules,
        DetectorCaptures(stub),
        signer,
    )
    # A match waits for nothing; the log of the others waits for a burst of matches to pass, the packing of evidence for
    # that and for their records.
    following = service.following
    read = following.readings(service.access)
    answers = {publisher: {**following.erasures(service.erasing, publisher), **read} for publisher in ANSWERS}
    signals = {**following.signals(), **answers["detector"]}
    matches = runtime.consume("detector", signals, steady_gather_seconds=MATCHES_GATHER_SECONDS)
    removals = {**following.removals(), **answers["removal"]}
    runtime.consume("removal", removals, yields_to=matches, steady_gather_seconds=REMOVALS_GATHER_SECONDS)
    # What several services record of one case comes into its chain at once, and its head is told once.
    log = Step()
    records = [runtime.consume(each, following.records(), yields_to=matches, step=log) for each in RECORDED_BY]
    runtime.consume("notify", answers["notify"])
    runtime.consume("gate", {**following.samples(), **answers["gate"]}, yields_to=matches)
    runtime.consume("case", read)
    patient, prompt = lanes(service.due())
    runtime.due({kind: _in_calm([matches, *records], handler) for kind, handler in patient.items()}, parallel=MOST)
    runtime.due(prompt, parallel=1)
    runtime.looks.append(backlog.look)
    await runtime.serve(service.register)


def lanes(due: Mapping[str, DueHandler]) -> tuple[dict[str, DueHandler], dict[str, DueHandler]]:
    """What waits for a burst of matches to pass, a row for each case of it, and what does not wait behind it: thousands
    of cases bring hours of packing, and nobody's erasure or deadline is late for the evidence of others."""
    patient = {kind: handler for kind, handler in due.items() if kind in PATIENT}
    return patient, {kind: handler for kind, handler in due.items() if kind not in PATIENT}


def _in_calm(consumers: Collection[Consumer], handler: DueHandler) -> DueHandler:
    async def handle(item: DueItem) -> None:
        await until_calm(consumers, YIELD_SECONDS)
        await handler(item)

    return handle


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def work_with_files(arguments: Sequence[str]) -> int:
    """Checks or shows packs and exported cases; nothing of that is loaded by what serves."""
    from services.case.evidence_command import run as run_verb

    return run_verb(arguments)


def main(arguments: Sequence[str]) -> int:
    """Runs a verb."""
    if arguments[:1] == ["evidence"]:
        return work_with_files(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m services.case")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="run the service")
    verbs.add_parser("migrate", help="bring the schema to its head")
    verbs.add_parser("evidence", help="work with evidence packs and exported cases in files")
    asked = parser.parse_args(arguments)
    run({"serve": serve, "migrate": migrate_database}[asked.verb]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
