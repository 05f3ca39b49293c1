"""How are face crops embedded by a Triton server? The same files, the same vectors, the same `model_id` as in process.

A model's version number on the server is made from its `model_id`, and every answer names the version that gave it: a
server that was changed can fail, it cannot mix vectors of two models. Before a model is used its vectors are compared
with those of the same file in this process; so they are after every failure.

Every failure is the engine's and never a picture's: callers get `Unavailable` (or `DeadlineExceeded`) and try again.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import ipaddress
import os
import random
import re
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from services.chassis import yaml_text
from services.chassis.config import ConfigError, setting
from services.chassis.errors import DeadlineExceeded, ServiceError, Unavailable
from services.chassis.telemetry import logger
from services.detector.adapters.model_files import embedder_files
from services.detector.adapters.models import Embedder, FaceModels, Floats, OnnxEmbedder, Pixels
from services.detector.metrics import EMBEDDER_REQUESTS

log = logger(__name__)

RULES_FILE = Path(__file__).parent.parent / "rules" / "triton.yaml"
INPUT, OUTPUT = "pixels", "vectors"
CROP = (112, 112, 3)
PROBES = 8
"""Pictures by which a server's vectors are compared with the reference."""
MOST_BYTES = 8 * 1024 * 1024
"""Largest message either way; a request of 8 crops has 300 kB."""
_UNIT_TOLERANCE = 1e-3
_TARGET = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}")
_CHANNEL = (
    ("grpc.max_send_message_length", MOST_BYTES),
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Repeating is decided here, once.
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
)


def version_of(model_id: str) -> int:
    """The number under which a server keeps the model: 48 bits of SHA-256 over the `model_id`, never 0."""
    return int.from_bytes(hashlib.sha256(model_id.encode()).digest()[:6], "big") or 1


@dataclass(frozen=True)
class TritonRules:
    """`rules/triton.yaml`; times in seconds."""

    version: str
    crops_per_request: int
    in_flight: int
    request_seconds: float
    call_seconds: float
    attempts: int
    backoff_seconds: float
    open_after: int
    open_seconds: float
    watch_seconds: float
    least_cosine: Mapping[str, float]
    """By precision: FP32, and `reduced` for every other."""

    def __post_init__(self) -> None:
        if min(self.crops_per_request, self.in_flight, self.attempts, self.open_after) < 1:
            raise ValueError("triton rules: counts start at 1")
        if not 0 < self.request_seconds <= self.call_seconds or min(self.open_seconds, self.watch_seconds) <= 0:
            raise ValueError("triton rules: times are above 0, and a call lasts at least as long as a request")
        if set(self.least_cosine) != {"FP32", "reduced"} or not all(0 < c <= 1 for c in self.least_cosine.values()):
            raise ValueError("triton rules: least_cosine names FP32 and reduced, each in 0..1")


def read_triton_rules(folder: Path | None = None) -> TritonRules:
    """`<folder>/detector/triton.yaml` if there is one, else the rules shipped. Raises ValueError."""
    values = yaml_text.read(RULES_FILE, folder, "detector")
    names = {field.name for field in fields(TritonRules)}
    if not isinstance(values, dict) or set(values) != names | {"id"}:
        raise ValueError("triton rules: a field is missing or unknown")
    return TritonRules(**{name: values[name] for name in names})


@dataclass(frozen=True)
class TritonAddress:
    """Where the server listens, and how the way there is protected."""

    target: str
    """host:port"""
    ca_file: Path | None = None
    """Certificates that the server's must stand on; None sends in the clear."""
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        if self.ca_file is None and not _is_loopback(self.target):
            raise ValueError("face crops leave this machine only under TLS: name the server's CA file")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("a client certificate needs its key, and the key its certificate")

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What the channel is made with; reads the files. Raises OSError."""
        if self.ca_file is None:
            return None
        own = [file.read_bytes() if file else None for file in (self.key_file, self.certificate_file)]
        return grpc.ssl_channel_credentials(self.ca_file.read_bytes(), own[0], own[1])


def _is_loopback(target: str) -> bool:
    host = target.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Breaker:
    """Stops asking after failures in a row; after a pause lets a single request try."""

    def __init__(self, open_after: int, open_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._open_after, self._open_seconds, self._now = open_after, open_seconds, now
        self._failures = 0
        self._try_from = 0.0

    @property
    def open(self) -> bool:
        """Whether it stopped asking and has not heard of success since."""
        return self._failures >= self._open_after

    def lets_through(self) -> bool:
        """Whether a request may go out now; while open it books the one trial of each pause."""
        if not self.open:
            return True
        if self._now() < self._try_from:
            return False
        self._try_from = self._now() + self._open_seconds
        return True

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures = 0

    def failed(self) -> None:
        """A request was not."""
        self._failures += 1
        self._try_from = self._now() + self._open_seconds


class _Trouble(Enum):
    """What a caller is told, by what went wrong."""

    AWAY = "EMBEDDER_AWAY"
    SLOW = "EMBEDDER_SLOW"
    FAILED = "EMBEDDER_FAILED"
    WRONG = "EMBEDDER_ANSWERS_WRONG"


class _RequestFailed(Exception):
    """A request without a usable answer. Carries no text of the server's: it may quote its input."""

    def __init__(self, trouble: _Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


class TritonServer:
    """One server: its channel, and the bound on what is under way. Belongs to the event loop that it is made on."""

    def __init__(self, address: TritonAddress, rules: TritonRules) -> None:
        self.rules = rules
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(rules.in_flight)
        self._lock = threading.Lock()
        self._closed = False
        self._calls: set[concurrent.futures.Future[Floats]] = set()
        self._client = InferenceServerClient(
            address.target, creds=address.credentials(), channel_args=list(_CHANNEL)
        )

    def wait_for(self, work: Callable[[], Coroutine[Any, Any, Floats]]) -> Floats:
        """Runs work on the event loop and waits for it in this thread. Raises `_RequestFailed`."""
        if _on_loop(self._loop):
            raise RuntimeError("this waits for the event loop and must not be called on it")
        with self._lock:
            if self._closed:
                raise _RequestFailed(_Trouble.AWAY)
            call = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._calls.add(call)
        try:
            # The work ends by its own limit; this one is for a loop that does not turn.
            return call.result(self.rules.call_seconds + 1.0)
        except TimeoutError:
            call.cancel()
            raise _RequestFailed(_Trouble.SLOW) from None
        except concurrent.futures.CancelledError:
            raise _RequestFailed(_Trouble.AWAY) from None
        finally:
            with self._lock:
                self._calls.discard(call)

    async def close(self) -> None:
        """Ends the channel and lets go every waiting thread: whoever ends the threads must not wait for them first."""
        with self._lock:
            self._closed = True
            for call in self._calls:
                call.cancel()
        await self._client.close()

    async def serves(self, name: str, version: str) -> bool:
        """Whether that version of the model is loaded; False too where the server cannot be asked."""
        try:
            return bool(await self._client.is_model_ready(name, version, client_timeout=self.rules.request_seconds))
        except InferenceServerException:
            return False

    async def engine(self, name: str, version: str) -> tuple[str, str]:
        """(engine_id, precision) by which the model runs. Raises `_RequestFailed`."""
        try:
            seconds = self.rules.request_seconds
            about = await self._client.get_server_metadata(client_timeout=seconds)
            answer = await self._client.get_model_config(name, version, client_timeout=seconds)
        except InferenceServerException as error:
            raise _RequestFailed(_trouble_of(error)) from None
        runs_by, precision = _engine_in(answer.config)
        return f"triton-{about.version}-{runs_by}", precision

    async def embed(self, name: str, version: str, crops: Pixels) -> Floats:
        """One request, tried again where the server did not take it. Raises `_RequestFailed`."""
        attempt = 1
        while True:
            try:
                return await self._ask(name, version, crops)
            except _RequestFailed as failure:
                if failure.trouble is not _Trouble.AWAY or attempt >= self.rules.attempts:
                    raise
            await asyncio.sleep(self.rules.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
            attempt += 1

    async def _ask(self, name: str, version: str, crops: Pixels) -> Floats:
        tensor = InferInput(INPUT, list(crops.shape), "UINT8")
        tensor.set_data_from_numpy(crops)
        async with self._places:
            try:
                answer = await self._client.infer(
                    name,
                    [tensor],
                    model_version=version,
                    outputs=[InferRequestedOutput(OUTPUT)],
                    client_timeout=self.rules.request_seconds,
                )
            except InferenceServerException as error:
                raise _RequestFailed(_trouble_of(error)) from None
        return _vectors_of(answer, name, version, len(crops))


def _engine_in(config: Any) -> tuple[str, str]:
    """(what runs a model of this configuration, FP32 or reduced). A precision that is not known counts as reduced."""
    accelerators = config.optimization.execution_accelerators
    used = [*accelerators.gpu_execution_accelerator, *accelerators.cpu_execution_accelerator]
    modes = [each.parameters.get("precision_mode", "FP32") for each in used]
    plain = config.backend == "onnxruntime" and set(modes) <= {"FP32"}
    parts = [f"{each.name}-{mode}" for each, mode in zip(used, modes, strict=True)] or ["fp32" if plain else "native"]
    return "-".join([config.backend, *parts]).lower(), "FP32" if plain else "reduced"


def _trouble_of(error: InferenceServerException) -> _Trouble:
    known = {"StatusCode.UNAVAILABLE": _Trouble.AWAY, "StatusCode.DEADLINE_EXCEEDED": _Trouble.SLOW}
    return known.get(error.status(), _Trouble.FAILED)


def _vectors_of(answer: Any, name: str, version: str, count: int) -> Floats:
    """The vectors of an answer, when they are the asked model's, one for each crop, and of length 1."""
    response = answer.get_response()
    vectors = answer.as_numpy(OUTPUT)
    if (response.model_name, response.model_version) != (name, version) or vectors is None:
        raise _RequestFailed(_Trouble.WRONG)
    if vectors.dtype != np.float32 or vectors.ndim != 2 or len(vectors) != count:
        raise _RequestFailed(_Trouble.WRONG)
    lengths = np.linalg.norm(vectors, axis=1)
    # Written so that a vector with NaN fails too.
    if not np.all(np.abs(lengths - 1) <= _UNIT_TOLERANCE):
        raise _RequestFailed(_Trouble.WRONG)
    return np.asarray(vectors, np.float32)


class TritonEmbedder:
    """An embedder on a Triton server. `embed` is for worker threads; the requests run on the server's event loop."""

    def __init__(self, server: TritonServer, name: str, reference: Embedder) -> None:
        """`reference` is the same file in this process in FP32; it is asked once, here."""
        self._server, self._name = server, name
        self._rules = server.rules
        self._probes = probe_crops()
        self._expected = reference.embed(self._probes)
        self._breaker = Breaker(self._rules.open_after, self._rules.open_seconds)
        self._admitted = False
        self._doubted = False
        self.model_id = reference.model_id
        self.engine_id = "triton"
        self.dimension = self._expected.shape[1]
        self._version = str(version_of(self.model_id))

    @property
    def ready(self) -> bool:
        """Whether the server serves this model, gave the reference's vectors, and answers."""
        return self._admitted and not self._breaker.open

    def embed(self, crops: Pixels) -> Floats:
        """uint8 [N,112,112,3] RGB → float32 [N,D] of length 1.

        Raises Unavailable (EMBEDDER_AWAY, _FAILED, _ANSWERS_WRONG, _NOT_ADMITTED) or DeadlineExceeded (EMBEDDER_SLOW).
        """
        if crops.dtype != np.uint8 or crops.shape[1:] != CROP:
            raise ValueError("crops are uint8 [N,112,112,3]")
        if not len(crops):
            return np.empty((0, self.dimension), np.float32)
        if not self._admitted:
            raise Unavailable("EMBEDDER_NOT_ADMITTED", "The embedder is not known to give the reference's vectors.")
        # As many at a time as may be under way: each share has its own time, so that many faces cannot run out of it.
        share = self._rules.in_flight * self._rules.crops_per_request
        shares = [crops[at : at + share] for at in range(0, len(crops), share)]
        return np.concatenate([self._wait_for(each) for each in shares])

    def _wait_for(self, crops: Pixels) -> Floats:
        try:
            return self._server.wait_for(lambda: self._embed(crops))
        except _RequestFailed as failure:
            raise _error_of(failure.trouble, self._rules) from None

    async def _embed(self, crops: Pixels) -> Floats:
        """A share of the crops, in requests that run beside each other; the first failure ends the others."""
        step = self._rules.crops_per_request
        parts: list[asyncio.Task[Floats]] = []
        try:
            async with asyncio.timeout(self._rules.call_seconds), asyncio.TaskGroup() as group:
                parts += [group.create_task(self._guarded(crops[at : at + step])) for at in range(0, len(crops), step)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return np.concatenate([part.result() for part in parts])

    async def _guarded(self, crops: Pixels) -> Floats:
        """One request behind the breaker, counted by outcome."""
        if not self._breaker.lets_through():
            raise _RequestFailed(_Trouble.AWAY)
        try:
            vectors = await self._server.embed(self._name, self._version, crops)
        except _RequestFailed as failure:
            self._note(failure.trouble)
            raise
        self._breaker.succeeded()
        EMBEDDER_REQUESTS.add(self._name, "OK")
        return vectors

    def _note(self, trouble: _Trouble) -> None:
        was_open = self._breaker.open
        self._breaker.failed()
        # It may be another server that answers next.
        self._doubted = True
        EMBEDDER_REQUESTS.add(self._name, trouble.value)
        if self._breaker.open and not was_open:
            log.error("embedder_given_up", model=self._name, reason=trouble.value)

    async def watch(self) -> None:
        """Admits the model when it is served, and dismisses it when it is not, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self._rules.watch_seconds)

    async def look(self) -> None:
        """One look of `watch`: is the model served, and are its vectors the reference's?"""
        if not await self._server.serves(self._name, self._version):
            if self._admitted:
                log.error("embedder_gone", model=self._name)
            self._admitted = False
        elif not self._admitted or self._doubted:
            await self._admit()

    async def _admit(self) -> None:
        """The equivalence test: the worst probe's cosine to the reference decides."""
        try:
            engine_id, precision = await self._server.engine(self._name, self._version)
            vectors = await self._server.embed(self._name, self._version, self._probes)
        except _RequestFailed as failure:
            log.warning("embedder_not_admitted", model=self._name, reason=failure.trouble.value)
            return
        cosine = worst_cosine(vectors, self._expected)
        least = self._rules.least_cosine[precision]
        self._admitted = cosine >= least
        facts = {"model": self._name, "engine": engine_id, "cosine": round(cosine, 6), "least": least}
        if not self._admitted:
            log.error("embedder_not_admitted", reason="VECTORS_DIFFER", **facts)
            return
        self.engine_id, self._doubted = engine_id, False
        self._breaker.succeeded()
        log.info("embedder_admitted", **facts)


def _on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class TritonEmbedders:
    """Both embedders of the face pipeline on one server; made on the event loop that serves."""

    def __init__(self, address: TritonAddress, models: FaceModels, folder: Path, rules: TritonRules) -> None:
        """`models` as opened in process; its other networks stay where they are. Raises UnusableModel, OSError."""
        self._server = TritonServer(address, rules)
        files = embedder_files(folder, (models.embedder.model_id, models.second_embedder.model_id))
        self._embedders = [TritonEmbedder(self._server, file.name, OnnxEmbedder(file)) for file in files]
        self.models = replace(models, embedder=self._embedders[0], second_embedder=self._embedders[1])

    def ready(self) -> bool:
        """Whether both embedders may be asked."""
        return all(embedder.ready for embedder in self._embedders)

    async def look(self) -> None:
        """Looks at both once; what is not served yet is found by `watch`."""
        await asyncio.gather(*(embedder.look() for embedder in self._embedders))

    async def watch(self) -> None:
        """Admits and dismisses for ever; ends the channel when it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for embedder in self._embedders:
                    group.create_task(embedder.watch())
        finally:
            await self._server.close()


def address_from_env(environ: Mapping[str, str] = os.environ) -> TritonAddress | None:
    """Where JIKIMI_EMBEDDER=triton is to ask; None for onnx, the default. Raises ConfigError.

    Reads JIKIMI_TRITON_ADDRESS (host:port, default 127.0.0.1:8001), JIKIMI_TRITON_CA_FILE, and for mutual TLS
    JIKIMI_TRITON_CERTIFICATE_FILE with JIKIMI_TRITON_KEY_FILE.
    """
    embedder = setting(environ, "JIKIMI_EMBEDDER", "onnx", str)
    if embedder == "onnx":
        return None
    if embedder != "triton":
        raise ConfigError("JIKIMI_EMBEDDER", "is neither onnx nor triton")
    target = setting(environ, "JIKIMI_TRITON_ADDRESS", "127.0.0.1:8001", str)
    if not _TARGET.fullmatch(target):
        raise ConfigError("JIKIMI_TRITON_ADDRESS", "is not host:port")
    names = ("JIKIMI_TRITON_CA_FILE", "JIKIMI_TRITON_CERTIFICATE_FILE", "JIKIMI_TRITON_KEY_FILE")
    try:
        return TritonAddress(target, *(setting(environ, name, None, Path) for name in names))
    except ValueError as refusal:
        raise ConfigError("JIKIMI_TRITON_ADDRESS", str(refusal)) from None


def _error_of(trouble: _Trouble, rules: TritonRules) -> ServiceError:
    retry = int(rules.open_seconds * 1000)
    if trouble is _Trouble.SLOW:
        return DeadlineExceeded(trouble.value, "The embedder took too long.", retry_after_ms=retry)
    return Unavailable(trouble.value, "The embedder gives no vectors at the moment.", retry_after_ms=retry)


def worst_cosine(vectors: Floats, expected: Floats) -> float:
    """The smallest cosine between rows of two [N,D] of unit vectors; −1 where the shapes differ."""
    if vectors.shape != expected.shape:
        return -1.0
    return float(np.min(np.sum(vectors.astype(np.float64) * expected, axis=1)))


def probe_crops() -> Pixels:
    """uint8 [PROBES,112,112,3]: smooth random pictures, always the same."""
    chance = np.random.default_rng(7)
    coarse = chance.integers(0, 256, (PROBES, 8, 8, 3)).astype(np.float32)
    places = np.linspace(0, 7, CROP[0])
    low = np.minimum(places.astype(int), 6)
    share = (places - low).astype(np.float32)
    rows = _between(coarse[:, low], coarse[:, low + 1], share[:, None, None])
    return np.asarray(_between(rows[:, :, low], rows[:, :, low + 1], share[:, None]).round(), np.uint8)


def _between(first: Floats, second: Floats, share: Floats) -> Floats:
    return first * (1 - share) + second * share
