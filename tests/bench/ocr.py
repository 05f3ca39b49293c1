"""What does text in pictures cost? `make bench-ocr`: a page of 1280 × 720 with five lines beside the bare models, and
pictures without text.

    python -m tests.bench.ocr [--times N] [--only bare|page|none] [--json]

Processor milliseconds of one thread, medians; the machine's load stands beside them. The bare models run on tensors
made before: one look at the page, one recognition of each line, tesseract on each line with Hangul.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import Network, OnnxNetwork, OpenVinoNetwork, has_bf16
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.model_files import ModelFile, read_manifest
from services.detector.adapters.models import open_models
from services.detector.adapters.ocr import FOLDER, open_reader
from services.detector.adapters.ocr_hangul import HangulReader
from services.detector.adapters.ocr_models import LINE_HEIGHT, cut
from services.detector.adapters.rules import read_rules
from tests.data.ocr.pages import Page, pages

Pixels = NDArray[np.uint8]

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("JIKIMI_MODELS_DIR") or ROOT / ".cache" / "models")
LINES_WITH_HANGUL = (0, 1, 3)


def median_ms(work: Callable[[], object], times: int) -> float:
    """Processor milliseconds of this thread and those it starts, the first two runs not counted."""
    spent = []
    for _ in range(times + 2):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1000)
    return round(statistics.median(spent[2:]), 1)


def bare(times: int) -> dict[str, float]:
    """The networks by themselves, on tensors of the page."""
    page = form()
    files, reader = read_manifest(MODELS / FOLDER), open_reader(MODELS, 1, "auto", read_rules().ocr)
    quads = sorted(reader.find(page.pixels), key=lambda quad: quad.centre[1])
    strips = [cut(page.pixels, quad) for quad in quads]
    lines = [_tensor(strip) for strip in strips]
    whole = np.full((1, 576, 960, 3), 127, np.uint8)
    figures = {}
    for name in ("onnxruntime", "openvino"):
        detector, recogniser = (_network(name, files[each]) for each in ("text_detect", "text_recognise"))
        figures[f"bare detection, {name}"] = median_ms(partial(detector.run, whole), times)
        figures[f"bare recognition of five lines, {name}"] = median_ms(partial(_run_all, recogniser, lines), times)
    hangul = HangulReader(files["hangul"])
    figures["bare tesseract of the three lines with Hangul"] = median_ms(
        lambda: [hangul.read(strips[at]) for at in LINES_WITH_HANGUL], times
    )
    return figures


def _network(engine: str, file: ModelFile) -> Network:
    return OnnxNetwork(file) if engine == "onnxruntime" else OpenVinoNetwork(file, 1, has_bf16())


def _run_all(network: Network, tensors: Sequence[Pixels]) -> None:
    for tensor in tensors:
        network.run(tensor)


def _tensor(strip: Pixels) -> Pixels:
    width = round(strip.shape[1] * LINE_HEIGHT / strip.shape[0])
    return np.asarray(cv2.resize(strip, (width // 8 * 8, LINE_HEIGHT)), np.uint8)[np.newaxis]


def form() -> Page:
    """The page: five lines on 1280 × 720."""
    return next(each for each in pages(6, seed=1) if each.kind == "form")


def whole_page(times: int) -> dict[str, float]:
    """The reader on the page."""
    page, reader = form(), open_reader(MODELS, 1, "auto", read_rules().ocr)
    return {
        "finding the page's lines": median_ms(partial(reader.find, page.pixels), times),
        "reading the page": median_ms(partial(reader.read, page.pixels), times),
    }


def without_text(times: int) -> dict[str, float]:
    """The reader on a picture of 1280 × 720 without text, beside what looking for faces in it costs."""
    reader, faces = open_reader(MODELS, 1, "auto", read_rules().ocr), FaceEngine(open_models(MODELS, 1))
    coarse = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    scenery = np.asarray(cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC), np.uint8)
    return {
        "reading a picture without text": median_ms(partial(reader.read, scenery), times),
        "looking for faces in it": median_ms(partial(faces.analyse, scenery), times),
    }


PARTS = {"bare": bare, "page": whole_page, "none": without_text}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="tests.bench.ocr", description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--only", choices=PARTS, help="a part: bare models, the page, a picture without text")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    load = os.getloadavg()[0]
    figures: dict[str, float] = {}
    for name, part in PARTS.items():
        if options.only in (None, name):
            figures |= part(options.times)
    if options.json:
        print(json.dumps({"load": load, "times": options.times, "ms": figures}, indent=2))
        return
    print(f"processor milliseconds, median of {options.times}; load before {load:.1f}")
    for name, value in figures.items():
        print(f"{value:8.1f}  {name}")


if __name__ == "__main__":
    main()
