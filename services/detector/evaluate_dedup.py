"""How often the near-duplicate rules join copies, and how often strangers: `eval dedup`."""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.fingerprints import Fingerprint, Pixels, compare, fingerprint, read_rules
from services.detector.adapters.images import read_picture
from services.detector.adapters.models import open_models

JOINED_LABELS = frozenset({"near_duplicate", "mirror"})


def transforms() -> dict[str, Callable[[Pixels], Pixels]]:
    """What reposts do to a picture; each takes and gives uint8 [H,W,3]."""
    return {
        "jpeg 30": lambda p: _jpeg(p, 30),
        "jpeg 70": lambda p: _jpeg(p, 70),
        "half size, jpeg 60": lambda p: _jpeg(_scaled(p, 0.5), 60),
        "crop 5 %": lambda p: _cropped(p, 0.05),
        "crop 15 %": lambda p: _cropped(p, 0.15),
        "crop 30 %": lambda p: _cropped(p, 0.30),
        "rotate 5°": lambda p: _rotated(p, 5),
        "mirror": lambda p: p[:, ::-1],
        "mirror, crop 15 %": lambda p: _cropped(p[:, ::-1], 0.15),
        "letterbox": lambda p: cv2.copyMakeBorder(p, 90, 90, 0, 0, cv2.BORDER_CONSTANT, value=(0, 0, 0)),
        "caption bar": lambda p: _captioned(p),
        "screenshot frame": lambda p: _screenshot(p),
    }


def run(argv: Sequence[str]) -> int:
    """`--data DIR` holds neardup/ (evaluation data); prints a table, or with --json one object. Exit code
    0.
    """
    parser = argparse.ArgumentParser(prog="eval dedup", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path(".cache/models"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    report = evaluate(arguments.data, FaceEngine(open_models(arguments.models, threads=2)))
    print(json.dumps(report, indent=2) if arguments.json else _table(report))
    return 0


def evaluate(data: Path, engine: FaceEngine) -> dict[str, object]:
    """Joined pairs per set and label of neardup/pairs.csv, and per transform of its clean originals."""
    rules = read_rules()
    kept: dict[str, Fingerprint] = {}
    started = time.perf_counter()

    def of_file(name: str) -> Fingerprint:
        if name not in kept:
            content = (data / name).read_bytes()
            kept[name] = _print_of(content, read_picture(content).pixels, engine)
        return kept[name]

    pairs: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    with (data / "neardup" / "pairs.csv").open() as file:
        for row in csv.DictReader(file):
            stored = Fingerprint.from_bytes(of_file(row["b"]).to_bytes())
            pairs[row["label"], row["set"]][compare(of_file(row["a"]), stored, rules).rule] += 1
    return {
        "rules": f"{rules.id}-{rules.version}",
        "pairs": [_row(label, where, rules_used) for (label, where), rules_used in sorted(pairs.items())],
        "transforms": list(_transforms(data, engine)),
        "largest_fingerprint_bytes": max(len(f.to_bytes()) for f in kept.values()),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _transforms(data: Path, engine: FaceEngine) -> Iterator[dict[str, object]]:
    rules = read_rules()
    files = sorted((data / "neardup" / "kodak").glob("*.*")) + sorted(
        (data / "neardup" / "perception").glob("*.*")
    )
    pictures = [read_picture(path.read_bytes()).pixels for path in files]
    originals = [_print_of(bytes([i]), p, engine) for i, p in enumerate(pictures)]
    changed: dict[str, list[Fingerprint]] = {}
    for name, change in transforms().items():
        changed[name] = [
            _print_of(name.encode() + bytes([i]), np.ascontiguousarray(change(p)), engine)
            for i, p in enumerate(pictures)
        ]
        used = Counter(compare(c, o, rules).rule for c, o in zip(changed[name], originals, strict=True))
        yield _row("near_duplicate", name, used)
    strangers: Counter[str] = Counter()
    everything = [(i, f) for of_one in changed.values() for i, f in enumerate(of_one)]
    for (i, a), (j, b) in combinations(everything, 2):
        if i != j:
            strangers[compare(a, b, rules).rule] += 1
    yield _row("different", "transforms of different pictures", strangers)


def _print_of(content: bytes, rgb: Pixels, engine: FaceEngine) -> Fingerprint:
    return fingerprint(content, rgb, engine.crops(rgb))


def _row(label: str, where: str, rules_used: Counter[str]) -> dict[str, object]:
    total = sum(rules_used.values())
    joined = total - rules_used["none"]
    return {
        "label": label,
        "set": where,
        "pairs": total,
        "joined": joined,
        "share": round(joined / total, 4),
        "right": label in JOINED_LABELS,
        "by_rule": {rule: count for rule, count in sorted(rules_used.items()) if rule != "none"},
    }


def _table(report: dict[str, object]) -> str:
    largest = report["largest_fingerprint_bytes"]
    lines = [f"near-duplicate rules {report['rules']}; largest fingerprint {largest} bytes"]
    for part in ("pairs", "transforms"):
        rows = report[part]
        assert isinstance(rows, list)
        lines += [_line(row) for row in rows]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    wanted = "should join" if row["right"] else "must not   "
    counted = f"{row['joined']:6}/{row['pairs']:<6} {row['share']:.3f}"
    rules_used = ", ".join(f"{rule} {count}" for rule, count in row["by_rule"].items())
    return f"{wanted} {row['label']:28} {row['set']:34} {counted}  {rules_used}"


def _jpeg(picture: Pixels, quality: int) -> Pixels:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), np.uint8)


def _scaled(picture: Pixels, scale: float) -> Pixels:
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _cropped(picture: Pixels, share: float) -> Pixels:
    """Off centre, as people crop: a third of the cut left and above, the rest right and below."""
    height, width = picture.shape[:2]
    y, x = int(height * share / 3), int(width * share / 3)
    return picture[y : y + int(height * (1 - share)), x : x + int(width * (1 - share))]


def _rotated(picture: Pixels, degrees: float) -> Pixels:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.08)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height)), np.uint8)


def _captioned(picture: Pixels) -> Pixels:
    framed = cv2.copyMakeBorder(
        picture, 0, picture.shape[0] // 6, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)
    )
    place = (20, framed.shape[0] - picture.shape[0] // 14)
    return np.asarray(
        cv2.putText(framed, "seen on the web", place, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (20, 20, 20), 2),
        np.uint8,
    )


def _screenshot(picture: Pixels) -> Pixels:
    """The picture inside a phone's page: bars, lines of text, margins."""
    height, width = picture.shape[:2]
    page = np.full((int(height * 1.6), int(width * 1.2), 3), 245, np.uint8)
    page[: height // 12] = (40, 60, 90)
    for line in range(5):
        place = (width // 10, int(height * 1.3) + line * height // 20)
        cv2.putText(page, "lorem ipsum dolor sit amet", place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (60, 60, 60), 2)
    page[height // 6 : height // 6 + height, width // 10 : width // 10 + width] = picture
    return page
