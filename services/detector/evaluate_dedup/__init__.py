"""How often the near-duplicate rules join copies, and how often strangers: `eval dedup`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.model_files import UnusableModel
from services.detector.adapters.models import open_models
from services.detector.adapters.same_picture import RULES_FILE, read_rules
from services.detector.evaluate_dedup.data import BadData, read_data
from services.detector.evaluate_dedup.page import table
from services.detector.evaluate_dedup.pictures import Row, evaluate
from services.detector.evaluate_dedup.plan import read_plan
from services.detector.evaluate_dedup.prints import Prints
from services.detector.evaluate_dedup.texts import TEXT_RULES_FILE, evaluate_texts


def run(argv: Sequence[str]) -> int:
    """Prints a table, or with --json one object that is the same for the same data, rules and code. Exit status: 0
    measured, 2 data or models that cannot be used, 130 interrupted (what was looked at is kept)."""
    parser = argparse.ArgumentParser(prog="eval dedup", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder with pairs.csv (a, b, label, set), or the one above it")
    add("--json", action="store_true", help="print one JSON object")
    add("--portraits", type=int, metavar="N", help="portraits that are transformed (default: as the plan says)")
    add("--texts", type=Path, metavar="FILE.jsonl", help="posts (`text`) that are reposted, besides the plan's own")
    add("--rules", type=Path, default=RULES_FILE, help="rules of pictures to judge by")
    add("--text-rules", type=Path, default=TEXT_RULES_FILE, help="rules of texts to judge by")
    add("--models", type=Path, default=Path(".cache/models"))
    add("--cache", type=Path, default=Path(".cache/eval-dedup"), help="fingerprints already made; may be deleted")
    add("--threads", type=int, default=1, choices=range(1, 65), metavar="N")
    options = parser.parse_args(argv)
    try:
        report = _measured(options)
    except (BadData, UnusableModel, ValueError) as problem:
        print(f"eval dedup: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("eval dedup: stopped. What was looked at so far is kept for the next run.", file=sys.stderr)
        return 130
    print(json.dumps(report, indent=2, ensure_ascii=False) if options.json else table(report))
    return 0


def _measured(options: argparse.Namespace) -> Row:
    data, plan, rules = read_data(options.data), read_plan(), read_rules(options.rules)
    engine = FaceEngine(open_models(options.models, options.threads))
    prints = Prints(engine, options.models, options.cache)
    most = plan.portraits if options.portraits is None else options.portraits
    with Progress(console=Console(stderr=True), transient=True) as progress:
        report = evaluate(data, prints, rules, plan, data.portraits(most), progress)
        report["texts"] = evaluate_texts(options.text_rules, plan, options.texts)
    return report
