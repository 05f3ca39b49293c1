"""Which labelled Korean posts is the personal-data scan tuned on, and which is it scored on?

    python -m tests.data.korean_posts --part tuning|scoring --out FILE.jsonl [--per-template 12] [--seed 20200920]

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data import scoring, tuning
from tests.data.values import MAKERS, Make

SEED = 20_200_920
PLAIN, EVASION, NEGATIVE = "plain", "evasion", "negative"
_SLOT = re.compile(r"\{([A-Z_]+)\}")
_SAME_KIND = {"LANDLINE": "PHONE"}


@dataclass(frozen=True)
class Post:
    """A text, its labels (kind, start, end) and its group: plain, evasion or negative."""

    text: str
    labels: tuple[tuple[str, int, int], ...]
    group: str

    def row(self, row_id: str) -> dict[str, Any]:
        """The post as a row of evaluation data."""
        entities = [{"kind": kind, "start": start, "end": end} for kind, start, end in self.labels]
        return {"id": row_id, "text": self.text, "entities": entities, "group": self.group}


def filled(template: str, makers: Mapping[str, Make], rng: random.Random, group: str, head: str = "") -> Post:
    """A template with a fresh value in each slot."""
    text, labels, done = head, [], 0
    for slot in _SLOT.finditer(template):
        text += template[done : slot.start()]
        value = makers[slot[1]](rng)
        labels.append((_SAME_KIND.get(slot[1], slot[1]), len(text), len(text) + len(value)))
        text += value
        done = slot.end()
    return Post(text + template[done:], tuple(labels), group)


def generated(part: str = "tuning", per_template: int = 12, seed: int = SEED) -> Iterator[Post]:
    """The posts of a part, the same for the same seed: so many of each template, twice as many of each negative."""
    templates = {"tuning": tuning, "scoring": scoring}[part]
    rng = random.Random(f"{part} {seed}")
    for template in templates.PLAIN:
        for _ in range(per_template):
            yield filled(template, MAKERS, rng, PLAIN, rng.choice(templates.HEADS))
    for kind, disguises, frames in templates.EVASIONS:
        for disguise in disguises:
            for _ in range(per_template):
                yield filled(rng.choice(frames), {kind: disguise}, rng, EVASION, rng.choice(templates.HEADS))
    for negative in templates.NEGATIVES:
        for _ in range(2 * per_template):
            yield Post(rng.choice(templates.HEADS) + negative(rng), (), NEGATIVE)


def main(arguments: Sequence[str]) -> int:
    """Writes a part as rows of JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m tests.data.korean_posts", description=__doc__)
    parser.add_argument("--part", choices=("tuning", "scoring"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-template", type=int, default=12)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    posts = generated(given.part, given.per_template, given.seed)
    rows = [json.dumps(post.row(f"{given.part}-{at}"), ensure_ascii=False) for at, post in enumerate(posts)]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(rows)} posts in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
