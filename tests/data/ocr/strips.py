"""A reader for tests: it finds and reads what was printed as strips of grey, a pixel a byte, instead of letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from services.detector.domain.picture_text import Quad, TextLine, written
from services.detector.ports import Reading

Pixels = NDArray[np.uint8]

LEFT, FIRST, PITCH, HEIGHT = 12, 20, 30, 16
"""Pixels: where strips begin, the first one's top, from one to the next, and how high they are."""
_MARK = (255, 0, 255)


def printed(texts: Sequence[str], ground: Pixels | None = None) -> Pixels:
    """A picture, uint8 [H,W,3], with these texts from above; no lossy format may come between it and the reader."""
    page = np.full((max(240, FIRST + PITCH * len(texts)), 480, 3), 230, np.uint8) if ground is None else ground.copy()
    for number, text in enumerate(texts):
        data = text.encode()
        top = FIRST + PITCH * number
        strip = page[top : top + HEIGHT, LEFT : LEFT + 2 + len(data)]
        strip[:, 0], strip[:, 1] = _MARK, (len(data), 0, 0)
        strip[:, 2:] = np.frombuffer(data, np.uint8)[:, np.newaxis]
    return page


class StripReader:
    """See the port TextReader; reads strips, at most `most` of a picture."""

    reader_id = "strips"
    rule_version = "strips-1"

    def __init__(self, most: int = 64) -> None:
        self._most = most

    def find(self, rgb: Pixels) -> list[Quad]:
        """See the port."""
        return [quad for quad, _ in self._strips(rgb)]

    def read(
        self,
        rgb: Pixels,
        sharper: Callable[[], Pixels] | None = None,
        seconds: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Reading:
        """See the port."""
        found = self._strips(rgb)
        lines = [
            TextLine(quad) if stopped() or at >= self._most else TextLine(quad, text, 1.0)
            for at, (quad, text) in enumerate(found)
        ]
        return Reading(written(lines), all(line.text for line in lines))

    def _strips(self, rgb: Pixels) -> list[tuple[Quad, str]]:
        tops = [top for top in range(FIRST, rgb.shape[0], PITCH) if tuple(rgb[top, LEFT]) == _MARK]
        found = []
        for top in tops:
            length = int(rgb[top, LEFT + 1, 0])
            text = rgb[top, LEFT + 2 : LEFT + 2 + length, 0].tobytes().decode()
            found.append((Quad.upright(LEFT, top, LEFT + 2 + length, top + HEIGHT), text))
        return found
