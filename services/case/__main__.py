"""How is `case` put together? `python -m services.case serve|migrate|evidence verify FILE… --public-key KEYS`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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
from services.case.adapters.captures import DetectorCaptures
from services.case.adapters.rules import load_rules
from services.case.adapters.signing import FileSigner
from services.case.adapters.unit import SqlUnits, reference
from services.case.consumer import RECORDED_BY, Following
from services.case.domain.rules import Rules
from services.case.evidence_verify import verify
from services.case.handlers import cases, evidence, review
from services.case.ports import CLOSE, GIVE_UP, PACK, RELEASE, Captures, Signer
from services.case.servicer.calls import Needs
from services.case.servicer.cases import CaseServicer
from services.case.servicer.reviews import ReviewServicer
from services.case.servicer.subscribers import SubscriberServicer
from services.chassis.bus import YIELD_SECONDS, Consumer, until_calm
from services.chassis.clock import Clock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.due import DueHandler, DueItem
from services.chassis.keys import KeyStore, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.runtime import Runtime
from services.chassis.server import run

MIGRATIONS = Path(__file__).parent / "migrations"


@dataclass(frozen=True)
class CaseService:
    """The service, wired; what `serve` runs and tests drive."""

    units: SqlUnits
    needs: Needs
    packing: evidence.Packing
    following: Following

    def register(self, server: grpc.aio.Server) -> None:
        """Adds the servicers; services of later issues answer UNIMPLEMENTED."""
        # The stubs call a method abstract that the generated base answers with UNIMPLEMENTED.
        served = CaseServicer(self.needs)  # type: ignore[abstract] # see above
        reviewed = ReviewServicer(self.needs)  # type: ignore[abstract] # see above
        approvals = approval_service_pb2_grpc.ApprovalServiceServicer()  # type: ignore[abstract] # see above
        privacy = privacy_service_pb2_grpc.PrivacyServiceServicer()  # type: ignore[abstract] # see above
        people = SubscriberServicer(self.needs)
        case_service_pb2_grpc.add_CaseServiceServicer_to_server(served, server)
        subscriber_service_pb2_grpc.add_SubscriberServiceServicer_to_server(people, server)
        review_service_pb2_grpc.add_ReviewServiceServicer_to_server(reviewed, server)
        approval_service_pb2_grpc.add_ApprovalServiceServicer_to_server(approvals, server)
        privacy_service_pb2_grpc.add_PrivacyServiceServicer_to_server(privacy, server)

    def due(self) -> dict[str, Callable[[DueItem], Awaitable[None]]]:
        """What is done later."""
        return {PACK: self._pack, CLOSE: self._close, GIVE_UP: self._give_up, RELEASE: self._release}

    async def _pack(self, item: DueItem) -> None:
        await evidence.pack_case(self.packing, item.entity_id)

    async def _close(self, item: DueItem) -> None:
        async with self.units() as unit:
            await cases.close_when_due(unit, item.entity_id, self.needs.now())

    async def _give_up(self, item: DueItem) -> None:
        async with self.units() as unit:
            await cases.give_up_when_due(unit, item.entity_id, self.needs.rules, self.needs.now())

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
    units = SqlUnits(database, outbox, keys, references, clock)
    return CaseService(
        units=units,
        needs=Needs(units, rules, clock.now, captures, partial(reference, references)),
        packing=evidence.Packing(units, captures, signer, rules, clock.now),
        following=Following(units.over, rules, clock.now),
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
    # A match waits for nothing; the log of the others and the packing of evidence wait for a burst of matches to pass.
    following = service.following
    matches = runtime.consume("detector", following.signals())
    runtime.consume("removal", following.removals(), yields_to=matches)
    for publisher in RECORDED_BY:
        runtime.consume(publisher, following.records(), yields_to=matches)
    runtime.due({kind: _in_calm(matches, handler) for kind, handler in service.due().items()}, parallel=1)
    await runtime.serve(service.register)


def _in_calm(matches: Consumer, handler: DueHandler) -> DueHandler:
    async def handle(item: DueItem) -> None:
        await until_calm(matches, YIELD_SECONDS)
        await handler(item)

    return handle


async def migrate_database() -> None:
    """Brings the schema to its head."""
    await migrate(Config.from_env().database_url, MIGRATIONS)


def verify_evidence(file: Path, public_keys: Path, as_json: bool) -> int:
    """Checks an evidence pack offline; 0 when nothing is wrong, 1 otherwise."""
    found = verify(file, public_keys)
    if as_json:
        faults = [{"place": place, "reason": reason} for place, reason in found.faults]
        values = {
            "valid": found.valid,
            "case_id": found.case_id,
            "pack_id": found.pack_id,
            "version": found.version,
            "items": found.items,
            "files": found.files,
            "manifest_sha256": found.manifest_sha256,
            "faults": faults,
        }
        print(json.dumps(values))
    elif found.valid:
        print(f"valid: case {found.case_id}, pack version {found.version}, {found.items} items, {found.files} files")
    else:
        for place, reason in found.faults:
            print(f"{reason} {place}".rstrip())
    return 0 if found.valid else 1


def main(arguments: Sequence[str]) -> int:
    """Runs a verb."""
    parser = argparse.ArgumentParser(prog="python -m services.case")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="run the service")
    verbs.add_parser("migrate", help="bring the schema to its head")
    check = verbs.add_parser("evidence", help="work with evidence packs").add_subparsers(required=True)
    pack = check.add_parser("verify", help="check packs offline")
    pack.add_argument("file", type=Path, nargs="+")
    pack.add_argument("--public-key", type=Path, required=True, help="<key id>.pub, or a folder of such files")
    pack.add_argument("--json", action="store_true", help="print one JSON object a pack")
    asked = parser.parse_args(arguments)
    if asked.verb == "evidence":
        return max([verify_evidence(file, asked.public_key, asked.json) for file in asked.file])
    run({"serve": serve, "migrate": migrate_database}[asked.verb]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
