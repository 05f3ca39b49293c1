"""The service `case`, running for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc.aio
import pytest

from misuse.case.v1 import case_service_pb2_grpc, review_service_pb2_grpc, subscriber_service_pb2_grpc
from services.case.__main__ import wire
from services.case.adapters.rules import load_rules
from services.case.adapters.signing import FileSigner
from services.case.adapters.tables import Base
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.keys import FileKeyStore, create_master_key, pepper
from services.chassis.outbox import Outbox
from services.chassis.server import build_server
from services.chassis.tokens import create_key_pair
from tests.integration.case.world import START, FakeDetector, World
from tests.integration.databases import connected, empty

RULES = load_rules()


@pytest.fixture(scope="session")
def case_database(migrated_url: Callable[[str], str]) -> str:
    return migrated_url("case")


@pytest.fixture
async def world(case_database: str, tmp_path: Path) -> AsyncIterator[World]:
    config = Config(
        service="case",
        home=tmp_path,
        database_url=case_database,
        keys_dir=tmp_path / "keys",
        master_key_file=tmp_path / "master.key",
        token_keys_dir=tmp_path / "public",
        service_key_file=tmp_path / "private" / "case.key",
    )
    create_master_key(config.master_key_file)
    issuer = create_key_pair(tmp_path / "private", config.token_keys_dir, "test")
    signer = FileSigner(tmp_path / "private", config.token_keys_dir)
    keys = FileKeyStore(config.keys_dir, config.master_key_file)
    database, clock, detector = connected(config.database_url), ManualClock(START), FakeDetector()
    await empty(database, Base.metadata.sorted_tables)
    outbox = Outbox("case", config.partitions, pepper(config.keys_dir, "outbox"))
    service = wire(config, database, outbox, keys, clock, RULES, detector, signer)
    server, port = build_server(config, service.register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield World(
            service=service,
            database=database,
            clock=clock,
            issuer=issuer,
            detector=detector,
            home=tmp_path,
            cases=case_service_pb2_grpc.CaseServiceStub(channel),
            people=subscriber_service_pb2_grpc.SubscriberServiceStub(channel),
            reviews=review_service_pb2_grpc.ReviewServiceStub(channel),
            channel=channel,
            port=port,
        )
    await server.stop(None)
    await database.close()
