"""What every test may ask for: a PostgreSQL cluster with empty databases, a NATS server with empty
streams."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import nats as nats_client
import pytest

from services.console.embedded import Nats, Postgres
from services.console.home import Home

ROOM = 4 << 30
"""Bytes; a session's databases and streams stay far below."""


def pytest_configure() -> None:
    """A run that is ended from outside takes its servers down like one that is interrupted by hand."""
    # Before anything imports ONNX Runtime, which reports to its maker from its import on.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # What was compiled once is kept: where that is forbidden, each process of a run would compile every test anew.
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if (memory := _in_memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What collecting made stays to the end: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


def _in_memory() -> Path | None:
    """Where what need not outlive the tests is written without waiting for a disk; None where there is no room."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    return memory if roomy and "TMPDIR" not in os.environ else None


@pytest.fixture(scope="session")
def home() -> Iterator[Home]:
    """A home for this session. Its folder lets others pass, so that the database needs no second place."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-test-", dir=_in_memory()))
    folder.chmod(0o711)
    yield Home(folder / "home")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(home: Home) -> Iterator[Postgres]:
    """One running cluster for the whole session, without fsync."""
    server = Postgres(home, durable=False)
    server.start()
    yield server
    server.destroy()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[Callable[[str], str]]:
    """`database_url("case")` makes an empty database owned by that service's role and returns its SQLAlchemy
    URL."""
    made: list[str] = []

    def make(service: str) -> str:
        name = f"test_{uuid.uuid4().hex}"
        postgres.sql(f'CREATE DATABASE "{name}" OWNER "{service}" TEMPLATE template0;')
        made.append(name)
        return postgres.url(service, name)

    yield make
    if made:
        postgres.sql("\n".join(f'DROP DATABASE "{name}" WITH (FORCE);' for name in made))


@pytest.fixture(scope="session")
def nats(home: Home) -> Iterator[Nats]:
    """One running server for the whole session; `nats.url("case")` connects with that service's rights."""
    server = Nats(home)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def nats_url(nats: Nats) -> AsyncIterator[str]:
    """URL of a user who may do everything, on a server without streams; streams made by the test go
    afterwards."""
    yield nats.url("ops")
    connection = await nats_client.connect(nats.url("ops"))
    jetstream = connection.jetstream()
    for stream in await jetstream.streams_info():
        await jetstream.delete_stream(str(stream.config.name))
    await connection.close()
