"""Whose template is nearest to a face: the index of enrolled vectors."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from services.detector.domain.faces import Candidate

Floats = NDArray[np.float32]

MOST_CANDIDATES = 16
"""Subscribers one search may return."""
_MOST_TEMPLATES_EACH = 8
"""Nearest templates looked at for each subscriber asked for, before the search is widened."""
_BLAS_THRESHOLD = 4096


@dataclass(frozen=True)
class Entry:
    """One enrolled template. `repr` shows no vector."""

    template_id: str
    subscriber_id: str
    vector: Floats = field(repr=False)
    """float32 [D] of length 1, by the gallery's model."""
    second: Floats | None = field(repr=False, default=None)
    """float32 [D2] of length 1, by the second embedder; None for a template made without it."""
    minor: bool = False


class Gallery(Protocol):
    """Enrolled templates of one model_id, searched by cosine."""

    @property
    def model_id(self) -> str: ...

    @property
    def version(self) -> int:
        """Grows with every change; recorded with each decision."""

    def __len__(self) -> int:
        """Templates held."""

    def entry(self, template_id: str) -> Entry | None:
        """The template with this id; None when it is not (or no longer) held."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Add templates; one with a known template_id replaces it. Raises ValueError for a vector of another
        length.
        """

    def remove(self, template_ids: Iterable[str]) -> int:
        """Forget templates; unknown ids are ignored. Returns how many were held."""

    def replace(self, entries: Iterable[Entry]) -> None:
        """Take exactly these templates instead, in one step that no search sees half done."""

    def search(self, probes: Floats, k: int) -> list[list[Candidate]]:
        """For each row of float32 [N,D] the k ≤ MOST_CANDIDATES nearest subscribers, best first, each
        once.
        """


class ExactGallery:
    """The obvious matcher: every cosine computed with numpy. Reference for the fast one, and enough for a
    thousand.
    """

    def __init__(self, model_id: str, dimension: int) -> None:
        self.model_id = model_id
        self._dimension = dimension
        self._entries: dict[str, Entry] = {}
        self.version = 0

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, template_id: str) -> Entry | None:
        return self._entries.get(template_id)

    def add(self, entries: Iterable[Entry]) -> None:
        new = checked(entries, self._dimension)
        self._entries = self._entries | {entry.template_id: entry for entry in new}
        self.version += 1

    def remove(self, template_ids: Iterable[str]) -> int:
        gone = set(template_ids) & self._entries.keys()
        self._entries = {key: entry for key, entry in self._entries.items() if key not in gone}
        self.version += 1
        return len(gone)

    def replace(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.template_id: entry for entry in checked(entries, self._dimension)}
        self.version += 1

    def search(self, probes: Floats, k: int) -> list[list[Candidate]]:
        check_probes(probes, self._dimension, k)
        held = list(self._entries.values())
        if not held:
            return [[] for _ in probes]
        scores = probes @ np.stack([entry.vector for entry in held]).T
        return [
            best_of_each([(held[i], float(row[i])) for i in np.argsort(-row, kind="stable")], k)
            for row in scores
        ]


@dataclass(frozen=True)
class _Shelf:
    """One consistent state: searches hold a shelf, changes make or amend one under the lock."""

    index: faiss.Index
    by_number: dict[int, Entry]
    numbers: dict[str, int]


class FaissGallery:
    """Exact inner products in FAISS (IndexFlatIP behind an id map); `faiss-cpu` and `faiss-gpu` alike.

    FAISS indexes are not safe for searching while they change, so one lock guards both; a search of a batch
    holds it for its own time only. `replace` builds aside and swaps.
    """

    def __init__(self, model_id: str, dimension: int) -> None:
        # Batches otherwise use no BLAS: nine times slower at 64 probes of 512 dimensions.
        faiss.cvar.distance_compute_blas_threshold = _BLAS_THRESHOLD
        self.model_id = model_id
        self._dimension = dimension
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._shelf = self._built([])
        self.version = 0

    def __len__(self) -> int:
        return len(self._shelf.by_number)

    def entry(self, template_id: str) -> Entry | None:
        shelf = self._shelf
        return shelf.by_number.get(shelf.numbers.get(template_id, 0))

    def add(self, entries: Iterable[Entry]) -> None:
        new = {entry.template_id: entry for entry in checked(entries, self._dimension)}
        with self._lock:
            self._forget(new.keys())
            self._place(self._shelf, list(new.values()))
            self.version += 1

    def remove(self, template_ids: Iterable[str]) -> int:
        with self._lock:
            count = self._forget(template_ids)
            self.version += 1
            return count

    def replace(self, entries: Iterable[Entry]) -> None:
        latest = {entry.template_id: entry for entry in checked(entries, self._dimension)}
        shelf = self._built(list(latest.values()))
        with self._lock:
            self._shelf = shelf
            self.version += 1

    def search(self, probes: Floats, k: int) -> list[list[Candidate]]:
        check_probes(probes, self._dimension, k)
        with self._lock:
            return self._search(np.ascontiguousarray(probes, np.float32), k)

    def _search(self, probes: Floats, k: int) -> list[list[Candidate]]:
        shelf, size = self._shelf, len(self._shelf.by_number)
        if not size or not len(probes):
            return [[] for _ in probes]
        depth = min(size, k * _MOST_TEMPLATES_EACH)
        while True:
            scores, numbers = shelf.index.search(probes, depth)
            found = [self._grouped(shelf, s, n, k) for s, n in zip(scores, numbers, strict=True)]
            # A subscriber with very many templates may crowd the others out: look deeper until k are found.
            if depth == size or all(len(candidates) == k for candidates in found):
                return found
            depth = min(size, depth * 4)

    @staticmethod
    def _grouped(shelf: _Shelf, scores: Floats, numbers: NDArray[np.int64], k: int) -> list[Candidate]:
        ranked = [(shelf.by_number[int(n)], float(s)) for s, n in zip(scores, numbers, strict=True) if n >= 0]
        return best_of_each(ranked, k)

    def _built(self, entries: Sequence[Entry]) -> _Shelf:
        shelf = _Shelf(faiss.IndexIDMap2(faiss.IndexFlatIP(self._dimension)), {}, {})
        self._place(shelf, entries)
        return shelf

    def _place(self, shelf: _Shelf, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        numbers = np.array([next(self._numbers) for _ in entries], np.int64)
        shelf.index.add_with_ids(np.stack([entry.vector for entry in entries]).astype(np.float32), numbers)
        for number, entry in zip(numbers.tolist(), entries, strict=True):
            shelf.by_number[number] = entry
            shelf.numbers[entry.template_id] = number

    def _forget(self, template_ids: Iterable[str]) -> int:
        gone = [self._shelf.numbers.pop(t) for t in set(template_ids) if t in self._shelf.numbers]
        for number in gone:
            del self._shelf.by_number[number]
        if gone:
            self._shelf.index.remove_ids(faiss.IDSelectorBatch(np.array(gone, np.int64)))
        return len(gone)


def best_of_each(ranked: Sequence[tuple[Entry, float]], k: int) -> list[Candidate]:
    """The first k subscribers of a ranking by score, each with its best template."""
    best: dict[str, Candidate] = {}
    for entry, score in ranked:
        if entry.subscriber_id not in best:
            best[entry.subscriber_id] = Candidate(
                entry.subscriber_id, entry.template_id, score, minor=entry.minor
            )
        if len(best) == k:
            break
    return list(best.values())


def checked(entries: Iterable[Entry], dimension: int) -> list[Entry]:
    """The entries as a list. Raises ValueError unless every vector is finite, of this length and of norm 1 ±
    .01.
    """
    listed = list(entries)
    for entry in listed:
        if entry.vector.shape != (dimension,) or not abs(float(np.linalg.norm(entry.vector)) - 1) <= 0.01:
            raise ValueError(f"template {entry.template_id}: not a unit vector of {dimension} dimensions")
    return listed


def check_probes(probes: Floats, dimension: int, k: int) -> None:
    if probes.ndim != 2 or probes.shape[1] != dimension:
        raise ValueError(f"probes must be [N,{dimension}]")
    if not 1 <= k <= MOST_CANDIDATES:
        raise ValueError(f"k must be 1 to {MOST_CANDIDATES}")
