"""How text in pictures is read: lines are found first, and only lines are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.engines import AUTO, UnusableEngine, has_bf16, open_network
from services.detector.adapters.model_files import ModelFile, UnusableModel, read_manifest
from services.detector.adapters.ocr_hangul import HangulReader, HangulUnavailable, Word
from services.detector.adapters.ocr_models import (
    LatinRecogniser,
    LineDetector,
    LineRules,
    Symbol,
    cut,
    reads_the_same,
    sees_the_same,
)
from services.detector.domain.picture_text import Quad, TextLine, Written, written
from services.detector.ports import Reading

Pixels = NDArray[np.uint8]

OFF: Final = "off"
MODES: Final = (OFF, AUTO)
"""JIKIMI_OCR: `auto` reads pictures where the extra is installed."""
FOLDER: Final = "ocr"
"""Folder of the text models inside the folder of the models."""


def known_mode(text: str) -> str:
    """One of MODES. Raises ValueError for another word."""
    if text not in MODES:
        raise ValueError("not a mode")
    return text


@dataclass(frozen=True, slots=True)
class OcrRules:
    """A version of rules/ocr.yaml."""

    version: str
    detect_side: int
    line: LineRules
    most_lines: int
    least_height: float
    read_side: int
    mask_margin: float
    seconds: float
    latin_from: float
    read_from: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> OcrRules:
        """The rules as the file states them. Raises KeyError or ValueError."""
        return cls(
            version=f"{raw['id']}-{raw['version']}",
            detect_side=int(raw["detect_side"]),
            line=LineRules(float(raw["pixel_from"]), float(raw["line_from"]), float(raw["unclip"])),
            most_lines=int(raw["most_lines"]),
            least_height=float(raw["least_height"]),
            read_side=int(raw["read_side"]),
            mask_margin=float(raw["mask_margin"]),
            seconds=float(raw["seconds"]),
            latin_from=float(raw["latin_from"]),
            read_from=float(raw["read_from"]),
        )


class OcrUnavailable(Exception):
    """Text in pictures cannot be read here; `reason` is UPPER_SNAKE, the text says what would bring it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PictureReader:
    """See the port TextReader. Several threads may call it at once; nearly all its time is spent outside the GIL."""

    def __init__(
        self, detector: LineDetector, latin: LatinRecogniser, hangul: HangulReader, rules: OcrRules, reader_id: str
    ) -> None:
        self._detector = detector
        self._latin = latin
        self._hangul = hangul
        self._rules = rules
        self.reader_id = reader_id
        self.rule_version = rules.version

    def find(self, rgb: Pixels) -> list[Quad]:
        """See the port."""
        return self._find(rgb)[0]

    def read(
        self,
        rgb: Pixels,
        sharper: Callable[[], Pixels] | None = None,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reading:
        """See the port."""
        until = time.monotonic() + min(self._rules.seconds, self._rules.seconds if seconds is None else seconds)
        quads, all_found = self._find(rgb)
        if not quads:
            return Reading(Written(), True)
        source = sharper() if sharper is not None else rgb
        x, y = source.shape[1] / rgb.shape[1], source.shape[0] / rgb.shape[0]
        lines = []
        unread = 0
        for quad in quads:
            if stopped() or time.monotonic() >= until:
                lines.append(TextLine(quad))
                unread += 1
            else:
                lines.append(self._line(quad, cut(source, quad.scaled(x, y))))
        return Reading(written(lines), all_found and not unread)

    def _find(self, rgb: Pixels) -> tuple[list[Quad], bool]:
        """The lines worth reading, the largest first, and whether that is all of them."""
        found = [quad for quad, _ in self._detector.find(rgb, self._rules.detect_side)]
        high = [quad for quad in found if quad.height >= self._rules.least_height]
        largest = sorted(high, key=lambda quad: -quad.height * quad.length)[: self._rules.most_lines]
        return largest, len(largest) == len(found)

    def _line(self, quad: Quad, strip: Pixels) -> TextLine:
        symbols = self._latin.read(strip)
        aspect = strip.shape[1] / strip.shape[0]
        if suffices(symbols, aspect, self._rules.latin_from):
            text, confidence = _joined(symbols)
        else:
            text, confidence = merged(self._hangul.read(strip), symbols, aspect, self._rules.latin_from)
        return TextLine(quad, text, confidence) if confidence >= self._rules.read_from else TextLine(quad)


def suffices(symbols: Sequence[Symbol], aspect: float, sure: float) -> bool:
    """Whether these symbols are all that a line says: Latin and figures only, sure, and none missing between.

    `aspect`: length ÷ height of the line. Hangul comes out as nothing, as unsure figures, or as Han characters.
    """
    if not symbols or not all(symbol.text.isascii() for symbol in symbols):
        return False
    if sum(symbol.certainty for symbol in symbols) < sure * len(symbols):
        return False
    return _covers(symbols, 0.0, 1.0, aspect)


def _covers(symbols: Sequence[Symbol], start: float, end: float, aspect: float) -> bool:
    """Whether symbols stand along the whole stretch: no gap in which a syllable has room."""
    places = [start, *(symbol.place for symbol in symbols), end]
    gaps = [(after - before) * aspect for before, after in pairwise(places)]
    return gaps[0] <= 1.1 and gaps[-1] <= 1.1 and all(gap <= 1.3 for gap in gaps[1:-1])


def _joined(symbols: Sequence[Symbol]) -> tuple[str, float]:
    text = "".join(symbol.text for symbol in symbols).strip()
    return text, sum(symbol.certainty for symbol in symbols) / len(symbols)


def merged(words: Sequence[Word], symbols: Sequence[Symbol], aspect: float, sure: float) -> tuple[str, float]:
    """One text of both readings: a word is taken from the Latin reading where that reads all of it in sure figures and
    Latin letters, else from the Hangul reading. Returns it with its mean confidence, 0 where nothing was read.
    """
    if not words:
        return _joined(symbols) if symbols and all(symbol.text.isascii() for symbol in symbols) else ("", 0.0)
    pieces, sureness = [], []
    for word in words:
        inside = [s for s in symbols if word.start <= s.place <= word.end and not s.text.isspace()]
        plain = not any("가" <= char <= "힣" for char in word.text)
        latin = (
            bool(inside)
            and (plain or len(inside) >= len(word.text))
            and all(s.text.isascii() for s in inside)
            and sum(s.certainty for s in inside) >= sure * len(inside)
            and _covers(inside, word.start, word.end, aspect)
        )
        pieces.append("".join(s.text for s in inside) if latin else word.text)
        sureness.append(sum(s.certainty for s in inside) / len(inside) if latin else word.confidence)
    return " ".join(pieces), sum(sureness) / len(sureness)


def open_reader(models_dir: Path, threads: int, engine: str, rules: OcrRules) -> PictureReader:
    """The reader over the prepared files in `<models_dir>/ocr`. Raises OcrUnavailable."""
    try:
        files = read_manifest(models_dir / FOLDER)
        hangul = HangulReader(files["hangul"])
        detector = open_network(files["text_detect"], threads, engine, sees_the_same, bf16=has_bf16())
        recogniser = open_network(files["text_recognise"], threads, engine, reads_the_same, bf16=has_bf16())
        characters = _characters(files["text_characters"])
    except (UnusableModel, KeyError) as problem:
        raise OcrUnavailable("OCR_MODELS_MISSING", f"{problem}: run `make ocr`") from problem
    except HangulUnavailable as problem:
        raise OcrUnavailable("OCR_PACKAGE_MISSING", str(problem)) from problem
    except UnusableEngine as problem:
        raise OcrUnavailable("OCR_ENGINE_UNUSABLE", str(problem)) from problem
    ids = [files["text_detect"].model_id, files["text_recognise"].model_id, hangul.reader_id, detector.engine_id]
    return PictureReader(
        LineDetector(detector, rules.line), LatinRecogniser(recogniser, characters), hangul, rules, "/".join(ids)
    )


def _characters(file: ModelFile) -> list[str]:
    return file.read().decode().removesuffix("\n").split("\n")
