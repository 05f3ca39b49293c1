"""What does `jikimi scan` do? Finds personal data in files, in standard input, or in rows of JSON lines."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any, BinaryIO, Final

from rich.console import Console
from rich.text import Text

from services.detector.adapters.pii_hyperscan import build_scanner
from services.detector.domain.pii import Combination, Confidence, Hit, Scanner, TextPart, mask
from services.detector.text_rows import BrokenRow, Row, read_rows

STDIN: Final = "-"
LARGEST_FILE: Final = 64 * 1024 * 1024
_ENCODINGS: Final = ("utf-8-sig", "cp949")
_COLOURS: Final = {Confidence.HIGH: "bold white on red", Confidence.LOW: "black on yellow"}


class Unusable(Exception):
    """A file that is not scanned. `reason`: NO_SUCH_FILE, NOT_A_FILE, NOT_READABLE, FILE_TOO_LARGE, NOT_TEXT."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Scanned:
    """A text with all that was found in it."""

    text: str = field(repr=False)
    hits: tuple[Hit, ...]
    combinations: tuple[Combination, ...]


def run(
    arguments: Sequence[str], *, stdin: BinaryIO | None = None, build: Callable[[], Scanner] = build_scanner
) -> int:
    """Runs the command. Exit status: 0 done, 1 a file or row could not be used, 2 wrong use."""
    given = _parser().parse_args(list(arguments))
    if bool(given.files) == bool(given.jsonl):
        print("usage: jikimi scan FILE… | jikimi scan --jsonl FILE  (- is standard input)", file=sys.stderr)
        return 2
    try:
        source = stdin or sys.stdin.buffer
        scanner = build()
        warn_of_fallback(scanner)
        return _rows(scanner, given, source) if given.jsonl else _files(scanner, given, source)
    except BrokenPipeError:  # the reader had enough
        sys.stderr.close()
        return 0


def warn_of_fallback(scanner: Scanner) -> None:
    """Says on standard error that the reference engine looks, which takes longer, and why."""
    if scanner.fallback_reason:
        print(f"Scanned by the reference engine, same hits, slower: {scanner.fallback_reason}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jikimi scan",
        description="Find personal data in texts. Shown in full on a terminal only; elsewhere masked.",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="texts in UTF-8 or CP949; - is standard input")
    parser.add_argument("--jsonl", metavar="FILE", help="rows with id and text; - is standard input")
    parser.add_argument("--json", action="store_true", help="for programs: a row each, or one document for files")
    parser.add_argument("--mask", action="store_true", help="print the texts with what was found covered")
    return parser


def scan_text(scanner: Scanner, text: str) -> Scanned:
    """Everything in a text of any length: beyond the scanner's limit in portions that end at a line or a gap."""
    return next(scan_texts(scanner, [text]))


def scan_texts(scanner: Scanner, texts: Iterable[str]) -> Iterator[Scanned]:
    """The same of each text, in order; several are looked at together."""
    begun: deque[tuple[str, int]] = deque()

    def portions() -> Iterator[list[TextPart]]:
        for text in texts:
            for start, portion in _portions(text, scanner.rules.max_chars):
                begun.append((text, start))
                yield [TextPart("text", portion)]

    hits: list[Hit] = []
    combinations: dict[Combination, None] = {}
    for result in scanner.scan_each(portions()):
        text, start = begun.popleft()
        hits += (hit._replace(start=hit.start + start, end=hit.end + start) for hit in result.hits)
        combinations |= dict.fromkeys(result.combinations)
        if not begun or begun[0][1] == 0:
            yield Scanned(text, tuple(hits), tuple(combinations))
            hits, combinations = [], {}


def _portions(text: str, most: int) -> Iterator[tuple[int, str]]:
    start = 0
    while len(text) - start > most:
        cut = max(text.rfind(sign, start + most // 2, start + most) for sign in "\n ")
        end = cut + 1 if cut >= 0 else start + most
        yield start, text[start:end]
        start = end
    yield start, text[start:]


def entities(scanned: Scanned) -> list[dict[str, Any]]:
    """What was found as programs read it; `mask` is the value with its personal part covered."""
    covered = mask(scanned.text, scanned.hits)
    return [
        {
            "kind": hit.kind.value,
            "start": hit.start,
            "end": hit.end,
            "level": hit.confidence.name,
            "mask": covered[hit.start : hit.end],
        }
        for hit in scanned.hits
    ]


# --- rows of JSON lines ---------------------------------------------------------------------------------------


def _rows(scanner: Scanner, given: argparse.Namespace, stdin: BinaryIO) -> int:
    """One row out for each usable row in; broken ones are named on standard error by their line."""
    rows = 0
    broken: list[BrokenRow] = []
    kinds: Counter[str] = Counter()
    try:
        with _opened(given.jsonl, stdin) as source:
            for row, scanned in _scanned(scanner, _usable(source, broken), together=given.jsonl != STDIN):
                rows += 1
                answer = _answer(row, scanned, masked=given.mask)
                kinds.update(entity["kind"] for entity in answer["entities"])
                if given.json or given.mask:
                    print(json.dumps(answer, ensure_ascii=False))
    except Unusable as problem:
        print(f"{given.jsonl}: {problem.reason}", file=sys.stderr)
        return 1
    if not (given.json or given.mask):
        print(f"{rows} rows: " + (", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items())) or "nothing"))
    return 1 if broken else 0


def _usable(source: BinaryIO, broken: list[BrokenRow]) -> Iterator[Row]:
    """The rows that can be scanned; the others are named on standard error and added to `broken`."""
    for row in read_rows(source):
        if isinstance(row, BrokenRow):
            broken.append(row)
            print(f"line {row.line}: {row.reason}", file=sys.stderr)
        else:
            yield row


def _scanned(scanner: Scanner, rows: Iterable[Row], *, together: bool) -> Iterator[tuple[Row, Scanned]]:
    """Each row with what was found in it. Rows of a file are looked at together; whoever writes to standard input may
    wait for the answer to a row before the next."""
    if not together:
        yield from ((row, scan_text(scanner, row.text)) for row in rows)
        return
    ahead, texts = tee(rows)
    yield from zip(ahead, scan_texts(scanner, (row.text for row in texts)), strict=True)


def _answer(row: Row, scanned: Scanned, *, masked: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"id": row.id, "entities": entities(scanned)}
    return answer | ({"text": mask(scanned.text, scanned.hits)} if masked else {})


def _opened(name: str, stdin: BinaryIO) -> BinaryIO:
    if name == STDIN:
        return stdin
    path = Path(name)
    if not path.exists():
        raise Unusable("NO_SUCH_FILE")
    try:
        return path.open("rb")
    except IsADirectoryError as error:
        raise Unusable("NOT_A_FILE") from error
    except OSError as error:
        raise Unusable("NOT_READABLE") from error


# --- files ----------------------------------------------------------------------------------------------------


def _files(scanner: Scanner, given: argparse.Namespace, stdin: BinaryIO) -> int:
    """Scans every file that can be read; the others are named with a reason and harm none."""
    done: list[dict[str, Any]] = []
    errors: list[dict[str, str]] = []
    console = Console(highlight=False, soft_wrap=True)
    for name in given.files:
        try:
            scanned = scan_text(scanner, _read(name, stdin))
        except Unusable as problem:
            errors.append({"file": name, "reason": problem.reason})
            print(f"{name}: {problem.reason}", file=sys.stderr)
            continue
        if given.json:
            done.append(_document(name, scanned, masked=given.mask))
        elif given.mask:
            sys.stdout.write(mask(scanned.text, scanned.hits))
        else:
            _show(console, name, scanned)
    if given.json:
        print(json.dumps({"files": done, "errors": errors}, ensure_ascii=False))
    return 1 if errors else 0


def _read(name: str, stdin: BinaryIO) -> str:
    """The text of a file. Raises Unusable."""
    with _opened(name, stdin) as opened:
        try:
            data = opened.read(LARGEST_FILE + 1)
        except OSError as error:
            raise Unusable("NOT_READABLE") from error
    if len(data) > LARGEST_FILE:
        raise Unusable("FILE_TOO_LARGE")
    if b"\0" in data:
        raise Unusable("NOT_TEXT")
    for encoding in _ENCODINGS:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Unusable("NOT_TEXT")


def _document(name: str, scanned: Scanned, *, masked: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "file": name,
        "entities": entities(scanned),
        "combinations": [{"name": each.name, "level": each.level.name} for each in scanned.combinations],
    }
    return document | ({"text": mask(scanned.text, scanned.hits)} if masked else {})


def _show(console: Console, name: str, scanned: Scanned) -> None:
    """The lines that hold something: coloured values on a terminal, masked ones elsewhere."""
    counted = Counter(hit.kind.value for hit in scanned.hits)
    summary = ", ".join(f"{kind} {count}" for kind, count in sorted(counted.items())) or "nothing"
    together = ", ".join(f"{each.name} ({each.level.name})" for each in scanned.combinations)
    console.print(Text(f"{name}: {summary}" + (f"; together {together}" if together else ""), style="bold"))
    text = scanned.text if console.is_terminal else mask(scanned.text, scanned.hits)
    for number, start, end, hits in _lines(scanned):
        line = Text(text[start:end])
        for hit in hits:
            line.stylize(_COLOURS[hit.confidence], max(0, hit.start - start), hit.end - start)
        labels = dict.fromkeys(f"{hit.kind.value} {hit.confidence.name}" for hit in hits)
        console.print(Text(f"{number:>6}  "), line, Text(f"  ← {', '.join(labels)}", style="dim"), sep="")


def _lines(scanned: Scanned) -> Iterator[tuple[int, int, int, list[Hit]]]:
    """(number from 1, start, end, hits) of every line that holds a part of a hit."""
    start, waiting = 0, list(reversed(scanned.hits))
    for number, line in enumerate(scanned.text.splitlines(keepends=True), 1):
        end = start + len(line)
        here = []
        while waiting and waiting[-1].start < end:
            here.append(waiting.pop())
        waiting += [hit for hit in reversed(here) if hit.end > end]  # a value over two lines shows in both
        if here:
            yield number, start, start + len(line.rstrip("\r\n")), here
        start = end


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
