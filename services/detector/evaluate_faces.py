"""How well faces are recognised: `eval faces`."""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.detector.adapters.faces import (
    Face,
    FaceEngine,
    FaceMatcher,
    SecondLook,
    read_face_rules,
    second_opinion,
)
from services.detector.adapters.gallery import Entry, ExactGallery
from services.detector.adapters.images import Pixels, read_picture
from services.detector.adapters.models import open_models
from services.detector.domain.faces import Band, Decision, FaceRules, decide, needs_second_look

SPLITS = 20
SEED = 7


@dataclass(frozen=True)
class Seen:
    """One picture of the evaluation: who it shows, in which role, and its central face, None when none was
    found.
    """

    identity: str
    role: str
    face: Face | None
    look: SecondLook | None


def run(argv: Sequence[str]) -> int:
    """`--data DIR` holds faces/ (evaluation data); prints a table, or with --json one object. Exit code 0."""
    parser = argparse.ArgumentParser(prog="eval faces", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path(".cache/models"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    engine = FaceEngine(open_models(arguments.models, threads=2))
    report = evaluate(arguments.data, engine, read_face_rules())
    print(json.dumps(report, indent=2) if arguments.json else _table(report))
    return 0


def evaluate(data: Path, engine: FaceEngine, rules: FaceRules) -> dict[str, object]:
    """Open-set identification as in the product: a random third enrolled, all probes and distractors
    streamed.

    Precision and recall count events: a MATCH (or MATCH and REVIEW) that names the right subscriber is a
    true positive, one that names anybody else a false one, an enrolled person not named rightly a false
    negative.
    """
    started = time.perf_counter()
    seen = _look_at_all(data, engine)
    looking = time.perf_counter() - started
    splits = [_one_split(seen, rules, random.Random(SEED + number)) for number in range(SPLITS)]
    return {
        "rules": rules.name,
        "model_id": rules.model_id,
        "second_model_id": rules.second_model_id,
        "pictures": len(seen),
        "faces_found": sum(one.face is not None for one in seen),
        "pictures_per_second": round(len(seen) / looking, 1),
        "splits": SPLITS,
        "gallery": splits[0]["gallery"],
        "events": splits[0]["events"],
        "match": {
            name: _spread([s[f"match_{name}"] for s in splits]) for name in ("precision", "recall", "fpir")
        },
        "match_or_review": {
            name: _spread([s[f"any_{name}"] for s in splits]) for name in ("precision", "recall", "fpir")
        },
        "second_looks_share": _spread([s["second_looks"] for s in splits]),
        "population": "US public figures, mostly white and older: says nothing about others",
    }


def _look_at_all(data: Path, engine: FaceEngine) -> list[Seen]:
    with (data / "faces" / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        Seen(
            row["identity"],
            row["role"],
            *_central(engine, read_picture((data / row["file"]).read_bytes()).pixels),
        )
        for row in rows
    ]


def _central(engine: FaceEngine, rgb: Pixels) -> tuple[Face | None, SecondLook | None]:
    """The face nearest the picture's centre, as the evaluation data asks for."""
    faces = engine.analyse(rgb)
    if not faces:
        return None, None
    y, x = rgb.shape[0] / 2, rgb.shape[1] / 2
    face = min(
        faces, key=lambda f: abs((f.box.left + f.box.right) / 2 - x) + abs((f.box.top + f.box.bottom) / 2 - y)
    )
    return face, engine.second_look(face.crop[np.newaxis], face.vector[np.newaxis])[0]


def _one_split(seen: Sequence[Seen], rules: FaceRules, chance: random.Random) -> dict[str, float]:
    people = sorted({one.identity for one in seen if one.role == "enrol"})
    enrolled = set(chance.sample(people, len(people) // 3))
    gallery = ExactGallery(rules.model_id, 512)
    gallery.add(
        Entry(
            f"t{at}", one.identity, one.look.vectors[rules.model_id], one.look.vectors[rules.second_model_id]
        )
        for at, one in enumerate(seen)
        if one.role == "enrol" and one.identity in enrolled and one.look is not None
    )
    events = [one for one in seen if one.role != "enrol"]
    counted: Counter[str] = Counter()
    for one in events:
        decision, again = _decide(one, gallery, rules)
        counted["second_looks"] += again
        for name, bands in (("match", {Band.MATCH}), ("any", {Band.MATCH, Band.REVIEW})):
            named = decision is not None and decision.band in bands
            right = named and decision is not None and decision.subscriber_id == one.identity
            counted[f"{name}_tp"] += right
            counted[f"{name}_fp"] += named and not right
            counted[f"{name}_fn"] += one.identity in enrolled and not right
            counted[f"{name}_alarm"] += named and one.identity not in enrolled
    strangers = sum(one.identity not in enrolled for one in events)
    rates: dict[str, float] = {
        "gallery": len(gallery),
        "events": len(events),
        "second_looks": counted["second_looks"] / len(events),
    }
    for name in ("match", "any"):
        tp, fp, fn = (counted[f"{name}_{kind}"] for kind in ("tp", "fp", "fn"))
        rates |= {
            f"{name}_precision": tp / max(1, tp + fp),
            f"{name}_recall": tp / max(1, tp + fn),
            f"{name}_fpir": counted[f"{name}_alarm"] / max(1, strangers),
        }
    return rates


def _decide(one: Seen, gallery: ExactGallery, rules: FaceRules) -> tuple[Decision | None, bool]:
    """The decision FaceMatcher takes, from vectors computed once for all splits; and whether it looked
    twice.
    """
    if one.face is None or one.look is None:
        return None, False
    found = gallery.search(one.face.vector[np.newaxis], FaceMatcher.CANDIDATES)[0]
    again = needs_second_look(found, one.face.quality, len(gallery), rules)
    if again:
        found = [second_opinion(candidate, one.look, gallery, rules) for candidate in found]
    return decide(found, one.face.quality, len(gallery), rules), again


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "mean": round(statistics.mean(values), 4),
        "sd": round(statistics.pstdev(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def _table(report: dict[str, object]) -> str:
    found = f"{report['faces_found']} faces in {report['pictures']} pictures"
    lines = [
        f"faces: rules {report['rules']}, {report['model_id']} + {report['second_model_id']}",
        f"{found}, {report['pictures_per_second']} pictures/s with both looks",
        f"{report['splits']} splits, N = {report['gallery']} templates, {report['events']} events each",
    ]
    for name in ("match", "match_or_review"):
        part = report[name]
        assert isinstance(part, dict)
        figures = "  ".join(
            f"{k} {v['mean']:.4f} ± {v['sd']:.4f} ({v['least']:.4f} to {v['most']:.4f})"
            for k, v in part.items()
        )
        lines.append(f"{name:16} {figures}")
    lines.append(f"second looks     {report['second_looks_share']}")
    lines.append(str(report["population"]))
    return "\n".join(lines)
