"""Does a file behave as every embedder must? Bytes in, unit vectors out, each crop's alone its own.

The contract: `pixels` uint8 [N,112,112,3] RGB, aligned to ArcFace's five points → `vectors` float32 [N,D] of length 1,
64 ≤ D ≤ 2048, the same in any batch. What a graph says of itself is not believed: it is run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from services.detector.adapters.triton import probe_crops

DIMENSIONS = range(64, 2049)
UNIT = 1e-3
SAME = 0.99999
"""Cosine from which two vectors of the same crop are the same, in FP32."""
DIFFERENT = 0.9999
"""Cosine below which at least some pair of the probe pictures must lie."""


class BreaksContract(Exception):
    """The file is no embedder that can be used: a reason for programs, a sentence for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Behaviour:
    """What was seen when the file ran."""

    dimension: int
    worst_batch_cosine: float
    """Between the vectors of crops run together and alone."""
    highest_probe_cosine: float
    """Between different probe pictures."""


def examine(content: bytes) -> Behaviour:
    """Runs an embedder on the probe pictures. Raises BreaksContract."""
    session = _opened(content)
    probes = probe_crops()
    together = _run(session, probes)
    _check_form(together, len(probes))
    alone = np.concatenate([_run(session, probes[at : at + 1]) for at in range(len(probes))])
    if not np.array_equal(together, _run(session, probes)):
        raise BreaksContract("NOT_DETERMINISTIC", "the same crops gave other vectors the second time")
    batch = float(np.min(np.sum(together * alone, axis=1))) if alone.shape == together.shape else -1.0
    if batch < SAME:
        raise BreaksContract("BATCH_CHANGES_VECTORS", f"run together and alone, crops agree to cosine {batch:.4f} only")
    others = (together @ together.T)[~np.eye(len(probes), dtype=bool)]
    if float(others.min()) > DIFFERENT:
        raise BreaksContract("BLIND", "different pictures give the same vector: is the normalisation right?")
    return Behaviour(together.shape[1], batch, float(others.max()))


def _opened(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class
        raise BreaksContract("CANNOT_RUN", f"ONNX Runtime refuses the file: {_first_line(error)}") from None
    inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
    outputs = [(each.name, each.type) for each in session.get_outputs()]
    if inputs != [("pixels", "tensor(uint8)", [112, 112, 3])] or outputs != [("vectors", "tensor(float)")]:
        raise BreaksContract("SIGNATURE", "the file does not take `pixels` and give `vectors` as the contract says")
    return session


def _run(session: ort.InferenceSession, crops: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(session.run(["vectors"], {"pixels": crops})[0])
    except Exception as error:  # its errors share no base class
        words = f"a batch of {len(crops)} crops cannot be run: {_first_line(error)}"
        raise BreaksContract("CANNOT_RUN" if len(crops) == 1 else "NO_BATCHES", words) from None


def _first_line(error: Exception) -> str:
    """What the runtime says, for the operator who brought the file; its input was the probe pictures alone."""
    return str(error).partition("\n")[0][:200].rstrip(".")


def _check_form(vectors: np.ndarray, count: int) -> None:
    if vectors.ndim != 2 or vectors.shape[0] != count or vectors.shape[1] not in DIMENSIONS:
        raise BreaksContract("OUTPUT_SHAPE", f"{count} crops gave {list(vectors.shape)}, not [{count},D]")
    if not np.isfinite(vectors).all():
        raise BreaksContract("NOT_FINITE", "a vector holds no numbers: is the normalisation right?")
    if np.abs(np.linalg.norm(vectors, axis=1) - 1).max() > UNIT:
        raise BreaksContract("NOT_UNIT", "a vector has no length of 1")
