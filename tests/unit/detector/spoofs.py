"""How pictures are made that pretend to be others: mirrored ones, photographs of a print."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL import Image, ImageOps


def saved(image: Image.Image, quality: int = 90) -> bytes:
    """The picture as JPEG."""
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def mirrored(data: bytes) -> bytes:
    """Left and right exchanged."""
    with Image.open(BytesIO(data)) as image:
        return saved(ImageOps.mirror(image.convert("RGB")))


def on_paper(data: bytes) -> bytes:
    """The upper part of the picture, printed small and pale with a white edge, photographed again askew."""
    with Image.open(BytesIO(data)) as image:
        head = image.convert("RGB").crop((0, 0, image.width, image.width)).resize((360, 360))
    print_ = cv2.GaussianBlur(np.asarray(head, np.float32), (0, 0), 1.0) * 0.75 + 40
    chance = np.random.default_rng(1)
    wall = cv2.resize(chance.integers(60, 190, (8, 8, 3)).astype(np.uint8), (640, 640), interpolation=cv2.INTER_CUBIC)
    wall[100:540, 100:540] = 245
    wall[140:500, 140:500] = print_.astype(np.uint8)
    grain = cv2.GaussianBlur(wall.astype(np.float32), (0, 0), 0.7) + chance.normal(0, 3, wall.shape)
    turn = cv2.getRotationMatrix2D((320, 320), 6, 1)
    return saved(Image.fromarray(cv2.warpAffine(np.clip(grain, 0, 255).astype(np.uint8), turn, (640, 640))))
