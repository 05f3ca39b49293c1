"""Whose template is nearest to a face: the index of enrolled vectors."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from services.chassis import yaml_text
from services.detector.adapters.codes import Floats
from services.detector.adapters.segments import Entry, Place, Segment, Shelf
from services.detector.domain.faces import Candidate

__all__ = ["Entry", "ExactGallery", "FaissGallery", "Gallery", "GalleryRules", "read_gallery_rules"]

MOST_CANDIDATES = 16
"""Subscribers one search may return."""
RULES_FILE = Path(__file__).parent.parent / "rules" / "gallery.yaml"
_MOST_DEPTH_COPIED = 2048
"""Nearest templates that FAISS finds on a GPU."""
_CHUNK = 4096


@dataclass(frozen=True)
class GalleryRules:
    """How the index is laid out; rules/gallery.yaml explains each value."""

    id: str
    version: int
    evaluation: str
    segment_templates: int
    sq8_from: int
    together_from_probes: int
    batch_probes: int
    templates_each: int
    blas_threshold: int
    threads: int
    wait_seconds: float
    report_seconds: int

    def __post_init__(self) -> None:
        probes = self.together_from_probes, self.batch_probes
        counts = (*probes, self.segment_templates, self.templates_each, self.threads, self.report_seconds)
        if min(counts) < 1 or self.sq8_from < 0 or self.blas_threshold < 0 or not self.wait_seconds > 0:
            raise ValueError(f"rules {self.id}-{self.version} hold a value out of range")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> GalleryRules:
        """The rules of a file. Raises ValueError for a field missing, unknown or out of range."""
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError("gallery.yaml: a field is missing, unknown or of the wrong kind") from error


def read_gallery_rules(file: Path = RULES_FILE) -> GalleryRules:
    """The rules in a YAML file. Raises ValueError like `GalleryRules.read`."""
    return GalleryRules.read(yaml_text.parse(file.read_text(encoding="utf-8")))


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
        return [best_of_each(_ranked(held, row), k) for row in scores]


_here = threading.local()


def _use_threads(count: int) -> None:
    """Sets the threads of FAISS' calls where they differ: OpenMP keeps the number for each calling thread, and every
    call into FAISS gives the interpreter away.
    """
    if getattr(_here, "threads", 0) != count:
        faiss.omp_set_num_threads(count)
        _here.threads = count


def gpu_place() -> Place | None:
    """What copies an index to every GPU; None without faiss-gpu or without a GPU. Nothing else differs there."""
    if not (hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus()):
        return None
    # Made once: each set of resources reserves memory of the GPU.
    resources = [faiss.StandardGpuResources() for _ in range(faiss.get_num_gpus())]
    return lambda index: faiss.index_cpu_to_gpu_multiple_py(resources, index)


class FaissGallery:
    """Inner products in FAISS, `faiss-cpu` and `faiss-gpu` alike: Flat, SQ8 beyond a size, the stored vectors' cosines.

    Searches of several threads are made in one call and never wait for a change: changes append rows, blank rows, or
    put a new shelf of segments in place, one at a time. Once `remove` has returned, no search finds what it removed.
    """

    def __init__(
        self, model_id: str, dimension: int, rules: GalleryRules | None = None, place: Place | None = None
    ) -> None:
        """`place` copies indexes to where they are searched; default: to the GPUs, if there are any."""
        self.model_id = model_id
        self.version = 0
        self._dimension = dimension
        self._rules = rules or read_gallery_rules()
        self._place = place or gpu_place()
        # Batches otherwise use no BLAS: nine times slower at 64 probes of 512 dimensions.
        faiss.cvar.distance_compute_blas_threshold = self._rules.blas_threshold
        self._changing = threading.Lock()
        self._turns = _Turns(self._answer, self._rules.batch_probes, self._rules.wait_seconds)
        self._shelf = self._empty()

    def __len__(self) -> int:
        return len(self._shelf)

    def entry(self, template_id: str) -> Entry | None:
        found = self._shelf.find(template_id)
        entry = None if found is None else found[0].entry(found[1])
        return entry if entry is not None and entry.template_id == template_id else None

    def add(self, entries: Iterable[Entry]) -> None:
        new = list({entry.template_id: entry for entry in checked(entries, self._dimension)}.values())
        with self._changing:
            old = [place for entry in new if (place := self._shelf.find(entry.template_id)) is not None]
            self._append(new)
            if old:
                # A search that began before sees only the old rows: it must find them as they were.
                self._turns.let_pass()
                self._blank(old)
            self.version += 1

    def remove(self, template_ids: Iterable[str]) -> int:
        with self._changing:
            gone = [place for id_ in set(template_ids) if (place := self._shelf.find(id_)) is not None]
            self._blank(gone)
            self.version += 1
            return len(gone)

    def replace(self, entries: Iterable[Entry]) -> None:
        new, rest = self.beside(), iter(entries)
        while chunk := list(islice(rest, _CHUNK)):
            new.add(chunk)
        self.become(new)

    def beside(self) -> FaissGallery:
        """An empty gallery like this one, to be filled while this one serves."""
        return FaissGallery(self.model_id, self._dimension, self._rules, self._place)

    def become(self, other: FaissGallery) -> None:
        """Takes the templates of one made by `beside`, which is empty afterwards, in one step that no search sees half
        done. What was held before is out of memory when this returns.
        """
        with self._changing, other._changing:
            old, self._shelf, other._shelf = self._shelf, other._shelf, self._empty()
            self.version += 1
            self._turns.let_pass()
        left = list(old.segments)
        del old
        while left:  # one by one: to free a million at once would hold the interpreter for a tenth of a second
            left.pop()

    def search(self, probes: Floats, k: int) -> list[list[Candidate]]:
        """See the port. Raises TimeoutError when the search under way does not end."""
        check_probes(probes, self._dimension, k)
        return self._turns.ask(np.ascontiguousarray(probes, np.float32), k)

    def _answer(self, probes: Floats, k: int) -> list[list[Candidate]]:
        _use_threads(self._rules.threads)
        shelf = self._shelf
        size = shelf.labels
        limit = size if self._place is None else min(size, _MOST_DEPTH_COPIED)
        found: list[list[Candidate]] = [[] for _ in probes]
        open_, depth = np.arange(len(probes)), min(limit, k * self._rules.templates_each)
        while len(open_) and depth:
            ranked = shelf.nearest(probes[open_], depth, size, self._rules.together_from_probes)
            for at, scores, labels in zip(open_, *ranked, strict=True):
                found[at] = best_of_each(_rows(shelf, scores, labels), k)
            # A subscriber with very many templates may crowd the others out: look deeper until k are found.
            open_ = open_[[len(found[at]) < k for at in open_]] if depth < limit else open_[:0]
            depth = min(limit, depth * 4)
        return found

    def _append(self, entries: Sequence[Entry]) -> None:
        rest = entries
        while rest:
            tail = self._shelf.tail
            if tail.count == tail.room:
                self._index_segments()
                continue
            room = tail.room - tail.count
            tail.append(rest[:room])
            rest = rest[room:]

    def _index_segments(self) -> None:
        """Opens a new segment; those before it get the index that the gallery's size asks for."""
        shelf = self._shelf
        if self._place is not None:
            for segment in shelf.segments[len(shelf.full) :]:
                segment.copy_to(self._place)
        elif shelf.labels >= self._rules.sq8_from:
            _use_threads(self._rules.threads)
            for segment in shelf.segments:
                segment.quantise()
        self._shelf = Shelf(shelf.segments, self._segment())

    def _blank(self, places: Iterable[tuple[Segment, int]]) -> None:
        touched = set()
        for segment, row in places:
            segment.blank(row)
            touched.add(segment)
        copied = [segment for segment in touched if segment.copied]
        if self._place is not None and copied:
            for segment in copied:
                segment.copy_to(self._place)
            self._shelf = Shelf(self._shelf.full, self._shelf.tail)
        for segment in touched:
            if segment.count - len(segment.rows) >= max(1, segment.room // 2):
                self._rewrite(segment)

    def _rewrite(self, segment: Segment) -> None:
        """Moves what is left of a segment behind the others."""
        if segment is self._shelf.tail:
            self._shelf = Shelf(self._shelf.segments, self._segment())
        rows = segment.entries()
        while chunk := list(islice(rows, _CHUNK)):
            self._append(chunk)
        self._shelf = Shelf([each for each in self._shelf.full if each is not segment], self._shelf.tail)
        # A search that still sees the old rows must end before one of the new ones can be removed.
        self._turns.let_pass()

    def _segment(self) -> Segment:
        return Segment(self._rules.segment_templates, self._dimension)

    def _empty(self) -> Shelf:
        return Shelf((), self._segment())


@dataclass(eq=False)
class _Asked:
    probes: Floats = field(repr=False)
    k: int
    found: list[list[Candidate]] | None = field(repr=False, default=None)
    error: Exception | None = None


class _Turns:
    """One call at a time, made by one of those who wait for all of them.

    While a call is under way the next ones gather: a search alone is made at once, and nobody waits for longer than
    the call under way and its own.
    """

    def __init__(self, answer: Callable[[Floats, int], list[list[Candidate]]], most: int, seconds: float) -> None:
        self._answer = answer
        self._most = most
        self._seconds = seconds
        self._changed = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._calls = 0
        self._busy = False

    def ask(self, probes: Floats, k: int) -> list[list[Candidate]]:
        """The answer to these probes. Raises TimeoutError, and what the call raises."""
        asked = _Asked(probes, k)
        until = time.monotonic() + self._seconds
        with self._changed:
            self._waiting.append(asked)
            while asked.found is None and asked.error is None:
                if not self._busy:
                    self._call()
                elif not self._changed.wait(until - time.monotonic()) and time.monotonic() >= until:
                    self._give_up(asked)
        if asked.error is not None:
            raise asked.error
        assert asked.found is not None
        return asked.found

    def let_pass(self) -> None:
        """Waits until the call that is under way now has ended."""
        with self._changed:
            number = self._calls
            self._changed.wait_for(lambda: not self._busy or self._calls != number)

    def _give_up(self, asked: _Asked) -> None:
        if asked in self._waiting:
            self._waiting.remove(asked)
        asked.error = TimeoutError("the search under way did not end")

    def _call(self) -> None:
        """Answers those who wait, as many as one call takes; the condition is held before and after."""
        batch = self._take()
        self._busy = True
        self._calls += 1
        self._changed.release()
        try:
            _answer_together(batch, self._answer)
        finally:
            self._changed.acquire()
            self._busy = False
            self._changed.notify_all()

    def _take(self) -> list[_Asked]:
        batch = [self._waiting.popleft()]
        probes = len(batch[0].probes)
        while self._waiting and probes + len(self._waiting[0].probes) <= self._most:
            probes += len(self._waiting[0].probes)
            batch.append(self._waiting.popleft())
        return batch


def _answer_together(batch: Sequence[_Asked], answer: Callable[[Floats, int], list[list[Candidate]]]) -> None:
    probes = batch[0].probes if len(batch) == 1 else np.concatenate([asked.probes for asked in batch])
    try:
        found = iter(answer(probes, max(asked.k for asked in batch)))
    except Exception as error:
        for asked in batch:
            asked.error = error
        return
    for asked in batch:
        asked.found = [row[: asked.k] for row in islice(found, len(asked.probes))]


_Who = tuple[str, str, bool]
"""(subscriber, template, minor)"""


def _ranked(held: Sequence[Entry], scores: Floats) -> Iterator[tuple[_Who, float]]:
    return ((_who(held[at]), float(scores[at])) for at in np.argsort(-scores, kind="stable"))


def _who(entry: Entry) -> _Who:
    return entry.subscriber_id, entry.template_id, entry.minor


def _rows(shelf: Shelf, scores: Floats, labels: NDArray[np.int64]) -> Iterator[tuple[_Who, float]]:
    """The rows of a ranking that are not blank at the moment of looking."""
    for label, score in zip(labels.tolist(), scores.tolist(), strict=True):
        if label >= 0:
            segment, row = shelf.place(label)
            if (who := segment.who(row)) is not None:
                yield who, score


def best_of_each(ranked: Iterable[tuple[_Who, float]], k: int) -> list[Candidate]:
    """The first k subscribers of a ranking by score, each with its best template."""
    best: dict[str, Candidate] = {}
    for (subscriber_id, template_id, minor), score in ranked:
        if subscriber_id not in best:
            best[subscriber_id] = Candidate(subscriber_id, template_id, score, minor=minor)
        if len(best) == k:
            break
    return list(best.values())


def checked(entries: Iterable[Entry], dimension: int) -> list[Entry]:
    """The entries as a list. Raises ValueError unless every vector is finite, of this length and of norm 1 ± .01."""
    listed = list(entries)
    wrong = [entry for entry in listed if entry.vector.shape != (dimension,)]
    if listed and not wrong:
        norms = np.linalg.norm(np.stack([entry.vector for entry in listed]), axis=1)
        wrong = [listed[at] for at in np.flatnonzero(~(np.abs(norms - 1) <= 0.01))]  # also where it is no number
    if wrong:
        raise ValueError(f"template {wrong[0].template_id}: not a unit vector of {dimension} dimensions")
    return listed


def check_probes(probes: Floats, dimension: int, k: int) -> None:
    if probes.ndim != 2 or probes.shape[1] != dimension:
        raise ValueError(f"probes must be [N,{dimension}]")
    if not 1 <= k <= MOST_CANDIDATES:
        raise ValueError(f"k must be 1 to {MOST_CANDIDATES}")
