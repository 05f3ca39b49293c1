"""How text in pictures is read: lines are found first, and only lines are read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, mode
from typing import Any, Final

import cv2
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
from services.detector.domain.picture_text import Point, Quad, TextLine, Written, written
from services.detector.ports import Reading

Pixels = NDArray[np.uint8]

OFF: Final = "off"
MODES: Final = (OFF, AUTO)
"""JIKIMI_OCR: `auto` reads pictures where the extra is installed."""
_SAMPLE: Final = 4
"""Lines, the largest, by which a page that lies on its head is known."""
_SIGNS: Final = frozenset("–—‘’“”„…€")
_FAR: Final = 3.0
"""How much further a word with syllables is from figures and letters beside it than one without."""
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
    quick_side: int
    detect_side: int
    fine_below: float
    fine_side: int
    elongated: float
    most_pieces: int
    line: LineRules
    most_found: int
    most_lines: int
    least_height: float
    most_height: float
    seconds: float
    latin_from: float
    read_from: float
    turn_below: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> OcrRules:
        """The rules as the file states them. Raises KeyError or ValueError."""
        return cls(
            version=f"{raw['id']}-{raw['version']}",
            quick_side=int(raw["quick_side"]),
            detect_side=int(raw["detect_side"]),
            fine_below=float(raw["fine_below"]),
            fine_side=int(raw["fine_side"]),
            elongated=float(raw["elongated"]),
            most_pieces=int(raw["most_pieces"]),
            line=LineRules(float(raw["pixel_from"]), float(raw["line_from"]), float(raw["unclip"])),
            most_found=int(raw["most_found"]),
            most_lines=int(raw["most_lines"]),
            least_height=float(raw["least_height"]),
            most_height=float(raw["most_height"]),
            seconds=float(raw["seconds"]),
            latin_from=float(raw["latin_from"]),
            read_from=float(raw["read_from"]),
            turn_below=float(raw["turn_below"]),
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
        return self._find(rgb, None)[1]

    def read(
        self,
        rgb: Pixels,
        sharper: Callable[[], Pixels] | None = None,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reading:
        """See the port."""
        until = time.monotonic() + min(self._rules.seconds, self._rules.seconds if seconds is None else seconds)
        source = rgb
        if sharper is not None and self._is_elongated(rgb):
            # Reduced by its long side it has too few pixels left across.
            source, sharper = sharper(), None
        if not self._has_text(source):
            return Reading(Written(), True)
        source, quads, all_found = self._find(source, sharper)
        lines, all_read = self._read_lines(source, quads, until, stopped)
        x, y = rgb.shape[1] / source.shape[1], rgb.shape[0] / source.shape[0]
        placed = [TextLine(line.quad.scaled(x, y), line.text, line.confidence) for line in lines]
        return Reading(written(placed), all_found and all_read)

    def _has_text(self, rgb: Pixels) -> bool:
        """A look at a fraction of the pixels, for a fraction of the cost: most pictures hold no text."""
        return bool(self._lines(rgb, self._rules.quick_side))

    def _find(self, rgb: Pixels, sharper: Callable[[], Pixels] | None) -> tuple[Pixels, list[Quad], bool]:
        """The picture with the most pixels, the lines in it, the largest first, and whether that is all of them."""
        rules = self._rules
        lines = self._lines(rgb, rules.detect_side)
        source = sharper() if lines and sharper is not None else rgb
        x, y = source.shape[1] / rgb.shape[1], source.shape[0] / rgb.shape[0]
        if self._are_fine(lines, rgb) and max(source.shape[:2]) > rules.detect_side:
            lines, x, y = self._lines(source, rules.fine_side), 1.0, 1.0
        placed = sorted((quad.scaled(x, y) for quad in lines), key=lambda quad: -quad.height * quad.length)
        found = without_repeats(placed)
        high = [quad for quad in found if quad.height >= rules.least_height]
        return source, high[: rules.most_found], len(found) <= min(len(high), rules.most_found)

    def _are_fine(self, lines: Sequence[Quad], rgb: Pixels) -> bool:
        """Whether most of them were so low, in the pixels looked at, that others may have been lost."""
        reduced = min(1.0, *(self._rules.detect_side / max(piece.shape[:2]) for _, _, piece in self._pieces(rgb)))
        return bool(lines) and median(quad.height for quad in lines) * reduced < self._rules.fine_below

    def _lines(self, rgb: Pixels, side: int) -> list[Quad]:
        """What is found in all pieces with that long side each; unordered, some of it twice."""
        most_height = self._rules.most_height * min(rgb.shape[:2])
        return [
            quad.moved(x, y)
            for x, y, piece in self._pieces(rgb)
            for quad, _ in self._detector.find(piece, side)
            if quad.height <= most_height
        ]

    def _is_elongated(self, rgb: Pixels) -> bool:
        return bool(max(rgb.shape[:2]) > self._rules.elongated * min(rgb.shape[:2]))

    def _pieces(self, rgb: Pixels) -> list[tuple[int, int, Pixels]]:
        """(left, top, pixels) of what is looked at by itself: the picture, or pieces of an elongated one, each with
        some of the one before, so that every line is whole in one.
        """
        if not self._is_elongated(rgb):
            return [(0, 0, rgb)]
        short, long = sorted(rgb.shape[:2])
        step = max(2 * short, -(-long // self._rules.most_pieces))
        starts = range(0, long, step)
        if rgb.shape[0] == long:
            return [(0, max(0, at - short // 4), rgb[max(0, at - short // 4) : at + step]) for at in starts]
        return [(max(0, at - short // 4), 0, rgb[:, max(0, at - short // 4) : at + step]) for at in starts]

    def _read_lines(
        self, rgb: Pixels, quads: Sequence[Quad], until: float, stopped: Callable[[], bool]
    ) -> tuple[list[TextLine], bool]:
        def late() -> bool:
            return stopped() or time.monotonic() >= until

        most = self._rules.most_lines
        first = self._until(late, rgb, quads[:_SAMPLE])
        if first and _sureness(first) < self._rules.turn_below:
            # Nothing tells of a page whether it lies on its head but that it reads better the other way round.
            turned = self._until(late, rgb, [quad.turned() for quad in quads[:_SAMPLE]])
            if _sureness(turned) > _sureness(first):
                first, quads = turned, [quad.turned() for quad in quads]
        lines = [*first, *self._until(late, rgb, quads[len(first) : most])]
        return [*lines, *(TextLine(quad) for quad in quads[len(lines) :])], len(lines) == len(quads)

    def _until(self, late: Callable[[], bool], rgb: Pixels, quads: Sequence[Quad]) -> list[TextLine]:
        """The lines read before it was too late."""
        lines = []
        for quad in quads:
            if late():
                break
            text, confidence = self._said(cut(rgb, quad))
            sure = confidence >= self._rules.read_from
            lines.append(TextLine(quad, text, confidence) if sure else TextLine(quad))
        return lines

    def _said(self, strip: Pixels) -> tuple[str, float]:
        symbols = self._latin.read(strip)
        aspect = strip.shape[1] / strip.shape[0]
        if suffices(symbols, aspect, self._rules.latin_from):
            return _joined(symbols)
        return merged(self._hangul.read(strip), symbols, aspect, self._rules.latin_from)


def _sureness(lines: Sequence[TextLine]) -> float:
    return sum(line.confidence for line in lines) / len(lines) if lines else 0.0


def without_repeats(quads: Sequence[Quad]) -> list[Quad]:
    """Regions, the largest first, without those whose middle lies in a larger one: one line, found in two pieces."""
    kept: list[Quad] = []
    for quad in quads:
        if not any(_holds(other, quad.centre) for other in kept):
            kept.append(quad)
    return kept


def _holds(quad: Quad, point: Point) -> bool:
    return cv2.pointPolygonTest(np.array(quad.corners, np.float32), point, False) >= 0


def suffices(symbols: Sequence[Symbol], aspect: float, sure: float) -> bool:
    """Whether these symbols are all that a line says: Latin and figures only, sure, and none missing between.

    `aspect`: length ÷ height of the line. Hangul comes out as nothing, as unsure figures, or as Han characters.
    """
    if not symbols or not all(_is_latin(symbol) for symbol in symbols):
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
    return regrouped(text), sum(symbol.certainty for symbol in symbols) / len(symbols)


def regrouped(text: str) -> str:
    """Groups of figures, with a space put back where one was not read: where a group is as long as two others."""
    groups = text.split(" ")
    if len(groups) < 3 or not all(group.isdecimal() for group in groups):
        return text
    usual = mode(len(group) for group in groups)
    parted = (
        (group[:usual], group[usual:]) if len(group) == 2 * usual else (group,) for group in groups
    )
    return " ".join(part for parts in parted for part in parts)


def merged(words: Sequence[Word], symbols: Sequence[Symbol], aspect: float, sure: float) -> tuple[str, float]:
    """One text of both readings: a word is taken from the Latin reading where that reads all of it in sure figures and
    Latin letters, else from the Hangul reading. Returns it with its mean confidence, 0 where nothing was read.
    """
    if not words:
        return _joined(symbols) if symbols and all(_is_latin(symbol) for symbol in symbols) else ("", 0.0)
    pieces, sureness = [], []
    for word, inside in zip(words, _by_word(words, symbols), strict=True):
        if _is_all_latin(word, inside, aspect, sure):
            pieces.append("".join(symbol.text for symbol in inside))
            sureness.append(sum(symbol.certainty for symbol in inside) / len(inside))
        else:
            pieces.append(word.text)
            sureness.append(word.confidence)
    return " ".join(pieces), sum(sureness) / len(sureness)


def _by_word(words: Sequence[Word], symbols: Sequence[Symbol]) -> list[list[Symbol]]:
    """For each word the symbols nearest to it; both readings see the borders a little apart."""
    found: list[list[Symbol]] = [[] for _ in words]
    weights = [_FAR if _has_syllables(word.text) else 1.0 for word in words]
    for symbol in symbols:
        if not symbol.text.isspace():
            away = [
                max(word.start - symbol.place, symbol.place - word.end, 0.0) * weight
                for word, weight in zip(words, weights, strict=True)
            ]
            found[away.index(min(away))].append(symbol)
    return found


def _is_all_latin(word: Word, symbols: Sequence[Symbol], aspect: float, sure: float) -> bool:
    """Whether these symbols are all of a word. One with a syllable is not theirs, unless they outnumber it."""
    return (
        bool(symbols)
        and (not _has_syllables(word.text) or len(symbols) >= len(word.text))
        and all(_is_latin(symbol) for symbol in symbols)
        and sum(symbol.certainty for symbol in symbols) >= sure * len(symbols)
        and _covers(symbols, min(word.start, symbols[0].place), max(word.end, symbols[-1].place), aspect)
    )


def _is_latin(symbol: Symbol) -> bool:
    """Figures, signs, Latin letters with and without accents; not the full-width forms, which Hangul is taken for."""
    return all(char < "\u0250" or char in _SIGNS for char in symbol.text)


def _has_syllables(text: str) -> bool:
    return any("가" <= char <= "힣" for char in text)


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
