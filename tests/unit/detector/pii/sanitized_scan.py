"""Scans what is most likely to break the compiled core. `python sanitized_scan.py FOLDER` loads the module in FOLDER.

Run by test_core_sanitized.py, under the sanitizers' run-time; prints how many texts were scanned and hits found.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

from services.detector.adapters import pii_core
from services.detector.adapters.pii_hyperscan import build_scanner
from services.detector.domain.pii import RECOGNISERS, TextPart
from tests.data.hostile import HOSTILE
from tests.data.korean_posts import generated

HOSTILE_LENGTHS = (*range(40), 255, 256, 257, 4095, 4096, 4097, 20_000)
STRANGE = (
    "",
    "\0",
    "\ud800",
    "\U0010ffff",
    "\u0130ı",
    "e\u0301" * 40,
    "٠١٠-٢٣٤٥",
    "０１０－２３４５－６７８９",
    "👨‍👩‍👧" * 9,
)
"""No text, NUL, half a surrogate, the last code point, letters whose case is longer, marks, digits of other scripts."""


def texts() -> Iterator[str]:
    """Hostile ones of many lengths, every beginning and end of every example, generated posts, and pieces of all."""
    for hostile in HOSTILE.values():
        yield from (hostile(length) for length in HOSTILE_LENGTHS)
    examples = [
        text.translate({0x27E6: None, 0x27E7: None})
        for each in RECOGNISERS
        for text in (*each.examples.valid, *each.examples.invalid)
    ]
    for text in examples:
        yield from (text[:at] for at in range(len(text) + 1))
        yield from (text[at:] for at in range(1, len(text)))
    posts = [post.text for post in generated(per_template=2)]
    yield from posts
    yield from STRANGE
    draw = random.Random(1)
    for _ in range(1000):
        pieces = draw.choices([*examples, *posts, *STRANGE], k=draw.randrange(1, 5))
        yield draw.choice(["", " ", "\n"]).join(piece[draw.randrange(len(piece) + 1) :] for piece in pieces)


def main(folder: Path) -> None:
    """Scans all of it, together and one by one."""
    pii_core.__path__.insert(0, str(folder))
    loaded = pii_core.load().__file__
    assert loaded is not None and Path(loaded).parent == folder, loaded
    scanner = build_scanner()
    assert not scanner.fallback_reason, scanner.fallback_reason
    every = list(texts())
    together = list(scanner.scan_each([TextPart("body", text)] for text in every))
    assert together == [scanner.scan([TextPart("body", text)]) for text in every]
    print(len(every), sum(len(result.hits) for result in together))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
