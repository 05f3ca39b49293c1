"""PostgreSQL and NATS start from their wheels, let each service into its own part only, and survive kill
-9."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import asyncpg
import nats as nats_client
import pytest

from services.console.embedded import Nats, Postgres, scram_verifier
from services.console.home import Home


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


async def test_a_service_reaches_its_own_database_only(postgres: Postgres) -> None:
    connection = await asyncpg.connect(plain(postgres.url("case")))
    assert "case" == await connection.fetchval("SELECT current_database()")
    await connection.close()

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(plain(postgres.url("case", database="gate")))


async def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    wrong = plain(postgres.url("case")).replace(postgres.home.secret("postgres-case"), "guess")

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)


async def test_databases_hold_unicode_and_checksums(database_url: Callable[[str], str]) -> None:
    connection = await asyncpg.connect(plain(database_url("notify")))

    assert ("on", "UTF8", "지킴이 é") == tuple(
        await connection.fetchrow(
            "SELECT current_setting('data_checksums'), current_setting('server_encoding'), lower('지킴이 É')"
        )
    )
    await connection.close()


async def test_errors_in_the_log_quote_no_value(postgres: Postgres, database_url: Callable[[str], str]) -> None:
    connection = await asyncpg.connect(plain(database_url("case")))
    await connection.execute("CREATE TABLE seen (phone text PRIMARY KEY)")
    for _ in range(2):
        try:
            await connection.execute("INSERT INTO seen VALUES ($1)", "010-0000-7531")
        except asyncpg.UniqueViolationError:
            written = (postgres.home.logs / "postgres.log").read_text()
    await connection.close()

    assert "duplicate key value" in written
    assert "0000-7531" not in written


def test_starting_twice_keeps_the_running_server(postgres: Postgres) -> None:
    before = postgres.pid()
    postgres.start()

    assert before == postgres.pid()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_as_root_the_server_runs_as_an_account_of_its_own(postgres: Postgres) -> None:
    owner = postgres.data.stat().st_uid

    assert 0 != owner
    assert owner == Path(f"/proc/{postgres.pid()}").stat().st_uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
@pytest.mark.slow
def test_a_closed_folder_above_the_home_is_left_alone(home: Home) -> None:
    closed = home.path.parent / "closed"
    closed.mkdir(mode=0o700)
    said: list[str] = []
    server = Postgres(Home(closed / "home"), durable=False, say=said.append)
    server.start()
    try:
        assert server.pid() is not None
        assert closed not in server.data.parents
        assert 0o700 == closed.stat().st_mode & 0o777
        assert [f"PostgreSQL's account cannot enter {closed / 'home'}; its data lies in {server.data.parent}."] == said
    finally:
        server.destroy()
    assert not server.data.parent.exists()


@pytest.mark.slow
async def test_after_kill_9_the_server_comes_back_with_what_was_committed(home: Home) -> None:
    server = Postgres(Home(home.path.parent / "killed"))
    server.start()
    try:
        connection = await asyncpg.connect(plain(server.url("case")))
        await connection.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (41)")
        killed = server.pid()
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        connection.terminate()
        server.start()
        assert killed != server.pid()
        connection = await asyncpg.connect(plain(server.url("case")))
        assert 41 == await connection.fetchval("SELECT n FROM kept")
        await connection.close()
    finally:
        server.destroy()


def test_a_pid_file_of_another_process_is_seen_through(home: Home) -> None:
    server = Postgres(Home(home.path.parent / "stale"))
    server.data.mkdir(parents=True)
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n")

    assert server.pid() is None


def test_a_verifier_holds_no_password() -> None:
    assert scram_verifier("s3cret").startswith("SCRAM-SHA-256$4096:")
    assert "s3cret" not in scram_verifier("s3cret")
    assert scram_verifier("s3cret") != scram_verifier("s3cret")


async def test_a_service_publishes_under_its_own_name_only(nats: Nats, nats_url: str) -> None:
    complaints: asyncio.Queue[str] = asyncio.Queue()

    async def complain(error: Exception) -> None:
        complaints.put_nowait(str(error).lower())

    connection = await nats_client.connect(nats.url("case"), error_cb=complain)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name="CASE", subjects=["case.v1.>"])
    stored = await jetstream.publish("case.v1.case_opened.p00", b"x")
    await connection.publish("gate.v1.release_evaluated.p00", b"x")
    complaint = await asyncio.wait_for(complaints.get(), timeout=5)
    await connection.close()

    assert 1 == stored.seq
    assert 'permissions violation for publish to "gate.v1.release_evaluated.p00"' in complaint


async def test_a_service_deletes_no_stream(nats: Nats, nats_url: str) -> None:
    async def ignore(_error: Exception) -> None:
        return None  # the violation is reported here as well as by the missing answer

    operator = await nats_client.connect(nats_url)
    await operator.jetstream().add_stream(name="GATE", subjects=["gate.v1.>"])
    service = await nats_client.connect(nats.url("gate"), error_cb=ignore)
    with pytest.raises((nats_client.errors.TimeoutError, nats_client.errors.NoRespondersError)):
        await service.jetstream(timeout=0.3).delete_stream("GATE")

    assert "GATE" == (await operator.jetstream().stream_info("GATE")).config.name
    await service.close()
    await operator.close()


def test_the_broker_refuses_whoever_brings_no_password(nats: Nats) -> None:
    with socket.create_connection(("127.0.0.1", nats.home.ports()["nats"]), timeout=5) as stranger:
        stranger.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        words = stranger.makefile("rb")
        assert words.readline().startswith(b"INFO ")
        assert b"-ERR 'Authorization Violation'\r\n" == words.readline()
        words.close()
