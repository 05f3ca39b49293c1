"""How well is it seen that a face is covered: `eval covering`."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from services.detector.adapters.analysis import ENOUGH_PIXELS
from services.detector.adapters.covering import CoveringRules, covered, features, read_covering_rules
from services.detector.adapters.faces import Face, FaceEngine
from services.detector.adapters.images import UnreadableImage, read_picture
from services.detector.adapters.model_files import UnusableModel
from services.detector.adapters.models import Box, open_models, shared
from services.detector.evaluate_covering.drawing import COVERINGS, drawn
from services.detector.evaluate_faces.data import BadData, Listed, read_data
from services.detector.evaluate_faces.statistics import wilson

Floats = NDArray[np.float32]
Booleans = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

NAME = "FaceCoveringEvalReport_v1"
OPEN = "open"
SEED = 7
RIDGE = 1.0
"""Of the mean variance, added to each: of .1, .3 and 1 what tells most of people whom it has not seen."""
FALSE_ALARMS = 0.005
"""Share of open faces that may be called covered: each costs a person's look where a MATCH was due."""
_LEAST_SHARED = 0.2
_PORTION = 256


@dataclass(frozen=True)
class Samples:
    """Faces of pictures as they are and with something drawn over them. `repr` shows none."""

    identities: tuple[str, ...] = field(repr=False)
    kinds: NDArray[np.str_]
    crops: Pixels = field(repr=False)
    likeness: Floats = field(repr=False)
    """Cosine to the same face without covering."""
    lost: dict[str, int]
    """By kind, faces that were not found any more."""

    @cached_property
    def features(self) -> Floats:
        """float32 [N, FEATURES]."""
        portions = range(0, len(self.crops), _PORTION)
        return np.concatenate([features(self.crops[at : at + _PORTION]) for at in portions])

    @property
    def half(self) -> Booleans:
        """Which half of the people each belongs to."""
        return np.array([hashlib.sha256(each.encode()).digest()[0] % 2 == 0 for each in self.identities])


def gathered(engine: FaceEngine, listed: Sequence[Listed], advance: Callable[[], None]) -> Samples:
    """Every picture's middle face, open and under each covering. Pictures without a face are left out."""
    found: list[tuple[str, str, Face, float]] = []
    lost = dict.fromkeys((OPEN, *COVERINGS), 0)
    for number, each in enumerate(listed):
        for kind, face, open_face in _views(engine, each, number):
            if face is None:
                lost[kind] += 1
            else:
                found.append((each.identity, kind, face, float(face.vector @ open_face.vector)))
        advance()
    if not found:
        raise BadData("manifest.csv", 0, "NO_FACES")
    return Samples(
        tuple(identity for identity, *_ in found),
        np.array([kind for _, kind, *_ in found]),
        np.stack([face.crop for *_, face, _ in found]),
        np.array([likeness for *_, likeness in found], np.float32),
        lost,
    )


def _views(engine: FaceEngine, listed: Listed, number: int) -> Iterator[tuple[str, Face | None, Face]]:
    try:
        rgb = read_picture(listed.read(), ENOUGH_PIXELS).pixels
    except UnreadableImage:
        return
    height, width = rgb.shape[:2]
    places = engine.detect(rgb)
    if not places:
        return
    middle = Box(width / 2, height / 2, width / 2, height / 2, 1.0)
    place = min(places, key=lambda each: _apart(each.box, middle))
    open_face = _nearest(engine.analyse(rgb), place.box)
    if open_face is None:
        return
    yield OPEN, open_face, open_face
    for at, kind in enumerate(COVERINGS):
        chance = np.random.default_rng((SEED, number, at))
        yield kind, _nearest(engine.analyse(drawn(rgb, place.points, kind, chance)), place.box), open_face


def _apart(one: Box, other: Box) -> float:
    return abs(one.left + one.right - other.left - other.right) + abs(one.top + one.bottom - other.top - other.bottom)


def _nearest(faces: Sequence[Face], box: Box) -> Face | None:
    best = max(faces, key=lambda face: shared(face.box, box), default=None)
    return best if best is not None and shared(best.box, box) >= _LEAST_SHARED else None


def learnt(samples: Samples, of: Booleans, false_alarms: float = FALSE_ALARMS) -> tuple[Floats, float]:
    """Weights and bias from some of the samples: Fisher's linear discriminant (1936) with a ridge; from 0 on lies the
    share `false_alarms` of the open faces among them."""
    known = samples.features[of].astype(np.float64)
    is_open = samples.kinds[of] == OPEN
    open_, covered_ = known[is_open], known[~is_open]
    if min(len(open_), len(covered_)) < 2:
        raise ValueError("too few faces to learn from")
    spread = np.cov(np.concatenate([open_ - open_.mean(axis=0), covered_ - covered_.mean(axis=0)]).T)
    spread += RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    weights = np.linalg.solve(spread, covered_.mean(axis=0) - open_.mean(axis=0)).astype(np.float32)
    return weights, -float(np.quantile(open_ @ weights, 1 - false_alarms))


def held_out(samples: Samples, kinds: Sequence[str] = tuple(COVERINGS)) -> Floats:
    """Scores of all samples, each by weights learnt from the other half of the people and from these coverings."""
    scores, half = np.empty(len(samples.kinds), np.float32), samples.half
    taught = np.isin(samples.kinds, [OPEN, *kinds])
    for one in (True, False):
        weights, bias = learnt(samples, taught & (half != one))
        scores[half == one] = samples.features[half == one] @ weights + np.float32(bias)
    return scores


def judged(samples: Samples, scores: Floats) -> dict[str, dict[str, Any]]:
    """By kind: how many were looked at, lost, said to be covered; the area under the ROC curve; how like they are."""
    open_scores = np.sort(scores[samples.kinds == OPEN])
    return {kind: _one(samples, scores, open_scores, kind) for kind in (OPEN, *COVERINGS)}


def _one(samples: Samples, scores: Floats, open_scores: Floats, kind: str) -> dict[str, Any]:
    of = samples.kinds == kind
    size, said = int(of.sum()), int((scores[of] >= 0).sum())
    below = np.searchsorted(open_scores, scores[of]) / max(1, len(open_scores))
    return {
        "faces": size,
        "not_found": samples.lost[kind],
        "covered": round(said / size, 4) if size else None,
        "interval": [round(end, 4) for end in wilson(said, size)],
        "auc": round(float(below.mean()), 4) if size and kind != OPEN else None,
        "median_cosine_to_open": round(float(np.median(samples.likeness[of])), 3) if size else None,
    }


def run(argv: Sequence[str]) -> int:
    """Measures; prints a table or with --json one object. Exit status: 0 measured, 2 data that cannot be used."""
    options = _options(argv)
    try:
        document = _measured(options)
    except (BadData, UnusableModel, ValueError) as problem:
        print(f"eval covering: {problem}", file=sys.stderr)
        return 2
    print(json.dumps(document, indent=2) if options.json else table(document))
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="eval covering", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with manifest.csv, as of eval faces")
    parser.add_argument("--pictures", type=int, default=400, help="looked at, chosen at random (400)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calibrate", action="store_true", help="judge by weights of other people, propose rules")
    parser.add_argument("--out", type=Path, default=Path("var/eval/covering"), help="folder for proposed rules")
    parser.add_argument("--models", type=Path, default=Path(".cache/models"))
    return parser.parse_args(argv)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    data = read_data(options.data)
    listed = [each for each in data.listed if each.role is not None]
    chosen = np.random.default_rng(SEED).permutation(len(listed))[: max(1, options.pictures)]
    engine, rules = FaceEngine(open_models(options.models)), read_covering_rules()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("covering faces", total=len(chosen))
        samples = gathered(engine, [listed[at] for at in chosen], lambda: progress.advance(task))
    document: dict[str, Any] = {"name": NAME, "data": data.digest, "pictures": len(chosen)}
    if not options.calibrate:
        document["rules"] = f"{rules.id}-{rules.version}"
        return document | {"kinds": judged(samples, covered(samples.crops, rules))}
    document |= {"rules": "learnt from the other half of the people", "kinds": judged(samples, held_out(samples))}
    document["unseen"] = {kind: _unseen(samples, kind) for kind in COVERINGS}
    document["proposed"] = str(_propose(samples, rules, document, options.out))
    return document


def _unseen(samples: Samples, kind: str) -> float | None:
    """The share said to be covered of a covering that the weights were not learnt from."""
    others = [each for each in COVERINGS if each != kind]
    share: float | None = judged(samples, held_out(samples, others))[kind]["covered"]
    return share


def _propose(samples: Samples, rules: CoveringRules, document: dict[str, Any], out: Path) -> Path:
    weights, bias = learnt(samples, np.ones(len(samples.kinds), bool))
    kinds = document["kinds"]
    said = ", ".join(f"{kind} {kinds[kind]['covered']}" for kind in COVERINGS)
    file = out / "detector" / "covering.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [", ".join(f"{weight:.4g}" for weight in weights[at : at + 12]) for at in range(0, len(weights), 12)]
    lines = [
        "# How covered a face looks (adapters/covering.py): made by `eval covering --calibrate`, never by hand.",
        f"id: {rules.id}",
        f"version: {rules.version + 1}",
        f'evaluation: "open {kinds[OPEN]["covered"]}; {said}"',
        f"bias: {bias:.5g}",
        "weights: [",
        *[f"  {row}," for row in rows],
        "]",
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def table(document: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = [f"covered faces: {document['pictures']} pictures, rules {document['rules']}"]
    for kind, each in document["kinds"].items():
        low, high = each["interval"]
        unseen = document.get("unseen", {}).get(kind)
        lines.append(
            f"{kind:18} covered {each['covered']} ({low} to {high})  auc {each['auc']}  lost {each['not_found']} of "
            f"{each['faces'] + each['not_found']}  cosine {each['median_cosine_to_open']}"
            + (f"  never seen before {unseen}" if unseen is not None else "")
        )
    return "\n".join(lines)
