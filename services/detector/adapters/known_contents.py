"""Which of a subscriber's ten thousand earlier contents is a new one near to: all hashes at once, features of a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.face_photographs import (
    FACE_WINDOW,
    Structure,
    face_codes,
    far_face,
    far_views,
    from_afar,
)
from services.detector.adapters.fingerprints import MOST_POINTS, VIEWS, Fingerprint
from services.detector.adapters.same_picture import (
    HASH_RULES,
    POINT_WORDS,
    VOTING_POINTS,
    DedupRules,
    HashColumns,
    Verdict,
    compare_faces,
    compare_points,
    hash_distances,
    judged_by_hashes,
    least_distances,
    point_words,
    speaks_against,
)
from services.detector.domain.clusters import MOST_ALSO, Near
from services.detector.domain.text_similarity import MINIMA, NUMBERS, Signature, TextDedupRule, compare_all

_WORDS = {"sha256": "SHA256", "dhash": "PHASH", "phash": "PHASH", "pdq": "PDQ", "orb": "ORB", "face": "FACE"}
"""The contract's word for each rule."""
_FAR_AWAY = 128
"""Further than any two codes of faces are apart."""
_ALWAYS_TELLING, _TELLING = 64, 50
"""A word counts that at most so many pictures have, or one in so many."""
_MOST_CLUSTERS = MOST_ALSO + 1
_STAND_FOR_ONE = 8
"""Pictures of a cluster whose features are compared."""


class Rows:
    """An array that grows at its end and forgets at its beginning."""

    def __init__(self, width: tuple[int, ...], kind: type[np.generic]) -> None:
        self._data: NDArray[Any] = np.empty((16, *width), kind)
        self._used = 0

    def add(self, row: NDArray[Any] | float) -> None:
        """Takes one row more."""
        if self._used == len(self._data):
            more = np.empty((self._used + 16, *self._data.shape[1:]), self._data.dtype)
            self._data = np.concatenate((self._data, more))
        self._data[self._used] = row
        self._used += 1

    def forget(self, count: int) -> None:
        """Drops the first rows."""
        self._data = self._data[count:].copy()
        self._used -= count

    @property
    def all(self) -> NDArray[Any]:
        """[N, *width]: a view."""
        return self._data[: self._used]


class Columns:
    """A few long columns that grow at their end and forget at their beginning; what is compared with all of a column
    reads it from one end to the other."""

    def __init__(self, count: int, kind: type[np.generic]) -> None:
        self._data: NDArray[Any] = np.empty((count, 16), kind)
        self._used = 0

    def add(self, values: NDArray[Any]) -> None:
        """Takes one value more for each column."""
        if self._used == self._data.shape[1]:
            more = np.empty((len(self._data), self._used + 16), self._data.dtype)
            self._data = np.concatenate((self._data, more), axis=1)
        self._data[:, self._used] = values
        self._used += 1

    def forget(self, count: int) -> None:
        """Drops the first values of each."""
        self._data, self._used = self._data[:, count:].copy(), self._used - count

    @property
    def all(self) -> NDArray[Any]:
        """[columns, N]: a view."""
        return self._data[:, : self._used]


class _Clusters:
    """The cluster of each content, as names and as numbers."""

    def __init__(self, of: Iterable[str] = ()) -> None:
        self._numbers = Rows((), np.int32)
        self._names: list[str] = []
        self._number_of: dict[str, int] = {}
        for cluster_id in of:
            self.add(cluster_id)

    def add(self, cluster_id: str) -> None:
        """The next content's."""
        number = self._number_of.setdefault(cluster_id, len(self._names))
        if number == len(self._names):
            self._names.append(cluster_id)
        self._numbers.add(number)

    def after(self, count: int) -> _Clusters:
        """Without the first contents, and without names that nobody bears any longer."""
        return _Clusters(self._names[number] for number in self._numbers.all[count:])

    def name(self, at: int) -> str:
        """That of one content."""
        return self._names[int(self._numbers.all[at])]

    def nearest(self, near: NDArray[np.intp], distances: NDArray[np.float64]) -> NDArray[np.intp]:
        """Of the contents `near`, so far away, the nearest of each cluster; as many as a placement may name."""
        ordered = near[np.argsort(distances, kind="stable")]
        _, first = np.unique(self._numbers.all[ordered], return_index=True)
        return ordered[np.sort(first)[:_MOST_CLUSTERS]]


class KnownPictures:
    """Fingerprints of one subscriber's pictures. Hashes of all of them are compared; where they name no
    cluster, faces and points of the few that look most alike from afar."""

    def __init__(self, rules: DedupRules) -> None:
        self._rules = rules
        self._clusters = _Clusters()
        self._prints: list[Fingerprint] = []
        self._dhashes, self._phashes = Columns(VIEWS, np.uint64), Columns(VIEWS, np.uint64)
        self._pdqs = Rows((32,), np.uint8)
        self._qualities = Rows((), np.uint8)
        self._start_features()

    def _start_features(self) -> None:
        self._faces, self._face_of = Rows((2,), np.uint64), Rows((), np.int32)
        self._far = Rows((FACE_WINDOW**2,), np.float32)
        self._votes = Votes()
        self._standing: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._prints)

    @property
    def hashes(self) -> HashColumns:
        """Those of all pictures."""
        return HashColumns(self._dhashes.all, self._phashes.all, self._pdqs.all, self._qualities.all)

    def add(self, cluster_id: str, of: Fingerprint) -> None:
        """Knows one picture more."""
        self._clusters.add(cluster_id)
        self._prints.append(of)
        one = HashColumns.of([of])
        self._dhashes.add(one.dhashes[:, 0])
        self._phashes.add(one.phashes[:, 0])
        self._pdqs.add(one.pdqs[0])
        self._qualities.add(one.qualities[0])
        self._add_features(len(self._prints) - 1)

    def _add_features(self, at: int) -> None:
        """The first pictures of a cluster stand for it: where one picture was posted thousands of times, its points
        would be everywhere and tell nothing."""
        of, cluster_id = self._prints[at], self._clusters.name(at)
        self._standing[cluster_id] += 1
        stands = self._standing[cluster_id] <= _STAND_FOR_ONE
        for face in of.faces if stands else of.faces[:0]:
            afar = from_afar(face)
            self._faces.add(face_codes(afar)[0])
            self._far.add(far_face(afar))
            self._face_of.add(at)
        self._votes.add(point_words(of.points, VOTING_POINTS if stands else 0))

    def forget(self, count: int) -> None:
        """Drops the oldest."""
        self._clusters = self._clusters.after(count)
        del self._prints[:count]
        for columns in (self._dhashes, self._phashes, self._pdqs, self._qualities):
            columns.forget(count)
        self._start_features()
        for at in range(len(self._prints)):
            self._add_features(at)

    def near(self, new: Fingerprint) -> list[Near]:
        """The clusters that a picture is near to, each by its nearest content."""
        if not self._prints:
            return []
        verdicts = judged_by_hashes(hash_distances(new, self.hashes), self._rules)
        near = np.flatnonzero(verdicts.near)
        best = self._clusters.nearest(near, verdicts.distance[near])
        by_hashes = [at for at in best.tolist() if not speaks_against(new, self._prints[at], self._rules)]
        if by_hashes:
            return [
                _near(self._clusters.name(at), HASH_RULES[verdicts.rule[at]], float(verdicts.distance[at]))
                for at in by_hashes
            ]
        found: dict[str, Near] = {}
        for at, compare in self.candidates(new):
            verdict, name = compare(new, self._prints[at], self._rules), self._clusters.name(at)
            if verdict.near_duplicate and name not in found:
                found[name] = _near(name, verdict.rule, verdict.distance)
        return list(found.values())

    def candidates(
        self, new: Fingerprint, among: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, Callable[[Fingerprint, Fingerprint, DedupRules], Verdict]]]:
        """The few that are worth comparing, of those that `among` names: by their faces those that look alike from
        afar, by their points, upright or mirrored, those that share the most point words."""
        rules = self._rules
        afar = [from_afar(face) for face in new.faces]
        yield from ((at, partial(compare_faces, afar=afar)) for at in self._alike(afar, among))
        votes = self._points_shared(new)
        if among is not None:
            votes = np.where(among, votes, 0)
        for at in _highest(votes.max(axis=0), rules.point_candidates, rules.point_least_votes):
            yield at, partial(compare_points, mirrored=bool(votes[:, at].argmax()))

    def _alike(self, afar: Sequence[Structure], among: NDArray[np.bool_] | None) -> Iterator[int]:
        """The pictures with the faces that look most like one of a new picture's from afar: the nearest by their codes,
        and of those the ones that correlate best when shifted a little."""
        rules = self._rules
        if not afar:
            return
        away = least_distances(np.concatenate([face_codes(face) for face in afar]), self._faces.all)
        if among is not None:
            away = np.where(among[self._face_of.all], away, _FAR_AWAY)
        nearest = least(away, rules.faces_from_afar, rules.face_code_most)
        views = np.concatenate([far_views(face) for face in afar])
        alike = (self._far.all[nearest] @ views.T).max(axis=1, initial=-1)
        pictures = dict.fromkeys(
            int(self._face_of.all[nearest[at]]) for at in _highest(alike, len(alike), rules.face_worth_aligning)
        )
        yield from list(pictures)[: rules.face_candidates]

    def _points_shared(self, new: Fingerprint) -> NDArray[np.intp]:
        """[1 or 2, N]: votes of the points of the new picture, and of its mirror image."""
        views = [points for points in (new.points, new.mirrored_points) if points is not None]
        return np.array([self._votes.of(point_words(points, MOST_POINTS)) for points in views])


class Votes:
    """Which pictures share many point words with a new one: the pictures by word, in one array that is made anew when
    there are too many pictures beside it.
    """

    def __init__(self, most_beside: int = 128) -> None:
        self._most_beside = most_beside
        self._sorted_words = np.empty(0, np.uint32)
        self._sorted_pictures = np.empty(0, np.int32)
        self._ends = np.zeros(POINT_WORDS + 1, np.int32)
        self._sorted = 0
        self._beside: list[NDArray[np.uint32]] = []
        self._beside_as_one: tuple[NDArray[np.uint32], NDArray[np.int32]] | None = None

    def add(self, words: NDArray[np.uint32]) -> None:
        """The words of one picture more; one that it has twice counts once."""
        self._beside.append(_each_once(words))
        self._beside_as_one = None
        if len(self._beside) > self._most_beside:
            self._sort()

    def _sort(self) -> None:
        words, pictures = self._unsorted()
        order = np.argsort(words, kind="stable")
        words, pictures = words[order], pictures[order]
        places = self._ends[words + 1]
        self._sorted_words = np.insert(self._sorted_words, places, words)
        self._sorted_pictures = np.insert(self._sorted_pictures, places, pictures)
        self._ends[1:] += np.cumsum(np.bincount(words, minlength=POINT_WORDS), dtype=np.int32)
        self._sorted += len(self._beside)
        self._beside, self._beside_as_one = [], None

    def _unsorted(self) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
        if self._beside_as_one is None:
            pictures = np.arange(self._sorted, self._sorted + len(self._beside), dtype=np.int32)
            lengths = [len(words) for words in self._beside]
            words = np.concatenate([np.empty(0, np.uint32), *self._beside])
            self._beside_as_one = words, np.repeat(pictures, lengths)
        return self._beside_as_one

    def of(self, words: NDArray[np.uint32]) -> NDArray[np.intp]:
        """[N]: how many words each picture shares. Words that very many pictures have say little, and do not count."""
        asked = _each_once(words)
        starts, lengths = self._ends[asked], self._ends[asked + 1] - self._ends[asked]
        telling = lengths <= max(_ALWAYS_TELLING, self._sorted // _TELLING)
        starts, lengths = starts[telling], lengths[telling]
        before = np.cumsum(lengths) - lengths
        places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
        unsorted, pictures = self._unsorted()
        spoken = np.zeros(POINT_WORDS, np.bool_)
        spoken[asked] = True
        voters = np.concatenate((self._sorted_pictures[places], pictures[spoken[unsorted]]))
        return np.bincount(voters, minlength=self._sorted + len(self._beside))


def _each_once(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Sorted, without repeats: by sorting, which for a thousand is a tenth of what np.unique takes."""
    ordered = np.sort(words)
    first = np.append(np.ones(min(1, len(ordered)), np.bool_), ordered[1:] != ordered[:-1])
    return np.asarray(ordered[first], np.uint32)


class KnownTexts:
    """Signatures of one subscriber's texts; all of them are compared, first by the lowest byte of each minimum."""

    def __init__(self, rule: TextDedupRule) -> None:
        self._rule = rule
        self._clusters = _Clusters()
        self._minima, self._bytes = Rows((MINIMA,), np.uint32), Rows((MINIMA,), np.uint8)
        self._shingles, self._numbers = Rows((), np.int64), Rows((NUMBERS,), np.uint32)

    def __len__(self) -> int:
        return len(self._shingles.all)

    def add(self, cluster_id: str, of: Signature) -> None:
        """Knows one text more."""
        self._minima.add(of.minima)
        self._bytes.add(of.minima.astype(np.uint8))
        self._shingles.add(of.shingles)
        self._numbers.add(of.numbers)
        self._clusters.add(cluster_id)

    def forget(self, count: int) -> None:
        """Drops the oldest."""
        self._clusters = self._clusters.after(count)
        for column in (self._minima, self._bytes, self._shingles, self._numbers):
            column.forget(count)

    def near(self, new: Signature) -> list[Near]:
        """The clusters that a text is near to, each by its nearest content."""
        equal = self._bytes.all == new.minima.astype(np.uint8)
        # A true byte has one bit.
        shared = np.bitwise_count(equal.view(np.uint64)).sum(axis=1, dtype=np.uint16)
        likely = np.flatnonzero(shared >= self._rule.least_equal)
        minima, shingles = self._minima.all[likely], self._shingles.all[likely]
        same, similarities = compare_all(new, minima, shingles, self._numbers.all[likely], self._rule)
        distances = dict(zip(likely[same].tolist(), (1 - similarities[same]).tolist(), strict=True))
        best = self._clusters.nearest(likely[same], 1 - similarities[same])
        return [_near(self._clusters.name(at), "TEXT", distances[at]) for at in best.tolist()]


def _near(cluster_id: str, rule: str, distance: float) -> Near:
    return Near(cluster_id, _WORDS.get(rule, rule), round(1000 * distance))


def _highest(values: NDArray[Any], most: int, least: float) -> Iterator[int]:
    """Places of the `most` highest values that reach `least`, the highest first."""
    enough = np.flatnonzero(values >= least)
    if len(enough) > most:
        enough = enough[np.argpartition(values[enough], -most)[-most:]]
    yield from enough[np.argsort(-values[enough], kind="stable")].tolist()


def least(distances: NDArray[np.uint16], most: int, furthest: int) -> NDArray[np.intp]:
    """Places of the `most` least distances up to `furthest`, the least first; by counting, since distances are few."""
    counts = np.bincount(np.minimum(distances, furthest + 1), minlength=1)
    enough = int(np.searchsorted(np.cumsum(counts), most))
    near = np.flatnonzero(distances <= min(enough, furthest))
    return near[np.argsort(distances[near], kind="stable")][:most]
