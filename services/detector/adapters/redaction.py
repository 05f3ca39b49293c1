"""How a picture is shown without showing bystanders, or anyone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

THUMBNAIL_SIDE = 320
CELLS = 6
"""Cells across a hidden region's longer side: some 36 grey values, far too few to tell two faces apart."""
LEVELS = 8
"""Colour steps left in a hidden region; averaging alone can be undone by trying candidates (Hill et al.
2016).
"""


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the picture, right and bottom exclusive; may reach outside it."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> Region:
        """Larger by `share` of its size on every side: hair, ears and chin identify too."""
        dx, dy = (self.right - self.left) * share, (self.bottom - self.top) * share
        return Region(self.left - dx, self.top - dy, self.right + dx, self.bottom + dy)


def hide(rgb: Pixels, regions: Iterable[Region]) -> Pixels:
    """A copy of uint8 [H,W,3] with each region replaced by a few flat cells; what was there cannot be
    computed back.
    """
    result = rgb.copy()
    height, width = rgb.shape[:2]
    for region in regions:
        x0, y0 = max(0, int(np.floor(region.left))), max(0, int(np.floor(region.top)))
        x1, y1 = min(width, int(np.ceil(region.right))), min(height, int(np.ceil(region.bottom)))
        if x1 > x0 and y1 > y0:
            result[y0:y1, x0:x1] = _cells(rgb[y0:y1, x0:x1])
    return result


def _cells(part: Pixels) -> Pixels:
    height, width = part.shape[:2]
    cell = max(height, width) / CELLS
    size = (max(1, round(width / cell)), max(1, round(height / cell)))
    coarse = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    step = 256 // LEVELS
    flat = (coarse // step) * step + step // 2
    return np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def thumbnail(
    rgb: Pixels, faces: Sequence[Region], shown: Sequence[int] = (), side: int = THUMBNAIL_SIDE
) -> bytes:
    """A JPEG of at most `side` pixels, without metadata, all faces hidden but those at the indexes `shown`.

    A shown face that overlaps a hidden one loses the overlap: the bystander comes first.
    """
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    hidden = [_scaled(face.grown(0.2), scale) for at, face in enumerate(faces) if at not in shown]
    return encoded(hide(small, hidden))


def _scaled(region: Region, scale: float) -> Region:
    return Region(region.left * scale, region.top * scale, region.right * scale, region.bottom * scale)


def encoded(rgb: Pixels, kind: Literal["JPEG", "PNG", "WEBP"] = "JPEG", quality: int = 85) -> bytes:
    """uint8 [H,W,3] RGB as a file with pixels only: no EXIF, no comment, no colour profile."""
    options = {
        "JPEG": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "WEBP": [cv2.IMWRITE_WEBP_QUALITY, quality],
        "PNG": [cv2.IMWRITE_PNG_COMPRESSION, 3],
    }
    suffix = {"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}[kind]
    done, content = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options[kind])
    if not done:
        raise ValueError(f"cannot write {kind} of {rgb.shape[1]}×{rgb.shape[0]}")
    return content.tobytes()
