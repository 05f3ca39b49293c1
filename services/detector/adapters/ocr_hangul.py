"""How a cut-out line is read for Hangul: tesseract, in this process, one line at a time."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.model_files import ModelFile

Pixels = NDArray[np.uint8]

_HEIGHT: Final = 40
"""Pixels of a line, its margins not counted: tesseract's network takes 36, and reads a little more no worse."""
_MARGIN: Final = 10
_RESOLUTION: Final = 150
_MOST_WIDTH: Final = 4000
_DARK_GROUND: Final = 110


class HangulUnavailable(Exception):
    """The package or its language data is not there; the text says how it comes."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word that was read, where along the line it begins and ends (shares of its length), how sure it is (0..1)."""

    text: str = field(repr=False)
    start: float
    end: float
    confidence: float


class HangulReader:
    """Tesseract with Korean data. An engine serves one thread at a time, so each thread has one of its own."""

    def __init__(self, data: ModelFile) -> None:
        """Raises HangulUnavailable without the package, UnusableModel where the data is not the file it should be."""
        self._tesserocr = _package()
        data.read()
        self._folder, self._language = str(data.path.parent), data.path.stem
        self._own = threading.local()
        version = str(self._tesserocr.tesseract_version()).split("\n", 1)[0].replace(" ", "-")
        self.reader_id = f"{version}/{data.model_id}"
        self._engine()

    def read(self, line: Pixels) -> list[Word]:
        """The words of a line, uint8 [H,W,3], from the left."""
        grey = cv2.cvtColor(line, cv2.COLOR_RGB2GRAY)
        width = min(_MOST_WIDTH, max(1, round(grey.shape[1] * _HEIGHT / grey.shape[0])))
        way = cv2.INTER_AREA if grey.shape[0] > _HEIGHT else cv2.INTER_CUBIC
        strip = cv2.resize(grey, (width, _HEIGHT), interpolation=way)
        if float(strip.mean()) < _DARK_GROUND:
            strip = 255 - strip
        strip = cv2.copyMakeBorder(strip, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REPLICATE)
        engine = self._engine()
        engine.SetImageBytes(np.ascontiguousarray(strip).tobytes(), strip.shape[1], strip.shape[0], 1, strip.shape[1])
        engine.SetSourceResolution(_RESOLUTION)
        try:
            engine.Recognize()
            return self._words(engine, width)
        finally:
            # What was read, and its pixels, stay no longer than needed; the engine learns nothing from them either.
            engine.ClearAdaptiveClassifier()
            engine.Clear()

    def _words(self, engine: Any, width: int) -> list[Word]:
        """Tesseract takes every syllable for a word of its own; its line alone has the spaces right."""
        level = self._tesserocr.RIL.SYMBOL
        symbols = []
        for each in self._tesserocr.iterate_level(engine.GetIterator(), level):
            box = each.BoundingBox(level)
            if box is not None:
                start, end = ((x - _MARGIN) / width for x in (box[0], box[2]))
                text = each.GetUTF8Text(level)
                symbols.append(Word(text, max(0.0, start), min(1.0, end), each.Confidence(level) / 100))
        return in_words(engine.GetUTF8Text().split(), symbols)

    def _engine(self) -> Any:
        if not hasattr(self._own, "engine"):
            modes = self._tesserocr
            try:
                engine = modes.PyTessBaseAPI(
                    path=self._folder, lang=self._language, psm=modes.PSM.SINGLE_LINE, oem=modes.OEM.LSTM_ONLY
                )
            except RuntimeError as problem:
                raise HangulUnavailable("tesseract does not take its Korean data: run `make ocr`") from problem
            self._own.engine = engine
        return self._own.engine


def in_words(texts: Sequence[str], symbols: Sequence[Word]) -> list[Word]:
    """The words of a line out of its symbols, in order; a word whose symbols are missing is left out."""
    words, rest = [], list(symbols)
    for text in texts:
        mine: list[Word] = []
        while rest and sum(len(each.text) for each in mine) < len(text):
            mine.append(rest.pop(0))
        if mine:
            sure = sum(each.confidence for each in mine) / len(mine)
            words.append(Word(text, mine[0].start, mine[-1].end, sure))
    return words


def _package() -> ModuleType:
    try:
        return importlib.import_module("tesserocr")
    except ImportError as problem:
        raise HangulUnavailable("the package tesserocr is not installed: run `make ocr`") from problem
