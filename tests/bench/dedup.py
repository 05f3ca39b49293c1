"""How long does it take to say which of a subscriber's ten thousand earlier contents a new one is near to?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.fingerprints import FACE_SIDE, KEPT_POINTS, Fingerprint, Points, fingerprint
from services.detector.adapters.known_contents import KnownPictures, KnownTexts
from services.detector.adapters.same_picture import read_rules
from services.detector.domain.text_similarity import TextDedupRule, signature
from services.detector.evaluate_dedup.texts import TEXT_RULES_FILE
from services.detector.evaluate_dedup.transforms import transforms

CONTENTS = 10_000
PAINTED = 20
PROBES = 100
FRAMED = 0.25
MOST_MS = 5.0
P95 = 95
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Result:
    """One figure; `at_most` says that the target is an upper bound."""

    name: str
    values: list[float]
    unit: str
    sample: str
    target: float | None = None
    at_most: bool = True


def measure(runs: int, say: Callable[[str], object]) -> list[Result]:
    """Every figure, `runs` times; times are processor milliseconds of this process, 95th percentile of the probes."""
    cv2.setNumThreads(1)
    chance = np.random.default_rng(1)
    pictures = [paint(chance) for _ in range(PAINTED)]
    bases = [fingerprint(bytes([at]), rgb) for at, rgb in enumerate(pictures)]
    known = KnownPictures(read_rules())
    person = smooth(chance, FACE_SIDE)
    started = time.process_time()
    for at in range(CONTENTS - PAINTED):
        known.add(f"c{at}", another(bases[at % PAINTED], person, chance))
    for at, base in enumerate(bases):
        known.add(f"original {at}", base)
    say(f"  {CONTENTS} contents taken in within {time.process_time() - started:.1f} s of processor time")
    probes = {
        "picture unlike all others": [another(base, person, chance) for base in bases],
        "repost, told by hashes": changed(pictures, "jpeg 50"),
        "screenshot, told by points": changed(pictures, "screenshot"),
    }
    fresh = {name: [whole(each) for each in prints] for name, prints in probes.items()}
    sample = f"{CONTENTS} earlier contents, one person's face in each"
    found = [
        Result(f"{name}, P95", [p95(known.near, prints) for _ in range(runs)], " ms", sample, MOST_MS)
        for name, prints in fresh.items()
    ]
    flood = KnownPictures(read_rules())
    for _ in range(CONTENTS):
        flood.add("one", bases[0])
    values = [p95(flood.near, fresh["repost, told by hashes"][:1] * 20) for _ in range(runs)]
    found.append(Result("repost of what was posted 10,000 times, P95", values, " ms", "one cluster", MOST_MS))
    found.append(texts(runs, chance))
    for each in found:
        say(f"  {each.name}: {min(each.values):.2f}…{max(each.values):.2f}{each.unit}")
    return found


def texts(runs: int, chance: np.random.Generator) -> Result:
    """A post among as many others, half of the probes reposts."""
    known = KnownTexts(TextDedupRule.parse(TEXT_RULES_FILE.read_text(encoding="utf-8")))
    words = ["".join(chr(0xAC00 + int(c)) for c in chance.integers(0, 11_000, 3)) for _ in range(400)]

    def post() -> str:
        return " ".join([*chance.choice(words, 40), "010-2345-6789", str(chance.integers(10_000, 99_999))])

    posts = [post() for _ in range(CONTENTS)]
    for at, text in enumerate(posts):
        known.add(f"c{at}", signature(text))
    half = PROBES // 2
    probes = [signature("[펌] " + text) for text in posts[:half]] + [signature(post()) for _ in range(half)]
    values = [p95(known.near, probes) for _ in range(runs)]
    return Result("text, P95", values, " ms", f"{CONTENTS} earlier texts", MOST_MS)


def p95(ask: Callable[..., object], probes: Sequence[object]) -> float:
    """Processor milliseconds of one question, 95th percentile."""
    taken = []
    for probe in probes:
        started = time.process_time()
        ask(probe)
        taken.append((time.process_time() - started) * 1000)
    return float(np.percentile(taken, P95))


def paint(chance: np.random.Generator, height: int = 480, width: int = 640) -> Pixels:
    """Smooth scenery with some edges."""
    coarse = chance.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    for _ in range(60):
        x, y = (int(v) for v in chance.integers(0, (width, height)))
        colour = tuple(int(c) for c in chance.integers(0, 256, 3))
        cv2.circle(picture, (x, y), int(chance.integers(4, 35)), colour, int(chance.integers(1, 5)))
    return picture


def smooth(chance: np.random.Generator, side: int) -> NDArray[np.float32]:
    """Something with the structure of a face: blotches."""
    small = chance.normal(size=(12, 12)).astype(np.float32)
    return np.asarray(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)


def another(base: Fingerprint, person: NDArray[np.float32], chance: np.random.Generator) -> Fingerprint:
    """The fingerprint of another picture of one person: other hashes, points that share no more than chance has it,
    a face that is like and not the same. One in four has a border or stands on a page, and so three views."""
    face = 0.8 * person + 0.6 * smooth(chance, FACE_SIDE)
    points = Points(base.points.places[:KEPT_POINTS], base.points.descriptors[:KEPT_POINTS])
    some = chance.permutation(len(points.places))
    # Three of eight bits: as far from the other picture's points as from any.
    noise = chance.integers(0, 256, (3, len(some), 32), dtype=np.uint8)
    noise = noise[0] & (noise[1] | noise[2])
    views = range(3) if chance.random() < FRAMED else [0] * 3
    return replace(
        base,
        sha256=chance.bytes(32),
        dhashes=chance.integers(0, 2**64, (3, 8), dtype=np.uint64)[views],
        phashes=chance.integers(0, 2**64, (3, 8), dtype=np.uint64)[views],
        pdqs=chance.integers(0, 256, (8, 32), dtype=np.uint8),
        points=Points(chance.permutation(points.places), points.descriptors[some] ^ noise),
        faces=np.clip(128 + 40 * face, 0, 255).astype(np.uint8)[None],
        grey=None,
    )


def changed(pictures: Sequence[Pixels], name: str) -> list[Fingerprint]:
    """Fingerprints of pictures after a transform."""
    return [fingerprint(name.encode() + bytes([at]), transforms()[name](each)) for at, each in enumerate(pictures)]


def whole(print_: Fingerprint) -> Fingerprint:
    """With its mirrored points, which are part of looking at a picture and not of comparing."""
    mirrored = print_.mirrored_points
    return print_.with_mirror(mirrored if mirrored is not None else print_.points)
