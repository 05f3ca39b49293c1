"""How fast is the scan of personal data on one core, beside Presidio and beside the bare pass of its own engine?

    python -m tests.bench.pii [--posts 2000] [--rounds 5] [--out var/bench/pii.json]

Processor seconds of one thread throughout. Ours and Presidio take turns over the same posts, so that what else the
machine does meets both. Posts are scanned one after the other as `jikimi scan --jsonl` does it, many in a pass; the
comparable form of a value is made where somebody asks for it, and not here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hyperscan

from services.detector.adapters.pii_hyperscan import build_scanner
from services.detector.domain.pii import RECOGNISERS, Scanner, TextPart
from services.detector.domain.pii.normalise import normalise
from services.detector.evaluate_pii import PEER
from tests.data.crawl import MIX, crawl_mix, posts
from tests.data.hostile import HOSTILE

LEAST_SPEEDUP, LEAST_OF_BARE, MOST_GROWTH = 100.0, 0.5, 64.0
PEER_POSTS = 300
"""Posts that Presidio looks at in a turn: it needs milliseconds for each."""
TURN = 10
"""Times as many posts of the mix as of each sort: a turn of ours lasts as long as one of Presidio's, so that the caches
that its process leaves cold count for neither."""
SHORT, LONG = 6_400, 102_400
"""Characters of the hostile inputs: sixteen times the text is sixteen times the time where it is linear."""


def measure(count: int, rounds: int) -> dict[str, Any]:
    """All figures; Presidio's are missing where it is not installed."""
    scanner = build_scanner()
    mix = crawl_mix(TURN * count)
    report: dict[str, Any] = {"posts": count, "mix": MIX, "engine": type(scanner.engine).__name__}
    report["bytes_per_post"] = round(sum(len(post.encode()) for post in mix) / len(mix))
    report["crawl_mix"] = _beside_presidio(scanner, mix, rounds)
    bare = BarePass()
    report["by_sort"] = {sort: _rates(scanner, posts(sort, count // 4), rounds, bare) for sort in (*MIX, "dense")}
    report["hostile"] = _hostile(scanner)
    return report


def _beside_presidio(scanner: Scanner, mix: Sequence[str], rounds: int) -> dict[str, Any]:
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    for _ in range(rounds):
        ours.append(_scan_seconds(scanner, mix) / len(mix))
        for regions in ("default", "KR") if PEER[0].exists() else ():
            facts = _presidio(mix[:PEER_POSTS], regions)
            theirs.setdefault(facts["set_up"], []).append(facts["seconds"] / PEER_POSTS)
    best = min(ours)
    return {
        "posts_per_s": round(1 / best),
        "presidio": {
            set_up: {"posts_per_s": round(1 / min(seconds)), "speedup": round(min(seconds) / best, 1)}
            for set_up, seconds in theirs.items()
        },
    }


def _presidio(texts: Sequence[str], regions: str) -> dict[str, Any]:
    rows = "".join(json.dumps({"id": at, "text": text}) + "\n" for at, text in enumerate(texts))
    command = [str(part) for part in PEER] + ["--phone-regions", regions]
    done = subprocess.run(command, input=rows, capture_output=True, text=True, check=True, timeout=600)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def _rates(scanner: Scanner, texts: Sequence[str], rounds: int, bare: BarePass) -> dict[str, Any]:
    """Posts a second of the scan, together as in a file of rows and one by one, and of the bare pass over the same
    texts normalised."""
    together = min(_scan_seconds(scanner, texts) for _ in range(rounds)) / len(texts)
    alone = _best(lambda post: scanner.scan([TextPart("text", post)]), texts, rounds)
    pass_alone = _best(bare.matches, [normalise(post).text for post in texts], rounds)
    results = scanner.scan_each([TextPart("text", post)] for post in texts)
    return {
        "posts_per_s": round(1 / together),
        "one_by_one_posts_per_s": round(1 / alone),
        "hits_per_post": round(sum(len(result.hits) for result in results) / len(texts), 2),
        "bare_posts_per_s": round(1 / pass_alone),
        "of_bare": round(pass_alone / together, 3),
    }


class BarePass:
    """What Hyperscan alone needs for all anchors of the rules, over normalised text in UTF-8 as anybody would write it,
    its matches told to Python: (expression, end)."""

    def __init__(self) -> None:
        self._database = _compiled(sorted({anchor for each in RECOGNISERS for anchor in each.anchors}))

    def matches(self, text: str) -> list[tuple[int, int]]:
        """Every match in one text."""
        data = text.encode()
        found: list[tuple[int, int]] = []

        def collect(expression: int, _start: int, end: int, _flags: int, _context: object) -> None:
            found.append((expression, end))

        self._database.scan(data, match_event_handler=collect)
        return found


def _compiled(anchors: Sequence[str]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[anchor.encode() for anchor in anchors],
        ids=list(range(len(anchors))),
        elements=len(anchors),
        flags=[hyperscan.HS_FLAG_CASELESS | hyperscan.HS_FLAG_UTF8] * len(anchors),
    )
    database.scratch = hyperscan.Scratch(database)
    return database


def _hostile(scanner: Scanner) -> dict[str, dict[str, float]]:
    found = {}
    for name, make in HOSTILE.items():
        short, long = (
            min(_seconds(lambda text: scanner.scan([TextPart("text", text)]), [make(size)]) for _ in range(2))
            for size in (SHORT, LONG)
        )
        found[name] = {"ms_100k": round(1000 * long, 1), "growth_of_16": round(long / max(short, 0.0005), 1)}
    return found


def _scan_seconds(scanner: Scanner, texts: Sequence[str]) -> float:
    """Of many posts after each other, as `jikimi scan --jsonl` does it."""
    started = time.process_time()
    deque(scanner.scan_each([TextPart("text", text)] for text in texts), maxlen=0)
    return time.process_time() - started


def _best(work: Callable[[str], object], texts: Sequence[str], rounds: int) -> float:
    return min(_seconds(work, texts) for _ in range(rounds)) / len(texts)


def _seconds(work: Callable[[str], object], texts: Sequence[str]) -> float:
    started = time.process_time()
    for text in texts:
        work(text)
    return time.process_time() - started


def shortfalls(report: Mapping[str, Any]) -> list[str]:
    """Which aims the figures miss."""
    missed = [
        f"{set_up}: {peer['speedup']} times, aim {LEAST_SPEEDUP:g}"
        for set_up, peer in report["crawl_mix"]["presidio"].items()
        if peer["speedup"] < LEAST_SPEEDUP
    ]
    dense = report["by_sort"]["dense"]["of_bare"]
    if dense < LEAST_OF_BARE:
        missed.append(f"dense posts: {dense} of the bare pass, aim {LEAST_OF_BARE}")
    missed += [
        f"{name}: {figures['growth_of_16']} times the time for 16 times the text"
        for name, figures in report["hostile"].items()
        if figures["growth_of_16"] > MOST_GROWTH
    ]
    return missed


def in_words(report: Mapping[str, Any]) -> str:
    """The figures for people."""
    mix = report["crawl_mix"]
    lines = [f"{report['bytes_per_post']} bytes a post, {len(RECOGNISERS)} rules, one core"]
    lines.append(f"  crawl mix{'':30}{mix['posts_per_s']:>9} posts/s")
    for set_up, peer in mix["presidio"].items():
        lines.append(f"    {peer['speedup']} times {set_up} ({peer['posts_per_s']} posts/s)")
    if not mix["presidio"]:
        lines.append("    Presidio is not installed beside: make presidio")
    for sort, rates in report["by_sort"].items():
        alone = f" ({rates['one_by_one_posts_per_s']} one by one)"
        bare = f", bare pass {rates['bare_posts_per_s']}, {rates['of_bare']} of it"
        hits, posts_per_s = rates["hits_per_post"], rates["posts_per_s"]
        lines.append(f"  {sort:16}{hits:>7} hits a post{posts_per_s:>12} posts/s{alone}{bare}")
    lines.append("  hostile, 100 KB:  " + ", ".join(f"{n} {f['ms_100k']} ms" for n, f in report["hostile"].items()))
    worst = max(report["hostile"].items(), key=lambda pair: pair[1]["growth_of_16"])
    lines.append(f"  most growth for 16 times the text: {worst[1]['growth_of_16']} ({worst[0]})")
    lines += [f"  below the aim: {miss}" for miss in shortfalls(report)]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints and saves. Exit status 1 where an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pii", description=__doc__)
    parser.add_argument("--posts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5, help="turns; the best of each counts")
    parser.add_argument("--out", type=Path, default=Path("var/bench/pii.json"))
    given = parser.parse_args(arguments)
    report = measure(given.posts, given.rounds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, ensure_ascii=False, indent=2), encoding="utf-8")
    print(in_words(report))
    return 1 if shortfalls(report) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
