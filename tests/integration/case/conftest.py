"""The service `case`, running for one test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest
from sqlalchemy import text

from misuse.case.v1 import case_service_pb2_grpc, review_service_pb2_grpc, subscriber_service_pb2_grpc
from services.case.__main__ import MIGRATIONS, wire
from services.case.adapters.rules import load_rules
from services.case.adapters.signing import FileSigner
from services.case.adapters.tables import Base
from services.chassis.clock import ManualClock
from services.chassis.config import Config
from services.chassis.database import Database
from services.chassis.keys import FileKeyStore, create_master_key, pepper
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.chassis.server import build_server
from services.chassis.tokens import create_key_pair
from services.console.embedded import Postgres
from tests.integration.case.world import START, FakeDetector, World

_EMPTY = text("TRUNCATE " + ", ".join(f'"{name}"' for name in Base.metadata.tables) + " RESTART IDENTITY")


@pytest.fixture(scope="session")
def case_database(postgres: Postgres) -> str:
    """URL of one database for all tests of this folder: emptying it is quicker than making it."""
    postgres.sql('CREATE DATABASE "test_case_world" OWNER "case" TEMPLATE template0;')
    url = postgres.url("case", "test_case_world")
    asyncio.run(migrate(url, MIGRATIONS))
    return url


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
    database, clock, detector = Database(config.database_url), ManualClock(START), FakeDetector()
    async with database.engine.begin() as connection:
        await connection.execute(_EMPTY)
    outbox = Outbox("case", config.partitions, pepper(config.keys_dir, "outbox"))
    service = wire(config, database, outbox, keys, clock, load_rules(), detector, signer)
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
