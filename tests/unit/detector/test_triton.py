"""What the detector does with a Triton server that works, is away, is slow, fails, or serves something else."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.chassis.config import ConfigError
from services.chassis.database import is_transient
from services.chassis.errors import DeadlineExceeded, ServiceError, Unavailable
from services.detector.adapters.triton import (
    Breaker,
    TritonAddress,
    TritonEmbedder,
    TritonRules,
    TritonServer,
    address_from_env,
    probe_crops,
    read_triton_rules,
    version_of,
    worst_cosine,
)

RULES = replace(
    read_triton_rules(),
    crops_per_request=16,
    in_flight=8,
    request_seconds=20.0,
    call_seconds=20.0,
    backoff_seconds=0.001,
    open_after=3,
    open_seconds=1.0,
    watch_seconds=0.02,
)


class Colours:
    """A real embedder without a network: the mean colours of the quarters of a crop, as a unit vector."""

    model_id = "colours-0123456789ab-p1"
    engine_id = "numpy"

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        quarters = crops.reshape(-1, 2, 56, 2, 56, 3).astype(np.float64).mean(axis=(2, 4)).reshape(-1, 12) + 1
        return (quarters / np.linalg.norm(quarters, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Speaks Triton's protocol for one model and can be told to misbehave."""

    model: Colours = field(default_factory=Colours)
    name: str = "colours"
    ready: bool = True
    refusals: list[grpc.StatusCode] = field(default_factory=list)
    """Statuses of the next requests, used up one by one."""
    hold: asyncio.Event | None = None
    delay: float = 0.0
    disturb: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    answers_as: str | None = None
    accelerator: tuple[str, str] | None = None
    asked: list[int] = field(default_factory=list)
    """Crops of each request that arrived."""
    now: int = 0
    most: int = 0
    """Requests under way, and the most there ever were."""

    @property
    def version(self) -> str:
        return str(version_of(self.model.model_id))

    async def ModelReady(self, request, context):  # type: ignore[no-untyped-def] # generated base
        serves = self.ready and (request.name, request.version) == (self.name, self.version)
        return service_pb2.ModelReadyResponse(ready=serves)

    async def ServerMetadata(self, request, context):  # type: ignore[no-untyped-def] # generated base
        return service_pb2.ServerMetadataResponse(name="triton", version="2.51.0")

    async def ModelConfig(self, request, context):  # type: ignore[no-untyped-def] # generated base
        answer = service_pb2.ModelConfigResponse()
        answer.config.backend = "onnxruntime"
        if self.accelerator:
            used = answer.config.optimization.execution_accelerators.gpu_execution_accelerator.add()
            used.name, used.parameters["precision_mode"] = self.accelerator
        return answer

    async def ModelInfer(self, request, context):  # type: ignore[no-untyped-def] # generated base
        self.asked.append(request.inputs[0].shape[0])
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.delay)
            if self.hold:
                await self.hold.wait()
            if self.refusals:
                await context.abort(self.refusals.pop(0), "input was 010-1234-5678")
            return self._answer(request)
        finally:
            self.now -= 1

    def _answer(self, request):  # type: ignore[no-untyped-def] # generated messages
        crops = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(request.inputs[0].shape)
        vectors = self.model.embed(crops)
        if self.disturb:
            vectors = self.disturb(vectors)
        answer = service_pb2.ModelInferResponse(
            model_name=self.name, model_version=self.answers_as or self.version, raw_output_contents=[vectors.tobytes()]
        )
        answer.outputs.add(name="vectors", datatype="FP32", shape=vectors.shape)
        return answer


@dataclass
class World:
    fake: FakeTriton
    server: TritonServer
    listener: grpc.aio.Server
    embedder: TritonEmbedder

    async def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As a worker thread does."""
        return await asyncio.to_thread(self.embedder.embed, crops)


@asynccontextmanager
async def serving(rules: TritonRules = RULES, keys: Path | None = None, client: bool = True) -> AsyncIterator[World]:
    """A server and an embedder on it; with `keys` under mutual TLS, with the client's certificate or without."""
    fake = FakeTriton()
    listener = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, listener)
    if keys is None:
        port = listener.add_insecure_port("127.0.0.1:0")
        address = TritonAddress(f"127.0.0.1:{port}")
    else:
        own, certificate = keys / "key.pem", keys / "certificate.pem"
        pair = [(own.read_bytes(), certificate.read_bytes())]
        port = listener.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials(pair, certificate.read_bytes(), require_client_auth=True)
        )
        address = TritonAddress(f"localhost:{port}", certificate, *((certificate, own) if client else ()))
    await listener.start()
    server = TritonServer(address, rules)
    yield World(fake, server, listener, TritonEmbedder(server, "colours", Colours()))
    await server.close()
    await listener.stop(None)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world


def crops(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


async def reason_of(work: object) -> str:
    with pytest.raises(ServiceError) as caught:
        await work  # type: ignore[misc] # any awaitable
    return caught.value.reason


@pytest.mark.parametrize("count", [1, 15, 16, 17, 70])
async def test_vectors_are_those_of_the_same_model_in_this_process(world: World, count: int) -> None:
    await world.embedder.look()
    pictures = crops(count)

    found = await world.embed(pictures)

    assert np.array_equal(Colours().embed(pictures), found)
    assert np.float32 == found.dtype


async def test_crops_travel_in_requests_of_bounded_size(world: World) -> None:
    await world.embedder.look()
    world.fake.asked.clear()

    await world.embed(crops(40))

    assert [8, 16, 16] == sorted(world.fake.asked)


async def test_no_crops_need_no_server(world: World) -> None:
    assert (0, 12) == world.embedder.embed(np.empty((0, 112, 112, 3), np.uint8)).shape


async def test_the_model_id_is_the_files_whatever_engine_runs_it(world: World) -> None:
    await world.embedder.look()

    assert Colours.model_id == world.embedder.model_id
    assert "triton-2.51.0-onnxruntime-fp32" == world.embedder.engine_id


async def test_nothing_is_embedded_before_the_vectors_were_compared(world: World) -> None:
    assert not world.embedder.ready
    assert "EMBEDDER_NOT_ADMITTED" == await reason_of(world.embed(crops(1)))
    assert [] == world.fake.asked


async def test_a_server_whose_vectors_differ_is_not_used(world: World) -> None:
    world.fake.disturb = lambda vectors: np.roll(vectors, 1, axis=1)

    await world.embedder.look()

    assert not world.embedder.ready
    assert "EMBEDDER_NOT_ADMITTED" == await reason_of(world.embed(crops(1)))


def slightly_off(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors at a cosine of about 0.9996 to those given."""
    turned = vectors + 0.03 * np.roll(vectors, 1, axis=1) * np.where(np.arange(12) % 2, 1, -1)
    return (turned / np.linalg.norm(turned, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("accelerator", "admitted"), [(None, False), (("tensorrt", "FP32"), False), (("tensorrt", "FP16"), True)]
)
async def test_reduced_precision_may_differ_by_a_little_more(
    world: World, accelerator: tuple[str, str] | None, admitted: bool
) -> None:
    probes = Colours().embed(probe_crops())
    assert 0.999 < worst_cosine(slightly_off(probes), probes) < 0.9999
    world.fake.disturb, world.fake.accelerator = slightly_off, accelerator

    await world.embedder.look()

    assert admitted == world.embedder.ready


async def test_a_request_that_was_not_taken_is_tried_again(world: World) -> None:
    await world.embedder.look()
    world.fake.refusals = [grpc.StatusCode.UNAVAILABLE] * 2
    pictures = crops(2)

    assert np.array_equal(Colours().embed(pictures), await world.embed(pictures))
    assert world.embedder.ready


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        (grpc.StatusCode.UNAVAILABLE, RULES.attempts),
        (grpc.StatusCode.INTERNAL, 1),
        (grpc.StatusCode.INVALID_ARGUMENT, 1),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1),
        (grpc.StatusCode.NOT_FOUND, 1),
    ],
)
async def test_only_a_request_that_was_not_taken_is_repeated(
    world: World, status: grpc.StatusCode, tries: int
) -> None:
    await world.embedder.look()
    world.fake.asked.clear()
    world.fake.refusals = [status] * 9

    with pytest.raises(Unavailable) as caught:
        await world.embed(crops(1))

    assert [1] * tries == world.fake.asked
    assert is_transient(caught.value), "otherwise it would count against the signal"
    assert "010-1234" not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"


async def test_a_server_that_hangs_is_given_up_after_the_deadline() -> None:
    async with serving(replace(RULES, request_seconds=0.3)) as world:
        await admitted(world)
        world.fake.hold = asyncio.Event()

        with pytest.raises(DeadlineExceeded) as caught:
            await world.embed(crops(1))
        assert is_transient(caught.value)


async def admitted(world: World) -> None:
    """Looks until the model is admitted: with a short deadline a busy machine may need a second look."""
    async with asyncio.timeout(20):
        while not world.embedder.ready:
            await world.embedder.look()


@pytest.mark.slow
async def test_waiting_for_others_ends_too() -> None:
    async with serving(replace(RULES, in_flight=1, request_seconds=1.0, call_seconds=1.0)) as world:
        await admitted(world)
        world.fake.delay = 0.6

        answers = await asyncio.gather(*(world.embed(crops(1)) for _ in range(4)), return_exceptions=True)

        late = [answer.reason for answer in answers if isinstance(answer, DeadlineExceeded)]
        assert ["EMBEDDER_SLOW"] * len(late) == late != []


@pytest.mark.slow
async def test_many_faces_have_more_time_than_few() -> None:
    """A picture full of faces would otherwise be tried for ever."""
    async with serving(replace(RULES, in_flight=1, request_seconds=1.0, call_seconds=1.0)) as world:
        await admitted(world)
        world.fake.delay = 0.3
        pictures = crops(16 * 5)

        assert np.array_equal(Colours().embed(pictures), await world.embed(pictures))


async def test_requests_under_way_are_bounded(world: World) -> None:
    await world.embedder.look()
    world.fake.hold = asyncio.Event()
    work = [asyncio.create_task(world.embed(crops(64))) for _ in range(4)]
    await until(lambda: world.fake.now >= RULES.in_flight)
    await asyncio.sleep(0.05)
    world.fake.hold.set()

    await asyncio.gather(*work)

    assert RULES.in_flight == world.fake.most


async def test_after_failures_in_a_row_the_server_is_left_alone(world: World) -> None:
    await world.embedder.look()
    world.fake.refusals = [grpc.StatusCode.INTERNAL] * RULES.open_after
    for _ in range(RULES.open_after):
        assert "EMBEDDER_FAILED" == await reason_of(world.embed(crops(1)))
    world.fake.asked.clear()

    assert "EMBEDDER_AWAY" == await reason_of(world.embed(crops(1)))
    assert [] == world.fake.asked
    assert not world.embedder.ready


@pytest.mark.slow
async def test_after_a_pause_one_request_tries_whether_the_server_is_back(world: World) -> None:
    await world.embedder.look()
    world.fake.refusals = [grpc.StatusCode.INTERNAL] * RULES.open_after
    for _ in range(RULES.open_after):
        await reason_of(world.embed(crops(1)))
    await asyncio.sleep(RULES.open_seconds)

    assert 1 == len(await world.embed(crops(1)))
    assert world.embedder.ready


async def test_a_server_that_comes_back_is_compared_again(world: World) -> None:
    watching = asyncio.create_task(world.embedder.watch())
    await until(lambda: world.embedder.ready)
    world.fake.ready = False
    await until(lambda: not world.embedder.ready)

    world.fake.disturb = lambda vectors: np.roll(vectors, 1, axis=1)
    world.fake.ready = True
    asked = len(world.fake.asked)
    await until(lambda: len(world.fake.asked) > asked)
    assert not world.embedder.ready

    world.fake.disturb = None
    await until(lambda: world.embedder.ready)
    watching.cancel()


async def test_after_a_failure_the_vectors_are_compared_again(world: World) -> None:
    """Another server may have taken the place of the one that failed."""
    await world.embedder.look()
    world.fake.refusals = [grpc.StatusCode.INTERNAL]
    await reason_of(world.embed(crops(1)))
    world.fake.disturb = lambda vectors: np.roll(vectors, 1, axis=1)

    await world.embedder.look()
    assert not world.embedder.ready

    world.fake.disturb = None
    await world.embedder.look()
    asked = len(world.fake.asked)
    await world.embedder.look()
    assert world.embedder.ready
    assert asked == len(world.fake.asked), "compared once, it is trusted"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_vectors_of_another_version_are_never_taken(world: World) -> None:
    await world.embedder.look()
    world.fake.answers_as = "1"

    assert "EMBEDDER_ANSWERS_WRONG" == await reason_of(world.embed(crops(1)))


@pytest.mark.parametrize(
    "disturb",
    [
        pytest.param(lambda v: v * np.float32(0.9), id="not of length 1"),
        pytest.param(lambda v: v * np.float32("nan"), id="not finite"),
        pytest.param(lambda v: v[:-1], id="one too few"),
        pytest.param(lambda v: v.astype(np.float32).reshape(-1), id="another shape"),
    ],
)
async def test_answers_that_break_the_contract_are_refused(
    world: World, disturb: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    await world.embedder.look()
    world.fake.disturb = disturb

    assert "EMBEDDER_ANSWERS_WRONG" == await reason_of(world.embed(crops(3)))


async def test_a_server_that_is_not_there_is_not_ready_and_says_so(world: World) -> None:
    await world.embedder.look()
    await world.listener.stop(None)

    assert "EMBEDDER_AWAY" == await reason_of(world.embed(crops(1)))
    await world.embedder.look()
    assert not world.embedder.ready


async def test_no_word_of_the_servers_reaches_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await world.embedder.look()
    world.fake.refusals = [grpc.StatusCode.INTERNAL] * RULES.open_after
    for _ in range(RULES.open_after):
        await reason_of(world.embed(crops(1)))

    assert "embedder_given_up" in caplog.text
    assert "010-1234" not in caplog.text


async def test_closing_lets_threads_go_at_once_though_the_loop_stands_still(world: World) -> None:
    """At the end of the service the loop waits for its threads: they must not wait for the loop."""
    await world.embedder.look()
    world.fake.hold = asyncio.Event()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(world.embedder.embed, crops(1)) for _ in range(2)]
        await until(lambda: world.fake.now == 2)
        await world.server.close()
        late = pool.submit(world.embedder.embed, crops(1))

        reasons = [call.exception(timeout=10).reason for call in (*waiting, late)]

    assert ["EMBEDDER_AWAY"] * 3 == reasons


async def test_crops_of_another_form_are_refused_here(world: World) -> None:
    await world.embedder.look()

    with pytest.raises(ValueError, match="uint8"):
        await world.embed(np.zeros((1, 3, 112, 112), np.uint8))


async def test_waiting_on_the_event_loop_is_refused_and_blocks_nothing(world: World) -> None:
    await world.embedder.look()

    with pytest.raises(RuntimeError, match="event loop"):
        world.embedder.embed(crops(1))


def test_the_breaker_lets_one_request_try_in_each_pause() -> None:
    time = [0.0]
    breaker = Breaker(open_after=2, open_seconds=10, now=lambda: time[0])
    breaker.failed()
    assert breaker.lets_through()
    breaker.failed()

    assert [False, False] == [breaker.lets_through() for _ in range(2)]
    time[0] = 10.0
    assert [True, False] == [breaker.lets_through() for _ in range(2)]
    breaker.failed()
    time[0] = 19.9
    assert not breaker.lets_through()
    time[0] = 20.0
    assert breaker.lets_through()
    breaker.succeeded()
    assert [True, True] == [breaker.lets_through() for _ in range(2)]


@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        ("127.0.0.1:8001", True),
        ("[::1]:8001", True),
        ("localhost:8001", True),
        ("triton:8001", False),
        ("10.0.0.5:8001", False),
        ("localhost.example:8001", False),
    ],
)
def test_crops_leave_the_machine_only_under_tls(target: str, allowed: bool) -> None:
    if allowed:
        assert TritonAddress(target).credentials() is None
    else:
        with pytest.raises(ValueError, match="TLS"):
            TritonAddress(target)
    assert target == TritonAddress(target, Path("ca.pem")).target


def test_faces_are_embedded_in_process_unless_triton_is_asked_for() -> None:
    assert address_from_env({}) is None
    assert address_from_env({"JIKIMI_EMBEDDER": "onnx", "JIKIMI_TRITON_ADDRESS": "nonsense"}) is None
    assert TritonAddress("127.0.0.1:8001") == address_from_env({"JIKIMI_EMBEDDER": "triton"})


def test_the_way_to_the_server_is_read_from_the_environment() -> None:
    variables = {
        "JIKIMI_EMBEDDER": "triton",
        "JIKIMI_TRITON_ADDRESS": "triton.models:8001",
        "JIKIMI_TRITON_CA_FILE": "/keys/ca.pem",
        "JIKIMI_TRITON_CERTIFICATE_FILE": "/keys/own.pem",
        "JIKIMI_TRITON_KEY_FILE": "/keys/own.key",
    }

    files = [Path(f"/keys/{name}") for name in ("ca.pem", "own.pem", "own.key")]
    assert TritonAddress("triton.models:8001", *files) == address_from_env(variables)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"JIKIMI_EMBEDDER": "tensorflow"}, "JIKIMI_EMBEDDER"),
        ({"JIKIMI_EMBEDDER": "triton", "JIKIMI_TRITON_ADDRESS": "8001"}, "JIKIMI_TRITON_ADDRESS"),
        ({"JIKIMI_EMBEDDER": "triton", "JIKIMI_TRITON_ADDRESS": "triton:8001"}, "TLS"),
        ({"JIKIMI_EMBEDDER": "triton", "JIKIMI_TRITON_KEY_FILE": "/keys/own.key"}, "certificate"),
    ],
)
def test_a_wrong_variable_stops_the_start_and_is_named(variables: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        address_from_env(variables)

    assert not [value for value in variables.values() if value in str(caught.value) and len(value) > 6]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A key and a certificate for localhost that stands on itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing, which makes the certificate: apt install openssl")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_under_tls_both_sides_show_their_certificates(keys: Path) -> None:
    async with serving(keys=keys) as world:
        await world.embedder.look()
        assert (2, 12) == (await world.embed(crops(2))).shape

    async with serving(keys=keys, client=False) as world:
        await world.embedder.look()
        assert not world.embedder.ready


def test_version_numbers_tell_models_apart_and_fit_a_folder_name() -> None:
    numbers = [version_of(f"model-{at}") for at in range(1000)]

    assert 1000 == len(set(numbers))
    assert all(0 < number < 2**48 for number in numbers)
    assert version_of("fr_feature-319a0eb7e776-p1") == version_of("fr_feature-319a0eb7e776-p1")


def test_probes_are_pictures_of_their_own_and_always_the_same() -> None:
    probes = probe_crops()

    assert (8, 112, 112, 3) == probes.shape
    assert np.array_equal(probes, probe_crops())
    assert 8 == len({probe.tobytes() for probe in probes})
    assert probes.std() > 30


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("in_flight: 8", "in_flight: 0"),
        ("call_seconds: 25", "call_seconds: 1"),
        ("attempts: 3", ""),
        ("attempts: 3", "attempts: 3\nmore: 1"),
        ("FP32: 0.9999", "FP32: 1.1"),
    ],
)
def test_rules_that_contradict_themselves_are_refused(tmp_path: Path, old: str, new: str) -> None:
    own = tmp_path / "detector" / "triton.yaml"
    own.parent.mkdir()
    shipped = (Path(__file__).parents[3] / "services/detector/rules/triton.yaml").read_text()
    assert old in shipped
    own.write_text(shipped.replace(old, new))

    with pytest.raises(ValueError, match="triton rules"):
        read_triton_rules(tmp_path)


def test_own_rules_go_before_the_shipped_ones(tmp_path: Path) -> None:
    assert read_triton_rules() == read_triton_rules(tmp_path)
