"""How fast is the work on a picture by itself, with the detector's own adapters and threads: the models, what reads a
picture, and the whole way from the file to whose face it shows?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.detector.adapters import images
from services.detector.adapters.analysis import ENOUGH_PIXELS, SignalAnalyst
from services.detector.adapters.enrolled import EnrolledFaces
from services.detector.adapters.faces import FaceEngine, stacked
from services.detector.adapters.gallery import Entry
from services.detector.adapters.models import Pixels, open_models
from services.detector.adapters.rules import read_rules
from services.detector.domain.signals import Signal
from services.detector.translate import signal_of
from tests.scenario.doors import signal

THREADS, BATCH = 2, 8
"""As the detector runs them: so many pictures analysed at once in each of two threads, one thread inside a model."""
DIMENSIONS = 512
T = TypeVar("T")


@dataclass(frozen=True)
class Bare:
    """The engine without a system around it."""

    engine: FaceEngine
    analyst: SignalAnalyst

    @classmethod
    def open(cls, models: Path, portraits: Sequence[bytes]) -> Bare:
        """Opens the models and enrols the one face of each portrait; the first pictures warm them up."""
        rules = read_rules()
        engine = FaceEngine(open_models(models, 1))
        enrolled = EnrolledFaces(engine.model_id, engine.second_model_id, DIMENSIONS)
        for number, data in enumerate(portraits):
            [look] = engine.second_look(*stacked(engine.analyse(decoded(data))[:1]))
            first, second = look.vectors[engine.model_id], look.vectors[engine.second_model_id]
            enrolled.gallery.add([Entry(f"template-{number}", f"subscriber-{number}", first, second)])
        return cls(engine, SignalAnalyst(engine, enrolled, rules.faces, rules.scanner()))

    def models_only(self, pictures: Sequence[Pixels]) -> float:
        """Pictures a second, already decoded: detection, landmarks, alignment, vectors."""
        return _rate(pictures, self.engine.analyse_many)

    def pipeline(self, files: Sequence[bytes]) -> float:
        """Pictures a second from their files to whose faces they show: decoded, both detectors as used, vectors,
        search, second opinion."""
        return _rate([_post(data) for data in files], self.analyst.analyse)


def _post(data: bytes) -> Signal:
    return signal_of(signal("bench", image=data))


def decoded(data: bytes) -> Pixels:
    """The pixels as the detector reads them."""
    return images.read_picture(data, ENOUGH_PIXELS).pixels


def _rate(items: Sequence[T], work: Callable[[Sequence[T]], object]) -> float:
    batches = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
    with ThreadPoolExecutor(THREADS) as threads:
        started = time.monotonic()
        list(threads.map(work, batches))
        return len(items) / (time.monotonic() - started)
