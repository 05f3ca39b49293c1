"""Does a process with certificates talk with its own kind alone, tell probes how it is, and take up renewed files?"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from deploy.manifests.brokers import make_certificates
from services.chassis.config import Config
from services.chassis.rpc import CHANNEL_OPTIONS
from services.chassis.server import serve
from services.chassis.telemetry import spans_to
from services.chassis.tls import client_context, open_channel, until_renewed
from services.console.probe_commands import ask
from tests.scenario.otlp_sink import otlp_sink, spans_of

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders as cert-manager lays them: two services of one authority, a stranger of another."""
    made: dict[str, Path] = {}
    for authority, names in (("ours", ["case", "detector"]), ("other", ["stranger"])):
        place = tmp_path_factory.mktemp(authority)
        make_certificates(place, names, {name: ("127.0.0.1", name) for name in names})
        for name in names:
            folder = made[name] = place / f"{name}-tls"
            folder.mkdir()
            files = (("ca.crt", "ca.crt"), (f"{name}.crt", "tls.crt"), (f"{name}.key", "tls.key"))
            for source, target in files:
                shutil.copy(place / source, folder / target)
    return made


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


@asynccontextmanager
async def served(tmp_path: Path, tls: Path, ready: bool = True) -> AsyncIterator[tuple[str, str]]:
    """(address, probe address) of a service that runs in this process until SIGTERM."""
    (tmp_path / "tokens").mkdir()
    listen, probe = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config = Config(
        service="case",
        home=tmp_path,
        listen=listen,
        token_keys_dir=tmp_path / "tokens",
        tls_dir=tls,
        probe_listen=probe,
        drain_seconds=2.0,
    )
    running = asyncio.create_task(serve(config, lambda server: None, ready=lambda: ready))
    try:
        async with grpc.aio.insecure_channel(probe) as channel:
            await channel.channel_ready()
            await until(channel, "live", SERVING)
        yield listen, probe
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def asked(channel: grpc.aio.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return int((await health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)).status)


async def until(channel: grpc.aio.Channel, service: str, status: int) -> None:
    while True:
        try:
            if await asked(channel, service) == status:
                return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        await asyncio.sleep(0.05)


async def test_services_of_one_authority_talk(tmp_path: Path, certificates: dict[str, Path]) -> None:
    runs, own = served(tmp_path, certificates["case"]), certificates["detector"]
    async with runs as (address, _), open_channel(address, own, CHANNEL_OPTIONS) as channel:
        assert SERVING == await asked(channel, "")


@pytest.mark.parametrize("who", ["stranger", "nobody", "in the clear"])
@pytest.mark.slow
async def test_a_stranger_is_kept_off_the_wire(tmp_path: Path, certificates: dict[str, Path], who: str) -> None:
    async with served(tmp_path, certificates["case"]) as (address, _):
        if who == "stranger":
            channel = open_channel(address, certificates["stranger"], ())
        elif who == "nobody":
            roots = (certificates["case"] / "ca.crt").read_bytes()
            channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots))
        else:
            channel = grpc.aio.insecure_channel(address)
        async with channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await asked(channel, "")
    assert grpc.StatusCode.UNAVAILABLE is refused.value.code()


async def test_a_probe_without_certificate_learns_health_and_nothing_else(
    tmp_path: Path, certificates: dict[str, Path]
) -> None:
    async with served(tmp_path, certificates["case"]) as (_, probe), grpc.aio.insecure_channel(probe) as channel:
        await until(channel, "", SERVING)
        reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(reflection)(b"", timeout=20)
    assert grpc.StatusCode.UNIMPLEMENTED is refused.value.code()


@pytest.mark.slow
async def test_what_is_not_ready_lives_all_the_same(tmp_path: Path, certificates: dict[str, Path]) -> None:
    runs = served(tmp_path, certificates["case"], ready=False)
    async with runs as (_, probe), grpc.aio.insecure_channel(probe) as channel:
        assert [NOT_SERVING, SERVING] == [await asked(channel, ""), await asked(channel, "live")]


@pytest.mark.slow
async def test_probes_see_a_drain_and_no_death(tmp_path: Path, certificates: dict[str, Path]) -> None:
    async with served(tmp_path, certificates["case"]) as (_, probe), grpc.aio.insecure_channel(probe) as channel:
        await until(channel, "", SERVING)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert SERVING == (await watch.read()).status
        os.kill(os.getpid(), signal.SIGTERM)
        assert NOT_SERVING == (await watch.read()).status


async def test_a_renewed_certificate_ends_the_wait(tmp_path: Path, certificates: dict[str, Path]) -> None:
    folder = tmp_path / "tls"
    shutil.copytree(certificates["case"], folder)
    waiting = asyncio.create_task(until_renewed(folder, look_seconds=0.01, spread_seconds=0.0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    shutil.copy(certificates["detector"] / "tls.crt", folder / "tls.crt")
    await waiting


def test_a_key_that_is_not_the_certificates_is_refused(tmp_path: Path, certificates: dict[str, Path]) -> None:
    folder = tmp_path / "tls"
    shutil.copytree(certificates["case"], folder)
    shutil.copy(certificates["detector"] / "tls.key", folder / "tls.key")
    with pytest.raises(OSError, match=r"KEY_VALUES_MISMATCH|key values mismatch"):
        client_context(folder)




async def test_a_probe_from_the_command_line_shows_its_certificate(
    tmp_path: Path, certificates: dict[str, Path]
) -> None:
    async with served(tmp_path, certificates["case"]) as (address, _):
        known = await ask("case", address, certificates["detector"])
        stranger = await ask("case", address, certificates["stranger"])
    assert (True, "SERVING", False, "UNAVAILABLE") == (known.good, known.status, stranger.good, stranger.status)


@pytest.mark.slow
def test_spans_go_over_mutual_tls_to_who_asks_for_it(certificates: dict[str, Path]) -> None:
    with otlp_sink(certificates["case"]) as sink:
        for who in ("detector", "stranger"):
            exporter = spans_to(f"https://127.0.0.1:{sink.port}", certificates[who])
            provider = TracerProvider()
            provider.add_span_processor(SimpleSpanProcessor(exporter))
            provider.get_tracer("test").start_span(f"of the {who}").end()
            provider.shutdown()
        names = [span.name for export in sink.exports() for span in spans_of(export)]
    assert ["of the detector"] == names
