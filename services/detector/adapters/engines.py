"""Which runtime works out a model file on this machine, and in which precision."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.chassis.telemetry import logger
from services.detector.adapters.kept import keep, kept_file, read_kept
from services.detector.adapters.model_files import ModelFile

log = logger(__name__)

Tensor = NDArray[np.uint8] | NDArray[np.float32]
Floats = NDArray[np.float32]

AUTO, ONNXRUNTIME, OPENVINO = "auto", "onnxruntime", "openvino"
ENGINES: Final = (AUTO, ONNXRUNTIME, OPENVINO)
"""`auto` takes OpenVINO where it is installed and gives the reference's answers, ONNX Runtime otherwise."""
LEAST_COSINE: Final = 0.9999
"""What an engine's vectors in FP32 must keep to those of ONNX Runtime to be admitted."""
MOST_COPIES: Final = 16
"""Runs of one model at the same time; further callers wait."""

_ERRORS_ONLY: Final = 3
_DIGEST: Final = 32
"""Bytes of the SHA-256 before what is kept of a compiled model."""
_BF16_UNITS: Final = {"avx512_bf16", "amx_bf16"}


class Network(Protocol):
    """One model file, ready to be worked out. Several threads may run it at once."""

    @property
    def engine_id(self) -> str:
        """Runtime, its version, processor kind and precision."""

    def run(self, values: Tensor) -> list[Floats]:
        """The file's outputs, in its order, for its one input."""


class UnusableEngine(Exception):
    """An engine that was asked for is not installed, or does not give the reference's answers."""


def open_session(file: ModelFile, threads: int) -> ort.InferenceSession:
    """A CPU session over the checked bytes; `run` releases the GIL."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # Spinning threads look busy to the other processes on the same cores and win nothing at these sizes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(file.read(), options, providers=["CPUExecutionProvider"])


class OnnxNetwork:
    """ONNX Runtime in FP32: the reference, and what is always there."""

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        self._session = open_session(file, threads)
        self._input = str(self._session.get_inputs()[0].name)
        self.engine_id = f"onnxruntime-{ort.__version__}-cpu-fp32"

    def run(self, values: Tensor) -> list[Floats]:
        """See Network."""
        return [np.asarray(output, np.float32) for output in self._session.run(None, {self._input: values})]


class OpenVinoNetwork:
    """OpenVINO, in FP32 or in BF16.

    A compiled model works for one caller at a time, in the caller's own thread; so each caller at the same time has a
    copy of its own, made when it is first needed (some megabytes). What was compiled is kept for the next copy and the
    next start: reading it takes a quarter of the time.
    """

    def __init__(self, file: ModelFile, threads: int = 1, bf16: bool = False) -> None:
        """Raises UnusableEngine where OpenVINO is not installed."""
        openvino = _openvino()
        core, content = openvino.Core(), file.read()
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        plan = f"{file.sha256} {openvino.__version__} {sorted(options.items())} {sorted(_processor_flags())}"
        kept = kept_file("openvino", f"{sha256(plan.encode()).hexdigest()}.blob")
        self._requests = _Shared(lambda: _compiled(core, content, options, kept).create_infer_request())
        version = str(openvino.__version__).split("-", 1)[0]
        self.engine_id = f"openvino-{version}-cpu-{'bf16' if bf16 else 'fp32'}"

    def run(self, values: Tensor) -> list[Floats]:
        """See Network."""
        with self._requests.lent() as request:
            # Outputs lie in memory of the request, which the next caller overwrites: copies leave.
            results = request.infer([np.ascontiguousarray(values)], share_inputs=True, share_outputs=True)
            return [np.array(results[at], np.float32) for at in range(len(results))]


def _compiled(core: Any, content: bytes, options: Mapping[str, Any], kept: Path) -> Any:
    """The model as it was kept, else compiled and kept; what was kept and is spoilt counts as nothing."""
    found = read_kept(kept) or b""
    if found[:_DIGEST] == sha256(found[_DIGEST:]).digest():
        # What OpenVINO says of one that it cannot read is no more than that.
        with suppress(RuntimeError):
            return core.import_model(found[_DIGEST:], "CPU", options)
    compiled = core.compile_model(core.read_model(content), "CPU", options)
    exported = compiled.export_model().getvalue()
    keep(kept, sha256(exported).digest() + exported)
    return compiled


class _Shared:
    """Things that serve one caller at a time: lent out, made when all are out, at most MOST_COPIES."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._slots = threading.Semaphore(MOST_COPIES)
        self._free: list[Any] = [make()]

    @contextmanager
    def lent(self) -> Iterator[Any]:
        with self._slots:
            try:
                # Taking from a list is one step; the last one used is still in the processor's caches.
                thing = self._free.pop()
            except IndexError:
                thing = self._make()
            try:
                yield thing
            finally:
                self._free.append(thing)


def known_engine(text: str) -> str:
    """One of ENGINES. Raises ValueError for another word."""
    if text not in ENGINES:
        raise ValueError("not an engine")
    return text


def open_network(
    file: ModelFile, threads: int, engine: str, agrees: Callable[[Network, Network], bool], bf16: bool = False
) -> Network:
    """The file in the engine asked for; `auto` falls back to ONNX Runtime where OpenVINO is missing or differs.

    `agrees` is told both networks and says whether the first may stand for the second. Raises UnusableEngine when
    OpenVINO is asked for by name and may not be used.
    """
    reference = OnnxNetwork(file, threads)
    if engine == ONNXRUNTIME:
        return reference
    try:
        other = OpenVinoNetwork(file, threads, bf16)
        if not agrees(other, reference):
            raise UnusableEngine(f"{other.engine_id} does not give the answers of {reference.engine_id}")
    except UnusableEngine as problem:
        if engine == OPENVINO:
            raise
        log.warning("engine_not_used", model=file.name, reason=str(problem))
        return reference
    return other


def same_direction(network: Network, reference: Network, probes: Tensor) -> bool:
    """Whether both give vectors of the same direction for [N,…] probes: cosine at least LEAST_COSINE for each."""
    one, other = network.run(probes)[0], reference.run(probes)[0]
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return bool(np.all(np.sum(one * other, axis=1) >= LEAST_COSINE * lengths)) and bool(np.all(lengths > 0))


def has_bf16() -> bool:
    """Whether this processor calculates in BF16; without its own units that would be slower than FP32."""
    return not _BF16_UNITS.isdisjoint(_processor_flags())


def _processor_flags() -> Set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def _openvino() -> Any:
    """The package, without its conversion tools: importing those reports the use to its makers' analytics server and
    leaves an identifier in the home folder. Nothing here needs them."""
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type] # None makes the import fail, by design
    try:
        return importlib.import_module("openvino")
    except ImportError as problem:
        raise UnusableEngine("openvino is not installed") from problem
