"""Whether anything can be recovered from what was covered: `eval redaction`."""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import AUTO
from services.detector.adapters.faces import FaceEngine, aligned, measure
from services.detector.adapters.images import UnreadableImage, read_picture
from services.detector.adapters.models import Embedder, FaceModels, open_models
from services.detector.adapters.ocr import OcrUnavailable, open_reader
from services.detector.adapters.redaction import RedactionRules, cover, encoded, masks_over, of_face
from services.detector.adapters.rules import Rules, read_rules
from services.detector.adapters.uploads_look import PictureRedactor, region_of
from services.detector.domain.faces import FaceRules
from services.detector.domain.uploads import IMAGE, Finding, Mask, Method, Subject
from services.detector.evaluate_ocr import read_labels
from services.detector.evaluate_redaction_lines import evaluate_lines, holds

Floats = NDArray[np.float32]

FAR = 1e-4
LEAST_PICTURES = 200
SEED = 7
MOST_OF_ONE = 10
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})


def run(argv: Sequence[str]) -> int:
    """`--data DIR` holds pictures of faces, at any depth; `--lines DIR` pictures of text with labels, as `eval ocr`
    takes them. Prints a table, or with --json one object. Exit code 1 where a face is found in a mask, a residual
    resembles its original, a digit is read in a mask or masks miss lines; 2 for fewer pictures than asked, or where
    texts cannot be read here."""
    parser = argparse.ArgumentParser(prog="eval redaction", description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--lines", type=Path)
    parser.add_argument("--models", type=Path, default=Path(".cache/models"))
    parser.add_argument("--pictures", type=int, default=LEAST_PICTURES, help="pictures with faces to look at")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if (options.data is None) == (options.lines is None):
        parser.error("either --data or --lines")
    rules = read_rules()
    if options.lines:
        return _run_lines(options, rules)
    report = evaluate(options.data, open_models(options.models), rules.redaction, rules.faces, options.pictures)
    print(json.dumps(report, indent=2) if options.json else "\n".join(f"{k:>34}  {v}" for k, v in report.items()))
    if int(str(report["pictures"])) < options.pictures:
        return 2
    return 0 if report["faces_found_in_masks"] == 0 == report["residuals_that_resemble"] else 1


def _run_lines(options: argparse.Namespace, rules: Rules) -> int:
    try:
        reader = open_reader(options.models, 1, AUTO, rules.ocr)
    except OcrUnavailable as problem:
        print(f"{problem.reason}: {problem}", file=sys.stderr)
        return 2
    labels = read_labels(options.lines)[: options.pictures]
    redactor = PictureRedactor(open_models(options.models), rules.redaction)
    report = {"rules": rules.redaction.name, **evaluate_lines(labels, reader, redactor)}
    print(json.dumps(report, indent=2) if options.json else "\n".join(f"{k:>34}  {v}" for k, v in report.items()))
    if int(str(report["pictures"])) < options.pictures:
        return 2
    return 0 if holds(report) else 1


@dataclass
class _Residuals:
    """Vectors of originals and of what is left of them, by one embedder."""

    embedder: Embedder
    originals: list[Floats] = field(default_factory=list)
    left: list[Floats] = field(default_factory=list)
    people: list[str] = field(default_factory=list)

    def add(self, original: NDArray[np.uint8], left: NDArray[np.uint8], person: str) -> None:
        """Aligned crops, before and after."""
        one, other = self.embedder.embed(np.stack([original, left]))
        self.originals.append(one)
        self.left.append(other)
        self.people.append(person)

    def report(self) -> dict[str, float | int]:
        """The threshold at FAR 1e-4 among these very people, how near residuals come to their originals, and how often
        the original is the nearest of all to its residual."""
        before, after = np.stack(self.originals), np.stack(self.left)
        strangers = np.array(self.people)[:, np.newaxis] != np.array(self.people)
        threshold = float(np.quantile((before @ before.T)[strangers], 1 - FAR))
        scores = after @ before.T
        own = np.diagonal(scores)
        return {
            "faces": len(before),
            "threshold": round(threshold, 3),
            "highest": round(float(own.max()), 3),
            "mean": round(float(own.mean()), 3),
            "above": int(np.sum(own >= threshold)),
            "nearest_of_all": int(np.sum(scores.argmax(axis=1) == np.arange(len(scores)))),
        }


def evaluate(
    data: Path, models: FaceModels, rules: RedactionRules, face_rules: FaceRules, most: int
) -> dict[str, object]:
    """Covers every face of the first pictures that show one, as an upload's is, and looks for it again.

    What the rules call poor is covered and looked for as well, but not compared: such a face resembles anything
    flat, a mask of one colour included.
    """
    engine, redactor = FaceEngine(models), PictureRedactor(models, rules)
    residuals = [_Residuals(models.embedder), _Residuals(models.second_embedder)]
    pictures = masks = in_mosaics = found = solid = poor = 0
    for person, content in _contents(data):
        picture = read_picture(content)
        faces = engine.detect(picture.pixels)
        if not faces:
            continue
        findings = []
        size = picture.full_width, picture.full_height
        for face in faces:
            place = region_of(face.box).within(*size)
            if place is not None:
                findings.append(Finding(Subject.YOU, IMAGE, place))
        plain = masks_over([of_face(region_of(face.box), rules) for face in faces], Method.MOSAIC, *size, rules)
        mosaic = encoded(cover(picture.pixels, plain, rules), "JPEG", rules.quality)
        in_mosaics += len(redactor.faces_in(read_picture(mosaic).pixels, plain))
        made = redactor.redact(content, "", findings)
        after = read_picture(made.image).pixels
        found += len(redactor.faces_in(after, made.masks))
        solid += _count(made.masks, Method.SOLID)
        masks += len(made.masks)
        pictures += 1
        for face in faces:
            # Where the face was: whoever has another copy of the picture knows that much.
            before_crop, after_crop = (aligned(each, face.points) for each in (picture.pixels, after))
            if face_rules.poor.faults(measure(face.box, face.points, before_crop, picture.pixels.shape[:2])):
                poor += 1
                continue
            for residual in residuals:
                residual.add(before_crop, after_crop, person)
        if pictures >= most:
            break
    looks = {each.embedder.model_id: each.report() for each in residuals if each.originals}
    return {
        "rules": rules.name,
        "parameters": dict(rules.parameters()),
        "pictures": pictures,
        "masks": masks,
        "faces_too_poor_to_compare": poor,
        "faces_found_in_mosaics": in_mosaics,
        "masks_made_solid": solid,
        "faces_found_in_masks": found,
        "far": FAR,
        "residuals": looks,
        "residuals_that_resemble": sum(int(look["above"]) for look in looks.values()),
    }


def _count(masks: Sequence[Mask], method: Method) -> int:
    return sum(mask.method is method for mask in masks)


def _contents(data: Path) -> Iterator[tuple[str, bytes]]:
    """(whose, content) of the pictures that can be read, in an order of chance that is always the same. A folder of few
    pictures shows one person; of a larger one every picture shows somebody else."""
    files = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    in_folder = Counter(file.parent for file in files)
    random.Random(SEED).shuffle(files)
    for file in files:
        content = file.read_bytes()
        try:
            read_picture(content)
        except UnreadableImage:
            continue
        yield str(file.parent if in_folder[file.parent] <= MOST_OF_ONE else file), content
