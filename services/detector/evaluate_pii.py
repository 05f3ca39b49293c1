"""How well does the personal-data scan do? Precision and recall per kind and level, exact and overlapping, beside
Presidio where it is installed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from services.chassis import yaml_text
from services.detector.adapters.pii_hyperscan import build_scanner
from services.detector.domain.pii import Confidence, Kind, Scanner, TextPart
from services.detector.scan_command import warn_of_fallback
from services.detector.text_rows import BrokenRow, Row, read_rows

ROOT: Final = Path(__file__).parents[2]
RULES_FILE: Final = Path(__file__).parent / "rules" / "pii_evaluation.yaml"
PEER: Final = (ROOT / ".presidio" / "bin" / "python", ROOT / "bootstrap" / "presidio_peer.py")
PEER_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Span:
    """What a label or a scanner says stands at [start, end)."""

    kind: Kind
    start: int
    end: int
    level: Confidence = Confidence.HIGH
    personal: bool = True

    def meets(self, other: Span) -> bool:
        """Whether both say the same kind of a common stretch."""
        return self.kind is other.kind and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled text. With `target` only that kind is judged; `partial` labels speak for recall only; `group` names
    a part of the set with figures of its own."""

    text: str = field(repr=False)
    labels: tuple[Span, ...] = ()
    row_id: str = ""
    target: Kind | None = None
    partial: bool = False
    group: str = ""


Find = Callable[[Sequence[Sample]], list[list[Span]]]
"""A scanner: the spans it finds in each sample."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A version of rules/pii_evaluation.yaml."""

    names: Mapping[str, Kind]
    not_compared: Mapping[str, Mapping[Kind, str]]
    not_counted: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, text: str) -> Reading:
        """Read the YAML text. Raises ValueError on a kind that does not exist."""
        raw = yaml_text.parse(text)
        sets = {name: entry or {} for name, entry in raw["sets"].items()}
        return cls(
            names={kind.value: kind for kind in Kind} | {name: Kind(kind) for name, kind in raw["names"].items()},
            not_compared={
                name: {Kind(kind): why for kind, why in entry.get("not_compared", {}).items()}
                for name, entry in sets.items()
            },
            not_counted={name: dict(entry.get("not_counted", {})) for name, entry in sets.items()},
        )


@dataclass(slots=True)
class Tally:
    """Counts of one kind, or of all, over one set.

    Overlapping: a label is found when hits of its kind cover half of it, a hit is false when it meets no label of its
    kind. Exact: both ends must agree.
    """

    labelled: int = 0
    found: int = 0
    exact: int = 0
    hits: int = 0
    false: int = 0
    hits_high: int = 0
    false_high: int = 0

    def add(self, other: Tally) -> None:
        """Adds the counts of another."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def report(self, *, with_precision: bool = True) -> dict[str, Any]:
        """Counts, precision and recall; None where nothing can be said."""
        false = self.false if with_precision else None
        exact_false = self.hits - self.exact if with_precision else None
        return {
            "labelled": self.labelled,
            "hits": self.hits,
            "overlapping": _rates(self.found, self.labelled, self.hits - self.false, false),
            "exact": _rates(self.exact, self.labelled, self.exact, exact_false),
            "high": {
                "hits": self.hits_high,
                "false": self.false_high if with_precision else None,
                "precision": _share(self.hits_high - self.false_high, self.hits_high) if with_precision else None,
            },
        }


def _rates(found: int, labelled: int, right: int, false: int | None) -> dict[str, Any]:
    precision = None if false is None else _share(right, right + false)
    recall = _share(found, labelled)
    both = precision is not None and recall is not None and precision + recall > 0
    f1 = round(2 * precision * recall / (precision + recall), 4) if both and precision and recall else None
    return {
        "found": found,
        "missed": labelled - found,
        "false": false,
        "precision": precision,
        "recall": recall,
        "f1": f1,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


@dataclass(slots=True)
class Outcome:
    """What a set's samples add up to. `wrong`: (how, kind, row id, start, end), never the text."""

    samples: int = 0
    kinds: dict[Kind, Tally] = field(default_factory=dict)
    groups: dict[str, Outcome] = field(default_factory=dict)
    texts_with_false_hits: int = 0
    wrong: list[tuple[str, str, str, int, int]] = field(default_factory=list)

    def tally(self, kind: Kind) -> Tally:
        """The counts of a kind."""
        return self.kinds.setdefault(kind, Tally())

    def total(self, without: Collection[Kind] = ()) -> Tally:
        """The counts of all kinds that are compared."""
        total, left_out = Tally(), frozenset(without)
        for kind, tally in self.kinds.items():
            if kind not in left_out:
                total.add(tally)
        return total


def run(argv: Sequence[str]) -> int:
    """`eval pii --data FILE.jsonl|DIR [--json] [--show] [--presidio]`. Exit status: 0 measured, 1 nothing to measure or
    broken rows, 2 wrong use."""
    parser = argparse.ArgumentParser(prog="jikimi eval pii", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="rows with id, text, entities: a file or a folder")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")
    parser.add_argument("--show", action="store_true", help="name each miss and false hit: row, kind, place")
    parser.add_argument("--presidio", action="store_true", help="judge Presidio on the same rows (make presidio)")
    options = parser.parse_args(argv)
    if not options.data.exists():
        parser.error("--data names no file and no folder")
    if options.presidio and not PEER[0].exists():
        parser.error("Presidio is not installed beside: make presidio")
    try:
        report = evaluate(options.data, show=options.show, presidio=options.presidio)
    except OSError as error:
        print(f"Refused: the data cannot be read ({type(error).__name__}).", file=sys.stderr)
        return 1
    print(json.dumps(report, ensure_ascii=False) if options.json else in_words(report))
    return 0 if report["sets"] and not any(each["broken_rows"] for each in report["sets"].values()) else 1


def evaluate(data: Path, *, show: bool = False, presidio: bool = False) -> dict[str, Any]:
    """Judges every set with the service's scanner and, where asked, with Presidio. Raises OSError."""
    scanner = build_scanner()
    warn_of_fallback(scanner)
    reading = Reading.parse(RULES_FILE.read_text(encoding="utf-8"))
    report: dict[str, Any] = {"rules_version": scanner.rules.version, "engine": type(scanner.engine).__name__}
    report["sets"] = {}
    for path in [data] if data.is_file() else sorted(data.glob("*.jsonl")):
        samples, broken = read_set(path, reading)
        found, seconds = _timed(_ours(scanner), samples)
        entry = summary(judge(samples, found), samples, without=reading.not_compared.get(path.stem, ()), show=show)
        entry["posts_per_s"] = round(len(samples) / seconds) if seconds else None
        entry |= _differences(path.stem, reading)
        entry["broken_rows"] = [{"line": each.line, "reason": each.reason} for each in broken]
        if presidio:
            entry["presidio"] = _beside(samples, reading, path.stem, show=show)
        report["sets"][path.stem] = entry
    return report


def _differences(name: str, reading: Reading) -> dict[str, Any]:
    return {
        "not_compared": {kind.value: why for kind, why in reading.not_compared.get(name, {}).items()},
        "not_counted": dict(reading.not_counted.get(name, {})),
    }


def read_set(path: Path, reading: Reading) -> tuple[list[Sample], list[BrokenRow]]:
    """The samples of a file of JSON lines, and its broken rows. Raises OSError."""
    samples: list[Sample] = []
    broken: list[BrokenRow] = []
    with path.open("rb") as lines:
        for row in read_rows(lines):
            sample = row if isinstance(row, BrokenRow) else _sample(row, reading)
            if isinstance(sample, BrokenRow):
                broken.append(sample)
            elif sample.row_id not in reading.not_counted.get(path.stem, {}):
                samples.append(sample)
    return samples, broken


def _sample(row: Row, reading: Reading) -> Sample | BrokenRow:
    try:
        labels = tuple(_labels(row.members.get("entities", []), reading))
    except (KeyError, TypeError, AttributeError):
        return BrokenRow(row.line, "BAD_ENTITIES")
    if any(not 0 <= label.start < label.end <= len(row.text) for label in labels):
        return BrokenRow(row.line, "BAD_ENTITIES")
    return Sample(
        text=row.text,
        labels=labels,
        row_id=str(row.id),
        target=reading.names.get(str(row.members.get("target"))),
        partial="labels_complete_for" in row.members,
        group=str(row.members.get("group", "")),
    )


def _labels(entities: Iterable[Mapping[str, Any]], reading: Reading) -> Iterator[Span]:
    for entity in entities:
        kind = reading.names.get(str(entity["kind"] if "kind" in entity else entity["type"]))
        start, end = entity["start"], entity["end"]
        if not (isinstance(start, int) and isinstance(end, int)):
            raise TypeError("span")
        if kind is not None:
            yield Span(kind, start, end)


def _ours(scanner: Scanner) -> Find:
    def find(samples: Sequence[Sample]) -> list[list[Span]]:
        results = scanner.scan_each([TextPart("text", sample.text)] for sample in samples)
        return [
            [Span(hit.kind, hit.start, hit.end, hit.confidence, hit.personal) for hit in result.hits]
            for result in results
        ]

    return find


def _timed(find: Find, samples: Sequence[Sample]) -> tuple[list[list[Span]], float]:
    start = time.process_time()
    found = find(samples)
    return found, time.process_time() - start


def _beside(samples: Sequence[Sample], reading: Reading, name: str, *, show: bool) -> dict[str, Any]:
    """Presidio's figures on the same samples, in a process of its own environment."""
    lines = "".join(json.dumps({"id": at, "text": sample.text}) + "\n" for at, sample in enumerate(samples))
    done = subprocess.run(
        [str(part) for part in PEER], input=lines, capture_output=True, text=True, timeout=PEER_SECONDS, check=False
    )
    if done.returncode != 0:
        return {"error": f"exit status {done.returncode}"}
    *rows, last = done.stdout.splitlines()
    found = [list(_labels(json.loads(row)["entities"], reading)) for row in rows]
    entry = summary(judge(samples, found), samples, without=reading.not_compared.get(name, ()), show=show)
    facts = json.loads(last)
    entry["set_up"] = facts["set_up"]
    entry["posts_per_s"] = round(len(samples) / facts["seconds"]) if facts["seconds"] else None
    return entry


def judge(samples: Sequence[Sample], found: Sequence[Sequence[Span]]) -> Outcome:
    """Compares what a scanner found with the labels."""
    outcome = Outcome()
    for sample, spans in zip(samples, found, strict=True):
        hits = [hit for hit in spans if sample.target in (None, hit.kind)]
        _judge_one(outcome, sample, hits)
        if sample.group:
            _judge_one(outcome.groups.setdefault(sample.group, Outcome()), sample, hits)
    return outcome


def _judge_one(outcome: Outcome, sample: Sample, hits: Sequence[Span]) -> None:
    outcome.samples += 1
    labels = sample.labels
    for label in labels:
        tally = outcome.tally(label.kind)
        covered = sum(max(0, min(label.end, hit.end) - max(label.start, hit.start)) for hit in hits if label.meets(hit))
        tally.labelled += 1
        if covered * 2 >= label.end - label.start:
            tally.found += 1
        else:
            outcome.wrong.append(("missed", label.kind, sample.row_id, label.start, label.end))
        tally.exact += any((hit.kind, hit.start, hit.end) == (label.kind, label.start, label.end) for hit in hits)
    false = [hit for hit in hits if not any(hit.meets(label) for label in labels)]
    for hit in hits:
        tally = outcome.tally(hit.kind)
        tally.hits += 1
        tally.hits_high += hit.level is Confidence.HIGH
    for hit in false:
        tally = outcome.tally(hit.kind)
        tally.false += 1
        tally.false_high += hit.level is Confidence.HIGH
        outcome.wrong.append(("false", hit.kind, sample.row_id, hit.start, hit.end))
    outcome.texts_with_false_hits += any(hit.personal for hit in false)


def summary(
    outcome: Outcome, samples: Sequence[Sample], *, without: Collection[Kind] = (), show: bool = False
) -> dict[str, Any]:
    """An outcome as the report states it; kinds in `without` have their row and no part in the total."""
    complete = not any(sample.partial for sample in samples)
    entry: dict[str, Any] = {
        "samples": outcome.samples,
        "labels": "complete" if complete else "partial",
        "all": outcome.total(without).report(with_precision=complete),
        "kinds": {
            kind.value: tally.report(with_precision=complete)
            for kind, tally in sorted(outcome.kinds.items())
            if complete or tally.labelled
        },
        "false_texts_per_1000": round(1000 * outcome.texts_with_false_hits / max(1, outcome.samples), 2)
        if complete
        else None,
    }
    if outcome.groups:
        entry["groups"] = {
            name: summary(part, samples, without=without) for name, part in sorted(outcome.groups.items())
        }
    if show:
        entry["wrong"] = outcome.wrong
    return entry


def in_words(report: Mapping[str, Any]) -> str:
    """The report as a table for people."""
    lines = [f"rules {report['rules_version']}, {report['engine']}"]
    for name, entry in report["sets"].items():
        lines.append(f"\n{name}: {entry['samples']} texts, labels {entry['labels']}")
        lines += _table(entry, "")
        if "presidio" in entry:
            lines += _table(entry["presidio"], "Presidio ") if "kinds" in entry["presidio"] else ["  Presidio failed"]
        lines += [f"  not compared: {kind}: {why}" for kind, why in entry["not_compared"].items()]
        lines += [f"  not counted: {row}: {why}" for row, why in entry["not_counted"].items()]
        lines += [f"  broken: line {each['line']}: {each['reason']}" for each in entry["broken_rows"]]
        lines += [f"  {how}: {kind} in {row} at {start}-{end}" for how, kind, row, start, end in entry.get("wrong", ())]
    return "\n".join(lines)


def _table(entry: Mapping[str, Any], who: str) -> list[str]:
    head = f"  {who + 'kind':24}{'labels':>7}{'P':>8}{'R':>8}{'exact P':>9}{'exact R':>9}{'HIGH P':>8}"
    rows = [(kind, each) for kind, each in entry["kinds"].items()] + [("all", entry["all"])]
    rows += [(f"all of {name}", each["all"]) for name, each in entry.get("groups", {}).items()]
    lines = [head]
    for name, each in rows:
        loose, exact = each["overlapping"], each["exact"]
        figures = (loose["precision"], loose["recall"], exact["precision"], exact["recall"], each["high"]["precision"])
        cells = "".join(f"{_figure(figure):>{width}}" for figure, width in zip(figures, (8, 8, 9, 9, 8), strict=True))
        lines.append(f"  {name:24}{each['labelled']:>7}{cells}")
    if entry["false_texts_per_1000"] is not None:
        false = entry["false_texts_per_1000"]
        lines.append(f"  texts with a false hit: {false} in 1,000; {entry['posts_per_s']} texts/s")
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
