"""How is a portion of the enrolled templates held in memory, and how are portions searched together?"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import faiss
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.codes import Codes, Floats, Found, Labels
from services.detector.adapters.codes import nearest as nearest_by_codes

Place = Callable[[faiss.Index], faiss.Index]
"""Makes the copy of an index that is searched on another device."""
_PIECE = 8192
"""Rows of fixed-point numbers that are read as floats at once: 16 MiB at 512 dimensions."""
_ONE = 32_000
"""What 1.0 is as a fixed-point number: cosines within 1e-4, at half of the memory; float16 is slower to read."""


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


@dataclass(frozen=True)
class _Stored:
    """Vectors in rows: float32, or int16 with `_ONE` for 1.0."""

    values: Floats | NDArray[np.int16] = field(repr=False)

    def fixed(self) -> _Stored:
        """The same as int16."""
        fixed = np.empty(self.values.shape, np.int16)
        for start in range(0, len(fixed), _PIECE // 4):
            piece = self.values[start : start + _PIECE // 4] * np.float32(_ONE)
            fixed[start : start + len(piece)] = np.rint(piece, out=piece)
        return _Stored(fixed)

    def floats(self, rows: int | NDArray[np.int64]) -> Floats:
        """A copy of one row [D], or of several [N,D]."""
        found = self.values[rows].astype(np.float32)
        return found if self.values.dtype == np.float32 else found / np.float32(_ONE)

    def nearest(self, probes: Floats, depth: int, count: int, label: int) -> Iterator[Found]:
        """(scores, labels), each [N, ≤ depth], of every piece of the first `count` rows, labelled from `label` on."""
        if self.values.dtype == np.float32:
            yield _knn(probes, np.asarray(self.values[:count], np.float32), depth, label)
            return
        # Only while the segment is being quantised: who came before then looks at the vectors.
        for start in range(0, count, _PIECE):
            numbers = self.values[start : min(count, start + _PIECE)].astype(np.float32)
            yield _knn(probes / np.float32(_ONE), numbers, depth, label + start)


class Segment:
    """At most `room` templates in rows. They are appended and blanked, never moved; a full segment may get an index.

    One thread changes it while others search it, without a lock: rows below `count` stay where they are, and who has
    found a row looks last whether it is blank. A blanked row keeps no vector, no id and nothing else of its person.
    """

    def __init__(self, room: int, dimension: int) -> None:
        self.room = room
        self.rows: dict[str, int] = {}
        """template_id → row, of those that are not blank."""
        self.count = 0
        self.index: faiss.Index | None = None
        """What is searched; None where that is the vectors themselves."""
        self.codec: faiss.IndexScalarQuantizer | None = None
        """The SQ8 index of a quantised segment."""
        self._vectors = _Stored(np.zeros((room, dimension), np.float32))
        self._seconds: _Stored | None = None
        self._templates: list[str] = []
        self._subscribers: list[str] = []
        self._minors = bytearray()
        self.codes: Codes | None = None
        """The codec's codes, to be compared with many probes at once."""
        self._zero = np.empty(0, np.uint8)

    def append(self, entries: Sequence[Entry]) -> None:
        """Adds entries that fit in the room left, no id twice."""
        start, end = self.count, self.count + len(entries)
        self._vectors.values[start:end] = np.stack([entry.vector for entry in entries])
        self._append_seconds(start, entries)
        self._templates += [entry.template_id for entry in entries]
        self._subscribers += [entry.subscriber_id for entry in entries]
        self._minors += bytes(entry.minor for entry in entries)
        self.rows.update(zip((entry.template_id for entry in entries), range(start, end), strict=True))
        self.count = end  # searches look at rows below it: last

    def _append_seconds(self, start: int, entries: Sequence[Entry]) -> None:
        for row, entry in enumerate(entries, start):
            if entry.second is not None:
                if self._seconds is None:
                    self._seconds = _Stored(np.zeros((self.room, len(entry.second)), np.float32))
                self._seconds.values[row] = entry.second

    def quantise(self) -> None:
        """Searches an SQ8 index from now on; harmless to repeat. For a segment that takes no more."""
        if self.codec is not None:
            return
        vectors = self._vectors.values[: self.count]
        codec = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        codec.train(vectors)
        codec.add(vectors)
        self._zero = codec.sa_encode(np.zeros((1, codec.d), np.float32))[0]
        self.codes = Codes(codec)
        self.codec = self.index = codec
        self._vectors = self._vectors.fixed()
        self._seconds = None if self._seconds is None else self._seconds.fixed()

    def copy_to(self, place: Place) -> None:
        """Searches a Flat copy on another device from now on; again, to renew the copy."""
        vectors = self._vectors.values[: self.count]
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        self.index = place(flat)

    @property
    def copied(self) -> bool:
        """Whether what is searched is a copy, which a blanked row does not reach."""
        return self.index is not None and self.codec is None

    def blank(self, row: int) -> None:
        """Wipes a row. The id goes first: a search that meets the row at this moment skips it."""
        template_id = self._templates[row]
        self._templates[row] = ""
        if self.rows.get(template_id) == row:
            del self.rows[template_id]
        self._subscribers[row] = ""
        self._minors[row] = 0
        self._vectors.values[row] = 0
        if self._seconds is not None:
            self._seconds.values[row] = 0
        if self.codes is not None:
            # Its code is that of a zero vector; bytes of zero would mean a vector far out.
            self.codes.values[row] = self._zero

    def who(self, row: int) -> tuple[str, str, bool] | None:
        """(subscriber, template, minor) of a row; None for a blank one."""
        subscriber_id, minor = self._subscribers[row], bool(self._minors[row])
        template_id = self._templates[row]
        return (subscriber_id, template_id, minor) if template_id else None

    def entry(self, row: int) -> Entry | None:
        """A row as it was added; None for a blank one."""
        vector, seconds = self._vectors.floats(row), self._seconds
        second = None if seconds is None else seconds.floats(row)
        found = self.who(row)  # after the vectors were copied: blanked meanwhile, they are not used
        if found is None:
            return None
        subscriber_id, template_id, minor = found
        given = second if second is not None and second.any() else None
        return Entry(template_id, subscriber_id, vector, given, minor)

    def entries(self) -> Iterator[Entry]:
        """All that is not blank."""
        return (entry for row in range(self.count) if (entry := self.entry(row)) is not None)

    def vectors(self, rows: NDArray[np.int64]) -> Floats:
        """Copies of rows, float32 [N,D]."""
        return self._vectors.floats(rows)

    def nearest(self, probes: Floats, depth: int, count: int, label: int) -> Iterator[Found]:
        """By the vectors themselves: (scores, labels), each [N, ≤ depth], of every piece of the first `count` rows; the
        first row is `label`.
        """
        return self._vectors.nearest(probes, depth, count, label)


class Shelf:
    """Full segments and the open one behind them, as one search sees them."""

    def __init__(self, full: Sequence[Segment], tail: Segment) -> None:
        self.tail = tail
        self.full = tuple(sorted(full, key=lambda segment: segment.index is None))
        """Those with an index first: their labels follow each other."""
        self.segments = (*self.full, tail)
        """All, in the order of their labels."""
        self.starts = [0, *accumulate(segment.count for segment in self.full)]
        """Label of each segment's first row."""
        self._indexed = tuple(segment for segment in self.full if segment.index is not None)
        self._codes = [
            (start, segment.codes)
            for start, segment in zip(self.starts, self._indexed, strict=False)
            if segment.codes is not None
        ]
        # One call for all of them: each return from FAISS waits for the interpreter, milliseconds where it is busy.
        self._index = _together([segment.index for segment in self._indexed if segment.index is not None])

    def __len__(self) -> int:
        return sum(len(segment.rows) for segment in self.segments)

    @property
    def labels(self) -> int:
        """Rows, blank ones too."""
        return self.starts[-1] + self.tail.count

    def find(self, template_id: str) -> tuple[Segment, int] | None:
        """Where a template is; the newest row where a replaced one has not been blanked yet."""
        for segment in reversed(self.segments):
            if (row := segment.rows.get(template_id)) is not None:
                return segment, row
        return None

    def place(self, label: int) -> tuple[Segment, int]:
        """Segment and row of a label."""
        number = bisect_right(self.starts, label) - 1
        return self.segments[number], label - self.starts[number]

    def nearest(self, probes: Floats, depth: int, labels_below: int, together_from: int) -> Found:
        """(scores, labels), each [N, ≤ depth], best first, of equal ones the lower label; of float32 [N,D]. Label −1
        where there is nothing.

        Labels from `labels_below` on, which the tail may get meanwhile, are left out. From `together_from` probes on
        SQ8 codes are compared with all of them at once; what is found is the same.
        """
        found = list(self._parts(probes, depth, labels_below, together_from))
        scores, labels = (np.hstack(each) for each in zip(*found, strict=True))
        order = np.lexsort((labels, -scores), axis=1)[:, :depth]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(labels, order, 1)

    def _parts(self, probes: Floats, depth: int, labels_below: int, together_from: int) -> Iterator[Found]:
        if self._index is not None:
            together = self._codes and len(probes) >= together_from
            found = nearest_by_codes(self._codes, probes, depth) if together else None
            yield self._by_vectors(probes, *(found or self._by_index(self._index, probes, depth)))
        skipped = len(self._indexed)
        for start, segment in zip(self.starts[skipped:], self.segments[skipped:], strict=True):
            yield from segment.nearest(probes, depth, min(segment.count, labels_below - start), start)

    def _by_index(self, index: faiss.Index, probes: Floats, depth: int) -> Found:
        scores, labels = index.search(probes, min(depth, self.starts[len(self._indexed)]))
        return scores, labels

    def _by_vectors(self, probes: Floats, scores: Floats, labels: Labels) -> Found:
        """What an index found, with the cosines of the vectors themselves."""
        for start, segment in zip(self.starts, self._indexed, strict=False):
            if segment.codec is not None:
                probe, rank = np.nonzero((labels >= start) & (labels < start + segment.count))
                vectors = segment.vectors(labels[probe, rank] - start)
                scores[probe, rank] = np.einsum("ij,ij->i", vectors, probes[probe])
        return scores, labels


def _together(indexes: Sequence[faiss.Index]) -> faiss.IndexShards | None:
    if not indexes:
        return None
    shards = faiss.IndexShards(False, True)  # one after the other in the caller's thread; labels go on
    for index in indexes:
        shards.add_shard(index)
    return shards


def _knn(probes: Floats, vectors: Floats, depth: int, label: int) -> Found:
    """Exhaustive search of rows labelled from `label` on."""
    if not len(vectors):
        return np.empty((len(probes), 0), np.float32), np.empty((len(probes), 0), np.int64)
    scores, rows = faiss.knn(probes, vectors, min(depth, len(vectors)), faiss.METRIC_INNER_PRODUCT)
    return scores, np.where(rows < 0, -1, rows + label)
