"""How fast are the face models by themselves, with the detector's own adapters and threads?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.detector.adapters import images
from services.detector.adapters.analysis import ENOUGH_PIXELS
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.models import Pixels, open_models

THREADS, BATCH = 2, 8
"""As the detector runs them: batches in two threads, one thread inside a model."""
T = TypeVar("T")


@dataclass(frozen=True)
class Bare:
    """The engine without a system around it."""

    engine: FaceEngine

    @classmethod
    def open(cls, models: Path) -> Bare:
        """Opens the models; the first pictures warm them up."""
        return cls(FaceEngine(open_models(models, 1)))

    def models_only(self, pictures: Sequence[Pixels], times: int) -> float:
        """Pictures a second, already decoded: detection, landmarks, alignment, vectors."""
        return _rate(list(pictures) * times, self.engine.analyse_many)

    def with_decoding(self, files: Sequence[bytes], times: int) -> float:
        """Pictures a second from their files."""
        return _rate(list(files) * times, lambda batch: self.engine.analyse_many([decoded(data) for data in batch]))


def decoded(data: bytes) -> Pixels:
    """The pixels as the detector reads them."""
    return images.read_picture(data, ENOUGH_PIXELS).pixels


def _rate(items: Sequence[T], work: Callable[[Sequence[T]], object]) -> float:
    batches = [items[at : at + BATCH] for at in range(0, len(items), BATCH)]
    with ThreadPoolExecutor(THREADS) as threads:
        started = time.monotonic()
        list(threads.map(work, batches))
        return len(items) / (time.monotonic() - started)
