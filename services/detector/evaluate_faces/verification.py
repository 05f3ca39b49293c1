"""How well scores of pairs tell one person from two: ROC, DET, thresholds, groups, given sets of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.detector.domain.faces import FaceRules
from services.detector.evaluate_faces.data import Listed, Pair
from services.detector.evaluate_faces.looks import Seen, Sight
from services.detector.evaluate_faces.statistics import (
    Booleans,
    Counts,
    Floats,
    Scores,
    View,
    all_pairs,
    codes_of,
    wilson,
)

FIRST, FIRST_LOOK, MIRRORED, FUSED = "first", "first_look", "mirrored", "fused"
"""Names of scores, see `views_of`."""
ALL = "all"
"""Every pair, whatever the group."""
CURVE_POINTS = 161
HISTOGRAM_STEPS = 100
_LEAST_OF_GROUP = 20
_MOST_GROUPS = 8


@dataclass
class Compared:
    """The scores of pairs, by one view: those of one person one by one, those of two counted."""

    genuine: list[float] = field(default_factory=list, repr=False)
    impostors: Scores = field(default_factory=Scores, repr=False)

    def true_accepts(self, threshold: float) -> int:
        """Genuine pairs that reach a threshold."""
        return sum(score >= threshold for score in self.genuine)

    def at_rates(self, rates: Sequence[float]) -> dict[str, dict[str, Any]]:
        """TPR with its 95 % Wilson interval and threshold at each false acceptance rate, keyed `1e-4`.

        `resolved` is false where a rate asks for less than one of the pairs: the threshold then lies above them all.
        """
        found = {}
        for rate in rates:
            threshold = self.impostors.threshold(rate)
            hits = self.true_accepts(threshold)
            found[f"{rate:.0e}".replace("e-0", "e-")] = {
                "tpr": _ratio(hits, len(self.genuine)),
                "interval": wilson(hits, len(self.genuine)),
                "threshold": round(threshold, 5),
                "resolved": rate * self.impostors.size >= 1,
            }
        return found

    def curve(self) -> list[tuple[float, float, float]]:
        """(threshold, false acceptance rate, false rejection rate) from −1 to 1 where something changes."""
        ends = [min(self.genuine, default=0.0), self.impostors.threshold(0)]
        thresholds = np.linspace(-0.3, max(ends) + 0.02, CURVE_POINTS).tolist()
        shares = self.impostors.shares_at_least(thresholds)
        ordered = np.sort(np.asarray(self.genuine))
        missed = np.searchsorted(ordered, thresholds, side="left") / max(1, len(ordered))
        return [(round(t, 4), float(f"{far:.3g}"), float(f"{frr:.4g}"))
                for t, far, frr in zip(thresholds, shares, missed.tolist(), strict=True)]

    def best_accuracy(self) -> float | None:
        """Of all thresholds the best share of right answers, both kinds of pairs weighing the same."""
        if not self.genuine or not self.impostors.size:
            return None
        thresholds = np.linspace(-1, 1, 4001).tolist()
        false = np.asarray(self.impostors.shares_at_least(thresholds))
        missed = np.searchsorted(np.sort(self.genuine), thresholds, side="left") / len(self.genuine)
        return float(np.max(1 - (false + missed) / 2))


def views_of(sights: Sequence[Sight], rules: FaceRules) -> dict[str, View]:
    """`first`: the first embedder on both pictures as they are; `first_look`: so on the probe, on the template with its
    mirror image, as the product searches; `mirrored`: so on both; `fused`: both embedders, as the product decides."""
    plain = _stacked([each.vector for each in sights])
    first = _stacked([each.look.vectors[rules.model_id] for each in sights])
    second = _stacked([each.look.vectors[rules.second_model_id] for each in sights])
    weight = rules.first_weight
    return {
        FIRST: View(((plain, plain, 1.0),)),
        FIRST_LOOK: View(((plain, first, 1.0),)),
        MIRRORED: View(((first, first, 1.0),)),
        FUSED: View(((first, first, weight), (second, second, 1 - weight))),
    }


def _stacked(vectors: Sequence[Floats]) -> Floats:
    return np.stack(vectors) if vectors else np.empty((0, 1), np.float32)


@dataclass(frozen=True)
class Pictures:
    """The pictures of the manifest in which a face was found."""

    listed: tuple[Listed, ...]
    sights: tuple[Sight, ...] = field(repr=False)

    @classmethod
    def found(cls, listed: Sequence[Listed], seen: Sequence[Seen]) -> Pictures:
        """Those with a role and a face."""
        both = [(a, b.sight) for a, b in zip(listed, seen, strict=True) if a.role is not None and b.sight is not None]
        return cls(tuple(a for a, _ in both), tuple(b for _, b in both))

    @property
    def codes(self) -> Counts:
        """int64 [P]: the same number for the same person."""
        return codes_of([each.identity for each in self.listed])


def compare_all(pictures: Pictures, view: View, groups: Sequence[frozenset[str]] = ()) -> dict[str, Compared]:
    """All pairs of pictures; under `all`, and under each group those whose both pictures belong to it (strangers) or
    whose either picture does (one person)."""
    found: dict[str, Compared] = {ALL: Compared()}
    members = _members(groups)
    found |= {name: Compared() for name in members}
    for scores, same, a, b in all_pairs(view, pictures.codes):
        _count(found[ALL], scores, same)
        for name, inside in members.items():
            _count(found[name], scores, same & (inside[a] | inside[b]), ~same & inside[a] & inside[b])
    return found


def _members(groups: Sequence[frozenset[str]]) -> dict[str, Booleans]:
    names = sorted(frozenset().union(*groups)) if groups else []
    return {name: np.array([name in each for each in groups]) for name in names}


def _count(
    compared: Compared,
    scores: Floats,
    same: Booleans,
    different: Booleans | None = None,
) -> None:
    compared.genuine += scores[same].tolist()
    compared.impostors.add(scores[~same if different is None else different])


def groups_of(pictures: Pictures) -> list[frozenset[str]]:
    """The groups of each picture: its corpus, and tags `name=value` of the pictures of people seen twice. Groups of
    fewer than twenty pictures, and all beyond the eight largest, say nothing and are left out."""
    seen = Counter(each.identity for each in pictures.listed)
    named = [_groups(each, seen[each.identity] > 1) for each in pictures.listed]
    sizes = Counter(name for names in named for name in names)
    kept = {name for name, size in sizes.most_common(_MOST_GROUPS) if size >= _LEAST_OF_GROUP}
    return [names & kept for names in named]


def _groups(listed: Listed, mated: bool) -> frozenset[str]:
    tags = [tag for tag in listed.tags if mated and "=" in tag]
    corpus = listed.corpus or "no corpus"
    return frozenset([corpus, *(f"{corpus} {tag}" for tag in tags)])


def by_set(
    pairs: Sequence[Pair], seen: Sequence[Seen], rules: FaceRules, marks: Mapping[str, float], rates: Sequence[float]
) -> list[dict[str, Any]]:
    """Every set of pairs, and sets that differ in `_same` and `_different` alone together, by the fused score.

    `marks`: thresholds by name at which rates are given; `own` stands at thresholds of the set itself, for each of the
    false acceptance `rates`. A pair in which a face was not found is one that no threshold of `marks` accepts.
    """
    places = {at: number for number, at in enumerate(at for at, each in enumerate(seen) if each.sight is not None)}
    view = views_of([each.sight for each in seen if each.sight is not None], rules)[FUSED]
    sets: dict[str, list[Pair]] = {}
    for pair in pairs:
        for name in {pair.set, _joint(pair.set)}:
            sets.setdefault(name, []).append(pair)
    return [{"set": name, **_one_set(sets[name], places, view, marks, rates)} for name in sorted(sets)]


def _joint(name: str) -> str:
    return name.removesuffix("_same").removesuffix("_different")


def _one_set(
    pairs: Sequence[Pair], places: Mapping[int, int], view: View, marks: Mapping[str, float], rates: Sequence[float]
) -> dict[str, Any]:
    usable = [pair for pair in pairs if pair.a in places and pair.b in places]
    scores = view.pairs([places[p.a] for p in usable], [places[p.b] for p in usable]) if usable else np.empty(0)
    same = np.array([pair.same for pair in usable], bool)
    compared = Compared()
    _count(compared, np.asarray(scores, np.float32), same)
    total = sum(pair.same for pair in pairs)
    return {
        "pairs": len(pairs),
        "same": total,
        "different": len(pairs) - total,
        "face_not_found": len(pairs) - len(usable),
        "best_accuracy": compared.best_accuracy(),
        "at": {name: _at(compared, threshold, total, len(pairs) - total) for name, threshold in marks.items()},
        "own": compared.at_rates(rates) if compared.genuine and compared.impostors.size else None,
    }


def _at(compared: Compared, threshold: float, same: int, different: int) -> dict[str, Any]:
    hits, false = compared.true_accepts(threshold), compared.impostors.at_least(threshold)
    return {
        "threshold": round(threshold, 5),
        "tpr": _ratio(hits, same),
        "tpr_interval": wilson(hits, same),
        "far": _ratio(false, different),
        "far_interval": wilson(false, different),
    }


def _ratio(above: int, below: int) -> float | None:
    return round(above / below, 6) if below else None
