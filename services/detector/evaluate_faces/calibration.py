"""Which thresholds a model needs for a target FPIR, learnt from people who are judged by none of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.detector.domain.faces import FaceRules
from services.detector.evaluate_faces.identification import Person
from services.detector.evaluate_faces.statistics import Tail, codes_of, strangers, tail_of
from services.detector.evaluate_faces.verification import FIRST_LOOK, FUSED, views_of


@dataclass(frozen=True)
class Aims:
    """See rules/face_evaluation.yaml."""

    review_fpir: float
    second_look_fpir: float
    clear_part: float
    tail_share: float


@dataclass(frozen=True)
class Learnt:
    """What the tails of strangers' scores say: of the first look, and of the second opinion."""

    first: Tail
    second: Tail
    pictures: int


def learn(people: Sequence[Person], rules: FaceRules, aims: Aims) -> Learnt:
    """Fits the tails on all pairs of strangers among these pictures. Raises ValueError with too few."""
    seen = [(each.identity, each.seen.sight) for each in people if each.seen.sight is not None]
    codes = codes_of([identity for identity, _ in seen])
    views = views_of([sight for _, sight in seen], rules)
    first, second = (tail_of(strangers(views[name], codes), aims.tail_share) for name in (FIRST_LOOK, FUSED))
    return Learnt(first, second, len(seen))


def calibrated(rules: FaceRules, learnt: Learnt, aims: Aims) -> FaceRules:
    """The rules with thresholds for their target FPIR at their reference gallery.

    A stranger meets a gallery of N templates about N times: FPIR ≈ N · FMR for rates this small. What a tenfold
    gallery adds to every threshold is the most that any of them needs. Margin, quality and what minors add stay:
    strangers of other people say nothing about them.
    """
    look_again, clear, match, review = (
        rate / rules.reference_gallery
        for rate in (
            aims.second_look_fpir,
            rules.target_fpir * aims.clear_part,
            rules.target_fpir,
            max(aims.review_fpir, rules.target_fpir),
        )
    )
    first, second = learnt.first, learnt.second
    growths = [tail.per_decade(rate) for tail, rates in ((first, (look_again, clear)), (second, (match, review)))
               for rate in rates]
    return replace(
        rules,
        version=rules.version + 1,
        look_again=round(first.at(look_again), 3),
        clear=round(max(first.at(clear), first.at(look_again)), 3),
        second_match=round(second.at(match), 3),
        second_review=round(second.at(review), 3),
        tighten_per_decade=round(max(growths), 3),
    )


@dataclass(frozen=True)
class HeldOut:
    """Two sets of rules for one split. An event is judged by those learnt without its person, and neither was learnt
    from anybody enrolled: half of the people who are not enrolled teach the rules for the other half."""

    halves: tuple[frozenset[str], frozenset[str]]
    rules: tuple[FaceRules, FaceRules]

    def judging(self, identity: str) -> FaceRules:
        """The rules for a picture of this person."""
        return self.rules[0] if identity in self.halves[0] else self.rules[1]


def held_out(
    people: Sequence[Person], enrolled: frozenset[str], rules: FaceRules, aims: Aims, chance: random.Random
) -> HeldOut:
    """Learns twice among the people who are not enrolled. Raises ValueError with too few of them."""
    others = sorted({each.identity for each in people} - enrolled)
    chance.shuffle(others)
    halves = frozenset(others[::2]), frozenset(others[1::2])
    taught = [
        calibrated(rules, learn([p for p in people if p.identity in half], rules, aims), aims)
        for half in reversed(halves)
    ]
    return HeldOut(halves, (taught[0], taught[1]))


def written(text: str, rules: FaceRules) -> str:
    """The YAML of rules with other values: comments and order of `text` (the rules it starts from) stay.

    Raises ValueError when `text` lacks a field.
    """
    values = {
        "version": str(rules.version),
        "evaluation": '"' + rules.evaluation.replace("\\", "\\\\").replace('"', '\\"') + '"',
        "target_fpir": f"{rules.target_fpir:g}",
    }
    for name in ("look_again", "clear", "second_match", "second_review", "tighten_per_decade"):
        values[name] = f"{getattr(rules, name):.3f}"
    for name, value in values.items():
        line = re.search(rf"(?m)^{name}:.*$", text)
        if line is None:
            raise ValueError(f"the rules have no line for {name}")
        text = f"{text[: line.start()]}{name}: {value}{text[line.end() :]}"
    return text
