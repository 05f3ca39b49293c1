"""Whether a face in one picture is a live one or a picture of a picture."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from services.detector.adapters.engines import open_session
from services.detector.adapters.model_files import read_manifest
from services.detector.adapters.models import Box, Floats, Pixels

_SIDE = 128
_WIDENED = 2.7
"""How much of the surroundings it looks at: paper edges and screen frames lie outside the face."""
_LIVE = 0


class PassiveLiveness:
    """fr_liveness: float32 [1,3,128,128] BGR 0..255 of the box widened 2.7 times → scores [1,3]; class 0 is live, 1 and
    2 are paper and screen.

    The package does not state its contract. Found by trying crops, channel orders and scales: this one alone calls
    nearly all of 250 portraits live (98 % at .7) and hardly any of the same faces photographed again (simulated: 1 %
    from paper, 10 % from a screen). The model is opened when it is first asked.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        """Raises UnusableModel when the manifest of prepared models does not name the file."""
        self._file = read_manifest(folder)["fr_liveness"]
        self._threads = threads

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return open_session(self._file, self._threads)

    def live(self, rgb: Pixels, box: Box) -> float:
        """Share of "live" of one face of uint8 [H,W,3], 0..1. Raises UnusableModel at the first call for a changed
        file."""
        part = cv2.resize(widened(rgb, box), (_SIDE, _SIDE))
        planes = np.ascontiguousarray(part[:, :, ::-1].transpose(2, 0, 1)[np.newaxis], np.float32)
        return float(_softmax(np.asarray(self._session.run(None, {"input": planes})[0], np.float32)[0])[_LIVE])


def widened(rgb: Pixels, box: Box) -> Pixels:
    """The box widened as far as the picture allows, and shifted where it would reach outside."""
    height, width = rgb.shape[:2]
    grown = min(_WIDENED, (width - 1) / max(box.width, 1.0), (height - 1) / max(box.height, 1.0))
    x0, x1 = _within((box.left + box.right) / 2, box.width * grown, width)
    y0, y1 = _within((box.top + box.bottom) / 2, box.height * grown, height)
    return rgb[y0:y1, x0:x1]


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum(), np.float32)


def _within(middle: float, length: float, limit: int) -> tuple[int, int]:
    """A span of a length around a middle, moved into 0..limit; at least one pixel."""
    start = min(max(middle - length / 2, 0.0), max(limit - 1 - length, 0.0))
    first = min(int(start), limit - 1)
    return first, min(limit, max(first + 1, int(start + length) + 1))
