"""How long does somebody wait for the warning before an upload, beside the bare models? `make bench-uploads`.

    python -m tests.bench.uploads [--calls N] [--texts] [--json FILE]

A picture of 1280 × 720 with three faces, one of them enrolled, and five lines of text, through a whole system and
through the bare models in turns, so that both meet the same neighbours. Then the same while collected pictures are
worked on, and with twice as many callers as there are places. With --texts the lines are read, on both sides; without,
on neither.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
from PIL import Image

from misuse.detector.v1 import upload_service_pb2 as api
from misuse.detector.v1.upload_service_pb2_grpc import UploadServiceStub
from services.chassis.ids import uuid7
from services.console import commands, upload_commands
from services.console.client import connections, subscriber
from services.console.provider import TestProvider
from services.detector.adapters.engines import AUTO
from services.detector.adapters.faces import FaceEngine, read_face_rules, stacked
from services.detector.adapters.models import Pixels, open_models
from services.detector.adapters.ocr import OFF, open_reader
from services.detector.adapters.rules import read_rules
from services.detector.adapters.uploads_look import QUICK_PLAN
from services.detector.ports import TextReader
from tests.scenario.doors import Door, signal
from tests.scenario.system import ROOT, System, reason_of, running_system

PICTURES, MODELS = ROOT / ".cache" / "pictures", ROOT / ".cache" / "models"
WIDTH, HEIGHT, FACE = 1280, 720, 300
PLACES = 2
MOST_RATIO, MOST_MS = 1.3, 150.0
LINES = ("Meet me at the station", "Platform 7, 18:30", "Bring the blue bag", "See you there", "Min-su")


@dataclass
class Measured:
    """What is printed at the end."""

    bare_ms: list[float]
    calls_ms: list[float]
    beside_crawl_ms: list[float]
    overloaded_ms: list[float]
    outcomes: dict[str, int]
    reads: bool
    """Whether text in the picture is read: then the ratio to the models is judged, else the time itself."""

    def report(self) -> dict[str, Any]:
        """Figures with their targets."""
        bare, calls = p95(self.bare_ms), p95(self.calls_ms)
        return {
            "picture": f"{WIDTH}x{HEIGHT}, 3 faces, {len(LINES)} lines",
            "calls": len(self.calls_ms),
            "bare_models_p50_ms": median(self.bare_ms),
            "bare_models_p95_ms": bare,
            "check_upload_p50_ms": median(self.calls_ms),
            "check_upload_p95_ms": calls,
            "ratio_p95": round(calls / bare, 2),
            "ratio_p50": round(median(self.calls_ms) / median(self.bare_ms), 2),
            "beside_collected_pictures_p95_ms": p95(self.beside_crawl_ms),
            "overloaded_answered_p95_ms": p95(self.overloaded_ms),
            "overloaded_outcomes": self.outcomes,
            "text_in_picture_read": self.reads,
            "meets": (calls / bare <= MOST_RATIO if self.reads else calls <= MOST_MS)
            and self.outcomes.get("UPLOADS_BUSY", 0) > 0,
        }


def p95(values: Sequence[float]) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return round(ordered[max(0, -(-95 * len(ordered) // 100) - 1)], 1) if ordered else 0.0


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 1)


def picture() -> bytes:
    """Three portraits side by side, five lines of text below each other, as JPEG."""
    canvas = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    for number, name in enumerate(("obama2.jpg", "biden.jpg", "obama3.jpg")):
        with Image.open(PICTURES / name) as opened:
            portrait = opened.convert("RGB").resize((FACE, FACE * opened.height // opened.width))
        part = np.asarray(portrait)[: HEIGHT - 40]
        left = 40 + number * (FACE + 100)
        canvas[20 : 20 + part.shape[0], left : left + FACE] = part
    for number, line in enumerate(LINES):
        place = (30, HEIGHT - 150 + 30 * number)
        cv2.putText(canvas, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.8, (20, 20, 20), 2, cv2.LINE_AA)
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, "JPEG", quality=90)
    return out.getvalue()


class Bare:
    """What the check asks of the models, and nothing else."""

    def __init__(self, pixels: Pixels, enrolled: Pixels, reader: TextReader | None) -> None:
        self._engine = FaceEngine(open_models(MODELS), QUICK_PLAN)
        self._pixels = pixels
        self._reader = reader
        [mine, *_] = self._engine.analyse(enrolled)
        scores = [float(face.vector @ mine.vector) for face in self._engine.analyse(pixels)]
        rules = read_face_rules()
        self.near = [at for at, score in enumerate(scores) if rules.look_again <= score]
        """The faces whose pose is asked for."""
        self.again = [at for at in self.near if scores[at] < rules.clear]
        """The faces that the first look leaves unsure."""

    def look(self) -> None:
        """Every face found and embedded; pose and second look where the check needs them; the lines read."""
        faces = self._engine.analyse(self._pixels)
        self._engine.posed([faces[at] for at in self.near])
        if self._reader is not None:
            self._reader.read(self._pixels)
        if self.again:
            self._engine.second_look(*stacked([faces[at] for at in self.again]))

    @property
    def faces(self) -> int:
        return len(self._engine.detect(self._pixels))


@dataclass
class Caller:
    """One subscriber who uploads the same picture again and again."""

    system: System
    who: str
    account: str
    image: bytes

    def __post_init__(self) -> None:
        self._stub: Any = UploadServiceStub(self.system.channel("detector"))
        self._metadata = [("authorization", f"Bearer {self.system.token(subscriber(self.who), 'detector')}")]

    def check(self) -> Any:
        """One check."""
        request = api.CheckUploadRequest(
            subscriber_id=self.who, request_id=uuid7(), account_id=self.account, image=self.image
        )
        return self._stub.CheckUpload(request, metadata=self._metadata, timeout=10)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


async def prepared(system: System) -> tuple[str, str]:
    """A subscriber with an enrolled face and a linked account."""
    async with connections(system.home) as services:
        provider = TestProvider(system.home)
        who = await commands.register(services, "Bench", "bench@example.com", "ko")
        await commands.enrol(services, provider, who, [(PICTURES / "obama.jpg").read_bytes()])
        return who, await upload_commands.link(services, who, "meta", "bench", others=True)


def in_turns(caller: Caller, bare: Bare, calls: int) -> tuple[list[float], list[float]]:
    """(bare, through the system), milliseconds."""
    for _ in range(5):
        caller.check()
        bare.look()
    pairs = [(timed(bare.look), timed(caller.check)) for _ in range(calls)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def beside_crawl(system: System, caller: Caller, calls: int) -> list[float]:
    """The same while the detector has collected pictures to decide all the time."""
    door, done = Door(system), threading.Event()
    image = (PICTURES / "sample1.jpg").read_bytes()

    def feed() -> None:
        number = 0
        while not done.is_set():
            door.submit(signal(f"crawl-{number}", image=image))
            number += 1
            time.sleep(0.03)

    thread = threading.Thread(target=feed)
    thread.start()
    time.sleep(3)
    try:
        return [timed(caller.check) for _ in range(calls)]
    finally:
        done.set()
        thread.join()


def overloaded(caller: Caller, calls: int) -> tuple[list[float], dict[str, int]]:
    """Twice as many callers as places, each calling again as soon as it is answered or refused."""
    answered: list[float] = []
    outcomes: Counter[str] = Counter()

    def run() -> None:
        for _ in range(calls):
            started = time.perf_counter()
            try:
                caller.check()
            except grpc.RpcError as error:
                outcomes[reason_of(error)] += 1
                time.sleep(0.02)
                continue
            outcomes["ANSWERED"] += 1
            answered.append(1000 * (time.perf_counter() - started))

    threads = [threading.Thread(target=run) for _ in range(2 * PLACES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered, dict(outcomes)


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.uploads", description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--texts", action="store_true", help="read the lines as well")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    reader = open_reader(MODELS, 1, AUTO, read_rules().ocr) if options.texts else None
    image = picture()
    pixels = np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    with Image.open(PICTURES / "obama.jpg") as opened:
        bare = Bare(pixels, np.asarray(opened.convert("RGB")), reader)
    print(f"{bare.faces} faces found by the bare models, {len(bare.again)} looked at again", flush=True)
    with running_system(detector_uploads=str(PLACES), ocr=AUTO if reader else OFF) as system:
        caller = Caller(system, *asyncio.run(prepared(system)), image)
        first = caller.check()
        reads = "TEXT_IN_PICTURE" not in first.skipped
        print(f"{len(first.findings)} findings, skipped: {list(first.skipped)}", flush=True)
        bare_ms, calls_ms = in_turns(caller, bare, options.calls)
        over_ms, outcomes = overloaded(caller, options.calls // 4)
        crawl_ms = beside_crawl(system, caller, options.calls // 2)
    report = Measured(bare_ms, calls_ms, crawl_ms, over_ms, outcomes, reads).report()
    print(json.dumps(report, indent=2))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    return 0 if report["meets"] else 1


if __name__ == "__main__":
    sys.exit(main())
