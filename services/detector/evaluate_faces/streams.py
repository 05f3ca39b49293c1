"""How the product does on the data's stream: over many random divisions, and at galleries of several sizes."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from services.detector.domain.faces import FaceRules
from services.detector.evaluate_faces.calibration import held_out
from services.detector.evaluate_faces.data import Role
from services.detector.evaluate_faces.identification import (
    Person,
    RulesFor,
    Totals,
    drawn,
    gallery_of,
    stream,
)
from services.detector.evaluate_faces.statistics import View
from services.detector.evaluate_faces.subject import Plan, Subject
from services.detector.evaluate_faces.verification import FUSED, views_of

HEADLINE = ("precision", "recall_match", "recall_match_or_review", "fpir", "fnir")
SWEEP = [round(0.2 + 0.01 * step, 2) for step in range(66)]
"""Thresholds of the curves by gallery size."""


def streams(subject: Subject, people: Sequence[Person]) -> dict[str, Any]:
    """The open-set stream by the rules as they stand and, when calibrating, by rules learnt from other people."""
    shipped = _stream(subject, people, _as_shipped(subject.rules))
    found: dict[str, Any] = {"stream": shipped}
    rules_for = _as_shipped(subject.rules)
    if subject.calibrate:
        rules_for = _learnt(subject, people)
        found["stream_held_out"] = _stream(subject, people, rules_for)
    best = found.get("stream_held_out", shipped)
    return {
        "thresholds": "held out" if subject.calibrate else "as shipped",
        **{name: best["mean"][name] for name in HEADLINE},
        "spread": best["spread"],
        **found,
        "gallery_sizes": list(_gallery_sizes(subject, people, rules_for)),
    }


RulesOfSplit = Callable[[Sequence[Person], frozenset[str], random.Random], RulesFor]
"""For one split the rules that judge each of its events."""


def _as_shipped(rules: FaceRules) -> RulesOfSplit:
    return lambda events, enrolled, chance: lambda event: rules


def _learnt(subject: Subject, people: Sequence[Person]) -> RulesOfSplit:
    def of_split(events: Sequence[Person], enrolled: frozenset[str], chance: random.Random) -> RulesFor:
        learnt = held_out(people, enrolled, subject.rules, subject.plan.calibration, chance)
        return lambda event: learnt.judging(events[event].identity)

    return of_split


def _stream(subject: Subject, people: Sequence[Person], rules_of: RulesOfSplit) -> dict[str, Any]:
    """A random part of the people enrolled, all probes and distractors streamed; many times over."""
    plan = subject.plan
    candidates = sorted({each.identity for each in people if each.role is Role.ENROL})
    events = [each for each in people if each.role is not Role.ENROL]
    totals, templates, thresholds = Totals(events), [], []
    for number in range(plan.splits):
        chance = random.Random(plan.seed + number)
        enrolled = drawn(candidates, max(1, len(candidates) // plan.enrol_one_in), chance)
        gallery = gallery_of([p for p in people if p.role is Role.ENROL and p.identity in enrolled], subject.rules)
        rules_for = rules_of(events, enrolled, chance)
        totals.add(events, stream(gallery, enrolled, events, rules_for))
        templates.append(len(gallery))
        thresholds += [_values(rules_for(at)) for at in range(min(2, len(events)))]
    return _of_totals(totals, plan) | {
        "splits": plan.splits,
        "events": len(events),
        "templates": round(statistics.mean(templates)),
        "thresholds": {name: _spread([each[name] for each in thresholds]) for name in thresholds[0]},
    }


def _of_totals(totals: Totals, plan: Plan) -> dict[str, Any]:
    """Mean, spread and interval of each rate, and what went wrong, by reason."""
    names = [name for name, value in totals.rates().items() if value is not None]
    by_split = {name: [v for each in totals.splits if (v := each[name]) is not None] for name in names}
    intervals = totals.intervals(plan.seed)
    mated = max(1, totals.count("mated"))
    return {
        "mean": {name: round(statistics.mean(by_split[name]), 5) if name in by_split else None for name in intervals},
        "spread": {name: _spread(values) for name, values in by_split.items()},
        "interval": {name: [round(end, 5) for end in ends] for name, ends in intervals.items()},
        "misses": {name: round(count / mated, 5) for name, count in totals.misses.most_common()},
        "false_per_split": {name: round(n / len(totals.splits), 3) for name, n in totals.false.most_common()},
    }


def _gallery_sizes(subject: Subject, people: Sequence[Person], rules_of: RulesOfSplit) -> Iterable[dict[str, Any]]:
    """The stream at galleries of several sizes. Beyond the people with enrolment pictures, distractors fill the
    gallery, at most half of them."""
    plan, rules = subject.plan, subject.rules
    members = sorted({each.identity for each in people if each.role is Role.ENROL})
    fillers = sorted({each.identity for each in people if each.role is Role.DISTRACTOR})
    pictures = [each for each in people if each.seen.sight is not None]
    view = views_of([each.seen.sight for each in pictures if each.seen.sight is not None], rules)[FUSED]
    most = len(members) + len(fillers) // 2
    for size in sorted({s for s in plan.gallery_sizes if s <= most} | {min(most, max(plan.gallery_sizes))}):
        sweep = _Sweep()
        totals = Totals([each for each in people if each.role is not Role.ENROL])
        for number in range(plan.gallery_splits):
            chance = random.Random(plan.seed * 1_000 + number)
            chosen = drawn(members, size, chance) | drawn(fillers, size - len(members), chance)
            _add_split(subject, people, rules_of, chosen, totals, chance)
            sweep.add(pictures, chosen, view)
        yield {"templates": size, **_of_totals(totals, plan), "curve": sweep.curve()}


def _add_split(
    subject: Subject,
    people: Sequence[Person],
    rules_of: RulesOfSplit,
    chosen: frozenset[str],
    totals: Totals,
    chance: random.Random,
) -> None:
    gallery, events = _divided(people, chosen)
    outcomes = stream(gallery_of(gallery, subject.rules), chosen, events, rules_of(events, chosen, chance))
    totals.add(events, outcomes)


def _divided(people: Sequence[Person], chosen: frozenset[str]) -> tuple[list[Person], list[Person]]:
    """Templates of the chosen people, and what is streamed: a chosen distractor is a template alone."""
    gallery = [p for p in people if p.identity in chosen and p.role is not Role.PROBE]
    events = [p for p in people if p.role is Role.PROBE or (p.role is Role.DISTRACTOR and p.identity not in chosen)]
    return gallery, events


class _Sweep:
    """FPIR and FNIR (rank 1) over all thresholds, by the fused score alone. Failures to find a face are left out: they
    are no question of a threshold."""

    def __init__(self) -> None:
        self._strangers: list[float] = []
        self._right: list[float] = []
        self._mated = 0

    def add(self, pictures: Sequence[Person], chosen: frozenset[str], view: View) -> None:
        held = [at for at, p in enumerate(pictures) if p.identity in chosen and p.role is not Role.PROBE]
        asked = [at for at, p in enumerate(pictures) if p.role is not Role.ENROL and at not in set(held)]
        if not held or not asked:
            return
        scores = view.compare(np.array(asked, np.int64), np.array(held, np.int64))
        nearest, best = scores.argmax(axis=1).tolist(), scores.max(axis=1).tolist()
        for at, near, score in zip(asked, nearest, best, strict=True):
            identity = pictures[at].identity
            if identity not in chosen:
                self._strangers.append(score)
                continue
            self._mated += 1
            if pictures[held[near]].identity == identity:
                self._right.append(score)

    def curve(self) -> list[tuple[float, float, float]]:
        """(threshold, FPIR, FNIR)."""
        strangers, right = np.sort(self._strangers), np.sort(self._right)
        return [
            (
                t,
                round(1 - float(np.searchsorted(strangers, t)) / max(1, len(strangers)), 5),
                round(1 - (len(right) - float(np.searchsorted(right, t))) / max(1, self._mated), 5),
            )
            for t in SWEEP
        ]


def _values(rules: FaceRules) -> dict[str, float]:
    names = ("look_again", "clear", "second_match", "second_review", "tighten_per_decade")
    return {name: getattr(rules, name) for name in names}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.mean(values), 4),
        "sd": round(statistics.pstdev(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }
