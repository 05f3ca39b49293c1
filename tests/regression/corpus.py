"""On which pictures and posts are two releases compared?

Generated ones, and portraits that are called public domain where they are published (official portraits of two
presidents, one by NASA; see LICENSES.md beside them). Reposts are made from them: recompressed, cropped, mirrored,
framed; texts are quoted. Everything is determined by the files and the seed, and lies in the form that
`make demo IMAGES=… POSTS=…` reads.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.console.demo import pictures
from tests.data import tuning
from tests.data.korean_posts import PLAIN, filled, generated
from tests.data.values import MAKERS

SEED = 3
ENROLLED = ("obama", "biden")
STRANGER = "astronaut"
WATCHERS = (
    ("minjun", {"mobile": "010-0000-2580", "email": "minjun.kim@example.com"}),
    ("seoyeon", {"mobile": "010-0000-3690", "email": "seoyeon.lee@example.com"}),
)
FACELESS = 12
POSTS_ABOUT_NOBODY = 60


def write(folder: Path, portraits: Path, share: float = 1.0) -> tuple[Path, Path]:
    """Makes the corpus, or the first `share` of its kinds, below an empty folder; returns (pictures, posts) as
    `corpus.own` takes them. `portraits` holds the published pictures."""
    images, posts = folder / "images", folder / "posts.jsonl"
    for name in ENROLLED:
        own = images / name
        own.mkdir(parents=True)
        (own / "enrol.jpg").write_bytes((portraits / f"{name}.jpg").read_bytes())
        _reposts(own, (portraits / f"{name}.jpg").read_bytes(), "", share)
    _reposts(images, (portraits / f"{STRANGER}.png").read_bytes(), f"{STRANGER}-", share)
    for number in range(round(FACELESS * share)):
        (images / f"faceless-{number:02d}.jpg").write_bytes(pictures.without_face(number))
    posts.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in _posts(share)) + "\n", encoding="utf-8")
    return images, posts


def _reposts(folder: Path, portrait: bytes, prefix: str, share: float) -> None:
    picture = pictures.opened(portrait)
    chosen = list(pictures.REPOSTS.items())
    for number, (_, transform) in enumerate(chosen[: max(1, round(len(chosen) * share))]):
        (folder / f"{prefix}repost-{number:02d}.jpg").write_bytes(transform(picture))


def _posts(share: float) -> Iterator[dict[str, object]]:
    for person, values in WATCHERS:
        yield {"person": person, "watch": values}
    rng = random.Random(SEED)
    templates = [text for text in tuning.PLAIN if "{PHONE}" in text or "{EMAIL}" in text]
    for template in templates[: max(2, round(len(templates) * share))]:
        person, values = rng.choice(WATCHERS)
        text = _naming(template, values, rng)
        yield {"text": text, "person": person}
        yield {"text": f"[펌] {text} (퍼온 글)", "person": person}
    others = [post.text for post in generated("tuning", 1, SEED)]
    for text in rng.sample(others, round(min(len(others), POSTS_ABOUT_NOBODY) * share)):
        yield {"text": text}


def _naming(template: str, values: dict[str, str], rng: random.Random) -> str:
    makers = {**MAKERS, "PHONE": lambda _: values["mobile"], "EMAIL": lambda _: values["email"]}
    return filled(template, makers, rng, PLAIN).text


def names(items: Sequence[str]) -> list[str]:
    """What each item is called in a comparison: its place in the corpus, and what it is."""
    return [f"{number:03d} {what}" for number, what in enumerate(items)]
