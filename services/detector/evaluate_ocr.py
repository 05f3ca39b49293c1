"""How much of the text in pictures is found, covered and read right: `eval ocr`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.detector.adapters.engines import ENGINES
from services.detector.adapters.ocr import OcrUnavailable, open_reader
from services.detector.adapters.rules import read_rules
from services.detector.domain.picture_text import Quad, TextLine, Written, written
from services.detector.domain.pii import Scanner, TextPart
from services.detector.ports import TextReader

Pixels = NDArray[np.uint8]
Mask = NDArray[np.uint8]

COVERED = 0.9
"""Share of a labelled line's area that must lie under masks for the line to count as covered."""


@dataclass(frozen=True)
class Label:
    """A picture and what is known of it: lines with regions, or the text alone."""

    file: Path
    kind: str
    lines: tuple[TextLine, ...]
    text: str = field(repr=False)


@dataclass
class Tally:
    """Sums over pictures; see `rates`."""

    pictures: int = 0
    lines: int = 0
    lines_covered: int = 0
    area: float = 0.0
    area_covered: float = 0.0
    ink: int = 0
    ink_covered: int = 0
    characters: int = 0
    errors: int = 0
    digits: int = 0
    digits_found: int = 0
    hits: int = 0
    hits_found: int = 0
    hits_false: int = 0
    find_ms: list[float] = field(default_factory=list)
    read_ms: list[float] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Adds another tally's sums."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def rates(self) -> dict[str, float | int | None]:
        """The figures of the report; None where nothing was labelled for it."""
        return {
            "pictures": self.pictures,
            "lines": self.lines,
            "overlap_recall": _rate(self.area_covered, self.area),
            "lines_covered": _rate(self.lines_covered, self.lines),
            "ink_recall": _rate(self.ink_covered, self.ink),
            "character_error_rate": _rate(self.errors, self.characters),
            "digits": self.digits,
            "digits_found": _rate(self.digits_found, self.digits),
            "hits": self.hits,
            "hits_found": _rate(self.hits_found, self.hits),
            "hits_false": self.hits_false,
            "find_ms_median": round(median(self.find_ms), 1) if self.find_ms else None,
            "read_ms_median": round(median(self.read_ms), 1) if self.read_ms else None,
        }


def _rate(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def run(argv: Sequence[str]) -> int:
    """`--data DIR` holds labels.jsonl and its pictures: rows with `file`, `kind` and `lines` (text, quad), or with
    `file` and `text`. Prints a table, or with --json one object. Exit code 0; 2 where texts cannot be read here.
    """
    parser = argparse.ArgumentParser(prog="eval ocr", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path(".cache/models"))
    parser.add_argument("--engine", choices=ENGINES, default="auto")
    parser.add_argument("--most", type=int, default=10_000, help="pictures")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    rules = read_rules()
    try:
        reader = open_reader(arguments.models, 1, arguments.engine, rules.ocr)
    except OcrUnavailable as problem:
        print(f"{problem.reason}: {problem}", file=sys.stderr)
        return 2
    labels = read_labels(arguments.data)[: arguments.most]
    report = evaluate(labels, reader, rules.scanner(), rules.redaction.line_margin)
    print(json.dumps(report, indent=2, ensure_ascii=False) if arguments.json else _table(report))
    return 0


def read_labels(folder: Path) -> list[Label]:
    """The rows of `labels.jsonl`. Raises OSError, ValueError or KeyError where the file is not as described."""
    labels = []
    for row in (json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()):
        lines = tuple(TextLine(_quad(each["quad"]), each["text"], 1.0) for each in row.get("lines", ()))
        text = row.get("text") or written(lines).text
        labels.append(Label(folder / row["file"], row.get("kind") or Path(row["file"]).stem, lines, text))
    return labels


def _quad(corners: Sequence[Sequence[float]]) -> Quad:
    a, b, c, d = ((float(x), float(y)) for x, y in corners)
    return Quad((a, b, c, d))


def evaluate(labels: Iterable[Label], reader: TextReader, scanner: Scanner, margin: float) -> dict[str, object]:
    """The figures by kind and in all. `margin`: share of a line's height by which masks are larger."""
    kinds: dict[str, Tally] = defaultdict(Tally)
    for label in labels:
        kinds[label.kind].add(judge(label, reader, scanner, margin))
    total = Tally()
    for tally in kinds.values():
        total.add(tally)
    return {
        "reader": reader.reader_id,
        "rules": reader.rule_version,
        "mask_margin": margin,
        "total": total.rates(),
        "kinds": {kind: tally.rates() for kind, tally in sorted(kinds.items())},
    }


def judge(label: Label, reader: TextReader, scanner: Scanner, margin: float) -> Tally:
    """One picture's sums."""
    with Image.open(label.file) as image:
        rgb = np.asarray(image.convert("RGB"), np.uint8)
    tally = Tally(pictures=1, lines=len(label.lines))
    started = time.perf_counter()
    found = reader.find(rgb)
    tally.find_ms.append((time.perf_counter() - started) * 1000)
    started = time.perf_counter()
    read = reader.read(rgb).written
    tally.read_ms.append((time.perf_counter() - started) * 1000)
    mask = covering(found, rgb.shape[:2], margin)
    _count_overlap(tally, label, rgb, mask)
    _count_text(tally, label, read)
    _count_hits(tally, label.text, read.text, scanner)
    return tally


def covering(quads: Iterable[Quad], shape: tuple[int, ...], margin: float) -> Mask:
    """uint8 [H,W], 1 where a mask over these lines lies."""
    mask = np.zeros(shape[:2], np.uint8)
    for quad in quads:
        more = quad.height * margin
        cv2.fillPoly(mask, [_rounded(quad.grown(more, more))], (1,))
    return mask


def _rounded(quad: Quad) -> NDArray[np.int32]:
    return np.round(np.array(quad.corners)).astype(np.int32)


def _count_overlap(tally: Tally, label: Label, rgb: Pixels, mask: Mask) -> None:
    for line in label.lines:
        own = np.zeros_like(mask)
        cv2.fillPoly(own, [_rounded(line.quad)], (1,))
        area, covered = int(own.sum()), int((own & mask).sum())
        tally.area += area
        tally.area_covered += covered
        tally.lines_covered += covered >= COVERED * area
    if not label.lines:
        # Labelled by text alone: on a light page all that is dark is text.
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        dark = np.asarray(cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)[1], np.uint8)
        tally.ink += int(dark.sum())
        tally.ink_covered += int((dark & mask).sum())


def _count_text(tally: Tally, label: Label, read: Written) -> None:
    """Spaces do not count: no rule for personal data depends on them."""
    pairs = [(label.text, read.text)]
    if label.lines:
        pairs = [(line.text, _read_in(line.quad, read)) for line in label.lines]
    for said, got in pairs:
        wanted, have = _bare(said), _bare(got)
        tally.characters += len(wanted)
        tally.errors += distance(wanted, have)
        figures = _only(wanted, str.isdecimal)
        tally.digits += len(figures)
        tally.digits_found += common(figures, _only(have, str.isdecimal))


def _read_in(quad: Quad, read: Written) -> str:
    """What was read in a labelled region: the lines whose middle lies in it, or that hold its middle."""
    return " ".join(
        line.text for line in read.lines if _inside(line.quad.centre, quad) or _inside(quad.centre, line.quad)
    )


def _inside(point: tuple[float, float], quad: Quad) -> bool:
    return cv2.pointPolygonTest(np.array(quad.corners, np.float32), point, False) >= 0


def _bare(text: str) -> str:
    return "".join(text.split())


def _only(text: str, wanted: Callable[[str], bool]) -> str:
    return "".join(char for char in text if wanted(char))


def _count_hits(tally: Tally, said: str, got: str, scanner: Scanner) -> None:
    """What the scanner finds in the true text and in what was read; found is a hit of the same kind and value."""
    wanted, have = _hits(said, scanner), _hits(got, scanner)
    tally.hits += len(wanted)
    tally.hits_found += len(wanted & have)
    tally.hits_false += len(have - wanted)


def _hits(text: str, scanner: Scanner) -> set[tuple[str, str]]:
    hits = scanner.scan([TextPart("text.0", text[: scanner.rules.max_chars])]).hits
    return {(hit.kind.value, hit.canonical or _bare(text[hit.start : hit.end])) for hit in hits}


def distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for number, char in enumerate(one, 1):
        before, row = row, [number]
        for at, (left, above) in enumerate(pairwise(before)):
            row.append(min(above + 1, row[at] + 1, left + (char != other[at])))
    return row[-1]


def common(one: str, other: str) -> int:
    """Characters of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for char in one:
        before, row = row, [0]
        for at, (left, above) in enumerate(pairwise(before)):
            row.append(left + 1 if char == other[at] else max(above, row[at]))
    return row[-1]


def _table(report: dict[str, object]) -> str:
    lines = [f"{report['rules']}, masks larger by {report['mask_margin']} of a line's height; {report['reader']}"]
    kinds, total = report["kinds"], report["total"]
    assert isinstance(kinds, dict) and isinstance(total, dict)
    for name, rates in [*kinds.items(), ("all", total)]:
        shown = ", ".join(f"{key} {value}" for key, value in rates.items() if value is not None)
        lines.append(f"{name:16} {shown}")
    return "\n".join(lines)
