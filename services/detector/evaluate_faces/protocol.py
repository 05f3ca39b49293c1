"""What is measured on the data, and in which order: the whole evaluation as one document."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.detector.domain.faces import Band, FaceRules
from services.detector.evaluate_faces.calibration import calibrated, learn
from services.detector.evaluate_faces.data import Listed, Role
from services.detector.evaluate_faces.identification import Person, drawn, gallery_of, stream
from services.detector.evaluate_faces.looks import CANVAS, UNREADABLE, Advance, Looks, Seen
from services.detector.evaluate_faces.statistics import CONFIDENCE, ROUNDS, wilson
from services.detector.evaluate_faces.streams import streams
from services.detector.evaluate_faces.subject import Plan, Subject
from services.detector.evaluate_faces.verification import (
    ALL,
    FIRST,
    FUSED,
    HISTOGRAM_STEPS,
    MIRRORED,
    Compared,
    Pictures,
    by_set,
    compare_all,
    groups_of,
    views_of,
)

NAME = "FaceModelEvalReport_v1"


@dataclass(frozen=True)
class Report:
    """The document (JSON), and the rules that calibration proposes."""

    document: dict[str, Any]
    proposed: FaceRules | None


def evaluate(
    subject: Subject, looks: Looks, face_size_sample: int, advance: Advance, canvas: tuple[int, int] = CANVAS
) -> Report:
    """Measures everything that the data allows. Raises ValueError when it is too little to calibrate on."""
    plan, rules = subject.plan, subject.rules
    people = subject.people
    document: dict[str, Any] = {
        "name": NAME,
        "evaluation": f"{plan.id}-{plan.version}",
        "model": _model(subject),
        "methods": _METHODS,
        "datasheet": datasheet(subject),
    }
    if any(each.role is not Role.ENROL for each in people):
        document |= streams(subject, people)
    pictures = Pictures.found(subject.data.listed, subject.seen)
    if len(pictures.listed) > 1:
        document |= _all_pairs(pictures, rules, plan)
    if subject.data.pairs:
        marks = _marks(document, rules)
        rates = plan.false_acceptance_rates
        document["pair_sets"] = by_set(subject.data.pairs, subject.seen, rules, marks, rates)
    if face_size_sample:
        document["face_sizes"] = _face_sizes(subject, looks, face_size_sample, advance, canvas)
    return Report(document, _proposed(subject, document) if subject.calibrate else None)


_METHODS = {
    "rates": "FPIR and FNIR at rank 1 as in ISO/IEC 19795-1; failure to find a face or to enrol counts as a miss",
    "stream": f"95 % by bootstrap over people ({ROUNDS} rounds, all pictures of a person together), by Wilson's score "
    "interval with people as trials where all or none did the same; spread over splits",
    "pairs": "95 % Wilson score interval of the true positives at the threshold found; every two pictures once",
    "confidence": CONFIDENCE,
}


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without curves and histograms, for programs and the terminal."""
    left_out = {"curves", "histograms"}
    kept = {name: value for name, value in document.items() if name not in left_out}
    kept["gallery_sizes"] = [
        {name: value for name, value in each.items() if name != "curve"} for each in document.get("gallery_sizes", ())
    ]
    return kept


def _model(subject: Subject) -> dict[str, Any]:
    rules = subject.rules
    return {
        "model_id": rules.model_id,
        "second_model_id": rules.second_model_id,
        "engine_id": subject.engine_id,
        "rules": rules.name,
        "target_fpir": rules.target_fpir,
        "reference_gallery": rules.reference_gallery,
        "rules_learnt_on_this_data": subject.data.digest[:16] in rules.evaluation,
    }


def datasheet(subject: Subject) -> dict[str, Any]:
    """What the data is: how many of what, from where, under which licence, and whom it leaves out."""
    listed = [each for each in subject.data.listed if each.role is not None]
    seen = [b for a, b in zip(subject.data.listed, subject.seen, strict=True) if a.role is not None]
    sights = [each.sight for each in seen if each.sight is not None]
    sides = [min(each.box.width, each.box.height) for each in sights]
    enrolled = [p.seen.sight for p in subject.people if p.role is Role.ENROL and p.seen.sight is not None]
    corpora = Counter(each.corpus or "no corpus" for each in listed)
    return {
        "data": subject.data.name,
        "digest": subject.data.digest,
        "pictures": len(listed),
        "people": len({each.identity for each in listed}),
        "roles": dict(Counter(str(each.role) for each in listed)),
        "corpora": dict(corpora),
        "licences": dict(Counter(each.licence or "not stated" for each in listed).most_common()),
        "sources": dict(Counter(each.source or "not stated" for each in listed).most_common(20)),
        "only_in_pairs": sum(each.role is None for each in subject.data.listed),
        "faces_found": len(sights),
        "unreadable": sum(each.fault == UNREADABLE for each in seen),
        "face_not_found": sum(bool(each.fault) and each.fault != UNREADABLE for each in seen),
        "enrolments_below_quality": sum(bool(subject.rules.template.faults(each.quality)) for each in enrolled),
        "face_side_px": [round(float(q)) for q in np.quantile(sides, [0.05, 0.5, 0.95])] if sides else None,
        "populations": {name: subject.plan.populations.get(name, _UNKNOWN) for name in sorted(corpora)},
    }


_UNKNOWN = {
    "ko": "누구를 담은 자료인지 알려져 있지 않습니다. 다른 사람들에 대해서는 말해 주지 않습니다.",
    "en": "Whom it shows is not stated: says nothing about others.",
}


def _all_pairs(pictures: Pictures, rules: FaceRules, plan: Plan) -> dict[str, Any]:
    views = views_of(pictures.sights, rules)
    rates = plan.false_acceptance_rates
    groups = groups_of(pictures)
    scores = {name: compare_all(pictures, views[name])[ALL] for name in (FIRST, MIRRORED)}
    fused = compare_all(pictures, views[FUSED], groups)
    scores[FUSED] = fused[ALL]
    at = {name: each.at_rates(rates) for name, each in scores.items()}
    return {
        "pairs": {"genuine": len(fused[ALL].genuine), "impostor": fused[ALL].impostors.size},
        "tpr_at_far": at[FUSED],
        "tpr_at_far_by_score": at,
        "curves": {name: each.curve() for name, each in scores.items()},
        "groups": [_group(name, each, rules) for name, each in fused.items()],
        "histograms": {name: _histogram(each) for name, each in fused.items()},
    }


def _group(name: str, compared: Compared, rules: FaceRules) -> dict[str, Any]:
    genuine, strangers = len(compared.genuine), compared.impostors.size
    hits, false = compared.true_accepts(rules.second_match), compared.impostors.at_least(rules.second_match)
    return {
        "group": name,
        "genuine": genuine,
        "impostor": strangers,
        "fnmr_at_match": _rounded(1 - hits / genuine if genuine else None),
        "fnmr_interval": [round(1 - end, 5) for end in reversed(wilson(hits, genuine))],
        "fmr_at_match": false / strangers if strangers else None,
        "fmr_interval": [float(f"{end:.3g}") for end in wilson(false, strangers)],
    }


def _histogram(compared: Compared) -> dict[str, list[int]]:
    """Counts in equal parts of −1..1."""
    genuine, _ = np.histogram(compared.genuine, bins=HISTOGRAM_STEPS, range=(-1, 1))
    return {"genuine": [int(n) for n in genuine], "impostor": compared.impostors.coarse(HISTOGRAM_STEPS)}


def _marks(document: Mapping[str, Any], rules: FaceRules) -> dict[str, float]:
    marks = {"second_match": rules.second_match, "second_review": rules.second_review}
    at = document.get("tpr_at_far", {})
    return marks | {f"far {rate}": each["threshold"] for rate, each in at.items()}


def _face_sizes(
    subject: Subject, looks: Looks, sample: int, advance: Advance, canvas: tuple[int, int]
) -> list[dict[str, Any]]:
    """The same pictures with their faces ever smaller in a large picture: found, recognised, or neither."""
    plan = subject.plan
    chosen, gallery, enrolled = _sampled(subject, sample)
    rows = []
    for side in plan.face_sides_px:
        fit = [(each, seen) for each, seen in chosen if seen.sight is not None and _side(seen) >= side]
        boxes = [seen.sight.box for _, seen in fit if seen.sight is not None]
        shrunk = looks.shrunk([each for each, _ in fit], boxes, side, advance, canvas)
        events = [Person(each.identity, Role.PROBE, seen) for (each, _), seen in zip(fit, shrunk, strict=True)]
        outcomes = stream(gallery_of(gallery, subject.rules), enrolled, events, lambda _: subject.rules)
        rows.append(_size_row(side, canvas, shrunk, [each.band for each in outcomes if each.right]))
    return rows


def _side(seen: Seen) -> float:
    return min(seen.sight.box.width, seen.sight.box.height) if seen.sight is not None else 0.0


def _sampled(subject: Subject, sample: int) -> tuple[list[tuple[Listed, Seen]], list[Person], frozenset[str]]:
    """Pictures to shrink, the gallery they are looked up in, and who is in it."""
    chance = random.Random(subject.plan.seed)
    people = subject.people
    members = {each.identity for each in people if each.role is Role.ENROL}
    probes = [
        (a, b)
        for a, b in zip(subject.data.listed, subject.seen, strict=True)
        if a.role is Role.PROBE and a.identity in members and b.sight is not None
    ]
    chosen = chance.sample(probes, min(sample, len(probes)))
    names = {each.identity for each, _ in chosen}
    others = drawn(sorted(members - names), max(0, len(members) // subject.plan.enrol_one_in - len(names)), chance)
    enrolled = frozenset(names | others)
    return chosen, [p for p in people if p.role is Role.ENROL and p.identity in enrolled], enrolled


def _size_row(
    side: int, canvas: tuple[int, int], shrunk: Sequence[Seen], right: Sequence[Band]
) -> dict[str, Any]:
    counts = {
        "found": sum(each.sight is not None for each in shrunk),
        "match": sum(band is Band.MATCH for band in right),
        "match_or_review": sum(band is not Band.NONE for band in right),
    }
    row: dict[str, Any] = {"side_px": side, "picture_px": list(canvas[::-1]), "pictures": len(shrunk)}
    for name, count in counts.items():
        row[name] = _rounded(count / len(shrunk) if shrunk else None)
        row[f"{name}_interval"] = [round(end, 4) for end in wilson(count, len(shrunk))]
    return row


def _proposed(subject: Subject, document: Mapping[str, Any]) -> FaceRules:
    """Rules learnt from everybody, with the figures of those learnt from others as what stands behind them."""
    aims = subject.plan.calibration
    rules = calibrated(subject.rules, learn(subject.people, subject.rules, aims), aims)
    held = document.get("stream_held_out", {}).get("spread", {})
    figures = ", ".join(
        f"{short} {held[name]['mean']:.3f} ± {held[name]['sd']:.3f}"
        for short, name in (("P", "precision"), ("R", "recall_match"), ("R with review", "recall_match_or_review"))
        if name in held
    )
    said = f"{NAME}, {document['evaluation']}, data {subject.data.digest[:16]}, thresholds of others: {figures}"
    return FaceRules(**{**vars(rules), "evaluation": said})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
