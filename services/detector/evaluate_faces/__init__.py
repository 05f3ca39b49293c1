"""How well faces are recognised: `eval faces`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from services.detector.adapters.engines import AUTO, ENGINES, UnusableEngine
from services.detector.adapters.faces import RULES_FILE, FaceEngine, read_face_rules
from services.detector.adapters.images import MOST_PIXELS
from services.detector.adapters.model_files import UnusableModel
from services.detector.adapters.models import open_models
from services.detector.domain.faces import FaceRules
from services.detector.evaluate_faces.calibration import written
from services.detector.evaluate_faces.data import BadData, read_data
from services.detector.evaluate_faces.looks import CANVAS, Looks
from services.detector.evaluate_faces.page import render, shown, table
from services.detector.evaluate_faces.protocol import NAME, Report, evaluate, summary
from services.detector.evaluate_faces.subject import Subject, read_plan


def run(argv: Sequence[str]) -> int:
    """Measures, writes the report, prints a table or with --json one object. Exit status: 0 measured, 2 data or wishes
    that cannot be used, 130 interrupted (what was looked at is kept)."""
    options = _options(argv)
    try:
        subject, report = _measured(options)
        page = _write(subject, report, options)
    except (BadData, UnusableModel, UnusableEngine, ValueError) as problem:
        print(f"eval faces: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("eval faces: stopped. What was looked at so far is kept for the next run.", file=sys.stderr)
        return 130
    short = summary(report.document)
    print(json.dumps(short, indent=2, ensure_ascii=False) if options.json else table(short))
    print(f"report: {page}", file=sys.stderr)
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="eval faces", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with manifest.csv (file, identity, role …)")
    add("--pairs", type=Path, help="pairs to verify per set (a, b, same, set), beside the manifest or a path")
    add("--json", action="store_true", help="print one JSON object")
    add("--calibrate", action="store_true", help="learn thresholds, judge by those of other people, propose rules")
    add("--target-fpir", type=float, help="share of strangers that may MATCH (default: as the rules say)")
    add("--out", type=Path, default=Path("var/eval/faces"), help="folder for the report, and for proposed rules")
    add("--rules", type=Path, default=RULES_FILE, help="rules of faces to judge by")
    add("--face-sizes", type=int, default=40, metavar="N", help="pictures shrunk for recall by face size (0: none)")
    add("--canvas", type=_canvas, default=CANVAS, metavar="WxH", help="pixels of those pictures, such as 7300x5475")
    add("--models", type=Path, default=Path(".cache/models"))
    add("--cache", type=Path, default=Path(".cache/eval-faces"), help="vectors already computed; may be deleted")
    add("--engine", choices=ENGINES, default=AUTO, help="what works out the models")
    add("--threads", type=int, default=2, choices=range(1, 65), metavar="N")
    options = parser.parse_args(argv)
    if options.target_fpir is not None and not options.calibrate:
        parser.error("--target-fpir asks for --calibrate")
    return options


def _measured(options: argparse.Namespace) -> tuple[Subject, Report]:
    data = read_data(options.data, options.pairs)
    rules = read_face_rules(options.rules)
    if options.target_fpir is not None:
        rules = _aimed(rules, options.target_fpir)
    engine = FaceEngine(open_models(options.models, options.threads, options.engine, rules.model_ids))
    looks = Looks(engine, options.models, options.cache)
    plan = read_plan()
    sizes = max(0, options.face_sizes) * len(plan.face_sides_px)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("looking at pictures", total=len(data.listed) + sizes)
        seen = looks.look_at(data.listed, lambda done: progress.advance(task, done))
        subject = Subject(data, seen, rules, plan, engine.engine_id, options.calibrate)
        return subject, _judged(subject, looks, options, lambda done: progress.advance(task, done))


def _judged(subject: Subject, looks: Looks, options: argparse.Namespace, advance: Callable[[int], None]) -> Report:
    return evaluate(subject, looks, options.face_sizes, advance, options.canvas)


def _canvas(text: str) -> tuple[int, int]:
    """Height and width of "WxH"."""
    width, height = map(int, text.lower().split("x"))
    if not (64 <= width and 64 <= height and width * height <= MOST_PIXELS):
        raise ValueError("a picture has sides from 64 and at most 40 million pixels")
    return height, width


def _aimed(rules: FaceRules, target_fpir: float) -> FaceRules:
    if not 0 < target_fpir < 1:
        raise ValueError("--target-fpir must lie between 0 and 1")
    return replace(rules, target_fpir=target_fpir)


def _write(subject: Subject, report: Report, options: argparse.Namespace) -> Path:
    """Report and proposed rules; the latter where JIKIMI_RULES_DIR finds them when it names the folder."""
    folder: Path = options.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.json").write_text(json.dumps(report.document, ensure_ascii=False) + "\n", encoding="utf-8")
    page = folder / f"{NAME}.html"
    page.write_text(render(report.document, shown(subject)), encoding="utf-8")
    if report.proposed is not None:
        text = options.rules.read_text(encoding="utf-8")
        proposed = folder / "detector" / "faces.yaml"
        proposed.parent.mkdir(exist_ok=True)
        proposed.write_text(written(text, report.proposed), encoding="utf-8")
        print(f"rules:  {proposed}", file=sys.stderr)
    return page
