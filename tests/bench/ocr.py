"""What does text in pictures cost? `make bench-ocr`: a page of 1280 × 720 with five lines beside the bare models, and
pictures without text.

    python -m tests.bench.ocr [--times N] [--json]

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
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import OnnxNetwork, OpenVinoNetwork, has_bf16
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.model_files import ModelFile, read_manifest
from services.detector.adapters.models import open_models
from services.detector.adapters.ocr import FOLDER, open_reader
from services.detector.adapters.ocr_hangul import HangulReader
from services.detector.adapters.ocr_models import LINE_HEIGHT, cut
from services.detector.adapters.rules import read_rules
from tests.data.ocr.pages import Page, pages
from tests.unit.detector.vision.conftest import paint

Pixels = NDArray[np.uint8]

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ.get("JIKIMI_MODELS_DIR") or ROOT / ".cache" / "models")
LINES_WITH_HANGUL = 3


def median_ms(work: Callable[[], object], times: int) -> float:
    """Processor milliseconds of this thread and those it starts, the first two runs not counted."""
    spent = []
    for _ in range(times + 2):
        started = time.process_time()
        work()
        spent.append((time.process_time() - started) * 1000)
    return round(statistics.median(spent[2:]), 1)


def bare(files: dict[str, ModelFile], strips: Sequence[Pixels], times: int) -> dict[str, float]:
    """The networks by themselves."""
    detect_pixels = np.full((1, 576, 960, 3), 127, np.uint8)
    lines = [_tensor(strip) for strip in strips]
    figures = {}
    engines = {"onnxruntime": OnnxNetwork, "openvino": lambda file: OpenVinoNetwork(file, 1, has_bf16())}
    for name, opened in engines.items():
        detector, recogniser = opened(files["text_detect"]), opened(files["text_recognise"])
        figures[f"bare detection, {name}"] = median_ms(lambda net=detector: net.run(detect_pixels), times)
        figures[f"bare recognition of five lines, {name}"] = median_ms(
            lambda net=recogniser: [net.run(line) for line in lines], times
        )
    hangul = HangulReader(files["hangul"])
    figures["bare tesseract of three lines"] = median_ms(
        lambda: [hangul.read(strip) for strip in strips[:LINES_WITH_HANGUL]], times
    )
    return figures


def _tensor(strip: Pixels) -> Pixels:
    width = round(strip.shape[1] * LINE_HEIGHT / strip.shape[0])
    return np.asarray(cv2.resize(strip, (width // 8 * 8, LINE_HEIGHT)), np.uint8)[np.newaxis]


def measured(times: int) -> dict[str, float]:
    """All figures."""
    page: Page = next(each for each in pages(6, seed=1) if each.kind == "form")
    files, rules = read_manifest(MODELS / FOLDER), read_rules().ocr
    reader = open_reader(MODELS, 1, "auto", rules)
    quads = sorted(reader.find(page.pixels), key=lambda quad: quad.centre[1])
    korean_first = [quads[at] for at in (0, 1, 3, 2, 4)]
    figures = bare(files, [cut(page.pixels, quad) for quad in korean_first], times)
    figures["finding lines"] = median_ms(lambda: reader.find(page.pixels), times)
    figures["reading the page"] = median_ms(lambda: reader.read(page.pixels), times)
    scenery = [paint(seed, 720, 1280) for seed in range(4)]
    figures["reading a picture without text"] = median_ms(lambda: [reader.read(each) for each in scenery], times) / 4
    faces = FaceEngine(open_models(MODELS, 1))
    figures["looking for faces in it"] = median_ms(lambda: [faces.analyse(each) for each in scenery], times) / 4
    return figures


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="tests.bench.ocr", description=__doc__)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    load = os.getloadavg()[0]
    figures = measured(options.times)
    if options.json:
        print(json.dumps({"load": load, "times": options.times, "ms": figures}, indent=2))
        return
    print(f"processor milliseconds, median of {options.times}; load before {load:.1f}")
    for name, value in figures.items():
        print(f"{value:8.1f}  {name}")


if __name__ == "__main__":
    main()
