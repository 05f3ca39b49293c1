"""Which of many templates may be near many probes, told from their eight-bit codes in one product of integers?

FAISS decodes an SQ8 code anew for every probe, so that 64 probes cost what 64 searches cost. Here the probes become
integers too, and one product of integers tells each cosine within a bound that is known; what the bound does not rule
out is scored as FAISS scores it. The answer is the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import faiss
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Found = tuple[Floats, Labels]
"""(scores, labels) of a search, [N, depth] each."""

_COARSE = 63
"""A probe's largest number as an integer. Eight bits would be finer, but processors without VNNI add two products in
sixteen bits, which they would overflow."""
_FINE = 62
"""Parts of one such integer in which what it leaves is told. With both a score is wrong by .001 at most instead of .05,
and the products of 2,048 dimensions still fit 32 bits."""
_SLACK = 4e-6
"""What rounding in float32 may add to the bound."""
_FIRST_ROWS = 4096
"""Rows that give a first idea of how near the nearest are."""
_MOST_KEPT = 1 << 19
"""Pairs of probe and template held at once. A search that needs more (a very deep one) is left to FAISS."""
_ROWS_AT_ONCE = 8192
_PROBES_AT_ONCE = 64
"""Their products with a segment's 65,536 rows take 48 MiB."""
# ONNX, opset 13: MatMulInteger(a: uint8 [n,d], b: int8 [d,m]) → y: int32 [n,m]. ONNX Runtime uses VNNI and AMX for it;
# numpy multiplies integers without BLAS.
_PRODUCT = base64.b64decode(
    "CAg6YgoYCgFhCgFiEgF5Ig1NYXRNdWxJbnRlZ2VyEgFnWhUKAWESEAoOCAISCgoDEgFuCgMSAWRaFQoBYhIQCg4IAxIKCgMSAWQKAxIBbWIV"
    "CgF5EhAKDggGEgoKAxIBbgoDEgFtQgQKABAN"
)


class Codes:
    """The codes of one full segment, read where FAISS holds them: blanking a row there blanks it here."""

    def __init__(self, codec: faiss.IndexScalarQuantizer) -> None:
        """A filled QT_8bit index of inner products."""
        self._codec = codec  # owns the memory
        size = codec.ntotal * codec.code_size
        self.values: NDArray[np.uint8] = np.asarray(faiss.rev_swig_ptr(codec.codes.data(), size))
        self.values = self.values.reshape(codec.ntotal, codec.code_size)
        low, width = faiss.vector_to_array(codec.sq.trained).astype(np.float32).reshape(2, -1)
        self._step = width / np.float32(255)
        self._low = low + self._step / 2
        self._middle = self.values.mean(axis=0, dtype=np.float32)
        self._reach = max(float(np.linalg.norm(part - self._middle, axis=1).max()) for part in self._pieces())
        """Longest distance of a code from the middle of all."""

    def _pieces(self) -> Iterator[NDArray[np.uint8]]:
        return (self.values[at : at + _ROWS_AT_ONCE] for at in range(0, len(self.values), _ROWS_AT_ONCE))

    def estimate(self, probes: Floats) -> _Estimate:
        """The scores of all rows for float32 [N,D], within a bound.

        A score is probes·(low + step·code). With weights = probes·step = scale·(FINE·coarse + fine) + rest it is
        scale·(FINE·coarse·code + fine·code) + probes·low + rest·middle, but for rest·(code − middle), which is at most
        |rest|·reach (Cauchy–Schwarz).
        """
        weights = probes * self._step
        scale = np.maximum(np.abs(weights).max(axis=1), np.float32(1e-30)) / np.float32(_COARSE * _FINE)
        parts = weights / scale[:, np.newaxis]
        coarse = np.rint(parts / _FINE)
        fine = np.rint(parts - coarse * _FINE)
        rest = weights - (coarse * _FINE + fine) * scale[:, np.newaxis]
        both = np.concatenate([coarse, fine]).T.astype(np.int8)
        found = np.asarray(_session().run(None, {"a": self.values, "b": np.ascontiguousarray(both)})[0], np.int32)
        products = found[:, : len(probes)] * np.int32(_FINE)
        products += found[:, len(probes) :]
        shift = probes @ self._low + rest @ self._middle
        return _Estimate(products, scale, shift, np.linalg.norm(rest, axis=1) * self._reach + _SLACK)

    def scores(self, probes: Floats, rows: Labels) -> Floats:
        """float32 [N] as FAISS scores them, of rows [N], each for its probe [N,D]."""
        found = np.empty(len(rows), np.float32)
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            here = slice(at, at + _ROWS_AT_ONCE)
            decoded = self.values[rows[here]] * self._step + self._low
            found[here] = np.einsum("ij,ij->i", decoded, probes[here])
        return found


@dataclass(frozen=True)
class _Estimate:
    """Scores of R rows for N probes: products · scale + shift, wrong by `error` at most."""

    products: NDArray[np.int32] = field(repr=False)
    """[R,N]"""
    scale: Floats
    shift: Floats
    error: Floats

    def at_least(self, depth: int) -> Floats:
        """[N] what the depth-th best row certainly reaches, from a few rows; −inf where there are not so many."""
        few = np.ascontiguousarray(self.products[:_FIRST_ROWS].T)
        if few.shape[1] < depth:
            return np.full(len(self.scale), -np.inf, np.float32)
        nth = np.partition(few, few.shape[1] - depth, axis=1)[:, few.shape[1] - depth]
        return nth * self.scale + self.shift - self.error

    def reaching(self, least: Floats) -> NDArray[np.bool_]:
        """bool [R,N]: whether a row may reach `least` [N]."""
        cut = np.ceil((least - self.error - self.shift) / self.scale)
        bounds = np.iinfo(np.int32)
        return np.asarray(self.products >= np.clip(cut, bounds.min, bounds.max - 128).astype(np.int32))


@dataclass
class _Kept:
    """Pairs of probe and label that may be among the nearest, with what their scores reach at least and at most."""

    probe: Labels
    label: Labels
    low: Floats
    high: Floats

    def join(self, other: _Kept) -> _Kept:
        """All of both."""
        return _Kept(
            np.concatenate([self.probe, other.probe]),
            np.concatenate([self.label, other.label]),
            np.concatenate([self.low, other.low]),
            np.concatenate([self.high, other.high]),
        )

    def only(self, which: NDArray[np.bool_]) -> _Kept:
        """Those that are marked."""
        return _Kept(self.probe[which], self.label[which], self.low[which], self.high[which])


def nearest(parts: Sequence[tuple[int, Codes]], probes: Floats, depth: int) -> Found | None:
    """The `depth` nearest of all parts for float32 [N,D] as FAISS scores them, best first, of equal ones the lower
    label; label −1 where there are not so many. Each part comes with the label of its first row. None: the search is
    too deep for this.
    """
    found = []
    for at in range(0, len(probes), _PROBES_AT_ONCE):
        some = probes[at : at + _PROBES_AT_ONCE]
        kept = _near(parts, some, depth)
        if kept is None:
            return None
        found.append(_ranked(kept, _scores(parts, some, kept), len(some), depth))
    scores, labels = (np.concatenate(each) for each in zip(*found, strict=True))
    return scores, labels


def _near(parts: Sequence[tuple[int, Codes]], probes: Floats, depth: int) -> _Kept | None:
    """All pairs that may be among the nearest; None where they are too many to hold."""
    none = np.empty(0, np.int64)
    kept = _Kept(none, none, np.empty(0, np.float32), np.empty(0, np.float32))
    least = np.full(len(probes), -np.inf, np.float32)
    for start, codes in parts:
        estimate = codes.estimate(probes)
        least = np.maximum(least, estimate.at_least(depth))
        reaching = estimate.reaching(least)
        if len(kept.probe) + int(np.count_nonzero(reaching)) > _MOST_KEPT:
            return None
        kept = kept.join(_pairs(estimate, np.flatnonzero(reaching.ravel()), start))
        least = np.maximum(least, _nth(kept, len(probes), depth))
        kept = kept.only(kept.high >= least[kept.probe])
    return kept


def _pairs(estimate: _Estimate, at: Labels, start: int) -> _Kept:
    row, probe = np.divmod(at, len(estimate.scale))
    score = estimate.products.ravel()[at] * estimate.scale[probe] + estimate.shift[probe]
    error = estimate.error[probe]
    return _Kept(probe, row + start, score - error, score + error)


def _nth(kept: _Kept, probes: int, depth: int) -> Floats:
    """[N] the depth-th best lower bound of each probe; −inf where fewer are kept."""
    order = np.lexsort((-kept.low, kept.probe))
    ends = np.cumsum(np.bincount(kept.probe, minlength=probes))
    at = np.concatenate([[0], ends[:-1]]) + depth - 1
    enough = at < ends
    found = np.full(probes, -np.inf, np.float32)
    found[enough] = kept.low[order][at[enough]]
    return found


def _scores(parts: Sequence[tuple[int, Codes]], probes: Floats, kept: _Kept) -> Floats:
    found = np.empty(len(kept.label), np.float32)
    for start, codes in parts:
        here = np.flatnonzero((kept.label >= start) & (kept.label < start + len(codes.values)))
        found[here] = codes.scores(probes[kept.probe[here]], kept.label[here] - start)
    return found


def _ranked(kept: _Kept, scores: Floats, probes: int, depth: int) -> Found:
    order = np.lexsort((kept.label, -scores, kept.probe))
    counts = np.bincount(kept.probe, minlength=probes)
    probe = kept.probe[order]
    rank = np.arange(len(order)) - (np.cumsum(counts) - counts)[probe]
    best, probe, rank = order[rank < depth], probe[rank < depth], rank[rank < depth]
    found, labels = np.full((probes, depth), -np.inf, np.float32), np.full((probes, depth), -1, np.int64)
    found[probe, rank], labels[probe, rank] = scores[best], kept.label[best]
    return found, labels


@cache
def _session() -> ort.InferenceSession:
    """Multiplies integers in the caller's thread; releases the interpreter meanwhile."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
