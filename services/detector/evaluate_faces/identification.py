"""How the product does on a stream: some people enrolled, their later pictures and strangers' streamed past."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.detector.adapters.faces import second_opinion
from services.detector.adapters.gallery import Entry, ExactGallery, FaissGallery, Gallery
from services.detector.domain.faces import Band, Candidate, Decision, FaceRules, decide, needs_second_look
from services.detector.evaluate_faces.data import Role
from services.detector.evaluate_faces.looks import Seen, Sight
from services.detector.evaluate_faces.statistics import Counts, bootstrap

CANDIDATES = 4
"""Subscribers nearest to a face that a decision looks at, as in the product."""
MOST_EXACT = 500
"""Templates that the obvious gallery searches; beyond them the product's own is much faster and finds the same."""
NOT_FOUND = "FACE_NOT_FOUND"
"""Why a picture without a face led nowhere."""
COLUMNS = ("searches", "mated", "second_looks", *(f"{b}_{k}" for b in ("match", "any") for k in ("right", "wrong")),
           "match_alarm", "any_alarm")
"""What is counted: searches, those of enrolled people, and for MATCH and for MATCH-or-REVIEW (`any`) who was named
rightly, who wrongly, and how many strangers were named."""
RATES = {
    "precision": ("match_right", "match_named"),
    "recall_match": ("match_right", "mated"),
    "recall_match_or_review": ("any_right", "mated"),
    "precision_match_or_review": ("any_right", "any_named"),
    "fpir": ("match_alarm", "strangers"),
    "fpir_match_or_review": ("any_alarm", "strangers"),
    "fnir": ("match_missed", "mated"),
    "fnir_match_or_review": ("any_missed", "mated"),
    "second_looks": ("second_looks", "searches"),
}
"""Rates and their two counts. FPIR, FNIR (rank 1): ISO/IEC 19795-1; `fnir` is what MATCH misses."""

RulesFor = Callable[[int], FaceRules]
"""The rules for one event, by its place."""


@dataclass(frozen=True)
class Person:
    """One picture of the stream or the gallery: who, for what, and what was seen."""

    identity: str
    role: Role
    seen: Seen


@dataclass(frozen=True)
class Outcome:
    """What became of one event. `reason` says why it got its band."""

    mated: bool
    band: Band
    right: bool
    again: bool
    reason: str

    def counts(self) -> dict[str, int]:
        """In terms of COLUMNS."""
        found = {"searches": 1, "mated": int(self.mated), "second_looks": int(self.again)}
        for name, bands in (("match", (Band.MATCH,)), ("any", (Band.MATCH, Band.REVIEW))):
            named = self.band in bands
            found[f"{name}_right"] = int(named and self.right)
            found[f"{name}_wrong"] = int(named and not self.right)
            found[f"{name}_alarm"] = int(named and not self.mated)
        return found


def gallery_of(enrolled: Sequence[Person], rules: FaceRules) -> Gallery:
    """The templates of these pictures; those without a face are left out."""
    dimension = next((len(p.seen.sight.vector) for p in enrolled if p.seen.sight), 1)
    kind = ExactGallery if len(enrolled) <= MOST_EXACT else FaissGallery
    gallery: Gallery = kind(rules.model_id, dimension)
    gallery.add(
        Entry(f"t{at}", p.identity, p.seen.sight.look.vectors[rules.model_id],
              p.seen.sight.look.vectors[rules.second_model_id])
        for at, p in enumerate(enrolled)
        if p.seen.sight is not None
    )
    return gallery


def stream(gallery: Gallery, enrolled: frozenset[str], events: Sequence[Person], rules: RulesFor) -> list[Outcome]:
    """Every event decided as in the product, with a second look where the rules ask for one. A person counts as
    enrolled although no template could be made: FNIR includes the failure to enrol."""
    sights = [(at, each.seen.sight) for at, each in enumerate(events) if each.seen.sight is not None]
    probes = np.stack([sight.vector for _, sight in sights]) if sights and len(gallery) else None
    found = gallery.search(probes, CANDIDATES) if probes is not None else [[] for _ in sights]
    decided: dict[int, tuple[Decision, bool]] = {}
    for (at, sight), candidates in zip(sights, found, strict=True):
        decided[at] = _decide(sight, candidates, gallery, rules(at))
    return [_outcome(each, each.identity in enrolled, decided.get(at)) for at, each in enumerate(events)]


def _decide(
    sight: Sight, candidates: Sequence[Candidate], gallery: Gallery, rules: FaceRules
) -> tuple[Decision, bool]:
    again = needs_second_look(candidates, sight.quality, len(gallery), rules)
    if again:
        candidates = [second_opinion(each, sight.look, gallery, rules) for each in candidates]
    return decide(candidates, sight.quality, len(gallery), rules), again


def _outcome(event: Person, mated: bool, decided: tuple[Decision, bool] | None) -> Outcome:
    if decided is None:
        return Outcome(mated, Band.NONE, False, False, NOT_FOUND)
    decision, again = decided
    right = mated and decision.subscriber_id == event.identity
    return Outcome(mated, decision.band, right, again, ", ".join(decision.reasons))


class Totals:
    """Counts by person over all splits, from which rates and their intervals come."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._codes = {name: at for at, name in enumerate(sorted({each.identity for each in people}))}
        self._table: Counts = np.zeros((len(self._codes), len(COLUMNS)), np.int64)
        self.splits: list[dict[str, float | None]] = []
        self.misses: Counter[str] = Counter()
        """Why searches of enrolled people did not end in MATCH, by band and reason."""
        self.false: Counter[str] = Counter()
        """Who was wrongly named, by band: a stranger or another subscriber."""

    def add(self, events: Sequence[Person], outcomes: Sequence[Outcome]) -> None:
        """Counts one split."""
        table: Counts = np.zeros_like(self._table)
        for event, outcome in zip(events, outcomes, strict=True):
            counts = outcome.counts()
            table[self._codes[event.identity]] += [counts[name] for name in COLUMNS]
            self._note(outcome)
        self._table += table
        self.splits.append(_rates(table))

    def _note(self, outcome: Outcome) -> None:
        if outcome.mated and not (outcome.right and outcome.band is Band.MATCH):
            self.misses[f"{outcome.band}: {outcome.reason}"] += 1
        if outcome.band is not Band.NONE and not outcome.right:
            self.false[f"{outcome.band}: {'ANOTHER_SUBSCRIBER' if outcome.mated else 'STRANGER'}"] += 1

    def rates(self) -> dict[str, float | None]:
        """Over all splits together; None where nothing was counted."""
        return _rates(self._table)

    def intervals(self, seed: int) -> dict[str, tuple[float, float]]:
        """95 % of each rate, people drawn anew."""
        columns = _columns(self._table)
        found = bootstrap([(columns[a], columns[b]) for a, b in RATES.values()], seed)
        return dict(zip(RATES, found, strict=True))

    def count(self, name: str) -> int:
        """A total of COLUMNS."""
        return int(self._table[:, COLUMNS.index(name)].sum())


def _columns(table: Counts) -> dict[str, Counts]:
    columns = {name: table[:, at] for at, name in enumerate(COLUMNS)}
    for name in ("match", "any"):
        columns[f"{name}_named"] = columns[f"{name}_right"] + columns[f"{name}_wrong"]
        columns[f"{name}_missed"] = columns["mated"] - columns[f"{name}_right"]
    return columns | {"strangers": columns["searches"] - columns["mated"]}


def _rates(table: Counts) -> dict[str, float | None]:
    sums = {name: int(column.sum()) for name, column in _columns(table).items()}
    return {name: sums[a] / sums[b] if sums[b] else None for name, (a, b) in RATES.items()}


def drawn(people: Sequence[str], count: int, chance: random.Random) -> frozenset[str]:
    """So many of the people, at random; all of them when there are fewer."""
    return frozenset(chance.sample(sorted(people), max(0, min(len(people), count))))
